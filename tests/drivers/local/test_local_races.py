"""Writers side by side: tasks, drivers and processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.drivers.local.helpers_local import (
    MiB,
    Pieces,
    body,
    descriptors,
    head,
    keys,
    large,
    put,
    read,
    threads,
)
from trove_async.driver import BucketOptions, CopyOptions, DeleteOptions, GetOptions, PutOptions
from trove_async.drivers.local import LocalConfig, LocalDriver, copying
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.names import Target
from trove_async.errors import (
    BucketNotEmptyError,
    BucketNotFoundError,
    KeyConflictError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    WrongLoopError,
)
from trove_async.model import ObjectRef


@pytest.mark.parametrize("size", [10, 2 * MiB])
async def test_one_of_many_creators_wins(driver: LocalDriver, size: int) -> None:
    other = driver.sibling()
    await other.open()
    try:

        async def create(number: int) -> int:
            data = bytes([number]) * size
            via = driver if number % 2 else other
            body_ = Pieces(data[: size // 2], data[size // 2 :])
            await via.put("bucket", "d/k", body_, PutOptions(if_none_match="*"))
            return number

        results = await asyncio.gather(*map(create, range(20)), return_exceptions=True)
    finally:
        await other.close()
    won = [r for r in results if isinstance(r, int)]
    assert len(won) == 1
    assert sum(isinstance(r, PreconditionFailedError) for r in results) == 19
    assert await read(driver, "d/k") == bytes([won[0]]) * size


@pytest.mark.parametrize("times", [1, 3, 10_000])
async def test_a_move_into_a_folder_that_others_remove_is_no_success_by_name_only(
    driver: LocalDriver, root: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Another process deletes the folder's last file between our making it and the rename."""
    await put(driver, "a/k", b"moved")
    rename, left = copying._rename, times

    def raced(ground: Ground, source: Target, target: Target, status: os.stat_result) -> bool:
        nonlocal left
        if left:
            left -= 1
            (root / "bucket" / "b").rmdir()
        return rename(ground, source, target, status)

    monkeypatch.setattr(copying, "_rename", raced)
    try:
        await driver.move(ObjectRef("bucket", "a/k"), ObjectRef("bucket", "b/k"), CopyOptions())
    finally:
        monkeypatch.undo()
    assert await read(driver, "b/k") == b"moved"
    assert await keys(driver) == ["b/k"]


@pytest.mark.parametrize("is_pinned", [True, False])
async def test_a_copy_onto_itself_takes_back_no_put_that_came_in_between(
    driver: LocalDriver, root: Path, monkeypatch: pytest.MonkeyPatch, is_pinned: bool
) -> None:
    """Keys are rotated so while others write."""
    etag = (await put(driver, "k", b"old")).etag
    begin, left = copying.Copy.begin, 1

    def raced(copy: copying.Copy) -> bool:
        nonlocal left
        done = begin(copy)
        if left:
            left -= 1
            (root / "bucket" / "other").write_bytes(b"new")
            (root / "bucket" / "other").replace(root / "bucket" / "k")
        return done

    monkeypatch.setattr(copying.Copy, "begin", raced)
    options = CopyOptions({"a": "b"}, source_if_match=etag if is_pinned else None)
    here = ObjectRef("bucket", "k")
    try:
        if is_pinned:
            with pytest.raises(ObjectChangedError):
                await driver.copy(here, here, options)
        else:
            assert (await driver.copy(here, here, options)).metadata == {"a": "b"}
    finally:
        monkeypatch.undo()
    assert await read(driver, "k") == b"new"


async def test_a_counter_by_compare_and_swap_loses_nothing(driver: LocalDriver) -> None:
    other = driver.sibling()
    await other.open()
    await put(driver, "n", b"0")

    async def add(via: LocalDriver) -> None:
        for _ in range(20):
            while True:
                info = await head(via, "n")
                found = await via.get("bucket", "n", GetOptions(if_match=None))
                number = int(b"".join([bytes(c) async for c in found.body]))
                if found.info.etag != info.etag:
                    continue
                try:
                    options = PutOptions(if_match=info.etag)
                    await via.put("bucket", "n", body(b"%d" % (number + 1)), options)
                except PreconditionFailedError:
                    continue
                break

    try:
        await asyncio.gather(*(add(driver if i % 2 else other) for i in range(10)))
    finally:
        await other.close()
    assert await read(driver, "n") == b"200"


