"""Equal content is kept once, and everything else is as it was."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

import trove_async as trove
from tests.middleware.dedup.worlds import BUCKET, LAYERS, World, world
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import (
    CasMissingBlobError,
    InvalidConfigError,
    PolicyError,
    UnavailableError,
    UnknownEncodingError,
    UnsupportedFormatError,
)
from trove_async.middleware import (
    Context,
    Dedup,
    Encrypt,
    Keyring,
    one_space,
    rewrap_bucket,
)
from trove_async.middleware.dedup import StoredContent
from trove_async.middleware.dedup.reference import LENGTH, Reference
from trove_async.model import ObjectInfo
from trove_async.testing.faults import Fault
from trove_async.testing.faulty import faulty

TEXT = b"all that is the case; " * 5000


@pytest.mark.parametrize("layers", LAYERS)
async def test_equal_content_is_kept_once(layers: str) -> None:
    async with world(layers=layers) as w:
        for key in ("a", "b", "deep/c"):
            info = await w.store.put(BUCKET, key, TEXT, metadata={"k": key})
            assert (info.size, info.encodings and info.encodings[0]) == (len(TEXT), "dedup")
            assert info.stored_size < 1000
        assert [*(await w.blobs()).values()] == [3]
        for key in ("a", "b", "deep/c"):
            assert await w.store.get_bytes(BUCKET, key) == TEXT
            head = await w.store.head(BUCKET, key)
            assert (head.size, head.metadata) == (len(TEXT), {"k": key})
        listed = [e async for e in w.store.list(BUCKET) if isinstance(e, ObjectInfo)]
        assert [(e.key, e.size) for e in listed] == [(k, len(TEXT)) for k in ("a", "b", "deep/c")]


@pytest.mark.parametrize("layers", LAYERS)
async def test_ranges_are_those_of_the_content(layers: str) -> None:
    async with world(layers=layers) as w:
        await w.store.put(BUCKET, "a", TEXT)
        for a, b in ((0, 1), (0, 0), (7, 4000), (len(TEXT) - 3, len(TEXT) + 9), (40, 41)):
            assert await w.store.get_bytes(BUCKET, "a", range=slice(a, b)) == TEXT[a:b]
        assert await w.store.get_bytes(BUCKET, "a", range=slice(-5, None)) == TEXT[-5:]
        wanted = [slice(0, 5), slice(70_000, 70_100), slice(-1, None)]
        assert await w.store.get_ranges(BUCKET, "a", wanted, coalesce=0) == [
            TEXT[part] for part in wanted
        ]
        with pytest.raises(trove.InvalidRangeError):
            await w.store.get_bytes(BUCKET, "a", range=slice(len(TEXT), None))


async def test_a_range_sees_another_clients_overwrite() -> None:
    driver = MemoryDriver(history=0)
    async with world(driver) as w:
        await w.store.put(BUCKET, "a", TEXT)
        assert await w.store.get_bytes(BUCKET, "a", range=slice(0, 3)) == b"all"
        async with trove.open(driver.sibling(), middleware=[w.dedup]) as other:
            await other.put(BUCKET, "a", b"something else")
        assert await w.store.get_bytes(BUCKET, "a", range=slice(0, 4)) == b"some"


@pytest.mark.parametrize("size", [0, 1, 39, 40, 41, 8 << 20, (8 << 20) + 1])
async def test_every_size_round_trips(size: int) -> None:
    data = bytes(i % 251 for i in range(997)) * (size // 997 + 1)
    data = data[:size]
    async with world() as w:
        await w.store.put(BUCKET, "whole", data)
        await w.store.put(
            BUCKET, "stream", (data[i : i + 100_000] for i in range(0, size, 100_000))
        )
        assert await w.store.get_bytes(BUCKET, "whole") == data
        assert await w.store.get_bytes(BUCKET, "stream") == data
        assert [*(await w.blobs()).values()] == [2]


async def test_the_last_copy_is_freed_and_no_other() -> None:
    async with world() as w:
        for key in "abc":
            await w.store.put(BUCKET, key, TEXT)
        await w.store.delete(BUCKET, "a")
        await w.store.delete_many(BUCKET, ["b", "never"])
        assert (await w.cas.gc(grace=0, settle=0)).deleted == 0
        assert await w.store.get_bytes(BUCKET, "c") == TEXT
        await w.store.delete(BUCKET, "c")
        result = await w.cas.gc(grace=0, settle=0)
        assert (result.deleted, await w.blobs()) == (1, {})


async def test_overwrites_let_go_of_what_was_there() -> None:
    async with world() as w:
        for data in (b"one", b"two", b"two", b"three"):
            await w.store.put(BUCKET, "a", data)
        assert [*(await w.blobs()).values()] == [1]
        await w.store.put(BUCKET, "a", b"raw", raw=True)
        assert await w.owners() == []


@pytest.mark.parametrize("layers", LAYERS)
async def test_copies_and_moves_keep_count(layers: str, tmp_path: Path) -> None:
    async with world(LocalDriver(LocalConfig(tmp_path, durability="none")), layers=layers) as w:
        store = w.store
        await store.put(BUCKET, "a", TEXT)
        await store.put(BUCKET, "b", b"other")
        copied = await store.copy(BUCKET, "a", BUCKET, "b")
        assert copied.encodings is not None and copied.encodings[0] == "dedup"
        await store.copy(BUCKET, "a", BUCKET, "a", metadata={"new": "1"})
        await store.move(BUCKET, "b", BUCKET, "c")
        await store.move(BUCKET, "a", BUCKET, "a")
        assert await w.check({"a": [TEXT], "c": [TEXT]}) == 0
        assert [*(await w.blobs()).values()] == [2]
        assert (await store.head(BUCKET, "a")).metadata == {"new": "1"}


async def test_copies_across_backends_and_buckets_keep_count() -> None:
    other = MemoryDriver(history=0)
    async with trove.open(
        MemoryDriver(history=0),
        backends={"cold": other},
        routes=[("cold/*", "cold")],
        catalog="memory://",
    ) as store:
        for bucket in (BUCKET, "second"):
            await store.create_bucket(bucket)
        cas = store.backend("default").cas()
        dedup = Dedup(cas)
        store.use(dedup)
        w = World(store, cas, dedup)
        await store.put(BUCKET, "a", TEXT)
        await store.copy(BUCKET, "a", BUCKET, "cold/a")
        assert [*(await w.blobs()).values()] == [2]
        await store.copy(BUCKET, "a", "second", "a")  # another address space
        assert sorted((await w.blobs()).values()) == [1, 2]
        await store.move(BUCKET, "cold/a", BUCKET, "b")
        await store.delete(BUCKET, "a")
        assert await w.check({"b": [TEXT]}) == 0
        assert await store.get_bytes("second", "a") == TEXT
        assert sorted((await w.blobs()).values()) == [1, 1]


async def test_streams_and_upload_sessions_are_deduplicated() -> None:
    for layers in LAYERS:
        async with world(layers=layers) as w:
            store = w.store
            await store.put(BUCKET, "put", TEXT)
            async with store.stream(BUCKET, "streamed", trove.StreamDirection.UPLOAD) as stream:
                for start in range(0, len(TEXT), 10_000):
                    await stream.write(TEXT[start : start + 10_000])
            session = await store.uploads.create(BUCKET, "parts")
            half = len(TEXT) // 2
            await session.put_part(2, TEXT[half:])
            await session.put_part(1, TEXT[:half])
            await session.complete()
            session = await store.uploads.create(BUCKET, "written")
            await session.write(TEXT)
            await session.complete()
            allowed = {key: [TEXT] for key in ("put", "streamed", "parts", "written")}
            assert await w.check(allowed) == 0
            assert [*(await w.blobs()).values()] == [4]
            await store.delete_bucket(BUCKET, force=True)
            assert await w.owners() == []


async def test_a_session_that_goes_on_seals_no_other_reference_under_its_message() -> None:
    driver = faulty(MemoryDriver(history=0))
    async with world(driver, layers="encrypt") as w:
        session = await w.store.uploads.create(BUCKET, "a")
        await session.write(TEXT)
        driver.add(Fault("complete_multipart", UnavailableError, times=None))
        with pytest.raises(UnavailableError):
            await session.complete()
        assert session._record.message is not None
        header = session._record.message.header
        assert header
        driver.faults.clear()
        await session.aclose()
        resumed = await w.store.uploads.resume(session.id)
        await resumed.write(TEXT + b"more")
        await resumed.complete()
        async with w.store.get(BUCKET, "a", raw=True) as reader:
            assert not (await reader.read()).startswith(header)
        await w.dedup.sweep(w.store, BUCKET, grace=0)
        assert await w.check({"a": [TEXT + b"more"]}) == 0


async def test_key_rotation_leaves_the_owner_as_it_is() -> None:
    ring = Keyring({"old": bytes(32)}, active="old")
    async with trove.open(
        MemoryDriver(history=0), catalog="memory://", middleware=[Encrypt(ring, bind="key")]
    ) as store:
        await store.create_bucket(BUCKET)
        cas = store.cas()
        dedup = Dedup(cas)
        store.use(dedup)
        await store.put(BUCKET, "a", TEXT)
        await store.copy(BUCKET, "a", BUCKET, "b")
        ring.add("new", bytes(range(32)))
        ring.activate("new")
        report = await rewrap_bucket(store, BUCKET)
        assert (report.rewrapped, report.failed) == (2, [])
        w = World(store, cas, dedup)
        assert await w.check({"a": [TEXT], "b": [TEXT]}) == 0
        await store.delete(BUCKET, "a")
        assert await w.check({"b": [TEXT]}) == 0


async def test_small_objects_may_stay_themselves() -> None:
    async with world(min_size=100) as w:
        info = await w.store.put(BUCKET, "a", b"x" * 99)
        assert (info.encodings, info.stored_size) == ((), 99)
        info = await w.store.put(BUCKET, "b", iter([b"x" * 50, b"x" * 50]))
        assert info.encodings == ("dedup",)
        await w.store.copy(BUCKET, "a", BUCKET, "c")
        assert await w.check({"a": [b"x" * 99], "b": [b"x" * 100], "c": [b"x" * 99]}) == 0


async def test_a_reader_without_the_layer_says_what_is_missing() -> None:
    driver = MemoryDriver(history=0)
    async with world(driver) as w:
        await w.store.put(BUCKET, "a", TEXT)
        async with trove.open(driver.sibling()) as plain:
            with pytest.raises(UnknownEncodingError, match="dedup"):
                await plain.get_bytes(BUCKET, "a")
            async with plain.get(BUCKET, "a", raw=True) as reader:
                reference = Reference.parse(await reader.read())
        assert reference.size == len(TEXT)
        assert [*await w.blobs()] == [reference.digest]


async def test_stored_bytes_are_not_put_or_copied_as_they_are() -> None:
    async with world() as w:
        await w.store.put(BUCKET, "a", TEXT)
        async with w.store.get(BUCKET, "a", raw=True) as reader:
            metadata, data = reader.info.metadata, await reader.read()
        with pytest.raises(PolicyError):
            await w.store.put(BUCKET, "b", data, metadata=metadata, raw=True)
        with pytest.raises(PolicyError):
            await w.store.copy(BUCKET, "a", BUCKET, "b", raw=True)
        assert await w.check({"a": [TEXT]}) == 0


async def test_lost_content_is_no_missing_object() -> None:
    async with world() as w:
        await w.store.put(BUCKET, "a", TEXT)
        (digest,) = await w.blobs()
        async for owner, _ in w.cas.owners("dedup:"):
            await w.cas.release(digest, owner=owner)
        await w.cas.gc(grace=0, settle=0)
        with pytest.raises(CasMissingBlobError):
            await w.store.get_bytes(BUCKET, "a")
        with pytest.raises(CasMissingBlobError):
            await w.store.copy(BUCKET, "a", BUCKET, "b")
        await w.store.put(
            BUCKET, "a", TEXT
        )  # an object that cannot be read is replaced all the same
        assert await w.check({"a": [TEXT]}) == 0


def test_only_references_are_taken_for_references() -> None:
    good = Reference("sha256:" + "ab" * 32, 5, 40).encode()
    assert len(good) == LENGTH and Reference.parse(good).size == 5
    assert good.hex() == ("54524f564500443101002800" + "0500000000000000" + "ab" * 32)
    with pytest.raises(UnsupportedFormatError):
        Reference("md5:00", 1, 0).encode()
    for data in (b"", good[:-1], good + b"x", b"X" + good[1:], good[:8] + b"\3" + good[9:]):
        with pytest.raises(trove.IntegrityError):
            Reference.parse(data)


# -- who learns of it ------------------------------------------------------------------------


async def test_on_duplicate_hears_of_published_duplicates_only() -> None:
    heard: list[str] = []

    def hook(context: Context, content: StoredContent) -> None:
        heard.append(context.key)
        raise RuntimeError("a hook that fails breaks no put")

    async with world(on_duplicate=hook) as w:
        await w.store.put(BUCKET, "a", TEXT)
        await w.store.put(BUCKET, "b", TEXT)
        with pytest.raises(trove.PreconditionFailedError):
            await w.store.put(BUCKET, "b", TEXT, if_none_match="*")
        assert heard == ["b"]
        assert await w.check({"a": [TEXT], "b": [TEXT]}) == 0


async def test_a_failed_put_leaves_no_duplicate_behind() -> None:  # M12
    heard: list[str] = []
    async with world(on_duplicate=lambda context, content: heard.append(context.key)) as w:
        with pytest.raises(trove.ChecksumMismatchError):
            await w.store.put(BUCKET, "a", TEXT, checksum="sha256:" + "0" * 64)
        await w.store.put(BUCKET, "a", TEXT)
        assert (heard, len(await w.owners())) == ([], 1)


async def test_a_second_tenant_cannot_tell_that_content_is_there() -> None:  # S47
    heard: list[str] = []
    async with world(
        on_duplicate=lambda context, content: heard.append(context.bucket),
        buckets=(BUCKET, "others"),
    ) as w:
        await w.store.put(BUCKET, "secret", TEXT)
        first = await w.blobs()
        info = await w.store.put("others", "guess", TEXT)
        assert heard == []
        assert len(await w.blobs()) == 2 and [*first.values()] == [1]  # the bytes were written
        again = await w.store.put("others", "once more", TEXT)
        assert (heard, info.stored_size) == (["others"], again.stored_size)


async def test_tenants_in_one_bucket_and_one_space_for_all() -> None:
    def tenant(context: Context) -> str:
        return context.key.partition("/")[0]

    async with world(scope_by=tenant) as w:
        for key in ("ana/a", "ana/b", "bob/a"):
            await w.store.put(BUCKET, key, TEXT)
        assert sorted((await w.blobs()).values()) == [1, 2]
        await w.store.copy(BUCKET, "ana/a", BUCKET, "bob/b")  # nothing is shared across
        assert sorted((await w.blobs()).values()) == [2, 2]
    async with world(scope_by=one_space, buckets=(BUCKET, "others")) as w:
        await w.store.put(BUCKET, "a", TEXT)
        await w.store.put("others", "a", TEXT)
        assert (await w.cas.store(TEXT)).deduplicated
        assert [*(await w.blobs()).values()] == [3]


# -- what is left over -----------------------------------------------------------------------


async def test_a_sweep_drops_what_no_object_needs_after_its_grace() -> None:
    async with world() as w:
        await w.store.put(BUCKET, "a", TEXT)
        await w.store.put(BUCKET, "b", b"other")
        await w.store.driver.delete(BUCKET, "b", trove.DeleteOptions())  # by somebody else
        assert (await w.dedup.sweep(w.store, BUCKET)).young == 2
        report = await w.dedup.sweep(w.store, BUCKET, grace=timedelta(0), dry_run=True)
        assert (report.dropped, len(await w.owners())) == (1, 2)
        report = await w.dedup.sweep(w.store, BUCKET, grace=0)
        assert (report.examined, report.dropped) == (2, 1)
        assert await w.check({"a": [TEXT]}) == 0
        async with trove.open("mem://") as stranger:
            with pytest.raises(InvalidConfigError):
                await w.dedup.sweep(stranger, BUCKET)


async def test_old_versions_keep_their_content() -> None:
    async with world(MemoryDriver()) as w:  # which keeps versions
        store = w.store
        first = await store.put(BUCKET, "a", b"one")
        await store.put(BUCKET, "a", b"two")
        await store.delete(BUCKET, "a")
        await w.dedup.sweep(store, BUCKET, grace=0)
        await w.cas.gc(grace=0, settle=0)
        assert await store.get_bytes(BUCKET, "a", version_id=first.version_id) == b"one"
        await store.restore(BUCKET, "a", first.version_id or "")
        await store.delete(BUCKET, "a", version_id=first.version_id)
        await w.cas.gc(grace=0, settle=0)
        assert await store.get_bytes(BUCKET, "a") == b"one"  # the restored one has the same owner
        for version in await store.versions(BUCKET, "a"):
            if not version.is_delete_marker:
                await store.delete(BUCKET, "a", version_id=version.version_id)
        assert await w.owners() == []


async def test_references_are_counted_again_after_the_index_was_lost() -> None:
    driver = MemoryDriver(history=0)
    async with world(driver) as w:
        for key in "ab":
            await w.store.put(BUCKET, key, TEXT)
        await w.store.put(BUCKET, "c", b"other")
    async with trove.open(driver, catalog="memory://") as store:
        cas = store.cas()
        dedup = Dedup(cas)
        store.use(dedup)
        await cas.rebuild()
        report = await dedup.restore(store, BUCKET)
        assert (report.objects, report.missing) == (3, [])
        for digest in [blob.digest async for blob in cas.list()]:
            await cas.unpin(digest)
        w = World(store, cas, dedup)
        assert await w.check({"a": [TEXT], "b": [TEXT], "c": [b"other"]}) == 0


async def test_racing_puts_of_one_key_leave_one_object_whole() -> None:
    async with world() as w:
        bodies = [f"body {n}".encode() * 1000 for n in range(20)]
        await asyncio.gather(*(w.store.put(BUCKET, "a", body) for body in bodies))
        await w.check({"a": bodies})
        await w.dedup.sweep(w.store, BUCKET, grace=0)
        assert await w.check({"a": bodies}) == 0


async def test_the_index_may_be_a_file_that_two_stores_share(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/index.db"
    root = LocalConfig(tmp_path / "root", durability="none")
    async with (
        world(LocalDriver(root), catalog=url) as w,
        trove.open(LocalDriver(root), catalog=url) as beside,
    ):
        other = World(beside, beside.cas(), Dedup(beside.cas()))
        beside.use(other.dedup)
        await w.store.put(BUCKET, "a", TEXT)
        await beside.put(BUCKET, "b", TEXT)
        await w.store.copy(BUCKET, "b", BUCKET, "c")
        await beside.move(BUCKET, "a", BUCKET, "d")
        await beside.delete(BUCKET, "b")
        assert await w.check({"c": [TEXT], "d": [TEXT]}) == 0
        assert [*(await other.blobs()).values()] == [2]
        for key in "cd":
            await beside.driver.delete(BUCKET, key, trove.DeleteOptions())
        assert (await other.dedup.sweep(beside, BUCKET, grace=0)).dropped == 2
        assert (await w.cas.gc(grace=0, settle=0)).deleted == 1


async def test_a_large_body_is_never_held(tmp_path: Path) -> None:
    size = 48 << 20
    chunk = bytes(1 << 20)

    async def body() -> AsyncIterator[bytes]:
        for number in range(size >> 20):
            yield number.to_bytes(4) + chunk[4:]

    async with world(LocalDriver(LocalConfig(tmp_path, durability="none"))) as w:
        tracemalloc.start()
        try:
            await w.store.put(BUCKET, "a", body())
            async with w.store.get(BUCKET, "a") as reader:
                async for _ in reader:
                    pass
            await w.store.put(BUCKET, "again", body())
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert [*(await w.blobs()).values()] == [2]
        assert most < 32 << 20
