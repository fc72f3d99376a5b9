"""B. Bodies: every kind and size, and what happens to the old object when one breaks."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Self

from trove_async.driver import MultipartDriver, PutOptions
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    IntegrityError,
    InvalidInputError,
)
from trove_async.model import MiB
from trove_async.testing.case import Deliberate, DeliberateExit, case
from trove_async.testing.harness import Harness

KiB = 1024


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no layer can shrink."""
    return random.Random(seed).randbytes(size)


async def pieces(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def spoilt(good: int, error: BaseException) -> AsyncIterator[bytes]:
    """``good`` chunks, then an error."""
    for number in range(good):
        yield b"%d" % number * 10
    raise error


async def nothing_staged(h: Harness) -> None:
    """No object and no unfinished upload is left of what failed."""
    multipart = h.capable(MultipartDriver)
    if multipart is not None:
        assert await multipart.list_uploads(h.bucket, "") == [], "an unfinished upload is left"


class Counted:
    """An async iterator that counts how often it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.closed = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if not self._chunks:
            raise StopAsyncIteration
        return self._chunks.pop(0)

    async def aclose(self) -> None:
        self.closed += 1


class CountedPlain:
    """The same, not async: a generator's ``close``."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.closed = 0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if not self._chunks:
            raise StopIteration
        return self._chunks.pop(0)

    def close(self) -> None:
        self.closed += 1


class AsyncFile:
    """What aiofiles and HTTP clients give."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    async def read(self, n: int = -1) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(n)


@case("K038", "body_empty")
async def body_empty(h: Harness) -> None:
    for body in (b"", pieces()):
        info = await h.put("k", body)
        assert info.size == 0
        assert await h.get("k") == b""
        async with h.store.get(h.bucket, "k") as reader:
            assert [chunk async for chunk in reader] == [], "a chunk is never empty"
        assert (await h.store.head(h.bucket, "k")).size == 0


@case("K039", "body_one_byte")
async def body_one_byte(h: Harness) -> None:
    assert (await h.put("k", b"x")).size == 1
    assert await h.get("k") == b"x"


@case("K040", "body_chunk_boundary", params=[-1, 0, 1])
async def body_chunk_boundary(h: Harness, off: int) -> None:
    """Around the chunk size, twice it, and the part size; whole and streamed."""
    chunk = 64 * KiB
    part = max(h.features.min_part_size or 0, 4 * chunk)
    store = await h.make_store(chunk_size=chunk)
    bucket = await h.new_bucket(store)
    for size in (chunk + off, 2 * chunk + off, part + off, 2 * part + off):
        body = noise(size, size)
        streamed = pieces(body[: size // 3], body[size // 3 :])
        for source in (body, streamed):
            info = await store.put(bucket, "k", source, part_size=part)
            assert info.size == size
            found = hashlib.sha256()
            async with store.get(bucket, "k") as reader:
                async for piece in reader:
                    assert len(piece), "a chunk is never empty"
                    found.update(piece)
            assert found.digest() == hashlib.sha256(body).digest(), f"{size} bytes came back wrong"


@case("K041", "body_empty_chunks_in_iterator")
async def body_empty_chunks_in_iterator(h: Harness) -> None:
    await h.put("k", pieces(b"", b"a", b"", b"", b"b", b""))
    assert await h.get("k") == b"ab"
    await h.put("k", [b"", b"c", b"", b"d"])
    assert await h.get("k") == b"cd"


@case("K042", "body_one_byte_chunks")
async def body_one_byte_chunks(h: Harness) -> None:
    body = noise(10_000)
    await h.put("k", pieces(*(body[i : i + 1] for i in range(len(body)))))
    assert await h.get("k") == body


@case("K043", "body_giant_single_chunk")
async def body_giant_single_chunk(h: Harness) -> None:
    body = noise(MiB) * 64
    info = await h.put("k", pieces(body))
    assert info.size == len(body)
    assert await h.get("k") == body


@case("K044", "body_unknown_length")
async def body_unknown_length(h: Harness) -> None:
    body = noise(300 * KiB)
    info = await h.put("k", pieces(body[:1000], body[1000:]))
    assert info.size == len(body)
    assert (await h.store.head(h.bucket, "k")).size == len(body)
    assert await h.get("k") == body


def _generator(data: bytes) -> Iterator[bytes]:
    yield data[:1]
    yield data[1:]


_KINDS: dict[str, Callable[[bytes], object]] = {
    "bytes": lambda data: data,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "memoryview_of_words": lambda data: memoryview(data).cast("I"),
    "list": lambda data: [data[:3], bytearray(data[3:7]), memoryview(data)[7:]],
    "generator": _generator,
    "async_generator": lambda data: pieces(data[:1], data[1:]),
    "bytesio": io.BytesIO,
    "async_file": AsyncFile,
}


@case("K046", "body_types", params=_KINDS)
async def body_types(h: Harness, make: Callable[[bytes], object]) -> None:
    body = noise(40_000)
    assert (await h.put("k", make(body))).size == len(body)
    assert await h.get("k") == body


@case("K046", "body_of_files")
async def body_of_files(h: Harness) -> None:
    body = noise(200_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "body")
        path.write_bytes(body)
        await h.put("path", path)
        with path.open("rb") as file:  # noqa: ASYNC230 -- a caller's own file
            file.seek(1000)
            await h.put("file", file)
    assert await h.get("path") == body
    assert await h.get("file") == body[1000:], "a file is read from where it stands"


@case("K046", "body_of_a_reader")
async def body_of_a_reader(h: Harness) -> None:
    body = noise(200_000)
    await h.put("a", body)
    async with h.store.get(h.bucket, "a") as reader:
        await h.put("b", reader)
    assert await h.get("b") == body


_NO_BODIES: dict[str, object] = {
    "str": "text",
    "none": None,
    "text_file": io.StringIO("text"),
    "int": 5,
    "object": object(),
}


@case("K046", "body_types_refused", params=_NO_BODIES)
async def body_types_refused(h: Harness, body: object) -> None:
    before = h.calls
    with h.raises(TypeError):
        await h.put("k", body)
    assert h.calls == before, "the driver was asked"
    assert await h.keys() == []


@case("K047", "body_mutable_buffer_reused")
async def body_mutable_buffer_reused(h: Harness) -> None:
    async def reusing() -> AsyncIterator[bytearray]:
        buffer = bytearray(1000)
        for number in range(200):
            buffer[:] = bytes([number]) * 1000
            yield buffer
        buffer[:] = b"!" * 1000

    await h.put("k", reusing())
    assert await h.get("k") == b"".join(bytes([number]) * 1000 for number in range(200))


@case("K047", "body_buffer_changed_after_put")
async def body_buffer_changed_after_put(h: Harness) -> None:
    """The caller's buffer is his own again once put has returned."""
    buffer = bytearray(b"a" * 5000)
    await h.put("k", buffer)
    buffer[:] = b"b" * 5000
    assert await h.get("k") == b"a" * 5000


@case("K048", "body_wrong_chunk_type", params={"str": "text", "none": None, "int": 7})
async def body_wrong_chunk_type(h: Harness, wrong: object) -> None:
    async def mixed() -> AsyncIterator[object]:
        yield b"good" * 100
        yield wrong

    await h.put("k", b"old")
    with h.raises(TypeError):
        await h.put("k", mixed())
    assert await h.get("k") == b"old"
    await nothing_staged(h)


async def _wrong_size(h: Harness, body: Callable[[], object], size: int) -> None:
    async with asyncio.timeout(20):
        with h.raises(IntegrityError, InvalidInputError):
            await h.store.put(h.bucket, "new", body(), size=size)
        assert await h.keys() == []
        await h.put("old", b"old")
        with h.raises(IntegrityError, InvalidInputError):
            await h.store.put(h.bucket, "old", body(), size=size)
    assert await h.get("old") == b"old"
    await nothing_staged(h)


_FIVE: dict[str, Callable[[], object]] = {
    "bytes": lambda: b"12345",
    "iterator": lambda: pieces(b"123", b"45"),
    "file": lambda: io.BytesIO(b"12345"),
}


@case("K049", "body_declared_too_long", params=_FIVE)
async def body_declared_too_long(h: Harness, body: Callable[[], object]) -> None:
    await _wrong_size(h, body, 10)


@case("K050", "body_declared_too_short", params=_FIVE)
async def body_declared_too_short(h: Harness, body: Callable[[], object]) -> None:
    await _wrong_size(h, body, 3)


@case("K050", "body_declared_exactly", params=_FIVE)
async def body_declared_exactly(h: Harness, body: Callable[[], object]) -> None:
    info = await h.store.put(h.bucket, "k", body(), size=5)
    assert info.size == 5
    assert await h.get("k") == b"12345"


@case("K051", "producer_raises_first")
async def producer_raises_first(h: Harness) -> None:
    boom = Deliberate("first")
    with h.raises(Deliberate) as raised:
        await h.put("k", spoilt(0, boom))
    assert raised.error is boom, "another exception object arrived"
    assert await h.keys() == []
    await nothing_staged(h)


def _spoilt_plain(good: int, error: BaseException) -> Iterator[bytes]:
    for number in range(good):
        yield b"%d" % number * 10
    raise error


@case("K052", "producer_raises_mid", params={"async": spoilt, "plain": _spoilt_plain})
async def producer_raises_mid(h: Harness, source: Callable[[int, BaseException], object]) -> None:
    await h.put("k", b"old", metadata={"v": "1"})
    boom = Deliberate("in the middle")
    with h.raises(Deliberate) as raised:
        await h.put("k", source(3, boom), metadata={"v": "2"})
    assert raised.error is boom, "another exception object arrived"
    assert await h.get("k") == b"old"
    assert (await h.store.head(h.bucket, "k")).metadata == {"v": "1"}
    await nothing_staged(h)


@case("K052", "producer_raises_after_a_part")
async def producer_raises_after_a_part(h: Harness) -> None:
    """Late enough that a backend with parts has sent some."""
    part = max(h.features.min_part_size or 0, 256 * KiB)

    async def source() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"n" * part
        raise boom

    await h.put("k", b"old")
    boom = Deliberate("late")
    with h.raises(Deliberate) as raised:
        await h.store.put(h.bucket, "k", source(), part_size=part)
    assert raised.error is boom
    assert await h.get("k") == b"old"
    await nothing_staged(h)


class Quit(SystemExit):
    """A deliberate end of the process."""


@case("K053", "producer_raises_base_exception", params={"exit": Quit, "other": DeliberateExit})
async def producer_raises_base_exception(h: Harness, kind: type[BaseException]) -> None:
    h.expects(kind)
    await h.put("k", b"old")
    boom = kind("out")
    with h.raises(kind) as raised:
        await h.put("k", spoilt(3, boom))
    assert raised.error is boom
    assert await h.get("k") == b"old"
    await nothing_staged(h)


@case("K054", "producer_closed_on_error", params={"async": Counted, "plain": CountedPlain})
async def producer_closed_on_error(h: Harness, kind: Callable[..., Counted | CountedPlain]) -> None:
    source = kind(b"a", b"b")
    with h.raises(BucketNotFoundError):
        await h.store.put("trove-there-is-none", "k", source)
    assert source.closed == 1, f"closed {source.closed} times after a failure"
    source = kind(b"a", b"b")
    await h.put("k", source)
    assert source.closed == 1, f"closed {source.closed} times after a success"
    source = kind(b"a", b"b")
    with h.raises(IntegrityError, InvalidInputError):
        await h.store.put(h.bucket, "k", source, size=1)
    assert source.closed == 1, f"closed {source.closed} times after a refused body"


@case("K055", "producer_slow")
async def producer_slow(h: Harness) -> None:
    ticks = 0
    seen: list[int] = []

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    async def slow() -> AsyncIterator[bytes]:
        for number in range(5):
            before = ticks
            await asyncio.sleep(0.05)
            seen.append(ticks - before)
            yield bytes([number]) * 1000

    ticking = asyncio.create_task(tick())
    try:
        await h.put("k", slow())
    finally:
        ticking.cancel()
        await asyncio.wait([ticking])
    assert await h.get("k") == b"".join(bytes([number]) * 1000 for number in range(5))
    assert min(seen) >= 2, f"other tasks stood still while the body was waited for: {seen}"


@case("K056", "caller_reader_not_closed")
async def caller_reader_not_closed(h: Harness) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100_000)
        file.seek(0)
        await h.put("a", file)
        assert not file.closed, "put closed the caller's file"
        memory = io.BytesIO(b"y" * 1000)
        await h.put("b", memory)
        assert not memory.closed, "put closed the caller's file"
        file.seek(0)
        with h.raises(BucketNotFoundError):
            await h.store.put("trove-there-is-none", "k", file)
        assert not file.closed, "a failed put closed the caller's file"


