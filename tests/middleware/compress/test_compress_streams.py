"""Streams of frames end, stop early, fail and are cancelled; nothing stays behind, neither
a task nor a job in the pool."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import wait
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial

import pytest

import trove_async as trove
from tests.core.layers import Source
from tests.middleware.compress.conftest import jobs_under_way, some_jobs
from tests.middleware.compress.zst import Below, every, layout_of, noise, read, text, written
from trove_async import Chunks, Context
from trove_async._threads import CORES, cpu_pool
from trove_async.middleware.compress import Compress
from trove_async.middleware.compress.ordered import UNDER_WAY, ordered

pytestmark = pytest.mark.usefixtures("nothing_under_way")

FRAME = 200_000  # too large to be made or decoded on the loop
DATA = text(FRAME * 12)
PIECES = [DATA[at : at + 50_000] for at in range(0, len(DATA), 50_000)]
LAYER = every(frame_size=FRAME, growth_after=0)


@pytest.fixture
async def stored() -> bytes:
    return (await written(LAYER, DATA)).stored


def cut(data: bytes, size: int = 5000) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


async def opened(kind: str, source: Source, stored: bytes) -> Chunks:
    """Any of the three streams of the layer over ``source``."""
    if kind == "write":
        return await LAYER.write(source, Context("put", "box", "k"))
    if kind == "read":
        return await LAYER.read(source, Context("get", "box", "k"))
    return (await layout_of(LAYER, stored)).read(OneSource(source, len(stored)), 0, len(DATA))


class OneSource:
    """A RangeSource whose one span is ``source``."""

    def __init__(self, source: Source, size: int) -> None:
        self.size = size
        self._source = source

    def read(self, start: int, stop: int) -> Chunks:
        return self._source


def source_of(kind: str, stored: bytes, **options: object) -> Source:
    end = len(stored) - 60 - (8 * 14 + 17)
    chunks = {"write": PIECES, "read": cut(stored), "range": cut(stored[24:end])}[kind]
    return Source(chunks, **options)  # type: ignore[arg-type]


KINDS = pytest.mark.parametrize("kind", ["write", "read", "range"])


@KINDS
async def test_to_the_end(kind: str, stored: bytes) -> None:
    source = source_of(kind, stored)
    async with aclosing(source), aclosing(await opened(kind, source, stored)) as stream:
        given = b"".join([bytes(chunk) async for chunk in stream])
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert given == (stored if kind == "write" else DATA)
    assert source.closed >= 1


@KINDS
@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_the_consumer_stops_early(kind: str, taken: int, stored: bytes) -> None:
    source = source_of(kind, stored)
    async with aclosing(source):
        stream = await opened(kind, source, stored)
        for _ in range(taken):
            assert await anext(stream)
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    if kind == "range":
        assert source.closed == 1 + bool(taken), "what the layout opened it closed itself"


@KINDS
@pytest.mark.parametrize("at", [0, 1, 20])
async def test_the_source_fails(kind: str, at: int, stored: bytes) -> None:
    source = source_of(kind, stored, at=at, error=OSError("gone"))
    async with aclosing(source):
        with pytest.raises(OSError, match="gone"):
            async with aclosing(await opened(kind, source, stored)) as stream:
                async for _ in stream:
                    pass


@KINDS
@pytest.mark.parametrize("at", [0, 1, 20])
async def test_it_is_cancelled_while_the_source_waits(kind: str, at: int, stored: bytes) -> None:
    source = source_of(kind, stored, at=at)

    async def consume() -> None:
        async with aclosing(source), aclosing(await opened(kind, source, stored)) as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(consume())
    await source.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed >= 1


@contextmanager
def full_pool() -> Iterator[threading.Event]:
    """Nothing that is given to the pool runs before the event is set."""
    release = threading.Event()
    blockers = [cpu_pool().submit(release.wait) for _ in range(CORES)]
    try:
        yield release
    finally:
        release.set()
        wait(blockers)


@asynccontextmanager
async def another_stream() -> AsyncIterator[None]:
    """Open for as long, so that none other has the loop's help; it has no job in the pool."""
    source = Source(PIECES)
    layer = every(frame_size=16_384, growth_after=0)
    async with aclosing(source), aclosing(await layer.write(source, Context("put", "b", "k"))) as s:
        for _ in range(2):
            await anext(s)
        yield


