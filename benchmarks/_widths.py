"""ADAPTIVE against fixed numbers of parts at once, before a backend that changes its speed, in a
loop whose time is computed: the result is the same on every machine.

The model: one connection takes at most 5 parts a second; all together they take 40 a second, after
30 s 10, after 30 s more 25, and again. Parts that are on their way at once share that evenly. Each
part takes up to 20 % more or less than that, by a seeded chance. So 8, 2 and 5 at once are the
fewest that reach all of the speed. The store, the stream and the upload are the real ones.
"""

from __future__ import annotations

import asyncio
import random
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from _harness import Report
from _plot import Line, svg

import trove_async as trove
from trove_async import Backpressure, Chunks, PartInfo, StreamDirection
from trove_async.drivers.memory import MemoryDriver

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stream.clock import in_clockwork

CONNECTION = 5.0
SPEEDS = (40.0, 10.0, 25.0)
PHASE = 30.0
NOISE = 0.2
PART = 1024
PARTS = 4000
MOST = 12
SLICES = 10


def speed(at: float) -> float:
    """Parts a second of the whole backend."""
    return SPEEDS[int(at / PHASE) % len(SPEEDS)]


@dataclass
class Moved:
    seconds: float = 0.0
    held: float = 0.0
    """Parts on their way, mean over time."""
    samples: list[tuple[float, float]] = field(default_factory=list)
    """When a part began or ended, and how many were then on their way."""


class Changing(MemoryDriver):
    def __init__(self) -> None:
        super().__init__()
        self.features = replace(self.features, min_part_size=1, max_parts=None)
        self.under_way = 0
        self.moved = Moved()
        self._chance = random.Random(1)
        self._last = 0.0

    def _changed(self, by: int) -> None:
        now = asyncio.get_running_loop().time()
        self.moved.held += self.under_way * (now - self._last)
        self._last = now
        self.under_way += by
        self.moved.samples.append((now, float(self.under_way)))

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        loop = asyncio.get_running_loop()
        self._changed(1)
        try:
            assert size == PART, "the model counts parts of one size"
            work = self._chance.uniform(1 - NOISE, 1 + NOISE)
            for _ in range(SLICES):
                rate = min(CONNECTION, speed(loop.time()) / self.under_way)
                await asyncio.sleep(work / SLICES / rate)
            return await super().upload_part(bucket, key, upload_id, number, body, size)
        finally:
            self._changed(-1)


async def _uploaded(policy: Backpressure, concurrency: int) -> Moved:
    driver = Changing()
    loop = asyncio.get_running_loop()
    async with trove.open(driver, checksum=None) as store:
        await store.create_bucket("box")
        began = loop.time()
        async with store.stream(
            *("box", "k", StreamDirection.UPLOAD),
            backpressure=policy,
            resumable=True,
            part_size=PART,
            concurrency=concurrency,
        ) as stream:
            for _ in range(PARTS):
                await stream.write(bytes(PART))
        moved = driver.moved
        moved.seconds = loop.time() - began
        moved.held /= moved.seconds
    return moved


def widths(report: Report, plot: Path | None) -> None:
    adaptive = in_clockwork(_uploaded(Backpressure.ADAPTIVE, MOST))
    fixed = {n: in_clockwork(_uploaded(Backpressure.BLOCK, n)) for n in (2, 4, 8, MOST)}
    report.say(f"### Parts at once of an upload to a backend of {SPEEDS} parts a second in turn")
    report.say()
    report.say("| parts at once | seconds | parts/s | on their way, mean |")
    report.say("|---|---|---|---|")
    sides = {f"adaptive, up to {MOST}": adaptive, **{f"{n}, fixed": m for n, m in fixed.items()}}
    for name, moved in sides.items():
        rate = PARTS / moved.seconds
        report.say(f"| {name} | {moved.seconds:.0f} | {rate:.1f} | {moved.held:.1f} |")
    report.say()
    best = min(fixed.values(), key=lambda moved: moved.seconds)
    share, held = best.seconds / adaptive.seconds, adaptive.held / best.held
    report.judge(
        "parts at once, a backend of changing speed",
        f"{share:.0%} of the best fixed number's speed with {held:.0%} of its parts on their way",
        "90 % with fewer",
        share >= 0.9 and held < 1,
        "one more than needed, and a round in sixteen that looks",
    )
    if plot is not None:
        end = adaptive.seconds
        ideal = [(at, speed(at) / CONNECTION) for at in range(int(end))]
        plot.write_text(
            svg(
                "parts on their way at once",
                [
                    Line("ADAPTIVE", _smooth(adaptive.samples), "#2471a3"),
                    Line("fewest that reach all of the speed", ideal, "#c0392b", is_stepped=True),
                ],
                lambda value: f"{value:.0f}",
            )
        )


def _smooth(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The most in each second: between two parts there is one fewer for a moment."""
    most: dict[int, float] = {}
    for at, value in samples:
        most[int(at)] = max(value, most.get(int(at), 0.0))
    return sorted((float(at), value) for at, value in most.items())
