"""Cancelled at every await of every method: the other side wakes, nothing stays behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.stream.gate import turns
from trove_async import Backpressure, Stream, StreamDirection, Trove
from trove_async.testing.leaks import Baseline
from trove_async.testing.stepper import Step, cancel_everywhere

UP, DOWN, BOTH = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD, StreamDirection.BIDI
OLD, NEW = b"the old object", b"the new one"


@pytest.fixture
async def slow(store: Trove) -> AsyncIterator[Trove]:
    await store.put("box", "k", OLD)
    yield store


async def upload(store: Trove) -> None:
    async with store.stream("box", "k", UP, chunk_size=4, queue_size=1) as stream:
        await stream.write(NEW)


async def in_memory_and_file(store: Trove) -> None:
    async with store.stream(
        "box",
        "k",
        UP,
        chunk_size=2,
        queue_size=1,
        backpressure=Backpressure.BUFFER,
        buffer_memory=2,
    ) as stream:
        await stream.write(NEW)


async def paused(store: Trove) -> None:
    async with store.stream("box", "k", UP, chunk_size=4, queue_size=1) as stream:
        await stream.pause()
        writing = asyncio.create_task(stream.write(NEW))
        try:
            await turns(2)
            await stream.resume()
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


async def download(store: Trove) -> None:
    async with store.stream("box", "k", DOWN, chunk_size=3, queue_size=1) as stream:
        got = [chunk.data async for chunk in stream]
    assert b"".join(map(bytes, got)) in (OLD, NEW)


async def sought(store: Trove) -> None:
    async with store.stream("box", "k", DOWN, chunk_size=3, queue_size=1) as stream:
        await stream.read(2)
        await stream.seek(4)
        assert await stream.read() in (OLD[4:], NEW[4:])


async def both(store: Trove) -> None:
    async with store.stream("box", "k", BOTH, chunk_size=3, queue_size=1) as stream:
        async for _ in stream:
            pass
        await stream.write(NEW)


async def ended(store: Trove, how: Callable[[Stream], Awaitable[object]]) -> None:
    stream = await store.stream("box", "k", UP, on_error=lambda error: asyncio.sleep(0))
    try:
        await stream.start()
        await stream.write(b"half")
        await how(stream)
    finally:
        await stream.cancel()


CALLS: dict[str, Callable[[Trove], Awaitable[None]]] = {
    "upload": upload,
    "buffer": in_memory_and_file,
    "pause": paused,
    "download": download,
    "seek": sought,
    "both": both,
    "cancel": lambda store: ended(store, lambda s: s.cancel()),
    "fail": lambda store: ended(store, lambda s: s.fail(OSError())),
    "complete": lambda store: ended(store, lambda s: s.complete()),
}


@pytest.mark.parametrize("call", CALLS)
async def test_nothing_stays_behind(slow: Trove, call: str) -> None:
    before = Baseline.now()
    tasks = asyncio.all_tasks()

    async def run() -> None:
        await CALLS[call](slow)

    async def check(step: Step) -> None:
        await turns()
        assert slow.pool.active_count == 0
        assert asyncio.all_tasks() == tasks
        assert await slow.get_bytes("box", "k") in (OLD, NEW, b"half")

    points = await cancel_everywhere(run, check=check)
    assert points > 0
    before.check()


async def test_a_cancelled_read_loses_nothing(store: Trove) -> None:
    body = bytes(range(200))
    await store.put("box", "k", body)
    async with store.stream("box", "k", DOWN, chunk_size=7, queue_size=2) as stream:
        got = b""
        for number in range(100):
            task = asyncio.create_task(stream.read(5))
            for _ in range(number % 4):
                await asyncio.sleep(0)
            task.cancel()
            try:
                got += await task
            except asyncio.CancelledError:
                assert stream.offset == len(got)
        assert got + await stream.read() == body


@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
async def test_thousands_of_streams_leave_nothing(tmp_path: Path, count: int) -> None:
    async with trove.open(f"file://{tmp_path}?durability=none") as store:
        await store.create_bucket("box")

        async def some(count: int) -> None:
            for number in range(count):
                kind = number % 8
                stream = await store.stream("box", f"k{number % 8}", UP, chunk_size=4)
                if kind:
                    await stream.start()
                if kind > 1:
                    await stream.write(b"123456")
                await (stream.complete() if kind == 7 else stream.cancel())

        await some(400)
        gc.collect()
        before, objects = Baseline.now(), len(gc.get_objects())
        await some(count)
        gc.collect()
        assert len(gc.get_objects()) - objects < 1000
        assert store.pool.active_count == 0
        assert store.pool.metrics().total_streams == count + 400
        assert asyncio.all_tasks() == {asyncio.current_task()}
        before.check()


async def test_a_task_that_is_killed_with_its_loop_leaves_no_stream() -> None:
    """As `asyncio.run` does at its end."""
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        async with store.stream("box", "k", UP) as stream:
            await stream.write(b"half")
            mover = next(task for task in asyncio.all_tasks() if stream.id in task.get_name())
            mover.cancel()
            await asyncio.wait([mover])
            assert stream.state is trove.StreamState.CANCELLED
        assert store.pool.active_count == 0