@KINDS
async def test_one_alone_is_done_by_the_loop_when_the_pool_is_full(
    kind: str, stored: bytes
) -> None:
    source = source_of(kind, stored)
    async with aclosing(source):
        first = b""
        if kind == "write":  # its decision makes a frame in the pool
            stream = await opened(kind, source, stored)
            first = bytes(await anext(stream))
        with full_pool():
            if kind != "write":
                stream = await opened(kind, source, stored)
            async with aclosing(stream):
                given = first + b"".join([bytes(chunk) async for chunk in stream])
            assert given == (stored if kind == "write" else DATA)


@KINDS
async def test_it_is_cancelled_while_its_jobs_wait(kind: str, stored: bytes) -> None:
    source = source_of(kind, stored)

    async def consume(stream: Chunks) -> None:
        async with aclosing(stream):
            async for _ in stream:
                pass

    async with aclosing(source), another_stream():
        stream = await opened(kind, source, stored)
        with full_pool():
            before = len(jobs_under_way())
            task = asyncio.create_task(consume(stream))
            await some_jobs(before)
            await asyncio.sleep(0.05)
            assert not task.done(), "with another stream open it waits for the pool"
            assert len(jobs_under_way()) - before <= CORES, "as many as there are workers"
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(jobs_under_way()) == before, "what has not begun is taken back"


async def test_the_window_of_jobs_that_wait_is_bounded() -> None:
    pulled = 0

    async def jobs() -> AsyncGenerator[tuple[int, Callable[[], int]], None]:
        nonlocal pulled
        for number in range(4 * UNDER_WAY):
            pulled += 1
            yield 1, partial(int, number)

    async def taken() -> list[int]:
        async with aclosing(ordered(jobs(), 0, 0)) as results:
            return [result async for result in results]

    with full_pool() as release:
        task = asyncio.create_task(taken())
        for _ in range(1000):
            await asyncio.sleep(0)
        assert pulled == UNDER_WAY
        release.set()
        assert await task == [*range(4 * UNDER_WAY)]


async def test_the_decision_is_cancelled_while_its_frame_is_made() -> None:
    source = Source(PIECES)
    async with aclosing(source):
        with full_pool():
            before = len(jobs_under_way())
            task = asyncio.ensure_future(LAYER.write(source, Context("put", "box", "k")))
            await some_jobs(before)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(jobs_under_way()) == before


async def test_a_corrupt_frame_ends_the_jobs_of_those_after_it(stored: bytes) -> None:
    broken = bytearray(stored)
    broken[stored.index(b"\x28\xb5\x2f\xfd", 30) + 500] ^= 1
    with pytest.raises(trove.CorruptFrameError):
        source = source_of("read", bytes(broken))
        async with aclosing(source), aclosing(await opened("read", source, b"")) as stream:
            async for _ in stream:
                pass


@pytest.mark.parametrize("kind", ["write", "read"])
async def test_a_consumer_that_waits_holds_the_source_back(kind: str, stored: bytes) -> None:
    frames = 400
    data = bytes(FRAME * frames)
    if kind == "write":
        source = Source([data[:FRAME]] * frames)
        limit = 2 * CORES + 2 + 4
    else:
        source = Source(cut((await written(LAYER, data)).stored, 20))
        limit = INLINE_PIECES + 3 * (CORES + 3)
    async with aclosing(source), aclosing(await opened(kind, source, stored)) as stream:
        await anext(stream)
        assert source.given <= limit
        await asyncio.sleep(0.05)
        assert source.given <= limit


INLINE_PIECES = 128 * 1024 // 20 + 1  # a read looks first whether it has a small object at hand


async def test_a_body_given_in_a_reused_buffer_is_kept_right() -> None:
    """A chunk belongs to the layer only until it asks for the next one."""

    async def reused(data: bytes) -> AsyncGenerator[memoryview, None]:
        buffer = bytearray(30_000)
        for at in range(0, len(data), len(buffer)):
            piece = data[at : at + len(buffer)]
            buffer[: len(piece)] = piece
            yield memoryview(buffer)[: len(piece)]
            buffer[:] = bytes(len(buffer))

    async with aclosing(reused(DATA)) as body:
        stream = await LAYER.write(body, Context("put", "box", "k"))
        async with aclosing(stream):
            stored = b"".join([bytes(chunk) async for chunk in stream])
    async with aclosing(reused(stored)) as body:
        stream = await LAYER.read(body, Context("get", "box", "k"))
        async with aclosing(stream):
            assert b"".join([bytes(chunk) async for chunk in stream]) == DATA
    async with aclosing(reused(noise(100_000))) as body:
        stream = await Compress(frame_size=FRAME).write(body, Context("put", "box", "k"))
        assert b"".join([bytes(chunk) async for chunk in stream]) == noise(100_000)


