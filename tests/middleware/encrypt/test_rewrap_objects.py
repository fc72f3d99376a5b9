"""Rotation: whose keys an object goes under, and objects that are not as usual."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.middleware.encrypt.leaks import assert_silent, everything_of, listening
from tests.middleware.encrypt.sealing import plain
from tests.middleware.encrypt.vault import (
    BODIES,
    A,
    B,
    Watched,
    counts,
    everything,
    filled,
    put_raw,
    raw,
    ring,
    some,
    vault,
)
from trove_async import Registration, Trove, keys
from trove_async.errors import (
    EnvelopeError,
    InvalidBucketNameError,
    InvalidConfigError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnwrapError,
    ObjectChangedError,
    TroveError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware import Compress, Context
from trove_async.middleware.encrypt import (
    CachedKeyProvider,
    Encrypt,
    Keyring,
    TenantKeys,
    rewrap,
    rewrap_bucket,
)
from trove_async.middleware.encrypt.envelope import METADATA_NAME, RewrapRecord


@pytest.fixture
def keyring() -> Keyring:
    return ring()


@pytest.fixture
async def memory(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Trove]:
    async with vault("memory", tmp_path, some(Encrypt(keyring))) as opened:
        await filled(opened)
        yield opened


# -- whose keys ---------------------------------------------------------------------------


def segment(context: Context) -> str | None:
    return context.key.partition("/")[0]


async def test_each_tenants_objects_go_under_that_tenants_key(tmp_path: Path) -> None:
    rings = {
        name: Keyring({f"{name}-1": key}, active=f"{name}-1")
        for name, key in (("acme", A), ("zeta", B))
    }
    cached = CachedKeyProvider(TenantKeys(segment, rings), scope=segment)
    async with vault("memory", tmp_path, Encrypt(cached)) as store:
        for key in ("acme/x", "zeta/x"):
            await store.put(None, key, key.encode())
        for name, one in rings.items():
            one.rotate(f"{name}-2")
        cached.clear()
        assert counts(await rewrap_bucket(store, None)) == (2, 2, 0, 0, 0)
        for key in ("acme/x", "zeta/x"):
            record = RewrapRecord.decode((await raw(store, key)).metadata[METADATA_NAME])
            assert record.key_id == f"{key[:4]}-2"
        for name, one in rings.items():
            one.destroy(f"{name}-1")
        cached.clear()
        assert await store.get_bytes(None, "acme/x") == b"acme/x"
        assert await store.get_bytes(None, "zeta/x") == b"zeta/x"


async def test_a_retired_key_of_a_tenant_does_not_wrap_either(tmp_path: Path) -> None:
    rings = {"acme": Keyring({"old": A, "new": B}, active="new")}
    async with vault("memory", tmp_path, Encrypt(TenantKeys(segment, rings))) as store:
        await store.put(None, "acme/x", b"x")
        rings["acme"].retire("old")
        with pytest.raises(InvalidConfigError, match="retired"):
            await rewrap(store, None, "acme/x", to="old")


async def test_the_layer_whose_scope_matches_gives_the_keys(tmp_path: Path) -> None:
    one, two = Keyring({"one": A}, active="one"), Keyring({"two": B}, active="two")
    layers = [
        Registration(Encrypt(one), scope=keys("one/*")),
        Registration(Encrypt(two), scope=keys("two/*")),
    ]
    async with vault("memory", tmp_path, *layers) as store:
        for key in ("one/x", "two/x"):
            await store.put(None, key, key.encode())
        one.rotate("one-2")
        two.rotate("two-2")
        assert counts(await rewrap_bucket(store, None)) == (2, 2, 0, 0, 0)
        one.destroy("one")
        two.destroy("two")
        for key in ("one/x", "two/x"):
            assert await store.get_bytes(None, key) == key.encode()


async def test_without_an_encrypt_layer_there_are_no_keys(memory: Trove, keyring: Keyring) -> None:
    memory.remove("encrypt")
    for run in (rewrap(memory, None, "data/000001"), rewrap_bucket(memory, None)):
        with pytest.raises(InvalidConfigError, match="no Encrypt layer"):
            await run
    memory.use(Encrypt(keyring), scope=keys("elsewhere/*"))
    assert (await rewrap(memory, None, "data/000001", to="a")).rewrapped == 0, (
        "any layer, if need be"
    )


async def test_a_bucket_must_be_named_or_be_the_default(memory: Trove) -> None:
    import trove_async

    async with trove_async.open(memory.driver) as store:
        with pytest.raises(InvalidBucketNameError):
            await rewrap_bucket(store, None)


async def test_F53_wrong_missing_and_unreachable_keys_are_told_for_each_object(
    memory: Trove, keyring: Keyring
) -> None:
    class Down:
        async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
            return "b", B

        async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
            raise OSError("connection refused")

    before = await everything(memory)
    providers: dict[type[TroveError], Any] = {
        KeyUnwrapError: Keyring({"b": B, "a": B}, active="b"),
        KeyNotFoundError: Keyring({"b": B}, active="b"),
        KeyProviderError: Down(),
    }
    for error, provider in providers.items():
        memory.remove("encrypt")
        memory.use(Encrypt(provider))
        with listening() as heard:
            report = await rewrap_bucket(memory, None)
        assert counts(report) == (8, 0, 0, 2, 6)
        for key, failed in report.failed:
            assert type(failed) is error, key
            assert_silent(everything_of(failed) + heard.getvalue() + repr(report), A, B)
    assert await everything(memory) == before


async def test_a_provider_that_cannot_wrap_changes_nothing(memory: Trove, keyring: Keyring) -> None:
    class ReadOnly:
        async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
            raise ConnectionError("the service is down")

        async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
            if key_id == "b":
                raise ConnectionError("the service is down")
            return await keyring.unwrapping_key(key_id, context)

    memory.remove("encrypt")
    memory.use(Encrypt(ReadOnly()))
    for to in (None, "b"):
        with pytest.raises(KeyProviderError):
            await rewrap(memory, None, "data/000001", to=to)


# -- odd objects --------------------------------------------------------------------------


async def test_a_header_longer_than_the_first_look_is_read_to_its_end(
    tmp_path: Path, keyring: Keyring
) -> None:
    pairs = {f"pair-{number}": "v" * 600 for number in range(10)}
    async with vault("memory", tmp_path, Encrypt(keyring, pairs=pairs)) as store:
        await store.put(None, "x", b"body")
        keyring.rotate("b")
        watched = Watched(store)
        assert (await rewrap(watched, "box", "x")).rewrapped == 1
        assert watched.calls == ["get 0:4096", "get 0:16384", "copy"]
        keyring.destroy("a")
        assert await store.get_bytes(None, "x") == b"body"


async def test_an_object_replaced_between_two_looks_is_looked_at_again(
    tmp_path: Path, keyring: Keyring
) -> None:
    pairs = {f"pair-{number}": "v" * 600 for number in range(10)}
    async with vault("memory", tmp_path, Encrypt(keyring, pairs=pairs)) as store:
        await store.put(None, "x", b"body")
        keyring.rotate("b")
        watched = Watched(store)
        watched.after_looking.append(store.put(None, "x", b"newer"))
        with pytest.raises(ObjectChangedError):
            await rewrap(watched, "box", "x")
        watched.after_looking.append(store.put(None, "x", b"newest"))
        assert counts(await rewrap_bucket(watched, None)) == (1, 0, 1, 0, 0)
        assert await store.get_bytes(None, "x") == b"newest"


@pytest.mark.parametrize("body", [b"", b"\2", b"\2\4", b"\2\4\x78", b"\2\4\x78" + bytes(20)])
async def test_foreign_bytes_that_only_begin_like_ours_are_plain(
    memory: Trove, body: bytes
) -> None:
    await put_raw(memory, "foreign", body, {})
    assert (await rewrap(memory, None, "foreign")).rewrapped == 0
    await put_raw(memory, "foreign", body, {"trovefmt": "1"})
    assert (await rewrap(memory, None, "foreign")).rewrapped == 0
    await put_raw(memory, "foreign", body, {"trovefmt": "1;aws-esdk"})
    with pytest.raises(TruncatedError):
        await rewrap(memory, None, "foreign")


async def test_compressed_objects_are_rewrapped_like_others(
    tmp_path: Path, keyring: Keyring
) -> None:
    async with vault("local", tmp_path, Compress(), Encrypt(keyring)) as store:
        await store.put(None, "x", b"again and " * 10_000)
        before = await raw(store, "x")
        keyring.rotate("b")
        assert (await rewrap(store, None, "x")).rewrapped == 1
        keyring.destroy("a")
        assert (await raw(store, "x")).body == before.body
        assert await store.get_bytes(None, "x") == b"again and " * 10_000
        assert await store.get_bytes(None, "x", range=slice(50_000, 50_010)) == b"again and "


async def test_an_object_that_lost_its_metadata_is_recognised(
    memory: Trove, keyring: Keyring
) -> None:
    lost = await raw(memory, "data/065537")
    await put_raw(memory, "lost", lost.body, {})
    keyring.rotate("b")
    assert (await rewrap(memory, None, "lost")).rewrapped == 1
    after = await raw(memory, "lost")
    assert after.body == lost.body and set(after.metadata) == {METADATA_NAME}
    keyring.destroy("a")
    assert await memory.get_bytes(None, "lost") == BODIES["data/065537"]


async def test_plain_bytes_that_look_encrypted_are_plain_by_their_record(
    memory: Trove, keyring: Keyring
) -> None:
    stored = await raw(memory, "data/000001")
    await memory.put(None, "plain/message", stored.body)
    keyring.rotate("b")
    assert (await rewrap(memory, None, "plain/message")).rewrapped == 0
    assert await memory.get_bytes(None, "plain/message") == stored.body


async def test_damaged_objects_are_told_and_the_run_goes_on(
    memory: Trove, keyring: Keyring
) -> None:
    good = await raw(memory, "data/000001")
    bad = {
        "bad/cut": (good.body[:60], good.metadata, TruncatedError),
        "bad/context": (good.body[:40] + b"X" + good.body[41:], good.metadata, TroveError),
        "bad/no message": (b"x" * 500, good.metadata, UnsupportedFormatError),
        "bad/later": (good.body, {"trovefmt": "2;x"}, UnsupportedFormatError),
        "bad/inside": (good.body, {"trovefmt": "1;aws-esdk,other"}, UnsupportedFormatError),
        "bad/record": (good.body, {**good.metadata, METADATA_NAME: "TRW1"}, EnvelopeError),
    }
    for key, (body, metadata, _) in bad.items():
        await put_raw(memory, key, body, metadata)
    keyring.add("b", B)
    keyring.activate("b")
    report = await rewrap_bucket(memory, None, prefix="bad/")
    assert report.examined == len(report.failed) == len(bad)
    for key, error in report.failed:
        assert isinstance(error, bad[key][2]), (key, error)
        assert (await raw(memory, key)).body == bad[key][0]
    assert counts(await rewrap_bucket(memory, None)) == (14, 6, 0, 2, 6)


async def test_a_record_of_another_object_is_not_made_good(memory: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    await rewrap_bucket(memory, None)
    one, two = await raw(memory, "data/000001"), await raw(memory, "data/065537")
    stolen = {**one.metadata, METADATA_NAME: two.metadata[METADATA_NAME]}
    await put_raw(memory, "data/000001", one.body, stolen)
    keyring.rotate("c")
    with pytest.raises(EnvelopeError, match="another object"):
        await rewrap(memory, None, "data/000001")
    assert (await raw(memory, "data/000001")).metadata == stolen


async def test_an_object_encrypted_twice_is_rewrapped_outside(
    tmp_path: Path, keyring: Keyring
) -> None:
    inner = Keyring({"inner": B}, active="inner")
    async with vault("memory", tmp_path, Encrypt(inner), Encrypt(keyring)) as store:
        await store.put(None, "x", plain(1000))
        before = await raw(store, "x")
        assert (await rewrap(store, None, "x")).rewrapped == 0
        assert await raw(store, "x") == before
        assert await store.get_bytes(None, "x") == plain(1000)
