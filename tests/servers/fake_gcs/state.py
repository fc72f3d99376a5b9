"""What the fake server holds: buckets, the versions of their objects, and their rules.

https://cloud.google.com/storage/docs/json_api/v1/objects#resource
https://cloud.google.com/storage/docs/object-versioning
https://cloud.google.com/storage/docs/request-preconditions
"""

from __future__ import annotations

import base64
import hashlib
import time
from bisect import bisect_left, insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import google_crc32c

from tests.servers.fake_gcs.errors import ApiError, bad, no_bucket, no_object, precondition

__all__ = ["EDITABLE", "Bucket", "State", "Version", "check", "check_name", "stamp"]

EDITABLE = (
    "contentType",
    "cacheControl",
    "contentDisposition",
    "contentEncoding",
    "contentLanguage",
    "metadata",
)
"""Fields that a copy takes along and that an upload or a patch may give."""
_MOST_METADATA = 8 * 1024


def stamp(seconds: float) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()


def md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def check_name(name: str) -> None:
    """https://cloud.google.com/storage/docs/objects#naming"""
    if not name:
        raise bad("Required", "required")
    if len(name.encode()) > 1024:
        raise bad("The specified object name is too long.")
    if "\r" in name or "\n" in name or name in (".", ".."):
        raise bad("Disallowed unicode characters present in object name")
    if name.startswith(".well-known/acme-challenge/"):
        raise bad("Invalid object name")


@dataclass(slots=True)
class Version:
    name: str
    generation: int
    data: bytes
    fields: dict[str, Any]
    """Those of EDITABLE that are set, and storageClass."""
    created: float
    updated: float
    crc32c: str
    md5: str
    metageneration: int = 1
    deleted: float | None = None
    """When it became noncurrent."""
    component_count: int | None = None

    def resource(self, bucket: str, root: str) -> dict[str, Any]:
        path = f"{root}/storage/v1/b/{bucket}/o/{quote(self.name, safe='')}"
        found: dict[str, Any] = {
            "kind": "storage#object",
            "id": f"{bucket}/{self.name}/{self.generation}",
            "selfLink": path,
            "mediaLink": f"{path}?generation={self.generation}&alt=media",
            "name": self.name,
            "bucket": bucket,
            "generation": str(self.generation),
            "metageneration": str(self.metageneration),
            "size": str(len(self.data)),
            "crc32c": self.crc32c,
            "etag": self.etag,
            "timeCreated": stamp(self.created),
            "updated": stamp(self.updated),
            "timeStorageClassUpdated": stamp(self.created),
        }
        if self.component_count is None:
            found["md5Hash"] = self.md5
        else:
            found["componentCount"] = self.component_count
        if self.deleted is not None:
            found["timeDeleted"] = stamp(self.deleted)
        found.update({name: value for name, value in self.fields.items() if value is not None})
        return found

    @property
    def etag(self) -> str:
        return base64.b64encode(f"{self.generation}/{self.metageneration}".encode()).decode()


def fields_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """The editable part of a resource; 400 for what the API would refuse."""
    found = {name: given[name] for name in EDITABLE if given.get(name) is not None}
    metadata = found.get("metadata")
    if metadata is not None:
        if not isinstance(metadata, dict) or not all(
            isinstance(value, str) for value in metadata.values()
        ):
            raise bad("Invalid value for metadata")
        if sum(len(k.encode()) + len(v.encode()) for k, v in metadata.items()) > _MOST_METADATA:
            raise bad("The total size of custom metadata is too large.")
        if not metadata:
            del found["metadata"]
    storage_class = given.get("storageClass")
    if storage_class is not None:
        if storage_class not in ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE"):
            raise bad(f"Invalid storage class: {storage_class}")
        found["storageClass"] = storage_class
    return found


def check(query: Mapping[str, str], version: Version | None, prefix: str = "") -> bool:
    """Preconditions in ``query`` on a version (None: there is no live one). 412; True where a
    read would say 304."""

    def wanted(name: str) -> int | None:
        text = query.get(f"if{prefix}{name}")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
            raise bad(f"Invalid value for if{prefix}{name}")
        return int(text)

    generation = 0 if version is None else version.generation
    if (match := wanted("GenerationMatch")) is not None and match != generation:
        raise precondition()
    meta = 0 if version is None else version.metageneration
    if (match := wanted("MetagenerationMatch")) is not None and match != meta:
        raise precondition()
    differs = wanted("GenerationNotMatch")
    if differs is not None and (version is None or differs == generation):
        return True
    differs = wanted("MetagenerationNotMatch")
    return differs is not None and (version is None or differs == meta)