async def test_many_streams_at_once_keep_apart() -> None:
    async def one(salt: int) -> None:
        data = text(FRAME * 3 + salt, salt)
        stored = (await written(LAYER, data, [70_000])).stored
        layout = await layout_of(LAYER, stored)
        below = Below(stored, 3000)
        async with aclosing(layout.read(below, salt, len(data))) as chunks:
            assert b"".join([bytes(chunk) async for chunk in chunks]) == data[salt:]
        assert below.open == 0

    await asyncio.gather(*(one(salt) for salt in range(10)))


async def test_others_have_their_turn_while_small_frames_pass_without_a_wait() -> None:
    turns = 0

    async def tick() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    layer = every(frame_size=16_384, growth_after=0)
    data = bytes(24 << 20)
    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    stored = (await written(layer, data)).stored
    assert turns > 4
    turns = 0
    assert await read(layer, stored) == data
    assert turns > 4
    ticking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ticking


# -- through a store ---------------------------------------------------------------------


async def test_a_put_that_fails_or_is_cancelled_publishes_nothing() -> None:
    async with trove.open("mem://", middleware=[LAYER]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"old")
        failing = Source(PIECES, at=20, error=OSError("gone"))
        with pytest.raises(OSError, match="gone"):
            await store.put("box", "k", failing)
        assert failing.closed == 1
        waiting = Source(PIECES, at=20)
        task = asyncio.create_task(store.put("box", "k", waiting))
        await waiting.waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert waiting.closed == 1
        assert await store.get_bytes("box", "k") == b"old"
        with pytest.raises(trove.TruncatedError):
            await store.put("box", "k", Source(PIECES), size=len(DATA) + 1)
        with pytest.raises(trove.ChecksumMismatchError):
            await store.put("box", "k", Source(PIECES), checksum="sha256:" + "0" * 64)
        assert await store.get_bytes("box", "k") == b"old"


async def test_a_reader_that_is_left_early_closes_what_it_read() -> None:
    async with trove.open("mem://", middleware=[LAYER]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", DATA)
        async with store.get("box", "k") as reader:
            assert DATA.startswith(await reader.read(1000))
        async with store.get("box", "k", range=slice(FRAME, None)) as reader:
            async for _ in reader:
                break


# -- memory ------------------------------------------------------------------------------

MEMORY = """
import asyncio, sys
from contextlib import aclosing
from trove_async import Context
from trove_async.middleware.compress import Compress
from trove_async.middleware.compress.ordered import UNDER_WAY, ordered

MiB = 1 << 20
layer = Compress(growth_after=int(sys.argv[2]))

def resident(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024

block = b"".join(b'{"id":%09d,"of":"user-%05d"}\\n' % (i, i * 7919 % 100000) for i in range(40000))
block = block[:MiB]

async def source(size):
    for i in range(size):
        yield i.to_bytes(8, "little") + block[8:]

async def through(size):
    context = Context("put", "box", "k")
    body = source(size)
    async with aclosing(body), aclosing(await layer.write(body, context)) as packed:
        async with aclosing(await layer.read(packed, Context("get", "box", "k"))) as plain:
            return sum([len(chunk) async for chunk in plain])

assert asyncio.run(through(24)) == 24 * MiB
before = resident("VmRSS")
size = int(sys.argv[1])
assert asyncio.run(through(size)) == size * MiB
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize(("size", "growth_after"), [(256, 4096), (160, 4)])
def test_memory_is_flat_however_long_the_stream(size: int, growth_after: int) -> None:
    """Written and read at once: the frames under way of both, and no more. With a growth after
    16 frames the most part of it are the largest frames there are, of 16 MiB."""
    command = [sys.executable, "-c", MEMORY, str(size), str(growth_after)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    grown = float(found.stdout)
    print(f"{size} MiB, growth after {growth_after}: {grown:.0f} MiB more")
    assert grown < (32 if growth_after == 4096 else 224)
