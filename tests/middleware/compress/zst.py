"""Seekable zstd objects, built and taken apart by hand: nothing here is the package's own
idea of the format."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import zstandard

from trove_async import Chunks, Context
from trove_async._chunks import Digest, OneChunk, Tap
from trove_async.middleware import Layout
from trove_async.middleware.compress import Compress

Bytes = bytes | bytearray | memoryview

VECTOR = bytes.fromhex(
    "5b2a4d181000000054524f5645005a31000010000000000028b52ffd243c6500003068656c6c6f200100cb598a81"
    "68c7f05b2a4d183400000054524f5645005a453c0000000000000001002000895e4dd43de1abe1fa344c858372e8"
    "beece8e78b1debefc192a2b2c67f1295c35e2a4d18210000001800000000000000190000003c0000003c00000000"
    "0000000300000000b1ea928f"
)
"""``b"hello " * 10``: a known answer, made by another program."""
VECTOR_PLAIN = b"hello " * 10

SKIPPABLE = b"\x5b\x2a\x4d\x18"
MARKER = SKIPPABLE + b"\x10\x00\x00\x00TROVE\x00Z1" + struct.pack("<II", 1 << 20, 0)


def text(size: int, salt: int = 0) -> bytes:
    """Compressible, and no two places alike, so that a wrong range is seen."""
    lines: list[bytes] = []
    length = number = 0
    while length < size:
        line = b'{"id":%09d,"of":"user-%05d"}\n' % (number, (number * 7919 + salt) % 100_000)
        lines.append(line)
        length += len(line)
        number += 1
    return b"".join(lines)[:size]


def noise(size: int, salt: int = 0) -> bytes:
    """What no encoder can shrink."""
    return hashlib.shake_128(b"%d" % salt).digest(size)


def every(**options: object) -> Compress:
    """Compresses everything, in small frames that soon grow."""
    settings: dict[str, object] = {
        "frame_size": 64,
        "growth_after": 3,
        "min_size": 0,
        "min_saving": None,
        **options,
    }
    return Compress(**settings)  # type: ignore[arg-type]


# -- a layer by itself -------------------------------------------------------------------


async def pieces_of(data: bytes, cuts: Sequence[int]) -> AsyncGenerator[bytes, None]:
    position = turn = 0
    while position < len(data):
        length = max(1, cuts[turn % len(cuts)]) if cuts else len(data)
        yield data[position : position + length]
        position += length
        turn += 1


@dataclass
class Written:
    stored: bytes
    is_applied: bool
    context: Context
    chunks: list[int]
    """The length of each chunk the layer gave."""


async def written(
    layer: Compress,
    data: bytes,
    cuts: Sequence[int] = (),
    *,
    is_sized: bool = True,
    algorithm: str | None = "blake3",
    key: str = "k",
    content_type: str = "text/plain",
) -> Written:
    context = Context("put", "box", key, content_type, size=len(data) if is_sized else None)
    context.stored_size = context.size
    context.digest = Digest(algorithm)
    async with aclosing(Tap(pieces_of(data, cuts), [context.digest], size=context.size)) as body:
        result = await layer.write(body, context)
        is_applied = result is not body and not getattr(result, "is_same_bytes", False)
        async with aclosing(result):
            parts = [bytes(chunk) async for chunk in result]
    assert all(parts), "a chunk is never empty"
    if is_applied and context.stored_size is not None:
        assert context.stored_size == sum(map(len, parts))
    return Written(b"".join(parts), is_applied, context, [len(part) for part in parts])


async def read(
    layer: Compress,
    stored: bytes,
    cuts: Sequence[int] = (),
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    context = Context("get", "box", "k", metadata=metadata)
    context.applied = ["zstd"]
    async with aclosing(pieces_of(stored, cuts)) as body:
        result = await layer.read(body, context)
        async with aclosing(result):
            parts = [bytes(chunk) async for chunk in result]
    assert all(parts), "a chunk is never empty"
    return b"".join(parts)


class Below:
    """Stored bytes as a RangeSource that notes what is asked of it."""

    def __init__(self, stored: bytes, piece: int = 1 << 20) -> None:
        self._stored = stored
        self._piece = piece
        self.asked: list[tuple[int, int]] = []
        self.open = 0

    @property
    def size(self) -> int:
        return len(self._stored)

    def read(self, start: int, stop: int) -> Chunks:
        assert 0 <= start <= stop <= len(self._stored)
        self.asked.append((start, stop))
        if start == stop:
            return OneChunk(b"")
        return self._given(start, stop)

    async def _given(self, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        self.open += 1
        try:
            for at in range(start, stop, self._piece):
                yield self._stored[at : min(stop, at + self._piece)]
        finally:
            self.open -= 1


async def layout_of(layer: Compress, stored: bytes | Below) -> Layout:
    below = stored if isinstance(stored, Below) else Below(stored)
    context = Context("get", "box", "k")
    context.applied = ["zstd"]
    return await layer.layout(below, context)


async def ranged(layout: Layout, stored: bytes | Below, start: int, stop: int) -> bytes:
    below = stored if isinstance(stored, Below) else Below(stored)
    async with aclosing(layout.read(below, start, stop)) as chunks:
        parts = [bytes(chunk) async for chunk in chunks]
    assert all(parts)
    return b"".join(parts)


# -- built by hand -----------------------------------------------------------------------


def frame_of(data: bytes, **options: bool) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True, **options).compress(data)  # type: ignore[arg-type]


def info_of(size: int, digest: bytes, algorithm: int = 1) -> bytes:
    head = SKIPPABLE + struct.pack("<I", 52) + b"TROVE\0ZE"
    return head + struct.pack("<QHH", size, algorithm, 32) + digest


def table_of(
    entries: Sequence[tuple[int, int]], *, checksums: bool = False, flags: int = 0
) -> bytes:
    if checksums:
        listed = b"".join(struct.pack("<III", *entry, 0xC0FFEE) for entry in entries)
        flags |= 0x80
    else:
        listed = b"".join(struct.pack("<II", *entry) for entry in entries)
    foot = struct.pack("<IB", len(entries), flags) + b"\xb1\xea\x92\x8f"
    return b"\x5e\x2a\x4d\x18" + struct.pack("<I", len(listed) + 9) + listed + foot


def built(
    parts: Sequence[bytes],
    *,
    frames: Sequence[bytes] | None = None,
    marker: bytes = MARKER,
    size: int | None = None,
    digest: bytes | None = None,
    entries: Sequence[tuple[int, int]] | None = None,
    table: bytes | None = None,
    checksums: bool = False,
) -> bytes:
    """An object of the plain ``parts``, one frame each; whatever is given replaces what
    would be right."""
    plain = b"".join(parts)
    if frames is None:
        frames = [frame_of(part) for part in parts]
    info = info_of(len(plain) if size is None else size, digest or hashlib.sha256(plain).digest())
    if entries is None:
        entries = [
            (len(marker), 0),
            *((len(frame), len(part)) for frame, part in zip(frames, parts, strict=True)),
            (len(info), 0),
        ]
    if table is None:
        table = table_of(entries, checksums=checksums)
    return marker + b"".join(frames) + info + table


@dataclass
class Parsed:
    largest: int
    frames: list[bytes]
    sizes: list[int]
    size: int
    algorithm: int
    digest: bytes
    table: bytes


def parsed(stored: bytes) -> Parsed:
    """Takes an object apart by its table, and insists on every fixed byte."""
    assert stored[:16] == MARKER[:16]
    largest, flags = struct.unpack("<II", stored[16:24])
    assert flags == 0
    count, descriptor, magic = struct.unpack("<IB4s", stored[-9:])
    assert (descriptor, magic) == (0, b"\xb1\xea\x92\x8f")
    table = stored[-(8 * count + 17) :]
    assert table[:8] == b"\x5e\x2a\x4d\x18" + struct.pack("<I", 8 * count + 9)
    entries = [struct.unpack_from("<II", table, 8 + 8 * i) for i in range(count)]
    assert entries[0] == (24, 0)
    assert entries[-1] == (60, 0)
    position = 24
    frames = []
    for csize, _ in entries[1:-1]:
        frames.append(stored[position : position + csize])
        position += csize
    info = stored[position : position + 60]
    assert info[:16] == SKIPPABLE + struct.pack("<I", 52) + b"TROVE\0ZE"
    size, algorithm, length = struct.unpack("<QHH", info[16:28])
    assert length == 32
    assert position + 60 + len(table) == len(stored)
    sizes = [dsize for _, dsize in entries[1:-1]]
    assert sum(sizes) == size
    return Parsed(largest, frames, sizes, size, algorithm, info[28:], table)
