"""ADAPTIVE and the parts of a resumable upload: as many at once as the backend takes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

import trove_async as trove
from trove_async import Backpressure, Chunks, KiB, PartInfo, StreamDirection
from trove_async.drivers.memory import MemoryDriver
from trove_async.stream.width import Width

PART = 64 * KiB


def widths(most: int, rounds: int, capacity: Any) -> list[int]:
    """``capacity(round)``: parts a second the backend takes in all; one connection takes 10."""
    time = [0.0]
    width = Width(most, lambda: time[0])
    seen = []
    for number in range(rounds):
        count = width.now
        seen.append(count)
        time[0] += count / min(10 * count, capacity(number))
        for _ in range(count):
            width.sent(PART)
    return seen


def test_it_grows_while_that_makes_it_faster() -> None:
    assert widths(8, 12, lambda _: 1000)[-1] == 8
    assert widths(1, 5, lambda _: 1000) == [1] * 5


def test_it_rests_where_more_brings_nothing() -> None:
    seen = widths(16, 40, lambda _: 35)
    assert max(seen[:10]) <= 5
    assert max(seen) <= 10, "looks again now and then"


def test_it_shrinks_when_the_backend_slows_down() -> None:
    seen = widths(8, 60, lambda number: 1000 if number < 10 else 1000 * 0.7 ** (number - 9))
    assert max(seen) == 8 and min(seen[10:]) <= 2


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
