"""S3 against its peers: one ``rclone serve s3`` on tmpfs, all sides in one process, in turns.

    python benchmarks/s3.py [--quick]

What is asked: CPU of small requests (at most 0.45 of raw aioboto3, at most 1.3 of obstore),
large bodies with checksums on (at least the best peer, RSS below 100 MiB), listings (at most
twice obstore's CPU). ``process_time`` counts all threads of this process, so the peers' native
threads are in it; the server is another process.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from _harness import MiB, Report, Side, compete, in_tasks, measured_growth, peak_growth
from _harness import arguments as parser_of
from _s3_sides import ALL, Client, Ours

from tests.servers.s3 import running_rclone

TASKS = 64
SMALL = b"x" * 1024


def side(client: Client, work: Callable[[int], Awaitable[object]]) -> Side:
    return Side(client.name, lambda count: in_tasks(TASKS, count, work), client.kind)


def cpu(sides: list[Side], name: str) -> float:
    return statistics.median(next(s for s in sides if s.name == name).cpu)


async def small(report: Report, clients: list[Client], count: int, rounds: int) -> None:
    for verb in ("put", "get"):
        sides = [
            side(
                client,
                (lambda n, c=client: c.put(f"small/{n % 500}", SMALL))
                if verb == "put"
                else (lambda n, c=client: c.get(f"small/{n % 500}")),
            )
            for client in clients
        ]
        await compete(sides, count, rounds, warm=500)
        report.table(f"1 KiB {verb}, {TASKS} tasks", sides)
        ours = cpu(sides, Ours.name)
        for peer, most in (("aioboto3", 0.45), ("obstore", 1.3)):
            ratio = ours / cpu(sides, peer)
            report.judge(
                f"1 KiB {verb}: CPU against {peer}",
                f"{ratio:.2f}",
                f"at most {most}",
                ratio <= most,
                "the signature, four hashes, and a send and a receive of the event loop",
            )


async def large(report: Report, clients: list[Client], size: int, rounds: int) -> None:
    for verb in ("put", "get"):
        sides = [
            Side(
                client.name,
                (lambda n, c=client: c.stream("large", size))
                if verb == "put"
                else (lambda n, c=client: c.drain("large")),
                client.kind,
            )
            for client in clients
        ]
        await compete(sides, 1, rounds, warm=1)
        question = f"{size // MiB} MiB {verb}"
        report.table(question, sides, size)
        report.versus(
            question,
            sides,
            1.0,
            "two cores shared with the server; SHA-256 and MD5, which opendal leaves out"
            if verb == "put"
            else "the server hashes the object before its first byte; one thread reads",
        )


async def listing(report: Report, clients: list[Client], keys: int, rounds: int) -> None:
    ours = next(client for client in clients if client.name == Ours.name)
    await in_tasks(TASKS, keys, lambda n: ours.put(f"many/{n:06}", b""))
    sides = [Side(c.name, lambda n, c=c: c.list("many/"), c.kind) for c in clients]
    await compete(sides, 1, rounds, warm=1)
    report.table(f"List {keys:,} keys", sides)
    ratio = cpu(sides, Ours.name) / cpu(sides, "obstore")
    report.judge(
        f"list {keys:,} keys: CPU against obstore",
        f"{ratio:.2f}",
        "at most 2",
        ratio <= 2,
        "an ObjectInfo for each key",
    )


async def memory_of(name: str, endpoint: str, size: int) -> float:
    client = next(kind for kind in ALL if kind.name == name)(endpoint)

    async def work() -> None:
        await client.stream("memory", size)
        await client.drain("memory")

    await client.open()
    try:
        return await measured_growth(work)
    finally:
        await client.close()


async def run(arguments: argparse.Namespace, endpoint: str) -> bool:
    report = Report("s3")
    report.say(
        "`rclone serve s3` over tmpfs on the same machine. Ours keeps BLAKE3 and CRC32 of what it "
        "puts and checks what it gets; the peers as they come."
    )
    report.say()
    clients = [kind(endpoint) for kind in ALL]
    for client in clients:
        await client.open()
    try:
        quick = arguments.quick
        await small(report, clients, 300 if quick else 1000, 3 if quick else 5)
        await large(report, clients, (32 if quick else 256) * MiB, 3 if quick else 5)
        await listing(report, clients, 2000 if quick else 10_000, 3 if quick else 5)
    finally:
        for client in clients:
            await client.close()
    size = 256 * MiB
    grown = {
        name: peak_growth(__file__, name, "--endpoint", endpoint, "--size", str(size))
        for name in (Ours.name, "obstore")
    }
    report.say(f"Peak growth of RSS, {size // MiB} MiB put and got: {grown} MiB")
    report.judge(
        "RSS of 256 MiB put and get",
        f"{grown[Ours.name]:.0f} MiB",
        "below 100 MiB",
        grown[Ours.name] < 100,
        "parts of 8 MiB: those on their way and one that is filled",
    )
    met = report.finish()
    if not arguments.quick:
        report.save()
    return met


def main() -> None:
    parser = parser_of("S3 against its peers")
    parser.add_argument("--rss-of", help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rss_of:
        print(asyncio.run(memory_of(arguments.rss_of, arguments.endpoint, arguments.size)))
        return
    with running_rclone() as server:
        asyncio.run(run(arguments, server.endpoint))


if __name__ == "__main__":
    main()
