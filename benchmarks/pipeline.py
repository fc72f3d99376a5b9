"""Compression and encryption on local files: 1 GiB of JSON lines, small objects, ranges, memory.

python benchmarks/pipeline.py [--quick] [--root DIR]
"""

from __future__ import annotations

import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import local as thread_local
from typing import TypeVar

import blake3
import zstandard
from _harness import (
    Report,
    Side,
    arguments,
    compete,
    in_tasks,
    measured_growth,
    one,
    peak_growth,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

import trove_async as trove
from trove_async import MiB
from trove_async.middleware import Compress, Encrypt, Keyring

STACKS = ("plain", "compress", "encrypt", "compress+encrypt")
GO = """The Go project that this one follows, on such a machine (no fsync, 1 GiB of the same JSON):
compress + encrypt put 149 MiB/s, 5.7 CPU s, 2348 MiB of RSS; get 558 MiB/s, 1.6 CPU s, 1502 MiB;
encrypt-only put 89 MiB/s, 4517 MiB of RSS; 1 KiB with both layers 368 puts/s, 740 with 64 tasks."""
MOST_GROWTH = 128.0


def lines(size: int) -> Iterator[bytes]:
    """JSON lines, the same everywhere: some 8,000 to the MiB."""
    given = number = 0
    while given < size:
        line = (
            f'{{"id":{number:012d},"user":"user-{number * 7919 % 100000:05d}",'
            f'"event":"page_view","path":"/products/{number * 104729 % 1000000:06d}",'
            f'"ts":{1700000000000 + number * 37},"status":200,"ms":{number * 31 % 997}}}\n'
        ).encode()[: size - given]
        yield line
        given += len(line)
        number += 1


def write_source(path: Path, size: int) -> None:
    with path.open("wb", buffering=4 * MiB) as file:
        file.writelines(lines(size))


def layers(stack: str) -> list[trove.Middleware]:
    made: list[trove.Middleware] = []
    if "compress" in stack:
        made.append(Compress())
    if "encrypt" in stack:
        made.append(Encrypt(Keyring({"k": bytes(range(32))}, active="k")))
    return made


async def opened(root: Path, stack: str) -> trove.Trove:
    root.mkdir(exist_ok=True)
    store = await trove.open(
        f"file://{root}?durability=none", default_bucket="bench", middleware=layers(stack)
    )
    if not await store.list_buckets():
        await store.create_bucket("bench")
    return store


# -- floors: the same C code on two threads, with nothing around it -----------------------------

T = TypeVar("T")
_own = thread_local()


def packed(data: bytes) -> bytes:
    if not hasattr(_own, "pack"):
        _own.pack = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True)
    result: bytes = _own.pack.compress(data)
    return result


def plain(data: bytes) -> bytes:
    if not hasattr(_own, "unpack"):
        _own.unpack = zstandard.ZstdDecompressor()
    result: bytes = _own.unpack.decompress(data)
    return result


def unpacked(data: bytes) -> int:
    return len(plain(data))


def put_floor(source: Path, pool: ThreadPoolExecutor) -> None:
    """zstd frames of 1 MiB on two threads, BLAKE3 on this one; nothing is written."""
    digest = blake3.blake3()
    waiting: deque[Future[bytes]] = deque()
    with source.open("rb", buffering=0) as file:
        while frame := file.read(MiB):
            waiting.append(pool.submit(packed, frame))
            digest.update(frame)
            if len(waiting) > 5:
                waiting.popleft().result()
    for job in waiting:
        job.result()


def get_floor(file: Path, sizes: list[int], pool: ThreadPoolExecutor) -> int:
    """Reads the frames and unpacks them on two threads."""
    waiting: deque[Future[int]] = deque()
    total = 0
    with file.open("rb", buffering=0) as stored:
        for size in sizes:
            waiting.append(pool.submit(unpacked, stored.read(size)))
            if len(waiting) > 5:
                total += waiting.popleft().result()
    return total + sum(job.result() for job in waiting)


def write_frames(source: Path, target: Path) -> list[int]:
    sizes: list[int] = []
    with source.open("rb") as file, target.open("wb") as stored:
        while frame := file.read(MiB):
            sizes.append(stored.write(packed(frame)))
    return sizes


