"""A cancel at every suspension of every verb: old or new, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import time
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.local.helpers_local import (
    MiB,
    Pieces,
    descriptors,
    every_cancel,
    head,
    keys,
    large,
    leftovers,
    put,
    read,
    threads,
    threads_come_down_to,
)
from trove_async.driver import CopyOptions, DeleteOptions, GetOptions, ListOptions, PutOptions
from trove_async.driver.options import WatchOptions
from trove_async.drivers.local import FS, LocalConfig, LocalDriver
from trove_async.errors import ObjectNotFoundError, StorageFullError, UploadNotFoundError
from trove_async.model import ObjectRef

OLD, NEW = b"old" * 1000, large(3 * MiB)


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("pieces", [1, 5])
async def test_put(driver: LocalDriver, root: Path, pieces: int, twice: bool) -> None:
    size = len(NEW) // pieces + 1 if pieces > 1 else 1024
    new = NEW if pieces > 1 else NEW[:1024]

    async def work() -> None:
        parts = [new[i : i + size] for i in range(0, len(new), size)]
        await driver.put("bucket", "d/k", Pieces(*parts), PutOptions(metadata={"v": "new"}))

    async def check() -> None:
        info, data = await head(driver, "d/k"), await read(driver, "d/k")
        assert (info.metadata, data) in (({"v": "old"}, OLD), ({"v": "new"}, new))
        assert leftovers(root) == []
        await put(driver, "d/k", OLD, PutOptions(metadata={"v": "old"}))

    await put(driver, "d/k", OLD, PutOptions(metadata={"v": "old"}))
    assert await every_cancel(work, check, twice=twice) > 1


@pytest.mark.parametrize("twice", [False, True])
async def test_get(driver: LocalDriver, twice: bool) -> None:
    await put(driver, "k", NEW)

    async def work() -> None:
        found = await driver.get("bucket", "k", GetOptions())
        try:
            async for _ in found.body:
                await asyncio.sleep(0)
        finally:
            await found.body.aclose()

    async def check() -> None:
        gc.collect()
        assert await read(driver, "k") == NEW

    await every_cancel(work, check, twice=twice)


@pytest.mark.parametrize("verb", ["copy", "move"])
async def test_copy_and_move(
    driver: LocalDriver, root: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.drivers.local.copying.PIECE", MiB)
    source, target = ObjectRef("bucket", "s"), ObjectRef("bucket", "d/t")

    async def prepare() -> None:
        await put(driver, "s", NEW)
        await put(driver, "d/t", OLD)

    async def work() -> None:
        if verb == "copy":
            await driver.copy(source, target, CopyOptions())
        else:
            await driver.move(source, target, CopyOptions(content_type="a/b"))

    async def check() -> None:
        data = await read(driver, "d/t")
        assert data in (OLD, NEW)
        try:
            assert await read(driver, "s") == NEW
        except ObjectNotFoundError:
            assert verb == "move"
            assert data == NEW
        assert leftovers(root) == []
        await prepare()

    await prepare()
    assert await every_cancel(work, check) > 3


async def test_delete_list_head_and_buckets(driver: LocalDriver) -> None:
    from trove_async.driver import BucketOptions

    async def work() -> None:
        await put(driver, "a/b", b"x")
        await head(driver, "a/b")
        await driver.list("bucket", ListOptions())
        await driver.delete("bucket", "a/b", DeleteOptions())
        await driver.delete_many("bucket", ["a/b", "c"])
        await driver.create_bucket("second", BucketOptions())
        await driver.list_buckets()
        await driver.delete_bucket("second")
        await driver.set_tags("bucket", "keep", {"t": "1"})

    async def check() -> None:
        assert set(await keys(driver)) <= {"a/b", "keep"}
        for bucket in await driver.list_buckets():
            if bucket.name == "second":
                await driver.delete_bucket("second")

    await put(driver, "keep", b"k")
    await every_cancel(work, check)


async def test_multipart(driver: LocalDriver, root: Path) -> None:
    part = NEW[: 2 * MiB]

    async def work() -> None:
        upload = await driver.initiate_multipart("bucket", "m", PutOptions())
        a = await driver.upload_part("bucket", "m", upload, 1, Pieces(part, part), None)
        b = await driver.upload_part("bucket", "m", upload, 2, Pieces(b"end"), None)
        await driver.list_parts("bucket", "m", upload)
        await driver.complete_multipart("bucket", "m", upload, [a, b], PutOptions())

    async def check() -> None:
        assert await read(driver, "m") in (OLD, part + part + b"end")
        assert leftovers(root) == []
        for upload in await driver.list_uploads("bucket", ""):
            for found in await driver.list_parts("bucket", "m", upload.upload_id):
                assert found.size in (len(part) * 2, 3)
            await driver.abort_multipart("bucket", "m", upload.upload_id)
            with pytest.raises(UploadNotFoundError):
                await driver.list_parts("bucket", "m", upload.upload_id)
        await put(driver, "m", OLD)

    await put(driver, "m", OLD)
    await every_cancel(work, check)


@pytest.mark.parametrize("twice", [False, True])
async def test_open_and_close(tmp_path: Path, twice: bool) -> None:
    root = tmp_path / "root"
    first = LocalDriver(LocalConfig(root))
    await first.open()
    await first.close()
    count = threads()

    async def work() -> None:
        driver = LocalDriver(LocalConfig(root))
        try:
            await driver.open()
        finally:
            await driver.close()

    async def check() -> None:
        assert await threads_come_down_to(count)
        assert not list((root / ".trove" / "tmp").iterdir())

    await every_cancel(work, check, twice=twice)


async def test_watch(driver: LocalDriver) -> None:
    count = threads()

    async def work() -> None:
        events = await driver.watch("bucket", WatchOptions())
        try:
            await put(driver, "w", b"1")
            await anext(events)
        finally:
            await events.aclose()

    async def check() -> None:
        gc.collect()
        assert await threads_come_down_to(count)

    await put(driver, "w", b"0")
    await every_cancel(work, check)


class _SlowFS(FS):
    def writev(self, fd: int, buffers: Any) -> int:
        time.sleep(0.05)
        return super().writev(fd, buffers)

    def medium(self, device: int) -> Any:
        return "slow"


async def test_a_late_write_never_reaches_another_file(tmp_path: Path) -> None:
    """The descriptor's number is used again at once when it is closed too early."""
    driver = LocalDriver(LocalConfig(tmp_path / "root", durability="none"), fs=_SlowFS())
    await driver.open()
    try:
        from trove_async.driver import BucketOptions

        await driver.create_bucket("bucket", BucketOptions())
        secret = b"SECRET" * 300_000
        task = asyncio.create_task(
            driver.put("bucket", "k", Pieces(secret, secret, secret), PutOptions())
        )
        await asyncio.sleep(0.02)
        task.cancel()
        victims = [open(tmp_path / f"v{i}", "w+b") for i in range(5)]  # noqa: SIM115, ASYNC230 -- kept open on purpose
        with pytest.raises(asyncio.CancelledError):
            await task
        victims += [open(tmp_path / f"w{i}", "w+b") for i in range(5)]  # noqa: SIM115, ASYNC230 -- as above
        await asyncio.sleep(0.2)
        for victim in victims:
            victim.seek(0)
            assert victim.read() == b""
            victim.close()
        assert await keys(driver) == []
    finally:
        await driver.close()


