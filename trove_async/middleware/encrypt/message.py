"""The header of an encrypted object and the arithmetic of its frames; nothing secret, no cipher.

An encrypted object is one message of the AWS Encryption SDK, format 2, algorithm suite 0x0478
(AES-256-GCM, HKDF-SHA512, key commitment), framed. Big-endian:

    u8 2 | u16 0x0478 | 32 message_id | u16 len, context | u16 count, encrypted data keys
    | u8 2 (framed) | u32 frame_size | 32 commitment | 16 tag over all of the above
    frame i    u32 i | 12 iv = i | frame_size bytes | 16 tag
    last one   FFFFFFFF | u32 i | 12 iv = i | u32 length | length bytes | 16 tag

The context is a sorted map of text, authenticated twice: by the wrap of the data key and by
the header's tag. Its pair ``trove`` says what the plaintext is: ``1;-`` the user's bytes,
``1;zstd`` that layer's. Source: docs.aws.amazon.com/encryption-sdk, message format reference.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import Struct
from struct import error as _StructError
from types import MappingProxyType
from typing import Final

from trove_async.errors import FormatLimitError, TruncatedError, UnsupportedFormatError

__all__ = [
    "CONTEXT_NAME",
    "ENCODING",
    "FINAL",
    "FINAL_OVERHEAD",
    "FRAME_OVERHEAD",
    "LARGEST_FRAME",
    "LOCATION_NAME",
    "MOST_CONTEXT",
    "MOST_FRAMES",
    "MOST_HEADER",
    "MOST_RECIPIENTS",
    "PREFIX",
    "SMALLEST_FRAME",
    "Header",
    "Limits",
    "MoreBytes",
    "Recognised",
    "context_value",
    "encode_context",
    "encode_header",
    "location_text",
    "message_size",
    "parse_header",
    "recognise",
    "split",
]

Bytes = bytes | bytearray | memoryview

ENCODING: Final = "aws-esdk"
PREFIX: Final = b"\x02\x04\x78"
"""Version 2, suite 0x0478: the only pair read or written, so no message can be turned into one
of a suite without commitment."""
CONTEXT_NAME: Final = "trove"
LOCATION_NAME: Final = "trove-loc"

MOST_HEADER: Final = 16 * 1024
MOST_CONTEXT: Final = 8 * 1024
"""Bytes of the serialised context a writer makes."""
MOST_RECIPIENTS: Final = 8
MOST_FRAMES: Final = 2**32 - 1
"""A frame's number is its nonce, and the largest u32 marks the last frame."""
SMALLEST_FRAME: Final = 128
LARGEST_FRAME: Final = 16 * 1024 * 1024

FINAL: Final = b"\xff\xff\xff\xff"
FRAME_OVERHEAD: Final = 4 + 12 + 16
FINAL_OVERHEAD: Final = 4 + 4 + 12 + 4 + 16

_FRAMED = 2
_ID = slice(3, 35)
_U16 = Struct(">H").unpack_from
_END = Struct(">BI32s16s")
_INNER = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}(?:,[a-z0-9][a-z0-9._+-]{0,63})*", re.ASCII)


class MoreBytes(Exception):
    """What is there so far may be the start of a header, which goes on to ``needed`` bytes or
    further. Not a failure: more must be read."""

    def __init__(self, needed: int) -> None:
        super().__init__(f"the header has at least {needed} bytes")
        self.needed = needed


@dataclass(frozen=True, slots=True)
class Limits:
    """What a reader accepts; looked at before anything is allocated."""

    header: int = MOST_HEADER
    """Bytes."""
    recipients: int = MOST_RECIPIENTS
    """Encrypted data keys in a header."""
    frame: int = LARGEST_FRAME
    """Plaintext bytes per frame, all of which must be held to check their tag."""


_DEFAULT = Limits()


