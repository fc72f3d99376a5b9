"""Uploads in parts, in this process and after it."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.drivers.local.helpers_local import MiB, body, head, keys, large, put, read
from trove_async.driver import BucketOptions, DeleteOptions, PutOptions
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.errors import (
    BucketNotFoundError,
    InvalidInputError,
    InvalidPartError,
    PreconditionFailedError,
    UploadNotFoundError,
)
from trove_async.model import PartInfo


async def _part(driver: LocalDriver, upload: str, number: int, data: bytes) -> PartInfo:
    return await driver.upload_part("bucket", "m", upload, number, body(data), len(data))


async def _complete(driver: LocalDriver, upload: str, parts: list[PartInfo]) -> None:
    await driver.complete_multipart("bucket", "m", upload, parts, PutOptions())


async def test_parts_become_one_object(driver: LocalDriver) -> None:
    options = PutOptions("text/x", {"early": "1"}, tags={"t": "1"}, storage_class="C")
    upload = await driver.initiate_multipart("bucket", "m", options)
    datas = {3: b"three", 1: large(2 * MiB, 3), 2: b"two"}
    parts = {n: await _part(driver, upload, n, data) for n, data in datas.items()}
    assert await keys(driver) == []
    assert [u.upload_id for u in await driver.list_uploads("bucket", "m")] == [upload]
    assert await driver.list_uploads("bucket", "x") == []
    listed = await driver.list_parts("bucket", "m", upload)
    assert listed == [parts[1], parts[2], parts[3]]
    late = PutOptions(metadata={"more": "2"}, late=lambda: {"late": "3"})
    info = await driver.complete_multipart("bucket", "m", upload, listed, late)
    assert info == await head(driver, "m")
    assert info.metadata == {"early": "1", "more": "2", "late": "3"}
    assert (info.content_type, info.storage_class) == ("text/x", "C")
    assert await driver.get_tags("bucket", "m") == {"t": "1"}
    assert await read(driver, "m") == datas[1] + b"two" + b"three"
    for call in (
        driver.complete_multipart("bucket", "m", upload, listed, PutOptions()),
        driver.abort_multipart("bucket", "m", upload),
        driver.list_parts("bucket", "m", upload),
    ):
        with pytest.raises(UploadNotFoundError):
            await call
    assert await driver.list_uploads("bucket", "") == []


async def test_wrong_parts_leave_the_upload_usable(driver: LocalDriver) -> None:
    await put(driver, "m", b"old")
    upload = await driver.initiate_multipart("bucket", "m", PutOptions())
    one, two = [await _part(driver, upload, n, b"%d" % n) for n in (1, 2)]
    for bad in ([], [two, one], [one, one], [one, PartInfo(3, "x", 1)], [PartInfo(1, "x", 1)]):
        with pytest.raises(InvalidPartError):
            await _complete(driver, upload, bad)
    for number in (0, 10_001):
        with pytest.raises(InvalidInputError):
            await _part(driver, upload, number, b"x")
    conditional = PutOptions(if_none_match="*")
    with pytest.raises(PreconditionFailedError):
        await driver.complete_multipart("bucket", "m", upload, [one, two], conditional)
    assert await read(driver, "m") == b"old"
    again = await _part(driver, upload, 2, b"new two")
    with pytest.raises(InvalidPartError):
        await _complete(driver, upload, [one, two])
    await _complete(driver, upload, [one, again])
    assert await read(driver, "m") == b"1new two"


async def test_one_part_sent_by_many_is_one_of_them(driver: LocalDriver) -> None:
    upload = await driver.initiate_multipart("bucket", "m", PutOptions())
    await asyncio.gather(*(_part(driver, upload, 1, bytes([n]) * 100_000) for n in range(12)))
    listed = await driver.list_parts("bucket", "m", upload)
    assert len(listed) == 1
    await _complete(driver, upload, listed)
    data = await read(driver, "m")
    assert data == data[:1] * 100_000


async def test_another_driver_resumes(driver: LocalDriver) -> None:
    upload = await driver.initiate_multipart("bucket", "m", PutOptions())
    await _part(driver, upload, 1, b"first ")
    other = driver.sibling()
    await other.open()
    try:
        await _part(other, upload, 2, b"second")
        await _complete(other, upload, await other.list_parts("bucket", "m", upload))
    finally:
        await other.close()
    assert await read(driver, "m") == b"first second"


async def test_two_uploads_of_one_key(driver: LocalDriver) -> None:
    first = await driver.initiate_multipart("bucket", "m", PutOptions())
    second = await driver.initiate_multipart("bucket", "m", PutOptions())
    a = await _part(driver, first, 1, b"a" * 1000)
    b = await _part(driver, second, 1, b"b" * 2000)
    await _complete(driver, second, [b])
    await _complete(driver, first, [a])
    assert await read(driver, "m") == b"a" * 1000


async def test_parts_in_flight_at_an_abort_leave_nothing(driver: LocalDriver, root: Path) -> None:
    for _ in range(10):
        upload = await driver.initiate_multipart("bucket", "m", PutOptions())
        sends = [asyncio.create_task(_part(driver, upload, n, b"x" * 50_000)) for n in range(1, 9)]
        await asyncio.sleep(0)
        await driver.abort_multipart("bucket", "m", upload)
        for result in await asyncio.gather(*sends, return_exceptions=True):
            assert isinstance(result, PartInfo | UploadNotFoundError)
    assert not list((root / ".trove" / "multipart").iterdir())


async def test_uploads_go_with_their_bucket(driver: LocalDriver) -> None:
    await driver.create_bucket("doomed", BucketOptions())
    upload = await driver.initiate_multipart("doomed", "m", PutOptions())
    kept = await driver.initiate_multipart("bucket", "m", PutOptions())
    await driver.delete_bucket("doomed")
    with pytest.raises(BucketNotFoundError):
        await driver.list_parts("doomed", "m", upload)
    await driver.create_bucket("doomed", BucketOptions())
    with pytest.raises(UploadNotFoundError):
        await driver.list_parts("doomed", "m", upload)
    assert await driver.list_parts("bucket", "m", kept) == []
    await driver.abort_multipart("bucket", "m", kept)


async def test_only_stale_uploads_are_swept(root: Path) -> None:
    config = LocalConfig(root, durability="none", multipart_ttl=timedelta(hours=1))
    driver = LocalDriver(config)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    old = await driver.initiate_multipart("bucket", "old", PutOptions())
    new = await driver.initiate_multipart("bucket", "new", PutOptions())
    past = time.time() - 7200
    os.utime(root / ".trove" / "multipart" / old, (past, past))
    await driver.close()
    await driver.open()
    try:
        assert [u.upload_id for u in await driver.list_uploads("bucket", "")] == [new]
    finally:
        await driver.close()


async def test_deleting_the_object_leaves_its_upload(driver: LocalDriver) -> None:
    await put(driver, "m", b"old")
    upload = await driver.initiate_multipart("bucket", "m", PutOptions())
    part = await _part(driver, upload, 1, b"new")
    await driver.delete("bucket", "m", DeleteOptions())
    await _complete(driver, upload, [part])
    assert await read(driver, "m") == b"new"
