"""ADAPTIVE and the parts of a resumable upload: as many at once as the backend takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

import trove_async as trove
from trove_async import Backpressure, Chunks, KiB, PartInfo, StreamDirection
from trove_async.drivers.memory import MemoryDriver
from trove_async.stream.width import Width

PART = 64 * KiB


def widths(
    most: int, rounds: int, capacity: Callable[[int], float], alone: float = 10
) -> list[int]:
    """How many were on their way, round by round. ``capacity(round)``: parts a second the
    backend takes in all; one connection takes ``alone``."""
    time = [0.0]
    width = Width(most, lambda: time[0])
    seen = []
    for number in range(rounds):
        count = width.now
        seen.append(count)
        took = count / min(alone * count, capacity(number))
        time[0] += took
        for _ in range(count):
            width.sent(PART, took * 0.999999)
    return seen


def test_it_grows_while_that_makes_it_faster() -> None:
    assert widths(8, 12, lambda _: 1000) == [2, 3, 4, 5, 6, 7, 8, 8, 8, 8, 8, 8]
    assert widths(1, 5, lambda _: 1000) == [1] * 5


def test_every_sixteenth_round_looks_what_a_part_takes_when_few_are_on_their_way() -> None:
    seen = widths(8, 60, lambda _: 1000)
    assert [number for number, count in enumerate(seen) if count == 4 and number > 3] == [
        16,
        33,
        50,
    ]
    assert set(seen[7:]) == {8, 4}


@pytest.mark.parametrize("capacity", [10, 35, 50, 80])
def test_it_rests_at_one_more_than_the_backend_works_on(capacity: int) -> None:
    seen = widths(16, 400, lambda _: capacity)
    usual = -(-capacity // 10) + 1
    assert set(seen[20:]) == {usual, usual // 2}, "for ever"


@pytest.mark.parametrize(("first", "second"), [(80, 20), (20, 80), (50, 10), (30, 60)])
def test_it_follows_a_change_of_speed(first: int, second: int) -> None:
    seen = widths(12, 80, lambda number: first if number < 40 else second)
    for part, capacity in ((seen[20:40], first), (seen[50:], second)):
        assert sorted(part)[len(part) // 2] == capacity // 10 + 1
    if second < first:
        assert seen[41] == second // 10 + 1, "at once"


def test_a_round_that_was_slow_by_chance_is_soon_forgotten() -> None:
    seen = widths(8, 40, lambda number: 20 if number == 20 else 1000)
    assert seen[19:28] == [8, 8, 3, 4, 5, 6, 7, 8, 8]


def test_slower_connections_are_told_from_a_slower_backend() -> None:
    """Each takes a tenth from now on: many are as good as before, once that is known."""
    time = [0.0]
    width = Width(8, lambda: time[0])
    seen = []
    for number in range(120):
        count = width.now
        seen.append(count)
        took = 0.1 if number < 30 else 1.0
        time[0] += took
        for _ in range(count):
            width.sent(PART, took * 0.999999)
    assert seen[29] == 8 and min(seen[30:]) == 1 and seen[-40:].count(8) > 30


def test_a_clock_that_stands_still_stops_nothing() -> None:
    width = Width(4, lambda: 1.0)
    for _ in range(40):
        width.sent(PART, 0.0)
    assert width.now >= 2


class Far(MemoryDriver):
    """Takes parts side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.features = replace(self.features, min_part_size=1)
        self.under_way = 0
        self.seen: list[int] = []

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self.under_way += 1
        self.seen.append(self.under_way)
        try:
            await asyncio.sleep(0.005)
            return await super().upload_part(bucket, key, upload_id, number, body, size)
        finally:
            self.under_way -= 1


@pytest.mark.parametrize("policy", [Backpressure.ADAPTIVE, Backpressure.BLOCK])
async def test_a_resumable_stream_follows_the_backend(policy: Backpressure) -> None:
    driver = Far()
    data = bytes(range(256)) * 256 * 24
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        async with store.stream(
            *("box", "k", StreamDirection.UPLOAD),
            backpressure=policy,
            resumable=True,
            part_size=PART,
            concurrency=6,
        ) as stream:
            await stream.write(data)
        assert await store.get_bytes("box", "k") == data
    if policy is Backpressure.BLOCK:
        assert max(driver.seen) == 6
    else:
        assert max(driver.seen[:3]) == 2, "it begins at two"
        assert max(driver.seen) >= 3
