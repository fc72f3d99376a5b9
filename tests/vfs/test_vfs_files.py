"""Open files: reads by a window, text, writes that are published by their end."""

from __future__ import annotations

import asyncio
import io
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

import trove_async as trove
from trove_async import Call, ChecksumMismatchError, UnsupportedError
from trove_async.errors import FileModeError, ObjectChangedError, PathExistsError
from trove_async.testing.stepper import Step, cancel_everywhere
from trove_async.vfs import FileSystem

R = TypeVar("R")
BODY = random.Random(7).randbytes(700_000)
TEXT = "ab\ncd\r\nef\rg\u00e4\u20ac\U0001f600h\n\n" * 1_500 + "last"


class Counted:
    """Ranges that were asked for."""

    def __init__(self) -> None:
        self.ranges: list[tuple[int, int | None]] = []

    async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
        wanted = getattr(call.options, "range", None)
        if call.operation == "get" and wanted is not None:
            self.ranges.append((wanted.start, wanted.stop))
        return await proceed(call)


@pytest.fixture
async def counted() -> AsyncIterator[tuple[FileSystem, Counted]]:
    counter = Counted()
    async with trove.open("mem://", interceptors=[counter]) as store:
        await store.create_bucket("box")
        yield store.vfs("box"), counter


async def test_sequential_reads_ask_for_more_each_time_and_never_twice(
    counted: tuple[FileSystem, Counted],
) -> None:
    fs, counter = counted
    await fs.write_bytes("f", BODY)
    async with fs.open("f") as file:
        pieces = []
        while piece := await file.read(1000):
            pieces.append(piece)
        assert b"".join(pieces) == BODY
        await file.seek(len(BODY) - 10)
        assert await file.read() == BODY[-10:]
    sizes = [(stop or 0) - start for start, stop in counter.ranges]
    assert sizes[:3] == [65536, 131072, 262144]
    ends = [start for start, _ in counter.ranges[1:]]
    assert ends == [stop for _, stop in counter.ranges[:-1]], "they follow without overlap"


async def test_reads_at_random_are_those_of_a_real_file(fs: FileSystem, tmp_path: Path) -> None:
    await fs.write_bytes("f", BODY)
    (tmp_path / "f").write_bytes(BODY)
    chance = random.Random(3)
    with (tmp_path / "f").open("rb") as real:
        async with fs.open("f", read_ahead=100_000) as file:
            for _ in range(60):
                step = chance.random()
                if step < 0.4:
                    n = chance.choice([0, 1, 7, 5000, 17_000])
                    assert await file.read(n) == real.read(n)
                elif step < 0.6:
                    limit = chance.choice([-1, 0, 3])
                    assert await file.readline(limit) == real.readline(limit)
                else:
                    offset, whence = chance.choice(
                        [(chance.randrange(800_000), 0), (-chance.randrange(600_000), 2), (9, 1)]
                    )
                    assert await file.seek(offset, whence) == real.seek(offset, whence)
                assert await file.tell() == real.tell()
            buffer = bytearray(100)
            await file.seek(5)
            assert await file.readinto(buffer) == 100
            assert buffer == BODY[5:105]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1", "utf-8-sig"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
async def test_text_is_that_of_text_io_wrapper(
    counted: tuple[FileSystem, Counted], encoding: str, newline: str | None
) -> None:
    fs, _ = counted
    raw = io.BytesIO()
    wrapper = io.TextIOWrapper(raw, encoding, "replace", newline, write_through=True)
    for start in range(0, len(TEXT), 7_000):
        wrapper.write(TEXT[start : start + 7_000])
    wrapper.flush()
    coding = {"encoding": encoding, "errors": "replace", "newline": newline}
    async with fs.open("f", "w", **coding) as file:  # type: ignore[call-overload]
        for start in range(0, len(TEXT), 7_000):
            await file.write(TEXT[start : start + 7_000])
    data = await fs.read_bytes("f")
    assert data == raw.getvalue()
    lines = list(io.TextIOWrapper(io.BytesIO(data), encoding, "replace", newline))
    async with fs.open("f", "r", **coding) as file:  # type: ignore[call-overload]
        got = [line async for line in file]
    assert got == lines
    assert await fs.read_text("f", encoding, "replace", newline) == "".join(lines)
    async with fs.open("f", "r", **coding) as file:  # type: ignore[call-overload]
        places = []
        for index in range(1000):
            if index % 97 == 0:
                places.append((await file.tell(), index))
            await file.readline()
        for place, index in reversed(places):
            await file.seek(place)
            assert await file.readline() == lines[index]
        assert await file.seek(0) == 0
        assert await file.read(7) == "".join(lines)[:7]
        await file.seek(0, io.SEEK_END)
        assert await file.read() == ""


async def test_a_text_file_in_small_reads_holds_little(
    counted: tuple[FileSystem, Counted],
) -> None:
    fs, _ = counted
    await fs.write_text("f", TEXT)
    async with fs.open("f", "r", newline="\n", read_ahead=4096) as file:
        most = 0
        async for _ in file:
            assert file._decoder is not None
            most = max(most, len(file._decoder._text))
    assert most < 3 * 4096