# -- what is possible: the C calls of a layer's work, and nothing else ---------------------------

_CIPHER = AESGCM(bytes(range(32)))
_ADDITIONAL = bytes(60)
_NONCE = bytes(12)
_FRAME = 64 * 1024  # the default of Encrypt
_TAG = 16


def sealed(data: bytes) -> list[bytes]:
    view = memoryview(data)
    return [
        _CIPHER.encrypt(_NONCE, view[start : start + _FRAME], _ADDITIONAL)
        for start in range(0, len(view), _FRAME)
    ]


def unsealed(data: bytes) -> list[bytes]:
    view = memoryview(data)
    return [
        _CIPHER.decrypt(_NONCE, view[start : start + _FRAME + _TAG], _ADDITIONAL)
        for start in range(0, len(view), _FRAME + _TAG)
    ]


def beside(
    blocks: Iterator[bytes], work: Callable[[bytes], T], take: Callable[[T], object]
) -> None:
    """``work`` is done in two other threads; what it makes is taken here, in order."""
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for block in blocks:
            waiting.append(pool.submit(work, block))
            if len(waiting) > 5:
                take(waiting.popleft().result())
        for job in waiting:
            take(job.result())


def put_alone(source: Path, target: Path, *, pack: bool) -> list[int]:
    """Reads, hashes and writes here, packs and seals beside it. The stored size of each block."""
    digest = blake3.blake3()
    sizes: list[int] = []

    def blocks() -> Iterator[bytes]:
        with source.open("rb", buffering=0) as file:
            while block := file.read(MiB):
                digest.update(block)
                yield block

    with target.open("wb", buffering=0) as stored:
        beside(
            blocks(),
            lambda block: sealed(packed(block) if pack else block),
            lambda frames: sizes.append(sum(map(stored.write, frames))),
        )
    return sizes


def get_alone(stored: Path, sizes: list[int], *, pack: bool) -> None:
    """Reads and hashes here, opens and unpacks beside it."""
    digest = blake3.blake3()

    def blocks() -> Iterator[bytes]:
        with stored.open("rb", buffering=0) as file:
            for size in sizes:
                yield file.read(size)

    def work(block: bytes) -> list[bytes]:
        pieces = unsealed(block)
        return [plain(b"".join(pieces))] if pack else pieces

    def take(pieces: list[bytes]) -> None:
        for piece in pieces:
            digest.update(piece)

    beside(blocks(), work, take)


def get_cost(stored: Path, sizes: list[int], *, opens: bool) -> float:
    """CPU seconds of reading, opening and hashing on one thread, the least of three: where both
    cores are always busy nothing takes less than half of it."""
    costs = []
    for _ in range(3):
        digest = blake3.blake3()
        started = time.process_time()
        with stored.open("rb", buffering=0) as file:
            for size in sizes:
                block = file.read(size)
                for piece in unsealed(block) if opens else [block]:
                    digest.update(piece)
        costs.append(time.process_time() - started)
    return min(costs)


# -- one large object -----------------------------------------------------------------------


async def drained(store: trove.Trove, key: str) -> int:
    size = 0
    async with store.get(None, key) as reader:
        async for chunk in reader:
            size += len(chunk)
    return size