async def test_a_dropped_reader_frees_its_descriptor(driver: LocalDriver) -> None:
    await put(driver, "k", NEW)
    before = descriptors()
    for number in range(10):
        found = await driver.get("bucket", "k", GetOptions())
        if number % 2:
            await anext(aiter(found.body))
        del found
    for _ in range(50):
        gc.collect()
        await asyncio.sleep(0.01)
        if descriptors() == before:
            break
    assert descriptors() == before


async def test_closing_while_a_put_pulls_tears_nothing(driver: LocalDriver, root: Path) -> None:
    gate = asyncio.Event()

    class Waiting(Pieces):
        async def __anext__(self) -> Any:
            if self.pulled == 2:
                await gate.wait()
            return await super().__anext__()

    await put(driver, "k", OLD)
    task: asyncio.Task[Any] = asyncio.create_task(
        driver.put("bucket", "k", Waiting(NEW, NEW, NEW, NEW), PutOptions())
    )
    await asyncio.sleep(0.1)
    await driver.close()
    gate.set()
    with pytest.raises(Exception, match="closed"):
        await task
    await driver.open()
    assert await read(driver, "k") == OLD
    assert leftovers(root) == []


class _FullFS(FS):
    """Fails the n-th call that changes anything."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.armed = False

    def hit(self) -> None:
        if self.armed:
            self.left -= 1
            if self.left == 0:
                raise OSError(28, "No space left on device")

    def open(self, path: bytes, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        self.hit()
        return super().open(path, flags, mode, at=at)

    def writev(self, fd: int, buffers: Any) -> int:
        self.hit()
        return super().writev(fd, buffers)

    def fsync(self, fd: int) -> None:
        self.hit()
        super().fsync(fd)

    def rename(self, *args: Any) -> None:
        self.hit()
        super().rename(*args)

    def mkdir(self, *args: Any) -> None:
        self.hit()
        super().mkdir(*args)

    def utime(self, fd: int, nanoseconds: int) -> None:
        self.hit()
        super().utime(fd, nanoseconds)


@pytest.mark.parametrize("metadata", ["auto", "sidecar"])
async def test_a_full_disk_at_every_call_is_said_and_tears_nothing(
    tmp_path: Path, metadata: Any
) -> None:
    from trove_async.driver import BucketOptions

    for number in range(1, 40):
        root = tmp_path / str(number)
        fs = _FullFS(number)
        driver = LocalDriver(LocalConfig(root, metadata=metadata), fs=fs)
        await driver.open()
        try:
            await driver.create_bucket("bucket", BucketOptions())
            await put(driver, "d/k", OLD, PutOptions(metadata={"v": "old"}))
            fds = descriptors()
            fs.armed = True
            try:
                await put(driver, "d/k", NEW, PutOptions(metadata={"v": "new"}))
            except StorageFullError as exc:
                assert (exc.bucket, exc.key, exc.operation) == ("bucket", "d/k", "put")
                assert isinstance(exc.__cause__, OSError)
                acknowledged = False
            else:
                acknowledged = True
            fs.armed = False
            data = await read(driver, "d/k")
            version = (await head(driver, "d/k")).metadata["v"]
            assert (version, data) in (("old", OLD), ("new", NEW))
            assert not acknowledged or version == "new"
            assert leftovers(root) == []
            assert descriptors() == fds
            if acknowledged and fs.left > 0:
                return
        finally:
            await driver.close()
    raise AssertionError("the sweep never came to its end")
