"""Managed streams: what they cost beside plain put and get, how fair they are, what ADAPTIVE
is good for, how much memory each policy takes.

python benchmarks/streams.py [--quick] [--models] [--root DIR]
"""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _adaptive import jittery
from _harness import Report, Side, arguments, compete, measured_growth, peak_growth
from _widths import widths

import trove_async as trove
from trove_async import Backpressure, KiB, MiB, StreamDirection, Trove

UP, DOWN = StreamDirection.UPLOAD, StreamDirection.DOWNLOAD
BLOCK = os.urandom(MiB)
QUEUE = 4


async def opened(root: str) -> Trove:
    store = await trove.open(f"file://{root}?durability=none", chunk_size=MiB)
    if not [b for b in await store.list_buckets() if b.name == "box"]:
        await store.create_bucket("box")
    return store


def sides(store: Trove, blocks: int) -> tuple[list[Side], list[Side]]:
    async def body():  # type: ignore[no-untyped-def]  # an async generator of blocks
        for _ in range(blocks):
            yield BLOCK

    async def put(count: int) -> None:
        await store.put("box", "put", body())

    async def get(count: int) -> None:
        async with store.get("box", "put") as reader:
            async for _ in reader:
                pass

    async def upload(count: int) -> None:
        async with store.stream("box", "stream", UP) as stream:
            for _ in range(blocks):
                await stream.write(BLOCK)

    async def download(count: int) -> None:
        async with store.stream("box", "put", DOWN) as stream:
            async for _ in stream:
                pass

    async def download_large(count: int) -> None:
        async with store.stream("box", "put", DOWN, chunk_size=8 * MiB, queue_size=4) as stream:
            async for _ in stream:
                pass

    writes = [Side("stream, upload", upload, "ours"), Side("plain put", put)]
    reads = [
        Side("stream, download", download, "ours"),
        Side("plain get", get),
        Side("stream, chunks of 8 MiB", download_large, "note"),
    ]
    return writes, reads


async def overhead(report: Report, chunks: int, rounds: int) -> None:
    """CPU that a chunk costs more than in a plain put of the same chunks; nothing hashes."""
    piece = bytes(4096)
    costs = []
    async with trove.open("mem://", checksum=None) as store:
        await store.create_bucket("box")

        async def body():  # type: ignore[no-untyped-def]
            for _ in range(chunks):
                yield piece

        for _ in range(rounds):
            began = time.process_time()
            await store.put("box", "k", body())
            plain = time.process_time() - began
            began = time.process_time()
            async with store.stream("box", "k", UP) as stream:
                for _ in range(chunks):
                    await stream.write(piece)
            up = time.process_time() - began
            began = time.process_time()
            async with store.stream("box", "k", DOWN, chunk_size=4096) as stream:
                async for _ in stream:
                    pass
            down = time.process_time() - began
            costs.append(((up - plain) / chunks * 1e6, down / chunks * 1e6))
    up_us, down_us = (statistics.median(values) for values in zip(*costs, strict=True))
    reached = f"upload {up_us:.1f} µs more than a put, download {down_us:.1f} µs in all"
    bound = "the task switch when the queue is full or empty"
    report.judge("CPU per chunk", reached, "under 20 µs", max(up_us, down_us) < 20, bound)


async def fairness(report: Report, root: str, pieces: int) -> None:
    """When 64 streams share a bandwidth and each moves the same, when do they end?"""
    piece = BLOCK[: 64 * KiB]
    rate = 64 * pieces * len(piece) / 5
    config = trove.PoolConfig(max_streams=64, max_bandwidth=rate)
    async with trove.open(
        f"file://{root}?durability=none", pool=config, chunk_size=64 * KiB, checksum=None
    ) as store:
        ends = []

        async def one(number: int) -> None:
            async with store.stream("box", f"fair{number}", UP) as stream:
                for _ in range(pieces):
                    await stream.write(piece)
                await stream.complete()
            ends.append(time.perf_counter() - began)

        began = time.perf_counter()
        await asyncio.gather(*map(one, range(64)))
    spread = (max(ends) - min(ends)) / max(ends)
    reached = f"first {min(ends):.2f} s, last {max(ends):.2f} s, {spread:.0%} apart; 5 s allowed"
    report.judge(
        "64 streams at once", reached, "within 20 %", spread <= 0.2, "each takes a chunk in turn"
    )


async def grown(root: str, policy: str, blocks: int) -> None:
    """In a child: a consumer that is slower than the producer, MiB by MiB."""
    store = await opened(root)

    async def work() -> None:
        async with store.stream(
            "box", f"mem-{policy}", UP, backpressure=Backpressure(policy), queue_size=QUEUE
        ) as stream:
            for _ in range(blocks):
                await stream.write(bytes(memoryview(BLOCK)))

    print(await measured_growth(work))
    await store.delete("box", f"mem-{policy}")
    await store.aclose()


def memory(report: Report, root: str, blocks: int) -> None:
    report.say(f"### Memory: {blocks / 1024:.1f} GiB uploaded, queue of {QUEUE} chunks of 1 MiB")
    report.say()
    report.say("| policy | peak growth, MiB |")
    report.say("|---|---|")
    worst = 0.0
    for policy in Backpressure:
        mib = peak_growth(__file__, policy.value, "--root", root, "--blocks", str(blocks))
        worst = max(worst, mib)
        report.say(f"| {policy.value} | {mib:.0f} |")
    report.say()
    limit = QUEUE + 64
    report.judge(
        "memory", f"{worst:.0f} MiB", f"under {limit} MiB", worst < limit, "32 MiB: BUFFER"
    )


def models(report: Report, *, is_drawn: bool) -> None:
    docs = Path(__file__).parent.parent / "docs"
    jittery(report, docs / "adaptive.svg" if is_drawn else None)
    widths(report, docs / "parts.svg" if is_drawn else None)


async def main() -> int:
    parser = arguments(__doc__ or "")
    parser.add_argument("--root", default=None)
    parser.add_argument("--blocks", type=int, default=0, help="MiB of each transfer")
    parser.add_argument("--rss-of", default=None)
    parser.add_argument(
        "--models", action="store_true", help="only what is computed, and its plots"
    )
    given = parser.parse_args()
    if given.rss_of:
        await grown(given.root, given.rss_of, given.blocks)
        return 0
    if given.models:
        report = Report("streams")
        await asyncio.to_thread(models, report, is_drawn=True)
        return 0 if report.finish() else 1
    root = tempfile.mkdtemp(prefix="trove-streams-", dir=given.root or "/dev/shm")
    report = Report("streams")
    blocks = given.blocks or (128 if given.quick else 1024)
    rounds = 3 if given.quick else 7
    try:
        store = await opened(root)
        writes, reads = sides(store, blocks)
        for verb, contestants in (("upload", writes), ("download", reads)):
            await compete(contestants, 1, rounds, warm=1)
            report.table(f"{verb} of {blocks} MiB, local", contestants, blocks * MiB)
            report.versus(f"{verb}, local", contestants, 0.9, "a queue and a task")
        await store.aclose()
        await overhead(report, 20_000, rounds)
        await fairness(report, root, 64)
        shutil.rmtree(Path(root) / "box", ignore_errors=True)
        memory(report, root, blocks if given.quick else 4096)
        await asyncio.to_thread(models, report, is_drawn=not given.quick)  # loops of their own
    finally:
        shutil.rmtree(root, ignore_errors=True)
    met = report.finish()
    if not given.quick:
        report.save()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
