"""F03: a record on disk that is cut short or has a wrong byte is said, never guessed at."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.world import Place, all_keys, opener, put, sidecars, value, value_of
from trove_async.driver import BucketOptions, CopyOptions, DeleteOptions, GetOptions, HeadOptions
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.meta import XATTR
from trove_async.errors import CorruptMetadataError
from trove_async.model import ObjectRef

OLD = value(3, 50, t="x")
NEW = value(4, 60)


def record_of(root: Path, place: Place) -> tuple[bytes, Callable[[bytes], None]]:
    """The record of the one object, and a way to write another in its place."""
    if place == "sidecar":
        (name,) = sidecars(root)
        path = Path(name)

        def write(data: bytes) -> None:
            path.write_bytes(data)

        return path.read_bytes(), write
    held = os.fsencode(root / "bucket" / "k")
    return os.getxattr(held, XATTR), lambda data: os.setxattr(held, XATTR, data)


async def opened(scratch: Path, place: Place) -> LocalDriver:
    driver = opener(scratch / "root", place)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    await put(driver, "bucket/k", OLD)
    return driver


@pytest.mark.parametrize("place", ["xattr", "sidecar"])
async def test_F03_every_cut_and_every_wrong_byte_is_said(scratch: Path, place: Place) -> None:
    driver = await opened(scratch, place)
    try:
        whole, write = record_of(scratch / "root", place)
        broken = [whole[:length] for length in range(len(whole))]
        for at in range(len(whole)):
            wrong = {whole[at] ^ 1, whole[at] ^ 0x80, 0} - {whole[at]}
            broken += [whole[:at] + bytes([byte]) + whole[at + 1 :] for byte in sorted(wrong)]
        broken += [whole + b"\0", whole + whole, b"\0" * len(whole), b"null", b"{}"]
        assert len(broken) > 4 * 100
        for data in broken:
            write(data)
            with pytest.raises(CorruptMetadataError):
                await driver.head("bucket", "k", HeadOptions())
            with pytest.raises(CorruptMetadataError):
                await driver.get("bucket", "k", GetOptions())
        write(whole)
        (info,) = await all_keys(driver, "bucket")
        assert await value_of(driver, "bucket", info) == OLD
    finally:
        await driver.close()


@pytest.mark.parametrize("place", ["xattr", "sidecar"])
async def test_F03_a_torn_record_harms_no_other_object_and_can_be_replaced(
    scratch: Path, place: Place
) -> None:
    driver = await opened(scratch, place)
    try:
        whole, write = record_of(scratch / "root", place)
        await put(driver, "bucket/other", NEW)
        write(whole[:-3])
        with pytest.raises(CorruptMetadataError):
            await driver.copy(ObjectRef("bucket", "k"), ObjectRef("bucket", "c"), CopyOptions())
        found = await driver.head("bucket", "other", HeadOptions())
        assert await value_of(driver, "bucket", found) == NEW
        await put(driver, "bucket/k", NEW)
        found = await driver.head("bucket", "k", HeadOptions())
        assert await value_of(driver, "bucket", found) == NEW
        whole, write = record_of_named(scratch / "root", place, "k")
        write(b"")
        await driver.delete("bucket", "k", DeleteOptions())
        assert [info.key for info in await all_keys(driver, "bucket")] == ["other"]
    finally:
        await driver.close()


def record_of_named(root: Path, place: Place, key: str) -> tuple[bytes, Callable[[bytes], None]]:
    if place == "sidecar":
        needle = f'"o":"{key}"'.encode()
        (path,) = [Path(p) for p in sidecars(root) if needle in Path(p).read_bytes()]

        def write(data: bytes) -> None:
            path.write_bytes(data)

        return path.read_bytes(), write
    return record_of(root, place)
