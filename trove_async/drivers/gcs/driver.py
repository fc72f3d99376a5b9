"""`GCSDriver`: the verbs that are one request each, and all the others put together."""

from __future__ import annotations

import builtins
import json
from typing import Any, Final, Self
from urllib.parse import urlencode

from trove_async.driver import DSN, BucketOptions, DeleteOptions, ListOptions
from trove_async.drivers.gcs.base import write_conditions
from trove_async.drivers.gcs.config import GCSConfig, config_of
from trove_async.drivers.gcs.info import (
    FIELDS,
    STAGED,
    check_key,
    info_of,
    is_staged,
    json_path,
    time_of,
)
from trove_async.drivers.gcs.lifecycle import Lifecycle
from trove_async.drivers.gcs.presigning import Presigns
from trove_async.drivers.gcs.versions import Versions
from trove_async.errors import (
    BackendError,
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    ConflictError,
    InvalidBucketNameError,
    InvalidInputError,
    InvalidTokenError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.model import BucketInfo, ObjectInfo, ObjectPage

__all__ = ["GCSDriver"]

_TOKEN: Final = "t"
_MOST_KEYS: Final = 1000


class GCSDriver(Versions, Presigns, Lifecycle):
    """Opened by the store. ``GCSDriver(GCSConfig(...))``, or `from_dsn`."""

    def __init__(self, config: GCSConfig | None = None) -> None:
        super().__init__(config or GCSConfig())

    default_bucket: str | None = None
    """The bucket of the connection string."""

    @classmethod
    def from_dsn(cls, dsn: DSN) -> Self:
        driver = cls(config_of(dsn))
        driver.default_bucket = dsn.host or None
        return driver

    @property
    def keeps_versions(self) -> bool:
        """Of fresh buckets; conformance cases ask for it."""
        return self.config.versioning

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        opened = self._now()
        check_key(bucket, key)
        if options.version_id is not None:
            await self.delete_version(bucket, key, options.version_id)
            return
        target = json_path(bucket, key)
        conditions = write_conditions(options.if_match, None)
        if conditions:
            target += f"?{urlencode(conditions)}"
        try:
            await opened.client.json("DELETE", target, bucket, key)
        except ObjectNotFoundError as exc:
            error = await self._missing(exc, bucket, key, None)
            if isinstance(error, BucketNotFoundError):
                raise error from exc.__cause__
            if conditions:
                raise PreconditionFailedError(
                    "the object is not there", bucket=bucket, key=key
                ) from exc

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        objects, groups, token = await self._listing(bucket, options)
        if groups:
            groups = await self._groups(bucket, groups)
        return ObjectPage(objects, groups, None if token is None else _TOKEN + token)

    async def _listing(
        self, bucket: str, options: ListOptions
    ) -> tuple[builtins.list[ObjectInfo], builtins.list[str], str | None]:
        """Without what unfinished uploads consist of, but for the groups."""
        query = {
            "maxResults": str(min(options.page_size, _MOST_KEYS)),
            "fields": f"nextPageToken,prefixes,items({FIELDS})",
        }
        if options.prefix:
            query["prefix"] = options.prefix
        if options.delimiter is not None:
            query["delimiter"] = options.delimiter
        if options.start_after is not None:  # theirs is inclusive, and no key lies between
            query["startOffset"] = options.start_after + "\x01"
        if options.cursor is not None:
            if not options.cursor.startswith(_TOKEN) or len(options.cursor) < 2:
                raise InvalidTokenError("not a cursor of this backend", bucket=bucket)
            query["pageToken"] = options.cursor[1:]
        try:
            page = await self._now().client.json(
                "GET", f"/storage/v1/b/{bucket}/o?{urlencode(query)}", bucket
            )
        except InvalidInputError as exc:
            if options.cursor is None:
                raise
            raise InvalidTokenError("not a cursor of this backend", bucket=bucket) from exc
        token = page.get("nextPageToken")
        try:
            objects = [info_of(item) for item in page.get("items", ())]
            groups = [str(prefix) for prefix in page.get("prefixes", ())]
        except TypeError as exc:
            raise BackendError("a listing of another form", bucket=bucket) from exc
        shown = [info for info in objects if not is_staged(info.key)]
        return shown, groups, str(token) if token else None

    async def _groups(self, bucket: str, groups: builtins.list[str]) -> builtins.list[str]:
        """Without those of nothing but unfinished uploads."""
        shown: builtins.list[str] = []
        for group in groups:
            if is_staged(group):
                continue
            in_doubt = STAGED.startswith(group) or group.startswith(STAGED)
            if not in_doubt or await self._has_any(bucket, group):
                shown.append(group)
        return shown

    async def _has_any(self, bucket: str, prefix: str) -> bool:
        cursor: str | None = None
        while True:
            objects, _, token = await self._listing(bucket, ListOptions(prefix, cursor=cursor))
            if objects or token is None:
                return bool(objects)
            cursor = _TOKEN + token

    # -- buckets ---------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """With ``versioning`` its past versions are kept."""
        opened = self._now()
        wanted: dict[str, Any] = {"name": name}
        if options.region is not None:
            wanted["location"] = options.region
        if self.config.versioning:
            wanted["versioning"] = {"enabled": True}
        body = json.dumps(wanted).encode()
        query = urlencode({"project": opened.needed_project(), "fields": "name"})
        try:
            await opened.client.json(
                "POST",
                f"/storage/v1/b?{query}",
                name,
                headers={"content-type": "application/json; charset=UTF-8"},
                pieces=[body],
                size=len(body),
            )
        except ConflictError as exc:
            raise BucketExistsError("the bucket exists already", bucket=name) from exc
        except InvalidInputError as exc:
            if "bucket name" in exc.message.lower():
                raise InvalidBucketNameError(exc.message, bucket=name) from exc
            raise

    async def delete_bucket(self, name: str) -> None:
        """Unfinished uploads and, with ``versioning``, versions that are past go with it."""
        opened = self._now()
        for is_last in (False, True):
            try:
                await opened.client.json("DELETE", f"/storage/v1/b/{name}", name)
            except ConflictError as exc:
                if is_last or await self._has_any(name, ""):
                    raise BucketNotEmptyError("the bucket holds objects", bucket=name) from exc
            else:
                return
            await self._cleared(opened, name, STAGED)
            if self.config.versioning:
                await self._purge(name)

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        opened = self._now()
        query = {
            "project": opened.needed_project(),
            "fields": "nextPageToken,items(name,timeCreated)",
        }
        found: builtins.list[BucketInfo] = []
        while True:
            page = await opened.client.json("GET", f"/storage/v1/b?{urlencode(query)}")
            found += [
                BucketInfo(str(item.get("name")), time_of(item.get("timeCreated")))
                for item in page.get("items", ())
            ]
            if not page.get("nextPageToken"):
                return sorted(found, key=lambda bucket: bucket.name)
            query["pageToken"] = str(page["nextPageToken"])
