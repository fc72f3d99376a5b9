"""Streams that share limits: how many at once, how many bytes per second, how long."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from typing import Any, Unpack

from trove_async.errors import MaxStreamsError, PoolClosedError
from trove_async.ids import new_pool_id
from trove_async.stream.arguments import StreamArguments
from trove_async.stream.bandwidth import Bandwidth
from trove_async.stream.chunk import ChunkPool
from trove_async.stream.metrics import PoolMetrics
from trove_async.stream.settings import PoolConfig, StreamDirection, StreamState
from trove_async.stream.stream import Stream
from trove_async.stream.transfer import Transfer

__all__ = ["Connect", "Pool"]

GRACE = 5.0
"""Seconds that cancelled streams get to clean up when a pool closes."""

Connect = Callable[["Pool", StreamDirection, str | None, str, StreamArguments], Awaitable[Stream]]
"""Makes a stream between the user and a store; it calls `Pool.admit` and `Pool.add`."""


class Pool:
    """Belongs to a store. Slots are given in the order of asking and are free again as soon as
    a stream has ended, also if nobody releases it."""

    def __init__(self, name: str, config: PoolConfig, connect: Connect) -> None:
        self.id: str = new_pool_id()
        self.name = name
        self.config = config
        self.bandwidth: Bandwidth | None = None
        self._connect = connect
        self._is_closed = False
        self._active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._live: dict[str, Transfer] = {}
        self._buffers: dict[int, ChunkPool] = {}
        self._total = 0
        self._failed = 0
        self._bytes = 0
        self._chunks = 0

    def __repr__(self) -> str:
        return f"<Pool {self.name!r}, {self._active} of {self.config.max_streams} streams>"

    @property
    def active_count(self) -> int:
        """Slots taken."""
        return self._active

    def metrics(self) -> PoolMetrics:
        """As of now, streams under way included."""
        live = [half.meter for transfer in self._live.values() for half in transfer.halves]
        return PoolMetrics(
            self._active,
            self._total,
            self._bytes + sum(meter.moved for meter in live),
            self._chunks + sum(meter.chunks for meter in live),
            self._failed,
        )

    async def acquire(
        self,
        direction: StreamDirection,
        bucket: str | None,
        key: str,
        **options: Unpack[StreamArguments],
    ) -> Stream:
        """An idle stream; waits for a free slot. PoolClosedError when the pool is closed, also
        while this waits."""
        return await self._connect(self, direction, bucket, key, options)

    def release(self, stream: Stream) -> Awaitable[None]:
        """Cancels the stream if it is still live, at once; await the answer for its end."""
        transfer = stream._transfer
        transfer.stop(StreamState.CANCELLED)
        return _Ended(transfer)

    async def aclose(self, drain: bool = True, timeout: float = 30.0) -> None:
        """Takes no more streams. Those under way may end within ``timeout`` seconds (none at
        all unless ``drain``); the rest is cancelled and gets 5 seconds to clean up."""
        self.shut()
        for transfer in [*self._live.values()]:
            if not drain or transfer.state is StreamState.IDLE:
                transfer.stop(StreamState.CANCELLED)
        try:
            if drain and self._live:
                await asyncio.wait([t.cleaned for t in self._live.values()], timeout=timeout)
        finally:
            for transfer in [*self._live.values()]:
                transfer.stop(StreamState.CANCELLED)
        if self._live:
            await asyncio.wait([t.cleaned for t in self._live.values()], timeout=GRACE)

    def shut(self) -> None:
        """Takes no more streams; nobody waits any more."""
        self._is_closed = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._closed())

    # -- for who makes streams ------------------------------------------------------------------

    def reopen(self) -> None:
        """Its store was opened, perhaps in another loop."""
        self._is_closed = False
        self.bandwidth = None

    def _closed(self) -> PoolClosedError:
        return PoolClosedError(f"the pool {self.name!r} is closed")

    async def admit(self, timeout: float | None) -> None:
        """Takes a slot; `add` or `leave` must follow. Cancelled, none was taken."""
        if self._is_closed:
            raise self._closed()
        if self._active < self.config.max_streams and not self._waiting:
            self._active += 1
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await asyncio.wait([future], timeout=timeout)
            if not future.done():
                raise MaxStreamsError(f"no slot in the pool {self.name!r} within {timeout:g} s")
            future.result()
        except BaseException:
            if not future.done():
                self._waiting.remove(future)
            elif future.exception() is None:  # given and not wanted any more
                self.leave()
            raise

    def leave(self) -> None:
        """Hands a slot to who has waited longest."""
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._active -= 1

    def limits(self) -> Bandwidth | None:
        if self.bandwidth is None and self.config.max_bandwidth is not None:
            clock = asyncio.get_running_loop().time
            self.bandwidth = Bandwidth(self.config.max_bandwidth, clock)
        return self.bandwidth

    def buffers(self, size: int) -> ChunkPool:
        found = self._buffers.get(size)
        if found is None:
            found = self._buffers[size] = ChunkPool(size, self.config.buffer_count)
        return found

    def add(self, transfer: Transfer) -> None:
        self._total += 1
        self._live[transfer.id] = transfer

    def ended(self, transfer: Transfer) -> None:
        del self._live[transfer.id]
        self._failed += transfer.state is StreamState.FAILED
        self._bytes += sum(half.meter.moved for half in transfer.halves)
        self._chunks += sum(half.meter.chunks for half in transfer.halves)
        self.leave()


class _Ended:
    """What `Pool.release` answers: it need not be awaited."""

    __slots__ = ("_transfer",)

    def __init__(self, transfer: Transfer) -> None:
        self._transfer = transfer

    def __await__(self) -> Generator[Any, Any, None]:
        return self._transfer.ended().__await__()
