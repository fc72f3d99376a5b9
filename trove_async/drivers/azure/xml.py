"""The service's documents: listings, block lists, tags; read by expat, written by hand."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import unquote
from xml.parsers import expat
from xml.sax.saxutils import escape

from trove_async.errors import BackendError

__all__ = [
    "Blob",
    "Listing",
    "block_list",
    "fields_of",
    "read_blocks",
    "read_containers",
    "read_listing",
    "read_tags",
    "tag_set",
]

_SLICE = 64 * 1024
_HEAD = '<?xml version="1.0" encoding="utf-8"?>'


@dataclass(slots=True)
class Blob:
    """One entry of a listing: its own elements, its properties and its metadata."""

    fields: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Listing:
    blobs: list[Blob] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    marker: str | None = None


def _parser(
    started: Callable[[str, Mapping[str, str]], None],
    ended: Callable[[str], None],
    pieces: list[str],
) -> expat.XMLParserType:
    """No document type, so no entities: neither expansion nor files."""
    parser = expat.ParserCreate(namespace_separator=None)
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refused
    parser.StartElementHandler = started
    parser.EndElementHandler = ended
    parser.CharacterDataHandler = pieces.append
    return parser


def _refused(*declared: object) -> NoReturn:
    raise BackendError("an answer with a document type")


def _name(text: str, is_encoded: bool) -> str:
    return unquote(text) if is_encoded else text


async def read_listing(data: bytes) -> Listing:
    """BackendError for anything that is no listing. Others get their turn in between."""
    listing = Listing()
    blob = Blob()
    path: list[str] = []
    pieces: list[str] = []
    is_encoded = False  # names that XML cannot hold are percent-encoded, and marked so
    is_done = False

    def started(name: str, attributes: Mapping[str, str]) -> None:
        nonlocal blob, is_encoded
        path.append(name)
        pieces.clear()
        if name == "Blob" and path[-2] == "Blobs":
            blob = Blob()
        elif name == "Name":
            is_encoded = attributes.get("Encoded") == "true"

    def ended(name: str) -> None:
        nonlocal is_done
        text = "".join(pieces)
        pieces.clear()
        path.pop()
        above = path[-1] if path else ""
        if above == "Metadata":
            blob.metadata[name] = text
        elif above == "Properties":
            blob.fields[name] = text
        elif above == "Blob":
            blob.fields[name] = _name(text, is_encoded) if name == "Name" else text
        elif above == "BlobPrefix":
            if name == "Name":
                listing.prefixes.append(_name(text, is_encoded))
        elif name == "Blob" and above == "Blobs":
            if "Name" not in blob.fields:
                raise BackendError("a listing with a blob without a name")
            listing.blobs.append(blob)
        elif name == "NextMarker":
            listing.marker = text or None
        elif name == "EnumerationResults":
            is_done = True

    parser = _parser(started, ended, pieces)
    for start in range(0, len(data), _SLICE):
        if start:
            await asyncio.sleep(0)
        _parse(parser, data[start : start + _SLICE], start + _SLICE >= len(data))
    if not is_done:
        raise BackendError("not a listing")
    return listing


def _parse(parser: expat.XMLParserType, data: bytes, is_last: bool) -> None:
    try:
        parser.Parse(data, is_last)
    except (expat.ExpatError, ValueError, IndexError) as exc:
        raise BackendError("an answer that cannot be read") from exc


def _rows(data: bytes, row: str, root: str) -> list[dict[str, str]]:
    """Element name -> text of each ``row`` element. BackendError without a ``root``."""
    rows: list[dict[str, str]] = []
    path: list[str] = []
    pieces: list[str] = []
    seen: set[str] = set()

    def started(name: str, attributes: Mapping[str, str]) -> None:
        path.append(name)
        seen.add(name)
        pieces.clear()
        if name == row:
            rows.append({"in": path[-2] if len(path) > 1 else ""})

    def ended(name: str) -> None:
        path.pop()
        if row in path or name == row:
            rows[-1].setdefault(name, "".join(pieces))
        pieces.clear()

    _parse(_parser(started, ended, pieces), data, True)
    if root not in seen:
        raise BackendError(f"an answer without a {root}")
    return rows


def read_containers(data: bytes) -> tuple[list[str], str | None]:
    """(names, marker of the next page)."""
    names = [row.get("Name", "") for row in _rows(data, "Container", "EnumerationResults")]
    return names, fields_of(data).get("NextMarker") or None


def read_blocks(data: bytes) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(committed, uncommitted), each (id in base64, bytes), in the service's order."""
    rows = _rows(data, "Block", "BlockList")
    try:
        found = [(row["in"], row["Name"], int(row["Size"])) for row in rows]
    except (KeyError, ValueError) as exc:
        raise BackendError("a block list that cannot be read") from exc
    committed = [(name, size) for kind, name, size in found if kind == "CommittedBlocks"]
    return committed, [(name, size) for kind, name, size in found if kind == "UncommittedBlocks"]


def read_tags(data: bytes) -> dict[str, str]:
    return {row.get("Key", ""): row.get("Value", "") for row in _rows(data, "Tag", "Tags")}


def fields_of(data: bytes) -> dict[str, str]:
    """Element name -> text, of a small flat document; empty for what is no XML."""
    found: dict[str, str] = {}
    pieces: list[str] = []

    def ended(name: str) -> None:
        found.setdefault(name, "".join(pieces))

    parser = _parser(lambda name, attributes: pieces.clear(), ended, pieces)
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, BackendError):
        return {}
    return found


def block_list(ids: Iterable[bytes]) -> bytes:
    latest = "".join(f"<Latest>{b64encode(one).decode()}</Latest>" for one in ids)
    return f"{_HEAD}<BlockList>{latest}</BlockList>".encode()


def tag_set(tags: Mapping[str, str]) -> bytes:
    rows = "".join(
        f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>"
        for name, value in tags.items()
    )
    return f"{_HEAD}<Tags><TagSet>{rows}</TagSet></Tags>".encode()
