"""What a full queue does: each policy's rule and its promise."""

from __future__ import annotations

import asyncio
import os

import pytest

from tests.stream.clock import in_clockwork
from tests.stream.gate import Gate, turns
from trove_async import (
    Backpressure,
    BackpressureError,
    Chunk,
    StreamDirection,
    StreamResult,
    StreamState,
    Trove,
)
from trove_async.middleware import Encrypt, Keyring
from trove_async.stream.policy import Adaptive
from trove_async.stream.spool import Spool
from trove_async.testing.leaks import Baseline

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD


async def test_block_makes_the_writer_wait(store: Trove, gate: Gate) -> None:
    async with store.stream("box", "k", UP, queue_size=2) as stream:
        await stream.write(b"1")
        await stream.write(b"2")
        third = asyncio.create_task(stream.write(b"3"))
        await turns()
        assert not third.done()
        gate.open()
        await third
    assert await store.get_bytes("box", "k") == b"123"


async def test_drop_gives_up_the_oldest_that_nobody_has_taken(store: Trove, gate: Gate) -> None:
    told: list[Chunk] = []
    async with store.stream(
        "box", "k", UP, queue_size=2, backpressure=Backpressure.DROP, on_chunk=told.append
    ) as stream:
        gate.let(1)
        await stream.write(b"0")
        await turns()  # the driver has it
        for number in range(1, 7):
            await stream.write(b"%d" % number)
        assert [(c.index, c.data) for c in told if c.dropped] == [
            (1, b"1"),
            (2, b"2"),
            (3, b"3"),
            (4, b"4"),
        ]
        gate.open()
    assert await store.get_bytes("box", "k") == b"056"
    assert isinstance(stream.info, StreamResult)
    assert stream.info.dropped == stream.dropped == stream.metrics().dropped == 4
    assert stream.metrics().bytes_sent == 3


@pytest.mark.parametrize("options", [{"resumable": True}, {"session": "upl_x"}])
async def test_drop_is_refused_where_every_byte_counts(
    store: Trove, options: dict[str, bool]
) -> None:
    with pytest.raises(BackpressureError):
        await store.stream("box", "k", UP, backpressure=Backpressure.DROP, **options)  # type: ignore[arg-type]
    with pytest.raises(BackpressureError):
        await store.stream(
            "box", "k", UP, backpressure=Backpressure.DROP, checksum="sha256:" + "0" * 64
        )


async def test_buffer_runs_ahead_and_loses_nothing(store: Trove, gate: Gate) -> None:
    before = Baseline.now()
    pieces = [os.urandom(1000) for _ in range(200)]
    async with store.stream(
        "box",
        "k",
        UP,
        queue_size=2,
        chunk_size=1000,
        buffer_memory=10_000,
        backpressure=Backpressure.BUFFER,
    ) as stream:
        for piece in pieces:
            await stream.write(piece)  # nobody takes any
        assert stream.metrics().bytes_sent == 0
        grown = [line for line in before.grown() if line.startswith("descriptor")]
        assert len(grown) == 1, "one file"
        assert "/tmp" in grown[0]
        gate.open()
    assert await store.get_bytes("box", "k") == b"".join(pieces)
    before.check()


async def test_buffer_is_bounded(store: Trove, gate: Gate) -> None:
    options = {"queue_size": 2, "chunk_size": 10, "buffer_memory": 30, "buffer_limit": 50}
    async with store.stream(
        "box",
        "k",
        UP,
        backpressure=Backpressure.BUFFER,
        **options,  # type: ignore[arg-type]
    ) as stream:
        for _ in range(2 + 3 + 5):
            await stream.write(bytes(10))
        one_more = asyncio.create_task(stream.write(bytes(10)))
        await asyncio.sleep(0.05)
        assert not one_more.done()
        gate.open()
        await one_more
    assert stream.info is not None
    assert stream.info.size == 110


