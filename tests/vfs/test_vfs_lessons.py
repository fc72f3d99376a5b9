"""What went wrong elsewhere, V1 to V5, and F57."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest

import trove_async as trove
from tests.vfs.conftest import target_of
from trove_async import Call, ObjectChangedError, ObjectNotFoundError
from trove_async.errors import InvalidKeyError, StreamClosedError
from trove_async.vfs import FileSystem

R = TypeVar("R")


async def names(fs: FileSystem, path: str = "") -> list[str]:
    return [str(info) async for info in fs.tree(path)]


@pytest.mark.parametrize("kind", ["memory", "local"])
async def test_v1_remove_all_of_5000_removes_5000(kind: str, tmp_path: Path) -> None:
    async with trove.open(target_of(kind, tmp_path)) as store:
        await store.create_bucket("box")
        if kind == "local":
            (tmp_path / "box/d").mkdir()
        for n in range(5000):
            if kind == "local":
                (tmp_path / f"box/d/{n:05}").touch()
            else:
                await store.put("box", f"d/{n:05}", b"x")
        await store.put("box", "d2", b"kept")
        fs = store.vfs("box")
        assert len([1 async for _ in fs.iterdir("d")]) == 5000
        assert [len(files) async for _, _, files in fs.walk("d")] == [5000]
        assert await fs.remove_all("d") == 5000
        assert await names(fs) == ["d2"]


@pytest.mark.parametrize("kind", ["memory", "local"])
async def test_v1_a_stat_sees_a_directory_behind_a_page_of_siblings(store: trove.Trove) -> None:
    fs = store.vfs("box")
    await asyncio.gather(*(store.put("box", f"a-{n:04}", b"") for n in range(1100)))
    await store.put("box", "a/b", b"x")
    assert (await fs.stat("a")).is_dir
    assert "a" in [info.name async for info in fs.iterdir() if info.is_dir]
    assert [info.path async for info in fs.glob("a/*")] == ["a/b"]


async def test_v2_a_rename_onto_itself_changes_nothing(fs: FileSystem) -> None:
    await fs.write_bytes("a", b"1")
    await fs.write_bytes("d/e", b"2")
    await fs.rename("a", "a")
    await fs.rename("d", "/d/")
    assert await fs.read_bytes("a") == b"1"
    assert await fs.read_bytes("d/e") == b"2"


async def test_v2_a_directory_is_renamed_with_all_below_it(fs: FileSystem) -> None:
    await fs.mkdir("d/empty")
    for n in range(40):
        await fs.write_bytes(f"d/e{n % 3}/f{n}", str(n).encode())
    before = await names(fs, "d")
    await fs.rename("d", "x/y")
    assert await names(fs, "x/y") == [name.replace("d/", "x/y/", 1) for name in before]
    assert not await fs.exists("d")
    assert await fs.read_bytes("x/y/e1/f7") == b"7"


async def test_v2_a_directory_does_not_go_below_itself(fs: FileSystem) -> None:
    await fs.write_bytes("d/e", b"2")
    for call in (fs.rename, fs.copy):
        with pytest.raises(ValueError, match="below itself"):
            await call("d", "d/f")
        with pytest.raises(ValueError, match="below itself"):
            await call("", "f")
    assert await names(fs) == ["d/", "d/e"]


async def test_v3_a_directory_is_one_on_every_backend(fs: FileSystem) -> None:
    await fs.mkdir("dir")
    found = await fs.stat("dir")
    assert (found.is_dir, found.size) == (True, 0)
    await fs.write_bytes("dir/file", b"x")
    assert [triple async for triple in fs.walk()] == [("", ["dir"], []), ("dir", [], ["file"])]
    await fs.remove("dir/file")
    assert (await fs.stat("dir")).is_dir, "a marked directory stays"
    await fs.rmdir("dir")
    assert not await fs.exists("dir")
    await fs.write_bytes("other/file", b"x")
    await fs.remove("other/file")
    assert not await fs.exists("other"), "one that is not marked goes with its last entry"


async def test_v3_a_directory_on_local_is_a_real_one(tmp_path: Path) -> None:
    async with trove.open(f"file://{tmp_path}/root") as store:
        await store.create_bucket("box")
        fs = store.vfs("box")
        await fs.mkdir("a/b")
        assert (tmp_path / "root/box/a/b").is_dir()
        (tmp_path / "root/box/a/b/dropped.txt").write_text("by another program")
        assert await names(fs) == ["a/", "a/b/", "a/b/dropped.txt"]
        assert await fs.read_text("a/b/dropped.txt") == "by another program"
        await fs.remove_all("a")
        assert not (tmp_path / "root/box/a").exists()


async def test_v4_a_second_close_is_harmless(fs: FileSystem) -> None:
    async with fs.open("f", "wb") as file:
        await file.write(b"abc")
        await file.aclose()
        await file.aclose()
    await file.aclose()
    assert await fs.read_bytes("f") == b"abc"
    async with fs.open("f") as reader:
        await reader.aclose()
        with pytest.raises(ValueError, match="closed file"):
            await reader.read()


@pytest.mark.parametrize("size", [10, 3 << 20])
async def test_v4_a_writer_that_fails_publishes_nothing(fs: FileSystem, size: int) -> None:
    await fs.write_bytes("f", b"old")
    with pytest.raises(ZeroDivisionError):
        async with fs.open("f", "wb") as file:
            await file.write(bytes(size))
            raise ZeroDivisionError
    assert await fs.read_bytes("f") == b"old"
    other = await fs.open("f", "wb")
    await other.write(bytes(size))
    await other.abort()
    await other.aclose()
    assert await fs.read_bytes("f") == b"old"


class Stalled:
    """Puts wait, as on a store that is behind."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R:
        if call.operation == "put" and call.key == "slow":
            await self.go.wait()
        return await proceed(call)


