"""Paths and what is told of them, in fsspec's words."""

from __future__ import annotations

from typing import TypeAlias

from trove_async import ObjectInfo

__all__ = ["Entry", "directory", "file", "parents", "split"]

Entry: TypeAlias = dict[str, object]


def split(path: str) -> tuple[str, str]:
    """(bucket, key) of a path without protocol; either may be empty."""
    bucket, _, key = path.partition("/")
    return bucket, key


def directory(path: str) -> Entry:
    return {"name": path, "size": 0, "type": "directory"}


def file(bucket: str, info: ObjectInfo) -> Entry:
    return {
        "name": f"{bucket}/{info.key}",
        "size": info.size,
        "type": "file",
        "stored_size": info.stored_size,
        "content_type": info.content_type,
        "etag": info.etag,
        "last_modified": info.last_modified,
        "mtime": info.last_modified.timestamp(),
        "metadata": dict(info.metadata),
        "checksum": info.checksum,
        "version_id": info.version_id,
        "storage_class": info.storage_class,
        "encodings": info.encodings,
    }


def parents(path: str, root: str) -> list[str]:
    """The directories strictly between ``root`` and ``path``, the outermost first."""
    below = path[len(root) :].strip("/").split("/")[:-1] if root else path.split("/")[:-1]
    found = []
    at = root
    for name in below:
        at = f"{at}/{name}" if at else name
        found.append(at)
    return found