@dataclass(slots=True)
class Header:
    """A header that is well-formed; whether it is genuine only its tag says."""

    message_id: bytes
    context: bytes
    """As it is stored: the associated data of the wrap."""
    pairs: Mapping[str, str]
    keys: list[tuple[bytes, bytes, bytes]]
    """Encrypted data keys: provider id, provider info, ciphertext."""
    frame_size: int
    commitment: bytes
    tag: bytes
    signed: bytes
    """All that the tag covers: the header without it."""

    @property
    def length(self) -> int:
        return len(self.signed) + 16

    @property
    def inner(self) -> tuple[str, ...]:
        """Encodings of the plaintext in write order. UnsupportedFormatError when the context
        does not say, or says it in a later form."""
        return _inner(self.pairs.get(CONTEXT_NAME))

    @property
    def location(self) -> bytes | None:
        """The 16 bytes of the key's hash the object is bound to, or None."""
        text = self.pairs.get(LOCATION_NAME)
        if text is None:
            return None
        try:
            found = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as exc:
            raise UnsupportedFormatError("the location in the header cannot be read") from exc
        if len(found) != 16:
            raise UnsupportedFormatError("the location in the header cannot be read")
        return found


# -- writing ------------------------------------------------------------------------------


def context_value(inner: Sequence[str]) -> str:
    """The pair ``trove`` of an object to which ``inner`` was applied before."""
    return f"1;{','.join(inner) or '-'}"


def location_text(location: bytes) -> str:
    return urlsafe_b64encode(location).rstrip(b"=").decode()


def encode_context(pairs: Mapping[str, str]) -> bytes:
    """Sorted by the bytes of the names. ValueError beyond `MOST_CONTEXT` or for a name or
    value that is no valid UTF-8."""
    parts: list[bytes] = []
    encoded = {name.encode(): value.encode() for name, value in pairs.items()}
    if sum(map(len, encoded)) + sum(map(len, encoded.values())) + 4 * len(encoded) > MOST_CONTEXT:
        raise ValueError(f"an encryption context holds at most {MOST_CONTEXT} bytes")
    for name in sorted(encoded):
        value = encoded[name]
        parts += len(name).to_bytes(2, "big"), name, len(value).to_bytes(2, "big"), value
    return len(encoded).to_bytes(2, "big") + b"".join(parts) if encoded else b""


def encode_header(
    message_id: bytes, context: bytes, keys: Sequence[bytes], frame_size: int, commitment: bytes
) -> bytes:
    """All but the tag. ``keys``: encrypted data keys in their stored form."""
    return b"".join(
        (
            PREFIX,
            message_id,
            len(context).to_bytes(2, "big"),
            context,
            len(keys).to_bytes(2, "big"),
            *keys,
            b"\x02",
            frame_size.to_bytes(4, "big"),
            commitment,
        )
    )


# -- reading ------------------------------------------------------------------------------


def parse_header(data: Bytes, limits: Limits = _DEFAULT) -> Header:
    """The header that ``data`` begins with; what follows it does not matter.

    `MoreBytes` when ``data`` ends inside it; UnsupportedFormatError for another version or
    suite, an unframed message or a malformed context; FormatLimitError beyond ``limits``."""
    if data[:3] != PREFIX:
        if len(data) < 3 and PREFIX.startswith(bytes(data)):
            raise MoreBytes(3)
        raise UnsupportedFormatError(
            "not a message of format 2 and suite 0x0478, the only one that is read"
        )
    size = min(len(data), limits.header)
    end = 37
    if end > size:
        raise _beyond(end, limits)
    start = end
    end = start + _U16(data, 35)[0] + 2
    if end > size:
        raise _beyond(end, limits)
    context = bytes(data[start : end - 2])
    count: int = _U16(data, end - 2)[0]
    if not 1 <= count <= limits.recipients:
        raise FormatLimitError(
            f"a header with {count} encrypted data keys; 1 to {limits.recipients} are read"
        )
    fields: list[bytes] = []
    for _ in range(3 * count):
        start = end + 2
        if start > size:
            raise _beyond(start, limits)
        end = start + _U16(data, end)[0]
        if end > size:
            raise _beyond(end, limits)
        fields.append(bytes(data[start:end]))
    start, end = end, end + _END.size
    if end > size:
        raise _beyond(end, limits)
    kind, frame_size, commitment, tag = _END.unpack_from(data, start)
    if kind != _FRAMED:
        raise UnsupportedFormatError(f"content type {kind}; only framed messages are read")
    if not SMALLEST_FRAME <= frame_size <= limits.frame:
        raise FormatLimitError(
            f"frames of {frame_size} bytes; {SMALLEST_FRAME} to {limits.frame} are read"
        )
    keys = list(zip(fields[::3], fields[1::3], fields[2::3], strict=True))
    signed = bytes(data[: end - 16])
    message_id = signed[_ID]
    return Header(message_id, context, _pairs(context), keys, frame_size, commitment, tag, signed)