_CHILD = """
import asyncio, sys
from trove_async._chunks import OneChunk, collect
from trove_async.driver import GetOptions, PutOptions
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.errors import PreconditionFailedError

async def main():
    root, name, mode = sys.argv[1:]
    driver = LocalDriver(LocalConfig(root, durability="none", metadata=mode))
    await driver.open()
    created = 0
    for number in range(50):
        try:
            options = PutOptions(if_none_match="*", metadata={"who": name})
            await driver.put("bucket", f"c/{number}", OneChunk(name.encode()), options)
            created += 1
        except PreconditionFailedError:
            pass
    for _ in range(100):
        while True:
            found = await driver.get("bucket", "n", GetOptions())
            number = int(await collect(found.body))
            try:
                options = PutOptions(if_match=found.info.etag)
                await driver.put("bucket", "n", OneChunk(b"%d" % (number + 1)), options)
                break
            except PreconditionFailedError:
                continue
    for number in range(200):
        data = name.encode() * (1 + number * 100)
        await driver.put("bucket", "pair", OneChunk(data), PutOptions(metadata={"who": name}))
        found = await driver.get("bucket", "pair", GetOptions())
        data = await collect(found.body)
        await found.body.aclose()
        assert data == found.info.metadata["who"].encode() * len(data), "torn"
    await driver.close()
    print(created)

asyncio.run(main())
"""


async def test_L4_two_processes_never_tear_or_lose(driver: LocalDriver, root: Path) -> None:
    await put(driver, "n", b"0")
    command = [sys.executable, "-c", textwrap.dedent(_CHILD), str(root)]

    def both() -> list[str]:
        children = [
            subprocess.Popen(
                [*command, name, driver.config.metadata], stdout=subprocess.PIPE, text=True
            )
            for name in "AB"
        ]
        outputs = [child.communicate(timeout=100)[0] for child in children]
        assert [child.returncode for child in children] == [0, 0]
        return outputs

    outputs = await asyncio.to_thread(both)
    assert sum(map(int, outputs)) == 50, "each key is created exactly once"
    assert await read(driver, "n") == b"200"


async def test_L4_concurrent_writers_leave_one_whole_object(driver: LocalDriver) -> None:
    async def write(number: int) -> None:
        data = bytes([65 + number]) * (1000 + number)
        for _ in range(15):
            await put(driver, "k", data, PutOptions(metadata={"n": str(number)}))

    async def check() -> None:
        for _ in range(60):
            found = await driver.get("bucket", "k", GetOptions())
            data = b"".join([bytes(c) async for c in found.body])
            number = int(found.info.metadata["n"])
            assert data == bytes([65 + number]) * (1000 + number)
            await asyncio.sleep(0)

    await put(driver, "k", b"A" * 1000, PutOptions(metadata={"n": "0"}))
    await asyncio.gather(*(write(n) for n in range(8)), *(check() for _ in range(4)))


async def test_a_put_beats_the_pruning_of_its_folder(driver: LocalDriver) -> None:
    async def come_and_go(name: str) -> None:
        for _ in range(60):
            await put(driver, f"a/b/{name}", b"x")
            assert await read(driver, f"a/b/{name}") == b"x"
            await driver.delete("bucket", f"a/b/{name}", DeleteOptions())

    await asyncio.gather(*(come_and_go(str(n)) for n in range(8)))
    assert await keys(driver) == []


async def test_key_and_folder_race_for_one_name(driver: LocalDriver) -> None:
    async def one(key: str) -> str | None:
        try:
            await put(driver, key, key.encode())
        except KeyConflictError:
            return None
        return key

    for _ in range(20):
        done = await asyncio.gather(one("x"), one("x/y"), one("x/y/z"))
        assert await keys(driver) == [k for k in done if k]
        for key in done:
            if key:
                await driver.delete("bucket", key, DeleteOptions())


