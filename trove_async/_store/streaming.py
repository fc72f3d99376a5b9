"""Streams between users and the store: `Trove.stream`, and the pools they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Unpack

from trove_async._opening import Opening
from trove_async._transfers.files import Files
from trove_async.errors import InvalidConfigError
from trove_async.stream.settings import StreamDirection

if TYPE_CHECKING:
    from trove_async.stream.arguments import StreamArguments
    from trove_async.stream.pool import Pool
    from trove_async.stream.stream import Stream

__all__ = ["DEFAULT", "Streaming"]

DEFAULT: Final = "default"


class Streaming(Files):
    def stream(
        self,
        bucket: str | None,
        key: str,
        direction: StreamDirection,
        *,
        pool: str | None = None,
        **options: Unpack[StreamArguments],
    ) -> Opening[Stream]:
        """A managed stream: entered it is started, awaited it is idle.

        ``pool``: one of ``pools``; it waits there for a slot. Options are those of
        `StreamArguments`: how the stream works, hooks, and those of `put`.
        """

        async def start() -> Stream:
            found = self._core.pools.get(DEFAULT if pool is None else pool)
            if found is None:
                raise InvalidConfigError(f"no pool named {pool!r}")
            self._core.check()
            return await found.acquire(direction, self._bucket(bucket), key, **options)

        return Opening(start)

    @property
    def pool(self) -> Pool:
        """The one of streams that name none."""
        return self._core.pools[DEFAULT]

    @property
    def pools(self) -> Mapping[str, Pool]:
        """All of them by name; ``"default"`` is `pool`."""
        return dict(self._core.pools)
