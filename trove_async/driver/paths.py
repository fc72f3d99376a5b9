"""Objects as files below a root: from bucket and key to a path, for drivers with real folders.

`<root>/<bucket>/<key>`, every byte of the key as it is; what a file system cannot hold is
refused before any I/O. What is known of a file beside its bytes is kept in a sidecar that is
chosen by the file's own identity, so that publishing a file is one rename.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from trove_async._names import check_bucket
from trove_async.errors import InvalidBucketNameError, InvalidKeyError

__all__ = ["MAX_KEY", "STATE", "PathTarget", "bucket_path", "is_bucket"]

MAX_KEY: Final = 1024
MAX_SEGMENT: Final = 255
STATE: Final = b".trove"
"""The private folder of the root; no bucket can have its name."""


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


class PathTarget:
    """One key of one bucket as a path below the root."""

    __slots__ = ("_digest", "bucket", "key", "path")

    def __init__(self, bucket: str, key: str) -> None:
        """Raises InvalidKeyError."""
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
        self._digest = ""

    def sidecar(self, size: int, mtime: int) -> bytes:
        """``folder/name`` of the record that belongs to just this file."""
        digest = self._digest
        if not digest:
            digest = self._digest = hashlib.blake2b(self.path, digest_size=20).hexdigest()
        return f"{digest[:2]}/{digest[2:]}~{size}-{mtime}".encode("ascii")

    @property
    def folders(self) -> list[bytes]:
        """Paths of the folders between the bucket and the file, the outermost first."""
        names = self.path.split(b"/")
        return [b"/".join(names[:count]) for count in range(2, len(names))]
