"""The half of a stream that writes: the user's bytes, through the queue, to one put."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, fields

from trove_async.driver.base import Chunks
from trove_async.errors import StreamError, StreamNotActiveError
from trove_async.model import KiB, ObjectInfo
from trove_async.stream.bandwidth import Bandwidth
from trove_async.stream.channel import Channel
from trove_async.stream.chunk import Chunk, frozen
from trove_async.stream.metrics import Meter
from trove_async.stream.policy import policy_for
from trove_async.stream.session import Session
from trove_async.stream.settings import Backpressure, StreamState
from trove_async.stream.transfer import Transfer

__all__ = ["Outbound", "Sink", "StreamResult"]

Sink = Callable[[Chunks], Awaitable[ObjectInfo]]
"""Pulls all of a body and publishes it, or changes nothing."""
SMALL = 32 * KiB
"""Bytes of writes that are handed on together, where several wait."""
GATHERED = 256 * KiB


@dataclass(frozen=True, slots=True)
class StreamResult(ObjectInfo):
    """What a DROP stream published, and how much it left out."""

    dropped: int = 0
    """Chunks."""


def with_dropped(info: ObjectInfo, dropped: int) -> StreamResult:
    known = {field.name: getattr(info, field.name) for field in fields(ObjectInfo)}
    return StreamResult(**known, dropped=dropped)


class Outbound:
    """``write`` puts chunks into the queue; the put, in its own task, pulls them out."""

    def __init__(
        self,
        transfer: Transfer,
        sink: Sink | None,
        session: Session | None,
        bandwidth: Bandwidth | None,
    ) -> None:
        options = transfer.options
        chunk_size = options.chunk_size
        if bandwidth is not None:
            chunk_size = min(chunk_size, bandwidth.piece)
        self.meter = Meter(transfer.loop.time)
        self.total = options.total_size
        self.session = session
        if session is not None:
            session.adaptive = options.backpressure is Backpressure.ADAPTIVE
        self.start = 0
        """Where in the source the first write is."""
        self._transfer = transfer
        self._sink = sink
        self._bandwidth = bandwidth
        self._channel = Channel(options.queue_size, policy_for(options, chunk_size, self._dropped))
        self._lost: list[Chunk] = []
        self._lock = asyncio.Lock()
        self._is_writing = False
        self._index = 0
        self._accepted = 0
        self._taken: list[Chunk] = []
        self._handed = 0.0

    @property
    def offset(self) -> int:
        if self.session is not None:
            return max(self.session.offset, self.start)
        return self.meter.position

    # -- the user's side ------------------------------------------------------------------------

    async def write(self, data: object) -> None:
        """All of ``data``, or, if that was cut short, the end of the stream."""
        transfer = self._transfer
        whole = frozen(data)
        transfer.check_active("write")
        async with self._lock:
            while transfer.state is StreamState.PAUSED:
                await transfer.flowing.wait()
            transfer.check_active("write")
            if not whole:
                return
            self._is_writing = True
            before = self._index
            try:
                await self._cut(whole)
            except BaseException:
                if self._index > before:
                    cut_short = StreamError("a write was cut short", **transfer.where())
                    transfer.stop(StreamState.FAILED, cut_short, own=True)
                raise
            finally:
                self._is_writing = False
                if transfer.state is StreamState.COMPLETING:
                    self._channel.end()
        if self._lost:
            await self._tell_lost()

    async def _cut(self, data: bytes) -> None:
        channel = self._channel
        at, size = 0, len(data)
        view: bytes | memoryview = data
        while at < size:
            room = channel.policy.chunk_size
            if size - at > room and type(view) is bytes:
                view = memoryview(view)
            piece = view[at : at + room] if at or size > room else view
            await channel.put(Chunk(self._index, self._accepted, piece))
            at += len(piece)
            self._index += 1
            self._accepted += len(piece)
            self._transfer.touch()

    def seek(self, offset: int) -> None:
        """To where the session goes on; before the start."""
        transfer = self._transfer
        if self.session is None or transfer.state is not StreamState.IDLE:
            raise transfer.illegal("seek")
        if offset != self.session.offset:
            raise ValueError(f"the session goes on at {self.session.offset}, not at {offset}")
        self.start = self._accepted = offset
        self.meter.position = offset

    def end(self) -> None:
        """Nothing is written any more, but for what a write under way still has to."""
        if not self._is_writing:
            self._channel.end()

    def _dropped(self, chunk: Chunk) -> None:
        self._transfer.dropped += 1
        self._transfer.dropped_bytes += len(chunk.data)
        if self._transfer.options.on_chunk is not None:
            self._lost.append(Chunk(chunk.index, chunk.offset, chunk.data, False, True))

    async def _tell_lost(self) -> None:
        hook = self._transfer.options.on_chunk
        lost, self._lost = self._lost, []
        for chunk in lost:
            if hook is not None:
                await self._transfer.tell(hook, chunk)

    # -- the put's side -------------------------------------------------------------------------

    async def run(self) -> ObjectInfo:
        if self.session is None:
            assert self._sink is not None
            info = await self._sink(_Pulled(self))
        else:
            await self.session.append(_Pulled(self, skip=self.session.offset - self.start))
            if self._transfer.state is not StreamState.COMPLETING:
                raise StreamNotActiveError("the session ended before its source")
            info = await self.session.complete()
        if self._transfer.options.backpressure is Backpressure.DROP:
            return with_dropped(info, self._transfer.dropped)
        return info

    async def pull(self) -> bytes | memoryview | None:
        """What to send next, None at the end. Asking for more acknowledges what was given."""
        if self._taken:
            await self._acknowledge()
        transfer = self._transfer
        channel = self._channel
        while not transfer.flowing.is_set():
            await transfer.flowing.wait()
        chunk = await channel.get()
        while not transfer.flowing.is_set():
            await transfer.flowing.wait()
        if chunk is None:
            return None
        self._taken.append(chunk)
        data = chunk.data
        items = channel.items
        if len(data) < SMALL and items and len(items[0].data) < SMALL:
            data = await self._gathered(data)
        if self._bandwidth is not None:
            await self._bandwidth.take(len(data))
        self._handed = transfer.loop.time()
        return data

    async def _gathered(self, data: bytes | memoryview) -> bytes:
        """Small writes that wait side by side cross the layers as one."""
        parts = [data]
        size = len(data)
        items = self._channel.items
        most = GATHERED if self._bandwidth is None else min(GATHERED, self._bandwidth.piece)
        while items and len(items[0].data) < SMALL and size + len(items[0].data) <= most:
            chunk = await self._channel.get()  # never waits: there is one
            if chunk is None:
                break
            self._taken.append(chunk)
            parts.append(chunk.data)
            size += len(chunk.data)
        return b"".join(parts)

    async def _acknowledge(self) -> None:
        transfer = self._transfer
        transfer.touch()
        taken, self._taken = self._taken, []
        size = sum(len(chunk.data) for chunk in taken)
        self._channel.policy.observe(size, transfer.loop.time() - self._handed)
        hook = transfer.options.on_chunk
        is_end = self._channel.has_ended and self._channel.is_empty
        for number, chunk in enumerate(taken, 1):
            self.meter.add(len(chunk.data))
            if hook is not None:
                final = is_end and number == len(taken)
                told = Chunk(chunk.index, chunk.offset, chunk.data, final)
                await transfer.tell(hook, told)
        await transfer.report(self)

    def break_off(self, error: BaseException) -> None:
        self._channel.break_off(error)

    async def close(self) -> None:
        self._taken.clear()
        try:
            if self.session is not None:  # what is acknowledged stays, to be resumed
                await self.session.aclose()
        finally:
            await self._channel.close()


class _Pulled:
    """The body of the put. Closing it does nothing: the stream owns what is behind it."""

    __slots__ = ("_outbound", "_skip")

    def __init__(self, outbound: Outbound, skip: int = 0) -> None:
        self._outbound = outbound
        self._skip = skip
        """Bytes that a session has already and that are written once more."""

    def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        return self

    async def __anext__(self) -> bytes | memoryview:
        while True:
            data = await self._outbound.pull()
            if data is None:
                raise StopAsyncIteration
            if not self._skip:
                return data
            left = memoryview(data)[self._skip :]
            self._skip -= len(data) - len(left)
            if left:
                return left

    async def aclose(self) -> None: ...
