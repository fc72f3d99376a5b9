"""Events of our own writes and of those of others."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.drivers.local.helpers_local import body, put, threads, threads_come_down_to
from trove_async.driver import BucketOptions, CopyOptions, DeleteOptions, PutOptions
from trove_async.driver.options import WatchOptions
from trove_async.drivers.local import LocalDriver
from trove_async.errors import BucketNotFoundError
from trove_async.model import ObjectEvent, ObjectRef


async def _next(events: object, count: int) -> list[tuple[str, str]]:
    seen: list[ObjectEvent] = []
    async with asyncio.timeout(20):
        while len(seen) < count:
            seen.append(await anext(events))  # type: ignore[call-overload] # any watch
    return [(event.type.removeprefix("object."), event.key) for event in seen]


async def test_our_own_changes_come_at_once_and_in_order(driver: LocalDriver) -> None:
    await put(driver, "old", b"0")
    count = threads()
    events = await driver.watch("bucket", WatchOptions())
    info = await put(driver, "a", b"1")
    await put(driver, "a", b"2")
    await put(driver, "old", b"1")
    await driver.move(ObjectRef("bucket", "a"), ObjectRef("bucket", "d/b"), CopyOptions())
    await driver.delete("bucket", "d/b", DeleteOptions())
    first = await anext(events)
    assert (first.type, first.key, first.info) == ("object.created", "a", info)
    assert await _next(events, 5) == [
        ("updated", "a"),
        ("updated", "old"),
        ("created", "d/b"),
        ("deleted", "a"),
        ("deleted", "d/b"),
    ]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await anext(events)
    await events.aclose()
    assert await threads_come_down_to(count)


async def test_changes_of_others_are_seen(driver: LocalDriver, root: Path) -> None:
    await put(driver, "known", b"0")
    events = await driver.watch("bucket", WatchOptions())
    place = root / "bucket"
    other = driver.sibling()
    await other.open()
    try:
        await put(other, "deep/er/k", b"1", PutOptions(metadata={"a": "1"}))
        assert await _next(events, 1) == [("created", "deep/er/k")]
        await put(other, "known", b"1")
        assert await _next(events, 1) == [("updated", "known")]
        (place / "foreign").write_bytes(b"x")
        assert (await _next(events, 1))[0] == ("created", "foreign")
        await asyncio.sleep(0.3)
        await other.delete("bucket", "known", DeleteOptions())
        assert await _next(events, 1) in ([("deleted", "known")], [("updated", "foreign")])
        os.rename(place / "deep", root / "aside")
        async with asyncio.timeout(20):
            while (event := await anext(events)).key != "deep/er/k":
                pass
        assert event.type == "object.deleted"
        os.rename(root / "aside", place / "back")
        async with asyncio.timeout(20):
            while (event := await anext(events)).key != "back/er/k":
                pass
        assert event.type == "object.created"
        assert event.info is not None
    finally:
        await other.close()
        await events.aclose()


async def test_filters_and_hidden_names(driver: LocalDriver) -> None:
    events = await driver.watch(
        "bucket", WatchOptions(prefix="a/", events=frozenset({"object.deleted"}))
    )
    for key in ("a/1", "b/1", "a/2"):
        await put(driver, key, b"x" * 300_000)
        await driver.delete("bucket", key, DeleteOptions())
    assert await _next(events, 2) == [("deleted", "a/1"), ("deleted", "a/2")]
    await asyncio.sleep(0.3)
    await events.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(events)


async def test_a_slow_consumer_hears_of_the_overflow(driver: LocalDriver) -> None:
    events = await driver.watch("bucket", WatchOptions(buffer=10))
    for number in range(100):
        await put(driver, f"k{number}", b"")
    seen = await _next(events, 11)
    assert seen[-1] == ("watch.overflow", "")
    await events.aclose()


async def test_a_watch_ends_with_its_driver_and_its_bucket(driver: LocalDriver) -> None:
    with pytest.raises(BucketNotFoundError):
        await driver.watch("nobody", WatchOptions())
    first = await driver.watch("bucket", WatchOptions())
    await driver.delete_bucket("bucket")
    with pytest.raises(StopAsyncIteration):
        await anext(first)
    await first.aclose()
    await driver.create_bucket("bucket", BucketOptions())
    second = await driver.watch("bucket", WatchOptions())
    await driver.put("bucket", "k", body(b"x"), PutOptions())
    await driver.close()
    with pytest.raises(StopAsyncIteration):
        while True:
            await anext(second)
    await second.aclose()
    await driver.open()
