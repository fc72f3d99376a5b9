"""Between Google's resources, headers and `ObjectInfo`."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import quote

import google_crc32c

from trove_async.errors import BackendError, InvalidKeyError
from trove_async.model import ObjectInfo

__all__ = [
    "FIELDS",
    "MARK",
    "STAGED",
    "base64_crc",
    "check_key",
    "crc_of",
    "info_of",
    "info_of_headers",
    "is_staged",
    "json_path",
    "marked",
    "time_of",
    "xml_path",
]

FIELDS: Final = (
    "name,size,contentType,generation,updated,metadata,crc32c,storageClass"  # of a resource
)
MARK: Final = "trovejson"
"""In the metadata of an object some of whose values a header would not give as they are: it is
to be read by the JSON API. Nobody outside the driver sees it."""
STAGED: Final = ".trove-upload~"
"""Beginning of the names that unfinished uploads are kept under, 32 hex digits after it; what
follows them, if anything, begins with a slash."""
META: Final = "x-goog-meta-"
_PLAIN: Final = re.compile(r"(?:[!-$&-~](?:[ -$&-~]*[!-$&-~])?)?")  # the same in a header
_OWN: Final = re.compile(re.escape(STAGED) + r"[0-9a-f]{32}(?:/.*)?", re.ASCII | re.DOTALL)
_HASH: Final = re.compile(r"(?:^|[,\s])crc32c=([A-Za-z0-9+/]{6}==)")
_STEP: Final = 1024 * 1024
_times: dict[str, datetime] = {}


def check_key(bucket: str, key: str) -> None:
    """https://cloud.google.com/storage/docs/objects#naming"""
    if key in (".", "..") or "\r" in key or "\n" in key:
        raise InvalidKeyError(
            "GCS takes neither '.' nor '..' nor line breaks in a name", bucket=bucket, key=key
        )
    if key.startswith(".well-known/acme-challenge/"):
        raise InvalidKeyError("GCS keeps these names for itself", bucket=bucket, key=key)
    if is_staged(key):
        raise InvalidKeyError("unfinished uploads are kept there", bucket=bucket, key=key)


def is_staged(name: str) -> bool:
    return name.startswith(STAGED) and _OWN.fullmatch(name) is not None


def json_path(bucket: str, key: str) -> str:
    return f"/storage/v1/b/{bucket}/o/{quote(key, safe='')}"


def xml_path(bucket: str, key: str) -> str:
    """Slashes are encoded as well, so that no proxy sees a dot segment to resolve."""
    return f"/{bucket}/{quote(key, safe='')}"


def time_of(text: object) -> datetime:
    """Of RFC 3339 or HTTP, in whole seconds: headers give no more, and one object has one time.
    The epoch for what cannot be read."""
    known = _times.get(text) if isinstance(text, str) else None
    if known is None:
        try:
            if isinstance(text, str) and "T" in text[:12]:
                known = datetime.fromisoformat(text).astimezone(UTC).replace(microsecond=0)
            else:
                known = parsedate_to_datetime(str(text)).astimezone(UTC)
        except (ValueError, TypeError):
            known = datetime.fromtimestamp(0, UTC)
        if len(_times) > 4096:
            _times.clear()
        _times[str(text)] = known
    return known


def marked(metadata: Mapping[str, str]) -> dict[str, str]:
    """As it is stored."""
    found = dict(metadata)
    if any(_PLAIN.fullmatch(value) is None for value in found.values()):
        found[MARK] = "1"
    return found


def crc_of(pieces: list[bytes | memoryview], crc: int = 0) -> int:
    for piece in pieces:
        if type(piece) is bytes:
            crc = google_crc32c.extend(crc, piece)
        else:  # the library takes nothing else
            for start in range(0, len(piece), _STEP):
                crc = google_crc32c.extend(crc, bytes(piece[start : start + _STEP]))
    return crc


def base64_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def _checksum(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return f"crc32c:{raw.hex()}" if len(raw) == 4 else None


def _number(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        return int(value)
    raise BackendError("the answer lacks a number, or it is none")


def info_of(resource: Mapping[str, Any], key: str | None = None) -> ObjectInfo:
    """Of a resource of the JSON API. BackendError for one that cannot be."""
    try:
        name = resource["name"]
        metadata = resource.get("metadata") or {}
        generation = str(_number(resource["generation"]))
        size = _number(resource["size"])
        if metadata:
            metadata = {k.lower(): str(v) for k, v in metadata.items() if k != MARK}
    except (KeyError, AttributeError, TypeError) as exc:
        raise BackendError("the answer describes no object", key=key) from exc
    if not isinstance(name, str) or (key is not None and name != key):
        raise BackendError("the answer describes another object", key=key)
    return ObjectInfo(
        name,
        size,
        size,
        resource.get("contentType") or "application/octet-stream",
        generation,
        time_of(resource.get("updated")),
        metadata,
        _checksum(resource.get("crc32c")),
        generation,
        resource.get("storageClass"),
        None,
    )


def info_of_headers(key: str, headers: Mapping[str, str], size: int) -> tuple[ObjectInfo, bool]:
    """(info, whether the headers give its metadata as it is); ``size`` is that of the whole
    object."""
    metadata: dict[str, str] = {}
    is_exact = True
    hashes = ""
    for name, value in headers.items():
        if name[:7].lower() != "x-goog-":
            continue
        lower = name.lower()
        if lower.startswith(META):
            lower = lower[len(META) :]
            if lower == MARK or _PLAIN.fullmatch(value) is None:
                is_exact = False
            metadata[lower] = value
        elif lower == "x-goog-hash":
            hashes += "," + value
    generation = str(_number(headers.get("x-goog-generation")))
    found = _HASH.search(hashes)
    info = ObjectInfo(
        key,
        size,
        size,
        headers.get("content-type") or "application/octet-stream",
        generation,
        time_of(headers.get("last-modified")),
        metadata,
        None if found is None else _checksum(found[1]),
        generation,
        headers.get("x-goog-storage-class"),
        None,
    )
    return info, is_exact
