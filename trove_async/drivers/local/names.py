"""From bucket and key to a path below the root; what a file system cannot hold is refused."""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from typing import Final

from trove_async._names import check_bucket
from trove_async.errors import InvalidBucketNameError, InvalidKeyError

__all__ = ["MAX_KEY", "STRIPES", "Target", "bucket_path", "is_key"]

MAX_KEY: Final = 1024
MAX_SEGMENT: Final = 255
STRIPES: Final = 256


@lru_cache(maxsize=1024)
def bucket_path(bucket: str) -> bytes:
    """InvalidBucketNameError also for names that could leave the root."""
    return check_bucket(bucket).encode("ascii")


@lru_cache(maxsize=4096)
def is_bucket(name: str) -> bool:
    try:
        check_bucket(name)
    except InvalidBucketNameError:
        return False
    return True


def is_key(raw: bytes) -> bool:
    """Whether a path below a bucket is a key as `Target` would take it, but for its segments."""
    return 0 < len(raw) <= MAX_KEY


class Target:
    """One key of one bucket as a path below the root."""

    __slots__ = ("bucket", "key", "path")

    def __init__(self, bucket: str, key: str) -> None:
        """Raises InvalidKeyError before any I/O."""
        try:
            raw = key.encode()
        except UnicodeEncodeError:
            raise InvalidKeyError("a key is UTF-8 text", bucket=bucket) from None
        path = bucket_path(bucket) + b"/" + raw
        framed = path + b"/"
        if b"//" in framed or b"/./" in framed or b"/../" in framed or b"\0" in raw:
            raise InvalidKeyError(
                "a file system holds no empty, '.' or '..' segment", bucket=bucket, key=key
            )
        if len(raw) > MAX_SEGMENT and (
            len(raw) > MAX_KEY or max(map(len, raw.split(b"/"))) > MAX_SEGMENT
        ):
            raise InvalidKeyError(
                f"a segment has at most {MAX_SEGMENT} bytes, a key {MAX_KEY}",
                bucket=bucket,
                key=key,
            )
        self.bucket = bucket
        self.key = key
        self.path = path

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
        """Path below the private folder of the record that belongs to just this file."""
        digest = hashlib.blake2b(self.path, digest_size=20).hexdigest()
        return f"meta/{digest[:2]}/{digest[2:]}~{size}-{mtime}".encode("ascii")
