"""How the benchmarks measure: ours and the peers in one process, in turns.

Each round runs every side once, in an order of its own, so that neither warmth nor a busy
neighbour nor anything that comes back after so many seconds favours one. CPU time is that of
all threads of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

RESULTS = Path(__file__).with_name("RESULTS.md")
MiB = 1024 * 1024


@dataclass(slots=True)
class Side:
    """One contestant. ``run`` does the operation ``count`` times."""

    name: str
    run: Callable[[int], Awaitable[object]]
    kind: str = "peer"
    """``ours``, ``peer`` (counts for the ratio), ``floor``, or ``note`` (is only shown)."""
    clean: Callable[[], Awaitable[object]] | None = None
    """After each round, outside the measured time."""
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds per operation, one entry per round."""

    @property
    def median(self) -> float:
        return statistics.median(self.wall)


@dataclass(slots=True)
class Outcome:
    """One line of the table of targets."""

    question: str
    reached: str
    target: str
    met: bool
    bound: str


async def compete(
    sides: Sequence[Side],
    count: int,
    rounds: int,
    warm: int | None = None,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Fills ``wall`` and ``cpu`` of each side. ``prepare`` comes before each measured run, so
    that all begin alike."""
    for side in sides:
        await side.run(warm if warm is not None else max(1, count // 10))
        if side.clean is not None:
            await side.clean()
    for number in range(rounds):
        for side in random.Random(number).sample(sides, len(sides)):
            gc.collect()
            if prepare is not None:
                prepare()
            cpu, wall = time.process_time(), time.perf_counter()
            await side.run(count)
            side.wall.append((time.perf_counter() - wall) / count)
            side.cpu.append((time.process_time() - cpu) / count)
            if side.clean is not None:
                await side.clean()


def best_peer(sides: Sequence[Side]) -> Side:
    return min((side for side in sides if side.kind == "peer"), key=lambda side: side.median)


def one(sides: Sequence[Side], kind: str) -> Side:
    return next(side for side in sides if side.kind == kind)


class Report:
    """Prints as it goes; `save` puts it into its section of RESULTS.md."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.lines: list[str] = []
        self.outcomes: list[Outcome] = []

    def say(self, text: str = "") -> None:
        print(text, flush=True)
        self.lines.append(text)

    def table(self, question: str, sides: Sequence[Side], size: int = 0) -> None:
        """Rates per second; with ``size`` (bytes of one operation) in GB/s."""
        self.say(f"### {question}")
        self.say()
        unit = "GB/s" if size else "ops/s"
        cost = "CPU s" if size else "CPU µs/op"
        self.say(f"| side | min {unit} | median | max | {cost} | ours is |")
        self.say("|---|---|---|---|---|---|")
        ours = next((side for side in sides if side.kind == "ours"), None)
        for side in sides:
            low, middle, high = (
                _rate(value, size) for value in (max(side.wall), side.median, min(side.wall))
            )
            cpu = statistics.median(side.cpu)
            spent = f"{cpu:.2f}" if size else f"{cpu * 1e6:.1f}"
            ratio = "" if ours is None or ours is side else f"{side.median / ours.median:.2f}x"
            self.say(f"| {side.name} | {low} | {middle} | {high} | {spent} | {ratio} |")
        self.say()

    def versus(self, question: str, sides: Sequence[Side], target: float, bound: str) -> None:
        """Ours against the best of the peers, by medians."""
        ours, peer = one(sides, "ours"), best_peer(sides)
        ratio = peer.median / ours.median
        quiet = min(peer.wall) / min(ours.wall)
        used = statistics.median(peer.cpu) / statistics.median(ours.cpu)
        reached = f"{ratio:.2f}x {peer.name} (best rounds {quiet:.2f}x, CPU {used:.2f}x)"
        floors = [side for side in sides if side.kind == "floor"]
        if floors:
            reached += f", {floors[0].median / ours.median:.2f} of the floor"
        self.judge(question, reached, f"{target:g}x the best peer", ratio >= target, bound)

    def judge(self, question: str, reached: str, target: str, met: bool, bound: str) -> None:
        self.outcomes.append(Outcome(question, reached, target, met, bound))

    def finish(self) -> bool:
        """Prints what was reached; True when every target was."""
        self.say("### Reached")
        self.say()
        self.say("| question | reached | target | met | what bounds it |")
        self.say("|---|---|---|---|---|")
        for outcome in self.outcomes:
            met = "yes" if outcome.met else "NO"
            self.say(
                f"| {outcome.question} | {outcome.reached} | {outcome.target} | {met} "
                f"| {outcome.bound} |"
            )
        self.say()
        return all(outcome.met for outcome in self.outcomes)

    def save(self) -> None:
        mark = f"<!-- {self.title} -->\n"
        end = f"<!-- end of {self.title} -->\n"
        text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else "# Results\n\n"
        body = mark + f"## {self.title}\n\n" + "\n".join([_machine(), "", *self.lines, ""]) + end
        start, stop = text.find(mark), text.find(end)
        if start < 0 or stop < 0:
            text = text.rstrip("\n") + "\n\n" + body
        else:
            text = text[:start] + body + text[stop + len(end) :]
        RESULTS.write_text(text, encoding="utf-8")
        print(f"written to {RESULTS}")


def _rate(seconds: float, size: int) -> str:
    return f"{size / seconds / 1e9:.2f}" if size else f"{1 / seconds:,.0f}"


def _machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    names = ("trove-async", "obstore", "opendal", "aiofiles")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    today = datetime.now(UTC).date().isoformat()
    load = os.getloadavg()[0]
    busy = ""
    if load > 1.5 * len(os.sched_getaffinity(0)):
        busy = (
            " **Other work kept the machine busy**: a side with many threads then gets more of it "
            "than one with a single thread, so look at the CPU column."
        )
    return (
        f"{today}, {len(os.sched_getaffinity(0))} CPUs of {model}, load {load:.1f}, "
        f"Linux {platform.release()}, Python {platform.python_version()}, {versions}.{busy}"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


# -- memory of one side, in a process of its own -------------------------------------------


def peak_growth(script: str, side: str, *arguments: str) -> float:
    """MiB that ``python script --rss-of side`` grew by at its peak."""
    command = [sys.executable, script, "--rss-of", side, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


async def measured_growth(work: Callable[[], Awaitable[object]]) -> float:
    """In the child: MiB by which the peak exceeds what was there before ``work``."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (proc(5))
    before = _status("VmRSS")
    await work()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise LookupError(name)


# -- small things ---------------------------------------------------------------------------


def arguments(description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small and few; nothing is saved")
    return parser


async def in_tasks(tasks: int, count: int, one: Callable[[int], Awaitable[object]]) -> None:
    """``one(0)`` to ``one(count - 1)``, by so many tasks."""
    if tasks == 1:
        for number in range(count):
            await one(number)
        return
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await one(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(worker())
