"""Which keys objects depend on, and the proof that one may go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.middleware.encrypt.leaks import assert_silent, everything_of
from tests.middleware.encrypt.vault import BODIES, A, B, filled, put_raw, raw, ring, some, vault
from trove_async import Trove
from trove_async.errors import (
    EnvelopeError,
    InvalidConfigError,
    KeyNotFoundError,
    LocationMismatchError,
    ObjectNotFoundError,
    TruncatedError,
    UnsupportedError,
)
from trove_async.middleware.encrypt import (
    Encrypt,
    Keyring,
    KeyUsage,
    RetirementReport,
    key_usage,
    rewrap,
    rewrap_bucket,
    verify_retired,
)
from trove_async.middleware.encrypt.envelope import METADATA_NAME, RewrapRecord


@pytest.fixture
def keyring() -> Keyring:
    return ring()


@pytest.fixture(params=["memory", "local"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, keyring: Keyring
) -> AsyncIterator[Trove]:
    async with vault(request.param, tmp_path, some(Encrypt(keyring))) as opened:
        await filled(opened)
        yield opened


async def test_the_one_object_left_behind_is_found(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    await rewrap_bucket(store, None, prefix="data/0")
    report = await verify_retired(store, None, "a")
    assert not report.is_safe
    assert [key for key, _ in report.dependent] == ["data/200000"]
    assert isinstance(report.dependent[0][1], KeyNotFoundError)
    assert (report.examined, report.plain, report.independent) == (8, 2, 5)
    await rewrap(store, None, "data/200000")
    report = await verify_retired(store, None, "a")
    assert report.is_safe and report.independent == 6
    keyring.destroy("a")
    for key, body in BODIES.items():
        assert await store.get_bytes(None, key) == body


async def test_the_proof_is_that_of_a_store_without_the_key(store: Trove, keyring: Keyring) -> None:
    """What is called dependent cannot be read once the key is destroyed, all else can."""
    keyring.rotate("b")
    for key in list(BODIES)[::2]:
        await rewrap(store, None, key)
    report = await verify_retired(store, None, "a")
    keyring.destroy("a")
    lost = {key for key, _ in report.dependent}
    assert lost == set(list(BODIES)[1::2])
    for key, body in BODIES.items():
        if key in lost:
            with pytest.raises(KeyNotFoundError, match="'a' was destroyed"):
                await store.get_bytes(None, key)
        else:
            assert await store.get_bytes(None, key) == body


async def test_the_active_key_is_what_everything_depends_on(store: Trove) -> None:
    report = await verify_retired(store, None, "a")
    assert [key for key, _ in report.dependent] == [*BODIES]
    assert (await verify_retired(store, None, "never was")).is_safe
    assert (await verify_retired(store, None, "a", prefix="plain/")).is_safe


async def test_usage_is_counted_by_record_and_by_body(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    await store.put(None, "data/new", b"under b")
    await rewrap_bucket(store, None, prefix="data/0655")
    usage = await key_usage(store, None)
    assert dict(usage.needed) == {"a": 3, "b": 4}
    assert dict(usage.in_record) == {"b": 3}
    assert dict(usage.in_body) == {"a": 6, "b": 1}
    assert (usage.examined, usage.plain, usage.failed) == (9, 2, [])
    assert dict((await key_usage(store, None, prefix="data/0655")).needed) == {"b": 3}


async def test_usage_needs_no_key_and_no_layer(store: Trove) -> None:
    store.remove("encrypt")
    assert dict((await key_usage(store, None)).needed) == {"a": 6}
    with pytest.raises(InvalidConfigError, match="no Encrypt layer"):
        await verify_retired(store, None, "a")


async def test_an_object_with_a_recipient_does_not_depend_on_one_key(
    tmp_path: Path, keyring: Keyring
) -> None:
    recovery = Keyring({"recovery": B}, active="recovery")
    async with vault("memory", tmp_path, Encrypt(keyring, recipients=[recovery])) as store:
        await store.put(None, "x", b"body")
        assert dict((await key_usage(store, None)).needed) == {"a": 1, "recovery": 1}
        assert (await verify_retired(store, None, "a")).is_safe
        keyring.rotate("b")
        keyring.destroy("a")
        assert await store.get_bytes(None, "x") == b"body"
        assert (await rewrap(store, None, "x")).rewrapped == 1
        assert (await verify_retired(store, None, "recovery")).is_safe
        assert (await verify_retired(store, None, "b")).is_safe
    async with vault("memory", tmp_path, Encrypt(keyring)) as other:
        moved = await _with_recipient(other, recovery)
        report = await verify_retired(other, None, "b")
        assert [key for key, _ in report.dependent] == [moved], "its recipient is not known here"


async def _with_recipient(store: Trove, recovery: Keyring) -> str:
    layer = store.registrations()[0].middleware
    assert isinstance(layer, Encrypt)
    store.remove("encrypt")
    store.use(Encrypt(layer.providers[0], recipients=[recovery]))
    await store.put(None, "y", b"body")
    store.remove("encrypt")
    store.use(layer)
    return "y"


async def test_what_cannot_be_told_is_not_called_safe(store: Trove, keyring: Keyring) -> None:
    good = await raw(store, "data/000001")
    wrong = {
        "cut": (good.body[:60], good.metadata, TruncatedError),
        "record": (good.body, {**good.metadata, METADATA_NAME: "x"}, EnvelopeError),
    }
    for key, (body, metadata, _) in wrong.items():
        await put_raw(store, f"bad/{key}", body, metadata)
    keyring.rotate("b")
    await rewrap_bucket(store, None)
    report = await verify_retired(store, None, "a")
    usage = await key_usage(store, None)
    for found in (report.dependent, usage.failed):
        assert [key for key, _ in found] == ["bad/cut", "bad/record"]
        for key, error in found:
            assert isinstance(error, wrong[key.removeprefix("bad/")][2])
            assert_silent(everything_of(error) + repr(report) + repr(usage), A, B)


async def test_a_record_that_opens_nothing_is_no_way_out(store: Trove, keyring: Keyring) -> None:
    """A copied record looks like a rotation, and is none."""
    keyring.rotate("b")
    await rewrap_bucket(store, None)
    one, two = await raw(store, "data/000001"), await raw(store, "data/065537")
    record = RewrapRecord.decode(two.metadata[METADATA_NAME])
    mine = RewrapRecord.decode(one.metadata[METADATA_NAME])
    forged = RewrapRecord(0, mine.message_id, None, record.edk).encode()
    await put_raw(store, "data/000001", one.body, {**one.metadata, METADATA_NAME: forged})
    assert dict((await key_usage(store, None)).needed) == {"b": 6}, "by the look of it"
    report = await verify_retired(store, None, "a")
    assert [key for key, _ in report.dependent] == ["data/000001"]


async def test_a_misplaced_object_is_not_called_safe(tmp_path: Path, keyring: Keyring) -> None:
    async with vault("memory", tmp_path, Encrypt(keyring, bind="key")) as store:
        await store.put(None, "x", b"body")
        keyring.rotate("b")
        await rewrap(store, None, "x")
        moved = await raw(store, "x")
        await put_raw(store, "y", moved.body, moved.metadata)
        report = await verify_retired(store, None, "a")
        assert [(key, type(error)) for key, error in report.dependent] == [
            ("y", LocationMismatchError)
        ]


async def test_an_object_encrypted_twice_cannot_be_told(tmp_path: Path, keyring: Keyring) -> None:
    inner = Keyring({"inner": B}, active="inner")
    async with vault("memory", tmp_path, Encrypt(inner), Encrypt(keyring)) as store:
        await store.put(None, "x", b"body")
        report = await verify_retired(store, None, "inner")
        assert isinstance(report.dependent[0][1], UnsupportedError)
        assert isinstance((await key_usage(store, None)).failed[0][1], UnsupportedError)


async def test_an_object_deleted_meanwhile_counts_for_nothing(
    store: Trove, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = store.get

    def get(bucket: str, key: str, **options: object) -> object:
        if key == "data/000001":
            raise ObjectNotFoundError("deleted a moment ago")
        return real(bucket, key, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "get", get)
    assert (await key_usage(store, None)).examined == 7
    assert (await verify_retired(store, None, "a")).examined == 7


@pytest.mark.parametrize("step", range(0, 30, 4))
async def test_a_cancelled_look_leaves_no_task(store: Trove, step: int) -> None:
    for work in (key_usage(store, None), verify_retired(store, None, "a")):
        run: asyncio.Task[KeyUsage | RetirementReport] = asyncio.ensure_future(work)
        for _ in range(step):
            await asyncio.sleep(0)
        run.cancel()
        await asyncio.wait([run])
        assert asyncio.all_tasks() == {asyncio.current_task()}