async def test_no_acknowledged_put_is_lost_to_a_bucket_delete(driver: LocalDriver) -> None:
    other = driver.sibling()
    await other.open()

    async def put_some() -> list[str]:
        done = []
        for number in range(100):
            try:
                await driver.put("race", f"d/{number}", body(b"x"), PutOptions())
                done.append(f"d/{number}")
                await driver.delete("race", f"d/{number}", DeleteOptions())
                done.pop()
            except BucketNotFoundError:
                break
        return done

    async def drop() -> None:
        for _ in range(200):
            try:
                await other.delete_bucket("race")
                return
            except BucketNotEmptyError:
                await asyncio.sleep(0)

    try:
        for _ in range(10):
            await driver.create_bucket("race", BucketOptions())
            done, _ = await asyncio.gather(put_some(), drop())
            assert done == []
            if any(b.name == "race" for b in await driver.list_buckets()):
                await driver.delete_bucket("race")
    finally:
        await other.close()


async def test_a_moving_object_is_never_missing(driver: LocalDriver) -> None:
    data = b"x" * 5000
    await put(driver, "a", data)
    stop = False

    async def look() -> None:
        while not stop:
            seen = 0
            for _ in range(50):  # it may move from the second place to the first in between
                for key in ("a", "d/b"):
                    try:
                        assert await read(driver, key) == data
                        seen += 1
                    except ObjectNotFoundError:
                        pass
                if seen:
                    break
            assert seen
            await asyncio.sleep(0)

    async def move() -> None:
        nonlocal stop
        a, b = ObjectRef("bucket", "a"), ObjectRef("bucket", "d/b")
        for _ in range(40):
            await driver.move(a, b, CopyOptions())
            await driver.move(b, a, CopyOptions())
        stop = True

    await asyncio.gather(look(), look(), move())


async def test_L2_copy_onto_itself_keeps_the_body(driver: LocalDriver) -> None:
    data = large()
    old = await put(driver, "k", data, PutOptions(metadata={"a": "1"}))
    here = ObjectRef("bucket", "k")
    same = await driver.copy(here, here, CopyOptions())
    assert (same.metadata, same.size) == ({"a": "1"}, old.size)
    other = await driver.copy(here, here, CopyOptions(metadata={"b": "2"}))
    assert other.metadata == {"b": "2"}
    assert await read(driver, "k") == data
    assert await driver.move(here, here, CopyOptions()) == other


async def test_readers_of_a_copy_target_see_old_or_new(driver: LocalDriver) -> None:
    old, new = b"o" * MiB * 2, b"n" * MiB * 3
    await put(driver, "s1", old)
    await put(driver, "s2", new)
    await put(driver, "t", old)

    async def look() -> None:
        for _ in range(30):
            assert await read(driver, "t") in (old, new)

    async def copy() -> None:
        for _ in range(8):
            for source in ("s1", "s2"):
                await driver.copy(
                    ObjectRef("bucket", source), ObjectRef("bucket", "t"), CopyOptions()
                )

    await asyncio.gather(look(), look(), copy())


def test_another_loop_is_told(tmp_path: Path) -> None:
    driver = LocalDriver(LocalConfig(tmp_path / "r", durability="none"))

    async def begin() -> None:
        await driver.open()
        await driver.create_bucket("bucket", BucketOptions())

    async def use() -> None:
        with pytest.raises(WrongLoopError):
            await put(driver, "k", b"x")
        with pytest.raises(WrongLoopError):
            await read(driver, "k")
        with pytest.raises(WrongLoopError):
            await driver.open()
        await driver.close()

    asyncio.run(begin())
    asyncio.run(use())


async def test_opening_and_closing_leaves_nothing(tmp_path: Path) -> None:
    driver = LocalDriver(LocalConfig(tmp_path / "r"))
    await driver.open()
    await driver.close()
    fds, count = descriptors(), threads()
    for _ in range(20):
        await driver.open()
        await driver.close()
    assert descriptors() == fds
    assert threads() <= count + 1
