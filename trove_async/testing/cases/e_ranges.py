"""E. Ranges: Python's slices, on every backend and through every layer."""

from __future__ import annotations

import asyncio
import random

from trove_async.driver import GetOptions
from trove_async.errors import InvalidRangeError, ObjectNotFoundError
from trove_async.testing.case import case, drop
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.harness import Harness

HUNDRED = bytes(range(100))
FOURTEEN = b"fourteen bytes"


async def part(h: Harness, wanted: slice, key: str = "k") -> bytes:
    """Through the reader and at once; both must say the same."""
    async with h.store.get(h.bucket, key, range=wanted) as reader:
        streamed = b"".join([chunk async for chunk in reader])
    assert streamed == await h.store.get_bytes(h.bucket, key, range=wanted)
    return streamed


async def refused(h: Harness, wanted: slice, *kinds: type[Exception], key: str = "k") -> None:
    with h.raises(*kinds):
        await h.store.get_bytes(h.bucket, key, range=wanted)
    with h.raises(*kinds):
        await h.store.get(h.bucket, key, range=wanted)


@case("K089", "range_option_honoured")
async def range_option_honoured(h: Harness) -> None:
    await h.put("k", HUNDRED)
    async with h.store.get(h.bucket, "k", range=slice(10, 20)) as reader:
        assert reader.info.size == 100, "the size is that of the object"
        assert await reader.read() == HUNDRED[10:20]
    assert await part(h, slice(10, 20)) == HUNDRED[10:20]


@case("K090", "range_first_byte_0_0")
async def range_first_byte_0_0(h: Harness) -> None:
    await h.put("k", HUNDRED)
    assert await part(h, slice(0, 1)) == HUNDRED[:1]


@case("K091", "range_full")
async def range_full(h: Harness) -> None:
    await h.put("k", HUNDRED)
    assert await part(h, slice(0, 100)) == HUNDRED
    assert await part(h, slice(0, None)) == HUNDRED


@case("K092", "range_open_end")
async def range_open_end(h: Harness) -> None:
    await h.put("k", HUNDRED)
    assert await part(h, slice(3, None)) == HUNDRED[3:]
    assert await part(h, slice(99, None)) == HUNDRED[99:]


@case("K093", "range_suffix")
async def range_suffix(h: Harness) -> None:
    await h.put("k", HUNDRED)
    assert await part(h, slice(-5, None)) == HUNDRED[-5:]
    assert await part(h, slice(-1, None)) == HUNDRED[-1:]


