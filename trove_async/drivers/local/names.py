"""What the local driver needs of a key's path beyond what every driver with folders does."""

from __future__ import annotations

import zlib
from typing import Final

from trove_async.driver.paths import MAX_KEY, PathTarget, bucket_path, is_bucket

__all__ = ["MAX_KEY", "STRIPES", "Target", "bucket_path", "is_bucket", "is_key"]

STRIPES: Final = 256


def is_key(raw: bytes) -> bool:
    """Whether a path below a bucket is a key as `Target` would take it, but for its segments."""
    return 0 < len(raw) <= MAX_KEY


class Target(PathTarget):
    __slots__ = ()

    @property
    def folder(self) -> bytes:
        return self.path.rpartition(b"/")[0]

    @property
    def leaf(self) -> bytes:
        return self.path.rpartition(b"/")[2]

    @property
    def stripe(self) -> int:
        """Which lock guards the key; the same in every process."""
        return zlib.crc32(self.path) % STRIPES

    def sidecar(self, size: int, mtime: int) -> bytes:
        """From the private folder."""
        return b"meta/" + super().sidecar(size, mtime)
