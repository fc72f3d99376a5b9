"""A managed stream, as its user holds it."""

from __future__ import annotations

import asyncio
import warnings
from types import TracebackType
from typing import Self

from trove_async.errors import StreamError, StreamNotActiveError
from trove_async.model import ObjectInfo
from trove_async.stream.chunk import Chunk, ChunkPool
from trove_async.stream.inbound import Inbound
from trove_async.stream.metrics import StreamMetrics
from trove_async.stream.outbound import Outbound
from trove_async.stream.settings import StreamDirection, StreamState
from trove_async.stream.transfer import Transfer

__all__ = ["Stream"]

S = StreamState


class Stream:
    """``write`` to it, or iterate it for `Chunk`s; with BIDI both.

    Entering starts it. Leaving without an exception completes an upload and cancels a download
    that is not at its end; leaving with one cancels, and nothing is published.
    """

    __slots__ = ("__weakref__", "_chunk_pool", "_in", "_out", "_transfer")

    def __init__(
        self,
        transfer: Transfer,
        inbound: Inbound | None,
        outbound: Outbound | None,
        chunk_pool: ChunkPool,
    ) -> None:
        self._transfer = transfer
        self._in = inbound
        self._out = outbound
        self._chunk_pool = chunk_pool

    # -- what it is -----------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._transfer.id

    @property
    def direction(self) -> StreamDirection:
        return self._transfer.direction

    @property
    def bucket(self) -> str:
        return self._transfer.bucket

    @property
    def key(self) -> str:
        return self._transfer.key

    @property
    def state(self) -> StreamState:
        return self._transfer.state

    @property
    def error(self) -> BaseException | None:
        """Why it FAILED or was CANCELLED, where there is a reason."""
        return self._transfer.error

    @property
    def info(self) -> ObjectInfo | None:
        """Of the object read, from the start on; of the object written, once COMPLETED."""
        return self._transfer.info

    @property
    def offset(self) -> int:
        """Download: the next byte to give. Upload: bytes taken by the store; of a resumable one
        those that are acknowledged and outlive this process."""
        if self._out is not None:
            return self._out.offset
        assert self._in is not None
        return self._in.offset

    @property
    def dropped(self) -> int:
        """Chunks given up by `Backpressure.DROP`."""
        return self._transfer.dropped

    @property
    def chunk_pool(self) -> ChunkPool:
        """Buffers of this stream's chunk size, shared within its pool."""
        return self._chunk_pool

    def metrics(self) -> StreamMetrics:
        sent = self._out.meter if self._out is not None else None
        received = self._in.meter if self._in is not None else None
        return self._transfer.metrics(
            sent.moved if sent else 0,
            received.moved if received else 0,
            (sent.chunks if sent else 0) + (received.chunks if received else 0),
        )

    def __repr__(self) -> str:
        transfer = self._transfer
        return (
            f"<Stream {transfer.id} {transfer.direction.value} of {transfer.key!r}, "
            f"{transfer.state.value} at {self.offset}>"
        )

    # -- its life -------------------------------------------------------------------------------

    async def start(self) -> None:
        """From IDLE. A download has opened its object when this returns."""
        transfer = self._transfer
        transfer.begin()
        if self._in is None:
            return
        try:
            await asyncio.wait([self._in.opened])
        except asyncio.CancelledError:
            transfer.stop(S.CANCELLED)
            await transfer.ended()
            raise
        if not transfer.is_live:
            await transfer.ended()
            raise transfer.failure() or transfer.closed()

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Waits while PAUSED, and as the backpressure policy says.

        Cancelled before anything of ``data`` was taken, it may be tried again; in the middle,
        the stream fails, because nobody could tell where to go on. Concurrent writes are not
        mixed. Raises what the upload failed with if that happens while this waits.
        """
        if self._out is None:
            raise StreamNotActiveError("write to a download", **self._transfer.where())
        try:
            await self._out.write(data)
        except BaseException as exc:
            self._transfer.told(exc)
            raise

    async def complete(self) -> ObjectInfo:
        """Upload: waits until the object is published. Download: reads what is left, and so
        verifies it. A cancel while this waits cancels the stream."""
        transfer = self._transfer
        if transfer.state is S.COMPLETED:
            await transfer.ended()
            return transfer.result()
        if self._out is None:
            return await self._read_out()
        transfer.finish_up()
        self._out.end()
        return await transfer.outcome()

    async def _read_out(self) -> ObjectInfo:
        transfer = self._transfer
        inbound = self._in
        assert inbound is not None
        if transfer.state is S.PAUSED:
            transfer.resume()
        elif transfer.state is not S.ACTIVE:
            raise transfer.failure() or transfer.illegal("complete")
        async for _ in self:
            pass
        return await transfer.outcome()

    async def fail(self, error: BaseException | None = None) -> None:
        """Ends it as FAILED because of ``error``; nothing is published."""
        transfer = self._transfer
        given = error if error is not None else StreamError("failed", **transfer.where())
        transfer.stop(S.FAILED, given)
        await transfer.ended()

    async def cancel(self) -> None:
        self._transfer.stop(S.CANCELLED)
        await self._transfer.ended()

    async def aclose(self) -> None:
        """As `cancel`, but for a download that was read to its end. It never completes an upload:
        call `complete` or leave the block for that."""
        if self._in is not None:
            self._in.close_read()
        await self.cancel()

    async def pause(self) -> None:
        """Nothing is pulled until `resume`; what a download has fetched can still be taken."""
        self._transfer.pause()

    async def resume(self) -> None:
        self._transfer.resume()

    async def seek(self, offset: int) -> None:
        """Download: goes on at this byte of the same version of the object
        (ObjectChangedError if it is gone). Upload: only before the start, to the offset where a
        resumable session goes on. ValueError for any other offset."""
        if self._transfer.direction is StreamDirection.UPLOAD:
            assert self._out is not None
            self._out.seek(offset)
        else:
            assert self._in is not None
            await self._in.seek(offset)

    # -- reading --------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._in is None:
            raise StreamNotActiveError("reading from an upload", **self._transfer.where())
        try:
            chunk = await self._in.next()
        except BaseException as exc:
            self._transfer.told(exc)
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, fewer only at the end; all that is left when ``n`` is negative."""
        if self._in is None:
            raise StreamNotActiveError("reading from an upload", **self._transfer.where())
        try:
            return await self._in.read(n)
        except BaseException as exc:
            self._transfer.told(exc)
            raise

    # -- the block ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._transfer.state is S.IDLE:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        transfer = self._transfer
        if error is not None:
            transfer.stop(S.CANCELLED, error)
        elif transfer.state is S.COMPLETING:
            await transfer.outcome()
        elif self._out is not None and transfer.is_live:
            await self.complete()
        elif self._in is None or not self._in.close_read():
            transfer.stop(S.CANCELLED)
        await transfer.ended()
        if error is None and (failure := transfer.failure()) is not None:
            raise failure

    def __del__(self) -> None:
        transfer = getattr(self, "_transfer", None)
        if transfer is None or not transfer.is_live:
            return
        if self._in is not None and self._in.is_read and not transfer.loop.is_closed():
            transfer.loop.call_soon_threadsafe(self._in.close_read)
            return
        if not transfer.loop.is_closed():  # whatever thread the collector runs in
            transfer.loop.call_soon_threadsafe(transfer.stop, S.CANCELLED)
        warnings.warn(
            f"a stream of {transfer.key!r} was dropped while {transfer.state.value}; "
            "use async with, or complete or cancel it",
            ResourceWarning,
            stacklevel=2,
        )