async def test_modes(fs: FileSystem) -> None:
    for bad in ("", "q", "rw", "rbt", "bb", "b", "rr"):
        with pytest.raises(ValueError, match="mode"):
            fs.open("f", bad)
    for both in ("r+b", "w+", "rb+", "a+"):
        with pytest.raises(UnsupportedError, match="not both"):
            fs.open("f", both)
    with pytest.raises(FileNotFoundError):
        await fs.open("f")
    async with fs.open("f", "xb") as file:
        await file.write(b"one")
        with pytest.raises(FileModeError):
            await file.read()
        with pytest.raises(io.UnsupportedOperation):
            await file.seek(0)
    with pytest.raises(FileExistsError):
        await fs.open("f", "xb")
    async with fs.open("f", "a", newline="\n") as text:
        assert await text.tell() == 3
        await text.write(" two\n")
    async with fs.open("f") as file:
        with pytest.raises(FileModeError):
            await file.write(b"x")
        with pytest.raises(IsADirectoryError):
            await fs.open("/", "wb")
    assert await fs.read_bytes("f") == b"one two\n"
    with pytest.raises(NotADirectoryError):
        await fs.open("f/g", "wb")
    with pytest.raises(NotADirectoryError):
        await fs.open("f/g")
    await fs.mkdir("d")
    for mode in ("rb", "wb", "ab"):
        with pytest.raises(IsADirectoryError):
            await fs.open("d", mode)


async def test_an_exclusive_file_loses_against_one_that_came_meanwhile(fs: FileSystem) -> None:
    file = await fs.open("f", "xb")
    await file.write(b"mine")
    await fs.write_bytes("f", b"theirs")
    with pytest.raises(PathExistsError):
        await file.aclose()
    assert await fs.read_bytes("f") == b"theirs"


async def test_an_append_does_not_swallow_another_ones(fs: FileSystem) -> None:
    await fs.write_bytes("f", b"old", content_type="text/x-log", metadata={"a": "1"})
    file = await fs.open("f", "ab")
    await file.write(b"+mine")
    async with fs.open("f", "ab") as other:
        await other.write(b"+theirs")
    with pytest.raises(ObjectChangedError):
        await file.aclose()
    assert await fs.read_bytes("f") == b"old+theirs"
    found = await fs.stat("f")
    assert (found.content_type, dict(found.metadata)) == ("text/x-log", {"a": "1"})


async def test_large_writes_stream(fs: FileSystem) -> None:
    piece = bytes(range(256)) * 1024
    async with fs.open("big", "wb") as file:
        for _ in range(20):
            await file.write(piece)
        await file.flush()
        assert not await fs.exists("big")
        assert await file.tell() == 20 * len(piece)
    assert file.info is not None
    assert file.info.size == 20 * len(piece)
    assert await fs.read_bytes("big") == piece * 20


async def test_rotten_bytes_are_not_given_as_whole(tmp_path: Path) -> None:
    async with trove.open(f"file://{tmp_path}?durability=none") as store:
        await store.create_bucket("box")
        fs = store.vfs("box")
        await fs.write_bytes("f", BODY)
        with (tmp_path / "box/f").open("r+b") as raw:
            status = (tmp_path / "box/f").stat()
            raw.seek(600_000)
            raw.write(b"rot")
        os.utime(tmp_path / "box/f", ns=(status.st_mtime_ns, status.st_mtime_ns))
        async with fs.open("f") as file:
            with pytest.raises(ChecksumMismatchError):
                while await file.read(50_000):
                    pass


async def test_a_file_that_is_dropped_is_not_published(fs: FileSystem) -> None:
    file = await fs.open("f", "wb")
    for _ in range(3):
        await file.write(bytes(1 << 20))
    with pytest.warns(ResourceWarning, match="dropped open"):
        del file
    for _ in range(5):
        await asyncio.sleep(0.01)
    assert not await fs.exists("f")
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("mode", ["wb", "ab"])
@pytest.mark.parametrize("size", [100, 2_500_000])
async def test_a_write_cancelled_anywhere_leaves_old_or_new(
    fs: FileSystem, kind: str, mode: str, size: int
) -> None:
    old, fresh = b"old", b"n" * size
    new = old + fresh if mode == "ab" else fresh

    async def write() -> None:
        async with fs.open("f", mode) as file:
            for start in range(0, size, 600_000):
                await file.write(fresh[start : start + 600_000])  # type: ignore[arg-type]

    async def prepare() -> None:
        await fs.write_bytes("f", old)

    async def check(step: Step) -> None:
        assert await fs.read_bytes("f") in (old, new), step
        # the one task that is left is this one's own
        assert len(asyncio.all_tasks()) == 1, step

    await cancel_everywhere(write, before=prepare, check=check)
