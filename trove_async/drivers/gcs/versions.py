"""Past versions, by generation.

GCS keeps no delete markers: an object without a live version has been deleted, and the marker
that `list_versions` shows then is made up. Deleting the live version for good makes no other one
live; `restore_version` does.
"""

from __future__ import annotations

import builtins
from urllib.parse import urlencode

from trove_async.driver import GetOptions, RawObject
from trove_async.drivers.gcs.info import check_key, info_of, json_path, time_of
from trove_async.drivers.gcs.multipart import Multipart
from trove_async.drivers.gcs.reading import version_of
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ObjectNotFoundError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async.model import ObjectInfo, ObjectRef, VersionInfo

__all__ = ["Versions"]

_FIELDS = "nextPageToken,items(name,size,generation,updated,timeCreated,timeDeleted)"


class Versions(Multipart):
    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        opened = self._now()
        check_key(bucket, key)
        query = {
            "versions": "true",
            "prefix": key,
            "endOffset": key + "\x01",  # no key lies between
            "fields": _FIELDS,
        }
        found: builtins.list[tuple[int, VersionInfo]] = []
        deleted = ""
        while True:
            page = await opened.client.json(
                "GET", f"/storage/v1/b/{bucket}/o?{urlencode(query)}", bucket
            )
            for item in page.get("items", ()):
                if item.get("name") != key:
                    continue
                info = info_of(item, key)
                gone = item.get("timeDeleted")
                if gone is not None:
                    deleted = max(deleted, str(gone))
                created = time_of(item.get("timeCreated"))
                version = VersionInfo(info.etag, key, info.size, created, gone is None)
                found.append((int(info.etag), version))
            if not page.get("nextPageToken"):
                break
            query["pageToken"] = str(page["nextPageToken"])
        versions = [version for _, version in sorted(found, key=lambda pair: -pair[0])]
        if versions and not any(version.is_latest for version in versions):
            name = f"deleted-{versions[0].version_id}"
            versions.insert(0, VersionInfo(name, key, 0, time_of(deleted), True, True))
        return versions

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject:
        wanted = GetOptions(
            options.range,
            version_id,
            options.if_match,
            options.if_none_match,
            options.if_modified_since,
        )
        return await self.get(bucket, key, wanted)

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """For good. A version that is not there is no error."""
        opened = self._now()
        check_key(bucket, key)
        if version_id.startswith("deleted-"):
            raise UnsupportedError(
                "GCS has no delete markers to take away: restore a version", backend="gcs"
            )
        try:
            generation = version_of(bucket, key, version_id)
        except VersionNotFoundError:
            return
        target = f"{json_path(bucket, key)}?generation={generation}"
        try:
            await opened.client.json("DELETE", target, bucket, key)
        except ObjectNotFoundError as exc:
            error = await self._missing(exc, bucket, key, version_id)
            if isinstance(error, BucketNotFoundError):
                raise error from exc.__cause__

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """A copy of that version onto the key."""
        opened = self._now()
        check_key(bucket, key)
        ref = ObjectRef(bucket, key)
        query = {"sourceGeneration": version_of(bucket, key, version_id)}
        try:
            return await self.rewritten(opened, ref, ref, query, {})
        except ObjectNotFoundError as exc:
            raise VersionNotFoundError("no such version", bucket=bucket, key=key) from exc

    async def _purge(self, bucket: str) -> None:
        """Takes away what is past in a bucket without live objects."""
        opened = self._now()
        query = {"versions": "true", "fields": _FIELDS}
        while True:
            page = await opened.client.json(
                "GET", f"/storage/v1/b/{bucket}/o?{urlencode(query)}", bucket
            )
            for item in page.get("items", ()):
                if item.get("timeDeleted") is None or not isinstance(item.get("name"), str):
                    raise BackendError("the bucket is used meanwhile", bucket=bucket)
                await self.delete_version(bucket, item["name"], str(item.get("generation")))
            if not page.get("nextPageToken"):
                return
            query["pageToken"] = str(page["nextPageToken"])
