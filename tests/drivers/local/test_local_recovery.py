"""What a killed process leaves: nothing torn is seen, and the next open removes the rest."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.local.helpers_local import MiB, head, keys, leftovers, put, read
from trove_async.driver import BucketOptions, PutOptions
from trove_async.drivers.local import FS, LocalConfig, LocalDriver

OLD, NEW = b"old" * 1000, b"new" * 500_000

_CHILD = """
import asyncio, os, sys
from trove_async.driver import BucketOptions, CopyOptions, DeleteOptions, PutOptions
from trove_async.drivers.local import FS, LocalConfig, LocalDriver
from trove_async.model import ObjectRef
from trove_async._chunks import OneChunk

root, mode, verb, limit = sys.argv[1:]
left = int(limit)
armed = False

class Dying(FS):
    def __getattribute__(self, name):
        found = super().__getattribute__(name)
        if not armed or name.startswith("_") or not callable(found):
            return found
        def call(*args, **kwargs):
            global left
            left -= 1
            if left < 0:
                os._exit(9)
            return found(*args, **kwargs)
        return call

NEW = b"new" * 500_000

async def main():
    global armed
    fs = Dying()
    fs.medium = lambda device: "slow"
    driver = LocalDriver(LocalConfig(root, metadata=mode), fs=fs)
    if verb == "open":
        armed = True
    await driver.open()
    armed = True
    options = PutOptions(metadata={"v": "new"})
    if verb == "put":
        await driver.put("bucket", "d/k", OneChunk(NEW), options)
    elif verb == "small":
        await driver.put("bucket", "d/k", OneChunk(NEW[:100]), options)
    elif verb == "copy":
        await driver.copy(ObjectRef("bucket", "s"), ObjectRef("bucket", "d/k"), CopyOptions())
    elif verb == "move":
        await driver.move(ObjectRef("bucket", "s"), ObjectRef("bucket", "d/k"), CopyOptions())
    elif verb == "delete":
        await driver.delete("bucket", "d/k", DeleteOptions())
    elif verb == "multipart":
        upload = await driver.initiate_multipart("bucket", "d/k", options)
        parts = [
            await driver.upload_part("bucket", "d/k", upload, n, OneChunk(piece), None)
            for n, piece in ((1, NEW[:750_000]), (2, NEW[750_000:]))
        ]
        await driver.complete_multipart("bucket", "d/k", upload, parts, PutOptions())
    await driver.close()
    print("acknowledged")

