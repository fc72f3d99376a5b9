"""Whatever is not exactly what was written is refused, with the error that says why."""

from __future__ import annotations

import hashlib
import struct

import pytest
import zstandard

import trove_async as trove
from tests.middleware.compress.make_golden import FOLDER, plain_of
from tests.middleware.compress.zst import (
    MARKER,
    SKIPPABLE,
    built,
    every,
    frame_of,
    info_of,
    layout_of,
    noise,
    parsed,
    ranged,
    read,
    table_of,
    text,
    written,
)
from trove_async import (
    ChecksumMismatchError,
    CorruptFrameError,
    IntegrityError,
    SeekTableError,
    TrailingDataError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.checksum import digest_of
from trove_async.middleware.compress import Compress
from trove_async.middleware.compress.format import header_size

PARTS = [text(200), text(150, 1), text(220, 2)]
PLAIN = b"".join(PARTS)
GOOD = built(PARTS)
FRAMES = [frame_of(part) for part in PARTS]


async def refused(stored: bytes, error: type[IntegrityError], *, cuts: tuple[int, ...] = ()) -> str:
    with pytest.raises(error) as caught:
        await read(Compress(), stored, cuts)
    assert type(caught.value) is error
    return str(caught.value)


# -- cut, lengthened, flipped ------------------------------------------------------------


@pytest.mark.parametrize("stored", [GOOD, (FOLDER / "text.zst").read_bytes()], ids=["3", "1"])
@pytest.mark.parametrize("cuts", [(), (10,)])
async def test_every_truncation_is_a_truncated_error(stored: bytes, cuts: tuple[int, ...]) -> None:
    for length in range(len(stored)):
        await refused(stored[:length], TruncatedError, cuts=cuts)


async def test_no_layout_is_found_in_a_truncated_object() -> None:
    for length in range(len(GOOD)):
        with pytest.raises((TruncatedError, SeekTableError)):
            await layout_of(Compress(), GOOD[:length])


async def test_the_bytes_before_a_truncation_are_right() -> None:
    stored = (await written(every(growth_after=0), PLAIN)).stored
    layer = Compress()
    context = trove.Context("get", "box", "k")
    given = b""
    from tests.middleware.compress.zst import pieces_of

    with pytest.raises(TruncatedError):
        async for chunk in await layer.read(pieces_of(stored[:-200], [50]), context):
            given += bytes(chunk)
    assert given
    assert PLAIN.startswith(given)


@pytest.mark.parametrize("stored", [GOOD, (FOLDER / "text.zst").read_bytes()], ids=["3", "1"])
async def test_appended_bytes_are_trailing_data(stored: bytes) -> None:
    for length in range(1, 70):
        await refused(stored + noise(length), TrailingDataError)
        await refused(stored + bytes(length), TrailingDataError, cuts=(len(stored), 1))
    await refused(stored + stored, TrailingDataError)
    await refused(stored + frame_of(b"more"), TrailingDataError)
    await refused(stored + table_of([]), TrailingDataError)


async def accepted_flips(stored: bytes, plain: bytes, metadata: dict[str, str]) -> list[int]:
    """The bits of an object that can be flipped unseen; none of them changes what is read."""
    accepted = []
    for bit in range(8 * len(stored)):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            found = await read(Compress(), bytes(flipped), (), metadata)
        except IntegrityError:
            continue
        assert found == plain
        accepted.append(bit)
    return accepted


def unused_bits(stored: bytes) -> list[int]:
    """The seekable format has two bits that mean nothing, and tells readers to ignore them;
    and the marker's bound may be any above the largest frame."""
    flags = 8 * (len(stored) - 5)
    largest = max(parsed(stored).sizes)
    bound = int.from_bytes(stored[16:20], "little")
    looser = [128 + bit for bit in range(32) if bound ^ (1 << bit) >= largest]
    return [*looser, flags, flags + 1]


@pytest.mark.parametrize("is_recorded", [True, False])
@pytest.mark.parametrize("frame_size", [512, 2048])
async def test_every_flipped_bit_is_refused(is_recorded: bool, frame_size: int) -> None:
    plain = noise(1024)
    stored = (await written(every(frame_size=frame_size, growth_after=0), plain)).stored
    metadata = {"trovedig": digest_of("blake3", plain)} if is_recorded else {}
    assert await accepted_flips(stored, plain, metadata) == unused_bits(stored)


@pytest.mark.parametrize("name", ["text", "frames", "sha256"])
async def test_a_flipped_bit_of_compressed_blocks_is_refused_or_says_the_same(name: str) -> None:
    """One content has many encodings: the same text may be repeated from another place."""
    stored, plain = (FOLDER / f"{name}.zst").read_bytes(), plain_of(name)
    blocks: set[int] = set()
    position = 24
    for frame in parsed(stored).frames:
        header = header_size(frame[4])
        blocks |= set(range(8 * (position + header), 8 * (position + len(frame) - 4)))
        position += len(frame)
    accepted = await accepted_flips(stored, plain, {})
    assert set(accepted) - blocks == set(unused_bits(stored))
    assert len(accepted) < len(blocks) // 20


async def test_ranges_never_give_a_byte_that_was_not_written() -> None:
    stored = (await written(every(frame_size=100, growth_after=0), PLAIN)).stored
    for bit in range(0, 8 * len(stored), 3):
        flipped = bytearray(stored)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            layout = await layout_of(Compress(), bytes(flipped))
            found = await ranged(layout, bytes(flipped), 150, 450)
        except IntegrityError:
            continue
        assert found == PLAIN[150:450]


# -- frames out of place -----------------------------------------------------------------


async def test_a_good_object_by_hand_is_read() -> None:
    assert await read(Compress(), GOOD) == PLAIN
    assert await read(Compress(), GOOD, [1]) == PLAIN


def in_place(*frames: bytes) -> bytes:
    """The frames as given, with a table that lists them truly."""
    plain = [zstandard.ZstdDecompressor().decompress(frame) for frame in frames]
    return built(plain, frames=frames, size=len(PLAIN), digest=hashlib.sha256(PLAIN).digest())


async def test_frames_swapped_dropped_or_doubled_are_seen() -> None:
    one, two, three = FRAMES
    assert await read(Compress(), in_place(one, two, three)) == PLAIN
    await refused(in_place(two, one, three), ChecksumMismatchError)
    await refused(in_place(one, three), SeekTableError)
    await refused(in_place(one, two, two, three), SeekTableError)
    await refused(in_place(one, two, frame_of(text(220, 9))), ChecksumMismatchError)
    # the same without a table that helps
    await refused(built(PARTS, frames=[two, one, three]), SeekTableError)


async def test_junk_between_frames_is_refused() -> None:
    one, two, three = FRAMES
    junk = SKIPPABLE + struct.pack("<I", 4) + b"junk"
    other = b"\x50\x2a\x4d\x18" + struct.pack("<I", 0)
    for between in (junk, other, MARKER, b"\0" * 60, b"junk", GOOD, table_of([])):
        stored = built(PARTS, frames=[one, between + two, three])
        await refused(stored, CorruptFrameError)
        await refused(stored, CorruptFrameError, cuts=(9,))
    with pytest.raises(CorruptFrameError):
        stored = built(PARTS, frames=[one, junk + two, three])
        await ranged(await layout_of(Compress(), stored), stored, 210, 220)


async def test_nothing_comes_between_the_info_frame_and_the_table() -> None:
    info = info_of(len(PLAIN), hashlib.sha256(PLAIN).digest())
    table = GOOD[-(8 * 5 + 17) :]
    for between in (FRAMES[0], info, MARKER, SKIPPABLE + bytes(4)):
        await refused(MARKER + b"".join(FRAMES) + info + between + table, SeekTableError)
    await refused(MARKER + b"".join(FRAMES) + table + info, CorruptFrameError)
    await refused(MARKER + b"".join(FRAMES) + table, CorruptFrameError)


async def test_a_frame_within_a_frame_is_not_decoded_twice() -> None:
    inner = GOOD
    assert await read(Compress(), built([inner])) == inner


async def test_what_does_not_begin_as_ours_is_refused_before_the_first_chunk() -> None:
    for stored in (b"plain text", text(5000), frame_of(b"x" * 100), b"\x5b\x2a\x4d\x19"):
        await refused(stored, CorruptFrameError)
    await refused(SKIPPABLE, TruncatedError)
    for marker, error in [
        (MARKER[:15] + b"2" + MARKER[16:], UnsupportedFormatError),
        (MARKER[:20] + b"\1\0\0\0", UnsupportedFormatError),
        (MARKER[:16] + bytes(8), UnsupportedFormatError),
        (MARKER[:10] + b"X" + MARKER[11:], CorruptFrameError),
    ]:
        for parts in (PARTS, PARTS[:1]):
            await refused(built(parts, marker=marker), error)
    async with trove.open("mem://", middleware=[Compress()]) as store:
        await store.create_bucket("box")
        metadata = {"trovefmt": "1;zstd", "trovelen": "5000"}
        await store.put("box", "k", text(5000), raw=True, metadata=metadata)
        with pytest.raises(CorruptFrameError):
            await store.get("box", "k")


# -- through a store ---------------------------------------------------------------------


async def test_a_changed_object_in_a_store_is_refused_in_full_and_by_range() -> None:
    async with trove.open("mem://", middleware=[every(frame_size=256)]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", PLAIN)
        async with store.get("box", "k", raw=True) as reader:
            stored, metadata = bytearray(await reader.read()), dict(reader.info.metadata)
        stored[60] ^= 4
        await store.put("box", "k", bytes(stored), raw=True, metadata=metadata)
        with pytest.raises(CorruptFrameError):
            await store.get_bytes("box", "k")
        with pytest.raises(CorruptFrameError):
            await store.get_bytes("box", "k", range=slice(0, 5))
        stored[60] ^= 4
        await store.put("box", "k", bytes(stored[:-1]), raw=True, metadata=metadata)
        with pytest.raises(TruncatedError):
            await store.get_bytes("box", "k")
        await store.put("box", "k", bytes(stored) + b"!", raw=True, metadata=metadata)
        with pytest.raises(TrailingDataError):
            await store.get_bytes("box", "k")
        other = {**metadata, "trovedig": digest_of("blake3", b"")}
        await store.put("box", "k", bytes(stored), raw=True, metadata=other)
        with pytest.raises(ChecksumMismatchError):
            await store.get_bytes("box", "k")
