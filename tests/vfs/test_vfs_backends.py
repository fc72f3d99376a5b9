"""The same on servers: S3 with its pages, SFTP with its real folders."""

from __future__ import annotations

import asyncio
import secrets
import tracemalloc
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.servers.s3 import Server, moto
from tests.servers.sshd import Sshd, sshd, start_sshd
from trove_async.vfs import FileSystem

__all__ = ["moto", "sshd", "start_sshd"]


@pytest.fixture(params=["s3", "sftp"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def far(kind: str, request: pytest.FixtureRequest) -> AsyncIterator[FileSystem]:
    bucket = f"vfs-{secrets.token_hex(6)}"
    if kind == "s3":
        server: Server = request.getfixturevalue("moto")
        dsn = server.dsn(bucket)
    else:
        host: Sshd = request.getfixturevalue("sshd")
        dsn = host.dsn(host.new_root(), agent="false", durability="none")
    async with trove.open(dsn) as store:
        await store.create_bucket(bucket)
        yield store.vfs(bucket)


async def tree(fs: FileSystem, path: str = "") -> list[str]:
    return [str(info) async for info in fs.tree(path)]


async def test_directories_files_and_trees(far: FileSystem) -> None:
    fs = far
    await fs.mkdir("empty/deep")
    assert (await fs.stat("empty/deep")).is_dir
    assert await tree(fs) == ["empty/", "empty/deep/"]
    async with fs.open("d/e/f.txt", "w") as file:
        await file.write("one\ntwo\n")
    async with fs.open("d/e/f.txt", "a") as file:
        await file.write("three\n")
    async with fs.open("d/e/f.txt", "r") as file:
        assert [line async for line in file] == ["one\n", "two\n", "three\n"]
    assert [info.path async for info in fs.glob("**/*.txt")] == ["d/e/f.txt"]
    await fs.mkdir("d/kept")
    assert [triple async for triple in fs.walk("d")] == [
        ("d", ["e", "kept"], []),
        ("d/e", [], ["f.txt"]),
        ("d/kept", [], []),
    ]
    await fs.rename("d", "x/y")
    assert await tree(fs, "x") == ["x/y/", "x/y/e/", "x/y/e/f.txt", "x/y/kept/"]
    await fs.copy("x/y", "z")
    assert await fs.read_text("z/e/f.txt") == "one\ntwo\nthree\n"
    await fs.set_metadata("z/e/f.txt", {"owner": "ana"})
    assert await fs.get_metadata("z/e/f.txt") == {"owner": "ana"}
    with pytest.raises(NotADirectoryError):
        await fs.write_bytes("z/e/f.txt/g", b"")
    with pytest.raises(IsADirectoryError):
        await fs.write_bytes("z/e", b"")
    with pytest.raises(IsADirectoryError):
        await fs.write_bytes("empty", b"")
    with pytest.raises(OSError, match="not empty"):
        await fs.rmdir("x/y")
    await fs.write_bytes("empty/deep/file", b"")
    await fs.remove("empty/deep/file")
    assert await fs.is_dir("empty/deep")
    await fs.rmdir("empty/deep")
    assert not await fs.exists("empty")
    assert await fs.remove_all("/") == 4
    assert await tree(fs) == []


@pytest.mark.parametrize(
    "kind",
    [pytest.param("s3", marks=pytest.mark.slow), "sftp"],  # 2000 puts on moto are 30 s
)
async def test_a_directory_of_more_than_a_page(far: FileSystem) -> None:
    async def write(number: int) -> None:
        await far.write_bytes(f"d/{number:04}", b"")

    for start in range(0, 1050, 50):
        await asyncio.gather(*(write(number) for number in range(start, start + 50)))
    await far.write_bytes("e", b"")
    assert len([1 async for _ in far.iterdir("d")]) == 1050
    assert [info.path async for info in far.glob("*/104?")] == [f"d/104{n}" for n in range(10)]
    assert await far.remove_all("d") == 1050
    assert await tree(far) == ["e"]


async def _listed(count: int) -> tuple[int, int]:
    """(entries that were seen in all, bytes that it took at most)"""
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        for number in range(count):
            await store.put("box", f"d/{number:06}", b"")
        fs = store.vfs("box")
        tracemalloc.start()
        try:
            seen = len([1 async for _ in _counted(fs)])
            return seen, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


async def _counted(fs: FileSystem) -> AsyncIterator[None]:
    async for _ in fs.iterdir("d"):
        pass
    async for _ in fs.glob("**/*99"):
        yield
    async for _, _, files in fs.walk("d"):
        assert len(files) <= 10_000
        for _ in range(len(files) // 1000):
            yield


async def test_memory_does_not_grow_with_a_directory() -> None:
    _, small = await _listed(1_000)
    _, large = await _listed(4_000)
    assert large < small + 2**20, (small, large)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_100000_entries_take_no_more_memory_than_20000() -> None:
    _, small = await _listed(20_000)
    seen, large = await _listed(100_000)
    assert seen == 1000 + 100
    assert large < small + 4 * 2**20, (small, large)
