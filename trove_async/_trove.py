"""The store: names the target of every verb, assembles what it needs, and hands over.

No byte is touched here.
"""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from trove_async._names import (
    check_bucket,
)
from trove_async._opening import Opening
from trove_async._router import Route
from trove_async._store.backend import Backend
from trove_async._store.bucket import Bucket
from trove_async._store.core import Core
from trove_async._store.streaming import Streaming
from trove_async.config import PoolConfig, RetryPolicy, Timeouts, load_config
from trove_async.driver.base import Driver
from trove_async.driver.options import (
    GetOptions,
    HeadOptions,
)
from trove_async.driver.registry import driver_for
from trove_async.middleware.base import (
    Direction,
    Interceptor,
    Middleware,
    Registration,
)
from trove_async.middleware.scope import Scope
from trove_async.model import (
    Health,
    MiB,
)

if TYPE_CHECKING:
    from trove_async.cas import CAS, FastCDC
    from trove_async.catalog import Catalog
    from trove_async.vfs import FileSystem

__all__ = ["Trove", "open"]

R = TypeVar("R")
Checksum = Literal["blake3", "sha256", "xxh3"]

_PLAIN_GET = GetOptions()
_HEAD = HeadOptions()


def open(
    target: str | os.PathLike[str] | Driver,
    *,
    backends: Mapping[str, str | Driver] | None = None,
    routes: Sequence[Route] = (),
    middleware: Sequence[Middleware | Registration] = (),
    interceptors: Sequence[Interceptor] = (),
    default_bucket: str | None = None,
    checksum: Checksum | None = "blake3",
    chunk_size: int = 8 * MiB,
    pool: PoolConfig | None = None,
    pools: Mapping[str, PoolConfig] | None = None,
    retry: RetryPolicy | None = None,
    timeouts: Timeouts | None = None,
    catalog: str | Catalog | None = None,
) -> Opening[Trove]:
    """A store over a DSN, a ``trove.toml`` or a driver. Await it, or enter it and have it closed.

    A DSN's bucket is the default bucket unless ``default_bucket`` is given. ``catalog``: where
    upload sessions are remembered, ``"sqlite:///path"``, ``"postgresql://..."`` or
    ``"memory://"``; None: a file in the private folder of a local store, the memory of one in
    memory, and elsewhere InvalidConfigError once a session is used.
    """

    async def start() -> Trove:
        configured: PoolConfig | None = None
        declared: Mapping[str, PoolConfig] = {}
        if not isinstance(target, str | os.PathLike):
            driver, named, routing = target, dict(backends or {}), [*routes]
        else:
            text = os.fspath(target)
            # A DSN that lost its scheme is not shown as a missing file: it may hold a password.
            if "://" in text or not text or ("@" in text and not os.path.exists(text)):
                driver, named, routing = driver_for(text)[0], dict(backends or {}), [*routes]
            else:
                config = load_config(text)
                driver = driver_for(config.target)[0]
                named = {**config.backends, **(backends or {})}
                routing = [*routes, *config.routes]
                configured, declared = config.pool, config.pools
        store = Trove(
            driver,
            backends=named,
            routes=routing,
            middleware=middleware,
            interceptors=interceptors,
            default_bucket=default_bucket,
            checksum=checksum,
            chunk_size=chunk_size,
            pool=pool if pool is not None else configured,
            pools={**declared, **(pools or {})},
            retry=retry,
            timeouts=timeouts,
            catalog=catalog,
        )
        await store.aopen()
        return store

    return Opening(start)


