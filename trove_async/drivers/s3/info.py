"""Between headers and `ObjectInfo`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.header import decode_header
from email.utils import parsedate_to_datetime
from typing import Final

from trove_async.errors import BackendError, InvalidMetadataError
from trove_async.model import ObjectInfo

__all__ = ["crc_hex", "http_time", "info_of", "meta_headers", "unquoted"]

META: Final = "x-amz-meta-"
_WORD: Final = re.compile(r"=\?[^? ]+\?[bBqQ]\?[^? ]*\?=")
_PLAIN: Final = re.compile(r"(?:[!-~](?:[ -~]*[!-~])?)?")  # what survives as a header value
_times: dict[str, datetime] = {}


def unquoted(etag: str | None) -> str:
    return etag.strip('"') if etag else ""


def http_time(text: str | None) -> datetime:
    """The epoch for a time that is missing or cannot be read."""
    known = _times.get(text or "")
    if known is None:
        try:
            known = parsedate_to_datetime(text or "").astimezone(UTC)
        except (ValueError, TypeError):
            known = datetime.fromtimestamp(0, UTC)
        if len(_times) > 4096:
            _times.clear()
        _times[text or ""] = known
    return known


def meta_headers(metadata: Mapping[str, str], headers: dict[str, str], most: int) -> None:
    """Values that are no plain header text travel as encoded words (RFC 2047), which is how
    S3 itself hands out what is not ASCII. InvalidMetadataError for more than ``most`` bytes of
    names and values."""
    for name, value in metadata.items():
        if _PLAIN.fullmatch(value) is None or "=?" in value or "  " in value:
            if "\r" in value or "\n" in value or "\0" in value:
                raise InvalidMetadataError("control characters in a metadata value")
            value = f"=?UTF-8?B?{base64.b64encode(value.encode()).decode()}?="
        headers[META + name] = value
        most -= len(name) + len(value)
    if most < 0:
        raise InvalidMetadataError("more metadata than the server takes")


def _meta_value(value: str) -> str:
    if "=?" not in value or _WORD.search(value) is None:
        return value
    try:
        pieces = decode_header(value)
        return "".join(
            piece if isinstance(piece, str) else piece.decode(charset or "ascii")
            for piece, charset in pieces
        )
    except (ValueError, LookupError):
        return value


def crc_hex(headers: Mapping[str, str]) -> str | None:
    """``"crc32:<hex>"`` of the whole object, when the server keeps that."""
    value = headers.get("x-amz-checksum-crc32")
    if value is None or "-" in value or headers.get("x-amz-checksum-type") == "COMPOSITE":
        return None
    try:
        raw = base64.b64decode(value, validate=True)
    except ValueError:
        return None
    return f"crc32:{raw.hex()}" if len(raw) == 4 else None


def info_of(key: str, headers: Mapping[str, str], size: int) -> ObjectInfo:
    """Of an answer to GET or HEAD; ``size`` is that of the whole object."""
    metadata: dict[str, str] = {}
    for name, value in headers.items():
        if name[:11].lower() == META:
            metadata[name[11:].lower()] = _meta_value(value)
    etag = headers.get("etag")
    if not etag:
        raise BackendError("the answer has no ETag")
    return ObjectInfo(
        key,
        size,
        size,
        headers.get("content-type") or "application/octet-stream",
        etag.strip('"'),
        http_time(headers.get("last-modified")),
        metadata,
        crc_hex(headers),
        _version(headers.get("x-amz-version-id")),
        headers.get("x-amz-storage-class"),
        None,
    )


def _version(text: str | None) -> str | None:
    return None if text is None or text == "null" else text
