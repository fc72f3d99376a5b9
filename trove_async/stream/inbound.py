"""The half of a stream that reads: an open object, through the queue, to the user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from trove_async.errors import ObjectChangedError, PreconditionFailedError
from trove_async.model import ObjectInfo
from trove_async.stream.bandwidth import Bandwidth
from trove_async.stream.channel import Channel
from trove_async.stream.chunk import Chunk
from trove_async.stream.metrics import Meter
from trove_async.stream.policy import policy_for
from trove_async.stream.settings import StreamDirection, StreamState
from trove_async.stream.transfer import Transfer

__all__ = ["Inbound", "Opener", "Reader"]


class Reader(Protocol):
    @property
    def info(self) -> ObjectInfo: ...
    @property
    def length(self) -> int | None: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def aclose(self) -> None: ...


Opener = Callable[[slice | None, str | None], Awaitable[Reader | None]]
"""(range, etag the object must have) -> the open object, None where there need not be one."""


class Inbound:
    """A task pulls the object into the queue; iterating the stream takes from it."""

    def __init__(
        self,
        transfer: Transfer,
        opener: Opener,
        range: slice | None,
        bandwidth: Bandwidth | None,
    ) -> None:
        options = transfer.options
        chunk_size = options.chunk_size
        if bandwidth is not None:
            chunk_size = min(chunk_size, bandwidth.piece)
        self.meter = Meter(transfer.loop.time)
        self.total: int | None = None
        self.start = 0
        self.stop: int | None = None
        self.position = 0
        """Of the next byte to give, in the object."""
        self.opened: asyncio.Future[None] = transfer.loop.create_future()
        self._transfer = transfer
        self._opener = opener
        self._range = range
        self._bandwidth = bandwidth
        self._channel = Channel(options.queue_size, policy_for(options, chunk_size, self._dropped))
        self._lost: list[Chunk] = []
        self._info: ObjectInfo | None = None
        self._at: int | None = None
        """Where the reading goes on after a seek."""
        self._index = 0
        self._rest: Chunk | None = None
        self._is_last_given = False
        self._handed: tuple[float, int] | None = None
        self._seeking = asyncio.Lock()

    # -- the object's side ----------------------------------------------------------------------

    async def run(self) -> None:
        try:
            reader = await self._open()
            self._tell_opened()
            if reader is not None:
                try:
                    await self._pump(reader)
                finally:
                    await reader.aclose()
            self._channel.end()
        finally:
            self._tell_opened()

    def _tell_opened(self) -> None:
        if not self.opened.done():
            self.opened.set_result(None)

    async def _open(self) -> Reader | None:
        if self._at is None:
            reader = await self._opener(self._range, None)
            if reader is not None:
                self._opened(reader)
            return reader
        assert self._info is not None
        if self._at == self.stop:
            return None
        try:
            return await self._opener(slice(self._at, self.stop), self._info.etag)
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the object was replaced while it was read", **self._transfer.where()
            ) from exc

    def _opened(self, reader: Reader) -> None:
        info, length, asked = reader.info, reader.length, self._range
        self._info = info
        if self._transfer.direction is StreamDirection.DOWNLOAD:
            self._transfer.info = info
        start = 0 if asked is None or asked.start is None else asked.start
        if start < 0:
            start = max(0, info.size + start)
        self.start = self.position = start
        self.total = length
        self.stop = start + length if length is not None else None

    async def _pump(self, reader: Reader) -> None:
        """The last chunk is held until the object has ended, which is when it is verified."""
        offset = self.position if self._at is None else self._at
        held: Chunk | None = None
        parts: list[bytes | memoryview] = []
        have = 0
        async for piece in reader:
            rest: bytes | memoryview = piece
            while rest or have >= self._channel.policy.chunk_size:
                size = self._channel.policy.chunk_size
                if have < size:
                    part: bytes | memoryview = rest
                    if len(rest) > size - have:
                        part = memoryview(rest)[: size - have]
                    rest = b"" if len(part) == len(rest) else memoryview(rest)[len(part) :]
                    parts.append(part)
                    have += len(part)
                    continue
                if held is not None:
                    await self._give(held)
                held = self._chunk(parts, offset)
                parts, have = [], 0
                offset += len(held.data)
                if self.stop is not None and offset < self.stop:
                    await self._give(held)
                    held = None
        if held is not None and parts:
            await self._give(held)
        elif held is not None:
            await self._give(Chunk(held.index, held.offset, held.data, True))
        if parts:
            chunk = self._chunk(parts, offset)
            await self._give(Chunk(chunk.index, chunk.offset, chunk.data, True))

    def _chunk(self, parts: list[bytes | memoryview], offset: int) -> Chunk:
        if len(parts) == 1:
            data = parts[0] if type(parts[0]) is bytes else bytes(parts[0])
        else:
            data = b"".join(parts)
        self._index += 1
        return Chunk(self._index - 1, offset, data)

    async def _give(self, chunk: Chunk) -> None:
        transfer = self._transfer
        while not transfer.flowing.is_set():
            await transfer.flowing.wait()
        if self._bandwidth is not None:
            await self._bandwidth.take(len(chunk.data))
        await self._channel.put(chunk)
        transfer.touch()
        if self._lost:
            await self._tell_lost()

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

    # -- the user's side ------------------------------------------------------------------------

    async def next(self) -> Chunk | None:
        """None at the end. Cancelled, the chunk comes again."""
        transfer = self._transfer
        completed = transfer.state is StreamState.COMPLETED
        if self._rest is not None and (completed or transfer.is_live):
            rest, self._rest = self._rest, None
            return rest
        if completed:
            await transfer.ended()
            return None
        if transfer.state is not StreamState.COMPLETING:
            if (failure := transfer.failure()) is not None:
                raise failure
            transfer.check_active("reading")
        handed, self._handed = self._handed, None
        if handed is not None:
            self._channel.policy.observe(handed[1], transfer.loop.time() - handed[0])
        chunk = await self._channel.get()
        transfer.touch()
        if chunk is None:
            if transfer.direction is StreamDirection.DOWNLOAD:
                transfer.completed(self._info)
                await transfer.ended()
            return None
        self.position = chunk.offset + len(chunk.data)
        self.meter.add(len(chunk.data))
        self._is_last_given = chunk.final
        options = transfer.options
        if options.on_chunk is not None or options.on_progress is not None:
            try:
                if options.on_chunk is not None:
                    await transfer.tell(options.on_chunk, chunk)
                await transfer.report(self)
            except BaseException:  # a cancel in the hook: the chunk has not reached the user
                self._rest = chunk
                raise
        self._handed = (transfer.loop.time(), len(chunk.data))
        return chunk

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, fewer only at the end; all that is left when ``n`` is negative."""
        parts: list[bytes | memoryview] = []
        wanted = n
        try:
            while wanted and (chunk := await self.next()) is not None:
                data = chunk.data
                if 0 < wanted < len(data):
                    self._rest = Chunk(
                        chunk.index, chunk.offset + wanted, data[wanted:], chunk.final
                    )
                    data = data[:wanted]
                parts.append(data)
                wanted -= len(data) if wanted > 0 else 0
                if n > 0 and self.is_read:
                    break  # the end is told by the next read, and may be sought from until then
        except asyncio.CancelledError:
            self._put_back(parts)
            raise
        return b"".join(parts)

    def _put_back(self, parts: list[bytes | memoryview]) -> None:
        """What a cancelled read had collected is what the next one begins with."""
        if self._rest is not None:
            parts.append(self._rest.data)
        data = b"".join(parts)
        if data:
            end = self.position
            self._rest = Chunk(max(0, self._index - 1), end - len(data), data)

    def close_read(self) -> bool:
        """Completes a download all of whose bytes the user has, though not yet been told of
        its end; until then it can be sought. False: there is more."""
        if self.is_read:
            self._transfer.completed(self._info)
        return self.is_read

    @property
    def is_read(self) -> bool:
        is_download = self._transfer.direction is StreamDirection.DOWNLOAD
        return is_download and self._is_last_given and self._rest is None

    @property
    def offset(self) -> int:
        return self.position - (len(self._rest.data) if self._rest is not None else 0)

    async def seek(self, offset: int) -> None:
        """Goes on at ``offset`` of the very same version of the object."""
        transfer = self._transfer
        async with self._seeking:
            if (
                transfer.state is not StreamState.ACTIVE
                and transfer.state is not StreamState.PAUSED
            ):
                raise transfer.illegal("seek")
            if not self.opened.done():
                await asyncio.wait([self.opened])
                transfer.check_active("seek")
            if self._info is None:
                raise transfer.illegal("seek without an object to read,")
            end = self.stop if self.stop is not None else self._info.size
            if not self.start <= offset <= end:
                raise ValueError(f"{offset} is not within {self.start} to {end}")
            self._at = offset
            try:
                await transfer.superseded(self)
            finally:  # cancelled or not, somebody must give the chunks
                if transfer.is_live:
                    # Not sooner: the mover before this one tells of its own end.
                    self.opened = transfer.loop.create_future()
                    self._channel.restart()
                    self._rest = self._handed = None
                    self._is_last_given = False
                    self.position = offset
                    self.meter.position = offset - self.start
                    transfer.carry(self)
            await asyncio.wait([self.opened])
            if (failure := transfer.failure()) is not None:
                await transfer.ended()
                raise failure
            if not transfer.is_live:
                raise transfer.closed()

    def break_off(self, error: BaseException) -> None:
        self._channel.break_off(error)
        self._tell_opened()

    async def close(self) -> None:
        await self._channel.close()
