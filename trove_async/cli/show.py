"""What reaches the terminal: escaped text for people, JSON lines for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

from trove_async import BucketInfo, CommonPrefix, ObjectInfo

__all__ = ["bucket_record", "complain", "json_line", "line", "object_record", "shown", "size_text"]


def shown(text: str) -> str:
    """Control characters, terminal escapes, bidi overrides and lone surrogates are escaped, so
    that a key can neither drive the terminal nor break a line. ``--json`` has the exact key."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode("ascii")
        for c in text
    )


def line(text: str) -> None:
    sys.stdout.write(shown(text).encode(_encoding(), "backslashreplace").decode(_encoding()) + "\n")


def _encoding() -> str:
    return sys.stdout.encoding or "utf-8"


def json_line(record: Mapping[str, object]) -> None:
    """ASCII only: every character that could disturb a terminal is a ``\\u`` escape."""
    sys.stdout.write(json.dumps(record) + "\n")


def complain(text: str) -> None:
    """One line on stderr."""
    sys.stdout.flush()
    sys.stderr.write(f"trove: {shown(text)}\n")
    sys.stderr.flush()


def object_record(bucket: str, entry: ObjectInfo | CommonPrefix) -> dict[str, object]:
    if isinstance(entry, CommonPrefix):
        return {"bucket": bucket, "prefix": entry.prefix}
    return {
        "bucket": bucket,
        "key": entry.key,
        "size": entry.size,
        "stored_size": entry.stored_size,
        "content_type": entry.content_type,
        "etag": entry.etag,
        "last_modified": entry.last_modified.isoformat(),
        "metadata": dict(entry.metadata),
        "checksum": entry.checksum,
        "version_id": entry.version_id,
        "storage_class": entry.storage_class,
        "encodings": None if entry.encodings is None else list(entry.encodings),
    }


def bucket_record(info: BucketInfo) -> dict[str, object]:
    created = info.created_at
    return {"bucket": info.name, "created_at": created.isoformat() if created else None}


def size_text(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
