"""SFTP version 3 on the wire: requests as bytes, and replies from bytes.

Source: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL file for its extensions. The
server gives the same results as if it had answered each request before it took the next
(section 6), so requests that build on each other may be sent together.
"""

from __future__ import annotations

import stat
import struct
from typing import Final, NamedTuple

__all__ = [
    "Attributes",
    "Failure",
    "Name",
    "close",
    "copy_data",
    "extended",
    "fsetstat_times",
    "names_of",
    "open_file",
    "path_request",
    "read",
    "string",
    "truncate",
    "two_paths",
    "write_head",
]

INIT: Final = 1
VERSION: Final = 2
OPEN: Final = 3
CLOSE: Final = 4
READ: Final = 5
WRITE: Final = 6
LSTAT: Final = 7
FSTAT: Final = 8
FSETSTAT: Final = 10
OPENDIR: Final = 11
READDIR: Final = 12
REMOVE: Final = 13
MKDIR: Final = 14
RMDIR: Final = 15
REALPATH: Final = 16
RENAME: Final = 18
READLINK: Final = 19
SYMLINK: Final = 20
STATUS: Final = 101
HANDLE: Final = 102
DATA: Final = 103
NAME: Final = 104
ATTRS: Final = 105
EXTENDED: Final = 200
EXTENDED_REPLY: Final = 201

FOR_READING: Final = 0x01
FOR_WRITING: Final = 0x02
CREATE: Final = 0x08
EXCLUSIVE: Final = 0x20

OK: Final = 0
EOF: Final = 1
NO_SUCH_FILE: Final = 2
PERMISSION_DENIED: Final = 3
FAILURE: Final = 4
BAD_MESSAGE: Final = 5
NO_CONNECTION: Final = 6
CONNECTION_LOST: Final = 7
UNSUPPORTED: Final = 8

_HAS_SIZE: Final = 0x01
_HAS_IDS: Final = 0x02
_HAS_MODE: Final = 0x04
_HAS_TIMES: Final = 0x08
_HAS_MORE: Final = 0x80000000
_USUAL: Final = _HAS_SIZE | _HAS_IDS | _HAS_MODE | _HAS_TIMES

LONGEST: Final = 8 * 1024 * 1024
"""Bytes of one message; a server that says more is not believed."""

_u32 = struct.Struct(">I")
_2u32 = struct.Struct(">II")
_u64 = struct.Struct(">Q")
_u64_u32 = struct.Struct(">QI")
_usual = struct.Struct(">QIIIII")


class Failure(Exception):
    """A status other than OK, or the end of the channel (`CONNECTION_LOST`)."""

    def __init__(self, code: int, text: str = "") -> None:
        super().__init__(f"{text or 'failure'} (SFTP status {code})")
        self.code = code
        self.text = text

    def __reduce__(self) -> tuple[object, ...]:
        return Failure, (self.code, self.text)


class Attributes(NamedTuple):
    """What version 3 tells of a file. ``mtime`` is in whole seconds."""

    size: int
    mtime: int
    mode: int

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class Name(NamedTuple):
    name: bytes
    attributes: Attributes


def string(data: bytes) -> bytes:
    return _u32.pack(len(data)) + data


def path_request(path: bytes) -> bytes:
    """OPENDIR, LSTAT, REMOVE, RMDIR, REALPATH."""
    return _u32.pack(len(path)) + path


def open_file(path: bytes, flags: int, mode: int | None = None) -> bytes:
    if mode is None:
        return b"%b%b%b" % (_u32.pack(len(path)), path, _2u32.pack(flags, 0))
    return b"%b%b%b%b" % (
        _u32.pack(len(path)),
        path,
        _2u32.pack(flags, _HAS_MODE),
        _u32.pack(mode),
    )


def make_folder(path: bytes, mode: int) -> bytes:
    return string(path) + _2u32.pack(_HAS_MODE, mode)


def close(handle: bytes) -> bytes:
    """CLOSE, FSTAT, READDIR."""
    return _u32.pack(len(handle)) + handle