class Trove(Streaming):
    """One API over every backend. Open it with `open`, ``async with`` or `aopen`.

    A put or copy is seen whole or not at all; errors, cancels and crashes leave the old
    object. Errors are those of `trove_async.errors` (and TypeError, ValueError).
    """

    def __init__(
        self,
        driver: Driver,
        *,
        backends: Mapping[str, str | Driver] | None = None,
        routes: Sequence[Route] = (),
        middleware: Sequence[Middleware | Registration] = (),
        interceptors: Sequence[Interceptor] = (),
        default_bucket: str | None = None,
        checksum: Checksum | None = "blake3",
        chunk_size: int = 8 * MiB,
        pool: PoolConfig | None = None,
        pools: Mapping[str, PoolConfig] | None = None,
        retry: RetryPolicy | None = None,
        timeouts: Timeouts | None = None,
        catalog: str | Catalog | None = None,
    ) -> None:
        self._core = Core(
            driver,
            backends=backends or {},
            routes=routes,
            middleware=middleware,
            interceptors=interceptors,
            checksum=checksum,
            chunk_size=chunk_size,
            retry=retry if retry is not None else RetryPolicy(),
            timeouts=timeouts if timeouts is not None else Timeouts(),
            catalog=catalog,
        )
        from trove_async._store.connecting import (
            make_pools,  # streams are loaded with the first store
        )

        self._core.pools.update(make_pools(self, pool or PoolConfig(), pools or {}))
        self._pinned: Backend | None = None
        if default_bucket is None:
            default_bucket = getattr(driver, "default_bucket", None)
        self._default_bucket = default_bucket and check_bucket(default_bucket)

    def __repr__(self) -> str:
        where = self._pinned.name if self._pinned else ", ".join(self._core.backends)
        return f"<Trove over {where}, {'open' if self._core.loop else 'not open'}>"

    # -- life --------------------------------------------------------------------------------

    async def aopen(self) -> None:
        await self._core.open()

    async def aclose(self) -> None:
        """Closes every driver; closing a handle from `backend` does nothing to its parent."""
        if self._pinned is None:
            await self._core.close()

    async def __aenter__(self) -> Self:
        if self._core.loop is None:
            await self.aopen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def backend(self, name: str) -> Trove:
        """A handle pinned to one backend: routes are passed by, all else is shared."""
        pinned = Trove.__new__(type(self))
        pinned._core = self._core
        pinned._pinned = self._core.backend(name)
        pinned._default_bucket = self._default_bucket
        return pinned

    @property
    def driver(self) -> Driver:
        return (self._pinned or self._core.default).driver

    def bucket(self, name: str | None = None) -> Bucket:
        return Bucket(self, self._bucket(name))

    def cas(
        self,
        bucket: str = "cas",
        *,
        algorithm: str = "sha256",
        chunking: Literal["fastcdc"] | FastCDC | None = None,
    ) -> CAS:
        """Content-addressed storage in a bucket, made on first store. ``algorithm``: ``sha256``
        or ``blake3``, else InvalidConfigError. ``chunking``: content of more than 64 KiB is
        stored in chunks, and what such contents have in common once. Its index is in the store's
        catalog: using it on a backend that others reach, without an explicit ``catalog=``, is
        InvalidConfigError."""
        from trove_async._store.cas import make_cas  # most stores have none

        return make_cas(self, bucket, algorithm, chunking)

    def vfs(self, bucket: str | None = None) -> FileSystem:
        """Files and directories over the keys of a bucket."""
        from trove_async.vfs import FileSystem

        return FileSystem(self, self._bucket(bucket))

    async def ping(self) -> dict[str, Health]:
        """Asks every backend; a failing one is an answer, not an error."""
        self._core.check()

        async def work(bucket: str, key: str, options: None) -> dict[str, Health]:
            limit = self._core.timeouts.read
            async with asyncio.TaskGroup() as group:
                tasks = {b.name: group.create_task(b.health(limit)) for b in self._places()}
            return {name: task.result() for name, task in tasks.items()}

        return await self._core.seam.run("ping", "", "", None, work)

    # -- layers ------------------------------------------------------------------------------

    def use(
        self,
        middleware: Middleware | Registration,
        *,
        scope: Scope | None = None,
        direction: Direction | None = None,
        priority: int | None = None,
    ) -> Registration:
        """From the next operation on; those under way keep the layers they began with."""
        self._core.reads.layouts.clear()
        registration = self._core.pipeline.use(
            middleware, scope=scope, direction=direction, priority=priority
        )
        self._core.account()
        return registration

    def remove(self, name: str, *, scope: Scope | None = None) -> int:
        """How many registrations of that name (and that scope) were taken out."""
        self._core.reads.layouts.clear()
        removed = self._core.pipeline.remove(name, scope=scope)
        self._core.account()
        return removed

    def registrations(self) -> builtins.list[Registration]:
        return self._core.pipeline.registrations()
