"""The layer in a store: what is written, what is read, and what is refused."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.middleware.encrypt.sealing import (
    Pieces,
    drain,
    keyring,
    now,
    plain,
    stored,
    stored_as,
    unseal,
    writing,
)
from tests.transforms import Flip
from trove_async import (
    GetOptions,
    KeyNotFoundError,
    Middleware,
    Registration,
    RetryPolicy,
    Trove,
    UnavailableError,
    keys,
)
from trove_async._chunks import OneChunk, collect
from trove_async.errors import FrameAuthError, InvalidConfigError
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt import Encrypt, Keyring, layer
from trove_async.middleware.encrypt.message import Header, parse_header
from trove_async.middleware.encrypt.suite import derive

SIZES = [0, 1, 127, 128, 129, 1000, 70_000, 300_000]


@pytest.fixture
def ring() -> Keyring:
    return keyring()


@pytest.fixture
async def store(ring: Keyring) -> AsyncIterator[Trove]:
    async with trove.open("mem://", middleware=[Encrypt(ring)], default_bucket="box") as opened:
        await opened.create_bucket("box")
        yield opened


# -- there and back -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
async def test_what_was_put_is_got(store: Trove, size: int) -> None:
    body = os.urandom(size)
    put = await store.put(None, "k", body, metadata={"a": "b"})
    async with store.get(None, "k") as reader:
        assert await reader.read() == body
        got = reader.info
    for info in (put, got, await store.head(None, "k")):
        assert (info.size, info.encodings, info.metadata) == (size, ("aws-esdk",), {"a": "b"})
        assert info.stored_size is not None and info.stored_size > size
    message, metadata = await stored(store)
    assert len(message) == put.stored_size
    assert body not in message or size < 20
    header = parse_header(message)
    assert metadata["trovefmt"] == f"1;aws-esdk;h={header.length};f=65536"


@pytest.mark.parametrize("size", SIZES)
async def test_a_stream_of_unknown_size_is_put_and_got(store: Trove, size: int) -> None:
    whole = plain(size)

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, size, 999):
            yield whole[start : start + 999]

    info = await store.put(None, "k", body())
    assert info.size == size
    assert await store.get_bytes(None, "k") == whole


@pytest.mark.parametrize("size", [100, 1024, 1500, 5000])
def test_a_reused_buffer_is_read_before_it_changes(size: int) -> None:
    """A chunk belongs to the layer only until it asks for the next."""
    encrypt = Encrypt(keyring(), frame_size=1024)
    bodies = [bytes([value]) * size for value in range(1, 6)]
    sealed = b"".join(drain(now(encrypt.write(Pieces(overwritten(bodies)), writing()))))
    assert unseal(encrypt, sealed) == b"".join(bodies)
    for place in (300, 1500, size):
        found = unseal(encrypt, b"", overwritten([sealed[:place], sealed[place:]]))
        assert found == b"".join(bodies)


def overwritten(chunks: Sequence[bytes]) -> Iterator[memoryview]:
    """Each chunk in a buffer that is cleared as soon as the next one is asked for."""
    for chunk in chunks:
        buffer = bytearray(chunk)
        yield memoryview(buffer)
        buffer[:] = bytes(len(buffer))


@pytest.mark.parametrize(
    "range_", [slice(0, 10), slice(65_530, 65_550), slice(-5, None), slice(9, 9)]
)
async def test_a_range_is_the_slice(store: Trove, range_: slice) -> None:
    body = os.urandom(200_000)
    await store.put(None, "k", body)
    assert await store.get_bytes(None, "k", range=range_) == body[range_]
    assert await store.get_ranges(None, "k", [range_, slice(3, 70_000)]) == [
        body[range_],
        body[3:70_000],
    ]


async def test_an_empty_object_is_a_message_with_an_empty_frame(store: Trove) -> None:
    await store.put(None, "k", b"")
    assert await store.get_bytes(None, "k") == b""
    assert await store.get_bytes(None, "k", range=slice(0, 10)) == b""
    message, _ = await stored(store)
    async with store.get(None, "k", raw=True) as reader:
        metadata = dict(reader.info.metadata)
    await store.driver.put("box", "cut", OneChunk(message[:-1] + b"\0"), stored_as(metadata))
    with pytest.raises(FrameAuthError):
        await store.get_bytes(None, "cut", range=slice(0, 10))


async def test_data_that_looks_like_ours_round_trips(store: Trove) -> None:
    """S36: the record says what an object is, not its first bytes."""
    await store.put(None, "k", b"secret")
    message, _ = await stored(store)
    for body in (message, message[:100], b"\x02\x04\x78", b"\x28\xb5\x2f\xfd junk"):
        await store.put(None, "copy", body)
        assert await store.get_bytes(None, "copy") == body


async def test_without_the_record_an_object_is_known_by_its_start(store: Trove) -> None:
    body = plain(100_000)
    await store.put(None, "k", body)
    message, _ = await stored(store)
    await store.driver.put("box", "bare", OneChunk(message), stored_as({}))
    assert await store.get_bytes(None, "bare") == body
    assert await store.get_bytes(None, "bare", range=slice(70_000, 70_010)) == body[70_000:70_010]
    assert (await store.head(None, "bare")).size == len(body)


async def test_layers_come_off_in_the_opposite_order(ring: Keyring) -> None:
    """M1, whatever the order of registration."""
    body = b"compressible " * 1000
    orders: list[list[Middleware]] = [[Flip(), Encrypt(ring)], [Encrypt(ring), Flip()]]
    for layers in orders:
        async with trove.open("mem://", middleware=layers, default_bucket="box") as store:
            await store.create_bucket("box")
            info = await store.put(None, "k", body)
            assert info.encodings == ("flip", "aws-esdk")
            assert info.stored_size is not None and info.stored_size < 1000
            assert await store.get_bytes(None, "k") == body
            message, _ = await stored(store)
            assert parse_header(message).inner == ("flip",)


async def test_two_encryptions_come_off_in_the_opposite_order() -> None:
    """M1 with keys that differ: the inner message ignores what the record says of the outer."""
    one, two = (Encrypt(Keyring({k: os.urandom(32)}, active=k)) for k in ("one", "two"))
    async with trove.open("mem://", middleware=[one, two], default_bucket="box") as store:
        await store.create_bucket("box")
        info = await store.put(None, "k", plain(200_000))
        assert info.encodings == ("aws-esdk", "aws-esdk")
        assert await store.get_bytes(None, "k") == plain(200_000)
        assert (
            await store.get_bytes(None, "k", range=slice(100_000, 100_100))
            == plain(200_000)[100_000:100_100]
        )
        message, _ = await stored(store)
        assert parse_header(message).inner == ("aws-esdk",)


async def test_each_scope_has_its_own_keys() -> None:
    """M3: nothing is remembered of who came first."""
    one, two = (Keyring({k: os.urandom(32)}, active=k) for k in ("one", "two"))
    layers = [
        Registration(Encrypt(one), keys("a/*")),
        Registration(Encrypt(two), keys("b/*")),
    ]
    async with trove.open("mem://", middleware=layers, default_bucket="box") as store:
        await store.create_bucket("box")
        for name, key_id in (("a/x", b"one"), ("b/x", b"two"), ("a/y", b"one")):
            await store.put(None, name, b"body")
            assert await store.get_bytes(None, name) == b"body"
            header = parse_header((await stored(store, name))[0])
            assert header.keys[0][1].startswith(key_id)
        await store.copy("box", "a/x", "box", "b/y")
        assert await store.get_bytes(None, "b/y") == b"body"
        assert parse_header((await stored(store, "b/y"))[0]).keys[0][1].startswith(b"two")


async def test_a_key_that_depends_on_the_operation(ring: Keyring) -> None:
    class ByBucket:
        async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
            return context.bucket, bytes(32)

        async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
            if key_id != context.bucket:
                raise KeyNotFoundError(f"{key_id!r} is not a key of {context.bucket!r}")
            return bytes(32)

    async with trove.open("mem://", middleware=[Encrypt(ByBucket())]) as store:
        for bucket in ("one", "two"):
            await store.create_bucket(bucket)
            await store.put(bucket, "k", bucket.encode())
            assert await store.get_bytes(bucket, "k") == bucket.encode()
        async with store.get("one", "k", raw=True) as reader:
            message, metadata = await reader.read(), dict(reader.info.metadata)
        await store.driver.put("two", "stolen", OneChunk(message), stored_as(metadata))
        with pytest.raises(KeyNotFoundError):
            await store.get_bytes("two", "stolen")


# -- nothing is used twice ----------------------------------------------------------------


async def test_no_key_or_message_id_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """S42, over ten thousand uploads and the retries among them. Within a message each frame
    has its own nonce, so a key that is never used twice is enough."""
    used: list[tuple[bytes, bytes]] = []

    def noting(data_key: bytes, message_id: bytes) -> tuple[bytes, bytes]:
        key, commitment = derive(data_key, message_id)
        used.append((key, message_id))
        return key, commitment

    monkeypatch.setattr(layer, "derive", noting)
    faulty = Faulty()
    retry = RetryPolicy(attempts=3, base=0.0001, maximum=0.0001)
    async with trove.open(
        faulty, middleware=[Encrypt(keyring())], default_bucket="box", retry=retry
    ) as store:
        await store.create_bucket("box")
        for number in range(10_000):
            if number % 100 == 0:
                faulty.fail("put", UnavailableError("once more"), after=number % 200 == 0)
            await store.put(None, "k", b"body")
            faulty.forget()
    assert len(used) == 10_100
    assert len({key for key, _ in used}) == len({name for _, name in used}) == len(used)


async def test_a_retry_is_a_new_message(ring: Keyring) -> None:
    faulty = Faulty()
    sent: list[Header] = []

    async def look() -> None:
        raw = await faulty.driver.get("box", "k", GetOptions())
        sent.append(parse_header(await collect(raw.body)))

    async with trove.open(
        faulty, middleware=[Encrypt(ring)], default_bucket="box", retry=RetryPolicy(base=0.0001)
    ) as store:
        await store.create_bucket("box")
        faulty.lose("put", look)
        await store.put(None, "k", b"body")
        await look()
        assert await store.get_bytes(None, "k") == b"body"
    first, second = sent
    assert first.message_id != second.message_id
    assert first.commitment != second.commitment


# -- settings -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"frame_size": 0},
        {"frame_size": 127},
        {"frame_size": 129},
        {"frame_size": 32 * 1024 * 1024},
        {"bind": "bucket"},
        {"recipients": [keyring()] * 8},
        {"max_header": 0},
        {"max_header": 16 * 1024 + 1},
        {"max_frame": 64},
        {"max_keys": 9},
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidConfigError):
        Encrypt(keyring(), **settings)


async def test_pairs_are_checked_before_anything_is_written(ring: Keyring) -> None:
    for pairs in ({"trove-loc": "x"}, {"aws-crypto-x": "y"}, {"big": "x" * 9000}, {"\ud800": "x"}):
        async with trove.open("mem://", middleware=[Encrypt(ring, pairs=pairs)]) as store:
            await store.create_bucket("box")
            with pytest.raises(InvalidConfigError, match="pairs"):
                await store.put("box", "k", b"body")


async def test_pairs_may_depend_on_the_operation(ring: Keyring) -> None:
    encrypt = Encrypt(ring, pairs=lambda context: {"bucket": context.bucket})
    async with trove.open("mem://", middleware=[encrypt], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", b"body")
        header = parse_header((await stored(store))[0])
        assert header.pairs == {"bucket": "box", "trove": "1;-"}
        assert await store.get_bytes(None, "k") == b"body"


async def test_a_header_of_many_long_keys_still_fits(ring: Keyring) -> None:
    names = [f"{'k' * 240}{n}" for n in range(7)]
    recipients = [keyring(os.urandom(32), name) for name in names]
    encrypt = Encrypt(ring, recipients=recipients, pairs={"p": "x" * 8000})
    async with trove.open("mem://", middleware=[encrypt], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "k", plain(100_000))
        header = parse_header((await stored(store))[0])
        assert header.length > 8192 and len(header.keys) == 8
        assert await store.get_bytes(None, "k", range=slice(99_990, None)) == plain(100_000)[-10:]
        message, _ = await stored(store)
        await store.driver.put("box", "k", OneChunk(message), stored_as({}))
        assert await store.get_bytes(None, "k") == plain(100_000)
        assert await store.get_bytes(None, "k", range=slice(99_990, None)) == plain(100_000)[-10:]


def test_a_layer_shows_no_key(ring: Keyring) -> None:
    text = repr(Encrypt(ring))
    assert text == "<Encrypt frame_size=65536 bind='none'>"
