"""`AzureDriver`: the verbs that are one request each, and all the others put together."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Final, Self
from urllib.parse import quote, urlencode

from trove_async.driver import DSN, BucketOptions, DeleteOptions, ListOptions
from trove_async.drivers.azure.base import conditions
from trove_async.drivers.azure.config import config_of
from trove_async.drivers.azure.info import is_folder, listed
from trove_async.drivers.azure.multipart import Multipart
from trove_async.drivers.azure.names import SESSION, is_session
from trove_async.drivers.azure.presigning import Presigns
from trove_async.drivers.azure.tagging import Tags
from trove_async.drivers.azure.versions import Versions
from trove_async.drivers.azure.wire import Request
from trove_async.drivers.azure.xml import Listing, read_containers, read_listing
from trove_async.errors import (
    BucketNotEmptyError,
    InvalidTokenError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.model import BucketInfo, ObjectInfo, ObjectPage

__all__ = ["AzureDriver"]

_TOKEN: Final = "t"
_MOST_ENTRIES: Final = 5000


class AzureDriver(Multipart, Versions, Presigns, Tags):
    """Opened by the store. ``AzureDriver(AzureConfig(...))``, or `from_dsn`."""

    default_bucket: str | None = None
    """The container of the connection string."""

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        driver = cls(config_of(dsn))
        driver.default_bucket = dsn.host or None
        return driver

    @property
    def keeps_versions(self) -> bool:
        """Of fresh containers; conformance cases ask for it."""
        return self.config.versions == "versions"

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        """ConflictError while it has snapshots: they would go with it."""
        opened = self._now()
        request = opened.blob("DELETE", bucket, key, self._version_query(options.version_id))
        conditions(options.if_match, None, request.headers)
        try:
            await opened.send(request)
        except ObjectNotFoundError as exc:
            if options.if_match is not None:
                raise PreconditionFailedError("there is no such object") from exc

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        """In the service's order. ``start_after`` is not known to it: what is not after it is
        passed over here, at the price of the pages before it."""
        after = options.start_after
        cursor = _read_cursor(options.cursor, bucket)
        listing = await self._listing(
            bucket, options.prefix, options.delimiter, cursor, options.page_size
        )
        objects = _shown(listing, after)
        prefixes = [
            p for p in listing.prefixes if after is None or p > after or after.startswith(p)
        ]
        if prefixes:
            prefixes = await self._groups(bucket, prefixes, after)
        token = None if listing.marker is None else _TOKEN + listing.marker
        return ObjectPage(objects, prefixes, token)

    async def _listing(
        self, bucket: str, prefix: str, delimiter: str | None, marker: str | None, most: int
    ) -> Listing:
        opened = self._now()
        if opened.is_azurite and delimiter is not None and len(delimiter) > 1:
            raise UnsupportedError("azurite groups by single characters only", backend="azure")
        query = {
            "restype": "container",
            "comp": "list",
            "include": "metadata",
            "maxresults": str(min(most, _MOST_ENTRIES)),
        }
        if prefix:
            query["prefix"] = prefix
        if delimiter is not None:
            query["delimiter"] = delimiter
        if marker is not None:
            query["marker"] = marker
        request = opened.container("GET", bucket, urlencode(query, quote_via=quote))
        return await read_listing((await opened.send(request)).data)

    async def _groups(
        self, bucket: str, prefixes: Sequence[str], after: str | None
    ) -> builtins.list[str]:
        """Without those of nothing but unfinished uploads, or of nothing after ``after``."""
        shown: builtins.list[str] = []
        for prefix in prefixes:
            in_doubt = SESSION.startswith(prefix) or prefix.startswith(SESSION)
            if after is not None and after.startswith(prefix):
                in_doubt = True
            if not in_doubt or await self._has_any(bucket, prefix, after):
                shown.append(prefix)
        return shown

    async def _has_any(self, bucket: str, prefix: str, after: str | None = None) -> bool:
        marker: str | None = None
        while True:
            listing = await self._listing(bucket, prefix, None, marker, _MOST_ENTRIES)
            if _shown(listing, after):
                return True
            marker = listing.marker
            if marker is None:
                return False

    # -- containers ------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        opened = self._now()
        if options.region is not None:
            raise UnsupportedError("an account is in one region", backend="azure")
        await opened.send(opened.container("PUT", name))

    async def delete_bucket(self, name: str) -> None:
        """Unfinished uploads go with it."""
        opened = self._now()
        if await self._has_any(name, ""):
            raise BucketNotEmptyError("the container holds objects", bucket=name)
        await opened.send(opened.container("DELETE", name))

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        opened = self._now()
        found: builtins.list[BucketInfo] = []
        marker: str | None = None
        while True:
            query = "comp=list"
            if marker is not None:
                query += f"&marker={quote(marker, safe='')}"
            names, marker = read_containers(
                (await opened.send(Request("GET", "", query=query))).data
            )
            found += [BucketInfo(name, None) for name in names if not name.startswith("$")]
            if marker is None:
                return sorted(found, key=lambda bucket: bucket.name)


def _shown(listing: Listing, after: str | None) -> list[ObjectInfo]:
    """Without unfinished uploads and the directories of hierarchical namespaces."""
    names = [
        blob
        for blob in listing.blobs
        if not is_session(blob.fields["Name"]) and (after is None or blob.fields["Name"] > after)
    ]
    return [info for info in map(listed, names) if not is_folder(info.metadata)]


def _read_cursor(cursor: str | None, bucket: str) -> str | None:
    if cursor is None:
        return None
    if not cursor.startswith(_TOKEN) or len(cursor) < 2:
        raise InvalidTokenError("not a cursor of this backend", bucket=bucket)
    return cursor[1:]
