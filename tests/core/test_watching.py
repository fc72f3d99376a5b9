"""Events of a bucket: told by backends or found by listing, and a wait that may be given up."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from trove_async import ObjectEvent, RetryPolicy, Trove, UnavailableError, UnsupportedError
from trove_async._store.watching import Watching
from trove_async.driver.events import EventQueue
from trove_async.drivers.memory import MemoryDriver


async def some(watch: Watching, count: int) -> list[tuple[str, str]]:
    async with asyncio.timeout(20):
        found = [await anext(watch) for _ in range(count)]
    return [(event.type, event.key) for event in found]


async def opened(driver: Any = "mem://", **options: Any) -> Trove:
    store = await trove.open(driver, **options)
    await store.create_bucket("box")
    return store


POLLS: list[float | None] = [None, 0.01]


@pytest.mark.parametrize("poll", POLLS)
async def test_what_happens_after_the_watch_stands_is_seen_in_order(poll: float | None) -> None:
    async with await opened() as store:
        await store.put("box", "before", b"")
        async with store.watch("box", poll=poll) as watch:
            await store.put("box", "a", b"1")
            assert await some(watch, 1) == [("object.created", "a")]
            await store.put("box", "a", b"22", metadata={"n": "1"})
            event = await anext(watch)
            assert (event.type, event.bucket, event.key) == ("object.updated", "box", "a")
            assert event.info == await store.head("box", "a")
            await store.delete("box", "before")
            event = await anext(watch)
            assert (event.type, event.key, event.info) == ("object.deleted", "before", None)


@pytest.mark.parametrize("poll", POLLS)
async def test_a_prefix_and_a_choice_of_events_narrow_a_watch(poll: float | None) -> None:
    async with await opened() as store:
        for key in ("in/a", "out/a", "in/b"):
            await store.put("box", key, b"")
        async with store.watch("box", prefix="in/", events=["object.deleted"], poll=poll) as watch:
            for key in ("in/c", "out/c"):
                await store.put("box", key, b"")
            for key in ("out/a", "in/a", "in/b"):
                await store.delete("box", key)
            assert sorted(await some(watch, 2)) == [
                ("object.deleted", "in/a"),
                ("object.deleted", "in/b"),
            ]


@pytest.mark.parametrize("backends", [{}, {"other": "mem://"}])
@pytest.mark.parametrize("poll", POLLS)
async def test_a_wait_that_is_given_up_does_not_end_the_watch(
    poll: float | None, backends: dict[str, str]
) -> None:
    async with (
        await opened(backends=backends) as store,
        store.watch("box", poll=poll) as watch,
    ):
        for number in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(watch), 0.03)
            await store.put("box", f"k{number}", b"")
            assert await some(watch, 1) == [("object.created", f"k{number}")]


async def test_a_start_that_is_given_up_can_be_tried_again() -> None:
    driver = Faulty()
    async with await opened(driver, retry=RetryPolicy(attempts=1)) as store:
        watch = store.watch("box", poll=0.01)
        driver.hang("list")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(watch), 0.03)
        driver.fail("list", UnavailableError("busy"))
        with pytest.raises(UnavailableError):
            await anext(watch)
        waiting = asyncio.create_task(some(watch, 1))
        await asyncio.sleep(0.05)
        await store.put("box", "k", b"")
        assert await waiting == [("object.created", "k")]
        await watch.aclose()


async def test_a_poll_that_fails_is_an_error_and_the_watch_goes_on() -> None:
    driver = Faulty()
    async with (
        await opened(driver, retry=RetryPolicy(attempts=1)) as store,
        store.watch("box", poll=0.01) as watch,
    ):
        driver.fail("list", UnavailableError("busy"))
        with pytest.raises(UnavailableError):
            await anext(watch)
        await store.put("box", "k", b"")
        assert await some(watch, 1) == [("object.created", "k")]


async def test_a_watch_over_several_backends_tells_what_each_owns() -> None:
    async with await opened(backends={"logs": "mem://"}, routes=[("*.log", "logs")]) as store:
        async with store.watch("box") as watch:
            await store.put("box", "a", b"")
            await store.put("box", "b.log", b"")
            await store.backend("default").put("box", "stray.log", b"")  # hidden: not its place
            await store.put("box", "c", b"")
            found = await some(watch, 3)
        assert sorted(key for _, key in found) == ["a", "b.log", "c"]
        async with store.backend("logs").watch("box") as watch:
            await store.put("box", "a", b"")
            await store.put("box", "b.log", b"")
            assert await some(watch, 1) == [("object.updated", "b.log")]


async def test_a_closed_watch_ends_and_holds_nothing() -> None:
    driver = MemoryDriver()
    async with await opened(driver, backends={"other": "mem://"}) as store:
        watch = store.watch("box")
        async with watch:
            assert len(driver._queues) == 1
        assert driver._queues == []
        assert [event async for event in watch] == []
        await watch.aclose()
        never = store.watch("box")
        await never.aclose()  # never started
        assert [event async for event in never] == []


async def test_closing_the_store_ends_its_watches() -> None:
    store = await opened()
    watch = store.watch("box")
    await watch._start()
    waiting = asyncio.create_task(anext(watch, None))
    await asyncio.sleep(0)
    await store.aclose()
    assert await asyncio.wait_for(waiting, 20) is None


async def test_deleting_the_bucket_ends_a_watch() -> None:
    async with await opened() as store, store.watch("box") as watch:
        await store.put("box", "k", b"")
        await store.delete_bucket("box", force=True)
        async with asyncio.timeout(20):
            kinds = [event.type async for event in watch]
        assert kinds == ["object.created", "object.deleted"]


async def test_a_backend_that_does_not_tell_needs_polling() -> None:
    async with await opened(Faulty()) as store:
        with pytest.raises(UnsupportedError, match="poll"):
            store.watch("box")
        for wrong in ({"poll": 0}, {"poll": -1}, {"poll": 1, "events": ["nonsense"]}):
            with pytest.raises(ValueError):
                store.watch("box", **wrong)
        with pytest.raises(trove.BucketNotFoundError):
            await anext(store.watch("nowhere", poll=0.01))


async def test_S57_a_watcher_that_lags_is_told_once_and_memory_stays_bounded() -> None:
    queue = EventQueue("box", limit=3)
    for number in range(10):
        queue.push("object.created", f"k{number}", None)
    kinds = [(await anext(queue)).type for _ in range(4)]
    assert kinds == ["object.created"] * 3 + ["watch.overflow"]
    queue.push("object.deleted", "k", None)
    assert await anext(queue) == ObjectEvent("object.deleted", "box", "k", None)
    queue.close()
    queue.push("object.deleted", "late", None)
    assert [event async for event in queue] == []


async def test_an_event_is_not_lost_to_a_waiter_that_gave_up() -> None:
    queue = EventQueue("box", limit=3)
    waiting = asyncio.create_task(anext(queue))
    await asyncio.sleep(0)
    queue.push("object.created", "k", None)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await anext(queue)).key == "k"
