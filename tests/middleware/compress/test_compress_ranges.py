"""Round trips and ranges, for every cut of every size."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.middleware.compress.zst import (
    Below,
    every,
    layout_of,
    noise,
    parsed,
    ranged,
    read,
    text,
    written,
)
from trove_async.middleware.compress import Compress

QUICK = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
MiB = 1 << 20

sizes = st.one_of(
    st.integers(0, 200), st.sampled_from([63, 64, 65, 191, 192, 193, 960]), st.integers(0, 6000)
)
cuts = st.lists(st.integers(1, 900), max_size=4)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    size, salt = draw(sizes), draw(st.integers(0, 9))
    return text(size, salt) if draw(st.booleans()) else noise(size, salt)


@QUICK
@given(
    data=bodies(),
    frame_size=st.sampled_from([1, 7, 64, 1000, 1 << 20]),
    growth_after=st.integers(0, 4),
    write_cuts=cuts,
    read_cuts=cuts,
    is_sized=st.booleans(),
    level=st.sampled_from([-3, 1, 3, 12]),
)
def test_what_is_written_is_read_however_it_is_cut(
    data: bytes,
    frame_size: int,
    growth_after: int,
    write_cuts: list[int],
    read_cuts: list[int],
    is_sized: bool,
    level: int,
) -> None:
    async def work() -> None:
        layer = every(frame_size=frame_size, growth_after=growth_after, level=level)
        found = await written(layer, data, write_cuts, is_sized=is_sized)
        assert parsed(found.stored).size == len(data)
        assert await read(Compress(), found.stored, read_cuts) == data
        whole = await written(layer, data)
        assert whole.stored == found.stored, "chunking changes nothing"

    asyncio.run(work())


@QUICK
@given(
    data=bodies(),
    frame_size=st.sampled_from([1, 7, 64, 1000, 1 << 20]),
    growth_after=st.integers(0, 4),
    spans=st.lists(st.tuples(st.integers(0, 6500), st.integers(0, 6500)), min_size=1, max_size=8),
    piece=st.sampled_from([1, 50, 1 << 20]),
)
def test_a_range_is_that_slice(
    data: bytes,
    frame_size: int,
    growth_after: int,
    spans: list[tuple[int, int]],
    piece: int,
) -> None:
    async def work() -> None:
        layer = every(frame_size=frame_size, growth_after=growth_after)
        stored = (await written(layer, data)).stored
        layout = await layout_of(Compress(), stored)
        assert layout.size == len(data)
        for span in spans:
            start, stop = (min(end, len(data)) for end in sorted(span))
            below = Below(stored, piece)
            assert await ranged(layout, below, start, stop) == data[start:stop]
            assert len(below.asked) == (start < stop), "one span, or nothing at all"
            assert below.open == 0

    asyncio.run(work())


async def test_a_range_reads_and_decodes_only_the_frames_it_touches() -> None:
    data = text(100_000)
    stored = (await written(every(frame_size=1000, growth_after=0), data)).stored
    layout = await layout_of(Compress(), stored)
    frames = parsed(stored).frames
    below = Below(stored)
    assert await ranged(layout, below, 41_999, 43_001) == data[41_999:43_001]
    low = 24 + sum(map(len, frames[:41]))
    assert below.asked == [(low, low + sum(map(len, frames[41:44])))]
    # Frames outside the span may be broken: they are not looked at.
    broken = bytearray(stored)
    broken[24:low] = bytes(low - 24)
    assert await ranged(layout, bytes(broken), 41_999, 43_001) == data[41_999:43_001]


async def test_large_frames_are_decoded_side_by_side_and_come_in_order() -> None:
    data = text(4 * MiB)
    stored = (await written(every(frame_size=200_000, growth_after=0), data, [77_777])).stored
    assert await read(Compress(), stored, [5000]) == data
    layout = await layout_of(Compress(), stored)
    for start, stop in [(0, len(data)), (199_999, 1_200_001), (1, 2), (3_900_000, len(data))]:
        assert await ranged(layout, Below(stored, 10_000), start, stop) == data[start:stop]


async def test_ranges_through_a_store_take_few_requests() -> None:
    driver = Faulty()
    async with trove.open(driver, middleware=[Compress(frame_size=10_000)]) as store:
        await store.create_bucket("box")
        data = text(2_000_000)
        info = await store.put("box", "k", data)
        assert info.encodings == ("zstd",)
        assert info.stored_size > 150_000
        seen = len(driver.verbs())
        assert (
            await store.get_bytes("box", "k", range=slice(500_000, 500_100))
            == (data[500_000:500_100])
        )
        assert driver.verbs()[seen:] == ["get", "get"], "tail, data"
        assert await store.get_bytes("box", "k", range=slice(20, 30)) == data[20:30]
        assert driver.verbs()[seen:] == ["get", "get", "get"], "the layout is known"
        assert await store.get_bytes("box", "k", range=slice(-10, None)) == data[-10:]
        assert driver.unclosed == 0


async def test_the_suffix_and_the_clamp_are_those_of_a_plain_object() -> None:
    async with trove.open("mem://", middleware=[every()]) as store:
        await store.create_bucket("box")
        data = text(1000)
        await store.put("box", "k", data)
        assert await store.get_bytes("box", "k", range=slice(900, 5000)) == data[900:]
        assert await store.get_bytes("box", "k", range=slice(-5000, None)) == data
        assert await store.get_bytes("box", "k", range=slice(5, 5)) == b""
        with pytest.raises(trove.InvalidRangeError):
            await store.get_bytes("box", "k", range=slice(1000, 1001))


async def test_a_range_of_a_foreign_layout_past_its_end_is_clamped() -> None:
    stored = (await written(every(), text(100))).stored
    layout = await layout_of(Compress(), stored)
    assert await ranged(layout, stored, 50, 1 << 40) == text(100)[50:]
    assert await ranged(layout, stored, 100, 200) == b""
