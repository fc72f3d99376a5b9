"""A handle on a store: names and places of every verb's target."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from trove_async._names import check_bucket, check_key
from trove_async._store.backend import Backend
from trove_async._store.core import Core
from trove_async.driver.base import Features
from trove_async.errors import InvalidBucketNameError

__all__ = ["Handle"]

Options = TypeVar("Options")
R = TypeVar("R")


class Handle:
    _core: Core
    _pinned: Backend | None
    _default_bucket: str | None

    def _bucket(self, name: str | None) -> str:
        if name is None or name == "":
            if not self._default_bucket:
                raise InvalidBucketNameError("no bucket was named and there is no default bucket")
            return self._default_bucket
        return check_bucket(name)

    def _place(self, bucket: str, key: str) -> Backend:
        return self._pinned or self._core.route(bucket, key)

    def _places(self) -> builtins.list[Backend]:
        return [self._pinned] if self._pinned else [*self._core.backends.values()]

    def _distinct(self) -> builtins.list[Backend]:
        """Each driver once, also one that has two names."""
        return [self._pinned] if self._pinned else self._core.distinct()

    def features(self, bucket: str | None, key: str = "") -> Features:
        """What the backend of a key is like and can do."""
        return self._place(self._bucket(bucket), key).features

    async def _on_bucket(
        self,
        operation: str,
        name: str | None,
        options: Options,
        work: Callable[[str, str, Options], Coroutine[Any, Any, R]],
    ) -> R:
        self._core.check()
        return await self._core.seam.run(
            operation, self._bucket(name), "", options, work, replayable=False
        )

    async def _on_object(
        self,
        operation: str,
        bucket: str | None,
        key: str,
        work: Callable[[Backend, str, str], Coroutine[Any, Any, R]],
    ) -> R:
        core = self._core
        core.check()

        async def run(bucket: str, key: str, options: None) -> R:
            backend = self._place(bucket, key)
            return await backend.limited(work(backend, bucket, key), core.timeouts)

        return await core.seam.run(operation, self._bucket(bucket), check_key(key), None, run)
