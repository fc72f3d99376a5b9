"""O. Events: what happened, in order, nothing else, and never lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress

from trove_async.driver import NotificationDriver, WatchOptions
from trove_async.model import MiB, ObjectEvent
from trove_async.testing.case import Deliberate, case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness
from trove_async.testing.leaks import open_descriptors

NEEDS = ["watch"]
_QUIET = 0.3
"""Seconds without an event after which none is expected any more."""


async def following(events: AsyncIterator[ObjectEvent], seconds: float = 5.0) -> ObjectEvent:
    async with asyncio.timeout(seconds):
        return await anext(events)


async def drained(events: AsyncIterator[ObjectEvent]) -> list[ObjectEvent]:
    """What is there, until it is quiet."""
    found: list[ObjectEvent] = []
    with suppress(TimeoutError, StopAsyncIteration):
        while True:
            found.append(await following(events, _QUIET))
    return found


@case("K233", "watch_create_update_delete", needs=NEEDS)
async def watch_create_update_delete(h: Harness) -> None:
    await h.put("before", b"not seen")
    async with h.store.watch(h.bucket) as events:
        seen: list[tuple[str, str, str]] = []
        for step in ("put", "put", "delete", "copy"):
            if step == "put":
                await h.put("a/k", b"body")
            elif step == "delete":
                await h.store.delete(h.bucket, "a/k")
            else:
                await h.store.copy(h.bucket, "before", h.bucket, "copied")
            event = await following(events)
            seen.append((event.type, event.bucket, event.key))
            if event.type != "object.deleted" and event.info is not None:
                assert event.info.key == event.key
    assert seen == [
        ("object.created", h.bucket, "a/k"),
        ("object.updated", h.bucket, "a/k"),
        ("object.deleted", h.bucket, "a/k"),
        ("object.created", h.bucket, "copied"),
    ]


@case("K234", "watch_prefix_and_type_filter", needs=NEEDS)
async def watch_prefix_and_type_filter(h: Harness) -> None:
    other = await h.new_bucket()
    deletes = h.store.watch(h.bucket, prefix="logs/", events=["object.deleted"])
    async with deletes as gone, h.store.watch(h.bucket, prefix="logs/") as logs:
        for key in ("logs/a", "log", "data/logs/a", "logsx"):
            await h.put(key)
        await h.store.put(other, "logs/other", b"")
        assert (await following(logs)).key == "logs/a"
        await h.store.delete(h.bucket, "data/logs/a")
        await h.store.delete(h.bucket, "logs/a")
        event = await following(gone)
        assert (event.type, event.key) == ("object.deleted", "logs/a")
        assert (await following(logs)).type == "object.deleted"
        assert await drained(logs) == [] and await drained(gone) == []


@case("K235", "watch_cancel_releases", needs=NEEDS)
async def watch_cancel_releases(h: Harness) -> None:
    """The consumer is cancelled while it waits; what stays is found after the case."""

    async def consume() -> None:
        async with h.store.watch(h.bucket) as events:
            async for _ in events:
                pass

    await h.put("k")
    before: int | None = None
    for round_ in range(5):
        consumer = asyncio.create_task(consume())
        await asyncio.sleep(0.02)
        await h.put("k", b"%d" % round_)
        await asyncio.sleep(0.01)
        consumer.cancel()
        await asyncio.wait([consumer])
        assert consumer.cancelled()
        for _ in range(200):
            if before is None or len(open_descriptors()) <= before:
                break
            await asyncio.sleep(0.01)
        before = before or len(open_descriptors())
    assert before is not None and len(open_descriptors()) <= before, "descriptors grow"
    async with h.store.watch(h.bucket) as events:
        await h.put("k2")
        assert (await following(events)).key == "k2"


@case("K236", "watch_slow_consumer", needs=NEEDS, stacks=False, timeout=120)
async def watch_slow_consumer(h: Harness) -> None:
    """Nobody reads: the queue is bounded, and the loss is told as an event."""
    able = h.capable(NotificationDriver)
    assert able is not None
    count, buffer = (1000 if h.meets("on_storage") else 10_000), 100
    events = await able.watch(h.bucket, WatchOptions(buffer=buffer))
    async with aclosing(events):
        for number in range(count):
            await h.put(f"{number}", b"")
        await asyncio.sleep(_QUIET)
        found = await drained(events)
        kinds = [event.type for event in found]
        assert len(found) <= buffer + 16, f"{len(found)} events were held"
        assert "watch.overflow" in kinds, f"{count - len(found)} events were lost in silence"
        await h.put("after", b"")
        again = await drained(events)
        assert "after" in [event.key for event in again], "the watch is deaf after an overflow"


@case("K237", "watch_no_temp_names", needs=NEEDS)
async def watch_no_temp_names(h: Harness) -> None:
    async with h.store.watch(h.bucket) as events:
        await h.put("a/large", Source(noise(3 * MiB), 400_000, delay=0), metadata={"n": "1"})
        with suppress(Deliberate):
            await h.put("a/broken", Source(noise(3 * MiB), MiB, error=Deliberate("x"), fail_at=2))
        await h.store.copy(h.bucket, "a/large", h.bucket, "b")
        found = [(event.type, event.key) for event in await drained(events)]
    assert ("object.created", "a/large") in found and ("object.created", "b") in found
    assert {key for _, key in found} == {"a/large", "b"}, "names that are no objects"
