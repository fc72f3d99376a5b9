"""Rotation: new envelopes, the same bodies; whatever breaks it, it goes on; nothing is lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.middleware.encrypt.vault import (
    BODIES,
    B,
    Watched,
    counts,
    everything,
    filled,
    raw,
    ring,
    some,
    vault,
)
from trove_async import Trove
from trove_async.errors import (
    InvalidConfigError,
    KeyNotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from trove_async.middleware.encrypt import (
    Encrypt,
    Keyring,
    RewrapReport,
    rewrap,
    rewrap_bucket,
)
from trove_async.middleware.encrypt.envelope import METADATA_NAME, RewrapRecord
from trove_async.middleware.encrypt.message import parse_header


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


@pytest.fixture
async def memory(tmp_path: Path, keyring: Keyring) -> AsyncIterator[Trove]:
    async with vault("memory", tmp_path, some(Encrypt(keyring))) as opened:
        await filled(opened)
        yield opened


async def all_readable(store: Trove) -> None:
    for key, body in BODIES.items():
        assert await store.get_bytes(None, key) == body
        if body:
            assert await store.get_bytes(None, key, range=slice(-1, None)) == body[-1:]
        info = await store.head(None, key)
        assert (info.size, info.content_type) == (len(body), "text/x-test")
        assert info.metadata == {"owner": "me"}
    assert await store.get_bytes(None, "plain/x") == b"open"


# -- rotation -----------------------------------------------------------------------------


async def test_M6_rotation_from_end_to_end(store: Trove, keyring: Keyring) -> None:
    """Put under a, activate b, rewrap, destroy a: all is readable, no body has changed."""
    before = await everything(store)
    keyring.add("b", B)
    keyring.activate("b")
    report = await rewrap_bucket(store, None)
    assert counts(report) == (8, 6, 0, 2, 0)
    assert report.last_key == "plain/x"
    keyring.retire("a")
    keyring.destroy("a")
    await all_readable(store)
    after = await everything(store)
    for key, was in before.items():
        now = after[key]
        assert now.body == was.body, "header included: it is never written anew"
        assert now.content_type == was.content_type
        record = now.metadata.pop(METADATA_NAME, None)
        assert now.metadata == was.metadata
        assert (record is None) == key.startswith("plain/")
        assert (now.etag == was.etag) == key.startswith("plain/")
        if record is not None:
            assert RewrapRecord.decode(record).key_id == "b"
            assert parse_header(now.body).keys == parse_header(was.body).keys


async def test_an_object_is_rewrapped_once(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    assert (await rewrap(store, None, "data/000001")).rewrapped == 1
    once = await raw(store, "data/000001")
    assert (await rewrap(store, None, "data/000001")).rewrapped == 0
    assert await raw(store, "data/000001") == once
    assert counts(await rewrap_bucket(store, "box")) == (8, 5, 1, 2, 0)
    assert counts(await rewrap_bucket(store, "box")) == (8, 0, 6, 2, 0)


async def test_rewrapped_objects_are_rotated_again_and_back(store: Trove, keyring: Keyring) -> None:
    for name in ("b", "c", "d"):
        keyring.rotate(name)
        assert counts(await rewrap_bucket(store, None)) == (8, 6, 0, 2, 0)
    assert counts(await rewrap_bucket(store, None, to="a")) == (8, 6, 0, 2, 0)
    record = RewrapRecord.decode((await raw(store, "data/000001")).metadata[METADATA_NAME])
    assert record.key_id == "a"
    for name in ("b", "c"):
        keyring.destroy(name)
    await all_readable(store)


async def test_a_key_of_ones_choice_wraps_unless_it_is_retired(
    store: Trove, keyring: Keyring
) -> None:
    keyring.add("b", B)
    assert (await rewrap(store, None, "data/000001", to="b")).rewrapped == 1
    assert keyring.active == "a"
    with pytest.raises(KeyNotFoundError, match="'x'"):
        await rewrap(store, None, "data/000001", to="x")
    keyring.retire("b")
    with pytest.raises(InvalidConfigError, match="'b' is retired"):
        await rewrap(store, None, "data/000000", to="b")
    with pytest.raises(InvalidConfigError, match="'b' is retired"):
        await rewrap_bucket(store, None, to="b")
    await all_readable(store)


async def test_a_prefix_is_rewrapped_alone(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    assert counts(await rewrap_bucket(store, None, prefix="data/0655")) == (3, 3, 0, 0, 0)
    assert METADATA_NAME not in (await raw(store, "data/000001")).metadata


async def test_plain_objects_are_left_alone(store: Trove) -> None:
    before = await raw(store, "plain/x")
    for key in ("plain/x", "plain/empty"):
        assert (await rewrap(store, None, key)).rewrapped == 0
    assert await raw(store, "plain/x") == before


async def test_one_small_request_looks_and_one_copy_writes(memory: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    watched = Watched(memory)
    await rewrap(watched, "box", "data/200000")
    assert watched.calls == ["get 0:4096", "copy"]
    await rewrap(watched, "box", "data/200000")
    assert watched.calls[2:] == ["get 0:4096"]


# -- broken runs --------------------------------------------------------------------------


async def test_a_broken_run_is_run_again(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    seen: list[str | None] = []

    async def stop(report: RewrapReport) -> None:
        seen.append(report.last_key)
        await asyncio.sleep(0)
        if len(seen) == 3:
            raise OSError("the machine goes down")

    with pytest.raises(OSError, match="goes down"):
        await rewrap_bucket(store, None, on_progress=stop, concurrency=2)
    assert seen == [*BODIES][:3]
    report = await rewrap_bucket(store, None)
    assert report.rewrapped + report.skipped == 6
    assert report.skipped >= 3
    keyring.destroy("a")
    await all_readable(store)


async def test_a_run_goes_on_after_the_last_key(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    live: list[RewrapReport] = []

    def stop(report: RewrapReport) -> None:
        live.append(report)
        if report.examined == 4:
            raise OSError("the machine goes down")

    with pytest.raises(OSError):
        await rewrap_bucket(store, None, on_progress=stop)
    report = await rewrap_bucket(store, None, start_after=live[-1].last_key)
    assert report.examined == 4
    keyring.destroy("a")
    await all_readable(store)


async def test_progress_is_told_after_every_object_in_their_order(
    store: Trove, keyring: Keyring
) -> None:
    keyring.rotate("b")
    told: list[tuple[str | None, int]] = []
    report = await rewrap_bucket(
        store, None, on_progress=lambda r: told.append((r.last_key, r.examined)), concurrency=3
    )
    assert told == list(zip([*BODIES, "plain/empty", "plain/x"], range(1, 9), strict=True))
    assert report.examined == 8
    with pytest.raises(ValueError, match="concurrency"):
        await rewrap_bucket(store, None, concurrency=0)


@pytest.mark.parametrize("step", range(0, 40, 3))
async def test_a_cancelled_run_leaves_no_task_and_no_half_object(
    memory: Trove, keyring: Keyring, step: int
) -> None:
    keyring.rotate("b")
    run = asyncio.create_task(rewrap_bucket(memory, None, concurrency=4))
    for _ in range(step):
        await asyncio.sleep(0)
    run.cancel()
    with suppress(asyncio.CancelledError):
        await run
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await all_readable(memory)
    await rewrap_bucket(memory, None)
    keyring.destroy("a")
    await all_readable(memory)


@pytest.mark.parametrize("concurrency", [1, 3, 8])
async def test_as_many_as_are_allowed_run_at_once(
    memory: Trove, keyring: Keyring, concurrency: int
) -> None:
    keyring.rotate("b")
    watched = Watched(memory)
    watched.open.clear()
    run = asyncio.create_task(rewrap_bucket(watched, None, concurrency=concurrency))
    for _ in range(200):
        await asyncio.sleep(0)
    assert watched.running == min(concurrency, 6), "of those that are encrypted"
    watched.open.set()
    assert counts(await run) == (8, 6, 0, 2, 0)


async def test_a_run_that_is_cancelled_ends_what_it_began(memory: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    watched = Watched(memory)
    watched.open.clear()
    run = asyncio.create_task(rewrap_bucket(watched, None, concurrency=4))
    for _ in range(200):
        await asyncio.sleep(0)
    assert watched.running == 4
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert watched.running == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_run_that_fails_ends_what_it_began(memory: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    watched = Watched(memory)
    watched.open.clear()
    watched.meddling.append(_fail())
    with pytest.raises(OSError, match="lost the disk"):
        await rewrap_bucket(watched, None, concurrency=4)
    assert watched.running == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def _fail() -> None:
    raise OSError("lost the disk")


# -- others at work -----------------------------------------------------------------------


async def test_an_object_replaced_meanwhile_is_kept(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    watched = Watched(store)
    watched.meddling.append(store.put(None, "data/000001", b"newer"))
    with pytest.raises(ObjectChangedError) as caught:
        await rewrap(watched, "box", "data/000001")
    assert caught.value.retryable
    assert await store.get_bytes(None, "data/000001") == b"newer"
    assert METADATA_NAME not in (await raw(store, "data/000001")).metadata


async def test_a_run_looks_again_at_what_was_replaced(store: Trove, keyring: Keyring) -> None:
    keyring.add("b", B)
    watched = Watched(store)
    for number in range(3):  # under the old key each time
        watched.meddling.append(store.put(None, "data/000000", b"newer %d" % number))
    report = await rewrap_bucket(watched, None, prefix="data/000000", to="b")
    assert counts(report) == (1, 1, 0, 0, 0)
    assert await store.get_bytes(None, "data/000000") == b"newer 2"
    assert watched.calls.count("copy") == 4


async def test_a_run_gives_up_on_an_object_that_never_rests(store: Trove, keyring: Keyring) -> None:
    keyring.add("b", B)
    watched = Watched(store)
    for number in range(8):
        watched.meddling.append(store.put(None, "data/000000", b"newer %d" % number))
    report = await rewrap_bucket(watched, None, to="b", concurrency=1)
    assert counts(report) == (8, 5, 0, 2, 1)
    key, error = report.failed[0]
    assert key == "data/000000" and isinstance(error, ObjectChangedError)
    assert await store.get_bytes(None, "data/000000") == b"newer 7"


async def test_an_object_deleted_meanwhile_stays_deleted(store: Trove, keyring: Keyring) -> None:
    keyring.rotate("b")
    watched = Watched(store)
    watched.meddling.append(store.delete(None, "data/000000"))
    report = await rewrap_bucket(watched, None, prefix="data/000000")
    assert counts(report) == (1, 0, 1, 0, 0)
    assert not await store.exists(None, "data/000000")
    with pytest.raises(ObjectNotFoundError):
        await rewrap(store, None, "data/000000")


async def test_writers_beside_a_run_lose_nothing(store: Trove, keyring: Keyring) -> None:
    """Eight keys overwritten all the time while everything is rotated again and again."""
    dice = random.Random(5)
    written: dict[str, bytes] = {}
    running = True

    async def write(key: str) -> None:
        number = 0
        while running:
            body = f"{key} {number} ".encode() * dice.randint(1, 200)
            await store.put(None, key, body)
            written[key] = body
            number += 1
            for _ in range(dice.randint(0, 40)):
                await asyncio.sleep(0)

    busy = [f"busy/{number}" for number in range(8)]
    for key in busy:
        written[key] = b"the first"
        await store.put(None, key, b"the first")
    watched = Watched(store)
    writers = [asyncio.create_task(write(key)) for key in busy]
    try:
        rewrapped = turn = 0
        while rewrapped < 10 or watched.races < 3:
            turn += 1
            assert turn < 500, (rewrapped, watched.races)
            keyring.rotate(f"turn-{turn}")
            watched.pause = dice.randint(0, 10)  # memory answers at once: no time for a race
            rewrapped += (await rewrap_bucket(watched, None, prefix="busy/")).rewrapped
    finally:
        running = False
        await asyncio.gather(*writers)
    for key, body in written.items():
        assert await store.get_bytes(None, key) == body, "the last write is what is there"
    report = await rewrap_bucket(store, None)
    assert not report.failed
    for key_id in [*keyring][:-1]:
        keyring.destroy(key_id)
    for key, body in written.items():
        assert await store.get_bytes(None, key) == body
