"""A range of an object is that slice of a full read, at the fewest requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Observer
from tests.strategies import STACKS, bodies, chopped, slices, wanted_of
from tests.transforms import FRAME, Flip, Xor
from trove_async import (
    GetOptions,
    InvalidRangeError,
    ObjectChangedError,
    RetryPolicy,
    Stage,
    Trove,
    keys,
)
from trove_async.drivers.memory import MemoryDriver

R = TypeVar("R")
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)


def run(work: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(work)


@pytest.mark.parametrize("stack", STACKS)
@QUICK
@given(
    data=bodies(),
    cuts=st.lists(st.integers(1, 2 * FRAME), max_size=4),
    ranges=st.lists(slices(), min_size=1, max_size=6),
    is_sized=st.booleans(),
    piece=st.sampled_from([7, 999, 5000]),
)
def test_a_range_is_that_slice_of_the_whole(
    stack: str, data: bytes, cuts: list[int], ranges: list[slice], is_sized: bool, piece: int
) -> None:
    async def work() -> None:
        driver = Faulty(chunk=piece)
        async with trove.open(driver, middleware=STACKS[stack]()) as store:
            await store.create_bucket("box")
            body = chopped(data, cuts)
            info = await store.put("box", "k", body, size=len(data) if is_sized else None)
            assert info.size == len(data)
            assert await store.get_bytes("box", "k") == data
            for wanted in ranges:
                expected = wanted_of(data, wanted)
                if expected is None:
                    with pytest.raises(InvalidRangeError):
                        await store.get_bytes("box", "k", range=wanted)
                    continue
                async with store.get("box", "k", range=wanted) as reader:
                    found = b"".join([chunk async for chunk in reader])
                    assert reader.info.size == len(data)
                    assert reader.info.encodings == info.encodings
                    assert reader.length in (None, len(expected))
                assert found == expected, wanted
                assert await store.get_bytes("box", "k", range=wanted) == expected
            assert "head" not in driver.verbs()
            assert driver.unclosed == 0

    run(work())


@pytest.mark.parametrize("stack", STACKS)
@settings(QUICK, max_examples=60)
@given(
    data=bodies(),
    ranges=st.lists(slices(), max_size=8),
    coalesce=st.sampled_from([0, 1, FRAME, 1 << 20]),
    concurrency=st.integers(1, 4),
    native=st.booleans(),
)
def test_many_ranges_are_each_that_slice(
    stack: str,
    data: bytes,
    ranges: list[slice],
    coalesce: int,
    concurrency: int,
    native: bool,
) -> None:
    async def work() -> None:
        driver = MemoryDriver() if native else Faulty()
        async with trove.open(driver, middleware=STACKS[stack]()) as store:
            await store.create_bucket("box")
            await store.put("box", "k", data)
            expected = [wanted_of(data, wanted) for wanted in ranges]
            asked = store.get_ranges("box", "k", ranges, coalesce=coalesce, concurrency=concurrency)
            if None in expected:
                with pytest.raises(InvalidRangeError):
                    await asked
            else:
                assert await asked == expected

    run(work())


# -- requests ------------------------------------------------------------------------------

DATA = bytes(range(256)) * 400  # more than any first request brings


async def opened(driver: Faulty, *layers: trove.Middleware) -> Trove:
    store = await trove.open(driver, middleware=layers, retry=RetryPolicy(base=0.001))
    await store.create_bucket("box")
    await store.put("box", "k", DATA)
    driver.forget()
    return store


async def range_of(store: Trove, start: int, stop: int | None, key: str = "k") -> bytes:
    found = await store.get_bytes("box", key, range=slice(start, stop))
    assert found == DATA[start:stop], (start, stop)
    return found


async def test_a_plain_range_costs_one_request() -> None:
    driver = Faulty()
    async with await opened(driver) as store:
        await range_of(store, 5000, 5100)
        assert driver.verbs() == ["get"]
        driver.forget()
        await range_of(store, -50, None)
        assert driver.verbs() == ["get"]


async def test_a_plain_range_costs_one_request_when_layers_apply_elsewhere() -> None:
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        await store.put("box", "k", DATA)
        store.use(Xor(), scope=keys("secret/*"))
        driver.forget()
        await range_of(store, 5000, 5100)
        assert driver.verbs() == ["get"]


async def test_a_cold_range_through_a_layer_costs_at_most_three_and_a_warm_one() -> None:
    driver = Faulty()
    async with await opened(driver, Xor()) as store:
        await range_of(store, 50_000, 50_100)
        assert len(driver.calls) <= 3
        assert set(driver.verbs()) == {"get"}
        moved = sum(body._given for body in driver.bodies)
        assert moved < 3 * 4096 + 3 * FRAME
        for start in (0, 70_000, 102_300):
            driver.forget()
            await range_of(store, start, start + 100)
            assert driver.verbs() == ["get"]
            assert sum(body._given for body in driver.bodies) <= 2 * (FRAME + 1)
        assert driver.unclosed == 0


async def test_two_seekable_layers_are_both_walked() -> None:
    class Inner(Xor):
        name = encoding = "inner"
        stage = Stage.TRANSFORM

    driver = Faulty()
    async with await opened(driver, Xor(), Inner()) as store:
        assert (await store.head("box", "k")).encodings == ("inner", "xor")
        driver.forget()
        await range_of(store, 50_000, 50_100)
        assert len(driver.calls) <= 3 + 2  # the inner layer's head is asked for through the outer
        driver.forget()
        await range_of(store, 20_000, 23_000)
        assert driver.verbs() == ["get"]


async def test_a_suffix_and_a_range_inside_the_first_answer_cost_no_more() -> None:
    driver = Faulty()
    async with await opened(driver, Xor()) as store:
        await range_of(store, -100, None)
        assert len(driver.calls) <= 2  # the end came with the table; the head is asked for


async def test_a_layer_that_cannot_seek_is_read_and_cut() -> None:
    driver = Faulty()
    async with await opened(driver, Flip()) as store:
        await range_of(store, 50_000, 50_100)
        assert len(driver.calls) <= 2
        assert driver.unclosed == 0


async def test_a_stale_layout_is_made_anew() -> None:
    driver = Faulty()
    async with await opened(driver, Xor()) as store:
        await range_of(store, 50_000, 50_100)
        other = DATA[::-1]
        async with trove.open(driver.driver, middleware=[Xor()]) as second:
            await second.put("box", "k", other[:-3])
            driver.driver._closed = False  # type: ignore[attr-defined]  # two stores, one driver
            driver.forget()
            found = await store.get_bytes("box", "k", range=slice(50_000, 50_100))
        assert found == other[50_000:50_100]
        assert len(driver.calls) <= 4
        assert set(driver.verbs()) == {"get"}
        assert driver.unclosed == 0


async def test_an_object_encoded_where_nothing_is_expected_is_still_decoded() -> None:
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        store.use(Xor(), scope=keys("k"))
        await store.put("box", "k", DATA)
        store.remove("xor")
        store.use(Xor(), scope=keys("elsewhere/*"))
        driver.forget()
        await range_of(store, 50_000, 50_100)
        assert len(driver.calls) <= 4
        await range_of(store, -100, None)
        await range_of(store, 0, 10)
        assert driver.unclosed == 0


@pytest.mark.parametrize("is_expected", [True, False])
async def test_a_range_past_the_stored_bytes_may_be_inside_the_object(is_expected: bool) -> None:
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        zeros = bytes(200_000)
        store.use(Flip())
        info = await store.put("box", "k", zeros)
        assert info.stored_size < 5000
        if not is_expected:
            store.remove("flip")
            store.use(Flip(), scope=keys("elsewhere/*"))
        found = await store.get_bytes("box", "k", range=slice(150_000, 150_010))
        assert found == bytes(10)
        with pytest.raises(InvalidRangeError):
            await store.get_bytes("box", "k", range=slice(200_000, None))
        assert driver.unclosed == 0
        assert "head" not in driver.verbs()


@pytest.mark.parametrize("layer", [None, Xor])
async def test_bad_ranges_are_refused_before_any_request(layer: type[Xor] | None) -> None:
    driver = Faulty()
    async with await opened(driver, *([layer()] if layer else [])) as store:
        for wrong in (slice(0, 10, 2), slice(0, -1), slice(5, 3), slice(-5, 3)):
            with pytest.raises(ValueError):
                await store.get_bytes("box", "k", range=wrong)
        untyped: list[Any] = [(0, 5), slice("a", None), slice(1.5, None), slice(True, None)]
        for item in untyped:
            with pytest.raises(TypeError):
                await store.get_bytes("box", "k", range=item)
        assert driver.calls == []
        for beyond in (slice(1 << 63, None), slice(1 << 70, 1 << 71)):
            with pytest.raises(InvalidRangeError):
                await store.get_bytes("box", "k", range=beyond)
        assert await store.get_bytes("box", "k", range=slice(1 << 70, 1 << 70)) == b""
        assert await store.get_bytes("box", "k", range=slice(5, 1 << 70)) == DATA[5:]
        assert await store.get_bytes("box", "k", range=slice(-(1 << 70), None)) == DATA
        assert await store.get_bytes("box", "k", range=slice(None, 3)) == DATA[:3]
        assert await store.get_bytes("box", "k", range=slice(7, 7)) == b""
        far = slice(len(DATA), len(DATA))
        assert await store.get_bytes("box", "k", range=far) == b""


@pytest.mark.parametrize("stack", STACKS)
async def test_an_empty_object_has_empty_ranges(stack: str) -> None:
    async with trove.open("mem://", middleware=STACKS[stack]()) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"")
        for wanted in (slice(0, None), slice(0, 10), slice(-5, None), slice(3, 3)):
            assert await store.get_bytes("box", "k", range=wanted) == b"", wanted
        with pytest.raises(InvalidRangeError):
            await store.get_bytes("box", "k", range=slice(1, None))


async def test_a_layer_that_was_removed_does_not_live_on_in_a_known_layout() -> None:
    async with await opened(Faulty(), Xor()) as store:
        await range_of(store, 50_000, 50_100)
        store.remove("xor")
        store.use(Flip())
        with pytest.raises(trove.UnknownEncodingError):
            await store.get_bytes("box", "k", range=slice(50_000, 50_100))


# -- overwritten in between ----------------------------------------------------------------


class Switching(Faulty):
    """Replaces the object after the n-th get."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after
        self.other: Trove | None = None

    async def get(self, bucket: str, key: str, options: GetOptions) -> trove.RawObject:
        raw = await super().get(bucket, key, options)
        self.after -= 1
        if self.after == 0 and self.other is not None:
            await self.other.put("box", "k", DATA[::-1])
        return raw


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("attempts", [1, 4])
async def test_overwritten_between_requests_gives_one_version_or_says_so(
    after: int, stack: str, attempts: int
) -> None:
    driver = Switching(0)
    retry = RetryPolicy(attempts=attempts, base=0.001)
    async with trove.open(driver, middleware=STACKS[stack](), retry=retry) as store:
        await store.create_bucket("box")
        await store.put("box", "k", DATA)
        driver.after, driver.other = after, store
        versions = (DATA, DATA[::-1])
        for wanted in (slice(50_000, 56_000), slice(90_000, 102_000)):
            try:
                async with store.get("box", "k", range=wanted) as reader:
                    found = await reader.read()
            except ObjectChangedError:
                continue
            assert found in [version[wanted] for version in versions]
        driver.after = after
        ranges = [slice(0, 10), slice(40_000, 40_010), slice(90_000, 90_010)]
        await store.put("box", "k", DATA)
        try:
            several = await store.get_ranges("box", "k", ranges, coalesce=0)
        except ObjectChangedError:
            return
        assert several in [[version[wanted] for wanted in ranges] for version in versions]