@case("K056", "driver_never_closes_the_body", stacks=False)
async def driver_never_closes_the_body(h: Harness) -> None:
    """The store closes it, once; a driver only pulls, and no longer than its put lasts."""
    body = Counted(b"a" * 100, b"b")
    await h.driver.put(h.bucket, "k", body, PutOptions())
    assert body.closed == 0, "the driver closed the body"
    body = Counted(b"a" * 100, b"b")
    with h.raises(BucketNotFoundError):
        await h.driver.put("trove-there-is-none", "k", body, PutOptions())
    assert body.closed == 0, "the driver closed the body of a failed put"


def _wrong_digests() -> dict[str, str]:
    return {"sha256": "0" * 64, "blake3": "1" * 64, "xxh3": "2" * 32}


@case("K062", "checksum_mismatch_refused", params=list(_wrong_digests()))
async def checksum_mismatch_refused(h: Harness, algorithm: str) -> None:
    wrong = f"{algorithm}:{_wrong_digests()[algorithm]}"
    with h.raises(ChecksumMismatchError):
        await h.store.put(h.bucket, "new", b"body", checksum=wrong)
    assert await h.keys() == []
    await h.put("k", b"old")
    with h.raises(ChecksumMismatchError):
        await h.store.put(h.bucket, "k", pieces(b"bo", b"dy"), checksum=wrong)
    assert await h.get("k") == b"old"
    await nothing_staged(h)


@case("K062", "checksum_right_accepted")
async def checksum_right_accepted(h: Harness) -> None:
    body = noise(100_000)
    right = f"sha256:{hashlib.sha256(body).hexdigest()}"
    await h.store.put(h.bucket, "k", pieces(body[:7], body[7:]), checksum=right)
    assert await h.get("k") == body
