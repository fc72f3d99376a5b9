"""L. Leaks, slow workers, abandoned readers, time limits, other event loops."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trove_async import Trove
from trove_async.config import Timeouts
from trove_async.errors import ObjectNotFoundError, OperationTimeoutError, TroveError
from trove_async.testing.case import Case, Deliberate, case, load_cases
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source, hang, stalled
from trove_async.testing.harness import Harness, run_case
from trove_async.testing.leaks import keep_since, open_descriptors
from trove_async.testing.setups import Place, faulty_place, files_of, place_of

CANARY = b"SECRET-" * 1000


@contextmanager
def slow_writes(seconds: float) -> Iterator[list[int]]:
    """Writes of worker threads to regular files take so long; gives their descriptors."""
    hit: list[int] = []
    main = threading.get_ident()
    real = {name: getattr(os, name) for name in ("write", "writev", "pwrite", "pwritev")}

    def slowed(name: str) -> Callable[..., int]:
        def write(fd: int, *args: object) -> int:
            if threading.get_ident() != main:
                hit.append(fd)
                time.sleep(seconds)
            written: int = real[name](fd, *args)
            return written

        return write

    for name in real:
        setattr(os, name, slowed(name))
    try:
        yield hit
    finally:
        for name, function in real.items():
            setattr(os, name, function)


@case("K177", "cancel_slow_thread", needs=["on_storage"], stacks=False)
async def cancel_slow_thread(h: Harness) -> None:
    """A worker still writes when the put is cancelled. Were its descriptor closed meanwhile,
    the number would be given to the next file that is opened, and the body written there."""
    large = CANARY * 400
    with tempfile.TemporaryDirectory(prefix="trove-victims-") as folder:
        victims: list[int] = []
        with slow_writes(0.2) as hit:
            putting = asyncio.create_task(h.put("k", Source(large, 1_400_000)))
            for _ in range(100):
                await asyncio.sleep(0.005)
                if hit or putting.done():
                    break
            if not hit:
                await putting
                h.drop("driver writes no files in worker threads of this process")
            await asyncio.sleep(0.05)
            putting.cancel()

            async def plant() -> None:
                for number in range(50):
                    path = os.path.join(folder, str(number))
                    victims.append(os.open(path, os.O_RDWR | os.O_CREAT))
                    await asyncio.sleep(0.001)

            planting = asyncio.create_task(plant())
            await asyncio.wait([putting, planting])
            await asyncio.sleep(0.3)
        for fd in victims:
            os.close(fd)
        spoilt = [p.name for p in Path(folder).iterdir() if p.stat().st_size]
    assert putting.cancelled()
    assert not spoilt, f"the body was written into foreign files {spoilt}"
    if await h.store.exists(h.bucket, "k"):  # one job wrote and published it: new, and whole
        assert await h.get("k") == large, "a cancelled put left half a body"


@case("K180", "generator_abandoned_gc")
async def generator_abandoned_gc(h: Harness) -> None:
    h.permits(ResourceWarning)
    await h.put("k", noise(3_000_000))
    assert len(await h.get("k")) == 3_000_000
    before = len(open_descriptors())
    for _ in range(5):
        reader = await h.store.get(h.bucket, "k")
        assert await reader.read(10)
        del reader
        iterator = (await h.store.get(h.bucket, "k")).__aiter__()
        assert await anext(iterator)
        del iterator
    entries = h.store.list(h.bucket, page_size=1)
    async for _ in entries:
        break
    del entries
    for _ in range(100):
        gc.collect()
        await asyncio.sleep(0.005)
        if len(open_descriptors()) <= before:
            break
    assert len(open_descriptors()) <= before, "descriptors of dropped readers stay open"
    assert len(await h.get("k")) == 3_000_000


async def _any_operation(place: Place, chance: random.Random) -> None:
    key = chance.choice(["a", "b", "d/c", "d/e"])
    number = chance.randrange(9)
    body = b"%d" % number * chance.choice([1, 1000, 100_000])
    metadata = {"n": str(number)}
    store, bucket = place.store, place.bucket
    kind = chance.randrange(8)
    if kind == 0:
        await store.put(bucket, key, body, metadata=metadata)
    elif kind == 1:
        await store.put(bucket, key, Source(body, 40_000, delay=0), metadata=metadata)
    elif kind == 2:
        await store.delete(bucket, key)
    elif kind == 3:
        source = Source(body, 40_000, delay=0, error=Deliberate("broken body"))
        with suppress(Deliberate):
            await store.put(bucket, key, source, metadata=metadata)
    elif kind == 4:
        await store.list_page(bucket)
    elif kind == 5:
        with suppress(ObjectNotFoundError):
            await store.copy(bucket, key, bucket, chance.choice(["a", "d/e"]))
    else:
        with suppress(ObjectNotFoundError):
            async with store.get(bucket, key) as reader:
                async for _ in reader:
                    if kind == 7:
                        break
                    await asyncio.sleep(0)


@case("K181", "leak_soak", params=["plain", "stepped"], timeout=120)
async def leak_soak(h: Harness, kind: str) -> None:
    """A thousand operations, ten at a time, three of ten cancelled somewhere."""
    place = await place_of(h, kind)
    chance = random.Random(181)
    await _any_operation(place, chance)
    tasks_before, threads_before = len(asyncio.all_tasks()), threading.active_count()
    descriptors = len(open_descriptors())

    async def worker() -> None:
        for _ in range(100):
            task = asyncio.create_task(_any_operation(place, chance))
            if chance.random() < 0.3:
                for _ in range(chance.randrange(8)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    await asyncio.gather(*(worker() for _ in range(10)))
    for info in (await place.store.list_page(place.bucket)).objects:
        body = await place.get(info.key)
        found = await place.store.head(place.bucket, info.key)
        assert body == found.metadata["n"].encode() * len(body), f"{info.key!r} is torn"
    assert await place.uploads() == []
    assert len(asyncio.all_tasks()) <= tasks_before, "tasks are left"
    assert threading.active_count() <= threads_before + 64, "threads grow with the operations"
    for _ in range(100):
        if len(open_descriptors()) <= descriptors + 16:
            break
        await asyncio.sleep(0.01)
    assert len(open_descriptors()) <= descriptors + 16, "descriptors grow with the operations"
    for key in [info.key for info in (await place.store.list_page(place.bucket)).objects]:
        await place.store.delete(place.bucket, key)
    first = files_of(place.driver)
    for _ in range(100):
        with suppress(Deliberate):
            await place.store.put(
                place.bucket, "a", Source(b"x" * 9, 3, error=Deliberate("broken"), fail_at=2)
            )
    assert files_of(place.driver) <= first, "temporary files grow with the operations"


@case("K182", "open_close_100", stacks=False)
async def open_close_100(h: Harness) -> None:
    """The invariants that are checked after every case find what a hundred rounds leave."""
    driver = h.sibling() if h.meets("sibling") else h.new_driver()

    def threads_now() -> int:
        # asyncio's own pool grows up to its limit and ends with the loop.
        return sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())

    threads, descriptors = threads_now(), len(open_descriptors())
    for _ in range(100):
        await driver.open()
        await driver.close()
    for _ in range(3):
        async with Trove(driver) as store:
            await store.ping()
    assert threads_now() <= threads, "threads grow with open and close"
    assert len(open_descriptors()) <= descriptors, "descriptors grow with open and close"


Attempt = Callable[[Place], Awaitable[object]]


async def _read(place: Place) -> None:
    await place.store.get_bytes(place.bucket, "k")


_VERBS: dict[str, Attempt] = {
    "put": lambda p: p.store.put(p.bucket, "k", b"new"),
    "get": _read,
    "head": lambda p: p.store.head(p.bucket, "k"),
    "delete": lambda p: p.store.delete(p.bucket, "k"),
    "list": lambda p: p.store.list_page(p.bucket),
    "copy": lambda p: p.store.copy(p.bucket, "k", p.bucket, "k2"),
    "list_buckets": lambda p: p.store.list_buckets(),
    "create_bucket": lambda p: p.store.create_bucket("trove-never-made"),
}


@case("K183", "timeout_honoured", params=list(_VERBS))
async def timeout_honoured(h: Harness, verb: str) -> None:
    """A backend that never answers ends in the typed error, soon. The limit is one that a
    server on a busy machine keeps when it does answer."""
    for timeouts in (Timeouts(total=0.25), Timeouts(read=0.25)):
        if timeouts.total is None and verb not in ("put", "get", "head", "delete", "list"):
            continue  # bounded by the total alone
        place, driver = await faulty_place(h, timeouts=timeouts)
        await place.store.put(place.bucket, "k", b"old")
        driver.add(hang(verb))
        started = time.monotonic()
        with h.raises(OperationTimeoutError) as raised:
            async with asyncio.timeout(5):
                await _VERBS[verb](place)
        assert isinstance(raised.error, TroveError)
        assert time.monotonic() - started < 1, "not in time"
        driver.faults.clear()
        assert await place.get("k") == b"old"


@case("K183", "timeout_of_a_body")
async def timeout_of_a_body(h: Harness) -> None:
    """The body stops coming: the limit counts from the last progress, not from the start."""
    if not h.stack.keeps_bodies:
        h.drop("the bodies of these transforms are not in the driver")
    place, driver = await faulty_place(h, timeouts=Timeouts(read=0.1))
    body = noise(200_000)
    await place.store.put(place.bucket, "k", body)
    driver.add(stalled(50_000))
    started = time.monotonic()
    with h.raises(OperationTimeoutError):
        async with asyncio.timeout(5):
            await place.get("k")
    assert time.monotonic() - started < 2
    driver.faults.clear()
    assert await place.get("k") == body
    source = Source(b"slow" * 10, 10, delay=0.06)  # our own body may take its time
    await place.store.put(place.bucket, "slow", source)
    assert await place.get("slow") == b"slow" * 10


# fmt: off
_SAMPLE = frozenset(f"K{number:03}" for number in (
    1, 16, 44, 52, 54, 57, 60, 80, 89, 104, 118, 121, 127, 133, 143, 153, 164, 166, 170, 176,
    178, 185, 187, 197, 205, 225, 233, 238,
))
# fmt: on


def _sample() -> list[tuple[Case, tuple[object, ...]]]:
    """The first node of each function."""
    return [
        (one, next(one.nodes())[1])
        for id, cases in load_cases().items()
        if id in _SAMPLE
        for one in cases
    ]


def _differing(h: Harness, make: Callable[[], asyncio.AbstractEventLoop] | None) -> list[str]:
    """What fails under another loop, or in debug mode when none is given."""
    return [
        f"{one.id}_{one.name}: {result.reason}"
        for one, args in _sample()
        if (
            result := run_case(one, args, h.factory, h.stack, debug=make is None, loop_factory=make)
        ).outcome
        == "failed"
    ]


@case("K184", "debug_mode", timeout=240)
async def debug_mode(h: Harness) -> None:
    """A sample of the suite, with asyncio's debug mode on."""
    different = await asyncio.to_thread(_differing, h, None)
    assert not different, different


@case("K184", "uvloop", timeout=240)
async def uvloop(h: Harness) -> None:
    """The same sample, under uvloop."""
    try:
        import uvloop as other
    except ImportError:
        h.drop("uvloop is not installed")
    before = open_descriptors()
    other.new_event_loop().close()
    keep_since(before)  # libuv has one pipe for signals as long as the process lives
    different = await asyncio.to_thread(_differing, h, other.new_event_loop)
    assert not different, different
