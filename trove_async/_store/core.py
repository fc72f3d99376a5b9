"""What a store and the handles pinned from it share: backends, routes, layers, the seam."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from trove_async._router import DEFAULT, Route, Router
from trove_async._store.accounted import account
from trove_async._store.backend import Backend
from trove_async._store.catalogs import Remembering
from trove_async._store.copy import Copies
from trove_async._store.get import Reads
from trove_async._store.owned import Ownership
from trove_async._store.put import Writes
from trove_async._store.seam import Seam
from trove_async._threads import settle
from trove_async.checksum import new_hasher
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Driver
from trove_async.driver.registry import driver_for
from trove_async.errors import BackendNotFoundError, DriverClosedError, WrongLoopError
from trove_async.middleware.base import Interceptor, Middleware, Registration
from trove_async.middleware.pipeline import Pipeline

if TYPE_CHECKING:
    from trove_async.catalog import Catalog
    from trove_async.stream.pool import Pool

__all__ = ["Core"]

_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Core:
    def __init__(
        self,
        driver: Driver,
        *,
        backends: Mapping[str, str | Driver],
        routes: Sequence[Route],
        middleware: Sequence[Middleware | Registration],
        interceptors: Sequence[Interceptor],
        checksum: str | None,
        chunk_size: int,
        retry: RetryPolicy,
        timeouts: Timeouts,
        catalog: str | Catalog | None = None,
    ) -> None:
        if not isinstance(driver, Driver):
            raise TypeError(f"not a driver: {type(driver).__name__}")
        if chunk_size < 1:
            raise ValueError("chunk_size is at least 1 byte")
        if checksum is not None:
            new_hasher(checksum)
        self.chunk_size = chunk_size
        self.checksum = checksum
        self.retry = retry
        self.timeouts = timeouts
        self.backends: dict[str, Backend] = {DEFAULT: Backend(DEFAULT, driver)}
        for name, given in backends.items():
            if name == DEFAULT:
                raise ValueError(f"{DEFAULT!r} is the backend that open() was given")
            named = driver_for(given)[0] if isinstance(given, str) else given
            if not isinstance(named, Driver):
                raise TypeError(f"backend {name!r} is no driver: {type(named).__name__}")
            self.backends[name] = Backend(name, named)
        self.default = self.backends[DEFAULT]
        self.router = Router(routes, self.backends)
        self.pipeline = Pipeline()
        for layer in middleware:
            self.pipeline.use(layer)
        self.seam = Seam(interceptors, retry, timeouts)
        self.reads = Reads(self.pipeline, retry, timeouts)
        self.owned = Ownership(self.pipeline, self.reads)
        self.writes = Writes(self.pipeline, checksum, retry, timeouts, self.owned)
        self.copies = Copies(self.pipeline, self.reads, self.writes, timeouts, self.owned)
        self.account()
        self.remembering = Remembering(catalog, driver)
        self.closers: list[Callable[[], Awaitable[None]]] = []
        """Called first when the store closes, the last one first."""
        self.working: dict[str, Any] = {}
        """Upload sessions that this store works on, by id."""
        self.is_tidying = False
        self.pools: dict[str, Pool] = {}
        self.loop: asyncio.AbstractEventLoop | None = None
        self._forks = _forks
        self._opening = False

    # -- life --------------------------------------------------------------------------------

    async def open(self) -> None:
        if self.loop is not None:
            self.check()
            return
        if self._opening:
            raise DriverClosedError("the store is being opened already")
        self._opening = True
        opened: list[Backend] = []
        try:
            for backend in self.distinct():
                opened.append(backend)
                await backend.open(self.timeouts)
            for backend in self.backends.values():
                backend.resolve()
        except BaseException as exc:
            await self._close(opened, exc)
            raise
        finally:
            self._opening = False
        self._forks = _forks
        self.loop = asyncio.get_running_loop()
        for pool in self.pools.values():
            pool.reopen()

    async def close(self) -> None:
        """Cancels what streams, then closes every driver, also when one fails to; raises the
        first such error."""
        if self.loop is None:
            return
        self.check()
        await settle(asyncio.ensure_future(self._ended()))

    async def _ended(self) -> None:
        """A task of its own: a cancel while streams end must not leave the drivers open."""
        for pool in self.pools.values():
            pool.shut()
            if pool.active_count:
                await pool.aclose(drain=False)
        while self.closers:
            await self.closers.pop()()
        self.loop = None
        self.reads.layouts.clear()
        await self._close(self.distinct(), None)

    async def _close(self, backends: Sequence[Backend], error: BaseException | None) -> None:
        """A cancel cannot leave some of them open."""

        async def every() -> None:
            first: Exception | None = None
            if error is None:
                try:
                    await self.remembering.close()
                except Exception as exc:  # the drivers are closed all the same
                    first = exc
            for backend in reversed(backends):
                try:
                    await backend.driver.close()
                except Exception as exc:  # the others are closed all the same
                    first = first or exc
            if first is not None and error is None:
                raise first

        await settle(asyncio.ensure_future(every()))

    def account(self) -> None:
        """To be called when layers have come or gone: some look at what a verb takes away."""
        wanted = partial(account, self.owned) if self.pipeline.owning else None
        for backend in self.backends.values():
            if (backend.account is None) != (wanted is None):
                backend.account = wanted
                backend.resolve()

    def distinct(self) -> list[Backend]:
        """One backend per driver: the same one may have two names."""
        seen: dict[int, Backend] = {}
        for backend in self.backends.values():
            seen.setdefault(id(backend.driver), backend)
        return list(seen.values())

    def check(self) -> None:
        """Raises unless the store is open, in this loop and this process."""
        if self.loop is None:
            raise DriverClosedError("the store is not open; use async with, or await aopen()")
        if self._forks != _forks:
            raise WrongLoopError("the store was opened before a fork; open one in this process")
        if asyncio.get_running_loop() is not self.loop:
            raise WrongLoopError("the store was opened in another event loop")

    # -- places ------------------------------------------------------------------------------

    def backend(self, name: str) -> Backend:
        found = self.backends.get(name)
        if found is None:
            raise BackendNotFoundError(f"no backend named {name!r}", backend=name)
        return found

    def route(self, bucket: str, key: str) -> Backend:
        if not self.router:
            return self.default
        return self.backends[self.router.resolve(bucket, key)]
