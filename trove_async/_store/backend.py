"""A driver with a name, and what it can do, resolved once when the store opens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from trove_async._store.seam import Idle, bounded
from trove_async.config import Timeouts
from trove_async.driver.base import Chunks, Driver
from trove_async.driver.capabilities import (
    BatchDeleteDriver,
    LifecycleDriver,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    TaggingDriver,
    VersioningDriver,
    capability,
)
from trove_async.driver.options import CopyOptions, DeleteOptions, PutOptions
from trove_async.errors import OperationTimeoutError, TroveError, UnsupportedError
from trove_async.model import Health, ObjectInfo, ObjectRef

__all__ = ["Backend", "Writer"]

C = TypeVar("C")


class Writer(Protocol):
    """The driver's verbs by which an object comes or goes."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo: ...
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None: ...
    async def copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo: ...


class Backend:
    __slots__ = (
        "account",
        "batch",
        "conditional",
        "driver",
        "features",
        "lifecycle",
        "mover",
        "multipart",
        "name",
        "notifier",
        "presigner",
        "ranges",
        "tagging",
        "versioning",
        "writer",
    )

    def __init__(self, name: str, driver: Driver) -> None:
        self.name = name
        self.driver = driver
        self.account: Callable[[Backend], None] | None = None
        """Puts something between the store and the verbs by which objects come and go."""
        self.resolve()

    def resolve(self) -> None:
        """Asks again what the driver can do: some only know once they are open."""
        driver = self.driver
        self.writer: Writer = driver
        self.features = driver.features
        self.conditional = self.features.conditional
        self.multipart = capability(driver, MultipartDriver)
        self.ranges = capability(driver, RangeDriver)
        self.versioning = capability(driver, VersioningDriver)
        self.mover = capability(driver, MoveDriver)
        self.batch = capability(driver, BatchDeleteDriver)
        self.tagging = capability(driver, TaggingDriver)
        self.lifecycle = capability(driver, LifecycleDriver)
        self.notifier = capability(driver, NotificationDriver)
        self.presigner = capability(driver, PresignDriver)
        if self.account is not None:
            self.account(self)

    def need(self, found: C | None, what: str) -> C:
        if found is None:
            raise UnsupportedError(f"{self.driver.name} has no {what}", backend=self.name)
        return found

    def need_conditions(self, if_match: str | None, if_none_match: str | None) -> None:
        """Before any byte moves: a condition is never dropped."""
        if if_match is not None and "match" not in self.conditional:
            raise UnsupportedError(f"{self.driver.name} has no if_match", backend=self.name)
        if if_none_match is not None and "create" not in self.conditional:
            raise UnsupportedError(f"{self.driver.name} has no create-only put", backend=self.name)

    async def limited(self, request: Coroutine[Any, Any, C], timeouts: Timeouts) -> C:
        """One request of a verb without a body, within the time limits."""
        try:
            if timeouts.read is None:
                return await request
            return await bounded(request, Idle(timeouts.read))
        except TroveError as exc:
            exc.at(backend=self.name)
            raise

    async def open(self, timeouts: Timeouts) -> None:
        try:
            async with asyncio.timeout(timeouts.connect):
                await self.driver.open()
        except TimeoutError as exc:
            if isinstance(exc, TroveError):
                raise
            raise OperationTimeoutError(
                f"not open within {timeouts.connect} s", backend=self.name, operation="open"
            ) from exc
        self.resolve()

    async def health(self, limit: float | None) -> Health:
        started = time.perf_counter()
        error: str | None = None
        try:
            if limit is None:
                await self.driver.ping()
            else:
                await bounded(self.driver.ping(), Idle(limit))
        except TroveError as exc:
            error = f"{type(exc).__name__}: {exc}"
        return Health(error is None, time.perf_counter() - started, error)
