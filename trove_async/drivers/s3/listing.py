"""The answer to ListObjectsV2, read by expat."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import NoReturn
from urllib.parse import unquote_plus
from xml.parsers import expat

from trove_async.errors import BackendError
from trove_async.model import ObjectInfo

__all__ = ["Listing", "fields_of", "listed", "moment", "read_listing"]

_UNKNOWN_TYPE = "application/octet-stream"  # S3's listings name no type


@dataclass(slots=True)
class Listing:
    objects: list[ObjectInfo] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    token: str | None = None


def moment(text: str) -> datetime:
    """Whole seconds, as in the headers of the same object."""
    return datetime.fromisoformat(text[:19] + "+00:00")


def listed(key: str, size: int, etag: str, modified: str, storage_class: str | None) -> ObjectInfo:
    return ObjectInfo(
        key,
        size,
        size,
        _UNKNOWN_TYPE,
        etag.strip('"'),
        moment(modified),
        {},
        None,
        None,
        None if storage_class == "STANDARD" else storage_class,
        None,
    )


def read_listing(data: bytes) -> Listing:
    """BackendError for anything that is no listing."""
    listing = Listing()
    objects, prefixes = listing.objects, listing.prefixes
    entry: dict[str, str] = {}
    page: dict[str, str] = {}
    text = ""
    is_encoded = b"<EncodingType>url</EncodingType>" in data

    def heard(piece: str) -> None:
        nonlocal text
        text += piece

    def started(name: str, attributes: object) -> None:
        nonlocal text
        text = ""

    def ended(name: str) -> None:
        if name == "Contents":
            key = entry["Key"]
            if is_encoded and ("%" in key or "+" in key):
                key = unquote_plus(key)
            objects.append(
                listed(
                    key,
                    int(entry["Size"]),
                    entry.get("ETag", ""),
                    entry["LastModified"],
                    entry.get("StorageClass"),
                )
            )
            entry.clear()
        elif name == "CommonPrefixes":
            prefix = entry.pop("Prefix")
            prefixes.append(unquote_plus(prefix) if is_encoded else prefix)
        else:
            entry[name] = page[name] = text

    parser = _parser()
    parser.CharacterDataHandler = heard
    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, KeyError, ValueError) as exc:
        raise BackendError("a listing that cannot be read") from exc
    if "ListBucketResult" not in page:
        raise BackendError("not a listing")
    if page.get("IsTruncated", "").lower() == "true":
        listing.token = page.get("NextContinuationToken") or None
        if listing.token is None:
            raise BackendError("a listing that goes on, but does not say where")
    return listing


def fields_of(data: bytes) -> dict[str, str]:
    """Element name -> text, of a small flat document; empty for what is no XML."""
    found: dict[str, str] = {}
    pieces: list[str] = []
    parser = _parser()
    parser.StartElementHandler = lambda name, attributes: pieces.clear()
    parser.CharacterDataHandler = pieces.append
    parser.EndElementHandler = lambda name: found.setdefault(name, "".join(pieces))
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, BackendError):
        return {}
    return found


def _parser() -> expat.XMLParserType:
    """No document type, so no entities: neither expansion nor files."""
    parser = expat.ParserCreate(namespace_separator=None)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refused
    return parser


def _refused(*declared: object) -> NoReturn:
    raise BackendError("an answer with a document type")
