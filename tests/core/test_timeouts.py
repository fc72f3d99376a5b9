"""Nothing hangs: idle, connect and total limits, and what they do not count."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source
from tests.strategies import STACKS
from trove_async import OperationTimeoutError, RetryPolicy, Timeouts, Trove

ONCE = RetryPolicy(attempts=1)
IDLE = Timeouts(read=0.05)
Verb = Callable[[Trove], Awaitable[object]]


async def opened(driver: Faulty, timeouts: Timeouts, stack: str = "none") -> Trove:
    store = await trove.open(driver, retry=ONCE, timeouts=timeouts, middleware=STACKS[stack]())
    await store.create_bucket("box")
    await store.put("box", "k", bytes(5000))
    driver.forget()
    return store


async def in_time(call: Awaitable[object]) -> None:
    """OperationTimeoutError, and long before the test's own limit."""
    async with asyncio.timeout(20):
        with pytest.raises(OperationTimeoutError) as caught:
            await call
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.retryable


VERBS: dict[str, tuple[str, Verb]] = {
    "put": ("put", lambda store: store.put("box", "k", b"x")),
    "put of an iterator": ("put", lambda store: store.put("box", "k", Source())),
    "get": ("get", lambda store: store.get_bytes("box", "k")),
    "range": ("get", lambda store: store.get_bytes("box", "k", range=slice(5, 9))),
    "head": ("head", lambda store: store.head("box", "k")),
    "delete": ("delete", lambda store: store.delete("box", "k")),
    "delete_many": ("delete", lambda store: hard_delete(store)),
    "list_page": ("list", lambda store: store.list_page("box")),
    "copy with metadata": ("head", lambda store: store.copy("box", "k", "box", "l", metadata={})),
    "move": ("delete", lambda store: store.move("box", "k", "box", "l")),
    "create_bucket": ("create_bucket", lambda store: store.create_bucket("bin")),
    "delete_bucket": ("list", lambda store: store.delete_bucket("box")),
    "delete_bucket by force": ("delete", lambda store: store.delete_bucket("box", force=True)),
    "list_buckets": ("list_buckets", lambda store: store.list_buckets()),
}


async def hard_delete(store: Trove) -> None:
    (result,) = await store.delete_many("box", ["k"])
    assert result.error is not None
    raise result.error


@pytest.mark.parametrize("name", VERBS)
async def test_a_request_without_an_answer_times_out(name: str) -> None:
    verb, call = VERBS[name]
    driver = Faulty()
    async with await opened(driver, IDLE) as store:
        driver.hang(verb)
        await in_time(call(store))
        assert driver.unclosed == 0


async def test_native_ranges_time_out() -> None:
    from trove_async.drivers.memory import MemoryDriver

    class Hanging(MemoryDriver):
        async def get_ranges(self, *args: object) -> list[bytes]:
            await asyncio.Event().wait()
            return []

    async with trove.open(Hanging(), retry=ONCE, timeouts=IDLE) as store:
        await store.create_bucket("box")
        await store.put("box", "k", bytes(5000))
        await in_time(store.get_ranges("box", "k", [slice(0, 1), slice(2, 3)]))


async def test_a_ping_without_an_answer_is_an_answer() -> None:
    driver = Faulty()
    async with await opened(driver, IDLE) as store:
        driver.hang("ping")
        async with asyncio.timeout(20):
            health = await store.ping()
        assert not health["default"].ok
        assert "OperationTimeoutError" in str(health["default"].error)
        assert (await store.ping())["default"].ok


@pytest.mark.parametrize("stack", STACKS)
async def test_a_body_that_stops_coming_times_out(stack: str) -> None:
    driver = Faulty(chunk=1 if stack in ("flip", "both") else 500)
    async with await opened(driver, IDLE, stack) as store:
        driver.body(30, "hang")
        await in_time(store.get_bytes("box", "k"))
        assert driver.unclosed == 0


