"""The way of a larger body into a staged file: pulled and hashed on the loop while a worker
writes what came before."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

from trove_async._threads import Job, settle
from trove_async.driver import Bytes, Chunks
from trove_async.drivers.local import writer
from trove_async.drivers.local.base import Opened
from trove_async.drivers.local.faults import located
from trove_async.drivers.local.names import Target
from trove_async.drivers.local.writer import Staged
from trove_async.errors import TroveError

__all__ = ["Intake"]

_BATCH: Final = 1024 * 1024
"""Bytes that make one write."""
_PIECES: Final = 512
_HIGH: Final = 8 * 1024 * 1024
"""Bytes on their way to the file at which the body is not pulled on, unless they are one chunk.

With one batch ahead the two threads ended up taking turns (1.8 GB/s, the sum of hash and
write); from about 4 MiB ahead they overlap (2.4 GB/s)."""
_LOW: Final = 4 * 1024 * 1024
"""Bytes left at which it is pulled on."""


class Intake:
    """Takes a body in: a small one is kept, a larger one is written by one job at a time."""

    def __init__(self, opened: Opened, target: Target, operation: str) -> None:
        self._opened = opened
        self._target = target
        self._operation = operation
        self._queue: deque[list[Bytes]] = deque()
        self._sent = 0  # bytes; counted by the loop only
        self._wrote = 0  # counted by the worker only
        self._job: Job[None] | None = None
        self._error: TroveError | None = None
        self._room: asyncio.Future[None] | None = None
        self._staged: Staged | None = None
        self.is_used = False
        """Whether anything went to the file."""

    async def pull(self, body: Chunks) -> list[Bytes] | None:
        """The whole body when it fits one batch; None when it is on its way to the disk."""
        held: list[Bytes] = []
        length = 0
        async for chunk in body:
            held.append(_kept(chunk))
            length += len(chunk)
            if length >= _BATCH or len(held) >= _PIECES:
                self.send(held)
                held, length = [], 0
                await self._passable()
        if not self.is_used:
            return held
        if held:
            self.send(held)
        return None

    def send(self, pieces: list[Bytes]) -> None:
        self.is_used = True
        self._sent += sum(map(len, pieces))
        self._queue.append(pieces)
        if self._job is None:
            self._start()

    def _start(self) -> None:
        self._job = self._opened.hop.run(self._write, at_once=True)
        self._job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Future[None]) -> None:
        """What was sent while the job was on its last write needs another. A failed job
        stays, for whoever asks."""
        if job is not self._job:
            return  # `written` was here first
        if job.exception() is None:
            self._job = None
            if self._queue:
                try:
                    self._start()
                except TroveError as exc:  # the driver was closed
                    self._error = exc
        self._make_room()

    def _write(self) -> None:
        """In a worker."""
        while True:
            try:
                pieces = self._queue.popleft()
            except IndexError:
                return
            if self._staged is None:
                self._staged = writer.stage(self._opened.ground, self._target, pieces)
            else:
                self._staged.write(pieces)
            self._wrote += sum(map(len, pieces))
            if self._room is not None and self._sent - self._wrote <= _LOW:
                with suppress(RuntimeError):  # the loop is gone; nobody waits any more
                    self._opened.loop.call_soon_threadsafe(self._make_room)

    def _make_room(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    async def _passable(self) -> None:
        """Waits while too much is on its way. Raises at once when a write has failed."""
        job = self._job
        if job is not None and job.done() and job.exception() is not None:
            await self.written()
        if self._sent - self._wrote < _HIGH or not self._queue:
            return
        room = self._room = self._opened.loop.create_future()
        if self._sent - self._wrote <= _LOW:  # the worker may not have seen that we wait
            self._room = None
            return
        try:
            await room
        finally:
            self._room = None
        if self._error is not None or (self._job is not None and self._job.done()):
            await self.written()

    async def written(self) -> Staged:
        """Waits until all that was sent is in the file."""
        try:
            while (job := self._job) is not None:
                await job
                self._ended(job)
            if self._error is not None:
                raise self._error
        except (OSError, TroveError) as exc:
            raise located(exc, self._operation, self._target)  # noqa: B904 -- the cause is set
        assert self._staged is not None
        return self._staged

    async def end(self) -> None:
        """Removes what was not published, when no worker writes any more."""
        self._queue.clear()
        interrupted: asyncio.CancelledError | None = None
        if self._job is not None:
            try:
                await settle(self._job)
            except asyncio.CancelledError as exc:
                interrupted = exc
            except (OSError, TroveError):
                pass  # said already, or less than the error that brought us here
        if self._staged is not None:
            await self._opened.undo(self._staged.end)
        if interrupted is not None:
            raise interrupted


def _kept(chunk: Bytes) -> Bytes:
    """The chunk itself if nobody can change it; it is the consumer's only until the next."""
    if type(chunk) is bytes or (type(chunk) is memoryview and type(chunk.obj) is bytes):
        return chunk
    return bytes(chunk)
