"""Past versions of blobs, or their snapshots: whichever the account has."""

from __future__ import annotations

import builtins
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote, urlencode

from trove_async.driver import GetOptions, HeadOptions, RawObject
from trove_async.driver.http import length_of
from trove_async.drivers.azure.copying import Copies
from trove_async.drivers.azure.info import http_time
from trove_async.drivers.azure.reading import CURRENT
from trove_async.drivers.azure.xml import Blob, read_listing
from trove_async.errors import ObjectNotFoundError, UnsupportedError, VersionNotFoundError
from trove_async.model import ObjectInfo, VersionInfo

__all__ = ["Versions"]


class Versions(Copies):
    async def snapshot(self, bucket: str, key: str) -> str:
        """Takes one; its version id. With ``versions="snapshots"`` only."""
        opened = self._now()
        if self.config.versions != "snapshots":
            raise UnsupportedError("the driver is not set to snapshots", backend="azure")
        answer = await opened.send(opened.blob("PUT", bucket, key, "comp=snapshot"))
        return answer.headers.get("x-ms-snapshot", "")

    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        opened = self._now()
        opened.blob("GET", bucket, key)
        found: builtins.list[VersionInfo] = []
        marker = ""
        while True:
            query = {
                "restype": "container",
                "comp": "list",
                "include": self.config.versions,
                "prefix": key,
            }
            if marker:
                query["marker"] = marker
            request = opened.container("GET", bucket, urlencode(query, quote_via=quote))
            listing = await read_listing((await opened.send(request)).data)
            found += [_version(blob) for blob in listing.blobs if blob.fields["Name"] == key]
            others = any(blob.fields["Name"] != key for blob in listing.blobs)
            marker = listing.marker or ""
            if not marker or others:
                return sorted(found, key=_newest_first)

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject:
        return await self.get(bucket, key, replace(options, version_id=version_id))

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        """For good. A version that is not there is no error."""
        opened = self._now()
        query = self._version_query(version_id)
        if not query:
            raise UnsupportedError("the current object is no snapshot", backend="azure")
        try:
            await opened.send(opened.blob("DELETE", bucket, key, query))
        except (ObjectNotFoundError, VersionNotFoundError):
            return

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        """A copy of that version onto the key."""
        opened = self._now()
        found = await self.head(bucket, key, HeadOptions(version_id))
        source = opened.blob("HEAD", bucket, key, self._version_query(version_id))
        return await self._copied(
            opened,
            opened.blob("PUT", bucket, key),
            self._source_url(opened, source),
            found.etag,
            found,
            None,
        )


def _newest_first(version: VersionInfo) -> tuple[bool, float]:
    return not version.is_latest, -_moment(version).timestamp()


def _moment(version: VersionInfo) -> datetime:
    """Ids are times, of finer grain than Last-Modified."""
    try:
        at = datetime.fromisoformat(version.version_id[:26])
    except ValueError:
        return version.last_modified
    return at.replace(tzinfo=UTC)


def _version(blob: Blob) -> VersionInfo:
    fields = blob.fields
    snapshot = fields.get("Snapshot")
    version_id = fields.get("VersionId") or snapshot or CURRENT
    is_latest = fields.get("IsCurrentVersion", "").lower() == "true" or version_id == CURRENT
    return VersionInfo(
        version_id,
        fields["Name"],
        length_of(fields, "Content-Length"),
        http_time(fields.get("Last-Modified")),
        is_latest,
        False,
    )
