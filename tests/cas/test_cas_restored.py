"""An index that is an older copy of itself, and bits that rot."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

import trove_async as trove
from tests.cas.contents import DAY, blob_keys, key_of, name_of, read
from tests.cas.mortal import counting
from tests.catalog.conftest import Clock
from trove_async import EncryptionKeyError, IntegrityError, KeyProviderError, KeyUnwrapError
from trove_async.catalog import open_catalog
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring, Middleware
from trove_async.middleware.encrypt.message import parse_header


async def test_an_older_copy_of_the_index_loses_nothing_once_it_is_rebuilt(tmp_path: Path) -> None:
    """What was reserved, condemned or unwanted when the copy was made has got references since:
    they are in no listing, so whatever is found without one is kept."""
    clock, driver = Clock(), MemoryDriver()
    path, copy = tmp_path / "index.sqlite", tmp_path / "copy.sqlite"
    url = f"sqlite:///{path}"
    names = [b"kept", b"reserved", b"condemned", b"unwanted", b"again", b"new one", b"new two"]
    catalog = open_catalog(url, clock=clock)
    async with trove.open(driver, catalog=catalog) as store:
        cas = store.cas()
        for data in (b"kept", b"condemned", b"unwanted", b"again"):
            await cas.store(data, owner="a")
        index = await cas._open_index()
        claim = await index.claim(name_of(b"reserved"), "a", 1_000_000)
        await store.put("cas", key_of(b"reserved"), b"reserved")
        await cas.release(name_of(b"condemned"), owner="a")
        await cas.gc(grace=0)
        await cas.release(name_of(b"unwanted"), owner="a")
    await catalog.close()
    shutil.copy(path, copy)

    catalog = open_catalog(url, clock=clock)
    async with trove.open(driver, catalog=catalog) as store:
        cas = store.cas()
        index = await cas._open_index()
        assert await index.commit(name_of(b"reserved"), claim.gen, "b", 8, 8, None)
        await cas.release(name_of(b"again"), owner="a")
        await cas.gc(grace=0, settle=0)
        for data in names:
            await cas.store(data, owner="b")
    await catalog.close()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    shutil.copy(copy, path)

    catalog = open_catalog(url, clock=clock)
    async with trove.open(driver, catalog=catalog) as store:
        cas = store.cas()
        before = await blob_keys(store)
        for _ in range(3):
            clock.pass_(2 * DAY)
            result = await cas.gc()
            assert (result.condemned, result.deleted) == (0, 0)
            assert "rebuild" in str(result.errors[0])
        assert await blob_keys(store) == before
        await cas.rebuild()
        for _ in range(3):
            for data in names:
                assert await read(cas, name_of(data)) == data
            clock.pass_(2 * DAY)
            assert (await cas.gc()).errors == []
        assert (await cas.verify()).missing == []
        for digest in [name_of(data) for data in names]:  # the owners say again what they want
            await cas.retain(digest, owner="b")
            await cas.unpin(digest)
        clock.pass_(2 * DAY)
        await cas.gc(grace=0, settle=0)
        for data in names:
            assert await read(cas, name_of(data)) == data
    await catalog.close()


async def rotten(layered: bool, bits: int) -> None:
    chance = random.Random(7)
    ring = Keyring({"k": bytes(32)}, active="k")
    layers: list[Middleware] = [Compress(min_size=1), Encrypt(ring)] if layered else []
    async with trove.open(MemoryDriver(), middleware=layers, chunk_size=512) as store:
        cas = store.cas()
        data = counting(9, 5000)
        digest = (await cas.store(data)).digest
        objects = store.driver._state.buckets["cas"].objects  # type: ignore[attr-defined]
        stored = objects[key_of(data)]
        whole = bytes(stored.data)
        for _ in range(bits):
            bit = chance.randrange(len(whole) * 8)
            flipped = bytearray(whole)
            flipped[bit // 8] ^= 1 << bit % 8
            stored.data = bytes(flipped)
            got = 0
            with pytest.raises((IntegrityError, EncryptionKeyError)) as caught:
                async with cas.retrieve(digest) as reader:
                    async for chunk in reader:
                        got += len(chunk)
            assert got < len(data)
            if isinstance(caught.value, IntegrityError):
                assert (await cas.stat(digest)).damaged
            assert (await cas.verify()).corrupt == [digest]
        stored.data = whole
        assert (await cas.verify()).corrupt == []
        assert not (await cas.stat(digest)).damaged


@pytest.mark.parametrize("layered", [False, True])
async def test_f26_every_flipped_bit_is_found_before_the_last_byte(layered: bool) -> None:
    await rotten(layered, 60)


@pytest.mark.slow
@pytest.mark.parametrize("layered", [False, True])
async def test_f26_a_thousand_flipped_bits(layered: bool) -> None:
    await rotten(layered, 1000)


async def test_a_header_that_no_key_opens_ends_no_verification() -> None:
    """It may be rot, or the keys may be wrong: it is listed, and not marked for replacement."""
    ring = Keyring({"k": bytes(32)}, active="k")
    async with trove.open(MemoryDriver(), middleware=[Encrypt(ring)]) as store:
        cas = store.cas()
        first, second = [(await cas.store(data)).digest for data in (b"first", b"second")]
        stored = store.driver._state.buckets["cas"].objects[key_of(b"first")]  # type: ignore[attr-defined]
        whole = bytes(stored.data)
        at = whole.index(parse_header(whole).keys[0][2])  # the wrapped data key
        stored.data = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(KeyUnwrapError):
            await read(cas, first)
        report = await cas.verify()
        assert (report.checked, report.corrupt, report.missing) == (2, [first], [])
        assert not (await cas.stat(first)).damaged
        assert await read(cas, second) == b"second"


async def test_keys_that_are_out_of_reach_end_a_verification() -> None:
    class Out:
        def __init__(self, ring: Keyring) -> None:
            self.ring = ring
            self.is_out = False

        async def wrapping_key(self, context: trove.Context) -> tuple[str, bytes]:
            return await self.ring.wrapping_key(context)

        async def unwrapping_key(self, key_id: str, context: trove.Context) -> bytes:
            if self.is_out:
                raise KeyProviderError("out")
            return await self.ring.unwrapping_key(key_id, context)

    provider = Out(Keyring({"k": bytes(32)}, active="k"))
    async with trove.open(MemoryDriver(), middleware=[Encrypt(provider)]) as store:
        cas = store.cas()
        digest = (await cas.store(b"content")).digest
        provider.is_out = True
        with pytest.raises(KeyProviderError):
            await cas.verify()
        provider.is_out = False
        assert (await cas.verify()).corrupt == []
        assert await read(cas, digest) == b"content"
