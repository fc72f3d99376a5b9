"""The bytes of the seekable zstd format, little-endian; no library is needed to know them.

    marker  5B2A4D18 | u32 16 | "TROVE\\0Z1" | u32 max_frame_size | u32 flags = 0
    data    independent zstd frames: content size, XXH64, no dictionary, window <= frame
    info    5B2A4D18 | u32 52 | "TROVE\\0ZE" | u64 size | u16 algorithm | u16 32 | 32 B digest
    table   5E2A4D18 | u32 8n+9 | n x (u32 csize, u32 dsize) | u32 n | u8 flags | B1EA928F

Marker, info and table are skippable frames, so the whole is a ``.zst`` file; the table is
that of zstd's seekable format 0.1.0, in which marker and info stand with a dsize of 0.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass
from typing import Final, NamedTuple

from trove_async.errors import (
    CorruptFrameError,
    DecompressionLimitError,
    SeekTableError,
    UnsupportedFormatError,
)

__all__ = [
    "ALGORITHMS",
    "DATA_MAGIC",
    "FOOTER_SIZE",
    "INFO_PREFIX",
    "INFO_SIZE",
    "MARKER_PREFIX",
    "MARKER_SIZE",
    "OVERHEAD",
    "SKIPPABLE_MAGIC",
    "TABLE_MAGIC",
    "FrameHeader",
    "Info",
    "Limits",
    "frame_bound",
    "header_size",
    "new_entries",
    "parse_end",
    "parse_footer",
    "parse_frame_header",
    "parse_info",
    "parse_marker",
    "split_entries",
    "write_end",
    "write_info",
    "write_marker",
    "write_table",
]

Bytes = bytes | bytearray | memoryview
KiB = 1024
MiB = 1024 * 1024

DATA_MAGIC: Final = b"\x28\xb5\x2f\xfd"
SKIPPABLE_MAGIC: Final = b"\x5b\x2a\x4d\x18"
TABLE_MAGIC: Final = b"\x5e\x2a\x4d\x18"
FOOTER_MAGIC: Final = b"\xb1\xea\x92\x8f"

MARKER_PREFIX: Final = SKIPPABLE_MAGIC + b"\x10\x00\x00\x00TROVE\x00Z1"
"""The 16 bytes by which a body without a record is recognised."""
_ANY_VERSION: Final = MARKER_PREFIX[:-1]
INFO_PREFIX: Final = SKIPPABLE_MAGIC + b"\x34\x00\x00\x00TROVE\x00ZE"

_MARKER: Final = struct.Struct("<16sII")
_INFO: Final = struct.Struct("<16sQHH32s")
_FOOTER: Final = struct.Struct("<IB4s")
_END: Final = struct.Struct("<16sQHH32s4sI6IIB4s")
"""Info and table of an object of one data frame."""

MARKER_SIZE: Final = _MARKER.size
INFO_SIZE: Final = _INFO.size
FOOTER_SIZE: Final = _FOOTER.size
OVERHEAD: Final = MARKER_SIZE + _END.size
"""Bytes that an object of one data frame has besides it."""

MAX_ENTRIES: Final = 0x8000000  # what the seekable format allows
_HAS_CHECKSUMS: Final = 0x80
_RESERVED: Final = 0x7C  # of the table's flags; the two lowest bits mean nothing

_ALGORITHMS: Final = {1: "sha256", 2: "blake3"}
ALGORITHMS: Final = {name: number for number, name in _ALGORITHMS.items()}
"""Digests the info frame can hold."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader accepts; checked before anything is allocated or decoded."""

    frame: int = 32 * MiB
    """Bytes of one data frame and of its window."""
    table: int = 64 * MiB
    """Bytes of the seek table."""
    logical: int | None = None
    """Bytes of the whole object."""
    ratio: float | None = None
    """Logical bytes for each stored one."""

    @property
    def entries(self) -> int:
        return (self.table - 17) // 8

    def check_size(self, size: int) -> None:
        if self.logical is not None and size > self.logical:
            raise DecompressionLimitError(f"more than the allowed {self.logical} bytes")

    def check_ratio(self, size: int, stored: int) -> None:
        if self.ratio is not None and size > self.ratio * stored:
            raise DecompressionLimitError(
                f"{stored} bytes expand to {size}, more than the allowed {self.ratio:g} times"
            )

    def check_frame(self, size: int, what: str) -> None:
        if size > self.frame:
            raise DecompressionLimitError(f"{what} of {size} bytes; the limit is {self.frame}")


# -- marker ------------------------------------------------------------------------------


def write_marker(largest: int) -> bytes:
    """``largest``: bytes of the largest frame to come."""
    return _MARKER.pack(MARKER_PREFIX, largest, 0)


def parse_marker(data: Bytes) -> int:
    """The largest frame to come, in bytes."""
    prefix, largest, flags = _MARKER.unpack(data)
    if prefix != MARKER_PREFIX:
        if prefix.startswith(_ANY_VERSION):
            raise UnsupportedFormatError("compressed by a later version of this package")
        raise CorruptFrameError("a compressed body begins with its marker")
    if flags:
        raise UnsupportedFormatError(f"unknown flags {flags:#x} in the marker")
    if largest == 0:
        raise UnsupportedFormatError("frames of no bytes")
    return int(largest)


# -- data frames -------------------------------------------------------------------------


class FrameHeader(NamedTuple):
    size: int
    """Bytes of the header itself."""
    content: int
    """Bytes the frame decodes to."""
    window: int


