"""B. Bodies, the reading side: early ends, slow consumers, objects that change meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from typing import Self

from trove_async import ObjectReader
from trove_async.driver import Bytes, Chunks, GetOptions, RawObject
from trove_async.errors import StreamConsumedError, TroveError
from trove_async.model import MiB
from trove_async.testing.case import case, drop
from trove_async.testing.harness import Harness
from trove_async.testing.leaks import open_descriptors


def resident() -> int:
    """Bytes of this process in memory; the case is absent where that cannot be known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        drop("no /proc to measure memory by")


class Peak:
    """How far memory grows above what it was."""

    def __init__(self) -> None:
        gc.collect()
        self._before = resident()
        self.growth = 0

    def look(self) -> None:
        self.growth = max(self.growth, resident() - self._before)


@case("K045", "body_memory_flat", needs=["on_storage"], timeout=120)
async def body_memory_flat(h: Harness) -> None:
    """256 MiB put and read back; memory grows by a few chunks, not by the object."""
    if not h.stack.keeps_bodies:
        h.drop("the bodies of these transforms are in memory, not in the driver")
    total, part, concurrency = 256, 8 * MiB, 2
    chunk = bytes(range(256)) * 4096
    limit = 32 * MiB + (part * concurrency if h.features.min_part_size else 0)
    peak = Peak()

    async def source() -> AsyncIterator[bytes]:
        for number in range(total):
            peak.look()
            yield number.to_bytes(8, "big") + chunk[8:]

    info = await h.store.put(h.bucket, "k", source(), part_size=part, concurrency=concurrency)
    assert info.size == total * MiB
    assert peak.growth < limit, f"put grew memory by {peak.growth / MiB:.0f} MiB"
    peak = Peak()
    position = 0
    async with h.store.get(h.bucket, "k") as reader:
        async for piece in reader:
            peak.look()
            start = position % MiB
            if start == 0 and len(piece) >= 8:
                assert int.from_bytes(piece[:8], "big") == position // MiB, "chunks out of order"
            position += len(piece)
    assert position == total * MiB
    assert peak.growth < limit, f"get grew memory by {peak.growth / MiB:.0f} MiB"


@case("K057", "consumer_stops_early")
async def consumer_stops_early(h: Harness) -> None:
    await h.put("k", bytes(12 * MiB))
    await h.get("k")  # what a driver opens for good is open now
    before = open_descriptors()
    for _ in range(5):
        async with h.store.get(h.bucket, "k") as reader:
            async for chunk in reader:
                assert len(chunk)
                break
    for _ in range(200):
        more = {number for number in open_descriptors() if number not in before}
        if len(more) < 5:  # a connection may be kept for the next request, five may not
            break
        await asyncio.sleep(0.01)
    assert len(more) < 5, f"descriptors are left: {more}"
    assert len(await h.get("k")) == 12 * MiB


@case("K057", "reader_closed_unread")
async def reader_closed_unread(h: Harness) -> None:
    """Opened and closed without a byte; closing twice is fine."""
    await h.put("k", bytes(4 * MiB))
    reader = await h.store.get(h.bucket, "k")
    await reader.aclose()
    await reader.aclose()


class _Tapped:
    """Counts what a driver's body has given."""

    def __init__(self, body: Chunks, counted: list[int]) -> None:
        self._body = body
        self._counted = counted

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Bytes:
        chunk = await self._body.__anext__()
        self._counted[0] += len(chunk)
        return chunk

    async def aclose(self) -> None:
        await self._body.aclose()


@case("K058", "consumer_slow_backpressure")
async def consumer_slow_backpressure(h: Harness) -> None:
    size, bound = 64 * MiB, 24 * MiB
    await h.put("k", bytes(size))
    counted = [0]
    get = h.driver.get

    async def tapped(bucket: str, key: str, options: GetOptions) -> RawObject:
        raw = await get(bucket, key, options)
        return RawObject(raw.info, _Tapped(raw.body, counted), raw.start, raw.stop)

    vars(h.driver)["get"] = tapped
    peak = Peak() if h.meets("on_storage") else None
    consumed = rests = 0
    async with h.store.get(h.bucket, "k") as reader:
        async for chunk in reader:
            consumed += len(chunk)
            if consumed // MiB > rests:  # once per MiB: a layer may give very small chunks
                rests = consumed // MiB
                await asyncio.sleep(0.005)
            ahead = counted[0] - consumed
            assert ahead <= bound, f"{ahead / MiB:.0f} MiB were read ahead of a slow consumer"
            if peak is not None:
                peak.look()
                assert peak.growth <= 2 * bound, "the body is held in memory"
            if consumed >= size // 4:
                break
    assert counted[0] > 0, "the driver's body was not measured"


@case("K059", "stream_single_use")
async def stream_single_use(h: Harness) -> None:
    await h.put("k", b"body")
    async with h.store.get(h.bucket, "k") as reader:
        assert b"".join([chunk async for chunk in reader]) == b"body"
        with h.raises(StreamConsumedError):
            async for _ in reader:
                pass


async def _finish(reader: ObjectReader, first: bytes) -> bytes | None:
    """The whole body, or None when a typed error ended it."""
    parts = [first]
    try:
        while piece := await reader.read(MiB):
            parts.append(piece)
    except TroveError:
        return None
    return b"".join(parts)


@case("K060", "get_after_overwrite_while_open")
async def get_after_overwrite_while_open(h: Harness) -> None:
    size = 24 * MiB
    await h.put("k", b"A" * size)
    async with h.store.get(h.bucket, "k") as reader:
        first = await reader.read(1000)
        await h.put("k", b"B" * size)
        rest = await _finish(reader, first)
    assert rest in (None, b"A" * size), "the reader saw bytes of two versions"
    assert await h.get("k") == b"B" * size


@case("K061", "get_after_delete_while_open")
async def get_after_delete_while_open(h: Harness) -> None:
    size = 24 * MiB
    await h.put("k", b"A" * size)
    async with h.store.get(h.bucket, "k") as reader:
        first = await reader.read(1000)
        await h.store.delete(h.bucket, "k")
        rest = await _finish(reader, first)
    assert rest in (None, b"A" * size), "the reader saw something else than the object"
    assert not await h.store.exists(h.bucket, "k")
