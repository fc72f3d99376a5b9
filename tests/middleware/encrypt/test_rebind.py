"""Binding, unbinding and moving objects that know their place; the body stays as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest

from tests.middleware.encrypt.leaks import assert_silent, everything_of
from tests.middleware.encrypt.sealing import plain
from tests.middleware.encrypt.vault import A, B, Watched, put_raw, raw, ring, vault
from trove_async import Trove
from trove_async.errors import (
    EnvelopeError,
    InvalidConfigError,
    KeyUnwrapError,
    LocationMismatchError,
    ObjectChangedError,
    TroveError,
)
from trove_async.middleware.encrypt import Encrypt, Keyring, rebind, rewrap, rewrap_bucket
from trove_async.middleware.encrypt.envelope import METADATA_NAME, RewrapRecord, location_of

BODY = plain(70_000)


@pytest.fixture
def keyring() -> Keyring:
    return ring()


@pytest.fixture(params=["memory", "local"])
async def bound(
    request: pytest.FixtureRequest, tmp_path: Path, keyring: Keyring
) -> AsyncIterator[Trove]:
    """Objects are bound to their keys."""
    async with vault(request.param, tmp_path, Encrypt(keyring, bind="key")) as opened:
        await opened.put(None, "a", BODY)
        yield opened


@pytest.fixture
async def free(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Trove]:
    """Objects are bound to nothing."""
    async with vault("memory", tmp_path, Encrypt(keyring)) as opened:
        await opened.put(None, "a", BODY)
        yield opened


async def record_of(store: Trove, key: str) -> RewrapRecord:
    return RewrapRecord.decode((await raw(store, key)).metadata[METADATA_NAME])


async def moved(store: Trove, source: str, target: str) -> None:
    """By a tool that knows nothing of keys."""
    was = await raw(store, source)
    await put_raw(store, target, was.body, was.metadata)


async def test_a_rewrapped_object_is_bound_to_its_key_as_before(
    bound: Trove, keyring: Keyring
) -> None:
    keyring.rotate("b")
    assert (await rewrap(bound, None, "a")).rewrapped == 1
    assert (await record_of(bound, "a")).loc == location_of("a")
    keyring.destroy("a")
    assert await bound.get_bytes(None, "a") == BODY
    await moved(bound, "a", "b")
    with pytest.raises(LocationMismatchError):
        await bound.get_bytes(None, "b")


async def test_a_moved_object_is_not_made_good_by_a_rotation(
    bound: Trove, keyring: Keyring
) -> None:
    await moved(bound, "a", "b")
    before = await raw(bound, "b")
    keyring.rotate("b")
    with pytest.raises(LocationMismatchError):
        await rewrap(bound, None, "b")
    report = await rewrap_bucket(bound, None)
    assert (report.rewrapped, [key for key, _ in report.failed]) == (1, ["b"])
    assert await raw(bound, "b") == before


async def test_an_owner_rebinds_what_was_moved(bound: Trove, keyring: Keyring) -> None:
    before = await raw(bound, "a")
    await moved(bound, "a", "new/place")
    with pytest.raises(LocationMismatchError):
        await rebind(bound, None, "new/place")
    with pytest.raises(LocationMismatchError):
        await rebind(bound, None, "new/place", expected_key="somewhere else")
    assert await rebind(bound, None, "new/place", expected_key="a") is True
    assert await bound.get_bytes(None, "new/place") == BODY
    assert await bound.get_bytes(None, "new/place", range=slice(-1, None)) == BODY[-1:]
    assert (await raw(bound, "new/place")).body == before.body
    assert await rebind(bound, None, "new/place") is False, "it is where it belongs"
    await moved(bound, "new/place", "a")
    with pytest.raises(LocationMismatchError):
        await bound.get_bytes(None, "a")


async def test_an_owner_unbinds_and_binds_again(bound: Trove, keyring: Keyring) -> None:
    assert await rebind(bound, None, "a", bind="none") is True
    record = await record_of(bound, "a")
    assert (record.flags, record.loc) == (2, None)
    assert await rebind(bound, None, "a", bind="none") is False
    await moved(bound, "a", "b")
    assert await bound.get_bytes(None, "b") == BODY
    assert await rebind(bound, None, "b") is True
    assert (await record_of(bound, "b")).loc == location_of("b")
    await moved(bound, "b", "c")
    with pytest.raises(LocationMismatchError):
        await bound.get_bytes(None, "c")


async def test_an_unbound_object_stays_so_when_its_key_is_rotated(
    bound: Trove, keyring: Keyring
) -> None:
    await rebind(bound, None, "a", bind="none")
    keyring.rotate("b")
    assert (await rewrap(bound, None, "a")).rewrapped == 1
    keyring.destroy("a")
    assert (await record_of(bound, "a")).is_unbound
    await moved(bound, "a", "b")
    assert await bound.get_bytes(None, "b") == BODY


async def test_an_object_that_was_never_bound_is_bound_by_its_owner(
    free: Trove, keyring: Keyring
) -> None:
    assert await rebind(free, None, "a", bind="none") is False
    assert await rebind(free, None, "a") is True
    await moved(free, "a", "b")
    assert await free.get_bytes(None, "a") == BODY
    with pytest.raises(LocationMismatchError):
        await free.get_bytes(None, "b")
    assert await rebind(free, None, "a", bind="none") is True
    assert (await record_of(free, "a")).flags == 0, "its header never named a place"
    await moved(free, "a", "b")
    assert await free.get_bytes(None, "b") == BODY


async def test_a_rebound_object_is_under_the_active_key(bound: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    await rebind(bound, None, "a", bind="none")
    keyring.destroy("a")
    assert await bound.get_bytes(None, "a") == BODY


async def test_a_plain_object_cannot_be_bound(free: Trove) -> None:
    await put_raw(free, "open", b"plain", {"trovefmt": "1"})
    assert await rebind(free, None, "open") is False
    with pytest.raises(InvalidConfigError, match="bind is"):
        await rebind(free, None, "a", bind="loose")  # type: ignore[arg-type]


async def test_an_object_replaced_meanwhile_is_not_bound(bound: Trove) -> None:
    watched = Watched(bound)
    watched.meddling.append(bound.put(None, "a", b"newer"))
    with pytest.raises(ObjectChangedError):
        await rebind(watched, "box", "a", bind="none")
    assert await bound.get_bytes(None, "a") == b"newer"


@pytest.mark.parametrize("flags", [0, 1, 2])
async def test_a_binding_is_not_taken_away_by_who_has_no_key(
    bound: Trove, keyring: Keyring, flags: Literal[0, 1, 2]
) -> None:
    """The record's flags and place are authenticated, so another one opens nothing."""
    keyring.rotate("b")
    await rewrap(bound, None, "a")
    stored = await raw(bound, "a")
    record = await record_of(bound, "a")
    loc = location_of("b") if flags == 1 else None
    forged = RewrapRecord(flags, record.message_id, loc, record.edk).encode()
    await put_raw(bound, "b", stored.body, {**stored.metadata, METADATA_NAME: forged})
    attempts = (
        bound.get_bytes(None, "b"),
        rewrap(bound, None, "b"),
        rebind(bound, None, "b"),
        rebind(bound, None, "b", bind="none"),
    )
    for attempt in attempts:
        with pytest.raises((EnvelopeError, KeyUnwrapError, LocationMismatchError)) as caught:
            await attempt
        assert_silent(everything_of(caught.value), A, B)