asyncio.run(main())
"""


def _run(root: Path, mode: str, verb: str, limit: int) -> tuple[int, str]:
    command = [sys.executable, "-c", textwrap.dedent(_CHILD), str(root), mode, verb, str(limit)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 9), done.stderr
    return done.returncode, done.stdout


async def _prepare(root: Path, mode: Any) -> None:
    driver = LocalDriver(LocalConfig(root, metadata=mode))
    await driver.open()
    if not any(b.name == "bucket" for b in await driver.list_buckets()):
        await driver.create_bucket("bucket", BucketOptions())
    await put(driver, "d/k", OLD, PutOptions(metadata={"v": "old"}))
    await put(driver, "s", NEW, PutOptions(metadata={"v": "new"}))
    await driver.close()


def _sidecars(root: Path) -> int:
    return sum(path.is_file() for path in (root / ".trove" / "meta").rglob("*"))


@pytest.mark.parametrize("mode", ["auto", "sidecar"])
@pytest.mark.parametrize("verb", ["put", "small", "copy", "move", "delete", "multipart"])
async def test_F01_F04_F17_a_kill_at_any_call(tmp_path: Path, mode: Any, verb: str) -> None:
    """A few of all points here; a stride keeps the run short and moves with the verb."""
    root = tmp_path / "root"
    limit = 0
    while True:
        await _prepare(root, mode)
        code, said = await asyncio.to_thread(_run, root, mode, verb, limit)
        driver = LocalDriver(LocalConfig(root, metadata=mode))
        await driver.open()
        try:
            found = await keys(driver)
            if "d/k" in found:
                info, data = await head(driver, "d/k"), await read(driver, "d/k")
                new = NEW[:100] if verb == "small" else NEW
                assert (info.metadata, data) in (({"v": "old"}, OLD), ({"v": "new"}, new)), limit
                if "acknowledged" in said and verb != "delete":
                    assert data == new
            else:
                assert verb == "delete"
            if "s" in found:
                assert await read(driver, "s") == NEW
            else:
                assert verb == "move"
                assert await read(driver, "d/k") == NEW
            assert leftovers(root) == []
            assert _sidecars(root) == (len(found) if mode == "sidecar" else 0)
            for upload in await driver.list_uploads("bucket", ""):
                await driver.list_parts("bucket", "d/k", upload.upload_id)
                await driver.abort_multipart("bucket", "d/k", upload.upload_id)
        finally:
            await driver.close()
        if code == 0:
            assert limit > 5
            return
        limit += 5 if limit < 30 else 29


async def test_F59_recovery_may_itself_be_killed_and_run_again(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for limit in range(0, 80, 13):
        await _prepare(root, "sidecar")
        for verb, calls in (("put", 20), ("multipart", 45), ("open", limit)):
            await asyncio.to_thread(_run, root, "sidecar", verb, calls)
        for _ in range(2):
            driver = LocalDriver(LocalConfig(root, metadata="sidecar"))
            await driver.open()
            assert leftovers(root) == []
            assert await read(driver, "d/k") in (OLD, NEW)
            assert len(list((root / ".trove" / "tmp").iterdir())) == 1
            await driver.close()


async def test_a_room_in_use_is_not_swept(tmp_path: Path) -> None:
    root = tmp_path / "root"
    await _prepare(root, "auto")
    first = LocalDriver(LocalConfig(root))
    await first.open()
    second = first.sibling()
    await second.open()
    assert len(list((root / ".trove" / "tmp").iterdir())) == 2
    await put(first, "k", b"x" * MiB)
    await second.close()
    await put(first, "k", b"y" * MiB)
    assert await read(first, "k") == b"y" * MiB
    await first.close()
    assert list((root / ".trove" / "tmp").iterdir()) == []


class _Losing(FS):
    """Records what is not yet synced, as LevelDB's fault injection does."""

    def __init__(self) -> None:
        self.dirty_files: set[int] = set()
        self.dirty_folders: set[int] = set()

    def writev(self, fd: int, buffers: Any) -> int:
        self.dirty_files.add(os.fstat(fd).st_ino)
        return super().writev(fd, buffers)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        self.dirty_files.add(os.fstat(fd).st_ino)
        super().setxattr(fd, name, value)

    def fsync(self, fd: int) -> None:
        inode = os.fstat(fd).st_ino
        self.dirty_files.discard(inode)
        self.dirty_folders.discard(inode)
        super().fsync(fd)

    def rename(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        super().rename(source, source_at, target, target_at)
        inode = os.stat(target, dir_fd=target_at, follow_symlinks=False).st_ino
        assert inode not in self.dirty_files, "published before its bytes are safe"
        self.dirty_folders.add(os.fstat(target_at).st_ino)

    def mkdir(self, path: bytes, mode: int, at: int | None = None) -> None:
        super().mkdir(path, mode, at)
        if at is not None:
            parent = os.path.dirname(path) or b"."
            self.dirty_folders.add(os.stat(parent, dir_fd=at).st_ino)


@pytest.mark.parametrize("mode", ["auto", "sidecar"])
async def test_L5_F07_nothing_acknowledged_rests_on_an_unsynced_folder(
    tmp_path: Path, mode: Any
) -> None:
    root, fs = tmp_path / "root", _Losing()
    driver = LocalDriver(LocalConfig(root, metadata=mode), fs=fs)
    await driver.open()
    try:

        def unsynced() -> list[Path]:
            private = root / ".trove"
            folders = [root, *(p for p in root.rglob("*") if p.is_dir())]
            return [
                path
                for path in folders
                if path.stat().st_ino in fs.dirty_folders
                and path != private / "tmp"
                and private / "tmp" not in path.parents
            ]

        await driver.create_bucket("bucket", BucketOptions())
        assert unsynced() == []
        for key in ("k", "a/b/c/k", "a/b/d/k", "k"):
            await put(driver, key, b"x", PutOptions(metadata={"a": "1"}))
            assert unsynced() == []
        upload = await driver.initiate_multipart("bucket", "m/k", PutOptions())
        part = await driver.upload_part("bucket", "m/k", upload, 1, _one(b"x" * MiB), None)
        assert unsynced() == []
        await driver.complete_multipart("bucket", "m/k", upload, [part], PutOptions())
        assert unsynced() == []
    finally:
        await driver.close()


def _one(data: bytes) -> Any:
    from trove_async._chunks import OneChunk

    return OneChunk(data)


@pytest.mark.parametrize("at_folder", [False, True])
async def test_F08_a_failed_fsync_is_not_acknowledged(tmp_path: Path, at_folder: bool) -> None:
    from trove_async.errors import BackendError

    class Failing(FS):
        armed = False

        def fsync(self, fd: int) -> None:
            if self.armed and os.path.isdir(f"/proc/self/fd/{fd}") == at_folder:
                raise OSError(5, "Input/output error")
            super().fsync(fd)

    fs = Failing()
    root = tmp_path / "root"
    driver = LocalDriver(LocalConfig(root), fs=fs)
    await driver.open()
    try:
        await driver.create_bucket("bucket", BucketOptions())
        await put(driver, "k", OLD)
        fs.armed = True
        with pytest.raises(BackendError) as caught:
            await put(driver, "k", NEW)
        assert isinstance(caught.value.__cause__, OSError)
        fs.armed = False
        data = await read(driver, "k")
        assert data in (OLD, NEW) if at_folder else data == OLD
        assert leftovers(root) == []
        await put(driver, "k", NEW)
        assert await read(driver, "k") == NEW
    finally:
        await driver.close()


async def test_F13_short_and_interrupted_writes_are_finished(tmp_path: Path) -> None:
    class Stubborn(FS):
        turn = 0

        def writev(self, fd: int, buffers: Any) -> int:
            self.turn += 1
            if self.turn % 3 == 0:
                raise InterruptedError
            if self.turn % 3 == 1:
                return super().writev(fd, [memoryview(buffers[0])[: len(buffers[0]) // 2 + 1]])
            return super().writev(fd, buffers)

    driver = LocalDriver(LocalConfig(tmp_path / "root"), fs=Stubborn())
    await driver.open()
    try:
        await driver.create_bucket("bucket", BucketOptions())
        await put(driver, "k", NEW)
        assert await read(driver, "k") == NEW
    finally:
        await driver.close()
