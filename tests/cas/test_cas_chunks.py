"""Content stored in chunks: what is written, what is read, what is shared."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.cas.contents import blob_keys, cut_tiny, key_of, name_of, read, streamed
from trove_async import (
    CasMissingBlobError,
    ChecksumMismatchError,
    FastCDC,
    IntegrityError,
    InvalidConfigError,
    InvalidRangeError,
    MissingDependencyError,
    PolicyError,
    Trove,
)
from trove_async.cas import CAS
from trove_async.cas.chunking import AVERAGE, LARGEST, SMALLEST, WINDOW, Cutter
from trove_async.cas.manifests import Manifest
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import CorruptMetadataError, UnsupportedFormatError
from trove_async.middleware.compress import Compress
from trove_async.middleware.encrypt import Encrypt, Keyring
from trove_async.middleware.scope import buckets

BIG = random.Random(1).randbytes(5 * 1024 * 1024 + 17)


@pytest.fixture
def chunked(store: Trove) -> CAS:
    return store.cas(chunking="fastcdc")


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_tiny(monkeypatch)


async def chunk_digests(cas: CAS, digest: str) -> set[str]:
    """Of what the index counts as referred to by manifests; there is one."""
    pairs = {pair async for pair in cas.owners("manifest:")}
    assert digest not in {name for _, name in pairs}
    return {name for _, name in pairs}


def manifest_keys(keys: list[str]) -> list[str]:
    return [key for key in keys if key.endswith(".chunks")]


# -- where it is cut -------------------------------------------------------------------------


def cuts(data: bytes, window: int) -> list[tuple[str, bytes]]:
    cutter = Cutter("sha256")
    found: list[tuple[str, bytes]] = []
    starts = range(0, max(len(data), 1), window)
    for start in starts:
        piece = data[start : start + window]
        found += cutter.feed(piece, is_last=start == starts[-1])
    assert cutter.whole.text == name_of(data)
    return found


def test_chunks_are_the_content_and_of_the_sizes_that_are_told() -> None:
    found = cuts(BIG, WINDOW)
    assert b"".join(data for _, data in found) == BIG
    assert all(digest == name_of(data) for digest, data in found)
    sizes = [len(data) for _, data in found]
    assert all(SMALLEST <= size <= LARGEST for size in sizes[:-1])
    assert AVERAGE / 2 < len(BIG) / len(sizes) < AVERAGE * 2


def test_content_without_a_cut_has_chunks_of_the_largest_size() -> None:
    assert [len(data) for _, data in cuts(bytes(3 * LARGEST + 5), WINDOW)] == [LARGEST] * 3 + [5]


@given(
    seed=st.integers(0, 1000),
    size=st.integers(0, 20_000),
    window=st.integers(1, 9000),
)
@settings(max_examples=60, deadline=None)
def test_cuts_do_not_depend_on_the_windows(seed: int, size: int, window: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_tiny(patch)
        data = random.Random(seed).randbytes(size)
        assert cuts(data, window) == cuts(data, max(size, 1))


# -- stored and read -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        SMALLEST - 1,
        SMALLEST,
        SMALLEST + 1,
        AVERAGE,
        LARGEST,
        LARGEST + 1,
        WINDOW - 1,
        WINDOW,
        WINDOW + 1,
        len(BIG),
    ],
)
async def test_content_of_every_size_comes_back(timed: Trove, size: int) -> None:
    cas = timed.cas(chunking="fastcdc")
    data = BIG[:size]
    for body in (data, streamed(data, 100_000)):
        stored = await cas.store(body, owner="a")
        assert (stored.digest, stored.size) == (name_of(data), size)
        assert await read(cas, stored.digest) == data
        info = await cas.stat(stored.digest)
        assert (info.size, info.references) == (size, 1)
    keys = await blob_keys(timed)
    if size <= SMALLEST:
        assert keys == [key_of(data)] and not info.chunked
    elif info.chunked:
        assert manifest_keys(keys) == [f"{key_of(data)}.chunks"] and len(keys) > 2
        assert key_of(data) not in keys
    else:
        assert keys == [key_of(data)], "one chunk is the content itself"
    assert size < WINDOW or info.chunked


async def test_content_in_chunks_on_every_catalog(chunked: CAS, store: Trove) -> None:
    stored = await chunked.store(streamed(BIG), owner="a")
    assert not stored.deduplicated and await chunked.exists(stored.digest)
    assert await read(store.cas(), stored.digest) == BIG, "reading needs no chunking"
    info = await chunked.stat(stored.digest)
    assert info.chunked and info.size == len(BIG) and info.stored_size < 10_000
    chunks = await chunk_digests(chunked, stored.digest)
    assert {i.digest async for i in chunked.list() if not i.chunked} == chunks
    assert {(await chunked.stat(digest)).references for digest in chunks} == {1}
    again = await chunked.store(BIG, owner="b")
    assert again.deduplicated and (await chunked.stat(stored.digest)).references == 2
    assert (await chunked.verify(repair=True)).recounted == 0
    for owner in ("a", "b"):
        await chunked.release(stored.digest, owner=owner)
    result = await chunked.gc(grace=0, settle=0)
    assert result.errors == [] and result.deleted == len(chunks) + 1
    assert await blob_keys(store) == [] and [i async for i in chunked.list()] == []
    assert [pair async for pair in chunked.owners("")] == []


async def test_what_is_shared_is_what_is_the_same(chunked: CAS, store: Trove) -> None:
    """Bytes put in front move all others; the chunks behind them are the same."""
    await chunked.store(BIG, owner="a")
    before = set(await blob_keys(store))
    await chunked.store(b"in front" + BIG, owner="b")
    new = set(await blob_keys(store)) - before
    assert len(manifest_keys([*new])) == 1
    assert 2 <= len(new) <= 4, "its manifest, and the chunks up to the first cut that is the same"


@pytest.mark.parametrize("first_in_chunks", [True, False])
async def test_content_is_the_same_in_chunks_or_not(timed: Trove, first_in_chunks: bool) -> None:
    first = timed.cas(chunking="fastcdc" if first_in_chunks else None)
    second = timed.cas(chunking=None if first_in_chunks else "fastcdc")
    digest = (await first.store(BIG, owner="a")).digest
    keys = sorted(await blob_keys(timed))
    for body in (BIG, streamed(BIG)):
        again = await second.store(body, owner="b")
        assert again.deduplicated and again.digest == digest
    assert await read(second, digest) == BIG
    left = sorted(await blob_keys(timed))
    if first_in_chunks:
        assert left == keys
        return
    # Of a body that can be read once the chunks come before its name is known: nobody wants them.
    assert set(keys) <= set(left) and not manifest_keys(left)
    assert [pair async for pair in second.owners("manifest:")] == []
    await second.gc(grace=0, settle=0)
    assert sorted(await blob_keys(timed)) == keys


SOME = random.Random(5).randbytes(30_000)
BOUNDS = st.one_of(st.none(), st.integers(0, 31_000))


async def ranges_read(bounds: list[tuple[int | None, int | None]]) -> None:
    async with trove.open("mem://", catalog="memory://") as store:
        cas = store.cas(chunking="fastcdc")
        digest = (await cas.store(SOME)).digest
        assert (await cas.stat(digest)).chunked
        for start, stop in bounds:
            if start is not None and start >= len(SOME) and (stop is None or stop > start):
                with pytest.raises(InvalidRangeError):
                    await cas.retrieve(digest, range=slice(start, stop))
                continue
            async with cas.retrieve(digest, range=slice(start, stop)) as reader:
                assert reader.info.size == len(SOME)
                expected = SOME[start:stop]
                assert reader.length == len(expected)
                assert await reader.read() == expected


@given(
    bounds=st.lists(
        st.one_of(
            st.tuples(BOUNDS, BOUNDS).filter(
                lambda pair: pair[1] is None or (pair[0] or 0) <= pair[1]
            ),
            st.tuples(st.integers(-31_000, -1), st.none()),
        ),
        max_size=30,
    )
)
@settings(max_examples=25, deadline=None)
def test_ranges_are_slices(bounds: list[tuple[int | None, int | None]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        cut_tiny(patch)
        asyncio.run(ranges_read(bounds))


@pytest.mark.usefixtures("tiny")
async def test_ranges_at_every_cut_are_slices() -> None:
    cuts_at = [0]
    for _, data in cuts(SOME, 1500):
        cuts_at.append(cuts_at[-1] + len(data))
    near = sorted({at + by for at in cuts_at for by in (-1, 0, 1) if 0 <= at + by < len(SOME)})
    await ranges_read([(near[n], near[m]) for n in range(0, len(near), 5) for m in (n, -1)])
    await ranges_read([*pairwise(near)])


@pytest.mark.parametrize("wrong", [slice(0, None, 2), slice(5, 2), slice(0, -1)])
async def test_what_is_no_range_is_refused(timed: Trove, wrong: slice) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    with pytest.raises(ValueError):
        await cas.retrieve(digest, range=wrong)


class CountingDriver(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []
        self.put_keys: list[str] = []
        self.hangs_after: int | None = None

    async def get(self, bucket: str, key: str, options: Any) -> Any:
        self.got.append(key)
        if self.hangs_after is not None and len(self.got) > self.hangs_after:
            await asyncio.Event().wait()
        return await super().get(bucket, key, options)

    async def put(self, bucket: str, key: str, body: Any, options: Any) -> Any:
        self.put_keys.append(key)
        await asyncio.sleep(0)  # who stores the same beside it is not shown it yet
        return await super().put(bucket, key, body, options)


async def test_a_range_fetches_the_chunks_it_needs() -> None:
    driver = CountingDriver()
    async with trove.open(driver, catalog="memory://") as store:
        cas = store.cas(chunking="fastcdc")
        digest = (await cas.store(BIG)).digest
        driver.got.clear()
        async with cas.retrieve(digest, range=slice(-1, None)) as reader:
            assert await reader.read() == BIG[-1:]
        assert len(driver.got) == 2 and driver.got[0].endswith(".chunks")
        driver.got.clear()
        async with cas.retrieve(digest) as reader:
            await reader.read(10)
        assert len(driver.got) <= 1 + 4 + 1, "what is read ahead is bounded"


async def test_a_reader_that_stops_waits_for_no_chunk() -> None:
    driver = CountingDriver()
    async with trove.open(driver, catalog="memory://") as store:
        cas = store.cas(chunking="fastcdc")
        digest = (await cas.store(BIG)).digest
        driver.got.clear()
        driver.hangs_after = 2
        async with asyncio.timeout(5), cas.retrieve(digest) as reader:
            assert await reader.read(1) == BIG[:1]
        assert len(driver.got) > 2
        driver.hangs_after = None


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("window", [1500, 1 << 20])
async def test_repeated_chunks_are_stored_once(
    monkeypatch: pytest.MonkeyPatch, window: int
) -> None:
    monkeypatch.setattr("trove_async.cas.chunking.WINDOW", window)
    data = random.Random(3).randbytes(5000) * 40
    driver = CountingDriver()
    async with trove.open(driver, catalog="memory://") as store:
        cas = store.cas(chunking="fastcdc")
        await store.create_bucket("cas")
        digest = (await cas.store(streamed(data, 3333))).digest
        assert await read(cas, digest) == data
        infos = [info async for info in cas.list()]
        assert len(driver.put_keys) == len(infos)
        assert sum(info.stored_size for info in infos if not info.chunked) < len(data) / 10
        await cas.release(digest)
        await cas.gc(grace=0, settle=0)
        assert [info async for info in cas.list()] == []


@pytest.mark.parametrize("ending", ["", ".chunks"])
async def test_what_a_dead_writer_left_goes_in_one_run(
    timed: Trove, clock: Any, ending: str
) -> None:
    """Its object has its name, its row is reserved: nobody knows of which kind it was."""
    cas = timed.cas(chunking="fastcdc")
    kept = (await cas.store(b"kept", owner="k")).digest
    index = await cas._open_index()
    await index.claim(name_of(BIG), "dead", 1)
    await timed.put("cas", key_of(BIG) + ending, b"what it wrote")
    clock.pass_(2 * 24 * 3600)
    assert (await cas.gc()).errors == []
    assert await blob_keys(timed) == [key_of(b"kept")]
    assert [info.digest async for info in cas.list()] == [kept]


async def test_the_same_content_stored_at_once(chunked: CAS, store: Trove) -> None:
    bodies = [streamed(BIG, 300_000 + n) for n in range(4)]
    stored = await asyncio.gather(
        *(chunked.store(body, owner=str(n)) for n, body in enumerate(bodies))
    )
    digest = stored[0].digest
    assert {one.digest for one in stored} == {digest} and await read(chunked, digest) == BIG
    assert (await chunked.stat(digest)).references == 4
    assert len({owner async for owner, _ in chunked.owners("manifest:")}) == 1
    assert (await chunked.verify(repair=True)).recounted == 0
    for n in range(4):
        await chunked.release(digest, owner=str(n))
    await chunked.gc(grace=0, settle=0)
    assert await blob_keys(store) == []


async def test_blake3_names_chunks_too(timed: Trove) -> None:
    cas = timed.cas(algorithm="blake3", chunking=FastCDC())
    stored = await cas.store(BIG)
    assert stored.digest.startswith("blake3:") and await read(cas, stored.digest) == BIG
    assert all(key.startswith("cas/blake3/") for key in await blob_keys(timed))


# -- layers ----------------------------------------------------------------------------------


async def test_chunks_are_compressed_each() -> None:
    data = b"".join(b"line %d of a log\n" % n for n in range(200_000))
    async with trove.open("mem://", catalog="memory://", middleware=[Compress()]) as store:
        cas = store.cas(chunking="fastcdc")
        digest = (await cas.store(data)).digest
        assert await read(cas, digest) == data
        async with cas.retrieve(digest, range=slice(1_000_000, 1_000_100)) as reader:
            assert await reader.read() == data[1_000_000:1_000_100]
        stored = sum([info.stored_size async for info in cas.list()])
        assert stored < len(data) / 2


async def test_encrypted_content_is_cut_only_for_who_says_so() -> None:
    layer = Encrypt(Keyring({"k": bytes(32)}, active="k"))
    async with trove.open("mem://", catalog="memory://") as store:
        store.use(layer, scope=buckets("secret"))
        body = streamed(BIG)
        with pytest.raises(PolicyError, match="lengths"):
            await store.cas("secret", chunking="fastcdc").store(body)
        assert [bucket.name for bucket in await store.list_buckets()] == []
        assert [chunk async for chunk in body] == [], "it was handed over, so it is closed"
        told = store.cas("secret", chunking=FastCDC(reveal_lengths=True))
        digest = (await told.store(BIG)).digest
        assert await read(told, digest) == BIG and (await told.stat(digest)).chunked
        assert (await store.cas("open", chunking="fastcdc").store(BIG)).digest == digest


# -- what may be wrong -----------------------------------------------------------------------


async def rotten(store: Trove, cas: CAS) -> tuple[str, str]:
    """Content with a rotten chunk in its middle."""
    digest = (await cas.store(BIG, owner="a")).digest
    middle = cuts(BIG, WINDOW)[8][1]
    await store.put("cas", key_of(middle), b"rot" + middle[3:])
    return digest, name_of(middle)


async def test_a_rotten_chunk_is_found_and_stored_anew(chunked: CAS, store: Trove) -> None:
    digest, chunk = await rotten(store, chunked)
    with pytest.raises(ChecksumMismatchError):
        await read(chunked, digest)
    async with chunked.retrieve(digest, range=slice(0, 1000)) as reader:
        assert await reader.read() == BIG[:1000], "what is whole is read"
    assert (await chunked.stat(digest)).damaged and (await chunked.stat(chunk)).damaged
    report = await chunked.verify()
    assert report.corrupt == sorted([digest, chunk]) and report.missing == []
    assert not (await chunked.store(streamed(BIG), owner="a")).deduplicated
    assert await read(chunked, digest) == BIG
    report = await chunked.verify(repair=True)
    assert (report.corrupt, report.missing, report.recounted) == ([], [], 0)
    await chunked.release(digest, owner="a")
    await chunked.gc(grace=0, settle=0)
    assert [info async for info in chunked.list()] == []
    assert [pair async for pair in chunked.owners("")] == []


async def test_a_rotten_chunk_is_found_by_a_range_too(chunked: CAS, store: Trove) -> None:
    digest, _ = await rotten(store, chunked)
    with pytest.raises(ChecksumMismatchError):
        async with chunked.retrieve(digest, range=slice(1_000_000, 4_000_000)) as reader:
            await reader.read()
    assert (await chunked.stat(digest)).damaged


async def test_a_lost_chunk_is_missing(timed: Trove) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    lost = cuts(BIG, WINDOW)[3][1]
    await timed.delete("cas", key_of(lost))
    with pytest.raises(CasMissingBlobError):
        await read(cas, digest)
    report = await cas.verify()
    assert report.missing == sorted([digest, name_of(lost)]) and report.corrupt == []


async def test_chunks_of_other_content_are_told_by_the_whole(timed: Trove) -> None:
    """Each chunk is what its name says, and yet they are not the content."""
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    key = f"{key_of(BIG)}.chunks"
    async with timed.get("cas", key) as reader:
        manifest = Manifest.load(await reader.read(), digest)
    other = Manifest("sha256")
    for number in reversed(range(len(manifest))):
        start, stop = manifest.bounds(number)
        other.add(manifest.digest(number), stop - start)
    await timed.put("cas", key, other.dump(digest))
    with pytest.raises(ChecksumMismatchError):
        await read(cas, digest)
    assert (await cas.stat(digest)).damaged


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"v":1}',
        b'{"v":1,"size":0,"digest":"x","chunks":[]}',
        b'{"v":1,"size":1,"digest":"x","chunks":[["00",1]]}',
        b'{"v":"1","chunks":7}',
    ],
)
async def test_what_is_no_manifest_is_refused(timed: Trove, body: bytes) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    await timed.put("cas", f"{key_of(BIG)}.chunks", body)
    with pytest.raises(IntegrityError):
        await read(cas, digest)
    with pytest.raises(CorruptMetadataError):
        Manifest.load(body, digest)


async def test_a_manifest_of_a_later_version_is_told(timed: Trove) -> None:
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        Manifest.load(b'{"v":2}', name_of(b""))


async def test_content_that_looks_like_a_manifest_is_content(timed: Trove) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    async with timed.get("cas", f"{key_of(BIG)}.chunks") as reader:
        look = await reader.read()
    stored = await cas.store(look)
    assert await read(cas, stored.digest) == look and not (await cas.stat(stored.digest)).chunked
    await cas.release(digest)
    await cas.gc(grace=0, settle=0)
    assert await read(cas, stored.digest) == look


async def failing(data: bytes) -> AsyncIterator[bytes]:
    yield data
    raise OSError("the source fails")


@pytest.mark.parametrize("size", [0, 1000, len(BIG)])
async def test_a_source_that_fails_leaves_no_reference(timed: Trove, size: int) -> None:
    cas = timed.cas(chunking="fastcdc")
    with pytest.raises(OSError, match="the source fails"):
        await cas.store(failing(BIG[:size] or b"."), owner="a")
    assert [pair async for pair in cas.owners("")] == []
    await cas.gc(grace=0, settle=0)
    assert [info async for info in cas.list()] == []


async def test_a_cancelled_store_leaves_no_reference(chunked: CAS) -> None:
    came = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        chance = random.Random(2)
        for number in range(10_000):
            if number == 12:  # three windows: chunks of the first one are stored
                assert [pair async for pair in chunked.owners("manifest:")]
                came.set()
            yield chance.randbytes(1 << 20)

    task = asyncio.create_task(chunked.store(endless(), owner="a"))
    await came.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [pair async for pair in chunked.owners("")] == []


async def test_readers_that_stop_leave_no_task(timed: Trove) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    before = asyncio.all_tasks()
    async with cas.retrieve(digest) as reader:
        assert await reader.read(1) == BIG[:1]
    assert asyncio.all_tasks() == before


async def test_content_collected_while_it_is_read_is_not_there(timed: Trove) -> None:
    cas = timed.cas(chunking="fastcdc")
    digest = (await cas.store(BIG)).digest
    with pytest.raises(trove.BlobNotFoundError, match="while it was read"):
        async with cas.retrieve(digest) as reader:
            await reader.read(1)
            await cas.release(digest)
            await cas.gc(grace=0, settle=0)
            await reader.read()


# -- asked for -------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["rabin", "", 7, object()])
async def test_what_is_no_chunking_is_refused(timed: Trove, wrong: Any) -> None:
    with pytest.raises(InvalidConfigError, match="chunking is"):
        timed.cas(chunking=wrong)


async def test_without_its_library_the_extra_is_named(
    timed: Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyfastcdc", None)
    with pytest.raises(MissingDependencyError, match=r"trove-async\[cdc\]"):
        timed.cas(chunking="fastcdc")


async def test_too_many_chunks_are_refused(timed: Trove, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trove_async.cas.manifests.MOST", 5)
    cas = timed.cas(chunking="fastcdc")
    with pytest.raises(trove.UnsupportedError, match="more than 5 chunks"):
        await cas.store(BIG)
    assert [pair async for pair in cas.owners("")] == []


async def test_a_file_is_stored_in_chunks(tmp_path: Path, chunked: CAS) -> None:
    path = tmp_path / "big"
    path.write_bytes(BIG)
    for _ in range(2):
        digest = (await chunked.store(path, owner="a")).digest
        assert await read(chunked, digest) == BIG