async def large(report: Report, folder: Path, size: int, rounds: int) -> None:
    source = folder / "source.json"
    write_source(source, size)
    frames = folder / "frames"
    sizes = write_frames(source, frames)
    stores = {stack: await opened(folder / stack, stack) for stack in STACKS}
    shapes: dict[str, list[int]] = {}
    label = f"{size // MiB} MiB"
    with ThreadPoolExecutor(2) as pool:

        def put(stack: str, kind: str) -> Side:
            async def run(count: int) -> None:
                info = await stores[stack].put(None, "large", source)
                assert info.size == size

            return Side(stack, run, kind)

        def get(stack: str, kind: str) -> Side:
            async def run(count: int) -> None:
                assert await drained(stores[stack], "large") == size

            return Side(stack, run, kind)

        def alone(verb: str, stack: str) -> Side:
            pack = stack != "encrypt"
            stored = folder / f"alone-{stack}"
            shapes[stack] = put_alone(source, stored, pack=pack)

            async def run(count: int) -> None:
                if verb == "put":
                    await asyncio.to_thread(put_alone, source, stored, pack=pack)
                else:
                    await asyncio.to_thread(get_alone, stored, shapes[stack], pack=pack)

            return Side(f"C calls alone: {stack}", run, "note")

        async def floor_put(count: int) -> None:
            await asyncio.to_thread(put_floor, source, pool)

        async def floor_get(count: int) -> None:
            assert await asyncio.to_thread(get_floor, frames, sizes, pool) == size

        for verb, make, floor, share in (
            ("put", put, floor_put, 0.7),
            ("get", get, floor_get, 0.6),
        ):
            sides = [
                make("compress+encrypt", "ours"),
                make("compress", "note"),
                make("encrypt", "note"),
                make("plain", "note"),
                Side("floor: zstd on two threads", floor, "floor"),
                alone(verb, "compress+encrypt"),
                alone(verb, "encrypt"),
            ]
            await compete(sides, 1, rounds)
            report.table(f"{label} of JSON lines, {verb}", sides, size)
            ours = one(sides, "ours")
            name = f"{label} compress + encrypt {verb}"
            against(report, name, ours, sides[4], sides[5], share, "the floor")
            name = f"{label} encrypt-only {verb}"
            against(report, name, sides[2], sides[3], sides[6], 0.75, "the plain one")
        sealed_file, shape = folder / "alone-encrypt", shapes["encrypt"]
        bare = get_cost(sealed_file, shape, opens=False)
        enciphered = get_cost(sealed_file, shape, opens=True)
        report.say(
            f"The C calls of a get on one thread: {bare:.2f} CPU s to read and hash, "
            f"{enciphered:.2f} with the cipher, so that encrypt-only can reach "
            f"{bare / enciphered:.2f} of plain where both keep every core busy."
        )
        report.say()
    await ranges(report, stores["compress+encrypt"], folder, source, size)
    for store in stores.values():
        await store.aclose()


def against(
    report: Report,
    question: str,
    ours: Side,
    other: Side,
    alone: Side,
    share: float,
    what: str,
) -> None:
    """``alone`` is what the C calls of the same work take: what is left over is ours to mend."""
    reached = other.median / ours.median
    best = min(other.wall) / min(ours.wall)
    spent = statistics.median(alone.cpu)
    report.judge(
        question,
        f"{reached:.2f} of {what} (best rounds {best:.2f})",
        f"{share:g} of {what}",
        reached >= share,
        f"the C calls alone, with three threads, reach {other.median / alone.median:.2f} in "
        f"{spent:.2f} CPU s; ours took {statistics.median(ours.cpu):.2f}",
    )


class Counted:
    """A driver that counts the stored bytes it is asked for."""

    def __init__(self, inner: trove.Driver) -> None:
        self.inner = inner
        self.bytes = self.requests = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    async def get(self, bucket: str, key: str, options: trove.GetOptions) -> trove.RawObject:
        found = await self.inner.get(bucket, key, options)
        self.bytes += found.stop - found.start
        self.requests += 1
        return found


async def ranges(report: Report, store: trove.Trove, folder: Path, source: Path, size: int) -> None:
    dsn = trove.parse_dsn(f"file://{folder / 'compress+encrypt'}?durability=none")
    counted = Counted(trove.lookup(dsn.scheme)(dsn))
    worst = 0
    async with trove.open(
        counted,  # type: ignore[arg-type] # a wrapper with __getattr__
        default_bucket="bench",
        middleware=layers("compress+encrypt"),
    ) as cold:
        for share in (0.0, 0.37, 0.99):
            cold._core.reads.layouts.clear()
            counted.bytes = counted.requests = 0
            start = int(share * (size - MiB))
            piece = await cold.get_bytes(None, "large", range=slice(start, start + MiB))
            with source.open("rb") as file:
                file.seek(start)
                assert piece == file.read(MiB)
            worst = max(worst, counted.bytes)
    report.judge(
        f"cold 1 MiB range of {size // MiB} MiB, stored bytes read",
        f"{worst / MiB:.2f} MiB, {counted.requests} requests",
        "4 MiB",
        worst <= 4 * MiB,
        "the seek table, the header, the frames touched",
    )


