"""Whose keys open an object, what may stand where, and what an object says of itself."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from tests.middleware.encrypt.sealing import (
    KEK,
    KEY_ID,
    keyring,
    plain,
    seal,
    stored,
    stored_as,
    unseal,
)
from trove_async import (
    DowngradeError,
    EncryptionKeyError,
    IntegrityError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnwrapError,
    ObjectNotFoundError,
    PolicyError,
    PutOptions,
    Registration,
    RetryPolicy,
    Trove,
    UnsupportedFormatError,
    buckets,
    keys,
)
from trove_async._chunks import OneChunk
from trove_async.errors import CorruptMetadataError
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt import Encrypt, Keyring
from trove_async.middleware.encrypt.message import parse_header


@pytest.fixture
def ring() -> Keyring:
    return keyring()


@pytest.fixture
async def store(ring: Keyring) -> AsyncIterator[Trove]:
    async with trove.open("mem://", middleware=[Encrypt(ring)], default_bucket="box") as opened:
        await opened.create_bucket("box")
        yield opened


# -- keys ---------------------------------------------------------------------------------


async def test_a_new_active_key_leaves_old_objects_readable(store: Trove, ring: Keyring) -> None:
    await store.put(None, "old", b"old")
    ring.add("kek-2026-02", os.urandom(32))
    ring.activate("kek-2026-02")
    await store.put(None, "new", b"new")
    assert await store.get_bytes(None, "old") == b"old"
    assert await store.get_bytes(None, "new") == b"new"
    assert b"kek-2026-02" in (await stored(store, "new"))[0]


async def test_an_unknown_key_is_named(store: Trove) -> None:
    await store.put(None, "k", b"body")
    other = Encrypt(Keyring({"other": KEK}, active="other"))
    async with trove.open(store.driver, middleware=[other], default_bucket="box") as reader:
        for read in (reader.get_bytes(None, "k"), reader.get_bytes(None, "k", range=slice(0, 1))):
            with pytest.raises(KeyNotFoundError, match=KEY_ID) as info:
                await read
            assert not isinstance(info.value, IntegrityError)


async def test_other_bytes_under_the_same_name_are_a_wrong_key(store: Trove) -> None:
    await store.put(None, "k", b"body")
    wrong = Encrypt(Keyring({KEY_ID: bytes(32)}, active=KEY_ID))
    async with trove.open(store.driver, middleware=[wrong], default_bucket="box") as reader:
        with pytest.raises(KeyUnwrapError):
            await reader.get_bytes(None, "k")


async def test_a_store_without_keys_says_so(store: Trove) -> None:
    await store.put(None, "k", b"body")
    async with trove.open(store.driver, default_bucket="box") as plain_store:
        with pytest.raises(KeyNotFoundError, match=KEY_ID):
            await plain_store.get_bytes(None, "k")
        assert (await plain_store.head(None, "k")).size == 4


class Broken:
    """A provider that fails as it is told."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        self.asked += 1
        raise self.error

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (KeyProviderError("the vault is down"), KeyProviderError),
        (KeyNotFoundError("no key for this tenant"), KeyNotFoundError),
        (ConnectionResetError("by peer"), KeyProviderError),
        (TypeError("in somebody's client"), KeyProviderError),
    ],
)
async def test_a_provider_that_fails_never_means_plaintext(
    store: Trove, error: Exception, expected: type[EncryptionKeyError]
) -> None:
    """F53."""
    await store.put(None, "k", b"body")
    broken = Broken(error)
    retry = RetryPolicy(attempts=2, base=0.001)
    async with trove.open(
        store.driver, middleware=[Encrypt(broken)], default_bucket="box", retry=retry
    ) as failing:
        for work in (failing.put(None, "new", b"secret"), failing.get_bytes(None, "k")):
            broken.asked = 0
            with pytest.raises(expected) as info:
                await work
            cause = info.value if info.value is error else info.value.__cause__
            assert cause is error
            assert broken.asked == (2 if expected is KeyProviderError else 1), (
                "retried if it may help"
            )
        with pytest.raises(ObjectNotFoundError):
            await store.head(None, "new")


async def test_the_cause_that_can_be_helped_is_told_first() -> None:
    """Two recipients: one key is not here, the other's provider is down or has other bytes."""
    down = Broken(KeyProviderError("down"))
    gone = keyring(os.urandom(32), "gone")
    there = keyring(KEK, "there")
    both = Encrypt(gone, recipients=[there])
    message = seal(both, b"body")
    assert unseal(Encrypt(there), message) == unseal(both, message) == b"body"
    with pytest.raises(KeyProviderError):
        unseal(Encrypt(down), message)
    with pytest.raises(KeyUnwrapError):
        unseal(Encrypt(keyring(bytes(32), "there")), message)
    with pytest.raises(KeyNotFoundError, match="'gone', 'there'"):
        unseal(Encrypt(keyring(bytes(32), "third")), message)
    assert unseal(Encrypt(down, recipients=[there]), message) == b"body"