async def test_a_body_that_stops_coming_is_resumed() -> None:
    driver = Faulty(chunk=500)
    async with await opened(driver, IDLE) as store:
        store._core.reads.policy = RetryPolicy(base=0.001)
        driver.body(1500, "hang")
        async with asyncio.timeout(20):
            assert await store.get_bytes("box", "k") == bytes(5000)
        assert len(driver.bodies) == 2
        assert driver.unclosed == 0


@pytest.mark.parametrize("stack", STACKS)
async def test_a_slow_producer_does_not_time_out(stack: str) -> None:
    driver = Faulty()
    async with await opened(driver, Timeouts(read=0.05), stack) as store:
        source = Source([b"a", b"b", b"c"], pause=0.12)
        info = await store.put("box", "slow", source)
        assert (info.size, source.closed) == (3, 1)


async def test_a_slow_consumer_does_not_time_out() -> None:
    driver = Faulty(chunk=500)
    async with (
        await opened(driver, Timeouts(read=0.05)) as store,
        store.get("box", "k") as reader,
    ):
        assert await reader.read(1000) == bytes(1000)
        await asyncio.sleep(0.15)
        assert await reader.read() == bytes(4000)


class Sluggish(Faulty):
    """Waits before each pull of a body, and after the last one."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause

    async def put(
        self, bucket: str, key: str, body: trove.Chunks, options: trove.PutOptions
    ) -> trove.ObjectInfo:
        parts = []
        while True:
            await asyncio.sleep(self.pause)
            try:
                parts.append(bytes(await anext(body)))
            except StopAsyncIteration:
                break
        await asyncio.sleep(self.pause)
        from trove_async._chunks import OneChunk

        return await super().put(bucket, key, OneChunk(b"".join(parts)), options)


async def test_a_driver_that_makes_progress_has_all_the_time_it_needs() -> None:
    driver = Sluggish(0.04)
    async with trove.open(driver, retry=ONCE, timeouts=Timeouts(read=0.1)) as store:
        await store.create_bucket("box")
        info = await store.put("box", "k", Source([b"x"] * 8, pause=0.02))
        assert info.size == 8


async def test_a_driver_that_hangs_after_the_body_times_out() -> None:
    driver = Sluggish(0.3)
    async with trove.open(driver, retry=ONCE, timeouts=IDLE) as store:
        await store.create_bucket("box")
        source = Source()
        await in_time(store.put("box", "k", source))
        assert source.closed == 1
        assert not await store.exists("box", "k")


# -- total ---------------------------------------------------------------------------------

TOTAL = Timeouts(read=None, total=0.08)


@pytest.mark.parametrize("name", VERBS)
async def test_total_bounds_every_operation(name: str) -> None:
    verb, call = VERBS[name]
    driver = Faulty()
    async with await opened(driver, TOTAL) as store:
        driver.hang(verb)
        await in_time(call(store))
        assert driver.unclosed == 0


async def test_total_counts_a_slow_producer() -> None:
    driver = Faulty()
    async with await opened(driver, TOTAL) as store:
        source = Source([b"x"] * 50, pause=0.02)
        await in_time(store.put("box", "new", source))
        assert source.closed == 1
        assert not await store.exists("box", "new")


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("wanted", [None, slice(100, 4000)])
async def test_total_bounds_the_reading_of_a_body(stack: str, wanted: slice | None) -> None:
    driver = Faulty(chunk=1 if stack in ("flip", "both") else 500)
    async with await opened(driver, Timeouts(read=None, total=0.3), stack) as store:
        driver.body(30, "hang")
        driver.body(30, "hang")

        async def reading() -> None:
            async with store.get("box", "k", range=wanted) as reader:
                await reader.read()

        await in_time(reading())
        assert driver.unclosed == 0


async def test_total_includes_the_time_between_reads() -> None:
    driver = Faulty(chunk=500)
    async with await opened(driver, TOTAL) as store:

        async def reading() -> None:
            async with store.get("box", "k") as reader:
                await reader.read(600)
                await asyncio.sleep(0.2)
                async for _ in reader._iterate():
                    await asyncio.sleep(0)
                await asyncio.sleep(0)

        driver.body(700, "hang")
        await in_time(reading())
        assert driver.unclosed == 0


async def test_total_includes_the_retries() -> None:
    driver = Faulty()
    retry = RetryPolicy(attempts=1000, base=0.01, maximum=0.01, deadline=1000)
    async with trove.open(driver, retry=retry, timeouts=TOTAL) as store:
        await store.create_bucket("box")
        driver.fail("list", trove.UnavailableError("busy"), times=1000)
        await in_time(store.list_page("box"))


async def test_a_body_within_the_total_is_read_whole() -> None:
    driver = Faulty(chunk=500)
    async with await opened(driver, Timeouts(total=30.0)) as store:
        assert await store.get_bytes("box", "k") == bytes(5000)
        async with store.get("box", "k") as reader:
            assert {len(chunk) async for chunk in reader} == {500}
        assert driver.unclosed == 0


# -- connect, none -------------------------------------------------------------------------


async def test_a_driver_that_does_not_open_is_closed_again() -> None:
    driver = Faulty()
    driver.hang("open")
    await in_time(trove.open(driver, timeouts=Timeouts(connect=0.05)).__aenter__())
    assert driver.closed == 1
    async with trove.open(driver, timeouts=Timeouts(connect=0.05)) as store:
        assert await store.list_buckets() == []


@pytest.mark.parametrize("stack", STACKS)
async def test_without_limits_everything_still_works(stack: str) -> None:
    driver = Faulty()
    limits = Timeouts(connect=None, read=None, total=None)
    async with await opened(driver, limits, stack) as store:
        await store.put("box", "l", Source())
        assert await store.get_bytes("box", "l") == b"onetwothree"
        assert await store.get_bytes("box", "k", range=slice(10, 20)) == bytes(10)
        assert [entry.key async for entry in store.list("box")] == ["k", "l"]  # type: ignore[union-attr]  # no delimiter
        assert (await store.ping())["default"].ok


@pytest.mark.parametrize("name", ["connect", "read", "total"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), timedelta()])
def test_a_limit_is_positive(name: str, value: float | timedelta) -> None:
    with pytest.raises(ValueError):
        Timeouts(**{name: value})


async def test_a_timeout_of_the_callers_own_is_not_translated() -> None:
    driver = Faulty()
    async with await opened(driver, Timeouts(read=30.0)) as store:
        driver.hang("get")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await store.get_bytes("box", "k")
        assert not isinstance(caught.value, OperationTimeoutError)
        driver.body(100, "hang")
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await store.get_bytes("box", "k")
        assert not isinstance(caught.value, OperationTimeoutError)
        assert driver.unclosed == 0


def test_times_are_seconds_or_timedeltas() -> None:
    minute = timedelta(minutes=1)
    assert Timeouts(minute, minute, minute) == Timeouts(60.0, 60.0, 60.0)
    assert repr(Timeouts(connect=minute)) == "Timeouts(connect=60.0, read=60.0, total=None)"
    policy = RetryPolicy(2, timedelta(milliseconds=5), minute, minute)
    assert policy == RetryPolicy(2, 0.005, 60.0, 60.0)
    assert replace(policy, attempts=3) == RetryPolicy(3, 0.005, 60.0, 60.0)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(Timeouts()) == hash(Timeouts())
    with pytest.raises(FrozenInstanceError):
        policy.attempts = 9  # type: ignore[misc]  # that is the point


async def test_a_poll_may_be_a_timedelta() -> None:
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        async with store.watch("box", poll=timedelta(milliseconds=5)) as watch:
            await store.put("box", "k", b"")
            async with asyncio.timeout(20):
                assert (await anext(watch)).key == "k"
        with pytest.raises(ValueError):
            store.watch("box", poll=timedelta())
