"""Files in a folder: small objects with 1 and with 64 tasks, 100 KiB, and 1 GiB as a stream.

python benchmarks/local.py [--quick] [--root DIR]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from _harness import (
    Report,
    Side,
    arguments,
    compete,
    in_tasks,
    measured_growth,
    peak_growth,
)
from _sides import BLOCK, CONTESTANTS, Files, Hashed, MiB, source

KEYS = 1000
TARGETS = {
    ("put", 1024, 1): 1.5,
    ("put", 1024, 64): 1.7,
    ("get", 1024, 1): 4.0,
    ("get", 1024, 64): 4.0,
    ("put", 102_400, 1): 1.3,
    ("put", 102_400, 64): 1.3,
    ("get", 102_400, 1): 1.3,
    ("get", 102_400, 64): 1.3,
    ("put", 0, 1): 0.9,
    ("get", 0, 1): 0.9,
}
"""(verb, bytes or 0 for the stream, tasks): how many times the best async peer."""
MOST_GROWTH = 64.0
BOUND = {
    "put": "13 system calls on one thread (create, write, mode, stamp, record, lock, rename: about "
    "30 µs of CPU); the rest is Python",
    "get": "7 system calls on one thread (about 8 µs of CPU); the rest is Python",
    "put 102400 64": "one core against two: file system floor 63 µs, 9 more system calls 21 and "
    "BLAKE3 18 are 102 µs before any Python; in workers the interpreter lock costs more than "
    "it gains",
    "put 0": "copying into the page cache (0.38 CPU s for 1 GiB) in a worker beside BLAKE3 (0.17) "
    "on the loop's thread; where the second core is taken, their sum: the floor with BLAKE3",
    "get 0": "BLAKE3 of what another core has just read (0.17 to 0.22 CPU s for 1 GiB); where the "
    "second core is taken, its sum with the read (0.1): the floor with BLAKE3",
}


def small(files: Files, verb: str, size: int, tasks: int) -> Callable[[int], Awaitable[object]]:
    data = bytes(range(256)) * (size // 256)

    async def step(number: int) -> None:
        key = f"{size}-{number % KEYS:04}"
        if verb == "put":
            await files.put(key, data)
        else:
            await files.get(key)

    return lambda count: in_tasks(tasks, count, step)


async def small_objects(
    report: Report, contestants: list[Files], size: int, tasks: int, count: int, rounds: int
) -> None:
    label = f"{size // 1024} KiB"
    plural = "task" if tasks == 1 else "tasks"
    for verb in ("put", "get"):
        sides = [Side(f.name, small(f, verb, size, tasks), f.kind) for f in contestants]
        if tasks > 1:
            sides = [side for side in sides if side.kind != "floor"]
        # every key exists before the first get, and every put replaces one
        await compete(sides, count, rounds, warm=KEYS)
        report.table(f"{label} {verb}, {tasks} {plural}", sides)
        question = f"{label} {verb}, {tasks} {plural}"
        bound = BOUND.get(f"{verb} {size} {tasks}", BOUND[verb])
        report.versus(question, sides, TARGETS[verb, size, tasks], bound)


def touch_pages(base: str, size: int) -> None:
    """Writes and removes a file as large as the one to come. A virtual machine gives freed
    memory back to its host after a while, and a side that happened to get such pages needed
    1.1 s where 0.5 is usual (seen with aiofiles); now all begin with pages the guest has."""
    fd, name = tempfile.mkstemp(dir=base)
    try:
        for _ in range(size // MiB + 64):
            os.write(fd, BLOCK)
    finally:
        os.close(fd)
        os.unlink(name)


async def streams(
    report: Report, contestants: list[Files], size: int, rounds: int, base: str
) -> None:
    def put(files: Files) -> Side:
        def run(count: int) -> Awaitable[object]:
            return files.stream("large", source(size))

        async def clean() -> None:
            find(ROOTS[files.name], "large").unlink()

        return Side(files.name, run, files.kind, clean)

    def get(files: Files) -> Side:
        async def run(count: int) -> None:
            found = await files.drain("large")
            assert found == size, f"{files.name} gave {found} of {size} bytes"

        return Side(files.name, run, files.kind)

    label = f"{size // MiB} MiB"

    def prepare() -> None:
        touch_pages(base, size)

    sides = [put(files) for files in contestants]
    await compete(sides, 1, rounds, prepare=prepare)
    report.table(f"{label} streaming put", sides, size)
    report.versus(f"{label} streaming put", sides, TARGETS["put", 0, 1], BOUND["put 0"])
    for files in contestants:
        await files.stream("large", source(size))
    sides = [get(files) for files in contestants]
    await compete(sides, 1, rounds)
    report.table(f"{label} streaming get", sides, size)
    report.versus(f"{label} streaming get", sides, TARGETS["get", 0, 1], BOUND["get 0"])


ROOTS: dict[str, Path] = {}


def find(root: Path, name: str) -> Path:
    inside = root / "bench" / name
    return inside if inside.exists() else root / name


def growth(report: Report, names: list[str], size: int, base: str) -> None:
    report.say(f"### Memory: growth of RSS while {size // MiB} MiB go in and out, MiB")
    report.say()
    report.say("| side | put | get |")
    report.say("|---|---|---|")
    ours: dict[str, float] = {}
    for name in names:
        grown = {
            verb: peak_growth(__file__, f"{name}/{verb}", "--root", base, "--size", str(size))
            for verb in ("put", "get")
        }
        report.say(f"| {name} | {grown['put']:.1f} | {grown['get']:.1f} |")
        if name == "trove":
            ours = grown
    report.say()
    for verb, most in ours.items():
        report.judge(
            f"{size // MiB} MiB streaming {verb}, memory",
            f"{most:.1f} MiB",
            f"under {MOST_GROWTH:g} MiB",
            most < MOST_GROWTH,
            "pieces under way between body, hash and file",
        )


async def rss_of(what: str, size: int, base: str) -> None:
    """In the child process: one side, one verb."""
    name, _, verb = what.partition("/")
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        make = next(made for made in CONTESTANTS if made.name == name)
        files = make(folder / "root")
        await files.open()
        await files.put("small", b"x" * 1024)
        await files.drain("small")  # what is loaded or started once is there
        if verb == "get":
            await files.stream("large", source(size))
            print(await measured_growth(lambda: files.drain("large")))
        else:
            print(await measured_growth(lambda: files.stream("large", source(size, fresh=True))))
        await files.close()
    finally:
        shutil.rmtree(folder)


async def bench(*, quick: bool, base: str) -> bool:
    report = Report("local")
    folder = Path(tempfile.mkdtemp(prefix="trove-bench-", dir=base))
    report.say(
        f"Files below {base} ({file_system(base)}). No side fsyncs, each publishes by rename; ours "
        "also makes BLAKE3 on every put, checks it on every get, and keeps metadata."
    )
    report.say()
    contestants: list[Files] = []
    try:
        for make in CONTESTANTS:
            root = folder / make.name.replace(" ", "-")
            files = make(root)
            ROOTS[files.name] = root
            await files.open()
            contestants.append(files)
        count, rounds = (1000, 5) if quick else (4000, 9)
        for size, tasks, share in ((1024, 1, 1), (1024, 64, 1), (102_400, 1, 4), (102_400, 64, 4)):
            await small_objects(report, contestants, size, tasks, count // share, rounds)
        size = 128 * MiB if quick else 1024 * MiB
        hashed = Hashed(folder / "hashed")
        ROOTS[hashed.name] = folder / "hashed"
        await hashed.open()
        await streams(report, [*contestants, hashed], size, 9, base)
        for files in contestants:
            await files.close()
        growth(report, [files.name for files in contestants], size, base)
    finally:
        shutil.rmtree(folder)
    met = report.finish()
    if not quick:
        report.save()
    return met


def file_system(path: str) -> str:
    """Type of the mount that holds ``path``."""
    best, kind = "", "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, name, *_ = line.split()
        if Path(path).resolve().is_relative_to(where) and len(where) >= len(best):
            best, kind = where, name
    return kind


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--root", default="/dev/shm", help="where the files go")
    parser.add_argument("--rss-of", help="measure the memory of SIDE/VERB and print it")
    parser.add_argument("--size", type=int, default=1024 * MiB, help="bytes, with --rss-of")
    options = parser.parse_args()
    if options.rss_of:
        asyncio.run(rss_of(options.rss_of, options.size, options.root))
        return
    if not asyncio.run(bench(quick=options.quick, base=options.root)):
        print("not every target was met", file=sys.stderr)


if __name__ == "__main__":
    main()
