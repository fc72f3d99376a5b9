"""F10 to F12 on real file systems: full, without inodes, read-only, without descriptors."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.world import (
    Value,
    all_keys,
    descriptors,
    found_at,
    opener,
    put,
    temporary,
    value,
    value_of,
)
from trove_async.driver import BucketOptions, DeleteOptions, GetOptions, HeadOptions
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.errors import PermissionDeniedError, StorageFullError, UnavailableError
from trove_async.testing.faultfs import CHANGES, FaultFS, fails


@contextmanager
def mounted(options: str) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small tmpfs")
    with tempfile.TemporaryDirectory(prefix="trove-small-") as name:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", name],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"mount is refused here: {done.stderr.strip()}")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def remount(path: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(path)], check=True)


async def opened(root: Path) -> LocalDriver:
    driver = opener(root)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    return driver


async def check(driver: LocalDriver, name: str, wanted: Value) -> None:
    info = await driver.head("bucket", name, HeadOptions())
    assert await value_of(driver, "bucket", info) == wanted


@pytest.mark.parametrize("size", [900, 40_000, 300_000])
async def test_F10_a_full_disk_keeps_the_old_and_takes_the_new_when_there_is_room(
    size: int,
) -> None:
    with mounted("size=1m") as base:
        driver = await opened(base / "root")
        old, new = value(1, 40_000), value(2, 1_500_000)
        await put(driver, "bucket/old", old)
        before = descriptors()
        with pytest.raises(StorageFullError):
            await put(driver, "bucket/old", new)
        await check(driver, "old", old)
        assert temporary(base / "root") == []
        count = 0
        with pytest.raises(StorageFullError):
            for count in range(3000):
                await put(driver, f"bucket/fill-{count}", value(count, size))
        assert count >= 2
        assert temporary(base / "root") == []
        with pytest.raises(StorageFullError):
            await put(driver, "bucket/old", value(3, 300_000))
        await check(driver, "old", old)
        assert len(await all_keys(driver, "bucket")) == count + 1
        assert descriptors() == before
        for number in range(count):
            await driver.delete("bucket", f"fill-{number}", DeleteOptions())
        await put(driver, "bucket/old", value(4, 400_000))
        await driver.close()
        assert (await found_at(base / "root"))["bucket/old"] == value(4, 400_000)


async def test_F11_without_inodes_the_put_fails_and_the_store_stays() -> None:
    with mounted("size=8m,nr_inodes=40") as base:
        driver = await opened(base / "root")
        await put(driver, "bucket/old", value(1))
        count = 0
        with pytest.raises(StorageFullError):
            for count in range(60):
                await put(driver, f"bucket/folder-{count}/x", value(count))
        assert temporary(base / "root") == []
        await check(driver, "old", value(1))
        await driver.delete("bucket", "folder-0/x", DeleteOptions())
        await put(driver, "bucket/again", value(9))
        await driver.close()
        assert (await found_at(base / "root"))["bucket/again"] == value(9)


async def test_F12_a_disk_that_becomes_read_only_is_still_read(scratch: Path) -> None:
    fs = FaultFS("slow")
    driver = LocalDriver(LocalConfig(scratch / "root"), fs)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    await put(driver, "bucket/old", value(1))
    for number in (errno.EROFS, errno.EACCES, errno.EPERM):
        fs.arm(fails(number), times=None, only=CHANGES)
        with pytest.raises(PermissionDeniedError):
            await put(driver, "bucket/old", value(2))
        with pytest.raises(PermissionDeniedError):
            await driver.delete("bucket", "old", DeleteOptions())
        await check(driver, "old", value(1))
        assert len(await all_keys(driver, "bucket")) == 1
        fs.disarm()
    await put(driver, "bucket/old", value(3))
    await check(driver, "old", value(3))
    await driver.close()


async def test_F12_a_driver_on_a_read_only_disk_says_so() -> None:
    with mounted("size=4m") as base:
        driver = await opened(base / "root")
        await put(driver, "bucket/old", value(1))
        await driver.close()
        remount(base, "ro")
        before = descriptors()
        with pytest.raises(PermissionDeniedError):
            await opener(base / "root").open()
        assert descriptors() == before
        remount(base, "rw")
        assert (await found_at(base / "root"))["bucket/old"] == value(1)


async def test_F11_without_descriptors_readers_go_on(scratch: Path) -> None:
    driver = await opened(scratch / "root")
    old = value(1, 3_000_000)
    await put(driver, "bucket/old", old)
    raw = await driver.get("bucket", "old", GetOptions())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 2, hard)
        )
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
        with pytest.raises(UnavailableError):
            await put(driver, "bucket/old", value(2))
        with pytest.raises(UnavailableError):
            await driver.head("bucket", "old", HeadOptions())
        data = b"".join([bytes(chunk) async for chunk in raw.body])
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await raw.body.aclose()
    assert data == old.data
    await check(driver, "old", old)
    await put(driver, "bucket/old", value(3))
    await driver.close()
    assert (await found_at(scratch / "root"))["bucket/old"] == value(3)
