"""Sealing and opening as streams: to the end, stopped early, failing, cancelled; frames that go
to a worker; memory."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source
from tests.middleware.encrypt.sealing import (
    Pieces,
    cut_up,
    drain,
    keyring,
    now,
    plain,
    reading,
    seal,
    unseal,
    writing,
)
from trove_async import RetryPolicy, Trove, UnavailableError
from trove_async.errors import FormatLimitError, FrameAuthError, TruncatedError
from trove_async.middleware.encrypt import Encrypt, streams
from trove_async.middleware.encrypt.frames import FrameWriter
from trove_async.middleware.encrypt.message import MOST_FRAMES, parse_header
from trove_async.testing.stepper import Step, cancel_everywhere

MiB = 1024 * 1024
SMALL = Encrypt(keyring(), frame_size=128)
LARGE = Encrypt(keyring(), frame_size=2 * MiB)
"""Its frames go to a worker."""
BODY = plain(5 * MiB + 77)
LAYERS = [pytest.param(SMALL, 1000, id="inline"), pytest.param(LARGE, 5 * MiB, id="in a worker")]


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    layers = [Encrypt(keyring(), frame_size=1024)]
    retry = RetryPolicy(attempts=1)
    async with trove.open("mem://", middleware=layers, default_bucket="box", retry=retry) as opened:
        await opened.create_bucket("box")
        await opened.put(None, "k", b"old")
        yield opened


async def pulled(chunks: Any) -> bytes:
    return b"".join([bytes(chunk) async for chunk in chunks])


# -- both ways, in four ways --------------------------------------------------------------


@pytest.mark.parametrize(("layer", "size"), LAYERS)
async def test_to_the_end(layer: Encrypt, size: int) -> None:
    body = BODY[:size]
    source = Source(cut_up(body, [size // 3, 7, size // 2]))
    sealed = await layer.write(source, writing(size))
    message = await pulled(sealed)
    await sealed.aclose()
    await sealed.aclose()
    opened = await layer.read(Source(cut_up(message, [size // 4, 1, size])), reading())
    assert await pulled(opened) == body
    await opened.aclose()
    assert source.closed == 0, "the level below belongs to the chain"


@pytest.mark.parametrize(("layer", "size"), LAYERS)
async def test_the_consumer_stops_early(layer: Encrypt, size: int) -> None:
    body = BODY[:size]
    sealed = await layer.write(Source(cut_up(body, [size // 3])), writing(size))
    await anext(sealed)
    await anext(sealed)
    await sealed.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(sealed)
    message = seal_in_loop(layer, body)
    opened = await layer.read(Source(cut_up(await message, [size // 3])), reading())
    assert body.startswith(await anext(opened))
    await opened.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(opened)


async def seal_in_loop(layer: Encrypt, body: bytes) -> bytes:
    return await pulled(await layer.write(Pieces([body]), writing(len(body))))


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize(("layer", "size"), LAYERS)
async def test_the_source_fails(layer: Encrypt, size: int, at: int) -> None:
    pieces = cut_up(BODY[:size], [size // 3 + 1])
    error = OSError("the disk is gone")
    sealed = await layer.write(Source(pieces, at=at, error=error), writing(size))
    with pytest.raises(OSError, match="gone") as info:
        await pulled(sealed)
    assert info.value is error
    await sealed.aclose()
    message = await seal_in_loop(layer, BODY[:size])
    source = Source(cut_up(message, [len(message) // 3 + 1]), at=at, error=error)
    with pytest.raises(OSError, match="gone"):
        opened = await layer.read(source, reading())
        await pulled(opened)


@pytest.mark.parametrize(("layer", "size"), LAYERS)
async def test_a_cancel_anywhere(layer: Encrypt, size: int) -> None:
    """The source waits once per chunk, a worker's frame once."""
    message = await seal_in_loop(layer, BODY[:size])

    async def slowly(data: bytes) -> AsyncGenerator[bytes, None]:
        for piece in cut_up(data, [len(data) // 3]):
            await asyncio.sleep(0)
            yield piece

    async def there_and_back() -> bytes:
        sealed = await layer.write(slowly(BODY[:size]), writing(size))
        opened = await layer.read(slowly(message), reading())
        try:
            await pulled(sealed)
            return await pulled(opened)
        finally:
            await sealed.aclose()
            await opened.aclose()

    async def check(step: Step) -> None:
        assert step.cancelled and step.error is None, str(step)

    points = await cancel_everywhere(there_and_back, check=check)
    assert points >= 6


async def test_a_cancelled_put_leaves_the_old_object(store: Trove) -> None:
    pieces = cut_up(plain(20_000), [3000])

    async def slowly() -> AsyncGenerator[bytes, None]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    async def check(step: Step) -> None:
        assert await store.get_bytes(None, "k") in (b"old", plain(20_000))

    await cancel_everywhere(lambda: store.put(None, "k", slowly()), check=check)


@pytest.mark.parametrize("at", [0, 1, 3])
async def test_a_put_whose_source_fails_leaves_the_old_object(store: Trove, at: int) -> None:
    source = Source(cut_up(plain(4000), [1000]), at=at, error=OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        await store.put(None, "k", source)
    assert source.closed == 1
    assert await store.get_bytes(None, "k") == b"old"


async def test_a_reader_closed_early_closes_what_is_below() -> None:
    faulty = Faulty()
    layers = [Encrypt(keyring(), frame_size=1024)]
    async with trove.open(faulty, middleware=layers, default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", plain(50_000))
        async with store.get(None, "k") as reader:
            await reader.read(10)
        async with store.get(None, "k", range=slice(1000, 9000)) as reader:
            await reader.read(10)
        assert faulty.unclosed == 0


async def test_a_body_that_breaks_is_resumed_below_the_cipher() -> None:
    faulty = Faulty()
    layers = [Encrypt(keyring(), frame_size=1024)]
    async with trove.open(
        faulty, middleware=layers, default_bucket="box", retry=RetryPolicy(base=0.0001)
    ) as store:
        await store.create_bucket("box")
        await store.put(None, "k", plain(50_000))
        faulty.body(20_001)
        assert await store.get_bytes(None, "k") == plain(50_000)
        assert faulty.verbs().count("get") == 2
        faulty.body(20_001, "corrupt")
        with pytest.raises(FrameAuthError):
            await store.get_bytes(None, "k")
        faulty.fail("get", UnavailableError("later"))
        assert await store.get_bytes(None, "k") == plain(50_000)


# -- workers and turns of the loop --------------------------------------------------------


async def test_large_frames_are_sealed_and_opened_in_a_worker() -> None:
    names: set[str] = set()

    def noting(pieces: Iterator[Any]) -> Iterator[Any]:
        for piece in pieces:
            names.add(threading.current_thread().name)
            yield piece

    for frame, expected in ((MiB, "trove-cpu"), (MiB // 2, "MainThread")):
        names.clear()
        async for _ in streams.stepped(noting(iter([b"a", b"b"])), frame):
            pass
        assert all(name.startswith(expected) for name in names), names


async def test_a_large_chunk_gives_the_loop_its_turns() -> None:
    """A body that never waits does not keep others waiting for long."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(others())
    layer = Encrypt(keyring())
    message = await seal_in_loop(layer, bytes(32 * MiB))
    sealing, turns = turns, 0
    await pulled(await layer.read(Pieces([message]), reading()))
    other.cancel()
    await asyncio.wait([other])
    assert min(sealing, turns) >= 10


# -- limits -------------------------------------------------------------------------------


def test_nonces_within_a_message_are_the_numbers_of_its_frames() -> None:
    """S42: the header has 0, frames count from 1, so no nonce comes twice under one key."""
    message = seal(SMALL, BODY[: 128 * 5000 + 1], cut_up(BODY[: 128 * 5000 + 1], [100, 5000]))
    start = parse_header(message).length
    seen = {0}
    for number in range(1, 5001):
        frame = message[start + (number - 1) * 160 : start + number * 160]
        assert int.from_bytes(frame[:4], "big") == int.from_bytes(frame[4:16], "big") == number
        seen.add(number)
    last = message[start + 5000 * 160 :]
    assert last[:4] == b"\xff\xff\xff\xff"
    assert int.from_bytes(last[8:20], "big") == 5001 not in seen


def test_a_message_has_no_more_frames_than_there_are_numbers() -> None:
    writer = FrameWriter(AESGCM(bytes(32)), bytes(32), 128)
    writer.number = MOST_FRAMES - 1
    (sealed,) = writer.feed(bytes(129))
    assert sealed[:4] == b"\xff\xff\xff\xfe"
    with pytest.raises(FormatLimitError):
        list(writer.feed(bytes(256)))
    assert writer.number == MOST_FRAMES
    assert writer.finish()[4:8] == b"\xff\xff\xff\xff"


def test_a_body_too_large_for_its_frames_is_refused_at_once() -> None:
    source = Source([b"x"])
    now(SMALL.write(source, writing(128 * MOST_FRAMES)))
    with pytest.raises(FormatLimitError):
        now(SMALL.write(source, writing(128 * MOST_FRAMES + 1)))
    assert source.given == 0


def test_a_failed_frame_ends_the_stream() -> None:
    message = bytearray(seal(SMALL, plain(1000)))
    message[-1] ^= 1
    stream = now(SMALL.read(Pieces(cut_up(bytes(message), [300])), reading()))
    with pytest.raises(FrameAuthError):
        drain(stream)
    assert drain(stream) == []


def test_the_last_bytes_wait_for_the_end_of_the_message() -> None:
    """Nothing of the last frame is given before it is known that nothing follows."""
    message = seal(SMALL, plain(1000))
    body = Pieces([message[:-1], message[-1:]])
    found: list[bytes] = []
    with pytest.raises(TruncatedError):
        unseal(SMALL, b"", [message[:-1]], found)
    assert b"".join(found) == plain(896)
    stream = now(SMALL.read(body, reading()))
    assert b"".join(drain(stream)) == plain(1000)


# -- memory -------------------------------------------------------------------------------


async def flowing(size: int, chunk: int) -> AsyncGenerator[bytes, None]:
    block = bytes(chunk)
    for _ in range(size // chunk):
        yield block


@pytest.mark.parametrize(
    "layer", [Encrypt(keyring()), LARGE], ids=["64 KiB frames", "2 MiB frames"]
)
async def test_memory_stays_flat_over_256_mib(layer: Encrypt) -> None:
    """A few frames and batches, whatever the size of the object."""
    tracemalloc.start()
    try:
        sealed = await layer.write(flowing(256 * MiB, MiB), writing(256 * MiB))
        opened = await layer.read(sealed, reading())
        size = 0
        async for piece in opened:
            size += len(piece)
        assert size == 256 * MiB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * MiB
