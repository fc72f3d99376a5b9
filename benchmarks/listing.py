"""What a page of a listing costs in a large folder, and whether the loop is held up.

python benchmarks/listing.py [--quick] [--root DIR]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from _harness import Report, Side, arguments, compete, in_tasks

import trove_async as trove

PAGE = 100
MOST_STALL = 0.05
BOUND = {
    "page": "opening, stating and reading the record of 100 files",
    "cold": "reading the names of the folder (one scandir), then finding the first 100 of them",
    "stall": "the worker's share of the interpreter lock; then making a page of 1,000 entries",
}


def flat(count: int) -> list[str]:
    return [f"object-{number:06}" for number in range(count)]


def nested(count: int) -> list[str]:
    return [f"folder-{number // 1000:03}/object-{number:06}" for number in range(count)]


def dsn(root: Path) -> str:
    return f"file://{root}?durability=none"


async def fill(store: trove.Trove, bucket: str, keys: list[str]) -> None:
    await store.create_bucket(bucket)
    await in_tasks(16, len(keys), lambda number: store.put(bucket, keys[number], b""))


async def first_page(store: trove.Trove, bucket: str) -> None:
    page = await store.list_page(bucket, page_size=PAGE)
    assert len(page.objects) == PAGE


def warm(store: trove.Trove, bucket: str) -> Callable[[int], Awaitable[object]]:
    return lambda count: in_tasks(1, count, lambda number: first_page(store, bucket))


class Cold:
    """A new driver for each page: nothing is remembered. Opening it is not measured."""

    def __init__(self, root: Path, bucket: str) -> None:
        self.root = root
        self.bucket = bucket
        self.store: trove.Trove | None = None

    async def prepare(self) -> None:
        if self.store is not None:
            await self.store.aclose()
        self.store = await trove.open(dsn(self.root))

    async def run(self, count: int) -> None:
        assert self.store is not None and count == 1
        await first_page(self.store, self.bucket)

    async def close(self) -> None:
        if self.store is not None:
            await self.store.aclose()


def scanning(folder: Path) -> Callable[[int], Awaitable[object]]:
    async def run(count: int) -> None:
        for _ in range(count):
            with os.scandir(folder) as entries:
                names = [entry.name for entry in entries]
            assert len(names) >= 1000

    return run


@dataclass(slots=True)
class Stall:
    """The longest gap between two turns of the loop, and the most CPU its thread used in one:
    a gap that is much longer than that was spent waiting for the interpreter or for a core."""

    wall: float = 0.0
    cpu: float = 0.0


@asynccontextmanager
async def heartbeat() -> AsyncIterator[Stall]:
    stall = Stall()

    async def beat() -> None:
        last, used = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now, spent = time.perf_counter(), time.thread_time()
            stall.wall, stall.cpu = max(stall.wall, now - last), max(stall.cpu, spent - used)
            last, used = now, spent

    task = asyncio.create_task(beat())
    await asyncio.sleep(0.01)
    stall.wall = stall.cpu = 0.0
    try:
        yield stall
        await asyncio.sleep(0.002)  # so that a gap at the end is seen
    finally:
        task.cancel()
        await asyncio.wait([task])


async def pages(report: Report, root: Path, many: int, rounds: int) -> None:
    names = {
        "few": "among 1,000 in one folder",
        "folders": f"among {many:,} in folders of 1,000",
        "flat": f"among {many:,} in one folder",
    }
    async with trove.open(dsn(root)) as store:
        sides = {b: Side(name, warm(store, b), "note") for b, name in names.items()}
        await compete([*sides.values()], 20, rounds)
    report.table(f"First page of {PAGE}, warm", [*sides.values()])
    compared(report, "warm", sides["folders"], sides["few"], 1.5, "page")
    compared(report, "warm", sides["flat"], sides["few"], 1.5, "page")
    colds = {bucket: Cold(root, bucket) for bucket in names}
    for cold in colds.values():
        await cold.prepare()
    sides = {b: Side(name, colds[b].run, "note", colds[b].prepare) for b, name in names.items()}
    scan = Side(f"one scandir of the folder of {many:,}", scanning(root / "flat"), "floor")
    await compete([*sides.values(), scan], 1, rounds)
    for cold in colds.values():
        await cold.close()
    report.table(f"First page of {PAGE}, cold", [*sides.values(), scan])
    compared(report, "cold", sides["folders"], sides["few"], 1.5, "page")
    compared(report, "cold", sides["flat"], scan, 1.3, "cold")


def compared(
    report: Report, temperature: str, side: Side, base: Side, most: float, bound: str
) -> None:
    """By medians; the ratio of CPU times is what other load on the machine distorts least."""
    ratio = side.median / base.median
    used = statistics.median(side.cpu) / statistics.median(base.cpu)
    report.judge(
        f"first page, {temperature}, {side.name}",
        f"{ratio:.2f}x {base.name} (CPU {used:.2f}x)",
        f"at most {most:g}x",
        ratio <= most,
        BOUND[bound],
    )


async def walk(store: trove.Trove, bucket: str) -> int:
    count = 0
    async for _ in store.list(bucket):
        count += 1
    return count


async def stalls(report: Report, root: Path, many: int, rounds: int) -> None:
    report.say("### Longest the loop was held, ms")
    report.say()
    report.say("| while | least | median | most | CPU of the loop's thread, most |")
    report.say("|---|---|---|---|---|")
    held: dict[str, float] = {}
    for name, act in (
        ("nothing (the machine's own)", lambda store: asyncio.sleep(0.3)),
        ("the first page of the flat folder, cold", lambda store: first_page(store, "flat")),
        ("the whole flat folder", lambda store: walk(store, "flat")),
        ("all folders", lambda store: walk(store, "folders")),
    ):
        found: list[Stall] = []
        for _ in range(rounds):
            async with trove.open(dsn(root)) as store, heartbeat() as stall:
                await act(store)
            found.append(stall)
        walls = sorted(stall.wall * 1000 for stall in found)
        used = max(stall.cpu for stall in found) * 1000
        held[name] = walls[0]
        report.say(
            f"| {name} | {walls[0]:.1f} | {walls[len(walls) // 2]:.1f} | {walls[-1]:.1f} "
            f"| {used:.1f} |"
        )
    report.say()
    idle, *rest = held.values()
    most = max(rest)
    report.judge(
        f"loop held while listing {many:,} (least of {rounds} runs: other load holds it too)",
        f"{most:.0f} ms (idle: {idle:.0f} ms)",
        f"at most {MOST_STALL * 1000:g} ms",
        most <= MOST_STALL * 1000,
        BOUND["stall"],
    )


async def bench(*, quick: bool, base: str) -> bool:
    report = Report("listing")
    many, rounds = (10_000, 5) if quick else (100_000, 9)
    root = Path(tempfile.mkdtemp(prefix="trove-bench-", dir=base))
    report.say(
        f"Objects below {base}, each with its record; entries carry what `head` says. Warm: the "
        "driver has listed the folder before. Cold: it has just been opened."
    )
    report.say()
    try:
        async with trove.open(dsn(root)) as store:
            await fill(store, "few", flat(1000))
            await fill(store, "folders", nested(many))
            await fill(store, "flat", flat(many))
        await pages(report, root, many, rounds)
        await stalls(report, root, many, 5)
    finally:
        shutil.rmtree(root)
    met = report.finish()
    if not quick:
        report.save()
    return met


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--root", default="/dev/shm", help="where the objects go")
    options = parser.parse_args()
    if not asyncio.run(bench(quick=options.quick, base=options.root)):
        print("not every target was met", file=sys.stderr)


if __name__ == "__main__":
    main()
