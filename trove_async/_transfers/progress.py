"""Progress of one transfer, told to a caller's hook now and then."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from trove_async.driver.base import Bytes, Chunks
from trove_async.stream.metrics import Meter, Progress

__all__ = ["Counted", "OnProgress", "Reporter"]

OnProgress: TypeAlias = Callable[[Progress], object]
"""May be a coroutine function. What it raises is logged and breaks no transfer."""

_log = logging.getLogger("trove_async.transfer")


class Reporter:
    def __init__(self, hook: OnProgress | None, total: int | None, id: str = "") -> None:
        self._hook = hook
        self._total = total
        self._id = id
        self._meter = Meter(time.monotonic)
        self._meter.start()
        self._waiting: set[asyncio.Task[None]] = set()

    def begin_at(self, position: int) -> None:
        """What an earlier transfer did; it does not count for the speed."""
        self._meter.position = position

    def total(self, size: int) -> None:
        self._total = size

    def restart(self) -> None:
        self._meter.position = 0

    def add(self, size: int) -> None:
        if self._hook is None:
            return
        self._meter.add(size)
        if self._meter.is_due(self._total):
            self._tell(is_done=False)

    def reach(self, position: int) -> None:
        """As `add` up to there; going back is not told."""
        if self._total is not None:
            position = min(position, self._total)
        if position > self._meter.position:
            self.add(position - self._meter.position)

    def _tell(self, *, is_done: bool) -> None:
        if self._hook is None:
            return
        try:
            found = self._hook(self._meter.progress(self._id, self._total, is_done=is_done))
        except Exception:  # the hook is the caller's code: it breaks no transfer
            _log.exception("on_progress failed")
            return
        if inspect.isawaitable(found):
            task = asyncio.create_task(_logged(found))
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    def done(self, total: int) -> None:
        """The last report: all of it."""
        self._total = total
        self._meter.position = total
        self._tell(is_done=True)

    async def close(self) -> None:
        """Waits for hooks that were begun; a cancel ends them."""
        while self._waiting:
            waiting = [*self._waiting]
            try:
                await asyncio.wait(waiting)
            except asyncio.CancelledError:
                for task in waiting:
                    task.cancel()
                raise


async def _logged(hook: Awaitable[object]) -> None:
    try:
        await hook
    except Exception:  # as above
        _log.exception("on_progress failed")


class Counted:
    """Passes a body on and reports what is taken."""

    __slots__ = ("_chunks", "_reporter")

    def __init__(self, chunks: Chunks, reporter: Reporter) -> None:
        self._chunks = chunks
        self._reporter = reporter

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        chunk = await self._chunks.__anext__()
        self._reporter.add(len(chunk))
        return chunk

    async def aclose(self) -> None:
        await self._chunks.aclose()
