"""bind="key": an object opens where its owner put it, and nowhere else (M6, S43)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import trove_async as trove
from tests.middleware.encrypt.sealing import (
    KEK,
    KEY_ID,
    Stored,
    drain,
    keyring,
    now,
    plain,
    reading,
    seal,
    stored,
    stored_as,
)
from trove_async import (
    CopyOptions,
    DowngradeError,
    KeyNotFoundError,
    ObjectRef,
    RetryPolicy,
    Trove,
)
from trove_async._chunks import OneChunk
from trove_async.errors import (
    EnvelopeError,
    HeaderAuthError,
    KeyUnwrapError,
    LocationMismatchError,
    TroveError,
)
from trove_async.middleware.encrypt import Encrypt, Keyring
from trove_async.middleware.encrypt.envelope import RewrapRecord, location_of, wrap_record
from trove_async.middleware.encrypt.message import location_text, parse_header

BODY = plain(200_000)


@pytest.fixture
def ring() -> Keyring:
    return keyring()


@pytest.fixture(params=["memory", "local"])
async def store(
    request: pytest.FixtureRequest, ring: Keyring, tmp_path: Path
) -> AsyncIterator[Trove]:
    target = "mem://" if request.param == "memory" else f"file://{tmp_path}?durability=none"
    layers = [Encrypt(ring, bind="key")]
    retry = RetryPolicy(attempts=1)
    async with trove.open(target, middleware=layers, default_bucket="box", retry=retry) as opened:
        await opened.create_bucket("box")
        yield opened


async def stolen(store: Trove, source: str, target: str) -> None:
    """The copy of somebody who has the backend and no key."""
    places = ObjectRef("box", source), ObjectRef("box", target)
    await store.driver.copy(*places, CopyOptions())


async def reads_nowhere(store: Trove, key: str, error: type[TroveError]) -> None:
    for read in (store.get_bytes(None, key), store.get_bytes(None, key, range=slice(5, 9))):
        with pytest.raises(error):
            await read


async def test_a_bound_object_is_read_where_it_was_put(store: Trove) -> None:
    await store.put(None, "a", BODY)
    assert await store.get_bytes(None, "a") == BODY
    assert await store.get_bytes(None, "a", range=slice(70_000, 70_010)) == BODY[70_000:70_010]
    header = parse_header((await stored(store, "a"))[0])
    assert header.location == location_of("a")


async def test_ciphertext_moved_to_another_key_is_refused_by_name(store: Trove) -> None:
    await store.put(None, "a", BODY)
    await stolen(store, "a", "b")
    await reads_nowhere(store, "b", LocationMismatchError)
    with pytest.raises(LocationMismatchError) as info:
        await store.get_bytes(None, "b")
    for key in ("a", "b"):
        assert location_text(location_of(key)) in str(info.value)
    assert await store.get_bytes(None, "a") == BODY


async def test_a_copy_is_bound_to_its_own_key_and_its_body_is_the_same(store: Trove) -> None:
    """FORMATS 2.5: the header is never written anew."""
    await store.put(None, "a", BODY, metadata={"is": "kept"})
    copied = await store.copy("box", "a", "box", "b")
    assert copied.metadata == {"is": "kept"}
    (one, _), (two, metadata) = await stored(store, "a"), await stored(store, "b")
    assert one == two
    assert RewrapRecord.decode(metadata["trovewrap"]).loc == location_of("b")
    assert await store.get_bytes(None, "b") == await store.get_bytes(None, "a") == BODY
    assert await store.get_bytes(None, "b", range=slice(-3, None)) == BODY[-3:]
    await stolen(store, "b", "c")
    await reads_nowhere(store, "c", LocationMismatchError)
    await stolen(store, "b", "a")
    await reads_nowhere(store, "a", LocationMismatchError)


async def test_a_copy_of_a_copy_and_a_move_are_bound_anew(store: Trove) -> None:
    await store.put(None, "a", BODY)
    await store.copy("box", "a", "box", "b")
    await store.copy("box", "b", "box", "c", metadata={"new": "map"})
    await store.move("box", "c", "box", "d")
    info = await store.head(None, "d")
    assert info.metadata == {"new": "map"}
    assert await store.get_bytes(None, "d") == BODY
    assert (await stored(store, "d"))[0] == (await stored(store, "a"))[0]
    assert not await store.exists(None, "c")
    await store.move("box", "d", "box", "a")
    assert await store.get_bytes(None, "a") == BODY


async def test_an_unbound_object_is_copied_without_a_record(ring: Keyring) -> None:
    async with trove.open("mem://", middleware=[Encrypt(ring)], default_bucket="box") as store:
        await store.create_bucket("box")
        await store.put(None, "a", BODY)
        await store.copy("box", "a", "box", "b")
        assert "trovewrap" not in (await stored(store, "b"))[1]
        assert await store.get_bytes(None, "b") == BODY


async def test_a_reader_follows_the_object_not_its_own_setting(store: Trove, ring: Keyring) -> None:
    await store.put(None, "a", BODY)
    await stolen(store, "a", "b")
    async with trove.open(store.driver, middleware=[Encrypt(ring)], default_bucket="box") as other:
        assert await other.get_bytes(None, "a") == BODY
        await reads_nowhere(other, "b", LocationMismatchError)
        await other.copy("box", "a", "box", "c")
        assert await store.get_bytes(None, "c") == BODY


async def test_the_expected_key_opens_a_store_mounted_elsewhere(store: Trove) -> None:
    await store.put(None, "root/a", BODY)
    await stolen(store, "root/a", "a")
    mounted = Encrypt(keyring(), bind="key", expected_key=lambda context: f"root/{context.key}")
    async with trove.open(store.driver, middleware=[mounted], default_bucket="box") as other:
        assert await other.get_bytes(None, "a") == BODY
        await other.put(None, "b", b"new")
        assert await other.get_bytes(None, "b") == b"new"
        header = parse_header((await stored(other, "b"))[0])
        assert header.location == location_of("root/b")


async def test_unbound_objects_can_be_refused(store: Trove, ring: Keyring) -> None:
    await store.put(None, "bound", BODY)
    store.remove("encrypt")
    store.use(Encrypt(ring))
    await store.put(None, "unbound", BODY)
    store.remove("encrypt")
    store.use(Encrypt(ring, bind="key", require_bound=True))
    assert await store.get_bytes(None, "bound") == BODY
    await reads_nowhere(store, "unbound", DowngradeError)
    await store.copy("box", "bound", "box", "copy")
    assert await store.get_bytes(None, "copy") == BODY


# -- records in the metadata ---------------------------------------------------------------

BOUND = Encrypt(keyring(), bind="key")
LOOSE = Encrypt(keyring())


def record_of(
    message: bytes,
    *,
    key: str | None,
    kek: bytes = KEK,
    key_id: str = KEY_ID,
    unbound: bool = False,
    opened_at: str = "a",
) -> RewrapRecord:
    """The record an owner of the keys would write."""
    header = parse_header(message)
    found = now(LOOSE._opened(header, reading(opened_at, [])))
    loc = None if key is None else location_of(key)
    return wrap_record(
        kek,
        key_id,
        found.data_key,
        header.message_id,
        header.commitment,
        loc=loc,
        unbound=unbound,
    )


def opened_with(message: bytes, record: RewrapRecord | str, key: str) -> bytes:
    text = record if isinstance(record, str) else record.encode()
    return _unsealed(LOOSE, message, key, trovewrap=text)


def _unsealed(layer: Encrypt, message: bytes, key: str, **metadata: str) -> bytes:
    stream = now(layer.read(OneChunk(message), reading(key, **metadata)))
    return b"".join(drain(stream))


def test_a_record_stands_in_for_the_header(ring: Keyring) -> None:
    message = seal(BOUND, b"body", key="a")
    assert opened_with(message, record_of(message, key="b"), "b") == b"body"
    with pytest.raises(LocationMismatchError):
        opened_with(message, record_of(message, key="b"), "a")
    loose = seal(LOOSE, b"body")
    assert opened_with(loose, record_of(loose, key=None), "anywhere") == b"body"
    assert opened_with(loose, record_of(loose, key="b"), "b") == b"body"
    with pytest.raises(LocationMismatchError):
        opened_with(loose, record_of(loose, key="b"), "c")


def test_an_owner_can_take_the_binding_away() -> None:
    message = seal(BOUND, b"body", key="a")
    record = record_of(message, key=None, unbound=True)
    assert opened_with(message, record, "anywhere") == b"body"
    with pytest.raises(DowngradeError):
        strict = Encrypt(keyring(), require_bound=True)
        _unsealed(strict, message, "anywhere", trovewrap=record.encode())


def test_a_record_that_just_lacks_the_binding_is_refused() -> None:
    message = seal(BOUND, b"body", key="a")
    with pytest.raises(EnvelopeError):
        opened_with(message, record_of(message, key=None), "a")


def test_a_record_of_another_object_is_refused() -> None:
    one, two = seal(LOOSE, b"one"), seal(LOOSE, b"two")
    with pytest.raises(EnvelopeError):
        opened_with(one, record_of(two, key=None), "a")


def test_a_record_whose_claims_were_changed_is_refused() -> None:
    message = seal(BOUND, b"body", key="a")
    record = record_of(message, key="b")
    unbound = RewrapRecord(2, record.message_id, None, record.edk)
    with pytest.raises(EnvelopeError):
        opened_with(message, unbound, "b")
    back_home = record_of(message, key="a")
    for key, original in (("a", record), ("c", back_home), ("c", record)):
        forged = RewrapRecord(1, record.message_id, location_of(key), original.edk)
        # Where it was bound to before can be told only of the header's own place.
        with pytest.raises(EnvelopeError if original is back_home else KeyUnwrapError):
            opened_with(message, forged, key)
    with pytest.raises(EnvelopeError):
        opened_with(message, "no record", "a")


def test_a_record_under_other_key_bytes_is_a_wrong_key() -> None:
    message = seal(LOOSE, b"body")
    with pytest.raises(KeyUnwrapError):
        opened_with(message, record_of(message, key=None, kek=bytes(32)), "a")


def test_without_the_records_key_the_header_is_tried() -> None:
    loose, bound = seal(LOOSE, b"body"), seal(BOUND, b"body", key="a")

    def gone(message: bytes, key: str | None) -> RewrapRecord:
        return record_of(message, key=key, kek=bytes(32), key_id="gone")

    assert opened_with(loose, gone(loose, None), "k") == b"body"
    assert opened_with(bound, gone(bound, "a"), "a") == b"body"
    with pytest.raises(KeyNotFoundError, match="gone"):
        opened_with(bound, gone(bound, "b"), "b")


def test_a_location_in_the_header_cannot_be_changed() -> None:
    message = seal(BOUND, b"body", key="a")
    there, here = (location_text(location_of(key)).encode() for key in ("b", "a"))
    with pytest.raises(KeyUnwrapError):
        _unsealed(LOOSE, message.replace(here, there), "b")
    with pytest.raises(HeaderAuthError):
        _unsealed(LOOSE, message.replace(here, there), "a")


def test_a_record_is_of_the_outer_one_of_two_messages() -> None:
    inner = seal(LOOSE, b"body")
    outer = seal(LOOSE, inner, applied=["aws-esdk"])
    context = reading("k", ["aws-esdk", "aws-esdk"], trovewrap=record_of(outer, key=None).encode())
    context.hints = {"h": str(parse_header(outer).length)}
    stream = OneChunk(outer)
    for _ in range(2):
        stream = OneChunk(b"".join(drain(now(LOOSE.read(stream, context)))))
    assert drain(stream) == [b"body"]


async def test_relocating_reads_the_header_and_nothing_else() -> None:
    message = seal(BOUND, BODY, key="a")
    source, target = reading("a"), reading("b")
    source.hints = {"h": str(parse_header(message).length)}
    below = Stored(message)
    found = await BOUND.relocated(below, source, target)
    assert found is not None
    assert below.reads == [(0, parse_header(message).length)]
    assert _unsealed(BOUND, message, "b", **found) == BODY
    loose = seal(LOOSE, BODY)
    assert await LOOSE.relocated(Stored(loose), reading("a"), reading("b")) is None
    unbound = record_of(message, key=None, unbound=True).encode()
    assert await BOUND.relocated(Stored(message), reading("a", trovewrap=unbound), target) is None


async def test_what_cannot_be_read_is_not_bound_anew(store: Trove) -> None:
    """A copy is no way around the binding."""
    await store.put(None, "a", BODY)
    await stolen(store, "a", "b")
    with pytest.raises(LocationMismatchError):
        await store.copy("box", "b", "box", "c")
    assert not await store.exists(None, "c")
    message, metadata = await stored(store, "a")
    await store.driver.put("box", "d", OneChunk(message[:-1]), stored_as(metadata))
    with pytest.raises(LocationMismatchError):
        await store.move("box", "d", "box", "e")
