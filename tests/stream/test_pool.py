"""What streams share: slots in order, bytes per second, time; and how a pool ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.stream.clock import in_clockwork
from tests.stream.gate import Gate, turns
from trove_async import (
    InvalidConfigError,
    MaxStreamsError,
    OperationTimeoutError,
    PoolClosedError,
    PoolConfig,
    Stream,
    StreamDirection,
    StreamState,
    Trove,
)

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD
S = StreamState


def with_store(work: Callable[[Trove], Awaitable[Any]], config: PoolConfig) -> Any:
    """Runs ``work`` where time costs nothing."""

    async def run() -> Any:
        async with trove.open("mem://", pool=config) as store:
            await store.create_bucket("box")
            return await work(store)

    return in_clockwork(run())


def test_the_limit_holds_under_a_thousand_acquirers_who_come_in_order() -> None:
    async def work(store: Trove) -> None:
        most, order = 0, []

        async def one(number: int) -> None:
            nonlocal most
            stream = await store.pool.acquire(UP, "box", f"k{number}")
            order.append(number)
            most = max(most, store.pool.active_count)
            async with stream:
                await stream.write(b"x")
                await asyncio.sleep(0.01)

        await asyncio.gather(*map(one, range(1000)))
        assert most == 8
        assert order == sorted(order)
        metrics = store.pool.metrics()
        assert (metrics.active_streams, metrics.total_streams) == (0, 1000)
        assert (metrics.total_bytes, metrics.total_chunks) == (1000, 1000)

    with_store(work, PoolConfig(max_streams=8))


@pytest.mark.parametrize("when", range(8))
def test_who_stops_waiting_takes_no_slot(when: int) -> None:
    """Cancelled before, while and after the slot is handed over."""

    async def work(store: Trove) -> None:
        held = await store.stream("box", "h", UP)
        first, second = (
            asyncio.ensure_future(store.pool.acquire(UP, "box", f"w{i}")) for i in range(2)
        )
        await turns()
        ending = asyncio.ensure_future(held.cancel())
        await turns(when)
        first.cancel()
        await asyncio.wait([first])
        if not first.cancelled():
            await first.result().cancel()
        await (await second).cancel()
        await ending
        assert store.pool.active_count == 0

    with_store(work, PoolConfig(max_streams=1))


def test_waiting_for_a_slot_may_be_bounded() -> None:
    async def work(store: Trove) -> None:
        async with store.stream("box", "a", UP):
            with pytest.raises(MaxStreamsError):
                await store.stream("box", "b", UP, acquire_timeout=timedelta(seconds=2))
        async with store.stream("box", "b", UP, acquire_timeout=2.0):
            pass

    with_store(work, PoolConfig(max_streams=1))


def test_a_slot_is_free_when_the_stream_has_ended_though_nobody_releases_it() -> None:
    async def work(store: Trove) -> None:
        kept = []
        for number in range(50):
            stream = await store.stream("box", f"k{number}", UP)
            await stream.start()
            await stream.complete()
            kept.append(stream)
        assert store.pool.active_count == 0
        for stream in kept:
            await store.pool.release(stream)
        assert store.pool.active_count == 0

    with_store(work, PoolConfig(max_streams=1))


@pytest.mark.parametrize("direction", [UP, DOWN])
@pytest.mark.parametrize("streams", [1, 16])
def test_bandwidth_is_what_was_said_and_shared_evenly(
    direction: StreamDirection, streams: int
) -> None:
    rate, seconds = 1_000_000, 10
    size = rate * seconds // streams

    async def work(store: Trove) -> tuple[float, list[float]]:
        loop = asyncio.get_running_loop()
        for number in range(streams):
            if direction is DOWN:
                await store.put("box", f"k{number}", bytes(size))
        began, ends = loop.time(), []

        async def one(number: int) -> None:
            async with store.stream("box", f"k{number}", direction) as stream:
                if direction is UP:
                    for _ in range(10):
                        await stream.write(bytes(size // 10))
                    await stream.complete()
                else:
                    async for chunk in stream:
                        assert len(chunk.data) <= rate / 10, "a burst holds at most 100 ms"
            ends.append(loop.time() - began)

        await asyncio.gather(*map(one, range(streams)))
        return loop.time() - began, ends

    took, ends = with_store(work, PoolConfig(max_streams=16, max_bandwidth=rate))
    assert abs(took - seconds) < 0.05 * seconds
    assert max(ends) - min(ends) < 0.2 * seconds


def test_a_stream_that_takes_too_long_fails() -> None:
    async def waiting(store: Trove) -> None:
        told: list[BaseException] = []
        with pytest.raises(OperationTimeoutError):
            async with store.stream("box", "k", UP, on_error=told.append) as stream:
                await stream.write(b"x")
                await asyncio.sleep(29.9)
                assert not told
                await asyncio.sleep(30.1)
        assert told == [stream.error]
        assert not await store.exists("box", "k")
        assert stream.state is S.FAILED
        assert asyncio.get_running_loop().time() == 60

    with_store(waiting, PoolConfig(stream_timeout=30))


def test_an_idle_stream_fails_and_a_paused_one_does_not() -> None:
    async def work(store: Trove) -> None:
        stream = await store.stream("box", "k", UP)
        await stream.start()
        for _ in range(5):
            await stream.write(b"x")
            await asyncio.sleep(4)
        await stream.pause()
        await asyncio.sleep(1000)
        states = [stream.state]
        await stream.resume()
        await asyncio.sleep(4)
        states.append(stream.state)
        await asyncio.sleep(2)
        assert [*states, stream.state] == [S.PAUSED, S.ACTIVE, S.FAILED]
        assert isinstance(stream.error, OperationTimeoutError)
        never = await store.stream("box", "k", UP)
        await asyncio.sleep(6)
        assert never.state is S.FAILED
        assert store.pool.active_count == 0

    with_store(work, PoolConfig(idle_timeout=5))


def test_a_closing_pool_lets_streams_end_and_wakes_who_waits() -> None:
    async def work(store: Trove) -> None:
        stream = await store.stream("box", "k", UP)
        await stream.start()
        waiting = asyncio.ensure_future(store.pool.acquire(UP, "box", "w"))
        await turns()
        closing = asyncio.ensure_future(store.pool.aclose())
        await turns()
        with pytest.raises(PoolClosedError):
            await waiting
        with pytest.raises(PoolClosedError):
            await store.stream("box", "n", UP)
        await stream.write(b"to the end")
        assert (await stream.complete()).size == 10
        await closing

    with_store(work, PoolConfig(max_streams=1))


@pytest.mark.parametrize("drain", [True, False])
def test_closing_a_pool_is_bounded(drain: bool) -> None:
    async def work(store: Trove) -> None:
        loop = asyncio.get_running_loop()
        gate = Gate()
        store.use(gate)
        streams: list[Stream] = []
        for number in range(4):
            streams.append(await store.stream("box", f"k{number}", UP))
            if number:
                await streams[-1].start()
                await streams[-1].write(b"never taken")
        began = loop.time()
        await store.pool.aclose(drain=drain, timeout=30)
        assert loop.time() - began == (30 if drain else 0)
        assert {stream.state for stream in streams} == {S.CANCELLED}
        assert store.pool.active_count == 0

    with_store(work, PoolConfig())


def test_closing_the_store_cancels_what_streams() -> None:
    async def run() -> None:
        store = await trove.open("mem://")
        await store.create_bucket("box")
        stream = await store.stream("box", "k", UP)
        await stream.start()
        await stream.write(b"half")
        await store.aclose()
        assert stream.state is S.CANCELLED
        await store.aopen()
        async with store.stream("box", "k", UP) as stream:
            await stream.write(b"again")
        await store.aclose()

    in_clockwork(run())


async def test_named_pools_have_their_own_limits(tmp_path: Path) -> None:
    config = tmp_path / "trove.toml"
    config.write_text(
        f'[stores.a]\nurl = "file://{tmp_path}/data"\n'
        '[pool]\nmax_streams = 3\n[pools.bulk]\nmax_streams = 2\nbackpressure = "buffer"\n'
    )
    async with trove.open(config, pools={"slow": PoolConfig(chunk_size=7)}) as store:
        await store.create_bucket("box")
        assert {n: p.config.max_streams for n, p in store.pools.items()} == {
            "default": 3,
            "bulk": 2,
            "slow": 16,
        }
        async with store.stream("box", "k", UP, pool="slow") as stream:
            assert store.pools["slow"].active_count == 1
            assert store.pool.active_count == 0
            assert stream.chunk_pool.stats().size == 7
        async with store.bucket("box").stream("k", DOWN, pool="bulk", chunk_size=3) as stream:
            assert await stream.read() == b""
        with pytest.raises(InvalidConfigError):
            await store.stream("box", "k", UP, pool="none")
    config.write_text('[stores.a]\nurl = "mem://"\n[pool]\nmax_streams = 0\n')
    with pytest.raises(InvalidConfigError):
        await trove.open(config)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_streams": 0},
        {"max_bandwidth": 0},
        {"max_bandwidth": float("nan")},
        {"chunk_size": 0},
        {"buffer_count": -1},
        {"idle_timeout": 0},
        {"stream_timeout": -1},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        PoolConfig(**wrong)
