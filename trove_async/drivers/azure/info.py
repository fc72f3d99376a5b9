"""Between headers, entries of listings, and `ObjectInfo`."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from trove_async.driver.http import length_of
from trove_async.drivers.azure.names import META, plain_metadata
from trove_async.drivers.azure.xml import Blob
from trove_async.errors import BackendError
from trove_async.model import ObjectInfo

__all__ = ["http_time", "info_of", "is_folder", "listed", "md5_of_text", "metadata_of"]

_UNKNOWN_TYPE = "application/octet-stream"
_FOLDER = "hdi_isfolder"
_times: dict[str, datetime] = {}


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


def md5_of_text(text: str | None) -> str | None:
    """``"md5:<hex>"`` of base64; None for what is none."""
    if not text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return f"md5:{raw.hex()}" if len(raw) == 16 else None


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    return plain_metadata(
        (name[10:], value) for name, value in headers.items() if name[:10].lower() == META
    )


def is_folder(metadata: Mapping[str, str]) -> bool:
    """A directory of a hierarchical namespace, which the blob protocol shows as an empty blob."""
    return metadata.get(_FOLDER, "").lower() == "true"


def _tier(tier: str | None, inferred: str | None) -> str | None:
    return None if (inferred or "").lower() == "true" else tier or None


def info_of(key: str, headers: Mapping[str, str], size: int) -> ObjectInfo:
    """Of an answer to GET or HEAD; ``size`` is that of the whole object."""
    etag = headers.get("ETag")
    if not etag or not etag.isascii() or not etag.isprintable():
        raise BackendError("the answer has no ETag")
    md5 = headers.get("x-ms-blob-content-md5")
    if md5 is None and headers.get("Content-Range") is None:
        md5 = headers.get("Content-MD5")
    return ObjectInfo(
        key,
        size,
        size,
        headers.get("Content-Type") or _UNKNOWN_TYPE,
        etag.strip('"'),
        http_time(headers.get("Last-Modified")),
        metadata_of(headers),
        md5_of_text(md5),
        headers.get("x-ms-version-id"),
        _tier(headers.get("x-ms-access-tier"), headers.get("x-ms-access-tier-inferred")),
        None,
    )


def listed(blob: Blob) -> ObjectInfo:
    """An entry of a listing with metadata; equal to what `info_of` gives."""
    fields = blob.fields
    size = length_of(fields, "Content-Length")
    return ObjectInfo(
        fields["Name"],
        size,
        size,
        fields.get("Content-Type") or _UNKNOWN_TYPE,
        (fields.get("Etag") or "").strip('"'),
        http_time(fields.get("Last-Modified")),
        plain_metadata(blob.metadata.items()),
        md5_of_text(fields.get("Content-MD5")),
        fields.get("VersionId") or None,
        _tier(fields.get("AccessTier"), fields.get("AccessTierInferred")),
        None,
    )
