"""K. Overwrites and concurrency: a reader sees one put, whole, with its own metadata."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from trove_async import ObjectReader
from trove_async.errors import ObjectNotFoundError, WrongLoopError
from trove_async.model import MiB
from trove_async.testing.case import case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness
from trove_async.testing.leaks import open_descriptors
from trove_async.testing.setups import Place, place_of


@case("K157", "read_after_write", needs=["sibling"])
async def read_after_write(h: Harness) -> None:
    """Another client sees a put, an overwrite and a delete as soon as they have returned."""
    other = await h.sibling_store()
    for number in range(20):
        body = b"%d" % number
        await h.put("k", body, metadata={"n": str(number)})
        assert await other.get_bytes(h.bucket, "k") == body
        info = await other.head(h.bucket, "k")
        assert dict(info.metadata) == {"n": str(number)}
    assert await h.get("k") == b"19"
    await other.put(h.bucket, "k", b"from there")
    assert await h.get("k") == b"from there"
    await h.store.delete(h.bucket, "k")
    assert not await other.exists(h.bucket, "k")


@case("K158", "overwrite_shrinks_and_grows")
async def overwrite_shrinks_and_grows(h: Harness) -> None:
    large = noise(MiB)
    for body in (large, b"x", large, b"", noise(MiB, 2), b"y" * 1000):
        await h.put("k", body)
        assert await h.get("k") == body, "a tail of the old object, or too little of the new"
        assert (await h.store.head(h.bucket, "k")).size == len(body)
        source = Source(body, 100_000, delay=0)
        await h.put("k", source)
        assert await h.get("k") == body


@case("K159", "overwrite_atomic_readers", params=["plain", "stepped"])
async def overwrite_atomic_readers(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    size = 200_000
    etags: dict[str, str] = {}
    seen: list[tuple[str, str]] = []
    done = False

    async def write(letter: str) -> None:
        body = Source(letter.encode() * size, 50_000, delay=0)
        info = await place.store.put(place.bucket, "k", body, metadata={"letter": letter})
        etags[info.etag] = letter

    async def read() -> None:
        while not done:
            async with place.store.get(place.bucket, "k") as reader:
                body = await reader.read()
                letter = reader.info.metadata["letter"]
            assert body == letter.encode() * size, f"torn: {letter} with {body[:1]!r}"
            seen.append((reader.info.etag, letter))
            await asyncio.sleep(0)

    await write("A")
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(read())
        try:
            for number in range(20):
                await write("BA"[number % 2])
                await asyncio.sleep(0)
        finally:
            done = True
    assert len(seen) >= 8
    for etag, letter in seen:
        assert etags.get(etag) == letter, f"the ETag {etag} belongs to another put"


@case("K160", "concurrent_puts_same_key", params=["plain", "stepped"])
async def concurrent_puts_same_key(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)

    async def write(number: int) -> str:
        text = b"%02d" % number * 30_000
        body = Source(text, 7_000 + number, delay=0)
        metadata = {"number": str(number)}
        return (await place.store.put(place.bucket, "k", body, metadata=metadata)).etag

    etags = await asyncio.gather(*(write(number) for number in range(20)))
    assert len(set(etags)) == 20, "two writers were given one ETag"
    async with place.store.get(place.bucket, "k") as reader:
        body = await reader.read()
        number = int(reader.info.metadata["number"])
    assert body == b"%02d" % number * 30_000, "the body is not the one writer's"
    assert reader.info.etag == etags[number]


@case("K161", "concurrent_puts_distinct_keys")
async def concurrent_puts_distinct_keys(h: Harness) -> None:
    chance = random.Random(161)
    bodies = {f"{n % 5}/{n % 11}/{n}": chance.randbytes(n * 37) for n in range(200)}
    await asyncio.gather(*(h.put(key, body, metadata={"key": key}) for key, body in bodies.items()))
    assert sorted(await h.keys()) == sorted(bodies)
    for key, found in zip(bodies, await asyncio.gather(*map(h.get, bodies)), strict=True):
        assert found == bodies[key], f"{key!r} holds something else"
        assert (await h.store.head(h.bucket, key)).metadata["key"] == key


@case("K162", "concurrent_put_delete", params=["plain", "stepped"])
async def concurrent_put_delete(h: Harness, kind: str) -> None:
    place = await place_of(h, kind)
    done = False

    async def read() -> None:
        while not done:
            try:
                async with place.store.get(place.bucket, "d/k") as reader:
                    body, name = await reader.read(), reader.info.metadata["n"]
            except ObjectNotFoundError:
                pass
            else:
                assert body == name.encode() * 50_000, "torn"
            await asyncio.sleep(0)

    async def write() -> None:
        for number in range(20):
            body = Source(b"%d" % (number % 10) * 50_000, 20_000, delay=0)
            metadata = {"n": str(number % 10)}
            await place.store.put(place.bucket, "d/k", body, metadata=metadata)
            await asyncio.sleep(0)

    async def delete() -> None:
        for _ in range(30):
            await place.store.delete(place.bucket, "d/k")
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(read())
        try:
            await asyncio.gather(write(), write(), delete())
        finally:
            done = True


@case("K163", "concurrent_get_500")
async def concurrent_get_500(h: Harness) -> None:
    bodies = [noise(1000 + number * 331, number) for number in range(50)]
    for number, body in enumerate(bodies):
        await h.put(f"{number}", body)
    sockets = 0

    async def read(number: int) -> bool:
        nonlocal sockets
        async with h.store.get(h.bucket, f"{number % 50}") as reader:
            found = await reader.read(500)
            if number % 50 == 0:
                names = open_descriptors().values()
                sockets = max(sockets, sum(name.startswith("socket:") for name in names))
            found += await reader.read()
        return found == bodies[number % 50]

    before = sum(name.startswith("socket:") for name in open_descriptors().values())
    assert all(await asyncio.gather(*(read(number) for number in range(500))))
    assert sockets - before <= 128, f"{sockets - before} connections at once"


@case("K164", "put_not_visible_before_done", params=["new", "overwrite"])
async def put_not_visible_before_done(h: Harness, what: str) -> None:
    """Half a body has been taken; it may be in the backend, but nobody sees any of it."""
    part = max(h.features.min_part_size or 0, 2 * MiB)
    body = noise(3 * part)
    if what == "overwrite":
        await h.put("k", b"old", metadata={"n": "old"})
    gate = asyncio.Event()
    source = Source(body, part // 2, gate=gate, gate_at=4)
    putting = asyncio.create_task(h.put("k", source, metadata={"n": "new"}))
    stores = [h.store]
    if h.meets("sibling"):
        stores.append(await h.sibling_store())
    try:
        await asyncio.wait(
            [putting, waiting := asyncio.create_task(source.waiting.wait())],
            return_when=asyncio.FIRST_COMPLETED,
        )
        waiting.cancel()
        assert not putting.done(), "the put ended before its body did"
        await asyncio.sleep(0.02)
        for store in stores:
            listed = [info.key for info in (await store.list_page(h.bucket)).objects]
            if what == "new":
                assert not await store.exists(h.bucket, "k")
                with h.raises(ObjectNotFoundError):
                    await store.get_bytes(h.bucket, "k")
                assert listed == []
            else:
                assert await store.get_bytes(h.bucket, "k") == b"old"
                assert dict((await store.head(h.bucket, "k")).metadata) == {"n": "old"}
                assert listed == ["k"]
    finally:
        gate.set()
        await asyncio.wait([putting])
    assert (await putting).size == len(body)
    assert await h.get("k") == body


@case("K167", "loop_not_blocked", timeout=240, stacks=False)
async def loop_not_blocked(h: Harness) -> None:
    """While 64 MiB and 10,000 keys are worked on, other tasks get their turn. A busy machine
    holds them up too: what it takes is not counted, and the best of several runs is."""
    many = 10_000
    await asyncio.gather(*(_fill(h, range(start, many, 32)) for start in range(32)))
    body = noise(64 * MiB)
    place = Place(h.store, h.driver, h.bucket)
    works: dict[str, Callable[[], object]] = {
        "put": lambda: h.put("large", Source(body, MiB, delay=0)),
        "get": lambda: _drained(place),
        "copy": lambda: h.store.copy(h.bucket, "large", h.bucket, "other"),
        "list": lambda: _paged(place),
    }
    with _idle_process() as machine:
        for name, work in works.items():
            best = float("inf")
            for number in range(24):
                await asyncio.sleep(0.1 if number else 0)  # what keeps a machine busy may end
                machine()
                busy, idle = await _longest_gaps(work())
                best = min(best, max(busy, idle - machine()))
                if best < 0.05:
                    break
            assert best < 0.05, f"{name} held the event loop for {best * 1000:.0f} ms"


async def _fill(h: Harness, numbers: range) -> None:
    for number in numbers:
        await h.put(f"n/{number:05}", b"")


async def _drained(place: Place) -> None:
    reader: ObjectReader
    async with place.store.get(place.bucket, "large") as reader:
        async for _ in reader:
            await asyncio.sleep(0)


async def _paged(place: Place) -> None:
    cursor: str | None = None
    while True:
        page = await place.store.list_page(place.bucket, cursor=cursor)
        await asyncio.sleep(0)
        cursor = page.cursor
        if cursor is None:
            return


_CONTROL = """
import select, sys, time
last, longest = time.perf_counter(), 0.0
while True:
    ready = select.select([sys.stdin], [], [], 0.001)[0]
    now = time.perf_counter()
    longest, last = max(longest, now - last), now
    if ready:
        if not sys.stdin.readline():
            break
        sys.stdout.write(f"{longest}\\n")
        sys.stdout.flush()
        longest = 0.0
