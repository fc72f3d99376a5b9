"""A frame, an info frame or a seek table that breaks a rule is refused by both ways of reading."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

import pytest
import xxhash
import zstandard

from tests.middleware.compress.zst import (
    MARKER,
    built,
    every,
    frame_of,
    info_of,
    layout_of,
    noise,
    ranged,
    read,
    table_of,
    text,
    written,
)
from trove_async import (
    ChecksumMismatchError,
    CorruptFrameError,
    DecompressionLimitError,
    IntegrityError,
    SeekTableError,
    TrailingDataError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.checksum import digest_of
from trove_async.middleware.compress import Compress

PARTS = [text(200), text(150, 1), text(220, 2)]
PLAIN = b"".join(PARTS)
GOOD = built(PARTS)
FRAMES = [frame_of(part) for part in PARTS]


async def refused(stored: bytes, error: type[IntegrityError], *, cuts: tuple[int, ...] = ()) -> str:
    with pytest.raises(error) as caught:
        await read(Compress(), stored, cuts)
    assert type(caught.value) is error
    return str(caught.value)


# -- rules of a frame --------------------------------------------------------------------


def patched(at: int, byte: int) -> bytes:
    frame = bytearray(FRAMES[1])
    frame[at] = byte
    return bytes(frame)


def blocks_of(*blocks: tuple[int, int, bytes], content: int, checksum: int = 0) -> bytes:
    """A frame of (kind, size, bytes) blocks."""
    frame = b"\x28\xb5\x2f\xfd" + bytes([0xA4]) + struct.pack("<I", content)
    for number, (kind, size, data) in enumerate(blocks, 1):
        head = (number == len(blocks)) | kind << 1 | size << 3
        frame += head.to_bytes(3, "little") + data
    return frame + struct.pack("<I", checksum)


def hollow(empty: int) -> bytes:
    """A right frame, but for so many blocks with nothing in them."""
    blocks = [*[(0, 0, b"")] * empty, (0, 150, PARTS[1])]
    checksum = xxhash.xxh64_intdigest(PARTS[1]) & 0xFFFFFFFF
    return blocks_of(*blocks, content=150, checksum=checksum)


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (lambda: zstandard.ZstdCompressor().compress(PARTS[1]), CorruptFrameError),
        (lambda: frame_of(PARTS[1], write_content_size=False), DecompressionLimitError),
        (lambda: frame_of(b""), CorruptFrameError),
        (lambda: patched(4, FRAMES[1][4] | 0x08), CorruptFrameError),
        (lambda: patched(4, FRAMES[1][4] | 0x10), CorruptFrameError),
        (lambda: patched(4, FRAMES[1][4] | 0x01), CorruptFrameError),
        (lambda: patched(5, FRAMES[1][5] ^ 0x02), CorruptFrameError),
        (lambda: patched(len(FRAMES[1]) - 1, FRAMES[1][-1] ^ 1), CorruptFrameError),
        (lambda: blocks_of((3, 0, b""), content=150), CorruptFrameError),
        (lambda: blocks_of((0, 151, bytes(151)), content=150), CorruptFrameError),
        (lambda: blocks_of((0, 150, bytes(150)), content=150), CorruptFrameError),
        (lambda: blocks_of((0, 149, bytes(149)), content=150), CorruptFrameError),
        (lambda: blocks_of((0, 1, b"x"), (1, 149, b"y"), content=150), CorruptFrameError),
        (lambda: blocks_of(*[(0, 140, bytes(140))] * 20, content=150), CorruptFrameError),
        (lambda: FRAMES[1] + FRAMES[1], CorruptFrameError),
    ],
    ids=[
        *("no checksum", "no size", "empty", "reserved bit", "unused bit", "dictionary"),
        *("other size", "other checksum", "reserved block", "block beyond its frame"),
        *("wrong checksum", "shorter than it says", "repeated byte", "longer than it says", "two"),
    ],
)
async def test_a_frame_that_breaks_a_rule_is_refused_by_both_ways_of_reading(
    frame: Callable[[], bytes], error: type[IntegrityError]
) -> None:
    made = frame()
    stored = built(PARTS, frames=[FRAMES[0], made, FRAMES[2]])
    if made != FRAMES[1] + FRAMES[1]:
        await refused(stored, error)
        await refused(stored, error, cuts=(3,))
    else:
        await refused(stored, SeekTableError)
    layout = await layout_of(Compress(), stored)
    assert await ranged(layout, stored, 0, 200) == PARTS[0]
    with pytest.raises(error):
        await ranged(layout, stored, 210, 220)


async def test_blocks_with_nothing_in_them_are_bounded() -> None:
    """Each costs a turn of the loop that walks over them, and gives nothing."""
    assert await read(Compress(), built(PARTS, frames=[FRAMES[0], hollow(10), FRAMES[2]])) == PLAIN
    await refused(built(PARTS, frames=[FRAMES[0], hollow(100), FRAMES[2]]), CorruptFrameError)


async def test_an_object_of_one_frame_keeps_the_same_rules() -> None:
    plain = PARTS[1]
    for frame, error in [
        (zstandard.ZstdCompressor().compress(plain), CorruptFrameError),
        (frame_of(plain, write_content_size=False), DecompressionLimitError),
        (patched(len(FRAMES[1]) - 1, 0), CorruptFrameError),
        (frame_of(plain[:-1]), SeekTableError),
        (b"\0" * 40, CorruptFrameError),
    ]:
        with pytest.raises(IntegrityError) as caught:
            await read(Compress(), built([plain], frames=[frame]))
        assert isinstance(caught.value, error | CorruptFrameError)


# -- info and digest ---------------------------------------------------------------------


async def test_a_digest_that_is_not_of_the_bytes_is_a_checksum_error() -> None:
    await refused(built(PARTS, digest=bytes(32)), ChecksumMismatchError)
    await refused(built(PARTS[:1], digest=bytes(32)), ChecksumMismatchError)


@pytest.mark.parametrize("parts", [PARTS, PARTS[:1]], ids=["3", "1"])
async def test_the_recorded_digest_and_the_info_frame_must_agree(parts: list[bytes]) -> None:
    plain, stored = b"".join(parts), built(parts)  # with a sha256
    right = digest_of("sha256", plain)
    assert await read(Compress(), stored, (), {"trovedig": right}) == plain
    assert await read(Compress(), stored, (), {}) == plain
    for wrong in (digest_of("sha256", b""), digest_of("blake3", plain)):
        with pytest.raises(ChecksumMismatchError):
            await read(Compress(), stored, (), {"trovedig": wrong})


@pytest.mark.parametrize("size", [300, 3000])
async def test_with_a_weak_record_the_info_frame_is_checked_here(size: int) -> None:
    plain = text(size)
    found = await written(every(frame_size=1024), plain, algorithm="xxh3")
    weak = {"trovedig": digest_of("xxh3", plain)}
    assert await read(Compress(), found.stored, (), weak) == plain
    at = found.stored.rindex(b"TROVE\0ZE") + 30
    broken = bytearray(found.stored)
    broken[at] ^= 1
    with pytest.raises(ChecksumMismatchError):
        await read(Compress(), bytes(broken), (), weak)


async def test_an_info_frame_that_lies_or_is_unknown_is_refused() -> None:
    await refused(built(PARTS, size=len(PLAIN) + 1), SeekTableError)
    table = GOOD[-(8 * 5 + 17) :]
    good = info_of(len(PLAIN), hashlib.sha256(PLAIN).digest())
    for info in (
        info_of(len(PLAIN), hashlib.sha256(PLAIN).digest(), algorithm=3),
        good[:26] + b"\x20\x01" + good[28:],
    ):
        await refused(MARKER + b"".join(FRAMES) + info + table, UnsupportedFormatError)


# -- the table ---------------------------------------------------------------------------

RIGHT = [(24, 0), *((len(f), len(p)) for f, p in zip(FRAMES, PARTS, strict=True)), (60, 0)]


def changed(at: int, entry: tuple[int, int]) -> list[tuple[int, int]]:
    return [*RIGHT[:at], entry, *RIGHT[at + 1 :]]


@pytest.mark.parametrize(
    "entries",
    [
        changed(0, (23, 0)),
        changed(0, (24, 1)),
        changed(4, (60, 1)),
        changed(4, (61, 0)),
        changed(1, (len(FRAMES[0]), 201)),
        changed(1, (len(FRAMES[0]) + 1, 200)),
        RIGHT[:-1],
        RIGHT[1:],
        [*RIGHT, (0, 0)],
        [],
        [(24, 0)],
        changed(1, (0xFFFFFFFF, 200)),
        changed(1, (len(FRAMES[0]), 0xFFFFFFFF)),
    ],
)
async def test_a_table_that_lies_is_refused_by_both_ways_of_reading(
    entries: list[tuple[int, int]],
) -> None:
    stored = built(PARTS, entries=entries)
    await refused(stored, SeekTableError)
    with pytest.raises(SeekTableError):
        await layout_of(Compress(), stored)


async def test_a_table_that_lies_within_its_sums_is_seen_at_the_frame() -> None:
    entries = changed(1, (len(FRAMES[0]), 199))
    entries[2] = (len(FRAMES[1]), 151)
    stored = built(PARTS, entries=entries)
    await refused(stored, SeekTableError)
    layout = await layout_of(Compress(), stored)
    with pytest.raises(CorruptFrameError):
        await ranged(layout, stored, 0, 10)
    shifted = changed(1, (len(FRAMES[0]) + 1, 200))
    shifted[2] = (len(FRAMES[1]) - 1, 150)
    stored = built(PARTS, entries=shifted)
    await refused(stored, SeekTableError)
    layout = await layout_of(Compress(), stored)
    for start in (0, 210):
        with pytest.raises(CorruptFrameError):
            await ranged(layout, stored, start, start + 10)


async def test_unknown_flags_of_a_table_are_refused_and_the_unused_ignored() -> None:
    for bit in range(8):
        stored = built(PARTS, table=table_of(RIGHT, flags=1 << bit))
        if bit < 2:
            assert await read(Compress(), stored) == PLAIN
            layout = await layout_of(Compress(), stored)
            assert await ranged(layout, stored, 100, 400) == PLAIN[100:400]
            continue
        error = SeekTableError if bit == 7 else UnsupportedFormatError
        await refused(stored, error)
        with pytest.raises(error):
            await layout_of(Compress(), stored)


async def test_a_full_read_can_do_without_the_table_if_told_so() -> None:
    saving = Compress(check_table=False)
    lying = built(PARTS, entries=changed(1, (9, 9)))
    missing = GOOD[: -(8 * 5 + 17)]
    for stored in (GOOD, lying, missing, GOOD[:-1], GOOD[:-50], built(PARTS, checksums=True)):
        assert await read(saving, stored) == PLAIN
        assert await read(saving, stored, [3]) == PLAIN
    for stored in (lying, missing, GOOD[:-1]):
        with pytest.raises(IntegrityError):
            await layout_of(saving, stored)
    for stored in (GOOD + b"x", missing + noise(50), missing + FRAMES[0], missing + b"junk"):
        with pytest.raises(TrailingDataError):
            await read(saving, stored)
    with pytest.raises(ChecksumMismatchError):
        await read(saving, built(PARTS, digest=bytes(32), entries=[]))
    with pytest.raises(TruncatedError):
        await read(saving, missing[:-1])
