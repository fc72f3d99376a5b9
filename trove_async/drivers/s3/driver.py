"""`S3Driver`: the verbs that are one request each, and all the others put together."""

from __future__ import annotations

import builtins
from dataclasses import replace
from typing import Any, Final, Self

from trove_async.driver import DSN, BucketOptions, DeleteOptions, ListOptions
from trove_async.drivers.s3.base import quoted
from trove_async.drivers.s3.config import config_of
from trove_async.drivers.s3.presigning import Presigns
from trove_async.drivers.s3.services import Services
from trove_async.drivers.s3.versions import Versions
from trove_async.drivers.s3.watching import Watches
from trove_async.drivers.s3.wire import Request
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidInputError,
    InvalidTokenError,
    NotFoundError,
    ObjectNotFoundError,
    PermissionDeniedError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
)
from trove_async.model import BucketInfo, ObjectPage

__all__ = ["S3Driver"]

_TOKEN: Final = "t"
_AFTER: Final = "a"
_MOST_KEY: Final = 1024
_MOST_KEYS: Final = 1000


class S3Driver(Versions, Presigns, Services, Watches):
    """Opened by the store. ``S3Driver(S3Config(...))``, or `from_dsn`."""

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
        opened.server.check_key(key)
        self._need("match", options.if_match)
        if options.version_id is not None:
            return await self.delete_version(bucket, key, options.version_id)
        headers = {}
        if options.if_match is not None:
            try:
                headers["if-match"] = quoted(options.if_match)
            except InvalidInputError as exc:
                raise PreconditionFailedError("no object has such an etag") from exc
        if opened.server.has_folders and not await self._exists(bucket, key):
            return  # a folder, or below an object: the server would take that away
        try:
            await opened.plane.send(Request("DeleteObject", bucket, key, {}, headers))
        except ObjectNotFoundError as exc:
            if options.if_match is not None:
                raise PreconditionFailedError("there is no such object") from exc

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        opened = self._now()
        if opened.server.has_folders and options.delimiter not in (None, "/"):
            raise UnsupportedError('this server groups only by "/"', backend="s3")
        query = {
            "list-type": "2",
            "max-keys": str(min(options.page_size, _MOST_KEYS)),
            "encoding-type": "url",
        }
        if options.prefix:
            query["prefix"] = options.prefix
        if options.delimiter is not None:
            query["delimiter"] = options.delimiter
        if options.cursor is not None:
            kind, rest = options.cursor[:1], options.cursor[1:]
            if not rest or kind not in (_TOKEN, _AFTER):
                raise InvalidTokenError("not a cursor of this backend", bucket=bucket)
            if kind == _AFTER:
                return await self.list(bucket, replace(options, start_after=rest, cursor=None))
            query["continuation-token"] = rest
        elif options.start_after is not None:
            query["start-after"] = options.start_after
            if options.delimiter is not None:
                group = await self._group_of(bucket, options, options.start_after)
                if group is not None:
                    return await self._after_group(bucket, options, group)
        listing = await opened.plane.list(Request("ListObjectsV2", bucket, "", query))
        token = listing.token
        objects, prefixes = listing.objects, listing.prefixes
        if options.prefix:  # some servers read "/a" as "a"
            objects = [info for info in objects if info.key.startswith(options.prefix)]
            prefixes = [prefix for prefix in prefixes if prefix.startswith(options.prefix)]
        return ObjectPage(objects, prefixes, None if token is None else _TOKEN + token)

    async def _group_of(self, bucket: str, options: ListOptions, after: str) -> str | None:
        """The group that ``after`` lies in, when some of it comes later. S3 itself shows it,
        other servers compare its name and leave it out."""
        assert options.delimiter is not None
        cut = after.find(options.delimiter, len(options.prefix))
        group = after[: cut + len(options.delimiter)]
        if cut < 0 or not after.startswith(options.prefix):
            return None
        query = {"list-type": "2", "max-keys": "1", "prefix": group, "start-after": after}
        listing = await self._now().plane.list(Request("ListObjectsV2", bucket, "", query))
        return group if listing.objects else None

    async def _after_group(self, bucket: str, options: ListOptions, group: str) -> ObjectPage:
        """A page that begins with ``group``."""
        beyond = group + chr(0x10FFFF) * ((_MOST_KEY - len(group.encode())) // 4)
        if options.page_size == 1:
            return ObjectPage([], [group], _AFTER + beyond)
        rest = replace(options, start_after=beyond, page_size=options.page_size - 1)
        page = await self.list(bucket, rest)
        prefixes = [group, *(prefix for prefix in page.prefixes if prefix != group)]
        return ObjectPage(page.objects, prefixes, page.cursor)

    # -- buckets ---------------------------------------------------------------------------

    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        """With ``versioning`` its past versions are kept."""
        opened = self._now()
        region = options.region or opened.connection.region
        if region == "us-east-1":  # it answers its owner's second try with success
            try:
                await opened.control("head_bucket", name)
            except (NotFoundError, PermissionDeniedError):
                pass  # another owner's is refused below
            else:
                raise BucketExistsError("the bucket exists already", bucket=name)
        params: dict[str, Any] = {}
        if region != "us-east-1":
            params["CreateBucketConfiguration"] = {"LocationConstraint": region}
        await opened.control("create_bucket", name, **params)
        if not self.config.versioning or not opened.server.versions:
            return
        try:
            await opened.control(
                "put_bucket_versioning", name, VersioningConfiguration={"Status": "Enabled"}
            )
        except UnsupportedError:
            return  # a server without versions
        except BaseException:
            await self._undone(opened.control("delete_bucket", name))
            raise

    async def delete_bucket(self, name: str) -> None:
        """Open uploads and, with ``versioning``, versions that are past go with it."""
        opened = self._now()
        page = await self.list(name, ListOptions(page_size=1))
        if page.objects:
            raise BucketNotEmptyError("the bucket holds objects", bucket=name)
        for upload in await self.list_uploads(name, ""):
            try:
                await self.abort_multipart(name, upload.key, upload.upload_id)
            except NotFoundError:
                continue
        if self.config.versioning and opened.server.versions:
            await self._purge(name)
        await opened.control("delete_bucket", name)

    async def list_buckets(self) -> builtins.list[BucketInfo]:
        opened = self._now()
        found: builtins.list[BucketInfo] = []
        marker: dict[str, Any] = {}
        while True:
            answer = await opened.control("list_buckets", **marker)
            found += [BucketInfo(b["Name"], b.get("CreationDate")) for b in answer["Buckets"]]
            if not answer.get("ContinuationToken"):
                return sorted(found, key=lambda bucket: bucket.name)
            marker = {"ContinuationToken": answer["ContinuationToken"]}

    async def _undone(self, request: Any) -> None:
        """Clean-up whose own failure matters less than what led to it."""
        try:
            await request
        except (TroveError, BucketNotFoundError):
            return
