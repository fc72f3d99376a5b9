"""Watching a bucket: by what the driver tells, by polling, and over several backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Tag
from trove_async import (
    BucketNotFoundError,
    ObjectEvent,
    RetryPolicy,
    Trove,
    UnavailableError,
    UnsupportedError,
    WatchOptions,
)
from trove_async.driver.events import EventQueue
from trove_async.drivers.memory import MemoryDriver
from trove_async.testing.stepper import Step, cancel_everywhere

TICK = 0.01


@pytest.fixture
def memory() -> MemoryDriver:
    return MemoryDriver()


@pytest.fixture
async def store(memory: MemoryDriver) -> AsyncIterator[Trove]:
    async with trove.open(memory) as opened:
        await opened.create_bucket("box")
        yield opened
        assert memory._queues == []
        assert all(not place.watchers for place in memory._state.buckets.values())


async def taken(events: AsyncIterator[ObjectEvent], count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(20):
        return [(event.type, event.key) for event in [await anext(events) for _ in range(count)]]


async def nothing(events: AsyncIterator[ObjectEvent]) -> bool:
    try:
        async with asyncio.timeout(5 * TICK):
            await anext(events)
    except TimeoutError:
        return True
    return False


async def changes(store: Trove) -> list[tuple[str, str]]:
    await store.put("box", "a", b"1")
    await store.put("box", "a", b"2")
    await store.copy("box", "a", "box", "b")
    await store.move("box", "b", "box", "c")
    await store.delete("box", "a")
    await store.delete("box", "never")
    await store.delete_many("box", ["c", "never"])
    return [
        ("object.created", "a"),
        ("object.updated", "a"),
        ("object.created", "b"),
        ("object.created", "c"),
        ("object.deleted", "b"),
        ("object.deleted", "a"),
        ("object.deleted", "c"),
    ]


async def test_every_change_is_told_once_and_in_order(store: Trove) -> None:
    async with store.watch("box") as events:
        wanted = await changes(store)
        assert await taken(events, len(wanted)) == wanted
        assert await nothing(events)


async def test_an_event_carries_the_object_as_a_listing_shows_it(store: Trove) -> None:
    store.use(Tag("t"))
    async with store.watch("box") as events:
        info = await store.put("box", "a.txt", b"body", metadata={"n": "1"})
        event = await anext(events)
        assert (event.bucket, event.key, event.info) == ("box", "a.txt", info)
        assert event.info is not None
        assert (event.info.size, event.info.encodings) == (4, ("t",))
        await store.delete("box", "a.txt")
        assert (await anext(events)).info is None


async def test_only_what_is_asked_for_is_told(store: Trove) -> None:
    async with (
        store.watch("box", prefix="in/") as inside,
        store.watch("box", events=["object.deleted"]) as deleted,
        store.bucket("box").watch(prefix="in/", events=["object.created"]) as both,
    ):
        for key in ("in/a", "out/a", "in/b"):
            await store.put("box", key, b"x")
        await store.delete("box", "in/a")
        assert await taken(inside, 3) == [
            ("object.created", "in/a"),
            ("object.created", "in/b"),
            ("object.deleted", "in/a"),
        ]
        assert await taken(deleted, 1) == [("object.deleted", "in/a")]
        assert await taken(both, 2) == [("object.created", "in/a"), ("object.created", "in/b")]
        for events in (inside, deleted, both):
            assert await nothing(events)


async def test_what_happens_to_versions_is_told(store: Trove) -> None:
    await store.put("box", "k", b"one")
    second = await store.put("box", "k", b"two")
    async with store.watch("box") as events:
        await store.delete("box", "k", version_id=second.version_id)
        assert await taken(events, 1) == [("object.updated", "k")]
        first = (await store.versions("box", "k"))[0]
        await store.restore("box", "k", first.version_id)
        assert await taken(events, 1) == [("object.updated", "k")]
        await store.delete("box", "k")
        marker = (await store.versions("box", "k"))[0]
        await store.delete("box", "k", version_id=marker.version_id)
        assert await taken(events, 2) == [("object.deleted", "k"), ("object.created", "k")]
        for version in await store.versions("box", "k"):
            await store.delete("box", "k", version_id=version.version_id)
        assert (await taken(events, 2))[-1] == ("object.deleted", "k")


async def test_the_watch_stands_from_the_first_anext_on(store: Trove) -> None:
    events = store.watch("box")
    await store.put("box", "before", b"x")
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(TICK)
    await store.put("box", "after", b"x")
    async with asyncio.timeout(20):
        assert (await waiting).key == "after"
    await events.aclose()


async def test_an_unused_watch_costs_nothing(store: Trove, memory: MemoryDriver) -> None:
    events = store.watch("box")
    assert memory._queues == []
    await events.aclose()


async def test_a_closed_watch_ends(store: Trove) -> None:
    async with store.watch("box") as events:
        pass
    with pytest.raises(StopAsyncIteration):
        await anext(events)
    await events.aclose()


async def test_closing_the_watch_wakes_who_waits_for_it(store: Trove) -> None:
    events = await store.watch("box").__aenter__()

    async def consume() -> list[ObjectEvent]:
        return [event async for event in events]

    consumer = asyncio.create_task(consume())
    await asyncio.sleep(TICK)
    await events.aclose()
    async with asyncio.timeout(20):
        assert await consumer == []


async def test_closing_the_store_or_deleting_the_bucket_ends_the_watch(
    memory: MemoryDriver,
) -> None:
    store = await trove.open(memory)
    await store.create_bucket("box")
    async with store.watch("box") as events:
        await store.put("box", "k", b"x")
        await store.delete_bucket("box", force=True)
        async with asyncio.timeout(20):
            assert [event.type async for event in events] == ["object.created", "object.deleted"]
    await store.create_bucket("box")
    async with store.watch("box") as again:
        await store.aclose()
        async with asyncio.timeout(20):
            assert [event async for event in again] == []


async def test_a_wait_that_is_cancelled_loses_no_event(store: Trove) -> None:
    async with store.watch("box") as events:
        assert await nothing(events)
        await store.put("box", "k", b"x")
        assert await taken(events, 1) == [("object.created", "k")]


async def test_a_slow_consumer_is_told_that_events_were_lost(memory: MemoryDriver) -> None:
    async with trove.open(memory) as store:
        await store.create_bucket("box")
        queue = await memory.watch("box", WatchOptions(buffer=3))
        for number in range(10):
            await store.put("box", f"k{number}", b"x")
        assert [key for _, key in await taken(queue, 3)] == ["k0", "k1", "k2"]
        assert await taken(queue, 1) == [("watch.overflow", "")]
        await store.put("box", "later", b"x")
        assert await taken(queue, 1) == [("object.created", "later")]
        await queue.aclose()
    assert memory._queues == []


async def test_an_overflow_is_told_whatever_types_are_asked(store: Trove) -> None:
    async with store.watch("box", events=["object.deleted"], prefix="in/") as events:
        for number in range(1100):
            await store.put("box", f"in/{number}", b"")
            await store.delete("box", f"in/{number}")
        told = await taken(events, 1025)
        assert told[-1] == ("watch.overflow", "")
        assert {kind for kind, _ in told[:-1]} == {"object.deleted"}


def test_a_queue_takes_nothing_after_its_close() -> None:
    queue = EventQueue("box", 3)
    closed: list[int] = []
    queue.on_close = lambda: closed.append(1)
    queue.push("object.created", "k", None)
    queue.close()
    queue.close()
    queue.push("object.created", "late", None)
    assert closed == [1]

    async def rest() -> list[str]:
        return [event.key async for event in queue]

    assert asyncio.run(rest()) == ["k"]


async def test_a_bucket_that_is_not_there_is_an_error_at_the_start(store: Trove) -> None:
    events = store.watch("nowhere")
    for _ in range(2):
        with pytest.raises(BucketNotFoundError):
            await anext(events)
    await store.create_bucket("nowhere")
    async with events:
        await store.put("nowhere", "k", b"x")
        assert await taken(events, 1) == [("object.created", "k")]


@pytest.mark.parametrize(
    "options",
    [{"poll": 0}, {"poll": -1.0}, {"events": ["object.moved"]}, {"events": ["watch.overflow"]}],
)
async def test_a_wrong_watch_is_refused_at_once(store: Trove, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"poll|event"):
        store.watch("box", **options)


# -- polling -------------------------------------------------------------------------------------


async def test_a_backend_that_does_not_tell_is_polled_on_request_only() -> None:
    faulty = Faulty()
    async with trove.open(faulty) as store:
        await store.create_bucket("box")
        with pytest.raises(UnsupportedError, match="poll"):
            store.watch("box")
        await store.put("box", "old", b"x")
        async with store.watch("box", poll=TICK) as events:
            await store.put("box", "new", b"x")
            assert await taken(events, 1) == [("object.created", "new")]
            await store.put("box", "old", b"y")
            assert await taken(events, 1) == [("object.updated", "old")]
            await store.delete("box", "new")
            assert await taken(events, 1) == [("object.deleted", "new")]
            assert await nothing(events)


async def test_polling_tells_all_that_changed_between_two_looks_in_order(store: Trove) -> None:
    for key in ("gone", "same", "changed"):
        await store.put("box", key, b"x")
    async with store.watch("box", poll=TICK) as events:
        await store.delete("box", "gone")
        await store.put("box", "changed", b"x")
        await store.put("box", "new", b"x")
        assert await taken(events, 3) == [
            ("object.updated", "changed"),
            ("object.created", "new"),
            ("object.deleted", "gone"),
        ]


async def test_polling_keeps_to_the_prefix_and_the_types_asked(store: Trove) -> None:
    async with store.watch("box", prefix="in/", events=["object.created"], poll=TICK) as events:
        await store.put("box", "in/a", b"x")
        await store.put("box", "out/a", b"x")
        assert await taken(events, 1) == [("object.created", "in/a")]
        await store.put("box", "in/a", b"y")
        assert await nothing(events)


async def test_polling_goes_on_after_a_failed_look_and_loses_nothing() -> None:
    faulty = Faulty()
    async with trove.open(faulty, retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket("box")
        async with store.watch("box", poll=TICK) as events:
            faulty.fail("list", UnavailableError("down"))
            with pytest.raises(UnavailableError):
                await anext(events)
            await store.put("box", "k", b"x")
            assert await taken(events, 1) == [("object.created", "k")]


async def test_a_cancelled_look_loses_nothing() -> None:
    faulty = Faulty()
    async with trove.open(faulty) as store:
        await store.create_bucket("box")
        async with store.watch("box", poll=TICK) as events:
            await store.put("box", "k", b"x")
            faulty.hang("list")
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(5 * TICK):
                    await anext(events)
            assert await taken(events, 1) == [("object.created", "k")]


# -- several backends ------------------------------------------------------------------------------


async def test_the_events_of_every_backend_come_together_each_from_its_owner() -> None:
    far = MemoryDriver()
    async with trove.open("mem://", backends={"far": far}, routes=[("far/*", "far")]) as store:
        await store.create_bucket("box")
        async with store.watch("box") as events:
            await store.put("box", "near", b"x")
            await store.put("box", "far/k", b"x")
            await store.backend("far").put("box", "astray", b"x")
            await store.backend("default").put("box", "far/hidden", b"x")
            assert sorted(await taken(events, 2)) == [
                ("object.created", "far/k"),
                ("object.created", "near"),
            ]
            assert await nothing(events)
        async with store.backend("far").watch("box") as pinned:
            await store.put("box", "near", b"x")
            await store.put("box", "far/k", b"y")
            assert await taken(pinned, 1) == [("object.updated", "far/k")]
            assert await nothing(pinned)


async def test_when_one_backend_cannot_be_watched_the_others_are_let_go(
    memory: MemoryDriver,
) -> None:
    async with trove.open(memory, backends={"far": "mem://"}, routes=[("far/*", "far")]) as store:
        await store.backend("default").create_bucket("box")
        with pytest.raises(BucketNotFoundError):
            await anext(store.watch("box"))
        assert memory._queues == []


async def test_leaving_a_watch_of_several_backends_while_events_wait_ends_its_tasks() -> None:
    async with trove.open("mem://", backends={"far": "mem://"}, routes=[("f*", "far")]) as store:
        await store.create_bucket("box")
        async with store.watch("box") as events:
            for number in range(200):
                await store.put("box", f"f{number}", b"")
                await store.put("box", f"n{number}", b"")
            await taken(events, 3)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_closing_a_watch_of_several_backends_wakes_who_waits_for_it() -> None:
    async with trove.open("mem://", backends={"far": "mem://"}, routes=[("f*", "far")]) as store:
        await store.create_bucket("box")
        events = await store.watch("box").__aenter__()

        async def consume() -> list[ObjectEvent]:
            return [event async for event in events]

        consumer = asyncio.create_task(consume())
        await asyncio.sleep(TICK)
        await events.aclose()
        done, _ = await asyncio.wait([consumer], timeout=5)
        if not done:
            consumer.cancel()
            await asyncio.wait([consumer])
        assert done
        assert await consumer == []


async def test_a_watch_cancelled_anywhere_leaves_no_watcher_and_no_task() -> None:
    drivers = [MemoryDriver(), MemoryDriver()]
    async with trove.open(
        drivers[0], backends={"far": drivers[1]}, routes=[("f*", "far")]
    ) as store:
        await store.create_bucket("box")

        async def make() -> None:
            async with store.watch("box") as events:
                await store.put("box", "f", b"")
                await store.put("box", "n", b"")
                await taken(events, 2)

        async def check(step: Step) -> None:
            assert [driver._queues for driver in drivers] == [[], []]
            assert len(asyncio.all_tasks()) == 1

        assert await cancel_everywhere(make, check=check, twice=True) >= 2
