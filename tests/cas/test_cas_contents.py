"""Content goes in once and comes out as it was, on every place and with every index."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.cas.contents import LARGE, blob_keys, key_of, name_of, read, streamed
from trove_async import (
    BlobNotFoundError,
    InvalidConfigError,
    InvalidInputError,
    InvalidRangeError,
    Middleware,
    Trove,
)
from trove_async.cas import CAS
from trove_async.catalog import MemoryCatalog
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring


@pytest.mark.parametrize("data", [b"", b"x", b"hello" * 1000, LARGE], ids=len)
async def test_content_comes_back_by_its_digest(store: Trove, cas: CAS, data: bytes) -> None:
    stored = await cas.store(data)
    assert (stored.digest, stored.size, stored.deduplicated) == (name_of(data), len(data), False)
    assert await read(cas, stored.digest) == data
    assert await cas.exists(stored.digest)
    info = await cas.stat(stored.digest)
    assert (info.size, info.stored_size, info.references) == (len(data), len(data), 1)
    assert (info.state, info.pinned, info.damaged) == ("live", False, False)
    assert await blob_keys(store) == [key_of(data)]


@pytest.mark.parametrize("kind", ["stream", "file", "path", "bytearray"])
@pytest.mark.parametrize("data", [b"few", LARGE], ids=len)
async def test_bodies_of_every_kind_are_one_content(
    store: Trove, cas: CAS, tmp_path: Path, data: bytes, kind: str
) -> None:
    path = tmp_path / "body"
    path.write_bytes(data)
    bodies: dict[str, Callable[[], object]] = {
        "stream": lambda: streamed(data),
        "file": lambda: io.BytesIO(data),
        "path": lambda: path,
        "bytearray": lambda: bytearray(data),
    }
    body = bodies[kind]
    first = await cas.store(body())
    again = await cas.store(body())
    assert (first.deduplicated, again.deduplicated) == (False, True)
    assert (await cas.stat(first.digest)).references == 2
    assert await read(cas, first.digest) == data
    assert await blob_keys(store) == [key_of(data)]  # and no temporary object


async def test_an_owner_counts_once_and_releases_once(cas: CAS) -> None:
    stored = await cas.store(b"content", owner="a")
    for _ in range(3):
        assert (await cas.store(b"content", owner="a")).deduplicated
    await cas.store(b"content", owner="b")
    assert (await cas.stat(stored.digest)).references == 2
    for _ in range(2):
        await cas.release(stored.digest, owner="a")
    await cas.release(stored.digest, owner="nobody")
    await cas.release(name_of(b"never stored"), owner="a")
    assert (await cas.stat(stored.digest)).references == 1
    with pytest.raises(trove.CasInvariantError):
        await cas.release(stored.digest)  # both had owners
    with pytest.raises(BlobNotFoundError):
        await cas.release(name_of(b"never stored"))


async def test_stores_without_an_owner_are_released_one_by_one(cas: CAS) -> None:
    stored = await cas.store(b"content")
    await cas.store(b"content")
    await cas.release(stored.digest)
    assert (await cas.stat(stored.digest)).references == 1
    await cas.release(stored.digest)
    assert (await cas.stat(stored.digest)).references == 0
    with pytest.raises(trove.CasInvariantError):
        await cas.release(stored.digest)


@pytest.mark.parametrize("data", [b"0123456789", LARGE], ids=len)
async def test_ranges_are_those_of_the_content(cas: CAS, data: bytes) -> None:
    digest = (await cas.store(data)).digest
    for wanted in (slice(2, 5), slice(7, None), slice(-3, None), slice(4, 4)):
        async with cas.retrieve(digest, range=wanted) as reader:
            assert await reader.read() == data[wanted]
    with pytest.raises(InvalidRangeError):
        await cas.retrieve(digest, range=slice(len(data), None))


async def test_what_is_not_there_is_not_found(cas: CAS) -> None:
    missing = name_of(b"missing")
    assert not await cas.exists(missing)
    for call in (cas.stat(missing), cas.pin(missing), cas.verify(missing)):
        with pytest.raises(BlobNotFoundError):
            await call
    with pytest.raises(BlobNotFoundError):
        await cas.retrieve(missing)


async def test_the_list_is_by_digest_and_in_pages(cas: CAS) -> None:
    names = sorted([(await cas.store(f"content {n}".encode())).digest for n in range(7)])
    assert [info.digest async for info in cas.list()] == names
    assert [info.digest async for info in cas.list(limit=3)] == names[:3]
    assert [info.digest async for info in cas.list(start_after=names[4])] == names[5:]


async def test_many_at_once_store_each_content_once(store: Trove, cas: CAS) -> None:
    contents = [f"content {n % 10}".encode() for n in range(80)]
    stored = await asyncio.gather(
        *(cas.store(data, owner=f"o{n}") for n, data in enumerate(contents))
    )
    assert [s.digest for s in stored] == [name_of(data) for data in contents]
    assert [(i.references, i.state) async for i in cas.list()] == [(8, "live")] * 10
    assert len(await blob_keys(store)) == 10
    await asyncio.gather(*(cas.release(s.digest, owner=f"o{n}") for n, s in enumerate(stored)))
    assert [i.references async for i in cas.list()] == [0] * 10


async def test_blake3_names_content_too(store: Trove) -> None:
    cas = store.cas("other", algorithm="blake3")
    for data in (b"small", LARGE):
        stored = await cas.store(streamed(data))
        assert stored.digest.startswith("blake3:")
        assert await read(cas, stored.digest) == data
    assert all(key.startswith("cas/blake3/") for key in await blob_keys(store, "other"))


async def test_buckets_are_spaces_of_their_own(store: Trove) -> None:
    one, two = store.cas("one"), store.cas("two")
    stored = await one.store(b"content")
    assert not await two.exists(stored.digest)
    assert not (await two.store(b"content")).deduplicated


async def test_c1_layers_apply_to_blobs(clock: object) -> None:
    """The Go original bound it to the bare driver: plaintext lay beside a global encryption."""
    ring = Keyring({"k": bytes(32)}, active="k")
    driver = MemoryDriver()
    layers: list[Middleware] = [Compress(min_size=1), Encrypt(ring)]
    async with trove.open(driver, middleware=layers) as store:
        cas = store.cas()
        data = b"secret words " * 1000
        for body in (data, LARGE):
            stored = await cas.store(streamed(body))
            assert await read(cas, stored.digest) == body
            async with cas.retrieve(stored.digest, range=slice(100, 200)) as reader:
                assert await reader.read() == body[100:200]
            info = await store.head("cas", key_of(body))
            assert info.encodings == ("zstd", "aws-esdk")
            raw = await store.get("cas", key_of(body), raw=True)
            async with raw:
                assert b"secret" not in await raw.read()
        assert (await cas.stat(name_of(data))).stored_size < len(data)
        assert (await cas.verify()).corrupt == []


async def test_c1_routes_apply_to_blobs() -> None:
    elsewhere = MemoryDriver()
    async with trove.open(
        "mem://",
        backends={"blobs": elsewhere},
        routes=[("cas/*", "blobs")],
        catalog=MemoryCatalog(),
    ) as store:
        await store.create_bucket("cas")
        stored = await store.cas().store(b"content")
        assert await blob_keys(store.backend("blobs")) == [key_of(b"content")]
        assert await read(store.cas(), stored.digest) == b"content"


@pytest.mark.parametrize("algorithm", ["xxh3", "md5", "", "SHA256"])
async def test_c5_only_cryptographic_digests_name_content(timed: Trove, algorithm: str) -> None:
    with pytest.raises(InvalidConfigError):
        timed.cas(algorithm=algorithm)


@pytest.mark.parametrize(
    "digest", ["", "xxh3:" + "0" * 32, "sha256:0", "0" * 64, "sha256:" + "g" * 64]
)
async def test_c5_other_digests_are_refused(timed: Trove, digest: str) -> None:
    for call in (timed.cas().exists(digest), timed.cas().release(digest)):
        with pytest.raises(InvalidInputError):
            await call


@pytest.mark.parametrize("owner", ["", "anon:x", "manifest:x", "a\0b", "\ud800", "x" * 5000])
async def test_names_that_are_no_owners_are_refused(timed: Trove, owner: str) -> None:
    with pytest.raises(InvalidInputError):
        await timed.cas().store(b"content", owner=owner)
    assert await timed.list_buckets() == []


async def test_a_shared_backend_needs_a_catalog_that_is_named() -> None:
    class Shared:
        """A driver without a place beside its objects."""

        def __init__(self) -> None:
            self._driver = MemoryDriver()

        def __getattr__(self, name: str) -> object:
            if name in ("beside", "inner"):
                raise AttributeError(name)
            return getattr(self._driver, name)

    driver = Shared()
    async with trove.open(driver) as store:  # type: ignore[arg-type]  # by its attributes
        with pytest.raises(InvalidConfigError, match="catalog"):
            await store.cas().store(b"content")
        assert await store.list_buckets() == []
    async with trove.open("mem://", backends={"far": MemoryDriver()}) as store:
        with pytest.raises(InvalidConfigError, match="catalog"):
            await store.backend("far").cas().store(b"content")
    async with trove.open(
        "mem://", backends={"far": MemoryDriver()}, routes=[("cas/sha256/7*", "far")]
    ) as store:
        with pytest.raises(InvalidConfigError, match="catalog"):
            await store.cas().store(b"content")