async def test_native_ranges_of_a_replaced_object_say_that_it_changed() -> None:
    class Replacing(MemoryDriver):
        async def get_ranges(self, bucket: str, key: str, ranges: Any, options: Any) -> Any:
            await self.put(bucket, key, trove_chunk(b"other"), trove.PutOptions())
            return await super().get_ranges(bucket, key, ranges, options)

    def trove_chunk(data: bytes) -> Any:
        from trove_async._chunks import OneChunk

        return OneChunk(data)

    async with trove.open(Replacing(), retry=RetryPolicy(attempts=1)) as store:
        await store.create_bucket("box")
        await store.put("box", "k", DATA)
        with pytest.raises(ObjectChangedError):
            await store.get_ranges("box", "k", [slice(0, 5), slice(90_000, 90_005)])


# -- four ways -----------------------------------------------------------------------------


@pytest.fixture
async def layered() -> AsyncIterator[tuple[Trove, Faulty]]:
    driver = Faulty(chunk=500)
    async with await opened(driver, Xor()) as store:
        yield store, driver


async def test_a_ranged_reader_that_stops_early_is_closed(layered: tuple[Trove, Faulty]) -> None:
    store, driver = layered
    async with store.get("box", "k", range=slice(10_000, 60_000)) as reader:
        async for _ in reader:
            break
    assert driver.unclosed == 0
    async with store.get("box", "k", range=slice(10_000, 60_000)):
        pass
    assert driver.unclosed == 0


async def test_a_ranged_reader_whose_source_fails_is_closed(layered: tuple[Trove, Faulty]) -> None:
    store, driver = layered
    await range_of(store, 0, 10)
    driver.body(0, "corrupt")  # the tag of the first frame
    with pytest.raises(trove.IntegrityError):
        await store.get_bytes("box", "k", range=slice(10_000, 60_000))
        driver.body(0, "corrupt")
        await store.get_bytes("box", "k", range=slice(0, 60_000))
    assert driver.unclosed == 0


async def test_a_cancelled_ranged_read_is_closed(layered: tuple[Trove, Faulty]) -> None:
    store, driver = layered
    await range_of(store, 0, 10)
    driver.body(20_000, "hang")
    task = asyncio.create_task(store.get_bytes("box", "k", range=slice(10_000, 60_000)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert driver.unclosed == 0


async def test_an_observer_sees_the_range_that_is_read(layered: tuple[Trove, Faulty]) -> None:
    store, driver = layered
    seen = Observer()
    store.use(seen)
    await range_of(store, 10_000, 60_000)
    assert seen.seen == DATA[10_000:60_000]
    assert driver.unclosed == 0
