"""What would expand without bound is refused before it is decoded, in flat memory."""

from __future__ import annotations

import hashlib
import struct
import tracemalloc
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from functools import cache

import pytest
import zstandard

import trove_async as trove
from tests.middleware.compress.zst import (
    MARKER,
    Below,
    built,
    every,
    frame_of,
    info_of,
    layout_of,
    ranged,
    read,
    table_of,
    text,
    written,
)
from trove_async import (
    Chunks,
    CorruptFrameError,
    DecompressionLimitError,
    FormatLimitError,
    IntegrityError,
    SeekTableError,
)
from trove_async.middleware.compress import Compress

MiB = 1 << 20


@contextmanager
def flat(limit: int = 2 * MiB) -> Iterator[None]:
    """At most ``limit`` bytes more at any time than before."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak:,} bytes"


@cache
def zeros(size: int) -> bytes:
    """One frame of so many zeros, made in pieces."""
    encoder = zstandard.ZstdCompressor(write_checksum=True).compressobj(size=size)
    block = bytes(MiB)
    parts = [encoder.compress(block) for _ in range(size // MiB)]
    return b"".join([*parts, encoder.flush()])


def lying(frame: bytes, dsize: int) -> bytes:
    """An object of one frame with a table that says ``dsize``."""
    entries = [(24, 0), (len(frame), dsize), (60, 0)]
    return built([b""], frames=[frame], size=dsize, digest=bytes(32), entries=entries)


async def refused_both_ways(
    stored: bytes, error: type[IntegrityError], layer: Compress | None = None
) -> None:
    layer = layer or Compress()
    for cuts in ([], [1000]):
        with flat(), pytest.raises(error):
            await read(layer, stored, cuts)
    with flat(), pytest.raises(error):
        await ranged(await layout_of(layer, stored), stored, 0, 10)


async def test_a_frame_of_512_mib_of_zeros() -> None:
    frame = zeros(512 * MiB)
    assert len(frame) < 64 * 1024
    await refused_both_ways(lying(frame, 512 * MiB), DecompressionLimitError)
    large = MARKER[:16] + struct.pack("<II", 512 * MiB, 0)
    await refused_both_ways(large + lying(frame, 512 * MiB)[24:], DecompressionLimitError)


async def test_a_frame_of_512_mib_that_the_table_says_is_small() -> None:
    """The trap of one-shot decoders: they allocate what the frame declares."""
    await refused_both_ways(lying(zeros(512 * MiB), 1000), DecompressionLimitError)


async def test_a_frame_larger_than_the_marker_promises() -> None:
    stored = lying(zeros(2 * MiB), 2 * MiB)
    with flat(), pytest.raises(DecompressionLimitError):
        await read(Compress(), stored)


@pytest.mark.parametrize("descriptor", [0xA8, 0xA9, 0xFF, 0x80])
@pytest.mark.parametrize("flags", [0x00, 0x04, 0x84])
async def test_S38_a_window_descriptor_of_two_gib(descriptor: int, flags: int) -> None:
    frame = b"\x28\xb5\x2f\xfd" + bytes([flags, descriptor])
    frame += struct.pack("<I", 1000) + b"\x01\x00\x00" + bytes(8)
    await refused_both_ways(lying(frame, 1000), DecompressionLimitError)


async def test_a_frame_without_a_size() -> None:
    encoder = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    frame = b"".join([encoder.compress(bytes(MiB)) for _ in range(64)]) + encoder.flush()
    await refused_both_ways(lying(frame, 1000), DecompressionLimitError)


@pytest.mark.parametrize("declared", [1, 999, 1001, 2 * MiB])
async def test_a_frame_that_lies_about_its_size(declared: int) -> None:
    frame = b"\x28\xb5\x2f\xfd\xa4" + struct.pack("<I", declared)
    honest = frame_of(bytes(1000))
    start = 4 + 1 + 2
    frame += honest[start:]
    stored = lying(frame, declared)
    stored = MARKER[:16] + struct.pack("<II", 16 * MiB, 0) + stored[24:]
    for cuts in ([], [7]):
        with flat(3 * MiB), pytest.raises(CorruptFrameError):
            await read(Compress(), stored, cuts)
    layout = await layout_of(Compress(), stored)
    with flat(3 * MiB), pytest.raises(CorruptFrameError):
        await ranged(layout, stored, 0, 1)


async def test_a_frame_that_never_ends_is_given_up_in_time() -> None:
    given = 0

    async def endless() -> AsyncGenerator[bytes, None]:
        nonlocal given
        yield MARKER + b"\x28\xb5\x2f\xfd\xa4" + struct.pack("<I", MiB)
        block = (2 << 1 | 100_000 << 3).to_bytes(3, "little") + bytes(100_000)
        while given < 64 * MiB:
            given += len(block)
            yield block

    context = trove.Context("get", "box", "k")
    with flat(4 * MiB), pytest.raises(CorruptFrameError):
        async with aclosing(endless()) as body, aclosing(await Compress().read(body, context)) as r:
            async for _ in r:
                pass
    assert given < 2 * MiB


async def test_a_table_of_two_to_the_27_entries() -> None:
    good = built([text(500)])
    for count, error in [(1 << 27, FormatLimitError), ((1 << 27) + 1, SeekTableError)]:
        stored = good[:-9] + struct.pack("<IB", count, 0) + good[-4:]
        with flat(), pytest.raises(error):
            await layout_of(Compress(), stored)
        with flat(), pytest.raises(SeekTableError):
            await read(Compress(), stored)
    many = good[:-9] + struct.pack("<IB", 1_000_000, 0) + good[-4:]
    with flat(), pytest.raises(SeekTableError):
        await layout_of(Compress(), many)


class Huge(Below):
    """Says it is so large as to hold any table, and gives zeros."""

    size = 1 << 40

    def __init__(self, end: bytes) -> None:
        super().__init__(end)
        self._end = end

    def read(self, start: int, stop: int) -> Chunks:
        assert stop - start <= 64 * MiB
        self.asked.append((start, stop))
        return self._zeros(stop - start)

    async def _zeros(self, size: int) -> AsyncGenerator[bytes, None]:
        yield bytes(size - len(self._end)) + self._end


async def test_a_table_beyond_the_limit_is_not_even_read() -> None:
    for count, flags in [(1 << 27, 0), (1 << 23, 0), (1 << 23, 0x80), (6_000_000, 0x80)]:
        below = Huge(struct.pack("<IB", count, flags) + b"\xb1\xea\x92\x8f")
        with flat(), pytest.raises(FormatLimitError):
            await layout_of(Compress(), below)
        assert len(below.asked) == 1


async def test_a_table_whose_sums_overflow() -> None:
    most = 0xFFFFFFFF
    parts = [text(100)]
    frames = [frame_of(parts[0])]
    for entries in (
        [(24, 0), *[(most, most)] * 5000, (60, 0)],
        [(24, 0), (len(frames[0]), most), (60, 0)],
        [(24, 0), *[(0, most)] * 5000, (len(frames[0]), 100), (60, 0)],
    ):
        stored = built(parts, frames=frames, entries=entries)
        with flat(), pytest.raises(SeekTableError):
            await layout_of(Compress(), stored)
        with flat(), pytest.raises(SeekTableError):
            await read(Compress(), stored)
    # An info frame that agrees with such sums: each frame is still looked at before it is read.
    entries = [(24, 0), *[(0, most)] * 5000, (len(frames[0]), 100), (60, 0)]
    stored = built(parts, frames=frames, entries=entries, size=5000 * most + 100)
    layout = await layout_of(Compress(), stored)
    assert layout.size == 5000 * most + 100
    for start in (0, 4000 * most, 5000 * most - 1):
        with flat(), pytest.raises(DecompressionLimitError):
            await ranged(layout, stored, start, start + 10)
    assert await ranged(layout, stored, 5000 * most, 5000 * most + 100) == parts[0]


# -- limits of the caller ----------------------------------------------------------------


def expanding(frames: int) -> tuple[bytes, int]:
    """So many frames of 1 MiB of zeros: each some 50 bytes."""
    frame = zeros(MiB)
    sizes = [(24, 0), *[(len(frame), MiB)] * frames, (60, 0)]
    info = info_of(frames * MiB, bytes(32))
    return MARKER + frame * frames + info + table_of(sizes), frames * MiB


@pytest.mark.parametrize(
    "limits", [{"max_logical_size": 40 * MiB}, {"max_ratio": 100}, {"max_ratio": 10_000.0}]
)
async def test_ten_gib_in_half_a_mib_is_refused_on_the_way(limits: dict[str, float]) -> None:
    stored, size = expanding(10_240)
    assert len(stored) < MiB
    layer = Compress(**limits)  # type: ignore[arg-type]
    given = 0
    context = trove.Context("get", "box", "k")
    with flat(64 * MiB), pytest.raises(DecompressionLimitError):
        async with aclosing(pieces(stored)) as body:
            result = await layer.read(body, context)
            async with aclosing(result):
                async for chunk in result:
                    given += len(chunk)
    assert given <= 40 * MiB
    with pytest.raises(DecompressionLimitError):
        await layout_of(layer, stored)
    assert (await layout_of(Compress(), stored)).size == size


async def pieces(data: bytes) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(data), 5000):
        yield data[at : at + 5000]


async def test_the_limits_hold_for_small_objects_too() -> None:
    stored = (await written(Compress(), bytes(100_000))).stored
    assert len(stored) < 200
    for layer in (
        Compress(max_logical_size=99_999),
        Compress(max_ratio=500),
        Compress(max_frame_size=65_536, frame_size=65_536),
    ):
        await refused_both_ways(stored, DecompressionLimitError, layer)
    for layer in (Compress(max_logical_size=100_000), Compress(max_ratio=1000)):
        assert await read(layer, stored) == bytes(100_000)
        assert await ranged(await layout_of(layer, stored), stored, 5, 9) == bytes(4)


async def test_more_frames_than_a_table_may_list_are_refused_on_the_way() -> None:
    stored = (await written(every(frame_size=1, growth_after=0), text(500))).stored
    layer = every(max_table_size=2048)
    with pytest.raises(FormatLimitError):
        await read(layer, stored)
    with pytest.raises(FormatLimitError):
        await layout_of(layer, stored)
    assert await read(Compress(), stored) == text(500)


async def test_a_bomb_in_a_store_is_refused() -> None:
    stored = lying(zeros(512 * MiB), 512 * MiB)
    digest = hashlib.sha256(b"").hexdigest()
    async with trove.open("mem://", middleware=[Compress()]) as store:
        await store.create_bucket("box")
        metadata = {
            "trovefmt": "1;zstd",
            "trovelen": str(512 * MiB),
            "trovedig": f"sha256:{digest}",
        }
        await store.put("box", "k", stored, raw=True, metadata=metadata)
        with flat(4 * MiB), pytest.raises(DecompressionLimitError):
            await store.get_bytes("box", "k")
        with flat(4 * MiB), pytest.raises(DecompressionLimitError):
            await store.get_bytes("box", "k", range=slice(0, 10))