@dataclass(slots=True)
class Bucket:
    name: str
    project: str
    created: float
    location: str = "US"
    metageneration: int = 1
    versioning: bool = False
    lifecycle: dict[str, Any] | None = None
    labels: dict[str, str] = field(default_factory=dict)
    live: dict[str, Version] = field(default_factory=dict)
    past: dict[str, list[Version]] = field(default_factory=dict)
    """Noncurrent ones, the oldest first."""
    names: list[str] = field(default_factory=list)
    """Of live and past objects, in the order of their UTF-8 bytes, which is that of their
    code points."""

    def resource(self, root: str) -> dict[str, Any]:
        found: dict[str, Any] = {
            "kind": "storage#bucket",
            "id": self.name,
            "name": self.name,
            "selfLink": f"{root}/storage/v1/b/{self.name}",
            "projectNumber": "1",
            "metageneration": str(self.metageneration),
            "location": self.location,
            "storageClass": "STANDARD",
            "etag": base64.b64encode(str(self.metageneration).encode()).decode(),
            "timeCreated": stamp(self.created),
            "updated": stamp(self.created),
        }
        if self.versioning:
            found["versioning"] = {"enabled": True}
        if self.lifecycle and self.lifecycle.get("rule"):
            found["lifecycle"] = self.lifecycle
        if self.labels:
            found["labels"] = self.labels
        return found

    def find(self, name: str, generation: str | None) -> Version:
        live = self.live.get(name)
        if generation is None:
            if live is None:
                raise no_object(self.name, name)
            return live
        if not generation.isascii() or not generation.isdigit() or int(generation) >= 1 << 63:
            raise bad("Invalid value for generation")
        for version in [*self.past.get(name, []), *([live] if live else [])]:
            if version.generation == int(generation):
                return version
        raise no_object(self.name, name)

    def publish(self, version: Version) -> None:
        self._retire(version.name)
        self.live[version.name] = version
        self._name(version.name)

    def _retire(self, name: str) -> None:
        old = self.live.pop(name, None)
        if old is not None and self.versioning:
            old.deleted = time.time()
            self.past.setdefault(name, []).append(old)

    def _name(self, name: str) -> None:
        at = bisect_left(self.names, name)
        if at == len(self.names) or self.names[at] != name:
            insort(self.names, name)

    def delete(self, name: str, generation: str | None) -> None:
        """With a generation for good, also the live one: none becomes live in its place."""
        version = self.find(name, generation)
        if generation is None:
            self._retire(name)
        elif self.live.get(name) is version:
            del self.live[name]
        else:
            self.past[name].remove(version)
        if name not in self.live and not self.past.get(name):
            self.past.pop(name, None)
            del self.names[bisect_left(self.names, name)]


class State:
    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self._last = 0

    def bucket(self, name: str) -> Bucket:
        found = self.buckets.get(name)
        if found is None:
            raise no_bucket()
        return found

    def create(self, name: str, project: str, given: Mapping[str, Any]) -> Bucket:
        if name in self.buckets:
            raise ApiError(
                409,
                "conflict",
                "Your previous request to create the named bucket succeeded and you already own "
                "it.",
            )
        bucket = Bucket(name, project, time.time(), str(given.get("location") or "US").upper())
        self.edit(bucket, given)
        bucket.metageneration = 1
        self.buckets[name] = bucket
        return bucket

    def edit(self, bucket: Bucket, given: Mapping[str, Any]) -> None:
        """A patch: what is given replaces, null removes."""
        lifecycle = given.get("lifecycle", bucket.lifecycle)
        for rule in (lifecycle or {}).get("rule", []):
            kind = rule.get("action", {}).get("type")
            if kind not in ("Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"):
                raise bad(f"Invalid lifecycle action: {kind}")
            if not rule.get("condition"):
                raise bad("A lifecycle rule needs a condition")
            if kind == "SetStorageClass":
                fields_of({"storageClass": rule["action"].get("storageClass")})
        bucket.lifecycle = lifecycle
        if "versioning" in given:
            bucket.versioning = bool((given["versioning"] or {}).get("enabled"))
        if "labels" in given:
            for name, value in (given["labels"] or {}).items():
                if value is None:
                    bucket.labels.pop(name, None)
                elif len(name) > 63 or len(value) > 63 or value != value.lower():
                    raise bad("Invalid label")
                else:
                    bucket.labels[name] = value
        bucket.metageneration += 1

    def drop(self, name: str) -> None:
        bucket = self.bucket(name)
        if bucket.names:
            raise ApiError(409, "conflict", "The bucket you tried to delete is not empty.")
        del self.buckets[name]

    def generation(self) -> int:
        """Never twice; they look like microseconds, and nobody may rely on that."""
        self._last = max(self._last + 1, time.time_ns() // 1000)
        return self._last

    def write(
        self,
        bucket: Bucket,
        name: str,
        data: bytes,
        given: Mapping[str, Any],
        query: Mapping[str, str],
        *,
        components: int | None = None,
    ) -> Version:
        """Checks, then publishes at once."""
        check_name(name)
        if self.buckets.get(bucket.name) is not bucket:
            raise no_bucket()
        if check(query, bucket.live.get(name)):
            raise precondition()
        sums = {"crc32c": crc32c(data), "md5Hash": md5(data)}
        for kind, ours in sums.items():
            wanted = given.get(kind)
            if wanted is not None and wanted != ours:
                raise bad(f'Provided {kind} "{wanted}" doesn\'t match calculated {kind} "{ours}".')
        now = time.time()
        fields = {"storageClass": "STANDARD", **fields_of(given)}
        fields.setdefault("contentType", "application/octet-stream")
        version = Version(
            name,
            self.generation(),
            data,
            fields,
            now,
            now,
            sums["crc32c"],
            sums["md5Hash"],
            component_count=components,
        )
        bucket.publish(version)
        return version
