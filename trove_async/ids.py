"""TypeIDs: a three-letter prefix and a UUIDv7, so that ids sort by time.

The text form is that of https://github.com/jetify-com/typeid/tree/main/spec.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from trove_async.errors import InvalidInputError

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "BucketID",
    "ChunkID",
    "DownloadID",
    "ObjectID",
    "PoolID",
    "StreamID",
    "TroveID",
    "UploadID",
    "VersionID",
    "new_bucket_id",
    "new_chunk_id",
    "new_download_id",
    "new_object_id",
    "new_pool_id",
    "new_stream_id",
    "new_upload_id",
    "new_version_id",
    "parse_bucket_id",
    "parse_chunk_id",
    "parse_download_id",
    "parse_id",
    "parse_object_id",
    "parse_pool_id",
    "parse_stream_id",
    "parse_upload_id",
    "parse_version_id",
]


class TroveID(str):
    """A checked id. It is a ``str``, so it goes into JSON, SQL and logs as it is."""

    __slots__ = ()
    expected: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `InvalidInputError` unless ``text`` is a TypeID with this class's prefix."""
        if not isinstance(text, str):
            raise TypeError(f"an id is a str, not {type(text).__name__}")
        from typeid import TypeID  # on first use: its import costs as much as all of ours
        from typeid.errors import TypeIDException

        try:
            parsed = TypeID.from_string(text)
        except (TypeIDException, ValueError) as exc:
            raise InvalidInputError(f"not an id: {text!r}") from exc
        if cls.expected is not None and parsed.prefix != cls.expected:
            raise InvalidInputError(f"an id that begins with {cls.expected}_ is wanted: {text!r}")
        return cls(text)

    @classmethod
    def new(cls) -> Self:
        from typeid import TypeID

        return cls(str(TypeID(prefix=cls.expected)))

    @property
    def prefix(self) -> str:
        return self.rpartition("_")[0]

    @property
    def uuid(self) -> UUID:
        from uuid import UUID

        from typeid import TypeID

        return UUID(str(TypeID.from_string(str(self)).uuid))

    @property
    def created_at(self) -> datetime:
        """From the id's own 48-bit clock, milliseconds (RFC 9562, section 5.7)."""
        return datetime.fromtimestamp((self.uuid.int >> 80) / 1000, UTC)


class ObjectID(TroveID):
    __slots__ = ()
    expected = "obj"


class BucketID(TroveID):
    __slots__ = ()
    expected = "bkt"


class UploadID(TroveID):
    __slots__ = ()
    expected = "upl"


class DownloadID(TroveID):
    __slots__ = ()
    expected = "dwn"


class StreamID(TroveID):
    __slots__ = ()
    expected = "str"


class PoolID(TroveID):
    __slots__ = ()
    expected = "pol"


class VersionID(TroveID):
    __slots__ = ()
    expected = "ver"


class ChunkID(TroveID):
    __slots__ = ()
    expected = "chk"


_KINDS: dict[str, type[TroveID]] = {
    kind.expected: kind
    for kind in (ObjectID, BucketID, UploadID, DownloadID, StreamID, PoolID, VersionID, ChunkID)
    if kind.expected
}


def parse_id(text: str, prefix: str | None = None) -> TroveID:
    """Checks any id; with ``prefix`` only one of that kind."""
    parsed = TroveID.parse(text)
    if prefix is not None and parsed.prefix != prefix:
        raise InvalidInputError(f"an id that begins with {prefix}_ is wanted: {text!r}")
    return _KINDS.get(parsed.prefix, TroveID)(text)


new_object_id = ObjectID.new
new_bucket_id = BucketID.new
new_upload_id = UploadID.new
new_download_id = DownloadID.new
new_stream_id = StreamID.new
new_pool_id = PoolID.new
new_version_id = VersionID.new
new_chunk_id = ChunkID.new
parse_object_id = ObjectID.parse
parse_bucket_id = BucketID.parse
parse_upload_id = UploadID.parse
parse_download_id = DownloadID.parse
parse_stream_id = StreamID.parse
parse_pool_id = PoolID.parse
parse_version_id = VersionID.parse
parse_chunk_id = ChunkID.parse
