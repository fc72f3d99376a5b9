"""What every verb of the local driver stands on: opening, closing, and the way to a worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final, TypeVar

from trove_async._threads import CORES, Hop, Job, settle
from trove_async.drivers.local.config import LocalConfig
from trove_async.drivers.local.faults import located
from trove_async.drivers.local.fs import FS
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.listing import Lister
from trove_async.drivers.local.multipart import Uploads
from trove_async.drivers.local.names import Target
from trove_async.drivers.local.sweep import sweep_sidecars
from trove_async.drivers.local.watch import Watch
from trove_async.errors import (
    DriverClosedError,
    InvalidConfigError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
)

__all__ = ["LocalBase", "Opened"]

T = TypeVar("T")
_DURABLE_WORKERS: Final = 8  # fsyncs wait side by side; without them the cores are enough


class Opened:
    """Everything that exists while the driver is open."""

    __slots__ = ("ground", "hop", "lister", "loop", "uploads", "watches")

    def __init__(self, ground: Ground, hop: Hop, loop: asyncio.AbstractEventLoop) -> None:
        self.ground = ground
        self.hop = hop
        self.loop = loop
        self.lister = Lister(ground)
        self.uploads = Uploads(ground)
        self.watches: list[Watch] = []

    async def run(
        self, function: Callable[[], T], operation: str, target: Target | str | None = None
    ) -> T:
        """The result of a job, its errors made ours. A cancel is raised when it has ended."""
        job = self.hop.run(function)
        try:
            return await job
        except (OSError, TroveError) as exc:
            raise located(exc, operation, target)  # noqa: B904 -- the cause is set in it
        except asyncio.CancelledError:
            _retrieve(job)
            raise

    async def undo(self, *steps: Callable[[], object]) -> None:
        """Runs the clean-up steps, none of which raises, whatever happens to the task; on the
        spot when the workers are gone. A cancel that came meanwhile is passed on."""
        interrupted: asyncio.CancelledError | None = None
        for step in steps:
            try:
                job = self.hop.run(step)
            except (DriverClosedError, WrongLoopError):
                step()
                continue
            try:
                await settle(job)
            except asyncio.CancelledError as exc:
                interrupted = exc
        if interrupted is not None:
            raise interrupted


def _retrieve(job: asyncio.Future[T]) -> None:
    if job.done() and not job.cancelled():
        job.exception()  # the cancel wins; nobody else will ask for it


class LocalBase:
    name: Final = "local"

    def __init__(self, config: LocalConfig, fs: FS | None = None) -> None:
        self.config = config
        self._fs = fs if fs is not None else FS()
        self._opened: Opened | None = None

    async def open(self) -> None:
        """Makes the root, recovers what dead processes left, starts the workers."""
        if self._opened is not None:
            self._now()
            return
        loop = asyncio.get_running_loop()
        hop = Hop(_DURABLE_WORKERS if self.config.durability == "full" else CORES)
        job: Job[Ground] | None = None
        try:
            job = hop.run(self._set_up)
            ground = await job
        except BaseException as exc:
            if job is not None and not isinstance(exc, OSError | TroveError):
                _retrieve(job)
                if job.done() and job.exception() is None:
                    job.result().close()
            await _close_hop(hop)
            if isinstance(exc, NotADirectoryError) and not isinstance(exc, TroveError):
                raise InvalidConfigError("the root is not a folder", backend="local") from exc
            if isinstance(exc, OSError | TroveError):
                raise located(exc, "open", None)  # noqa: B904 -- the cause is set in it
            raise
        self._opened = Opened(ground, hop, loop)

    def _set_up(self) -> Ground:
        ground = Ground(self.config, self._fs)
        try:
            Uploads(ground).sweep()
            sweep_sidecars(ground)
        except BaseException:
            ground.close()
            raise
        return ground

    async def close(self) -> None:
        """Lets running jobs end, ends watches and workers. Bodies that are still read say
        DriverClosedError at their next chunk; puts that still pull say it at their next write."""
        opened, self._opened = self._opened, None
        if opened is None:
            return
        interrupted: asyncio.CancelledError | None = None
        for watch in list(opened.watches):
            try:
                await watch.aclose()
            except asyncio.CancelledError as exc:
                interrupted = exc
        try:
            await _close_hop(opened.hop)
        except asyncio.CancelledError as exc:
            interrupted = exc
        opened.ground.close()
        if interrupted is not None:
            raise interrupted

    async def ping(self) -> None:
        """UnavailableError and its kin when the root cannot be reached."""
        opened = self._now()
        ground = opened.ground

        def look() -> None:
            fd = ground.fs.open_beneath(ground.root, b".trove", os.O_RDONLY | os.O_DIRECTORY)
            try:
                ground.fs.fstat(fd)
            finally:
                ground.fs.close(fd)

        await opened.run(look, "ping")

    def _now(self) -> Opened:
        opened = self._opened
        if opened is None:
            raise DriverClosedError("the driver is not open", backend="local")
        if asyncio.get_running_loop() is not opened.loop:
            raise WrongLoopError("opened in another event loop", backend="local")
        return opened


async def _close_hop(hop: Hop) -> None:
    """Returns when no worker lives; a cancel that came meanwhile is passed on."""
    closing = asyncio.ensure_future(hop.close())
    await settle(closing)


def no_versions(version_id: str | None) -> None:
    if version_id is not None:
        raise UnsupportedError("a local store keeps no versions", backend="local")
