"""What a stream tells while it moves: progress, chunks, its end; and buffers to fill."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import trove_async as trove
from tests.stream.clock import in_clockwork
from tests.stream.gate import turns
from trove_async import Chunk, ChunkPool, Progress, StreamDirection, StreamState, Trove

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD


def reported(total: int | None, chunks: int, pause: float) -> list[Progress]:
    """Of an upload of ``chunks`` times 1000 bytes, with a pause after each."""
    found: list[Progress] = []

    async def run() -> None:
        async with trove.open("mem://") as store:
            await store.create_bucket("box")
            async with store.stream(
                "box", "k", UP, total_size=total, on_progress=found.append
            ) as stream:
                for _ in range(chunks):
                    await stream.write(bytes(1000))
                    await asyncio.sleep(pause)

    in_clockwork(run())
    return found


def test_progress_comes_now_and_then_and_is_100_only_at_the_end() -> None:
    found = reported(100_000, 100, 0.03)
    assert 25 <= len(found) <= 32, "in 3 seconds, ten a second at most"
    percents = [p.percent for p in found]
    assert all(p is not None for p in percents)
    assert percents == sorted(percents, key=lambda p: p or 0)
    assert percents[-1] == 100
    assert all(p is not None and p < 100 for p in percents[:-1])
    middle = found[len(found) // 2]
    assert middle.speed == pytest.approx(1000 / 0.03, rel=0.1)
    assert middle.eta == pytest.approx((100_000 - middle.bytes) / middle.speed)
    assert found[-1].eta == 0


def test_progress_that_hardly_moves_comes_once_a_second() -> None:
    assert len(reported(10_000_000, 100, 0.1)) <= 12


def test_more_than_was_expected_is_still_not_100_percent() -> None:
    found = reported(5_000, 100, 0.03)
    assert all(p.percent is not None and p.percent < 100 for p in found[:-1])
    assert found[-1].percent == 100


def test_without_a_total_there_is_no_percentage() -> None:
    found = reported(None, 50, 0.05)
    assert {(p.percent, p.eta, p.total) for p in found} == {(None, None, None)}
    assert found[-1].bytes == 50_000


def test_speed_is_that_of_the_last_seconds() -> None:
    async def run() -> float:
        async with trove.open("mem://") as store:
            await store.create_bucket("box")
            found: list[Progress] = []
            async with store.stream("box", "k", UP, on_progress=found.append) as stream:
                for number in range(400):
                    await stream.write(bytes(100_000 if number < 100 else 1_000))
                    await asyncio.sleep(0.1)
            return found[-1].speed

    assert in_clockwork(run()) == pytest.approx(10_000, rel=0.05)


async def test_progress_of_a_download_knows_its_range(store: Trove) -> None:
    await store.put("box", "k", bytes(1000))
    found: list[Progress] = []
    async with store.stream(
        "box", "k", DOWN, range=slice(200, 700), on_progress=found.append
    ) as stream:
        await stream.read()
    assert [(p.bytes, p.total, p.percent) for p in found] == [(500, 500, 100.0)]


async def test_hooks_may_be_coroutines_and_what_they_raise_breaks_nothing(
    store: Trove, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []

    async def on_chunk(chunk: Chunk) -> None:
        await asyncio.sleep(0)
        told.append((chunk.index, bytes(chunk.data)))
        raise ValueError("of the hook")

    def on_complete(info: trove.ObjectInfo) -> None:
        told.append(info.size)
        raise ValueError("of the hook")

    with caplog.at_level(logging.ERROR, "trove_async.stream"):
        async with store.stream(
            "box", "k", UP, chunk_size=3, on_chunk=on_chunk, on_complete=on_complete
        ) as stream:
            await stream.write(b"12345")
    assert told == [(0, b"123"), (1, b"45"), 5]
    assert stream.state is StreamState.COMPLETED
    assert len(caplog.records) == 3


@pytest.mark.parametrize("direction", [UP, DOWN])
async def test_a_hook_may_end_its_own_stream(store: Trove, direction: StreamDirection) -> None:
    await store.put("box", "k", b"old")
    stream = await store.stream(
        "box", "k", direction, chunk_size=1, on_chunk=lambda chunk: stream.cancel()
    )
    await stream.start()
    if direction is UP:
        await stream.write(b"ab")
        await turns()
    else:
        assert (await anext(stream)).data == b"o"
    assert stream.state is StreamState.CANCELLED
    await stream.aclose()
    assert await store.get_bytes("box", "k") == b"old"


async def test_a_hook_that_hangs_can_be_cancelled(store: Trove) -> None:
    async def hang(error: BaseException) -> None:
        await asyncio.sleep(3600)

    stream = await store.stream("box", "k", UP, on_error=hang)
    await stream.start()
    ending = asyncio.create_task(stream.fail(OSError()))
    await turns()
    assert store.pool.active_count == 0, "the slot waits for no hook"
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending


def test_buffers_are_used_again() -> None:
    pool = ChunkPool(8, keep=1)
    first, second = pool.get(), pool.get()
    assert (len(first), len(second)) == (8, 8)
    pool.put(first)
    with pytest.raises(ValueError):
        pool.put(first)
    pool.put(second)  # beyond what is kept
    assert pool.get() is first
    with pytest.raises(ValueError):
        pool.put(bytearray(7))
    stats = pool.stats()
    assert (stats.allocated, stats.released, stats.size) == (3, 2, 8)


async def test_a_buffer_may_be_filled_anew_after_the_write(store: Trove) -> None:
    async with store.stream("box", "k", UP, chunk_size=4) as stream:
        buffer = stream.chunk_pool.get()
        for letter in b"abc":
            buffer[:] = bytes([letter]) * 4
            await stream.write(buffer)
        stream.chunk_pool.put(buffer)
    assert await store.get_bytes("box", "k") == b"aaaabbbbcccc"


@pytest.mark.parametrize("wrong", ["text", None, 7, ["list"]])
async def test_what_holds_no_bytes_is_refused(store: Trove, wrong: Any) -> None:
    stream = await store.stream("box", "k", UP)
    await stream.start()
    with pytest.raises(TypeError):
        await stream.write(wrong)
    assert stream.state is StreamState.ACTIVE
    await stream.cancel()


@pytest.mark.parametrize(
    ("direction", "options"),
    [
        (UP, {"colour": "red"}),
        (UP, {"range": slice(0, 1)}),
        (DOWN, {"content_type": "text/plain"}),
        (DOWN, {"total_size": 1}),
        (StreamDirection.BIDI, {"resumable": True}),
    ],
)
async def test_an_option_without_an_effect_is_refused(
    store: Trove, direction: StreamDirection, options: dict[str, Any]
) -> None:
    with pytest.raises(TypeError):
        await store.stream("box", "k", direction, **options)
    for limits in ({"chunk_size": 0}, {"queue_size": 0}, {"buffer_limit": -1}):
        with pytest.raises(ValueError):
            await store.stream("box", "k", direction, **limits)  # type: ignore[arg-type]
    assert store.pool.active_count == 0