"""


@contextmanager
def _idle_process() -> Iterator[Callable[[], float]]:
    """A process that only sleeps, a millisecond at a time. Asked, it says how long it was kept
    from waking, at most, since it was asked last: what the machine takes from everybody."""
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _CONTROL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        asking, answers = process.stdin, process.stdout
        assert asking is not None and answers is not None

        def ask() -> float:
            asking.write("\n")
            asking.flush()
            return float(answers.readline())

        ask()
        yield ask


async def _longest_gaps(work: object) -> tuple[float, float]:
    """Between two turns of the loop, at most, while ``work`` is awaited: seconds that its thread
    computed, and seconds that it stood still, because it was blocked or had no core."""
    assert asyncio.iscoroutine(work)
    busy = idle = 0.0

    async def beat() -> None:
        nonlocal busy, idle
        last, used = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now, using = time.perf_counter(), time.thread_time()
            busy = max(busy, using - used)
            idle = max(idle, now - last - (using - used))
            last, used = now, using

    beating = asyncio.create_task(beat())
    await asyncio.sleep(0)
    try:
        await work
        await asyncio.sleep(0.002)
    finally:
        beating.cancel()
        await asyncio.wait([beating])
    return busy, idle


@case("K168", "many_event_loops", stacks=False)
async def many_event_loops(h: Harness) -> None:
    """A store belongs to the loop it was opened in; from another it says so and does not hang."""
    await h.put("k", b"body")

    def elsewhere() -> list[str]:
        async def attempt() -> list[str]:
            said: list[str] = []
            for work in (
                lambda: h.store.get_bytes(h.bucket, "k"),
                lambda: h.store.put(h.bucket, "k", b"other"),
                lambda: h.store.list_page(h.bucket),
                lambda: h.store.delete(h.bucket, "k"),
            ):
                try:
                    async with asyncio.timeout(5):
                        await work()
                except WrongLoopError:
                    said.append("typed")
            return said

        return asyncio.run(attempt())

    assert await asyncio.to_thread(elsewhere) == ["typed"] * 4
    assert await h.get("k") == b"body", "the first loop still works, and nothing was changed"
