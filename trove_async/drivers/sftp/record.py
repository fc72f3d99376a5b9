"""What is known of an object beside its bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from trove_async._names import content_type_of
from trove_async.driver.paths import PathTarget
from trove_async.driver.records import seal, unseal
from trove_async.drivers.sftp.wire import Attributes
from trove_async.errors import CorruptMetadataError
from trove_async.model import ObjectInfo

__all__ = ["Identity", "Record", "foreign_info", "identity_of", "moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Identity(NamedTuple):
    """What tells one version of a file from all others of its key: no two that we write have
    both in common, because each pair is claimed by the exclusive creation of its sidecar."""

    size: int
    mtime: int

    @property
    def etag(self) -> str:
        return f"{self.mtime:x}-{self.size:x}"


def identity_of(found: Attributes) -> Identity:
    return Identity(found.size, found.mtime)


def moment(mtime: float) -> datetime:
    return _EPOCH + timedelta(seconds=mtime)


class Record(NamedTuple):
    """Everything of an object but its key, its identity and its bytes."""

    content_type: str
    metadata: Mapping[str, str]
    tags: Mapping[str, str] | None = None
    storage_class: str | None = None

    def encode(self, target: PathTarget, identity: Identity) -> bytes:
        fields: dict[str, object] = {
            "s": identity.size,
            "t": identity.mtime,
            "b": target.bucket,
            "o": target.key,
            "c": self.content_type,
            "m": dict(self.metadata),
        }
        if self.tags:
            fields["g"] = dict(self.tags)
        if self.storage_class is not None:
            fields["k"] = self.storage_class
        return seal(fields)

    @classmethod
    def decode(cls, data: bytes, target: PathTarget, identity: Identity) -> Record:
        """CorruptMetadataError unless it is, to the bit, what `encode` wrote for just this."""
        fields = unseal(data)
        whose = (fields.get("b"), fields.get("o"), fields.get("s"), fields.get("t"))
        if whose != (target.bucket, target.key, *identity):
            raise CorruptMetadataError("the record belongs to another object")
        try:
            return cls(str(fields["c"]), dict(fields["m"]), fields.get("g"), fields.get("k"))
        except (KeyError, TypeError, ValueError) as exc:
            raise CorruptMetadataError("the record of the object lacks a field") from exc

    def info(self, key: str, identity: Identity) -> ObjectInfo:
        return ObjectInfo(
            key,
            identity.size,
            identity.size,
            self.content_type,
            identity.etag,
            moment(identity.mtime),
            self.metadata,
            None,
            None,
            self.storage_class,
        )


def foreign_info(key: str, identity: Identity) -> ObjectInfo:
    """Of a file without a record, or whose record was not asked for: type by name."""
    size = identity.size
    return ObjectInfo(key, size, size, content_type_of(key), identity.etag, moment(identity.mtime))
