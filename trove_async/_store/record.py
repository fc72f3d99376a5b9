"""What an object says about itself: the reserved metadata names, written and read here only.

``trovefmt``: ``1`` plain, ``1;zstd,aws-esdk`` the transforms in write order, then optional
hints ``;name=value``. ``trovelen``: logical size. ``trovedig``: digest of the logical bytes.
``trovetok``: a random word of one conditional put, by which a retry knows its own success.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from trove_async.checksum import is_digest
from trove_async.errors import CorruptMetadataError, UnsupportedFormatError
from trove_async.model import ObjectInfo

__all__ = ["FORMAT", "LENGTH", "TOKEN", "Record", "read_record", "seen_as", "write_format"]

FORMAT = "trovefmt"
LENGTH = "trovelen"
DIGEST = "trovedig"
TOKEN = "trovetok"
_RESERVED = "trove"

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}", re.ASCII)


@dataclass(slots=True)
class Record:
    """What the reserved names of one object say."""

    encodings: tuple[str, ...] = ()
    size: int | None = None
    digest: str | None = None
    hints: dict[str, str] = field(default_factory=dict)
    is_written: bool = False
    """False: a foreign object, or one that lost its metadata."""


def write_format(encodings: tuple[str, ...] | list[str], hints: Mapping[str, str]) -> str:
    text = f"1;{','.join(encodings)}" if encodings else "1"
    for name, value in hints.items():
        text += f";{name}={value}"
    return text


def read_record(metadata: Mapping[str, str]) -> Record:
    """CorruptMetadataError when the reserved names hold what we never write."""
    text = metadata.get(FORMAT)
    if text is None:
        return Record()
    record = Record((), None, None, {}, True)
    if text != "1":
        _read_format(text, record)
    length = metadata.get(LENGTH)
    if length is not None:
        if not length.isascii() or not length.isdigit() or len(length) > 19:
            raise CorruptMetadataError("the recorded size is no number")
        record.size = int(length)
    digest = metadata.get(DIGEST)
    if digest is not None:
        is_usual = len(digest) == 71 and digest.startswith("blake3:")
        if not is_usual and not is_digest(digest):
            raise CorruptMetadataError("the recorded digest cannot be read")
        record.digest = digest
    return record


def _read_format(text: str, record: Record) -> None:
    version, *fields = text.split(";")
    if version != "1":
        raise UnsupportedFormatError(
            f"written by a later version of this package: {version[:20]!r}"
        )
    if fields and "=" not in fields[0]:
        record.encodings = _encodings(fields.pop(0))
    for item in fields:
        name, equals, value = item.partition("=")
        if not equals:
            raise CorruptMetadataError("the recorded format cannot be read")
        record.hints[name] = value


@lru_cache(256)
def _encodings(text: str) -> tuple[str, ...]:
    """Most objects of a store have the same few layers."""
    names = tuple(text.split(","))
    if not all(_NAME.fullmatch(name) for name in names):
        raise CorruptMetadataError("the recorded encodings cannot be read")
    return names


def seen_as(info: ObjectInfo, record: Record, size: int) -> ObjectInfo:
    """The stored truth as the store's caller sees it."""
    return ObjectInfo(
        info.key,
        size,
        info.stored_size,
        info.content_type,
        info.etag,
        info.last_modified,
        user_metadata(info.metadata),
        record.digest,
        info.version_id,
        info.storage_class,
        record.encodings,
    )


def user_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    if len(metadata) == 3 and FORMAT in metadata and LENGTH in metadata and DIGEST in metadata:
        return {}  # most objects: nothing but the record
    return {name: value for name, value in metadata.items() if name[:5] != _RESERVED}


def reserved_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name[:5] == _RESERVED}
