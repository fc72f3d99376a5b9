"""What tells one version of a file from another, and what is known of it beside its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from trove_async._names import content_type_of
from trove_async.driver.records import seal, unseal
from trove_async.errors import CorruptMetadataError
from trove_async.model import ObjectInfo

__all__ = ["Identity", "Record", "foreign_info", "identity_of"]

_EXACT: Final = ("etag", "ETag", "md5", "md5Hash", "generation", "version_id", "checksum")
_TIMES: Final = ("mtime", "LastModified", "last_modified", "modified", "updated", "modify")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Identity(NamedTuple):
    """As good as what the file system tells: an etag, else time and inode, else the size."""

    size: int
    token: str
    modified: datetime

    @property
    def name(self) -> str:
        return f"{self.size}-{self.token}"

    @property
    def etag(self) -> str:
        return f"{self.token}-{self.size:x}"


def identity_of(found: Mapping[str, object]) -> Identity:
    """From what ``info`` or a listing of the file system gave."""
    size = found.get("size")
    told = [str(found[name]) for name in _EXACT if found.get(name) is not None]
    times = [found[name] for name in _TIMES if found.get(name) is not None]
    if not times and found.get("created") is not None:
        times = [found["created"]]
    if not told:
        # A listing may write the same time in another way than ``info`` does.
        told = [*(str(_moment([time])) for time in times), str(found.get("ino"))]
    token = hashlib.blake2b(repr(told).encode(), digest_size=8).hexdigest()
    return Identity(int(str(size)) if size is not None else 0, token, _moment(times))


def _moment(times: list[object]) -> datetime:
    """The first of them that can be read; 1970 where none can."""
    for time in times:
        if isinstance(time, datetime):
            return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
        if isinstance(time, int | float):
            return datetime.fromtimestamp(time, UTC)
        if isinstance(time, str):
            try:
                read = datetime.fromisoformat(time)
            except ValueError:
                continue
            return read if read.tzinfo is not None else read.replace(tzinfo=UTC)
    return _EPOCH


class Record(NamedTuple):
    """Everything of an object but its key, its identity and its bytes."""

    content_type: str
    metadata: Mapping[str, str]

    def encode(self, bucket: str, key: str) -> bytes:
        return seal(
            {
                "b": bucket,
                "o": key,
                "c": self.content_type,
                "m": dict(self.metadata),
            }
        )

    @classmethod
    def decode(cls, data: bytes, bucket: str, key: str) -> Record:
        """CorruptMetadataError unless it is, to the bit, what `encode` wrote for just this."""
        fields = unseal(data)
        if (fields.get("b"), fields.get("o")) != (bucket, key):
            raise CorruptMetadataError("the record belongs to another object")
        try:
            return cls(str(fields["c"]), dict(fields["m"]))
        except (KeyError, TypeError, ValueError) as exc:
            raise CorruptMetadataError("the record of the object lacks a field") from exc

    def info(self, key: str, identity: Identity) -> ObjectInfo:
        return ObjectInfo(
            key,
            identity.size,
            identity.size,
            self.content_type,
            identity.etag,
            identity.modified,
            self.metadata,
        )


def foreign_info(key: str, identity: Identity) -> ObjectInfo:
    """Of a file without a record, or whose record was not asked for: type by name."""
    size = identity.size
    return ObjectInfo(key, size, size, content_type_of(key), identity.etag, identity.modified)
