"""Content-addressed storage: large content beside plain put and get with the same checksum,
duplicates beside the hash alone, small content per second and what bounds it, the collector.

python benchmarks/cas.py [--quick] [--root DIR]
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
from _sides import BLOCK, MiB, source

import trove_async as trove

sys.path.insert(0, str(Path(__file__).parents[1]))

LEAST_LARGE = 0.8
LEAST_DUPLICATE = 0.9
MOST_GROWTH = 64.0
BOUND_LARGE = "SHA-256 of all of it, once, as in the plain put and get; and two transactions"
BOUND_DUPLICATE = "reading the file, then SHA-256 on one core"
_numbers = itertools.count()


def opened(root: Path, catalog: str | None = None) -> trove.Opening[trove.Trove]:
    return trove.open(f"file://{root}?durability=none", checksum="sha256", catalog=catalog)


async def large(report: Report, root: Path, size: int, rounds: int) -> None:
    async with opened(root) as store:
        cas = store.cas()
        await store.create_bucket("plain")
        stored: list[str] = []

        async def plain_put(count: int) -> None:
            await store.put("plain", "large", source(size))

        async def cas_store(count: int) -> None:
            stored.append((await cas.store(source(size))).digest)

        async def collected() -> None:
            await cas.release(stored.pop())
            await cas.gc(grace=0, settle=0)

        sides = [
            Side("CAS.store", cas_store, "ours", collected),
            Side("Trove.put", plain_put, "peer"),
        ]
        await compete(sides, 1, rounds)
        label = f"{size // MiB} MiB"
        report.table(f"{label} new content", sides, size)
        report.versus(f"{label} store", sides, LEAST_LARGE, BOUND_LARGE)

        digest = (await cas.store(source(size))).digest

        async def drain(reader: trove.ObjectReader) -> None:
            total = 0
            async for chunk in reader:
                total += len(chunk)
            assert total == size, f"{total} of {size} bytes"

        async def cas_get(count: int) -> None:
            async with cas.retrieve(digest) as reader:
                await drain(reader)

        async def plain_get(count: int) -> None:
            async with store.get("plain", "large") as reader:
                await drain(reader)

        sides = [Side("CAS.retrieve", cas_get, "ours"), Side("Trove.get", plain_get, "peer")]
        await compete(sides, 1, rounds)
        report.table(f"{label} read and verified", sides, size)
        report.versus(f"{label} retrieve", sides, LEAST_LARGE, BOUND_LARGE)

        file = root / "duplicate"
        with file.open("wb") as out:
            for _ in range(size // len(BLOCK)):
                out.write(BLOCK)

        async def again(count: int) -> None:
            assert (await cas.store(file)).deduplicated

        def hashed() -> None:
            hasher = hashlib.sha256()
            with file.open("rb", buffering=0) as stream:
                while chunk := stream.read(8 * MiB):
                    hasher.update(chunk)
            assert hasher.hexdigest() in digest

        async def floor(count: int) -> None:
            await asyncio.to_thread(hashed)

        sides = [Side("CAS.store", again, "ours"), Side("read and hash", floor, "peer")]
        await compete(sides, 1, rounds)
        report.table(f"{label} duplicate of a file", sides, size)
        report.versus(f"{label} duplicate", sides, LEAST_DUPLICATE, BOUND_DUPLICATE)


async def small(report: Report, base: Path, name: str, url: str, count: int) -> None:
    """Stores per second of new and of known content, and what the index alone takes."""
    root = base / f"small-{next(_numbers)}"
    report.say(f"### {count:,} contents of 1 KiB, index in {name}")
    report.say()
    report.say(
        "| tasks | store/s, new | CPU µs | store/s, known | CPU µs | index alone/s | put/s |"
    )
    report.say("|---|---|---|---|---|---|---|")
    async with opened(root, url) as store:
        cas = store.cas(f"small-{os.urandom(4).hex()}")
        await store.create_bucket("plain")
        index = await cas._open_index()
        for tasks in (1, 64):
            data = [os.urandom(16) * 64 for _ in range(count)]

            async def one(number: int, data: list[bytes] = data) -> None:
                await cas.store(data[number], owner="bench")

            async def put(number: int, data: list[bytes] = data) -> None:
                await store.put("plain", str(number), data[number])

            names = [f"sha256:{os.urandom(32).hex()}" for _ in range(count)]

            async def noted(number: int, names: list[str] = names) -> None:
                claim = await index.claim(names[number], "bench", 1)
                await index.commit(names[number], claim.gen, "bench", 1, 1, None)

            figures: list[str] = []
            for step, with_cpu in ((one, True), (one, True), (noted, False), (put, False)):
                cpu, wall = time.process_time(), time.perf_counter()
                await in_tasks(tasks, count, step)
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                figures.append(f"{count / wall:,.0f}")
                if with_cpu:
                    figures.append(f"{cpu / count * 1e6:.0f}")
            report.say(f"| {tasks} | {' | '.join(figures)} |")
    report.say()
    shutil.rmtree(root)


@contextmanager
def server() -> Iterator[str | None]:
    """A PostgreSQL of the tests, which keeps nothing through a power cut (fsync=off)."""
    import pytest

    from tests.servers.postgres import running_postgres

    with suppress(pytest.skip.Exception), running_postgres() as running:
        yield running.url()
        return
    yield None


async def grown(root: Path, count: int) -> float:
    """MiB that a run of the collector adds, with ``count`` dead blobs before it."""
    async with opened(root) as store:
        cas = store.cas()

        async def dead(number: int) -> None:
            stored = await cas.store(number.to_bytes(8, "big"), owner="bench")
            await cas.release(stored.digest, owner="bench")

        await in_tasks(64, count, dead)

        async def collect() -> None:
            started = time.perf_counter()
            result = await cas.gc(grace=0, settle=0)
            assert result.deleted == count, f"{result.deleted} of {count} deleted"
            print(f"{count / (time.perf_counter() - started):,.0f} per second")

        return await measured_growth(collect)


def collector(report: Report, base: Path, count: int) -> None:
    growth = peak_growth(__file__, str(count), "--root", str(base))
    report.say(f"The collector deletes {count:,} dead blobs with {growth:.1f} MiB more memory.")
    report.say()
    report.judge(
        f"gc of {count:,} dead blobs, memory",
        f"{growth:.1f} MiB",
        f"under {MOST_GROWTH:g} MiB",
        growth < MOST_GROWTH,
        "pages of 1,000 rows and keys",
    )


async def bench(*, quick: bool, base: str) -> bool:
    folder = Path(tempfile.mkdtemp(dir=base, prefix="trove-cas-"))
    report = Report("Content-addressed storage")
    report.say(f"Files in {base}; both sides with SHA-256.")
    report.say()
    try:
        await large(report, folder / "large", (16 if quick else 1024) * MiB, 3 if quick else 7)
        count = 200 if quick else 10_000
        await small(report, folder, "SQLite", f"sqlite:///{folder}/c.sqlite", count)
        with tempfile.TemporaryDirectory(prefix="trove-cas-") as disk:
            await small(report, folder, "SQLite on disk", f"sqlite:///{disk}/c.sqlite", count)
        with server() as url:
            if url is None:
                report.say("No PostgreSQL here: bash .ci/servers installs it.")
            else:
                await small(report, folder, "PostgreSQL", url, count)
        collector(report, folder, 500 if quick else 100_000)
    finally:
        shutil.rmtree(folder)
    met = report.finish()
    if not quick:
        report.save()
    return met


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--root", default="/dev/shm", help="where the files go")
    parser.add_argument("--rss-of", help="measure the memory of collecting so many and print it")
    options = parser.parse_args()
    if options.rss_of:
        root = Path(tempfile.mkdtemp(dir=options.root))
        print(asyncio.run(grown(root, int(options.rss_of))))
        return
    if not asyncio.run(bench(quick=options.quick, base=options.root)):
        print("not every target was met", file=sys.stderr)


if __name__ == "__main__":
    main()
