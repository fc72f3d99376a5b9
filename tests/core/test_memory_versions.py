"""Past versions of memory: newest first, readable within a budget, gone with their bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import trove_async as trove
from trove_async import (
    BucketNotFoundError,
    ObjectNotFoundError,
    PreconditionFailedError,
    Trove,
    UnsupportedError,
    VersionInfo,
    VersionNotFoundError,
)
from trove_async.drivers.memory import MemoryDriver


@pytest.fixture
def memory() -> MemoryDriver:
    return MemoryDriver()


@pytest.fixture
async def store(memory: MemoryDriver) -> AsyncIterator[Trove]:
    async with trove.open(memory) as opened:
        await opened.create_bucket("box")
        yield opened


async def bodies(store: Trove, key: str = "k") -> list[bytes | None]:
    """Newest first; None for a delete marker."""
    return [
        None if v.is_delete_marker else await store.get_bytes("box", key, version_id=v.version_id)
        for v in await store.versions("box", key)
    ]


async def test_versions_are_listed_newest_first(store: Trove) -> None:
    for text in (b"one", b"two", b"three"):
        await store.put("box", "k", text)
    await store.put("box", "k2", b"other")
    found = await store.versions("box", "k")
    assert [v.is_latest for v in found] == [True, False, False]
    assert [v.size for v in found] == [5, 3, 3]
    assert {v.key for v in found} == {"k"}
    assert len({v.version_id for v in found}) == 3
    assert [v.last_modified for v in found] == sorted(
        (v.last_modified for v in found), reverse=True
    )
    assert await bodies(store) == [b"three", b"two", b"one"]
    head = await store.head("box", "k")
    assert head.version_id == found[0].version_id
    assert await store.versions("box", "never") == []


async def test_a_version_keeps_its_own_type_metadata_and_checksum(store: Trove) -> None:
    first = await store.put("box", "k", b"one", content_type="text/a", metadata={"n": "1"})
    await store.put("box", "k", b"other", content_type="text/b", metadata={"n": "2"})
    assert await store.head("box", "k", version_id=first.version_id) == first
    async with store.get("box", "k", version_id=first.version_id) as reader:
        assert reader.info == first
        assert await reader.read() == b"one"
    assert (
        await store.get_bytes("box", "k", version_id=first.version_id, range=slice(1, 3)) == b"ne"
    )


async def test_a_deletion_leaves_a_marker_on_top(store: Trove) -> None:
    first = await store.put("box", "k", b"one")
    await store.delete("box", "k")
    found = await store.versions("box", "k")
    assert [(v.is_delete_marker, v.is_latest) for v in found] == [(True, True), (False, False)]
    assert not await store.exists("box", "k")
    with pytest.raises(ObjectNotFoundError):
        await store.get_bytes("box", "k", version_id=found[0].version_id)
    with pytest.raises(ObjectNotFoundError):
        await store.head("box", "k", version_id=found[0].version_id)
    assert await store.get_bytes("box", "k", version_id=first.version_id) == b"one"
    await store.delete("box", "k")
    assert len(await store.versions("box", "k")) == 2
    await store.put("box", "k", b"two")
    assert await bodies(store) == [b"two", None, b"one"]


async def test_restoring_makes_a_new_latest_version(store: Trove) -> None:
    first = await store.put(
        "box", "k", b"one", content_type="text/a", metadata={"n": "1"}, tags={"t": "1"}
    )
    await store.put("box", "k", b"two")
    assert first.version_id is not None
    restored = await store.restore("box", "k", first.version_id)
    assert restored.version_id not in (None, first.version_id)
    assert (restored.content_type, restored.metadata, restored.checksum) == (
        first.content_type,
        first.metadata,
        first.checksum,
    )
    assert await store.head("box", "k") == restored
    assert await store.get_tags("box", "k") == {"t": "1"}
    assert await bodies(store) == [b"one", b"two", b"one"]


async def test_restoring_brings_a_deleted_object_back(store: Trove) -> None:
    first = await store.put("box", "k", b"one")
    await store.delete("box", "k")
    marker = (await store.versions("box", "k"))[0]
    with pytest.raises(VersionNotFoundError):
        await store.restore("box", "k", marker.version_id)
    assert first.version_id is not None
    await store.restore("box", "k", first.version_id)
    assert await store.get_bytes("box", "k") == b"one"
    assert await bodies(store) == [b"one", None, b"one"]


async def test_deleting_the_latest_version_uncovers_the_one_before(store: Trove) -> None:
    infos = [await store.put("box", "k", text) for text in (b"one", b"two", b"three")]
    await store.delete("box", "k", version_id=infos[2].version_id)
    assert await store.get_bytes("box", "k") == b"two"
    await store.delete("box", "k", version_id=infos[0].version_id)
    assert await bodies(store) == [b"two"]
    await store.delete("box", "k", version_id=infos[1].version_id)
    assert not await store.exists("box", "k")
    assert await store.versions("box", "k") == []
    assert [entry async for entry in store.list("box")] == []


async def test_deleting_a_marker_undoes_the_deletion(store: Trove) -> None:
    await store.put("box", "k", b"one")
    await store.delete("box", "k")
    marker = (await store.versions("box", "k"))[0]
    await store.delete("box", "k", version_id=marker.version_id)
    assert await store.get_bytes("box", "k") == b"one"
    assert [entry.key async for entry in store.list("box") if isinstance(entry, trove.ObjectInfo)]


async def test_an_unknown_version_is_not_found_and_changes_nothing(store: Trove) -> None:
    other = await store.put("box", "other", b"x")
    await store.put("box", "k", b"one")
    for wrong in ("nosuch", other.version_id):
        assert wrong is not None
        for attempt in (
            lambda v: store.get_bytes("box", "k", version_id=v),
            lambda v: store.head("box", "k", version_id=v),
            lambda v: store.delete("box", "k", version_id=v),
            lambda v: store.restore("box", "k", v),
        ):
            with pytest.raises(VersionNotFoundError):
                await attempt(wrong)
    with pytest.raises(BucketNotFoundError):
        await store.versions("nowhere", "k")
    assert await bodies(store) == [b"one"]


async def test_copies_and_moves_begin_a_history_of_their_own(store: Trove) -> None:
    await store.put("box", "k", b"one")
    await store.put("box", "k", b"two")
    await store.copy("box", "k", "box", "copied")
    await store.move("box", "k", "box", "moved")
    assert await bodies(store, "copied") == [b"two"]
    assert await bodies(store, "moved") == [b"two"]
    assert await bodies(store) == [None, b"two", b"one"]


async def test_the_oldest_versions_go_when_the_budget_is_full() -> None:
    async with trove.open(MemoryDriver(history=100_000)) as store:
        await store.create_bucket("box")
        for number in range(50):
            await store.put("box", "k", bytes([number]) * 10_000)
            found = await bodies(store)
            assert found[0] == bytes([number]) * 10_000
            past = [body for body in found[1:] if body is not None]
            assert [body[0] for body in past] == list(range(number - 1, number - 1 - len(past), -1))
            assert sum(map(len, past)) <= 100_000
        assert len(found) == 10
        await store.put("box", "huge", bytes(200_000))
        await store.put("box", "huge", b"")
        assert await bodies(store, "huge") == [b""]
        assert await store.get_bytes("box", "k") == bytes([49]) * 10_000


async def test_S57_many_deletions_do_not_grow_without_end() -> None:
    driver = MemoryDriver(history=100_000)
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        for number in range(3000):
            await store.put("box", f"k{number}", b"")
            await store.delete("box", f"k{number}")
        place = driver._state.buckets["box"]
        kept = sum(len(versions) for versions in place.past.values())
        assert kept == len(driver._state.past)
        assert kept * 512 <= driver._state.past_bytes <= 100_000
        assert len(place._fresh) < 3000


async def test_without_a_budget_nothing_past_is_kept() -> None:
    async with trove.open(MemoryDriver(history=0)) as store:
        await store.create_bucket("box")
        first = await store.put("box", "k", b"one")
        await store.put("box", "k", b"two")
        assert await bodies(store) == [b"two"]
        with pytest.raises(VersionNotFoundError):
            await store.get_bytes("box", "k", version_id=first.version_id)
        await store.delete("box", "k")
        assert await store.versions("box", "k") == []


async def test_a_deleted_bucket_takes_its_history_with_it(
    store: Trove, memory: MemoryDriver
) -> None:
    first = await store.put("box", "k", bytes(1000))
    await store.put("box", "k", b"two")
    await store.delete_bucket("box", force=True)
    assert memory._state.past_bytes == 0
    await store.create_bucket("box")
    assert await store.versions("box", "k") == []
    with pytest.raises(VersionNotFoundError):
        await store.head("box", "k", version_id=first.version_id)
    await store.put("box", "k", b"new")
    assert await bodies(store) == [b"new"]


async def test_the_budget_counts_what_is_kept_whatever_is_done(
    store: Trove, memory: MemoryDriver
) -> None:
    infos = [await store.put("box", "k", bytes(100 * n)) for n in range(6)]
    await store.delete("box", "k", version_id=infos[2].version_id)
    assert infos[1].version_id is not None
    await store.restore("box", "k", infos[1].version_id)
    await store.delete("box", "k")
    marker: VersionInfo = (await store.versions("box", "k"))[0]
    await store.delete("box", "k", version_id=marker.version_id)
    past = memory._state.buckets["box"].past["k"]
    assert memory._state.past_bytes == sum(s.info.stored_size + 512 for s in past)


async def test_S57_versions_that_are_deleted_are_not_held(
    store: Trove, memory: MemoryDriver
) -> None:
    """By name, or with their bucket: the budget must not keep alive what nobody can read."""
    await store.put("box", "k", b"base")
    for _ in range(200):
        info = await store.put("box", "k", bytes(1000))
        await store.delete("box", "k", version_id=info.version_id)
    for _ in range(200):
        await store.create_bucket("brief")
        await store.put("brief", "k", bytes(1000))
        await store.put("brief", "k", bytes(1000))
        await store.delete_bucket("brief", force=True)
    assert await bodies(store) == [b"base"]
    assert (memory._state.past_bytes, len(memory._state.past)) == (0, 0)


async def test_a_version_uncovered_and_covered_again_is_the_youngest_past_one() -> None:
    """The budget forgets by the time a version became past, not by its first time."""
    memory = MemoryDriver(history=10 * (1000 + 512))
    async with trove.open(memory) as store:
        await store.create_bucket("box")
        base = await store.put("box", "k", bytes([7]) * 1000)
        cover = await store.put("box", "k", bytes([8]) * 1000)
        for number in range(8):
            await store.put("box", "other", bytes([number]) * 1000)
        await store.delete("box", "k", version_id=cover.version_id)
        await store.put("box", "k", bytes([9]) * 1000)
        for number in range(8, 12):
            await store.put("box", "other", bytes([number]) * 1000)
        assert await store.get_bytes("box", "k", version_id=base.version_id) == bytes([7]) * 1000
        kept = sum(len(v) for v in memory._state.buckets["box"].past.values())
        assert kept * (1000 + 512) == memory._state.past_bytes


async def test_an_etag_tells_a_change_back_to_the_same_bytes(store: Trove) -> None:
    first = await store.put("box", "k", b"same")
    second = await store.put("box", "k", b"same")
    assert first.etag != second.etag
    with pytest.raises(PreconditionFailedError):
        await store.put("box", "k", b"x", if_match=first.etag)
    await store.put("box", "k", b"x", if_match=second.etag)


async def test_a_backend_without_versions_says_so() -> None:
    from tests.core.faulty import Faulty

    async with trove.open(Faulty()) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"x")
        for attempt in (
            store.versions("box", "k"),
            store.restore("box", "k", "v"),
            store.head("box", "k", version_id="v"),
            store.delete("box", "k", version_id="v"),
            store.get_bytes("box", "k", version_id="v"),
        ):
            with pytest.raises(UnsupportedError):
                await attempt
        assert await store.get_bytes("box", "k") == b"x"
