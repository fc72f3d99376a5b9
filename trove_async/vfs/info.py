"""What is known of a path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from trove_async.model import ObjectInfo
from trove_async.vfs.paths import name_of

__all__ = ["DIRECTORY", "FileInfo", "directory", "file_info"]

DIRECTORY: Final = "application/x-directory"
"""Content type of the marker of a directory."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file or a directory."""

    name: str
    """The last part of the path; empty for the root."""
    path: str
    """From the root of the bucket, without a slash at either end: the key of a file."""
    size: int
    """Bytes a full read gives; of a directory 0. A listing of a backend that lists no metadata
    has the stored size here, as in `Trove.list`; `FileSystem.stat` is exact."""
    modified: datetime | None
    """UTC; None for a directory without a marker."""
    is_dir: bool
    content_type: str | None = None
    etag: str | None = None
    checksum: str | None = None
    """``"<algorithm>:<hex>"`` of the content, when it was recorded."""
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        return not self.is_dir

    def __str__(self) -> str:
        return f"{self.path}/" if self.is_dir else self.path


def file_info(found: ObjectInfo) -> FileInfo:
    return FileInfo(
        name_of(found.key),
        found.key,
        found.size,
        found.last_modified,
        False,
        found.content_type,
        found.etag,
        found.checksum,
        found.metadata,
    )


def directory(key: str, modified: datetime | None = None) -> FileInfo:
    return FileInfo(name_of(key), key, 0, modified, True)
