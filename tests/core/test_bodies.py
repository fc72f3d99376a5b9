"""What may be a body, what is taken from it, and who closes it."""

from __future__ import annotations

import array
import asyncio
import io
import mmap
import os
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.chunking import rechunk
from tests.core.layers import Source
from tests.strategies import chopped
from trove_async import Trove
from trove_async._chunks import OneChunk, as_body, collect, cut
from trove_async.testing.leaks import open_descriptors

CHUNK = 1000
DATA = bytes(range(256)) * 20


@pytest.fixture
async def store() -> AsyncIterator[Trove]:
    async with trove.open("mem://", chunk_size=CHUNK) as opened:
        await opened.create_bucket("box")
        yield opened


class Reading:
    """``async def read(n)`` and no more."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)
        self.closed = 0

    async def read(self, n: int) -> bytes:
        await asyncio.sleep(0)
        return self._file.read(n)

    async def aclose(self) -> None:
        self.closed += 1


class Awaitable(Reading):
    """``read`` is a plain function that gives something to await."""

    def read(self, n: int) -> Any:
        return super().read(n)


class Pipe:
    """A plain file that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._file = io.BytesIO(data)

    def read(self, n: int) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        return self._file.read(min(n, 7))


class PathLike:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return str(self._path)


def generator() -> Iterator[bytes]:
    yield DATA[:100]
    yield b""
    yield DATA[100:]


