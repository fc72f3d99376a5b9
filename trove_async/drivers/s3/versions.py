"""Past versions of objects."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC
from typing import Any

from trove_async.driver import CopyOptions, GetOptions, HeadOptions, RawObject
from trove_async.drivers.s3.copying import Copies
from trove_async.drivers.s3.reading import of_version
from trove_async.drivers.s3.wire import Request
from trove_async.errors import BucketNotEmptyError, TroveError, VersionNotFoundError
from trove_async.model import ObjectInfo, ObjectRef, VersionInfo

__all__ = ["Versions"]

Page = builtins.list[VersionInfo]


class Versions(Copies):
    async def list_versions(self, bucket: str, key: str) -> Page:
        found: Page = []
        async with aclosing(self._version_pages(bucket, key)) as pages:
            async for page in pages:
                found += [info for info in page if info.key == key]
                if len(found) != len(page) and any(info.key != key for info in page):
                    break  # the keys after this one
        return sorted(found, key=lambda v: (not v.is_latest, -v.last_modified.timestamp()))

    async def _version_pages(self, bucket: str, prefix: str) -> AsyncGenerator[Page, None]:
        opened = self._now()
        marker: dict[str, Any] = {}
        while True:
            page = await opened.control("list_object_versions", bucket, Prefix=prefix, **marker)
            entries = [_version(v, False) for v in page.get("Versions", ())]
            yield entries + [_version(v, True) for v in page.get("DeleteMarkers", ())]
            if not page.get("IsTruncated"):
                return
            marker = {
                "KeyMarker": page["NextKeyMarker"],
                "VersionIdMarker": page["NextVersionIdMarker"],
            }

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
        query = {"versionId": version_id}
        try:
            await opened.plane.send(Request("DeleteObject", bucket, key, query))
        except TroveError as exc:
            error = of_version(exc, version_id)
            if not isinstance(error, VersionNotFoundError):
                raise error from exc.__cause__

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """A copy of that version onto the key."""
        opened = self._now()
        ref = ObjectRef(bucket, key)
        found = await self.head(bucket, key, HeadOptions(version_id))
        if found.size > self.most_copied:
            return await self._by_parts(opened, ref, ref, found, found, CopyOptions())
        return await self._whole(opened, ref, ref, found, found, CopyOptions())

    async def _purge(self, bucket: str) -> None:
        """Takes away what is past in a bucket without present objects."""
        opened = self._now()
        async with aclosing(self._version_pages(bucket, "")) as pages:
            async for page in pages:
                if any(v.is_latest and not v.is_delete_marker for v in page):
                    raise BucketNotEmptyError("the bucket holds objects", bucket=bucket)
                if not page:
                    continue
                gone = [{"Key": v.key, "VersionId": v.version_id} for v in page]
                await opened.control(
                    "delete_objects", bucket, Delete={"Objects": gone, "Quiet": True}
                )


def _version(entry: dict[str, Any], is_marker: bool) -> VersionInfo:
    return VersionInfo(
        entry["VersionId"],
        entry["Key"],
        entry.get("Size", 0),
        entry["LastModified"].astimezone(UTC),
        entry["IsLatest"],
        is_marker,
    )
