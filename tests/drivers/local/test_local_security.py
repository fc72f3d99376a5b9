"""Nothing outside the root is read, written, listed or removed."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import socket
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.drivers.local.helpers_local import Pieces, body, head, keys, large, put, read
from trove_async.driver import (
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    parse_dsn,
)
from trove_async.drivers.local import FS, LocalConfig, LocalDriver
from trove_async.errors import (
    BucketNotFoundError,
    InvalidBucketNameError,
    InvalidConfigError,
    InvalidDSNError,
    KeyConflictError,
    ObjectNotFoundError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.model import ObjectRef

_EXCHANGE = 2  # RENAME_EXCHANGE


@pytest.mark.parametrize("bucket", ["..", ".", "a/../b", "", ".trove", "/etc", "~", "a\\b", "A B"])
async def test_S02_L1_no_bucket_name_leaves_the_root(
    driver: LocalDriver, root: Path, bucket: str
) -> None:
    outside = root.parent / "outside.txt"
    outside.write_bytes(b"secret")
    ref = ObjectRef(bucket, "outside.txt")
    for call in (
        driver.put(bucket, "outside.txt", body(b"x"), PutOptions()),
        driver.get(bucket, "outside.txt", GetOptions()),
        driver.head(bucket, "outside.txt", HeadOptions()),
        driver.delete(bucket, "outside.txt", DeleteOptions()),
        driver.list(bucket, ListOptions()),
        driver.copy(ref, ObjectRef("bucket", "k"), CopyOptions()),
        driver.create_bucket(bucket, BucketOptions()),
        driver.delete_bucket(bucket),
        driver.initiate_multipart(bucket, "k", PutOptions()),
        driver.list_uploads(bucket, ""),
    ):
        with pytest.raises(InvalidBucketNameError):
            await call
    assert outside.read_bytes() == b"secret"


async def test_S01_encoded_and_odd_names_stay_inside(driver: LocalDriver, root: Path) -> None:
    for key in ("%2e%2e/x", "~/x", "..\\x", "...", "C:\\x", "%2e%2e%2fetc"):
        await put(driver, key, b"inside")
        assert (root / "bucket" / key).read_bytes() == b"inside"
    assert sorted(p.name for p in root.iterdir()) == [".trove", "bucket"]


@pytest.mark.parametrize("has_openat2", [True, False])
async def test_S03_links_are_never_followed(
    driver: LocalDriver, root: Path, has_openat2: bool
) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "f").write_bytes(b"secret")
    driver._fs.has_openat2 = has_openat2
    place = root / "bucket"
    os.symlink(outside / "f", place / "file")
    os.symlink(outside, place / "folder")
    os.symlink(outside, root / "linked")
    for key in ("file", "folder/f", "folder"):
        with pytest.raises(ObjectNotFoundError):
            await read(driver, key)
        with pytest.raises(ObjectNotFoundError):
            await head(driver, key)
        await driver.delete("bucket", key, DeleteOptions())
        with pytest.raises(ObjectNotFoundError):
            await driver.copy(ObjectRef("bucket", key), ObjectRef("bucket", "c"), CopyOptions())
    assert await keys(driver) == []
    assert await keys(driver, prefix="folder/") == []
    with pytest.raises(KeyConflictError):
        await put(driver, "folder/new", b"x")
    await put(driver, "file", b"replaces the link")
    assert (outside / "f").read_bytes() == b"secret"
    assert sorted(os.listdir(outside)) == ["f"]
    for call in (
        driver.get("linked", "f", GetOptions()),
        driver.put("linked", "f", body(b"x"), PutOptions()),
        driver.delete("linked", "f", DeleteOptions()),
        driver.list("linked", ListOptions()),
        driver.delete_bucket("linked"),
    ):
        with pytest.raises(BucketNotFoundError):
            await call
    assert [b.name for b in await driver.list_buckets()] == ["bucket"]
    (place / "folder").unlink()
    (root / "linked").unlink()


async def test_S03_a_linked_sidecar_is_not_read(root: Path) -> None:
    driver = LocalDriver(LocalConfig(root, durability="none", metadata="sidecar"))
    await driver.open()
    try:
        await driver.create_bucket("bucket", BucketOptions())
        await put(driver, "k", b"x", PutOptions(metadata={"a": "1"}))
        (sidecar,) = [p for p in (root / ".trove" / "meta").rglob("*") if p.is_file()]
        target = root.parent / "elsewhere"
        os.rename(sidecar, target)
        os.symlink(target, sidecar)
        with pytest.raises(TroveError):
            await head(driver, "k")
    finally:
        await driver.close()


@pytest.mark.parametrize("has_openat2", [True, False])
async def test_S04_F16_a_folder_swapped_for_a_link_never_leads_out(
    driver: LocalDriver, root: Path, has_openat2: bool
) -> None:
    driver._fs.has_openat2 = has_openat2
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "k").write_bytes(b"secret")
    await put(driver, "d/k", b"inside")
    place, link = os.fsencode(root / "bucket" / "d"), os.fsencode(root / "bucket" / "link")
    os.symlink(outside, link)
    stop = threading.Event()
    libc = ctypes.CDLL(None)
    swaps = 0

    def swap() -> None:
        nonlocal swaps
        while not stop.is_set():
            swaps += libc.renameat2(-100, place, -100, link, _EXCHANGE) == 0

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        loop = asyncio.get_running_loop()
        end = loop.time() + 1.5
        while loop.time() < end:
            with suppress(ObjectNotFoundError):
                assert await read(driver, "d/k") in (b"inside", b"mine")
            for call in (
                driver.put("bucket", "d/new", body(b"mine"), PutOptions()),
                driver.put("bucket", "d/k", body(b"mine"), PutOptions()),
                driver.delete("bucket", "d/new", DeleteOptions()),
                driver.list("bucket", ListOptions(prefix="d/")),
            ):
                with suppress(TroveError):  # the folder is a link at that moment
                    await call
    finally:
        stop.set()
        thread.join()
    assert swaps > 100
    assert os.listdir(outside) == ["k"]
    assert (outside / "k").read_bytes() == b"secret"


async def test_S05_pipes_sockets_and_devices_never_block(driver: LocalDriver, root: Path) -> None:
    place = root / "bucket"
    os.mkfifo(place / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        folder = os.open(place, os.O_RDONLY)
        try:
            listener.bind(f"/proc/self/fd/{folder}/sock")
        finally:
            os.close(folder)
        names = ["pipe", "sock"]
        if os.geteuid() == 0:
            os.mknod(place / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
            names.append("null")
        async with asyncio.timeout(10):
            for name in names:
                with pytest.raises(ObjectNotFoundError):
                    await read(driver, name)
                with pytest.raises(ObjectNotFoundError):
                    await head(driver, name)
                await driver.delete("bucket", name, DeleteOptions())
            assert await keys(driver) == []
            await put(driver, "pipe", b"now an object")
            assert await read(driver, "pipe") == b"now an object"


async def test_S08_modes(tmp_path: Path) -> None:
    seen: list[int] = []
    root = tmp_path / "root"

    class Looking(FS):
        def writev(self, fd: int, buffers: Any) -> int:
            seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
            return super().writev(fd, buffers)

    old = os.umask(0o027)
    try:
        driver = LocalDriver(LocalConfig(root, metadata="sidecar"), fs=Looking())
        await driver.open()
    finally:
        os.umask(old)
    try:
        await driver.create_bucket("bucket", BucketOptions())
        await driver.put("bucket", "k", Pieces(large(), large()), PutOptions())
        assert set(seen) == {0o600}
        sidecars = [p for p in (root / ".trove" / "meta").rglob("*") if p.is_file()]
        assert [stat.S_IMODE(p.stat().st_mode) for p in sidecars] == [0o640]
        assert stat.S_IMODE((root / "bucket" / "k").stat().st_mode) == 0o640
        assert stat.S_IMODE((root / ".trove").stat().st_mode) == 0o700
        assert stat.S_IMODE((root / ".trove" / "tmp").stat().st_mode) == 0o700
    finally:
        await driver.close()


async def test_S09_the_root_is_private_and_an_open_one_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "new" / "root"
    driver = LocalDriver(LocalConfig(root))
    with caplog.at_level(logging.WARNING):
        await driver.open()
        await driver.close()
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert not caplog.records
    root.chmod(0o777)
    with caplog.at_level(logging.WARNING):
        await driver.open()
        await driver.close()
    assert "writable by everybody" in caplog.text


async def test_upload_ids_are_only_ids(driver: LocalDriver, root: Path) -> None:
    upload = await driver.initiate_multipart("bucket", "k", PutOptions())
    for bad in ("", "..", "../tmp", upload.upper(), upload[:-1], upload + "/", "0" * 32, "é" * 32):
        if bad == upload:
            continue
        with pytest.raises(UploadNotFoundError):
            await driver.abort_multipart("bucket", "k", bad)
    with pytest.raises(UploadNotFoundError):
        await driver.upload_part("bucket", "other", upload, 1, body(b"x"), 1)
    await driver.abort_multipart("bucket", "k", upload)


async def test_L3_no_user_key_touches_private_state(driver: LocalDriver) -> None:
    await put(driver, "a", b"1", PutOptions(metadata={"a": "1"}))
    for key in ("a.meta.json", ".trove-tmp-x", ".trove/meta/x", ".trove/locks", "a.trove"):
        await put(driver, key, b'{"content_type":"evil/x"}')
    assert (await head(driver, "a")).metadata == {"a": "1"}
    await driver.delete("bucket", "a", DeleteOptions())
    assert len(await keys(driver)) == 5


def test_connection_strings(tmp_path: Path) -> None:
    def root_of(text: str) -> str:
        return str(LocalDriver.from_dsn(parse_dsn(text)).config.root)

    assert root_of("file:///var/data/trove") == "/var/data/trove"
    assert root_of("local:///abs") == "/abs"
    assert root_of("local://./rel/x") == "./rel/x"
    assert root_of("file:///with%20space") == "/with space"
    driver = LocalDriver.from_dsn(parse_dsn("file:///x?durability=none&metadata=sidecar"))
    assert (driver.config.durability, driver.config.metadata) == ("none", "sidecar")
    assert LocalDriver.from_dsn(parse_dsn(driver.dsn)).config == driver.config
    for bad in (
        "file://host/x",
        "file:///x?durability=maybe",
        "file:///x?mode=777",
        "file://",
        "local://rel/x",
        "file://user@/x",
    ):
        with pytest.raises(InvalidDSNError):
            LocalDriver.from_dsn(parse_dsn(bad))
    with pytest.raises(InvalidConfigError):
        LocalConfig("")


async def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(InvalidConfigError):
        await LocalDriver(LocalConfig(tmp_path / "f")).open()
