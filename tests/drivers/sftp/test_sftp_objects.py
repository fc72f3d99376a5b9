"""Files, records and identities as they lie on the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.drivers.sftp.conftest import Opened
from tests.drivers.sftp.test_sftp_faults import ONE_TRY, Relaying, files, keys, staged
from tests.servers.sshd import Sshd
from trove_async import Trove
from trove_async.drivers.sftp import SFTPDriver
from trove_async.errors import (
    CorruptMetadataError,
    KeyConflictError,
    ObjectNotFoundError,
    PermissionDeniedError,
)


def root_of(store: Trove) -> Path:
    driver = store.driver
    assert isinstance(driver, SFTPDriver)
    return Path(driver.config.path)


def records(store: Trove) -> list[Path]:
    found = (root_of(store) / ".trove" / "meta").rglob("*")
    return sorted(path for path in found if path.is_symlink() or not path.is_dir())


async def test_an_object_is_a_plain_file_and_a_plain_file_is_an_object(
    opened: Opened, sshd: Sshd
) -> None:
    async with opened() as store:
        root = root_of(store)
        await store.put("box", "a/b.txt", b"ours", content_type="text/x", metadata={"k": "v"})
        assert (root / "box/a/b.txt").read_bytes() == b"ours"
        (root / "box/a/foreign.json").write_bytes(b"{}")
        info = await store.head("box", "a/foreign.json")
        assert (info.content_type, info.size, info.checksum) == ("application/json", 2, None)
        assert await store.get_bytes("box", "a/foreign.json") == b"{}"
        assert await keys(store) == ["a/b.txt", "a/foreign.json"]
        (root / "box/a/b.txt").write_bytes(b"changed by another program")
        info = await store.head("box", "a/b.txt")
        assert (info.content_type, info.metadata) == ("text/plain", {}), "its record is stale"
        assert await store.get_bytes("box", "a/b.txt") == b"changed by another program"


async def test_each_version_has_an_identity_of_its_own(opened: Opened) -> None:
    """Size and mtime, of which the mtime is always newer, and listings tell them for nothing."""
    async with opened() as store:
        etags = []
        for number in range(12):
            if number % 4 == 3:
                await store.delete("box", "k")
            info = await store.put("box", "k", b"same size", metadata={"n": str(number)})
            etags.append(info.etag)
            (listed,) = [o async for o in store.list("box")]
            assert isinstance(listed, trove.ObjectInfo)
            assert (listed.etag, listed.last_modified) == (info.etag, info.last_modified)
            assert (await store.head("box", "k")).metadata == {"n": str(number)}
        assert len(set(etags)) == 12
        assert len(records(store)) <= 4, "that of a deleted version stays for a moment only"


async def test_two_clients_never_share_an_identity(opened: Opened) -> None:
    """Also within a second, for the same size and key: the record is claimed."""
    async with opened() as first, opened(root_of(first)) as second:
        stores = [first, second]
        await asyncio.gather(
            *(
                stores[number % 2].put("box", "k", b"12345678", metadata={"n": str(number)})
                for number in range(16)
            )
        )
        info = await first.head("box", "k")
        assert info == await second.head("box", "k") and "n" in info.metadata
        body = await first.get_bytes("box", "k")
        assert body == b"12345678"
        kept = records(first)
        named = {path.name.partition("~")[2] for path in kept}
        assert len(named) == len(kept), "each claim is another pair"


async def test_readers_never_see_one_versions_bytes_with_anothers_record(opened: Opened) -> None:
    async with opened() as writer, opened(root_of(writer)) as reading:
        await writer.put("box", "k", b"0" * 1000, metadata={"n": "0"})
        done = asyncio.Event()

        async def write() -> int:
            for number in range(1, 60):
                body = str(number % 10).encode() * 1000
                await writer.put("box", "k", body, metadata={"n": str(number % 10)})
            done.set()
            return 60

        async def read() -> int:
            seen = 0
            while not done.is_set():
                async with reading.get("box", "k") as reader:
                    body = await reader.read()
                    assert body == reader.info.metadata["n"].encode() * 1000
                seen += 1
            return seen

        counts = await asyncio.gather(write(), *(read() for _ in range(4)))
        assert all(count > 0 for count in counts)


@pytest.mark.parametrize("kind", ["torn", "garbage", "of another object"])
async def test_a_damaged_record_is_an_error_and_never_a_default(opened: Opened, kind: str) -> None:
    async with opened() as store:
        await store.put("box", "k", b"x", metadata={"a": "b"})
        await store.put("box", "other", b"y")
        names = {path: os.readlink(path) for path in records(store)}
        mine = next(path for path, text in names.items() if '"o":"k"' in text)
        text = {
            "torn": names[mine][:-5],
            "garbage": "x" * 100,
            "of another object": next(t for p, t in names.items() if p != mine),
        }[kind]
        mine.unlink()
        mine.symlink_to(text)
        with pytest.raises(CorruptMetadataError):
            await store.head("box", "k")
        with pytest.raises(CorruptMetadataError):
            await store.get_bytes("box", "k")
        await store.put("box", "k", b"z")
        assert await store.get_bytes("box", "k") == b"z", "a new version heals it"


async def test_a_record_too_long_for_a_link_is_a_file(opened: Opened) -> None:
    async with opened() as store:
        driver = store.driver
        metadata = {f"name-{number:03}": "v" * 40 for number in range(120)}
        options = trove.PutOptions(metadata=metadata)
        await driver.put("box", "k", _body(b"x"), options)
        info = await driver.head("box", "k", trove.HeadOptions())
        assert info.metadata == metadata
        assert [path.is_symlink() for path in records(store)] == [False]
        await driver.copy(
            trove.ObjectRef("box", "k"), trove.ObjectRef("box", "l"), trove.CopyOptions()
        )
        assert (await driver.head("box", "l", trove.HeadOptions())).metadata == metadata


async def _body(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


async def test_records_of_one_server_are_read_through_another(
    relay: Relaying, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    versions = ("OpenSSH_9.2", "AsyncSSH_test")
    for number, version in enumerate(versions):
        async with relay(version=version) as server, trove.open(server.dsn(root)) as store:
            if number == 0:
                await store.create_bucket("box")
            await store.put("box", version, b"x", metadata={"by": version})
    kinds = {path.is_symlink() for path in records_below(root)}
    assert kinds == {True, False}
    for version in versions:
        async with relay(version=version) as server, trove.open(server.dsn(root)) as store:
            for by in versions:
                assert (await store.head("box", by)).metadata == {"by": by}


def records_below(root: Path) -> list[Path]:
    found = (root / ".trove" / "meta").rglob("*")
    return [path for path in found if path.is_symlink() or not path.is_dir()]


async def test_a_file_system_without_links_gets_files(relay: Relaying, tmp_path: Path) -> None:
    from trove_async.drivers.sftp import wire

    def refuse(request: bytes, reply: bytes) -> bytes:
        if request[0] != wire.SYMLINK:
            return reply
        status = reply[:5] + (4).to_bytes(4) + b"\0" * 8
        for path in (tmp_path / "root" / ".trove").rglob("*"):
            if path.is_symlink():
                path.unlink()
        return status

    async with (
        relay(version="OpenSSH_9.2") as server,
        trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store,
    ):
        await store.create_bucket("box")
        server.on_reply = refuse
        await store.put("box", "k", b"x", metadata={"a": "b"})
        assert (await store.head("box", "k")).metadata == {"a": "b"}
        assert [path.is_symlink() for path in records_below(tmp_path / "root")] == [False]


async def test_a_chunk_is_free_when_the_next_one_is_asked_for(opened: Opened) -> None:
    """A layer may give its one buffer again and again, and never wait in between."""
    size = 1_000_000
    buffer = bytearray(size)

    async def body() -> AsyncGenerator[memoryview, None]:
        for number in range(3):
            buffer[:] = bytes([number]) * size
            yield memoryview(buffer)
        buffer[:] = b"x" * size

    async with opened() as store:
        await store.driver.put("box", "k", body(), trove.PutOptions())
        got = (root_of(store) / "box" / "k").read_bytes()
        assert got == b"".join(bytes([number]) * size for number in range(3))


# -- what is in the way ---------------------------------------------------------------------------


async def test_keys_that_need_a_file_and_a_folder_at_one_place_conflict(opened: Opened) -> None:
    async with opened() as store:
        await store.put("box", "a", b"file")
        with pytest.raises(KeyConflictError):
            await store.put("box", "a/b", b"x")
        with pytest.raises(KeyConflictError):
            await store.put("box", "a/b/c", bytes(300_000))
        await store.put("box", "d/e", b"x")
        with pytest.raises(KeyConflictError):
            await store.put("box", "d", b"x")
        with pytest.raises(KeyConflictError):
            await store.copy("box", "a", "box", "d")
        assert await store.get_bytes("box", "a") == b"file"
        await store.delete("box", "d/e")
        (root_of(store) / "box/ghost/of/folders").mkdir(parents=True)
        os.chmod(root_of(store) / "box", 0o777)
        await store.put("box", "d", b"a folder that held it is gone")
        assert not staged(root_of(store))


async def test_links_pipes_and_folders_are_no_objects_and_never_block(
    opened: Opened, tmp_path: Path
) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    async with opened() as store:
        box = root_of(store) / "box"
        (box / "link").symlink_to(tmp_path / "outside")
        os.mkfifo(box / "pipe")
        (box / "folder").mkdir()
        await store.put("box", "real", b"x")
        assert await keys(store) == ["real"]
        for key in ("link", "pipe", "folder"):
            with pytest.raises(ObjectNotFoundError):
                await store.get_bytes("box", key)
            with pytest.raises(ObjectNotFoundError):
                await store.head("box", key)
            with pytest.raises(ObjectNotFoundError):
                await store.copy("box", key, "box", "copy")
            await store.delete("box", key)
        assert (box / "link").is_symlink(), "what is no object is not deleted"
        await store.put("box", "link", b"takes the place of the link")
        assert (tmp_path / "outside").read_bytes() == b"secret"
        assert await store.get_bytes("box", "link") == b"takes the place of the link"


async def test_what_the_server_denies_is_a_permission_error(opened: Opened, sshd: Sshd) -> None:
    async with opened() as store:
        await store.put("box", "k", b"x")
        file = root_of(store) / "box" / "k"
        file.chmod(0)
        with pytest.raises(PermissionDeniedError):
            await store.get_bytes("box", "k")
        file.chmod(0o644)
        assert await store.get_bytes("box", "k") == b"x"


async def test_a_read_only_server_can_be_read(start_sshd: Callable[..., Sshd]) -> None:
    server = start_sshd("-R")
    root = server.new_root()
    (root / "box").mkdir(parents=True)
    (root / "box" / "k.txt").write_bytes(b"there")
    async with trove.open(server.dsn(root, agent="false"), retry=ONE_TRY) as store:
        assert await store.get_bytes("box", "k.txt") == b"there"
        assert [b.name for b in await store.list_buckets()] == ["box"]
        with pytest.raises(PermissionDeniedError):
            await store.put("box", "k", b"x")


# -- what is left behind --------------------------------------------------------------------------


async def test_opening_sweeps_what_is_old_and_nothing_else(opened: Opened, sshd: Sshd) -> None:
    async with opened() as store:
        root = root_of(store)
        await store.put("box", "k", b"x", metadata={"a": "b"})
        await store.put("box", "gone", b"y")
        (root / "box" / "gone").unlink()
        for path in records(store):
            os.utime(path, (1, 1), follow_symlinks=False)
        for name, stamp in (("old", 1), ("fresh", None)):
            path = root / ".trove" / "tmp" / name
            path.write_bytes(b"half")
            os.chmod(path, 0o666)
            if stamp is not None:
                os.utime(path, (stamp, stamp))
    for _ in range(40):  # one folder of records is looked into each time, by chance
        async with opened(root) as store:
            pass
        if len(records_below(root)) == 1:
            break
    async with opened(root) as store:
        assert staged(root) == ["fresh"]
        assert len(records_below(root)) == 1
        assert (await store.head("box", "k")).metadata == {"a": "b"}


async def test_nothing_is_left_of_puts_that_fail(opened: Opened) -> None:
    class Broken(Exception):
        pass

    async def body(count: int) -> AsyncGenerator[bytes, None]:
        for _ in range(count):
            yield bytes(300_000)
        raise Broken

    async with opened() as store:
        await store.put("box", "k", b"old")
        before = files(root_of(store))
        for count in (0, 1, 9):
            with pytest.raises(Broken):
                await store.put("box", "k", body(count))
        with pytest.raises(trove.BucketNotFoundError):
            await store.put("missing", "k", bytes(3_000_000))
        assert await store.get_bytes("box", "k") == b"old"
        assert files(root_of(store)) == before