async def test_no_plaintext_goes_into_a_file_where_a_layer_encrypts(
    store: Trove, gate: Gate
) -> None:
    before = Baseline.now()
    store.use(Encrypt(Keyring.generate()))
    async with store.stream(
        "box",
        "k",
        UP,
        queue_size=1,
        chunk_size=100,
        buffer_memory=300,
        backpressure=Backpressure.BUFFER,
    ) as stream:
        for _ in range(4):
            await stream.write(bytes(100))
        waits = asyncio.create_task(stream.write(bytes(100)))
        await asyncio.sleep(0.05)
        assert not waits.done()
        before.check()
        gate.open()
        await waits
    assert await store.get_bytes("box", "k") == bytes(500)


async def test_a_spool_uses_its_rooms_again_and_keeps_the_order() -> None:
    before = Baseline.now()
    spool = Spool(room=8, limit=24)
    given, taken = 0, []
    for _ in range(20):
        while not spool.is_full:
            await spool.push(Chunk(given, given * 8, b"%08d" % given))
            given += 1
        for _ in range(2):
            chunk = await spool.pop()
            assert chunk is not None
            taken.append(bytes(chunk.data))
    assert taken == [b"%08d" % number for number in range(40)]
    await spool.close()
    await spool.close()
    before.check()


async def test_closing_a_spool_ends_though_who_wrote_has_not_gone_on_yet() -> None:
    before = Baseline.now()
    spool = Spool(room=1 << 20, limit=4 << 20)
    pushing = asyncio.create_task(spool.push(Chunk(0, 0, bytes(1 << 20))))
    await asyncio.sleep(0)
    closing: list[asyncio.Task[None]] = []
    (job,) = spool._jobs
    job.add_done_callback(lambda job: closing.append(asyncio.create_task(spool.close())))
    pushing.cancel()  # it waits for its worker still, and is woken after `closing`
    await asyncio.wait([pushing])
    await asyncio.gather(*closing)
    assert pushing.cancelled()
    before.check()


def test_adaptive_follows_the_consumer_between_its_bounds() -> None:
    policy = Adaptive(8 << 20)
    for _ in range(20):
        policy.observe(policy.chunk_size, policy.chunk_size / 1e6)  # 1 MB/s
    assert policy.chunk_size == 64 << 10, "never less"
    for _ in range(20):
        policy.observe(policy.chunk_size, policy.chunk_size / 40e6)  # 40 MB/s
    assert 1.9e6 < policy.chunk_size < 2.1e6, "0.05 s of its work"
    for _ in range(30):
        policy.observe(policy.chunk_size, 0)
    assert policy.chunk_size == 8 << 20, "never more than was configured"
    assert Adaptive(100).chunk_size == 100


@pytest.mark.parametrize("rate", [1e6, 20e6])
def test_an_adaptive_download_gives_chunks_of_its_readers_pace(rate: float) -> None:
    async def work() -> list[int]:
        import trove_async as trove

        sizes = []
        async with trove.open("mem://", checksum=None) as store:
            await store.create_bucket("box")
            await store.put("box", "k", bytes(64 << 20))
            async with store.stream(
                "box", "k", DOWN, backpressure=Backpressure.ADAPTIVE, queue_size=4
            ) as stream:
                async for chunk in stream:
                    sizes.append(len(chunk.data))
                    await asyncio.sleep(len(chunk.data) / rate)
        assert stream.state is StreamState.COMPLETED
        assert sum(sizes) == 64 << 20
        return sizes

    sizes = in_clockwork(work())
    settled = sizes[len(sizes) // 2]
    assert settled == (64 << 10) if rate == 1e6 else 0.9e6 < settled < 1.1e6


@pytest.mark.parametrize("policy", Backpressure)
async def test_a_download_is_whole_under_every_policy_but_drop(
    store: Trove, policy: Backpressure
) -> None:
    body = os.urandom(100_003)
    await store.put("box", "k", body)
    async with store.stream(
        "box", "k", DOWN, backpressure=policy, chunk_size=1000, queue_size=2, buffer_memory=5000
    ) as stream:
        got = []
        async for chunk in stream:
            assert body[chunk.offset : chunk.offset + len(chunk.data)] == chunk.data
            got.append(chunk)
            if chunk.index % 7 == 0:
                await asyncio.sleep(0)
    lost = stream.dropped
    assert bool(lost) == (policy is Backpressure.DROP)
    assert len(got) + lost == 101
    if not lost:
        assert b"".join(bytes(chunk.data) for chunk in got) == body