# -- small objects, memory ------------------------------------------------------------------


async def small(report: Report, folder: Path, count: int, rounds: int) -> None:
    data = b"".join(lines(1024))
    stores = {stack: await opened(folder / f"small-{stack}", stack) for stack in STACKS}
    for tasks in (1, 64):
        for verb in ("put", "get"):
            sides = []
            for stack, store in stores.items():

                async def step(number: int, store: trove.Trove = store, verb: str = verb) -> None:
                    key = f"{number % 500:04}"
                    if verb == "put":
                        await store.put(None, key, data)
                    else:
                        await store.get_bytes(None, key)

                def run(count: int, step: object = step, tasks: int = tasks) -> object:
                    return in_tasks(tasks, count, step)  # type: ignore[arg-type]

                kind = "ours" if stack == "compress+encrypt" else "note"
                sides.append(Side(stack, run, kind))  # type: ignore[arg-type]
            await compete(sides, count, rounds, warm=500)
            report.table(f"1 KiB {verb}, {tasks} tasks", sides)
            if verb == "put" and tasks == 64:
                rate = 1 / one(sides, "ours").median
                report.judge(
                    "1 KiB with both layers, 64 tasks",
                    f"{rate:,.0f} puts/s",
                    "3,000 puts/s",
                    rate >= 3000,
                    "system calls of one small file, and Python",
                )
    for store in stores.values():
        await store.aclose()


async def repeated(size: int) -> AsyncIterator[bytes]:
    """``size`` bytes of JSON lines without holding them."""
    block = b"".join(lines(8 * MiB))
    for start in range(0, size, len(block)):
        yield block[: min(len(block), size - start)]


async def rss_of(verb: str, size: int, base: str) -> None:
    folder = Path(tempfile.mkdtemp(dir=base))
    try:
        async with await opened(folder / "root", "compress+encrypt") as store:
            await store.put(None, "small", repeated(4 * MiB))
            await drained(store, "small")
            if verb == "put":
                print(await measured_growth(lambda: store.put(None, "k", repeated(size))))
            else:
                await store.put(None, "k", repeated(size))
                print(await measured_growth(lambda: drained(store, "k")))
    finally:
        shutil.rmtree(folder)


def growth(report: Report, size: int, base: str) -> None:
    for verb in ("put", "get"):
        grown = peak_growth(__file__, verb, "--root", base, "--size", str(size))
        report.judge(
            f"{size // (1024 * MiB)} GiB through compress + encrypt, {verb}: growth of RSS",
            f"{grown:.1f} MiB",
            f"under {MOST_GROWTH:g} MiB",
            grown < MOST_GROWTH,
            "frames under way between compressor, cipher and file",
        )


async def bench(*, quick: bool, base: str) -> bool:
    report = Report("pipeline")
    folder = Path(tempfile.mkdtemp(prefix="trove-bench-", dir=base))
    report.say(f"From a file to a store and back, below {base}; no fsync; BLAKE3 made and checked.")
    report.say()
    report.say(GO)
    report.say()
    try:
        await small(report, folder, 500 if quick else 2000, 5)
        await large(report, folder, 128 * MiB if quick else 1024 * MiB, 5)
    finally:
        shutil.rmtree(folder)
    growth(report, (1 if quick else 10) * 1024 * MiB, base)
    met = report.finish()
    if not quick:
        report.save()
    return met


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--root", default="/dev/shm", help="where the files go")
    parser.add_argument("--rss-of", help="measure the memory of put or get and print it")
    parser.add_argument("--size", type=int, default=1024 * MiB, help="bytes, with --rss-of")
    options = parser.parse_args()
    if options.rss_of:
        asyncio.run(rss_of(options.rss_of, options.size, options.root))
        return
    if not asyncio.run(bench(quick=options.quick, base=options.root)):
        print("not every target was met", file=sys.stderr)


if __name__ == "__main__":
    main()