async def test_without_its_record_an_object_is_bound_as_its_header_says(
    bound: Trove, keyring: Keyring
) -> None:
    await rebind(bound, None, "a", bind="none")
    stored = await raw(bound, "a")
    del stored.metadata[METADATA_NAME]
    await put_raw(bound, "a", stored.body, stored.metadata)
    await put_raw(bound, "b", stored.body, stored.metadata)
    assert await bound.get_bytes(None, "a") == BODY
    with pytest.raises(TroveError):
        await bound.get_bytes(None, "b")


async def test_a_store_mounted_elsewhere_binds_to_the_key_that_counts(
    tmp_path: Path, keyring: Keyring
) -> None:
    """`expected_key` of the layer: objects keep the names they have at the other root."""
    layer = Encrypt(keyring, bind="key", expected_key=lambda context: "root/" + context.key)
    async with vault("memory", tmp_path, layer) as store:
        await store.put(None, "a", BODY)
        keyring.rotate("b")
        assert (await rewrap(store, None, "a")).rewrapped == 1
        assert (await record_of(store, "a")).loc == location_of("root/a")
        assert await rebind(store, None, "a") is False
        await moved(store, "a", "b")
        assert await rebind(store, None, "b", expected_key="root/a") is True
        assert (await record_of(store, "b")).loc == location_of("root/b")
        assert await store.get_bytes(None, "b") == BODY