async def test_v4_a_write_that_was_cut_short_ends_the_file() -> None:
    stalled = Stalled()
    async with trove.open("mem://", interceptors=[stalled]) as store:
        await store.create_bucket("box")
        fs = store.vfs("box")
        file = await fs.open("slow", "wb")
        for _ in range(4):
            await file.write(bytes(1 << 20))
        writing = asyncio.ensure_future(file.write(bytes(1 << 20)))
        done, _ = await asyncio.wait([writing], timeout=0.05)
        assert not done, "the queue is bounded"
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with pytest.raises(StreamClosedError):
            await file.write(b"more")
        with pytest.raises(StreamClosedError):
            await file.aclose()
        stalled.go.set()
        assert not await fs.exists("slow")


@pytest.mark.parametrize(
    "path", ["..", "../x", "a/../../x", "/..", "a//b", "//a", "a\0b", "a\ud800", "//"]
)
async def test_v5_paths_that_leave_or_have_empty_parts_are_refused(
    fs: FileSystem, path: str
) -> None:
    await fs.write_bytes("x", b"here")
    for call in (fs.stat, fs.read_bytes, fs.remove, fs.mkdir, fs.remove_all, fs.exists):
        with pytest.raises(InvalidKeyError):
            await call(path)
    with pytest.raises(InvalidKeyError):
        fs.open(path)
    with pytest.raises(InvalidKeyError):
        fs.path(path)
    assert await names(fs) == ["x"]


async def test_v5_what_is_the_same_path_is_the_same_file(fs: FileSystem) -> None:
    await fs.write_bytes("/a/./b/../c", b"1")
    assert await names(fs) == ["a/", "a/c"]
    with pytest.raises(ValueError, match="say '/'"):
        await fs.remove_all("")
    assert await fs.remove_all("/") == 1


async def test_f57_an_open_file_is_one_version(fs: FileSystem) -> None:
    body = bytes(range(256)) * 1024
    await fs.write_bytes("f", body)
    async with fs.open("f") as file:
        assert await file.read(10) == body[:10]
        await fs.write_bytes("g", b"new")
        await fs.rename("g", "f")
        assert await file.read(100) == body[10:110], "what is in the window stays readable"
        await file.seek(200_000)
        with pytest.raises((ObjectChangedError, ObjectNotFoundError)):
            await file.read(10)
    assert await fs.read_bytes("f") == b"new"


async def test_f57_a_file_unlinked_while_it_is_read_ends_with_its_window(fs: FileSystem) -> None:
    body = bytes(range(256)) * 1024
    await fs.write_bytes("f", body)
    async with fs.open("f") as file:
        assert await file.read(10) == body[:10]
        await fs.remove("f")
        assert await file.read(10) == body[10:20]
        await file.seek(200_000)
        with pytest.raises(ObjectNotFoundError):
            await file.read(10)


async def test_f57_a_written_file_appears_where_it_was_opened(fs: FileSystem) -> None:
    await fs.write_bytes("f", b"old")
    async with fs.open("f", "wb") as file:
        await file.write(b"new")
        await fs.rename("f", "moved")
        assert not await fs.exists("f")
    assert await fs.read_bytes("f") == b"new"
    assert await fs.read_bytes("moved") == b"old"
    async with fs.open("f", "wb") as file:
        await file.write(b"newer")
        await fs.remove("f")
    assert await fs.read_bytes("f") == b"newer"
