"""Round trips, keys, metadata and ranges on plain files."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from tests.drivers.local.helpers_local import MiB, Pieces, body, head, keys, large, put, read
from trove_async.driver import (
    BatchDeleteDriver,
    BucketOptions,
    ByteRange,
    CopyOptions,
    DeleteOptions,
    Driver,
    GetOptions,
    HeadOptions,
    LifecycleDriver,
    ListOptions,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    PutOptions,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    capability,
)
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.local.names import Target
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    CorruptMetadataError,
    DriverClosedError,
    InvalidKeyError,
    InvalidRangeError,
    KeyConflictError,
    NotModifiedError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TruncatedError,
    UnsupportedError,
)
from trove_async.model import ObjectRef

ODD_KEYS = [
    " lead mid trail ",
    "100%",
    "%48%49",
    "a?b#c&d=e+f",
    "a\\b",
    'a:b*c"d<e>f|g',
    "x.meta.json",
    ".trove-tmp-1",
    "a#1",
    "🙀/🇦🇺.bin",
    "\u202e\u200b",
    "e\u0301",
    "\u00e9",
    "a\r\nX: y",
    "\x01\x1f\x7f",
    "CON",
    "a.",
    "~",
    ".trove",
    "s" * 255,
    "/".join("x" * 512),
    "/".join(["漢" * 85] * 4),
]


@pytest.mark.parametrize("size", [0, 1, 1024, 256 * 1024 + 1, MiB, MiB + 1, 5 * MiB])
async def test_a_body_comes_back_as_it_went(driver: LocalDriver, size: int) -> None:
    data = large(size)[:size]
    info = await put(driver, "k", data)
    assert info.size == info.stored_size == size
    assert await read(driver, "k") == data


async def test_odd_keys_are_exact_names(driver: LocalDriver) -> None:
    for number, key in enumerate(ODD_KEYS):
        await put(driver, key, b"%d" % number)
    for number, key in enumerate(ODD_KEYS):
        assert await read(driver, key) == b"%d" % number
    assert await keys(driver) == sorted(ODD_KEYS, key=str.encode)
    assert await keys(driver, page_size=1) == sorted(ODD_KEYS, key=str.encode)
    for key in ODD_KEYS:
        await driver.delete("bucket", key, DeleteOptions())
    assert await keys(driver) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "/a",
        "a//",
        "a//b",
        ".",
        "..",
        "a/./b",
        "a/../b",
        "../x",
        "s" * 256,
        "a\0b",
        "\ud800",
    ],
)
async def test_what_no_file_system_holds_is_refused_everywhere(
    driver: LocalDriver, key: str
) -> None:
    ref, good = ObjectRef("bucket", key), ObjectRef("bucket", "good")
    await put(driver, "good", b"g")
    with pytest.raises(InvalidKeyError):
        await put(driver, key, b"x")
    with pytest.raises(InvalidKeyError):
        await driver.get("bucket", key, GetOptions())
    with pytest.raises(InvalidKeyError):
        await driver.head("bucket", key, HeadOptions())
    with pytest.raises(InvalidKeyError):
        await driver.delete("bucket", key, DeleteOptions())
    with pytest.raises(InvalidKeyError):
        await driver.copy(ref, good, CopyOptions())
    with pytest.raises(InvalidKeyError):
        await driver.copy(good, ref, CopyOptions())
    with pytest.raises(InvalidKeyError):
        await driver.move(good, ref, CopyOptions())
    with pytest.raises(InvalidKeyError):
        await driver.initiate_multipart("bucket", key, PutOptions())
    assert await keys(driver) == ["good"]


async def test_a_key_with_a_slash_at_its_end_is_a_folder_that_stays(driver: LocalDriver) -> None:
    with pytest.raises(InvalidKeyError):
        await put(driver, "a/b/", b"x")
    assert await keys(driver) == []
    await put(driver, "a/b/", b"")
    await put(driver, "a/b/c", b"x")
    assert await keys(driver) == ["a/b/", "a/b/c"]
    info = await driver.head("bucket", "a/b/", HeadOptions())
    assert (info.key, info.size) == ("a/b/", 0)
    page = await driver.list("bucket", ListOptions(delimiter="/"))
    assert page.prefixes == ["a/"]
    await driver.delete("bucket", "a/b/c", DeleteOptions())
    assert await keys(driver) == ["a/b/"]
    with pytest.raises(KeyConflictError):
        await put(driver, "a/b", b"x")
    with pytest.raises(BucketNotEmptyError):
        await driver.delete_bucket("bucket")
    here, there = ObjectRef("bucket", "a/b/"), ObjectRef("bucket", "c/")
    assert (await driver.copy(here, there, CopyOptions())).key == "c/"
    assert await keys(driver) == ["a/b/", "c/"]
    await driver.move(there, ObjectRef("bucket", "d/e/"), CopyOptions())
    assert await keys(driver) == ["a/b/", "d/e/"]
    await driver.delete_many("bucket", ["d/e/", "d/e/"])
    await driver.delete("bucket", "a/b/", DeleteOptions())
    await driver.delete("bucket", "a/b/", DeleteOptions())
    assert await keys(driver) == []
    with pytest.raises(ObjectNotFoundError):
        await driver.head("bucket", "a/b/", HeadOptions())
    await put(driver, "a", b"x")


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a")])
async def test_a_key_beside_its_own_prefix_is_a_conflict(
    driver: LocalDriver, first: str, second: str
) -> None:
    await put(driver, first, b"old")
    with pytest.raises(KeyConflictError):
        await put(driver, second, b"new")
    assert await read(driver, first) == b"old"
    assert await keys(driver) == [first]


async def test_put_head_get_and_list_agree(driver: LocalDriver) -> None:
    options = PutOptions(
        "text/x-odd",
        {"name": "é 漢字 🙀", "empty": "", "quote": '"\\\n'},
        tags={"t": "v"},
        storage_class="COLD",
        late=lambda: {"late": "1"},
    )
    info = await put(driver, "k", b"body", options)
    assert info.metadata == {**options.metadata, "late": "1"}
    assert (info.content_type, info.storage_class) == ("text/x-odd", "COLD")
    assert await head(driver, "k") == info
    assert (await driver.get("bucket", "k", GetOptions())).info == info
    assert (await driver.list("bucket", ListOptions())).objects == [info]
    assert await driver.get_tags("bucket", "k") == {"t": "v"}


async def test_new_tags_leave_the_rest_alone(driver: LocalDriver) -> None:
    info = await put(driver, "k", b"body", PutOptions(metadata={"m": "1"}))
    await driver.set_tags("bucket", "k", {"new": "tag"})
    assert await driver.get_tags("bucket", "k") == {"new": "tag"}
    assert await head(driver, "k") == info
    await driver.set_tags("bucket", "k", {str(i): "v" * 256 for i in range(10)})
    assert await head(driver, "k") == info


async def test_metadata_too_large_for_an_attribute_goes_beside(driver: LocalDriver) -> None:
    metadata = {f"name{i}": "v" * 1000 for i in range(70)}
    info = await put(driver, "k", b"body", PutOptions(metadata=metadata))
    assert (await head(driver, "k")).metadata == metadata
    await put(driver, "k", b"body", PutOptions(metadata={"small": "1"}))
    assert (await head(driver, "k")).metadata == {"small": "1"}
    assert (await head(driver, "k")).etag != info.etag


async def test_an_overwrite_in_the_same_tick_has_a_later_time(driver: LocalDriver) -> None:
    infos = [await put(driver, "k", b"same size") for _ in range(50)]
    assert len({info.etag for info in infos}) == 50
    stamps = [info.last_modified for info in infos]
    assert stamps == sorted(stamps)


async def test_ranges(driver: LocalDriver) -> None:
    data = large(2 * MiB)[: 2 * MiB]
    await put(driver, "k", data)
    for wanted in (ByteRange(0, 1), ByteRange(5, MiB + 3), ByteRange(-7), ByteRange(7, 7)):
        start, stop = wanted.resolve(len(data))
        found = await driver.get("bucket", "k", GetOptions(range=wanted))
        assert (found.start, found.stop, found.info.size) == (start, stop, len(data))
        assert b"".join([bytes(chunk) async for chunk in found.body]) == data[start:stop]
        await found.body.aclose()
    with pytest.raises(InvalidRangeError):
        await driver.get("bucket", "k", GetOptions(range=ByteRange(len(data))))
    many = [ByteRange(i * 1000, i * 1000 + 10) for i in range(50)]
    found_many = await driver.get_ranges("bucket", "k", many, GetOptions())
    assert found_many == [data[r.start : r.stop] for r in many]


async def test_a_body_that_fails_leaves_the_old_object(driver: LocalDriver, root: Path) -> None:
    await put(driver, "k", b"old")
    for pieces in ([], [b"x"], [large(MiB)] * 3):
        error = OSError("the source broke")
        broken = Pieces(*pieces, fail=error)
        with pytest.raises(OSError, match="the source broke") as caught:
            await driver.put("bucket", "k", broken, PutOptions())
        assert caught.value is error
        assert broken.closed == 0
    assert await read(driver, "k") == b"old"
    await driver.delete("bucket", "k", DeleteOptions())


async def test_a_reused_buffer_is_stored_as_it_was_given(driver: LocalDriver) -> None:
    class Reusing(Pieces):
        buffer = bytearray(MiB)
        number = 0

        async def __anext__(self) -> bytearray:
            self.number += 1
            if self.number > 4:
                raise StopAsyncIteration
            self.buffer[:] = bytes([self.number]) * MiB
            return self.buffer

    await driver.put("bucket", "k", Reusing(), PutOptions())
    assert await read(driver, "k") == b"".join(bytes([n]) * MiB for n in (1, 2, 3, 4))


async def test_many_small_chunks(driver: LocalDriver) -> None:
    await driver.put("bucket", "k", Pieces(*[b"%d" % (i % 10) for i in range(5000)]), PutOptions())
    assert await read(driver, "k") == b"0123456789" * 500


async def test_an_open_reader_keeps_its_version(driver: LocalDriver) -> None:
    old, new = large(3 * MiB, 3), large(3 * MiB, 5)
    await put(driver, "k", old)
    found = await driver.get("bucket", "k", GetOptions())
    first = bytes(await anext(aiter(found.body)))
    await put(driver, "k", new)
    await driver.delete("bucket", "k", DeleteOptions())
    assert first + b"".join([bytes(c) async for c in found.body]) == old
    await found.body.aclose()


async def test_a_file_cut_short_under_a_reader_is_no_short_success(
    driver: LocalDriver, root: Path
) -> None:
    await put(driver, "k", large(4 * MiB))
    found = await driver.get("bucket", "k", GetOptions())
    os.truncate(root / "bucket" / "k", MiB)
    with pytest.raises(TruncatedError):
        async for _ in found.body:
            pass
    await found.body.aclose()


async def test_conditions(driver: LocalDriver) -> None:
    create = PutOptions(if_none_match="*")
    first = await put(driver, "k", b"1", create)
    with pytest.raises(PreconditionFailedError) as caught:
        await put(driver, "k", b"2", create)
    assert (caught.value.bucket, caught.value.key) == ("bucket", "k")
    with pytest.raises(PreconditionFailedError):
        await put(driver, "k", b"2", PutOptions(if_match="stale"))
    with pytest.raises(PreconditionFailedError):
        await put(driver, "new/deep", b"2", PutOptions(if_match=first.etag))
    second = await put(driver, "k", b"2", PutOptions(if_match=first.etag))
    with pytest.raises(NotModifiedError):
        await driver.get("bucket", "k", GetOptions(if_none_match=second.etag))
    with pytest.raises(PreconditionFailedError):
        await driver.get("bucket", "k", GetOptions(if_match=first.etag))
    with pytest.raises(NotModifiedError):
        await driver.get("bucket", "k", GetOptions(if_modified_since=second.last_modified))
    with pytest.raises(PreconditionFailedError):
        await driver.delete("bucket", "k", DeleteOptions(if_match=first.etag))
    with pytest.raises(PreconditionFailedError):
        await driver.delete("bucket", "gone", DeleteOptions(if_match=first.etag))
    assert await keys(driver) == ["k"]
    await driver.delete("bucket", "k", DeleteOptions(if_match=second.etag))
    assert await keys(driver) == []


async def test_buckets(driver: LocalDriver, root: Path) -> None:
    with pytest.raises(BucketExistsError):
        await driver.create_bucket("bucket", BucketOptions())
    await driver.create_bucket("another", BucketOptions())
    (root / "Not a bucket").mkdir()
    assert [info.name for info in await driver.list_buckets()] == ["another", "bucket"]
    await put(driver, "a/b", b"x")
    with pytest.raises(BucketNotEmptyError):
        await driver.delete_bucket("bucket")
    assert await read(driver, "a/b") == b"x"
    await driver.delete("bucket", "a/b", DeleteOptions())
    (root / "bucket" / "empty" / "deeper").mkdir(parents=True)
    assert await keys(driver) == []
    await driver.delete_bucket("bucket")
    for call in (
        driver.delete_bucket("bucket"),
        driver.put("bucket", "k", body(b"x"), PutOptions()),
        driver.put("bucket", "k/l", Pieces(large(MiB), large(MiB)), PutOptions()),
        driver.get("bucket", "k", GetOptions()),
        driver.head("bucket", "k", HeadOptions()),
        driver.delete("bucket", "k", DeleteOptions()),
        driver.delete_many("bucket", ["k"]),
        driver.list("bucket", ListOptions()),
        driver.initiate_multipart("bucket", "k", PutOptions()),
        driver.list_uploads("bucket", ""),
    ):
        with pytest.raises(BucketNotFoundError) as caught:
            await call
        assert caught.value.bucket == "bucket"
    assert not (root / "bucket").exists()
    with pytest.raises(UnsupportedError):
        await driver.create_bucket("third", BucketOptions(region="moon"))


async def test_folders_go_with_their_last_object(driver: LocalDriver, root: Path) -> None:
    await put(driver, "a/b/c/one", b"1")
    await put(driver, "a/two", b"2")
    await driver.delete("bucket", "a/b/c/one", DeleteOptions())
    assert not (root / "bucket" / "a" / "b").exists()
    assert await read(driver, "a/two") == b"2"
    results = await driver.delete_many("bucket", ["a/two", "missing", "bad//key", "a/two"])
    assert [r.key for r in results] == ["a/two", "missing", "bad//key", "a/two"]
    assert [type(r.error) for r in results] == [type(None), type(None), InvalidKeyError, type(None)]
    assert (root / "bucket").is_dir()
    assert not any((root / "bucket").iterdir())


async def test_copy_and_move(driver: LocalDriver) -> None:
    await driver.create_bucket("other", BucketOptions())
    data = large(2 * MiB)
    options = PutOptions("text/x", {"a": "1"}, tags={"t": "1"})
    source = await put(driver, "dir/s", data, options)
    here, there = ObjectRef("bucket", "dir/s"), ObjectRef("other", "x/y/t")
    copied = await driver.copy(here, there, CopyOptions())
    assert (copied.metadata, copied.content_type) == ({"a": "1"}, "text/x")
    assert copied.etag != source.etag
    assert await read(driver, "x/y/t", "other") == data
    with pytest.raises(PreconditionFailedError):
        await driver.copy(here, there, CopyOptions(if_none_match="*"))
    with pytest.raises(ObjectChangedError):
        await driver.copy(here, there, CopyOptions(source_if_match="other"))
    replaced = await driver.copy(here, there, CopyOptions(metadata={"b": "2"}, content_type="a/b"))
    assert (replaced.metadata, replaced.content_type) == ({"b": "2"}, "a/b")
    moved = await driver.move(here, ObjectRef("bucket", "fresh"), CopyOptions())
    assert (moved.metadata, moved.content_type) == ({"a": "1"}, "text/x")
    assert await head(driver, "fresh") == moved
    assert await keys(driver) == ["fresh"]
    assert await driver.get_tags("bucket", "fresh") == {"t": "1"}
    assert await read(driver, "fresh") == data
    over = await driver.move(ObjectRef("bucket", "fresh"), there, CopyOptions())
    assert (await driver.head("other", "x/y/t", HeadOptions())) == over
    assert over.metadata == {"a": "1"}
    assert await keys(driver) == []
    with pytest.raises(ObjectNotFoundError):
        await driver.copy(here, there, CopyOptions())
    await put(driver, "a", b"1")
    with pytest.raises(KeyConflictError):
        await driver.move(there, ObjectRef("bucket", "a/b"), CopyOptions())
    same = await driver.move(there, there, CopyOptions())
    assert same == over


async def test_foreign_files_are_objects(driver: LocalDriver, root: Path) -> None:
    folder = root / "bucket" / "docs"
    folder.mkdir()
    (folder / "page.html").write_bytes(b"<p>")
    (folder / "noext").write_bytes(b"?")
    info = await head(driver, "docs/page.html")
    assert (info.content_type, info.metadata, info.size) == ("text/html", {}, 3)
    assert (await head(driver, "docs/noext")).content_type == "application/octet-stream"
    assert await keys(driver) == ["docs/noext", "docs/page.html"]
    before = await head(driver, "docs/noext")
    (folder / "noext").write_bytes(b"!")
    assert (await head(driver, "docs/noext")).etag != before.etag
    moved = await driver.move(
        ObjectRef("bucket", "docs/page.html"), ObjectRef("bucket", "page.bin"), CopyOptions()
    )
    assert moved.content_type == "text/html"


async def test_a_record_does_not_outlive_a_foreign_write(driver: LocalDriver, root: Path) -> None:
    await put(driver, "k.txt", b"ours", PutOptions("text/x", {"a": "1"}))
    (root / "bucket" / "k.txt").write_bytes(b"their")
    info = await head(driver, "k.txt")
    assert (info.content_type, info.metadata, info.size) == ("text/plain", {}, 5)


async def test_every_damaged_record_is_said(root: Path) -> None:
    driver = LocalDriver(LocalConfig(root, durability="none", metadata="sidecar"))
    await driver.open()
    try:
        await driver.create_bucket("bucket", BucketOptions())
        await put(driver, "k", b"body", PutOptions(metadata={"a": "1"}))
        (sidecar,) = [p for p in (root / ".trove" / "meta").rglob("*") if p.is_file()]
        whole = sidecar.read_bytes()
        damaged = [whole[:n] for n in range(len(whole))]
        damaged += [
            whole[:n] + bytes([whole[n] ^ 1 << n % 8]) + whole[n + 1 :] for n in range(len(whole))
        ]
        for data in damaged:
            sidecar.write_bytes(data)
            with pytest.raises(CorruptMetadataError):
                await head(driver, "k")
        await put(driver, "k", b"healed")
        assert await read(driver, "k") == b"healed"
    finally:
        await driver.close()


async def test_a_closed_driver_says_so_and_can_be_opened_again(driver: LocalDriver) -> None:
    await put(driver, "k", b"1")
    found = await driver.get("bucket", "k", GetOptions())
    await driver.close()
    await driver.close()
    with pytest.raises(DriverClosedError):
        await put(driver, "k", b"2")
    with pytest.raises(DriverClosedError):
        await driver.ping()
    await found.body.aclose()
    await driver.open()
    await driver.ping()
    assert await read(driver, "k") == b"1"


async def test_every_declared_capability_is_there(driver: LocalDriver) -> None:
    whole: Driver = driver
    assert capability(whole, Driver) is driver
    for protocol in (
        MultipartDriver,
        RangeDriver,
        MoveDriver,
        ServerCopyDriver,
        BatchDeleteDriver,
        NotificationDriver,
        TaggingDriver,
    ):
        assert capability(whole, protocol) is driver
    for absent in (VersioningDriver, PresignDriver, LifecycleDriver):
        assert capability(whole, absent) is None
    with pytest.raises(UnsupportedError):
        await driver.head("bucket", "k", HeadOptions(version_id="1"))
    with pytest.raises(UnsupportedError):
        await driver.get("bucket", "k", GetOptions(version_id="1"))
    with pytest.raises(UnsupportedError):
        await driver.delete("bucket", "k", DeleteOptions(version_id="1"))


async def test_two_names_of_one_file_move_as_one(driver: LocalDriver, root: Path) -> None:
    (root / "bucket" / "one").write_bytes(b"x")
    os.link(root / "bucket" / "one", root / "bucket" / "two")
    await driver.move(ObjectRef("bucket", "one"), ObjectRef("bucket", "two"), CopyOptions())
    assert await keys(driver) == ["two"]
    assert await read(driver, "two") == b"x"


async def test_a_key_is_held_for_its_writer(driver: LocalDriver) -> None:
    """A put on a medium of memory does not wait on the loop for another process."""
    target = Target("bucket", "k")
    held = driver.sibling()
    await held.open()
    opened = held._now()
    release = threading.Event()
    taken = threading.Event()

    def hold() -> None:
        with opened.ground.locks.hold(target.stripe):
            taken.set()
            release.wait(20)

    job = opened.hop.run(hold)
    try:
        assert await asyncio.to_thread(taken.wait, 20)
        task = asyncio.create_task(put(driver, "k", b"waits"))
        await asyncio.sleep(0.1)
        assert not task.done()
        release.set()
        await task
    finally:
        release.set()
        await job
        await held.close()
    assert await read(driver, "k") == b"waits"