# -- only encrypted objects ---------------------------------------------------------------


async def test_a_plain_object_in_place_of_an_encrypted_one_is_refused(store: Trove) -> None:
    """S44: removing the mark does not help an attacker."""
    await store.put(None, "k", b"body")
    for metadata in ({}, {"trovefmt": "1"}, {"trovefmt": "1;zstd"}):
        await store.driver.put("box", "k", OneChunk(b"forged"), stored_as(metadata))
        for read in (store.get_bytes(None, "k"), store.get_bytes(None, "k", range=slice(0, 2))):
            with pytest.raises(DowngradeError):
                await read
        async with store.get(None, "k", raw=True) as reader:
            assert await reader.read() == b"forged"


async def test_a_raw_put_is_refused(store: Trove) -> None:
    with pytest.raises(PolicyError):
        await store.put(None, "k", b"plain", raw=True)
    with pytest.raises(ObjectNotFoundError):
        await store.head(None, "k")


async def test_plain_objects_are_allowed_where_a_migration_says_so(ring: Keyring) -> None:
    allowing = Encrypt(ring, allow_plain=[keys("old/*"), buckets("attic")])
    async with trove.open("mem://", middleware=[allowing], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "old/k", b"plain", raw=True)
        assert await store.get_bytes(None, "old/k") == b"plain"
        with pytest.raises(PolicyError):
            await store.put(None, "new/k", b"plain", raw=True)
        await store.driver.put("box", "new/k", OneChunk(b"plain"), stored_as({}))
        with pytest.raises(DowngradeError):
            await store.get_bytes(None, "new/k")
        await store.copy("box", "old/k", "box", "new/k")
        assert (await store.head(None, "new/k")).encodings == ("aws-esdk",)


async def test_plain_objects_are_allowed_where_the_layer_does_not_ask(ring: Keyring) -> None:
    for layers in (
        [Encrypt(ring, require_encrypted=False)],
        [Registration(Encrypt(ring), keys("secret/*"))],
    ):
        async with trove.open("mem://", middleware=layers, default_bucket="box") as store:
            await store.create_bucket("box")
            await store.put(None, "k", b"plain", raw=True)
            assert await store.get_bytes(None, "k") == b"plain"


# -- what the object says of itself -------------------------------------------------------


async def test_a_record_that_disagrees_with_the_header_is_refused(store: Trove) -> None:
    await store.put(None, "k", b"body")
    message, metadata = await stored(store)

    def recorded(text: str) -> PutOptions:
        return stored_as({**metadata, "trovefmt": text})

    h, f = parse_header(message).length, 65536
    for text, error in (
        (f"1;zstd,aws-esdk;h={h};f={f}", CorruptMetadataError),
        (f"1;aws-esdk;h={h + 1};f={f}", CorruptMetadataError),
        (f"1;aws-esdk;h=0;f={f}", CorruptMetadataError),
        (f"1;aws-esdk;h=99999;f={f}", CorruptMetadataError),
        (f"1;aws-esdk;h={h};f=128", CorruptMetadataError),
        (f"1;aws-esdk;h=x;f={f}", CorruptMetadataError),
        (f"1;zstd;h={h};f={f}", DowngradeError),
    ):
        await store.driver.put(
            "box", "k", OneChunk(message), stored_as({**metadata, "trovefmt": text})
        )
        for read in (store.get_bytes(None, "k"), store.get_bytes(None, "k", range=slice(0, 2))):
            with pytest.raises(error):
                await read
    for text in ("1;aws-esdk", f"1;aws-esdk;f={f}"):
        await store.driver.put(
            "box", "k", OneChunk(message), stored_as({**metadata, "trovefmt": text})
        )
        assert await store.get_bytes(None, "k") == b"body"
        assert await store.get_bytes(None, "k", range=slice(0, 2)) == b"bo"


async def test_a_record_that_calls_plain_bytes_encrypted_is_refused(store: Trove) -> None:
    await store.driver.put("box", "k", OneChunk(plain(500)), stored_as({"trovefmt": "1;aws-esdk"}))
    for read in (store.get_bytes(None, "k"), store.get_bytes(None, "k", range=slice(0, 2))):
        with pytest.raises(UnsupportedFormatError):
            await read