@case("K094", "range_suffix_longer_than_object")
async def range_suffix_longer_than_object(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    assert await part(h, slice(-1000, None)) == FOURTEEN
    assert await part(h, slice(-15, None)) == FOURTEEN


@case("K095", "range_suffix_of_empty_and_whole")
async def range_suffix_of_empty_and_whole(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    assert await part(h, slice(-14, None)) == FOURTEEN
    await h.put("k", b"")
    assert await part(h, slice(-1, None)) == b""


@case("K096", "range_end_past_eof")
async def range_end_past_eof(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    assert await part(h, slice(2, 101)) == FOURTEEN[2:]
    assert await part(h, slice(13, 15)) == FOURTEEN[13:]
    assert await part(h, slice(0, 1 << 62)) == FOURTEEN


@case("K097", "range_start_at_eof")
async def range_start_at_eof(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    await refused(h, slice(14, None), InvalidRangeError)
    await refused(h, slice(14, 20), InvalidRangeError)


@case("K097", "range_start_past_eof")
async def range_start_past_eof(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    await refused(h, slice(15, None), InvalidRangeError)
    await refused(h, slice(1000, 2000), InvalidRangeError)
    await refused(h, slice(1 << 62, None), InvalidRangeError)
    assert await h.get("k") == FOURTEEN


_NO_RANGES = {
    "stop_before_start": slice(5, 2),
    "negative_stop": slice(0, -1),
    "step": slice(0, 10, 2),
    "step_back": slice(10, 0, -1),
}


@case("K098", "range_stop_before_start", params=_NO_RANGES)
async def range_stop_before_start(h: Harness, wanted: slice) -> None:
    await h.put("k", FOURTEEN)
    before = h.calls
    await refused(h, wanted, ValueError)
    with h.raises(ValueError):
        await h.store.get_ranges(h.bucket, "k", [slice(0, 1), wanted])
    assert h.calls == before, "the driver was asked"


@case("K099", "range_empty_object")
async def range_empty_object(h: Harness) -> None:
    """Any slice from 0 and any suffix of an empty object is empty; others are refused."""
    await h.put("k", b"")
    for wanted in (slice(0, 0), slice(0, 1), slice(0, None), slice(-5, None), slice(0, 500)):
        assert await part(h, wanted) == b"", f"{wanted}"
    await refused(h, slice(1, None), InvalidRangeError)
    await refused(h, slice(1, 2), InvalidRangeError)


@case("K100", "range_length_zero")
async def range_length_zero(h: Harness) -> None:
    await h.put("k", FOURTEEN)
    for at in (0, 5, 13, 14, 100):
        assert await part(h, slice(at, at)) == b"", f"empty range at {at}"
    with h.raises(ObjectNotFoundError):
        await h.store.get_bytes(h.bucket, "missing", range=slice(5, 5))


@case("K100", "range_of_a_deleted_object", params=[slice(5, 5), slice(2, 4), slice(-3, None)])
async def range_of_a_deleted_object(h: Harness, wanted: slice) -> None:
    """Nothing remembered of an object outlives it, not even for an empty range."""
    await h.put("k", FOURTEEN)
    assert await part(h, slice(2, 4)) == FOURTEEN[2:4]
    await h.store.delete(h.bucket, "k")
    await refused(h, wanted, ObjectNotFoundError)


@case("K097", "range_after_overwrite")
async def range_after_overwrite(h: Harness) -> None:
    """Ranges follow the object that is there now, whatever its size was before."""
    for body in (FOURTEEN, b"x", HUNDRED, b"", FOURTEEN):
        await h.put("k", body)
        assert await part(h, slice(-5, None)) == body[-5:]
        assert await part(h, slice(0, 50)) == body[:50]
        if len(body) > 10:
            assert await part(h, slice(10, 60)) == body[10:60]
        else:
            await refused(h, slice(10, 60), InvalidRangeError)


def drawn(chance: random.Random, size: int) -> slice:
    """A legal range that begins inside an object of ``size`` bytes; edges come often."""
    edges = [0, 1, size // 2, size - 1, 4095, 4096, 65_535, 65_536]
    start = chance.choice([*[e for e in edges if 0 <= e < size], chance.randrange(size)])
    form = chance.randrange(4)
    if form == 0:
        return slice(start, None)
    if form == 1:
        return slice(-chance.randrange(1, 2 * size), None)
    if form == 2:
        return slice(start, start + chance.randrange(2 * size))
    return slice(start, start + chance.randrange(min(size, 64) + 1))


@case("K101", "ranges_many")
async def ranges_many(h: Harness) -> None:
    body = noise(300_000)
    await h.put("k", body)
    chance = random.Random(101)
    wanted = [drawn(chance, len(body)) for _ in range(50)]
    found = await asyncio.gather(*(h.store.get_bytes(h.bucket, "k", range=one) for one in wanted))
    for one, got in zip(wanted, found, strict=True):
        assert got == body[one], f"{one}"


@case("K101", "ranges_in_one_call", params=[0, 1000, 1 << 20])
async def ranges_in_one_call(h: Harness, coalesce: int) -> None:
    """Overlapping, equal, empty and unordered ranges; answers in the order asked."""
    body = noise(300_000)
    await h.put("k", body)
    chance = random.Random(coalesce)
    wanted = [drawn(chance, len(body)) for _ in range(30)] + [slice(5, 5), slice(0, 9), slice(0, 9)]
    found = await h.store.get_ranges(h.bucket, "k", wanted, coalesce=coalesce)
    for one, got in zip(wanted, found, strict=True):
        assert got == body[one], f"{one}"
    assert await h.store.get_ranges(h.bucket, "k", []) == []
    with h.raises(InvalidRangeError):
        await h.store.get_ranges(h.bucket, "k", [slice(0, 1), slice(len(body), None)])


@case("K102", "range_random_model", params=[0, 1, 2, 3])
async def range_random_model(h: Harness, seed: int) -> None:
    """Bodies and ranges drawn at random, against Python's slice."""
    chance = random.Random(seed)
    for size in (1, 2, 17, 4096, 4097, 65_537, chance.randrange(1, 200_000)):
        body = noise(size, seed + size)
        await h.put("k", body)
        for _ in range(15):
            wanted = drawn(chance, size)
            assert await h.store.get_bytes(h.bucket, "k", range=wanted) == body[wanted], (
                f"{wanted} of {size} bytes, seed {seed}"
            )


@case("K103", "range_through_middlewares")
async def range_through_middlewares(h: Harness) -> None:
    """A range of what the user wrote, although the backend holds something else."""
    if h.bare:
        drop("no transform is in use in this run")
    body = b"a compressible line of text\n" * 10_000
    await h.put("k", body)
    raw = await h.driver.get(h.bucket, "k", GetOptions())
    try:
        stored = b"".join([bytes(chunk) async for chunk in raw.body])
    finally:
        await raw.body.aclose()
    assert stored != body, "the transform was not applied"
    chance = random.Random(103)
    for _ in range(30):
        wanted = drawn(chance, len(body))
        assert await part(h, wanted) == body[wanted], f"{wanted}"
