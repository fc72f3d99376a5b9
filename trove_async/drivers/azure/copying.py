"""Copies inside the account; through the client where the service cannot give the copy the
content type that is wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, urlencode

from trove_async.driver import CopyOptions, GetOptions, PutOptions
from trove_async.driver.finishing import finished
from trove_async.driver.http import length_of
from trove_async.drivers.azure.base import Opened, conditions
from trove_async.drivers.azure.faults import Refusal
from trove_async.drivers.azure.info import http_time, info_of
from trove_async.drivers.azure.names import meta_headers
from trove_async.drivers.azure.tagging import Tags
from trove_async.drivers.azure.wire import Request
from trove_async.drivers.azure.writing import Writes
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ObjectChangedError,
    OperationTimeoutError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
)
from trove_async.model import ObjectInfo, ObjectRef

__all__ = ["Copies"]

_TRIES: Final = 4
_CHASES: Final = 20
_GRACE: Final = 5.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0


class Copies(Writes, Tags):
    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        return await self.copy(source, target, options)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """Pinned to the source that a first request found; one that changes in between is
        followed for a while. Inside an account the service copies at once; where it does not,
        this waits until it has."""
        for _ in range(_CHASES):
            try:
                return await self._copy(source, target, options)
            except ObjectChangedError:
                if options.source_if_match is not None:
                    raise
        return await self._copy(source, target, options)

    async def _copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        opened = self._now()
        wanted_target = opened.blob("PUT", target.bucket, target.key)
        asked = opened.blob("HEAD", source.bucket, source.key)
        said = (await opened.send(asked)).headers
        found = info_of(source.key, said, length_of(said, "Content-Length"))
        if options.source_if_match not in (None, found.etag):
            raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
        wanted = replace(
            found,
            key=target.key,
            metadata=found.metadata if options.metadata is None else dict(options.metadata),
            content_type=options.content_type or found.content_type,
        )
        has_tags = said.get("x-ms-tag-count", "0") != "0"
        tags = await self.get_tags(source.bucket, source.key) if has_tags else None
        try:
            if wanted.content_type != found.content_type:
                return await self._through(source, target, found, wanted, tags, options)
            headers = wanted_target.headers
            conditions(None, options.if_none_match, headers)
            copying = self._copied(
                opened, wanted_target, self._source_url(opened, asked), found.etag, wanted, tags
            )
            return await finished(asyncio.ensure_future(copying), grace=_GRACE)
        except BucketNotFoundError as exc:
            exc.bucket = target.bucket  # the source has just been seen
            exc.key = None
            raise

    def _source_url(self, opened: Opened, source: Request) -> str:
        connection = opened.connection
        query = "&".join(part for part in (source.query, connection.sas) if part)
        return f"{connection.url}{source.path}{'?' + query if query else ''}"

    async def _copied(
        self,
        opened: Opened,
        target: Request,
        source: str,
        source_etag: str,
        wanted: ObjectInfo,
        tags: Mapping[str, str] | None,
    ) -> ObjectInfo:
        """``target`` has the conditions already."""
        headers = target.headers
        headers["x-ms-copy-source"] = source
        headers["x-ms-source-if-match"] = f'"{source_etag}"'
        if wanted.storage_class is not None:
            headers["x-ms-access-tier"] = wanted.storage_class
        if tags:
            headers["x-ms-tags"] = urlencode(tags, quote_via=quote)
        meta_headers(wanted.metadata, headers, marks_empty=True)
        said = await self._started(opened, target)
        if said.get("x-ms-copy-status") != "success":
            said = await self._awaited(opened, target, said.get("x-ms-copy-id"))
        return replace(
            wanted,
            etag=(said.get("ETag") or "").strip('"'),
            last_modified=http_time(said.get("Last-Modified")),
            version_id=said.get("x-ms-version-id"),
        )

    async def _started(self, opened: Opened, target: Request) -> Mapping[str, str]:
        is_in_doubt = False
        for attempt in range(1, _TRIES + 1):
            try:
                return (await opened.send(target)).headers
            except PreconditionFailedError as exc:
                # Not ours to report when an answer before this one was lost.
                if is_in_doubt and (said := await self._own_copy(opened, target)):
                    return said
                if _is_about_source(exc, target):
                    raise ObjectChangedError(
                        "the source changed", bucket=target.bucket, key=target.key
                    ) from exc.__cause__
                raise
            except (UnavailableError, OperationTimeoutError):
                if attempt == _TRIES:
                    raise
                is_in_doubt = True
            await asyncio.sleep(0.1 * attempt)
        raise AssertionError("every way out of the loop is above")

    async def _own_copy(self, opened: Opened, target: Request) -> Mapping[str, str] | None:
        """What is there, if it is a copy of our source; it names where it is from."""
        asked = Request("HEAD", target.path, target.bucket, target.key)
        try:
            said = (await opened.send(asked)).headers
        except TroveError:
            return None
        ours = target.headers["x-ms-copy-source"].partition("?")[0]
        return said if said.get("x-ms-copy-source", "").partition("?")[0] == ours else None

    async def _awaited(
        self, opened: Opened, target: Request, copy_id: str | None
    ) -> Mapping[str, str]:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
            asked = Request("HEAD", target.path, target.bucket, target.key)
            said = (await opened.send(asked)).headers
            status = said.get("x-ms-copy-status")
            if copy_id is not None and said.get("x-ms-copy-id") != copy_id:
                raise ObjectChangedError(
                    "the copy was replaced", bucket=target.bucket, key=target.key
                )
            if status == "success":
                return said
            if status != "pending":
                about = said.get("x-ms-copy-status-description", "")
                raise BackendError(
                    f"the copy ended as {status}: {about[:200]}",
                    bucket=target.bucket,
                    key=target.key,
                )

    async def _through(
        self,
        source: ObjectRef,
        target: ObjectRef,
        found: ObjectInfo,
        wanted: ObjectInfo,
        tags: Mapping[str, str] | None,
        options: CopyOptions,
    ) -> ObjectInfo:
        """Read and written by us, pinned to the version that was found."""
        try:
            raw = await self.get(source.bucket, source.key, GetOptions(if_match=found.etag))
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the source changed", bucket=source.bucket, key=source.key
            ) from exc
        try:
            put = PutOptions(
                content_type=wanted.content_type,
                metadata=wanted.metadata,
                size=found.size,
                tags=tags,
                storage_class=found.storage_class,
                if_none_match=options.if_none_match,
            )
            return await self.put(target.bucket, target.key, raw.body, put)
        finally:
            await raw.body.aclose()


def _is_about_source(exc: PreconditionFailedError, target: Request) -> bool:
    """A create-only target that is there is answered with 409, and only that."""
    refusal = exc.__cause__
    is_412 = isinstance(refusal, Refusal) and refusal.status == 412
    return is_412 and "If-Match" not in target.headers