def _beyond(stop: int, limits: Limits) -> Exception:
    if stop > limits.header:
        return FormatLimitError(f"a header of more than {limits.header} bytes")
    return MoreBytes(stop)


@lru_cache(maxsize=64)  # one text for nearly all objects of a store
def _pairs(context: bytes) -> Mapping[str, str]:
    if not context:
        return {}
    pairs: dict[str, str] = {}
    position = 2
    try:
        count = _U16(context)[0]
        for _ in range(count):
            texts: list[str] = []
            for _ in range(2):
                start = position + 2
                position = start + _U16(context, position)[0]
                if position > len(context):
                    raise ValueError("a pair goes on after the end of the context")
                texts.append(context[start:position].decode())
            pairs[texts[0]] = texts[1]
        if position != len(context) or len(pairs) != count:
            raise ValueError("a name comes twice, or bytes are left over")
    except (ValueError, _StructError) as exc:
        raise UnsupportedFormatError("the encryption context cannot be read") from exc
    return MappingProxyType(pairs)


@lru_cache(maxsize=64)
def _inner(value: str | None) -> tuple[str, ...]:
    if value is None:
        raise UnsupportedFormatError("a message that was not written by this package")
    version, _, names = value.partition(";")
    if version != "1" or (names != "-" and _INNER.fullmatch(names) is None):
        raise UnsupportedFormatError(f"written by a later version of this package: {value[:40]!r}")
    return () if names == "-" else tuple(names.split(","))


# -- told by its first bytes --------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Recognised:
    """An object of ours that lost its record, or never had one."""

    encodings: tuple[str, ...]
    """In write order, the last one `ENCODING`."""
    header: Header


def recognise(head: Bytes) -> Recognised | None:
    """What an object that begins with ``head`` is: None when it is no encrypted object of ours.

    `MoreBytes` when that cannot be told yet; UnsupportedFormatError when it is one of a later
    form. `MOST_HEADER` bytes always tell."""
    if head[:3] != PREFIX[: len(head)]:
        return None
    try:
        header = parse_header(head)
    except (UnsupportedFormatError, FormatLimitError):
        return None
    if CONTEXT_NAME not in header.pairs:
        return None
    return Recognised((*header.inner, ENCODING), header)


# -- sizes --------------------------------------------------------------------------------


def message_size(size: int, header: int, frame_size: int) -> int:
    """Bytes of the message that holds ``size`` bytes: the last frame is never empty unless
    the object is."""
    whole = (size - 1) // frame_size if size else 0
    return header + size + whole * FRAME_OVERHEAD + FINAL_OVERHEAD


def split(total: int, header: int, frame_size: int) -> tuple[int, int]:
    """(frames before the last one, bytes in the last one) of a message of ``total`` bytes.

    Plain arithmetic: it is proven once the last frame is authenticated. TruncatedError when
    no message has that size."""
    body = total - header - FINAL_OVERHEAD
    if body < 0:
        raise TruncatedError("the message ends before its last frame")
    whole, last = divmod(body, frame_size + FRAME_OVERHEAD)
    if last > frame_size:
        raise TruncatedError("the message ends inside a frame")
    return whole, last