def wide() -> memoryview:
    return memoryview(DATA).cast("B", (len(DATA) // 10, 10))


def on_disk(path: Path) -> Path:
    path.write_bytes(DATA)
    return path


KINDS: dict[str, Any] = {
    "bytes": lambda path: DATA,
    "small bytes": lambda path: DATA[:5],
    "bytearray": lambda path: bytearray(DATA),
    "memoryview": lambda path: memoryview(DATA),
    "every other byte": lambda path: memoryview(DATA)[::2],
    "two dimensions": lambda path: wide(),
    "array of numbers": lambda path: array.array("I", range(2000)),
    "path": lambda path: on_disk(path),
    "path-like": lambda path: PathLike(on_disk(path)),
    "BytesIO": lambda path: io.BytesIO(DATA),
    "async read": lambda path: Reading(DATA),
    "awaitable read": lambda path: Awaitable(DATA),
    "pipe": lambda path: Pipe(DATA),
    "list": lambda path: [DATA[:9], b"", DATA[9:]],
    "tuple of views": lambda path: (memoryview(DATA), bytearray(b"x")),
    "generator": lambda path: generator(),
    "async generator": lambda path: chopped(DATA, [1, 700]),
    "async iterator": lambda path: Source([DATA[:5], DATA[5:]]),
}


def content(body: object, path: Path) -> bytes:
    if isinstance(body, list | tuple):
        return b"".join(bytes(part) for part in body)
    if isinstance(body, bytes | bytearray | memoryview | array.array):
        return memoryview(body).tobytes()
    return DATA


@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_body_is_stored_whole(store: Trove, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    body = KINDS[kind](path)
    wanted = content(body, path)
    info = await store.put("box", "k", body)
    assert info.size == len(wanted)
    assert await store.get_bytes("box", "k") == wanted


@pytest.mark.parametrize(
    "empty",
    [b"", bytearray(), memoryview(b""), array.array("I"), [], (), [b"", b""], io.BytesIO()],
)
async def test_an_empty_body_of_any_kind_is_an_empty_object(store: Trove, empty: object) -> None:
    assert (await store.put("box", "k", empty)).size == 0
    assert await store.get_bytes("box", "k") == b""
    async with store.get("box", "k") as reader:
        assert [chunk async for chunk in reader] == []


@pytest.mark.parametrize(
    "wrong", ["text", None, 7, 1.5, object(), io.StringIO("text"), {"a": 1}.get, True]
)
async def test_what_gives_no_bytes_is_a_type_error_before_any_io(
    store: Trove, wrong: object
) -> None:
    with pytest.raises(TypeError):
        await store.put("box", "k", wrong)
    assert not await store.exists("box", "k")


class TextFile:
    def read(self, n: int) -> str:
        return "text"


@pytest.mark.parametrize(
    "wrong",
    [["text"], [7], [None], {"a": 1}, range(3), TextFile(), Source(["text"])],  # type: ignore[list-item]  # wrong on purpose
)
async def test_what_turns_out_to_give_no_bytes_publishes_nothing(
    store: Trove, wrong: object
) -> None:
    await store.put("box", "k", b"old")
    with pytest.raises(TypeError):
        await store.put("box", "k", wrong)
    assert await store.get_bytes("box", "k") == b"old"
    if isinstance(wrong, Source):
        assert wrong.closed == 1


async def test_a_missing_file_is_the_systems_own_error(store: Trove, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await store.put("box", "k", tmp_path / "missing")
    with pytest.raises(IsADirectoryError):
        await store.put("box", "k", tmp_path)
    assert not await store.exists("box", "k")


async def test_a_file_is_read_from_where_it_stands_and_stays_open(
    store: Trove, tmp_path: Path
) -> None:
    path = on_disk(tmp_path / "file")
    with path.open("rb") as file:
        file.seek(100)
        assert (await store.put("box", "k", file)).size == len(DATA) - 100
        assert not file.closed
    assert await store.get_bytes("box", "k") == DATA[100:]
    held = io.BytesIO(DATA)
    held.seek(7)
    await store.put("box", "k", held)
    assert not held.closed
    assert await store.get_bytes("box", "k") == DATA[7:]
    with tempfile.TemporaryFile() as unnamed:
        unnamed.write(DATA)
        unnamed.seek(0)
        await store.put("box", "k", unnamed)
    assert await store.get_bytes("box", "k") == DATA
    reading = Reading(DATA)
    await store.put("box", "k", reading)
    assert reading.closed == 0


async def test_a_mapped_file_is_a_body(store: Trove, tmp_path: Path) -> None:
    with (
        on_disk(tmp_path / "file").open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        await store.put("box", "k", mapped)
        assert not mapped.closed
    assert await store.get_bytes("box", "k") == DATA


async def test_a_pipe_of_the_system_is_a_body(store: Trove) -> None:
    out, into = os.pipe()
    with os.fdopen(out, "rb") as reading, os.fdopen(into, "wb") as writing:

        def write() -> None:
            writing.write(DATA)
            writing.close()

        writer = threading.Thread(target=write)
        writer.start()
        await store.put("box", "k", reading)
        writer.join()
        assert not reading.closed
    assert await store.get_bytes("box", "k") == DATA


async def test_a_reader_is_a_body_and_tells_its_size(store: Trove) -> None:
    await store.put("box", "k", DATA)
    for wanted in (None, slice(5, 3000)):
        async with store.get("box", "k", range=wanted) as reader:
            body = as_body(reader, CHUNK)
            assert body.size == reader.length is not None
            info = await store.put("box", "copy", reader)
        expected = DATA if wanted is None else DATA[wanted]
        assert info.size == len(expected)
        assert await store.get_bytes("box", "copy") == expected
    async with store.get("box", "k") as reader:
        await reader.read()
        with pytest.raises(trove.StreamConsumedError):
            await store.put("box", "copy", reader)


async def test_a_buffer_may_be_reused_by_its_producer(store: Trove) -> None:
    async def producing() -> AsyncIterator[bytearray]:
        buffer = bytearray(4)
        for number in range(50):
            buffer[:] = number.to_bytes(4, "big")
            yield buffer

    await store.put("box", "k", producing())
    assert await store.get_bytes("box", "k") == b"".join(n.to_bytes(4, "big") for n in range(50))


async def test_a_small_buffer_is_stored_as_it_was_at_the_call(store: Trove) -> None:
    buffer = bytearray(b"before")
    task = asyncio.ensure_future(store.put("box", "k", buffer))
    await task
    buffer[:] = b"after!"
    assert await store.get_bytes("box", "k") == b"before"


# -- four ways, for files ------------------------------------------------------------------


async def test_files_are_closed_whatever_happens(store: Trove, tmp_path: Path) -> None:
    path = on_disk(tmp_path / "file")
    before = open_descriptors()
    await store.put("box", "k", path)
    with pytest.raises(trove.TrailingDataError):
        await store.put("box", "k", path, size=1500)  # stops early
    with pytest.raises(trove.TruncatedError):
        await store.put("box", "k", path, size=1 << 20)
    with pytest.raises(trove.BucketNotFoundError):
        await store.put("nowhere", "k", path)  # never pulled
    for delay in (0.0, 0.0005, 0.001, 0.002):
        task = asyncio.create_task(store.put("box", "k", path))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.wait([task])
    assert open_descriptors() == before
    assert await store.get_bytes("box", "k") == DATA


async def test_a_cancelled_put_waits_for_the_worker_that_reads_its_file(store: Trove) -> None:
    entered, leave = threading.Event(), threading.Event()
    reading_now: list[bool] = []

    class Slow:
        def read(self, n: int) -> bytes:
            reading_now.append(True)
            entered.set()
            leave.wait(10)
            reading_now.pop()
            return b""

    task = asyncio.create_task(store.put("box", "k", Slow()))
    await asyncio.to_thread(entered.wait, 10)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert reading_now == []
    assert not await store.exists("box", "k")


async def test_a_plain_generator_is_closed_once() -> None:
    closed: list[int] = []

    def producing() -> Iterator[bytes]:
        try:
            yield b"a"
            yield b"b"
        finally:
            closed.append(1)

    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        await store.put("box", "k", producing())
        assert closed == [1]
        with pytest.raises(trove.TrailingDataError):
            await store.put("box", "k", producing(), size=1)
        assert closed == [1, 1]


# -- tools ---------------------------------------------------------------------------------


async def several(data: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    async for chunk in chopped(data, cuts):
        yield chunk


@settings(max_examples=150, deadline=None, database=None)
@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(1, 90), max_size=4),
    size=st.integers(1, 100),
)
async def test_rechunk_gives_equal_pieces(data: bytes, cuts: list[int], size: int) -> None:
    pieces = [bytes(piece) async for piece in rechunk(several(data, cuts), size)]
    assert b"".join(pieces) == data
    assert all(len(piece) == size for piece in pieces[:-1])
    assert all(0 < len(piece) <= size for piece in pieces)


@settings(max_examples=150, deadline=None, database=None)
@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(1, 90), max_size=4),
    bounds=st.tuples(st.integers(0, 320), st.integers(0, 320)),
)
async def test_cut_is_a_slice_and_closes_its_source(
    data: bytes, cuts: list[int], bounds: tuple[int, int]
) -> None:
    start, stop = bounds
    source = Source([piece async for piece in several(data, cuts)])
    found = [bytes(piece) async for piece in cut(source, start, stop)]
    assert b"".join(found) == data[start:stop]
    assert all(found)
    assert source.closed == 1


async def test_one_chunk_is_read_once() -> None:
    chunk = OneChunk(b"data")
    assert chunk.whole(3) is None
    assert await collect(chunk) == b"data"
    assert await collect(chunk) == b""
    again = OneChunk(b"data")
    assert again.whole(4) == b"data"
    assert again.whole(4) is None
    closed = OneChunk(b"data")
    await closed.aclose()
    await closed.aclose()
    assert [piece async for piece in closed] == []
    assert OneChunk(b"").whole(0) == b""
