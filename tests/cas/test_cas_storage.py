"""The storage against the index: strays, older copies of the index, bit rot, loss, rebuilding."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import trove_async as trove
from tests.cas.contents import DAY, LARGE, blob_keys, key_of, name_of, read, streamed
from tests.catalog.conftest import Clock
from trove_async import (
    CasMissingBlobError,
    ChecksumMismatchError,
    IntegrityError,
    Middleware,
    Trove,
)
from trove_async.cas import CAS
from trove_async.catalog import MemoryCatalog, open_catalog
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring

STRAY = f"cas/sha256/00/{'0' * 64}~0"


# -- objects that the index does not know -------------------------------------------------------


async def test_a_stray_object_goes_when_two_runs_have_seen_it(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    await cas.store(b"content")
    await store.put("cas", STRAY, b"stray")
    await store.put("cas", "cas/tmp/stray", b"stray")
    await store.put("cas", "cas/notes.txt", b"not ours")
    assert (await cas.gc()).deleted == 0
    clock.pass_(DAY - 1)
    assert (await cas.gc()).deleted == 0
    clock.pass_(2)
    result = await cas.gc()
    assert (result.deleted, result.freed_bytes, result.errors) == (2, 10, [])
    assert await blob_keys(store) == ["cas/notes.txt", key_of(b"content")]
    assert await read(cas, name_of(b"content")) == b"content"


async def test_a_stray_object_that_was_away_meanwhile_is_new(
    store: Trove, cas: CAS, clock: Clock
) -> None:
    await cas.store(b"content")
    await store.put("cas", STRAY, b"stray")
    await cas.gc()
    await store.delete("cas", STRAY)
    clock.pass_(DAY)
    await cas.gc()
    await store.put("cas", STRAY, b"stray")
    clock.pass_(DAY)
    assert (await cas.gc()).deleted == 0


async def test_content_stored_over_a_stray_object_is_kept(store: Trove, cas: CAS) -> None:
    """Found unknown by a first run, it is the content of a blob when the second one comes."""
    await cas.store(b"other")
    await store.put("cas", key_of(b"content"), b"content")
    await cas.gc(orphan_after=0)
    await cas.store(b"content")
    await cas.gc(orphan_after=0)
    assert await read(cas, name_of(b"content")) == b"content"


async def test_a_stray_object_of_another_size_gives_way(store: Trove, cas: CAS) -> None:
    await cas.store(b"other")
    for data in (b"content", LARGE):
        await store.put("cas", key_of(data), b"no")
        assert not (await cas.store(streamed(data))).deduplicated
        assert await read(cas, name_of(data)) == data
    assert len(await blob_keys(store)) == 3


async def test_an_empty_index_deletes_nothing(timed: Trove, clock: Clock) -> None:
    stored = await timed.cas().store(b"content")
    async with trove.open(timed.driver, catalog=MemoryCatalog(clock=clock)) as other:
        cas = other.cas()
        for _ in range(3):
            result = await cas.gc(grace=0, settle=0, orphan_after=0)
            assert result.deleted == 0 and any("empty" in str(e) for e in result.errors)
            clock.pass_(40 * DAY)
        assert await blob_keys(other) == [key_of(b"content")]
        assert (await cas.rebuild()).recovered == [stored.digest]
        assert (await cas.gc(grace=0, settle=0, orphan_after=0)).errors == []
        assert await read(cas, stored.digest) == b"content"


async def test_an_older_copy_of_the_index_deletes_nothing(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "c.sqlite"
    root = f"file://{tmp_path}/root?durability=none"

    def opened() -> trove.Opening[Trove]:
        return trove.open(root, catalog=open_catalog(f"sqlite:///{path}", clock=clock))

    async def closed(store: Trove) -> None:
        await (await store._core.remembering.catalog()).close()

    async with opened() as store:
        for number in range(20):
            await store.cas().store(f"old {number}".encode())
        dead = await store.cas().store(b"dead by then")
        await store.cas().release(dead.digest)
        await closed(store)
    shutil.copy(path, tmp_path / "copy")
    clock.pass_(DAY)
    async with opened() as store:
        new = await store.cas().store(b"new")
        await closed(store)
    for left in tmp_path.glob("c.sqlite*"):
        left.unlink()
    shutil.copy(tmp_path / "copy", path)
    async with opened() as store:
        cas = store.cas()
        for _ in range(3):
            clock.pass_(2 * DAY)
            result = await cas.gc(grace=0, settle=0, orphan_after=0)
            assert (result.condemned, result.deleted) == (0, 0)
            assert "rebuild" in str(result.errors[0])
        with pytest.raises(trove.BlobNotFoundError):
            await cas.retrieve(new.digest)
        report = await cas.rebuild()
        # The dead one too: it may have got a reference that this index does not know.
        assert (report.found, report.recovered) == (22, sorted([new.digest, dead.digest]))
        result = await cas.gc(grace=0, settle=0, orphan_after=0)
        assert (result.deleted, result.errors) == (0, [])
        assert await cas.unpin(dead.digest) == 1
        result = await cas.gc(grace=0, settle=0, orphan_after=0)
        assert (result.deleted, result.errors) == (1, [])
        assert await read(cas, new.digest) == b"new"
        assert (await cas.stat(new.digest)).pinned
        await cas.unpin(new.digest)
        assert (await cas.gc(grace=0, settle=0)).deleted == 1
        await closed(store)


async def test_a_generation_that_the_index_does_not_know_stops_the_collector(
    timed: Trove, clock: Clock
) -> None:
    cas = timed.cas()
    await cas.store(b"content")
    await cas.release((await cas.store(b"dead")).digest)
    await timed.put("cas", key_of(b"content", 1), b"content")
    result = await cas.gc(grace=0, settle=0, orphan_after=0)
    assert result.deleted == 0 and "newer" in str(result.errors[0])
    assert (await cas.gc(grace=0, settle=0, force=True)).deleted == 1
    await cas.rebuild()
    await timed.delete("cas", key_of(b"content", 0))
    assert await read(cas, name_of(b"content")) == b"content"


async def test_many_strays_are_not_believed(timed: Trove, clock: Clock) -> None:
    cas = timed.cas()
    await cas.store(b"content")
    for number in range(12):
        await timed.put("cas", f"cas/sha256/00/{number:064x}~0", b"stray")
    await cas.gc()
    clock.pass_(2 * DAY)
    result = await cas.gc()
    assert result.deleted == 0 and "12 of 13" in str(result.errors[0])
    assert (await cas.gc(force=True)).deleted == 12


# -- bytes that are not their content -----------------------------------------------------------


async def flip(store: Trove, key: str, bit: int) -> None:
    """One bit of what is stored; the metadata stays."""
    async with store.get("cas", key, raw=True) as reader:
        data, metadata = bytearray(await reader.read()), dict(reader.info.metadata)
    data[bit // 8] ^= 1 << bit % 8
    await store.put("cas", key, bytes(data), metadata=metadata, raw=True)


@pytest.mark.parametrize("layers", ["plain", "compressed", "encrypted"])
async def test_f26_bit_rot_is_found_by_retrieve_and_verify(layers: str, clock: Clock) -> None:
    data = random.Random(7).randbytes(4000) + b"compressible" * 400
    ring = Keyring({"k": bytes(32)}, active="k")
    chosen: dict[str, list[Middleware]] = {
        "plain": [],
        "compressed": [Compress(min_size=1)],
        "encrypted": [Encrypt(ring)],
    }
    driver = MemoryDriver()
    async with (
        trove.open(driver, middleware=chosen[layers]) as store,
        trove.open(driver.sibling()) as bare,
    ):
        cas = store.cas()
        digest = (await cas.store(data)).digest
        stored = await store.head("cas", key_of(data))
        bits = random.Random(8).sample(range(stored.stored_size * 8), 60)
        for bit in bits:
            await flip(bare, key_of(data), bit)
            with pytest.raises(IntegrityError):
                await read(cas, digest)
            await flip(bare, key_of(data), bit)
            assert await read(cas, digest) == data
        await flip(bare, key_of(data), bits[0])
        report = await cas.verify()
        assert (report.checked, report.corrupt, report.missing) == (1, [digest], [])
        assert (await cas.stat(digest)).damaged
        await flip(bare, key_of(data), bits[0])
        assert (await cas.verify(digest)).corrupt == []
        assert not (await cas.stat(digest)).damaged


async def test_c4_content_put_in_the_place_of_another_is_refused(store: Trove, cas: CAS) -> None:
    """Its own record is right, its name is not; the Go original gave it back."""
    for data in (b"content", LARGE):
        stored = await cas.store(streamed(data))
        other = bytes(len(data))
        await store.put("cas", key_of(data), other)
        with pytest.raises(ChecksumMismatchError):
            await read(cas, stored.digest)
        given = 0
        with pytest.raises(ChecksumMismatchError):
            async with cas.retrieve(stored.digest) as reader:
                async for chunk in reader:
                    given += len(chunk)
        assert given < len(data)
    assert (await cas.verify()).corrupt == sorted([name_of(b"content"), name_of(LARGE)])


async def test_a_store_heals_what_is_damaged(store: Trove, cas: CAS) -> None:
    stored = await cas.store(b"content", owner="a")
    await store.put("cas", key_of(b"content"), b"CONTENT")
    assert (await cas.verify()).corrupt == [stored.digest]
    again = await cas.store(b"content", owner="b")
    assert not again.deduplicated
    assert await read(cas, stored.digest) == b"content"
    assert (await cas.stat(stored.digest)).references == 2
    await cas.gc(orphan_after=0)
    await cas.gc(orphan_after=0)
    assert await blob_keys(store) == [key_of(b"content", 1)]


async def test_c3_an_index_entry_without_its_object_is_told_and_healed(
    store: Trove, cas: CAS
) -> None:
    """The Go original stored nothing for content it thought was there."""
    stored = await cas.store(b"content")
    await store.delete("cas", key_of(b"content"))
    with pytest.raises(CasMissingBlobError):
        await read(cas, stored.digest)
    assert (await cas.verify()).missing == [stored.digest]
    assert not (await cas.store(b"content")).deduplicated
    assert await read(cas, stored.digest) == b"content"


async def test_references_are_counted_again(timed: Trove) -> None:
    cas = timed.cas()
    stored = await cas.store(b"content", owner="a")
    row = (await cas._open_index())._rows[stored.digest]  # type: ignore[attr-defined]  # memory's
    row.refs = 7
    assert (await cas.verify()).recounted == 0
    assert (await cas.verify(repair=True)).recounted == 1
    assert (await cas.stat(stored.digest)).references == 1


# -- the index is lost ----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["deleted", "flipped"])
async def test_f27_a_lost_index_is_rebuilt_from_the_storage(tmp_path: Path, how: str) -> None:
    """C4: after a restart the Go original reached nothing, though all was named by its hash."""
    root = f"file://{tmp_path}/root?durability=none"
    layers = [Compress(min_size=1)]
    contents = [f"content {number} ".encode() * 100 for number in range(30)] + [LARGE]
    async with trove.open(root, middleware=layers) as store:
        for data in contents:
            await store.cas().store(streamed(data))
        before = [(i.digest, i.size, i.stored_size) async for i in store.cas().list()]
    path = tmp_path / "root" / ".trove" / "catalog.sqlite"
    if how == "flipped":
        path.write_bytes(bytes(byte ^ 0x55 for byte in path.read_bytes()))
        async with trove.open(root, middleware=layers) as store:
            with pytest.raises(trove.BackendError):
                await store.cas().exists(name_of(LARGE))
    for left in path.parent.glob("catalog.sqlite*"):
        left.unlink()
    async with trove.open(root, middleware=layers) as store:
        cas = store.cas()
        assert not await cas.exists(name_of(LARGE))
        report = await cas.rebuild()
        assert report.found == len(contents) == len(report.recovered)
        assert [(i.digest, i.size, i.stored_size) async for i in cas.list()] == before
        assert (await cas.rebuild()).recovered == []
        assert (await cas.verify()).checked == len(contents)
        assert (await cas.gc(grace=0, settle=0, orphan_after=0)).deleted == 0
        for data in contents:
            assert await read(cas, name_of(data)) == data
            assert (await cas.store(data)).deduplicated
