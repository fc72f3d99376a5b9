"""What a small operation costs above the storage: 1 KiB objects in memory.

python benchmarks/memory.py [--quick]
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import obstore
import opendal
from _harness import Report, Side, arguments, compete, in_tasks, one
from obstore.store import MemoryStore

import trove_async as trove

KEYS = [f"some/folder/object-{number:04}" for number in range(1000)]
DATA = bytes(range(256)) * 4
SAME = bytes(range(256))
BUDGETS = {"put": 12.0, "get": 8.0, "observer": 4.0, "transform": 10.0}
"""Microseconds of CPU: of an operation; and what a layer may add to one."""
Bytes = bytes | bytearray | memoryview
Run = Callable[[int], Awaitable[object]]


class Observer:
    name = "observer"
    direction = trove.Direction.READ_WRITE
    stage = trove.Stage.OBSERVE

    async def write(self, chunks: trove.Chunks, context: trove.Context) -> trove.Chunks:
        return chunks

    async def read(self, chunks: trove.Chunks, context: trove.Context) -> trove.Chunks:
        return chunks


class Mask:
    """A transform whose work in C is one ``bytes.translate``."""

    name = "mask"
    direction = trove.Direction.READ_WRITE
    stage = trove.Stage.TRANSFORM
    encoding = "mask"
    table = bytes(value ^ 0x5A for value in range(256))

    async def write(self, chunks: trove.Chunks, context: trove.Context) -> trove.Chunks:
        return self._masked(chunks)

    async def read(self, chunks: trove.Chunks, context: trove.Context) -> trove.Chunks:
        return self._masked(chunks)

    async def _masked(self, chunks: trove.Chunks) -> AsyncGenerator[Bytes, None]:
        async for chunk in chunks:
            yield bytes(chunk).translate(self.table)


def each(one_of: Callable[[str], Awaitable[object]]) -> Run:
    async def step(number: int) -> None:
        await one_of(KEYS[number % 1000])

    return lambda count: in_tasks(1, count, step)


def putting(store: trove.Trove) -> Run:
    return each(lambda key: store.put("bench", key, DATA))


def putting_new(store: trove.Trove) -> Run:
    """Bytes of its own for each put, as a transform makes them: the store keeps them, and what
    the allocator takes for them is no cost of a layer."""
    return each(lambda key: store.put("bench", key, DATA.translate(SAME)))


def getting(store: trove.Trove) -> Run:
    return each(lambda key: store.get_bytes("bench", key))


async def opened(*layers: trove.Middleware | trove.Registration) -> trove.Trove:
    store = await trove.open("mem://", middleware=layers)
    await store.create_bucket("bench")
    return store


async def against_peers(report: Report, count: int, rounds: int) -> None:
    store = await opened()
    peer, other = MemoryStore(), opendal.AsyncOperator("memory")
    table: dict[str, bytes] = {}

    async def dict_put(key: str) -> None:
        table[key] = DATA

    async def dict_get(key: str) -> bytes:
        return table[key]

    async def read_all(key: str) -> bytes:
        async with store.get("bench", key) as reader:
            return await reader.read()

    async def obstore_get(key: str) -> object:
        return await (await obstore.get_async(peer, key)).bytes_async()

    puts = [
        Side("trove", putting(store), "ours"),
        Side("obstore", each(lambda key: obstore.put_async(peer, key, DATA))),
        Side("opendal", each(lambda key: other.write(key, DATA))),
        Side("async function over a dict", each(dict_put), "floor"),
    ]
    await compete(puts, count, rounds)
    report.table("1 KiB put", puts)
    gets = [
        Side("trove", getting(store), "ours"),
        Side("trove, opened and read", each(read_all), "note"),
        Side("obstore", each(obstore_get)),
        Side("opendal", each(lambda key: other.read(key))),
        Side("async function over a dict", each(dict_get), "floor"),
    ]
    await compete(gets, count, rounds, warm=1000)
    report.table("1 KiB get", gets)
    for name, sides in (("put", puts), ("get", gets)):
        ours, theirs = one(sides, "ours"), next(s for s in sides if s.name == "obstore")
        ratio = theirs.median / ours.median
        report.judge(
            f"1 KiB {name}, speed", f"{ratio:.1f}x obstore", "5x obstore", ratio >= 5, BOUND[name]
        )
        budget(report, f"1 KiB {name}, CPU", ours.cpu, BUDGETS[name], BOUND[name])
    await store.aclose()


BOUND = {
    "put": "Python calls: the record, BLAKE3 (1.3 µs), the ObjectInfo of driver and caller",
    "get": "Python calls: reader, digest check (1.3 µs), the ObjectInfo of the caller",
    "layer": "Python calls: building the chain, closing its levels",
}


def budget(report: Report, question: str, cpu: list[float], most: float, bound: str) -> None:
    """Judged by the median; the least shows what a machine without other load would do."""
    spent, least = statistics.median(cpu) * 1e6, min(cpu) * 1e6
    reached = f"{spent:.1f} µs (least {least:.1f})"
    report.judge(question, reached, f"{most:g} µs", spent <= most, bound)


async def layers(report: Report, count: int, rounds: int) -> None:
    missing = trove.Registration(Observer(), trove.keys("*.nothing"))
    stores = {
        "bare": await opened(),
        "observer elsewhere": await opened(missing),
        "transform": await opened(Mask()),
    }
    started = time.process_time()
    for _ in range(count):
        DATA.translate(Mask.table)
    c_time = (time.process_time() - started) / count
    for verb, act in (("put", putting_new), ("get", getting)):
        sides = [Side(name, act(store), "note") for name, store in stores.items()]
        if verb == "get":
            for store in stores.values():
                await putting(store)(1000)
        await compete(sides, count, rounds)
        report.table(f"1 KiB {verb} through layers", sides)
        bare, observed, masked = ([*side.cpu] for side in sides)
        added = [b - a for a, b in zip(bare, observed, strict=True)]
        budget(report, f"{verb}, observer elsewhere", added, BUDGETS["observer"], BOUND["layer"])
        added = [b - a - c_time for a, b in zip(bare, masked, strict=True)]
        budget(report, f"{verb}, a transform", added, BUDGETS["transform"], BOUND["layer"])
    for store in stores.values():
        await store.aclose()


async def bench(*, quick: bool) -> bool:
    count, rounds = (2000, 5) if quick else (20_000, 9)
    report = Report("memory")
    report.say("1 KiB objects over 1000 keys, one task; ours makes and checks BLAKE3.")
    report.say()
    await against_peers(report, count, rounds)
    await layers(report, count, rounds)
    met = report.finish()
    if not quick:
        report.save()
    return met


def main() -> None:
    options = arguments(__doc__).parse_args()
    met = asyncio.run(bench(quick=options.quick))
    if not met:
        print("not every target was met", file=sys.stderr)


if __name__ == "__main__":
    main()