def header_size(descriptor: int) -> int:
    """Bytes of a frame header by its fifth byte; no dictionary id, which is refused."""
    is_single = descriptor >> 5 & 1
    return 5 + (0 if is_single else 1) + (is_single, 2, 4, 8)[descriptor >> 6]


def parse_frame_header(data: bytes | memoryview[int], limits: Limits) -> FrameHeader:
    """Of the data frame that ``data`` begins with.

    What the format requires and what the limits allow, before a decoder sees the frame:
    decoders allocate what a frame declares."""
    if data[:4] != DATA_MAGIC or len(data) < 5 or len(data) < header_size(data[4]):
        raise CorruptFrameError("no data frame where one begins")
    descriptor = data[4]
    size = header_size(descriptor)
    is_single = descriptor & 0x20
    if is_single:
        window = 0
    else:
        exponent, mantissa = data[5] >> 3, data[5] & 7
        window = (1 << (10 + exponent)) // 8 * (8 + mantissa)
        limits.check_frame(window, "a window")
    width = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    if not width:
        raise DecompressionLimitError("a frame that does not say its size cannot be bounded")
    content = int.from_bytes(data[size - width : size], "little")
    if width == 2:
        content += 256
    limits.check_frame(content, "a frame")
    if descriptor & 0x1F != 0x04:
        raise CorruptFrameError(f"frame flags {descriptor:#x}: with checksum, without dictionary")
    if not content:
        raise CorruptFrameError("a data frame holds something")
    if window > content:
        raise CorruptFrameError(f"a window of {window} bytes over a frame of {content}")
    return FrameHeader(size, content, window or content)


def frame_bound(content: int) -> int:
    """More stored bytes than any encoder makes of a frame of ``content``."""
    return content + content // 8 + KiB


# -- info --------------------------------------------------------------------------------


class Info(NamedTuple):
    size: int
    """Logical bytes of the object."""
    digest: str
    """``"<algorithm>:<hex>"`` of them."""


def write_info(size: int, digest: str) -> bytes:
    algorithm, _, value = digest.partition(":")
    return _INFO.pack(INFO_PREFIX, size, ALGORITHMS[algorithm], 32, bytes.fromhex(value))


def parse_info(data: Bytes) -> Info:
    prefix, size, number, length, value = _INFO.unpack(data)
    if prefix != INFO_PREFIX:
        raise CorruptFrameError("no data frame and no info frame")
    algorithm = _ALGORITHMS.get(number)
    if algorithm is None or length != 32:
        raise UnsupportedFormatError(f"digest {number} of {length} bytes in the info frame")
    return Info(size, f"{algorithm}:{value.hex()}")


# -- table -------------------------------------------------------------------------------


def new_entries() -> array[int]:
    """csize and dsize of every frame in turn, that of the marker first."""
    return array("I", (MARKER_SIZE, 0))


def _as_little(entries: array[int]) -> array[int]:
    if sys.byteorder == "big":
        entries = entries[:]
        entries.byteswap()
    return entries


def write_table(entries: array[int]) -> bytes:
    count = len(entries) // 2
    head = TABLE_MAGIC + (8 * count + FOOTER_SIZE).to_bytes(4, "little")
    foot = _FOOTER.pack(count, 0, FOOTER_MAGIC)
    return b"".join((head, _as_little(entries).tobytes(), foot))


def parse_footer(data: Bytes) -> tuple[int, int]:
    """Number of entries and bytes of each, from the last bytes of an object."""
    count, flags, magic = _FOOTER.unpack(data)
    if magic != FOOTER_MAGIC:
        raise SeekTableError("no seek table at the end")
    if flags & _RESERVED:
        raise UnsupportedFormatError(f"unknown flags {flags:#x} in the seek table")
    if count > MAX_ENTRIES:
        raise SeekTableError(f"a seek table has no {count} entries")
    return count, 12 if flags & _HAS_CHECKSUMS else 8


def split_entries(data: Bytes, width: int) -> tuple[array[int], array[int]]:
    """csizes and dsizes of the entries in ``data``; a third field is a checksum that the
    frames hold themselves."""
    fields = array("I")
    fields.frombytes(data)
    if sys.byteorder == "big":
        fields.byteswap()
    step = width // 4
    return fields[0::step], fields[1::step]


# -- an object of one frame --------------------------------------------------------------


def write_end(size: int, digest: str, csize: int) -> bytes:
    """Info and table in one go."""
    algorithm, _, value = digest.partition(":")
    return _END.pack(
        *(INFO_PREFIX, size, ALGORITHMS[algorithm], 32, bytes.fromhex(value)),
        *(TABLE_MAGIC, 24 + FOOTER_SIZE),
        *(MARKER_SIZE, 0, csize, size, INFO_SIZE, 0),
        *(3, 0, FOOTER_MAGIC),
    )


def parse_end(data: Bytes) -> Info | None:
    """What `write_end` wrote for this whole object; None for any other."""
    offset = len(data) - _END.size
    if offset <= MARKER_SIZE:
        return None
    fields = _END.unpack_from(data, offset)
    prefix, size, number, length, value = fields[:5]
    algorithm = _ALGORITHMS.get(number)
    if (
        algorithm is None
        or prefix != INFO_PREFIX
        or length != 32
        or fields[5:]
        != (
            *(TABLE_MAGIC, 24 + FOOTER_SIZE),
            *(MARKER_SIZE, 0, offset - MARKER_SIZE, size, INFO_SIZE, 0),
            *(3, 0, FOOTER_MAGIC),
        )
    ):
        return None
    return Info(size, f"{algorithm}:{value.hex()}")
