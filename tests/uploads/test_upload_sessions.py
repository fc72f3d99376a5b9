"""`Trove.uploads` and its sessions, without layers, on memory and local."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from tests.catalog.conftest import Clock
from tests.uploads.ledger import sample
from trove_async import (
    BucketNotFoundError,
    ConflictError,
    InvalidConfigError,
    PreconditionFailedError,
    StreamClosedError,
    StreamStateError,
    Trove,
    TruncatedError,
    UnsupportedError,
    UploadExpiredError,
    UploadNotFoundError,
)
from trove_async.drivers.memory import MemoryDriver

KiB = 1024
DATA = sample(300 * KiB)


async def test_parts_in_any_order_make_the_object_in_the_order_of_their_numbers(
    store: Trove,
) -> None:
    session = await store.uploads.create("bucket", "k", metadata={"n": "v"}, content_type="a/b")
    await session.put_part(3, DATA[200 * KiB :])
    await session.put_part(1, b"not this")
    await asyncio.gather(
        session.put_part(1, DATA[: 100 * KiB]), session.put_part(2, DATA[100 * KiB : 200 * KiB])
    )
    assert [part.number for part in session.parts] == [1, 2, 3]
    assert [part.size for part in session.parts] == [100 * KiB] * 3
    assert not await store.exists("bucket", "k")
    info = await session.complete()
    assert (info.size, info.metadata, info.content_type) == (len(DATA), {"n": "v"}, "a/b")
    assert await session.complete() == info
    assert await store.get_bytes("bucket", "k") == DATA
    assert (await store.head("bucket", "k")).metadata == {"n": "v"}
    assert not [one async for one in store.uploads.list()]


async def test_parts_one_after_another_are_hashed_on_the_way(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k")
    for number in (1, 2, 3):
        await session.put_part(number, DATA[(number - 1) * 100 * KiB : number * 100 * KiB])
    info = await session.complete()
    assert info.checksum is not None
    assert (await store.put("bucket", "l", DATA)).checksum == info.checksum
    assert (await store.head("bucket", "k")).checksum == info.checksum


async def test_writes_are_cut_into_parts_and_hashed(store: Trove) -> None:
    async with await store.uploads.create("bucket", "k", part_size=64 * KiB) as session:
        for start in range(0, len(DATA), 10_000):
            await session.write(DATA[start : start + 10_000])
        info = await session.complete()
    assert info.checksum == (await store.put("bucket", "l", DATA)).checksum
    assert await store.get_bytes("bucket", "k") == DATA


@pytest.mark.parametrize("body", [b"", b"x", DATA[: 64 * KiB], DATA[: 128 * KiB]])
async def test_every_size_is_written(store: Trove, body: bytes) -> None:
    session = await store.uploads.create("bucket", "k", part_size=64 * KiB, size=len(body))
    await session.write(body)
    assert (await session.complete()).size == len(body)
    assert await store.get_bytes("bucket", "k") == body


async def test_a_session_goes_on_from_its_offset(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k", part_size=64 * KiB)
    await session.write(DATA[: 200 * KiB])
    await _until(lambda: session.offset >= 128 * KiB)
    await session.aclose()
    with pytest.raises(StreamClosedError):
        await session.write(b"x")
    again = await store.uploads.resume(session.id)
    assert again.offset == 192 * KiB or again.offset == 128 * KiB
    before = again.parts
    await again.write(DATA[again.offset :])
    info = await again.complete()
    assert info.size == len(DATA) and before
    assert await store.get_bytes("bucket", "k") == DATA
    assert (await store.head("bucket", "k")).size == len(DATA)


async def test_parts_by_number_go_on_after_a_resume(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k")
    await session.put_part(1, DATA[:1000])
    again = await store.uploads.resume(session.id)  # the idle one is let go
    with pytest.raises(StreamClosedError):
        await session.put_part(2, b"x")
    assert [part.number for part in again.parts] == [1]
    await again.put_part(2, DATA[1000:])
    assert (await again.complete()).size == len(DATA)
    assert await store.get_bytes("bucket", "k") == DATA


async def test_an_abort_leaves_nothing(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k")
    await session.put_part(1, DATA)
    await session.abort()
    with pytest.raises(UploadNotFoundError):
        await store.uploads.get(session.id)
    with pytest.raises(UploadNotFoundError):
        await store.uploads.resume(session.id)
    with pytest.raises(UploadNotFoundError):
        await store.uploads.abort(session.id)
    multipart = store.driver
    assert not await multipart.list_uploads("bucket", "")  # type: ignore[attr-defined]


async def test_sessions_are_listed_and_looked_at(store: Trove) -> None:
    await store.create_bucket("other")
    made = [await store.uploads.create("bucket", f"k{n}") for n in range(3)]
    await store.uploads.create("other", "k")
    await made[1].put_part(1, DATA)
    found = [session async for session in store.uploads.list("bucket")]
    assert [(s.id, s.key, len(s.parts)) for s in found] == [
        (made[0].id, "k0", 0),
        (made[1].id, "k1", 1),
        (made[2].id, "k2", 0),
    ]
    assert len([s async for s in store.uploads.list()]) == 4
    assert (await store.uploads.get(made[1].id)).parts == made[1].parts
    await store.uploads.abort(made[0].id)
    assert len([s async for s in store.uploads.list("bucket")]) == 2


async def test_a_mix_of_both_ways_is_refused(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k")
    await session.put_part(1, b"x")
    with pytest.raises(StreamStateError):
        await session.write(b"y")
    other = await store.uploads.create("bucket", "k")
    await other.write(b"x")
    with pytest.raises(StreamStateError):
        await other.put_part(1, b"x")


async def test_conditions_and_sizes_hold_at_the_end(store: Trove) -> None:
    await store.put("bucket", "k", b"old")
    session = await store.uploads.create("bucket", "k", if_none_match="*")
    await session.write(DATA)
    with pytest.raises(PreconditionFailedError):
        await session.complete()
    await session.abort()
    session = await store.uploads.create("bucket", "k", size=7)
    await session.write(b"short")
    with pytest.raises(TruncatedError):
        await session.complete()
    await session.abort()
    session = await store.uploads.create("bucket", "k", checksum="sha256:" + "0" * 64)
    await session.write(b"other")
    with pytest.raises(trove.ChecksumMismatchError):
        await session.complete()
    await session.abort()
    assert await store.get_bytes("bucket", "k") == b"old"


async def test_what_cannot_be_is_refused_when_the_session_is_made(store: Trove) -> None:
    uploads = store.uploads
    with pytest.raises(BucketNotFoundError):
        await uploads.create("missing", "k")
    assert not [s async for s in uploads.list()]
    with pytest.raises(trove.InvalidKeyError):
        await uploads.create("bucket", "")
    for wrong in ({"expires": 0}, {"size": -1}, {"part_size": 0}, {"if_none_match": "x"}):
        with pytest.raises(ValueError, match=r"."):
            await uploads.create("bucket", "k", **wrong)
    for id in ("", "upl_x", "x" * 99):
        with pytest.raises(UploadNotFoundError):
            await uploads.resume(id)


async def test_a_session_ends_in_time(timed: Trove, clock: Clock) -> None:
    session = await timed.uploads.create("bucket", "k", expires=timedelta(hours=1))
    kept = await timed.uploads.create("bucket", "l", expires=7200.0, fingerprint="f")
    await session.put_part(1, DATA)
    assert session.expires_at == clock() + timedelta(hours=1)
    assert await timed.uploads.sweep() == 0
    clock.pass_(3600)
    for late in (session.put_part(2, DATA), session.complete(), timed.uploads.resume(session.id)):
        with pytest.raises(UploadExpiredError):
            await late
    assert await timed.uploads.sweep() == 1
    assert [one.id async for one in timed.uploads.list()] == [kept.id]
    uploads = await timed.driver.list_uploads("bucket", "")  # type: ignore[attr-defined]
    assert [upload.key for upload in uploads] == ["l"]
    found = await timed.uploads.find("bucket", "l", "f")
    assert found is not None and found.id == kept.id
    clock.pass_(3600)
    assert await timed.uploads.find("bucket", "l", "f") is None


async def test_of_two_stores_that_resume_at_once_one_wins(tmp_path: Path) -> None:
    url = f"file://{tmp_path}?durability=none"
    async with trove.open(url) as first, trove.open(url) as second:
        await first.create_bucket("bucket")
        session = await first.uploads.create("bucket", "k", part_size=64 * KiB)
        await session.write(DATA)
        await session.aclose()
        results = await asyncio.gather(
            first.uploads.resume(session.id),
            second.uploads.resume(session.id),
            return_exceptions=True,
        )
        assert sorted(type(r).__name__ for r in results) == ["ConflictError", "UploadSession"]
        (loser,) = [
            s for s, r in zip((first, second), results, strict=True) if isinstance(r, ConflictError)
        ]
        with pytest.raises(ConflictError):
            await loser.uploads.abort(session.id)
        (won,) = [r for r in results if not isinstance(r, BaseException)]
        await won.write(DATA[won.offset :])
        await won.complete()
        assert await loser.get_bytes("bucket", "k") == DATA


async def test_a_store_that_closes_lets_its_sessions_go(tmp_path: Path) -> None:
    driver = MemoryDriver()
    async with trove.open(driver) as store:
        await store.create_bucket("bucket")
        session = await store.uploads.create("bucket", "k", part_size=64 * KiB)
        await session.write(DATA)
    assert len(asyncio.all_tasks()) == 1
    async with trove.open(driver) as store:
        again = await store.uploads.resume(session.id)
        await again.write(DATA[again.offset :])
        await again.complete()
        assert await store.get_bytes("bucket", "k") == DATA


class Without:
    """A driver that lacks some names."""

    def __init__(self, *names: str) -> None:
        self._names = names
        self._driver = MemoryDriver()

    def __getattr__(self, name: str) -> object:
        if name in self._names:
            raise AttributeError(name)
        return getattr(self._driver, name)


async def test_a_driver_without_a_place_needs_a_catalog(tmp_path: Path) -> None:
    driver: Any = Without("beside")
    async with trove.open(driver) as store:
        await store.create_bucket("bucket")
        with pytest.raises(InvalidConfigError, match="catalog="):
            await store.uploads.create("bucket", "k")
    async with trove.open(driver, catalog=f"sqlite:///{tmp_path}/c.sqlite") as store:
        session = await store.uploads.create("bucket", "k")
        await session.write(DATA)
        assert (await session.complete()).size == len(DATA)
    with pytest.raises(InvalidConfigError, match="catalog"):
        trove.Trove(MemoryDriver(), catalog="nonsense")


async def test_a_driver_without_parts_is_refused(tmp_path: Path) -> None:
    driver: Any = Without("initiate_multipart")
    source = tmp_path / "source"
    source.write_bytes(DATA)
    async with trove.open(driver) as store:
        await store.create_bucket("bucket")
        with pytest.raises(UnsupportedError):
            await store.uploads.create("bucket", "k")
        with pytest.raises(UnsupportedError):
            await store.upload("bucket", "k", source, resumable=True)
        assert (await store.upload("bucket", "k", source)).size == len(DATA)


async def test_a_cancelled_write_and_completion_can_be_gone_on_with(store: Trove) -> None:
    session = await store.uploads.create("bucket", "k", part_size=16 * KiB)
    task = asyncio.create_task(session.write(DATA))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    id = session.id
    for turn in range(40):
        session = await store.uploads.resume(id)
        await session.write(DATA[session.offset :])
        completing = asyncio.create_task(session.complete())
        for _ in range(turn * 2):
            await asyncio.sleep(0)
        completing.cancel()
        await asyncio.wait([completing])
        if not completing.cancelled():
            break
        await session.aclose()
    else:
        session = await store.uploads.resume(id)
        await session.write(DATA[session.offset :])
        await session.complete()
    assert await store.get_bytes("bucket", "k") == DATA
    assert len(asyncio.all_tasks()) == 1


async def _until(ready: Callable[[], bool]) -> None:
    while not ready():  # noqa: ASYNC110 -- nothing tells of it
        await asyncio.sleep(0.001)