def read(handle: bytes, offset: int, size: int) -> bytes:
    return b"%b%b%b" % (_u32.pack(len(handle)), handle, _u64_u32.pack(offset, size))


def write_head(handle: bytes, offset: int, size: int) -> bytes:
    """Of a WRITE; ``size`` bytes of data follow."""
    return b"%b%b%b" % (_u32.pack(len(handle)), handle, _u64_u32.pack(offset, size))


def fsetstat_times(handle: bytes, mtime: int) -> bytes:
    return string(handle) + _u32.pack(_HAS_TIMES) + _2u32.pack(mtime, mtime)


def truncate(handle: bytes, size: int) -> bytes:
    return string(handle) + _u32.pack(_HAS_SIZE) + _u64.pack(size)


def two_paths(first: bytes, second: bytes) -> bytes:
    return string(first) + string(second)


def extended(name: bytes, rest: bytes) -> bytes:
    return string(name) + rest


def copy_data(source: bytes, offset: int, size: int, target: bytes, at: int) -> bytes:
    return extended(
        b"copy-data",
        string(source) + _u64.pack(offset) + _u64.pack(size) + string(target) + _u64.pack(at),
    )


def hello(data: bytes) -> tuple[int, dict[bytes, bytes]]:
    """(version, extensions) out of a VERSION message; ValueError when it is cut short."""
    (version,) = _unpack(_u32, data, 0)
    at = 4
    found: dict[bytes, bytes] = {}
    while at < len(data):
        name, at = _string(data, at)
        found[name], at = _string(data, at)
    return version, found


def failure_of(data: bytes) -> Failure | None:
    """None for a status of OK."""
    (code,) = _unpack(_u32, data, 0)
    if code == OK:
        return None
    try:
        text, _ = _string(data, 4)
    except ValueError:  # servers of the first drafts send the code alone
        text = b""
    return Failure(code, text.decode("utf-8", "replace")[:200])


def string_of(data: bytes) -> bytes:
    return _string(data, 0)[0]


def attributes_of(data: bytes) -> Attributes:
    return _attributes(data, 0)[0]


def names_of(data: bytes) -> list[Name]:
    """ValueError for a message that is cut short."""
    (count,) = _unpack(_u32, data, 0)
    at = 4
    found = []
    for _ in range(count):
        name, at = _string(data, at)
        _, at = _string(data, at)  # the long form, for people
        attributes, at = _attributes(data, at)
        found.append(Name(name, attributes))
    return found


def numbers_of(data: bytes) -> tuple[int, ...]:
    """All of a message of 64-bit numbers: limits, statvfs."""
    count = len(data) // 8
    return struct.unpack_from(f">{count}Q", data, 0)


def _unpack(shape: struct.Struct, data: bytes, at: int) -> tuple[int, ...]:
    try:
        return shape.unpack_from(data, at)
    except struct.error as exc:
        raise ValueError("a message of the server is cut short") from exc


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    (size,) = _unpack(_u32, data, at)
    at += 4
    if at + size > len(data):
        raise ValueError("a message of the server is cut short")
    return data[at : at + size], at + size


def _attributes(data: bytes, at: int) -> tuple[Attributes, int]:
    (flags,) = _unpack(_u32, data, at)
    at += 4
    if flags == _USUAL and at + 28 <= len(data):  # all that there is, as OpenSSH sends it
        size, _, _, mode, _, mtime = _usual.unpack_from(data, at)
        return Attributes(size, mtime, mode), at + 28
    size = mtime = mode = 0
    if flags & _HAS_SIZE:
        (size,) = _unpack(_u64, data, at)
        at += 8
    if flags & _HAS_IDS:
        at += 8
    if flags & _HAS_MODE:
        (mode,) = _unpack(_u32, data, at)
        at += 4
    if flags & _HAS_TIMES:
        _, mtime = _unpack(_2u32, data, at)
        at += 8
    if flags & _HAS_MORE:
        (count,) = _unpack(_u32, data, at)
        at += 4
        for _ in range(2 * count):
            _, at = _string(data, at)
    return Attributes(size, mtime, mode), at
