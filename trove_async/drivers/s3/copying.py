"""Copies inside the server; by parts over 5 GiB, and through the client where a server's own
copy would not be exact."""

from __future__ import annotations

import asyncio
import builtins
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

from trove_async._chunks import OneChunk
from trove_async.driver import CopyOptions, GetOptions, HeadOptions, PutOptions
from trove_async.driver.finishing import finished, tried
from trove_async.drivers.s3.base import Opened
from trove_async.drivers.s3.info import META, meta_headers, unquoted
from trove_async.drivers.s3.multipart import Multipart
from trove_async.drivers.s3.server import AWS
from trove_async.drivers.s3.writing import is_md5
from trove_async.errors import (
    BucketNotFoundError,
    ObjectChangedError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.model import MiB, ObjectInfo, ObjectRef

__all__ = ["Copies", "copy_source"]

_CHASES: Final = 20  # times a copy follows a source that others replace
MOST_COPIED: Final = 5 * 1024 * MiB
"""Bytes that CopyObject takes."""


class Copies(Multipart):
    most_copied: int = MOST_COPIED
    copy_part: int = 512 * MiB

    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        return await self.copy(source, target, options)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        """Of one version of the source; the next one, when it is replaced meanwhile."""
        opened = self._now()
        self._need("create", options.if_none_match)
        opened.server.check_key(target.key)
        for _ in range(_CHASES):
            try:
                return await self._copied(opened, source, target, options)
            except ObjectChangedError:
                if options.source_if_match is not None:
                    raise
        return await self._copied(opened, source, target, options)

    async def _copied(
        self, opened: Opened, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        """Pinned to the version of the source that a first HEAD found."""
        found = await self.head(source.bucket, source.key, HeadOptions())
        if options.source_if_match not in (None, found.etag):
            raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
        wanted = replace(
            found,
            metadata=found.metadata if options.metadata is None else dict(options.metadata),
            content_type=options.content_type or found.content_type,
        )
        try:
            if not opened.server.exact_copies:
                return await self._through(opened, source, target, options)
            # Some servers ignore the condition on the source: it must not be that the new map
            # of one version is put on the bytes of another.
            is_pinned = opened.server is AWS or found.version_id is not None
            is_given = options.metadata is not None or options.content_type is not None
            is_loose = (is_given or source == target) and not is_pinned
            if is_loose and found.size <= self.config.part_size:
                return await self._through(opened, source, target, options)
            if options.if_none_match is not None or found.size > self.most_copied or is_loose:
                return await self._by_parts(opened, source, target, found, wanted, options)
            return await self._whole(opened, source, target, found, wanted, options)
        except BucketNotFoundError as exc:
            exc.bucket = target.bucket  # the source has just been seen
            exc.key = None
            raise

    async def _whole(
        self,
        opened: Opened,
        source: ObjectRef,
        target: ObjectRef,
        found: ObjectInfo,
        wanted: ObjectInfo,
        options: CopyOptions,
    ) -> ObjectInfo:
        params: dict[str, Any] = {
            "CopySource": copy_source(source, found),
            "CopySourceIfMatch": f'"{found.etag}"',
            **self._encryption(),
        }
        is_changed = options.metadata is not None or options.content_type is not None
        if is_changed or source == target:  # onto itself only with a replaced map
            params |= {
                "MetadataDirective": "REPLACE",
                "ContentType": wanted.content_type,
                "Metadata": _metadata(wanted),
            }
        if found.storage_class is not None:
            params["StorageClass"] = found.storage_class
        try:
            answer = await opened.control("copy_object", target.bucket, target.key, **params)
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the source changed", bucket=source.bucket, key=source.key
            ) from exc
        result = answer["CopyObjectResult"]
        etag = unquoted(result["ETag"])
        if opened.server is not AWS and is_md5(found.etag) and is_md5(etag) and etag != found.etag:
            raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
        version = answer.get("VersionId")
        return replace(
            wanted,
            key=target.key,
            etag=etag,
            last_modified=result["LastModified"].astimezone(UTC).replace(microsecond=0),
            version_id=None if version == "null" else version,
        )

    async def _by_parts(
        self,
        opened: Opened,
        source: ObjectRef,
        target: ObjectRef,
        found: ObjectInfo,
        wanted: ObjectInfo,
        options: CopyOptions,
    ) -> ObjectInfo:
        """Also the way of conditional copies: the condition of CompleteMultipartUpload is
        honoured by servers that ignore that of CopyObject."""
        put = PutOptions(
            content_type=wanted.content_type,
            metadata=wanted.metadata,
            tags=await self._tags_of(opened, source),
            storage_class=found.storage_class,
            if_none_match=options.if_none_match,
        )
        if found.size == 0:
            return await self.put(target.bucket, target.key, OneChunk(b""), replace(put, size=0))
        upload_id = await self.initiate_multipart(target.bucket, target.key, put)
        spans = [
            (start, min(start + self.copy_part, found.size))
            for start in range(0, found.size, self.copy_part)
        ]
        running: builtins.list[asyncio.Task[dict[str, Any]]] = []
        gate = asyncio.Semaphore(self.config.concurrency)

        async def part(number: int, start: int, stop: int) -> dict[str, Any]:
            async with gate:
                answer = await tried(
                    lambda: opened.control(
                        "upload_part_copy",
                        target.bucket,
                        target.key,
                        UploadId=upload_id,
                        PartNumber=number,
                        CopySource=copy_source(source, found),
                        CopySourceIfMatch=f'"{found.etag}"',
                        CopySourceRange=f"bytes={start}-{stop - 1}",
                    )
                )
            result = answer["CopyPartResult"]
            entry = {"PartNumber": number, "ETag": f'"{unquoted(result["ETag"])}"'}
            crc = result.get("ChecksumCRC32")
            return entry if crc is None else {**entry, "ChecksumCRC32": crc}

        try:
            running = [
                asyncio.create_task(part(number, *span)) for number, span in enumerate(spans, 1)
            ]
            try:
                listed = await asyncio.gather(*running)
            except PreconditionFailedError as exc:
                raise ObjectChangedError(
                    "the source changed", bucket=source.bucket, key=source.key
                ) from exc
            # Some servers ignore the condition on the source: what was copied is one version.
            now = await self.head(source.bucket, source.key, HeadOptions(found.version_id))
            if now.etag != found.etag:
                raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)
            return await self._complete(
                opened, target.bucket, target.key, upload_id, listed, put, found.size, None
            )
        except BaseException as exc:
            for task in running:
                task.cancel()
            if running:
                await finished(asyncio.gather(*running, return_exceptions=True), grace=5.0)
            await self._drop(target.bucket, target.key, upload_id, exc)
            raise

    async def _through(
        self, opened: Opened, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        """Read and written by us: one answer holds the bytes and the map of one version."""
        tags = await self._tags_of(opened, source)
        try:
            pinned = GetOptions(if_match=options.source_if_match)
            raw = await self.get(source.bucket, source.key, pinned)
        except PreconditionFailedError as exc:
            raise ObjectChangedError(
                "the source changed", bucket=source.bucket, key=source.key
            ) from exc
        found = raw.info
        try:
            put = PutOptions(
                content_type=options.content_type or found.content_type,
                metadata=found.metadata if options.metadata is None else dict(options.metadata),
                size=found.size,
                tags=tags,
                storage_class=found.storage_class,
                if_none_match=options.if_none_match,
            )
            return await self.put(target.bucket, target.key, raw.body, put)
        finally:
            await raw.body.aclose()

    async def _tags_of(self, opened: Opened, source: ObjectRef) -> dict[str, str] | None:
        if not opened.server.tags:
            return None
        try:
            answer = await opened.control("get_object_tagging", source.bucket, source.key)
        except TroveError as exc:
            if exc.http_status in (403, 501):
                return None  # they cannot be seen, so they cannot be kept
            raise
        return {tag["Key"]: tag["Value"] for tag in answer["TagSet"]} or None

    def _encryption(self) -> dict[str, str]:
        params: dict[str, str] = {}
        if self.config.sse is not None:
            params["ServerSideEncryption"] = self.config.sse
        if self.config.kms_key is not None:
            params["SSEKMSKeyId"] = self.config.kms_key
        return params


def copy_source(source: ObjectRef, found: ObjectInfo) -> dict[str, str]:
    """The SDK quotes it. Pinned to a version where there are versions."""
    place = {"Bucket": source.bucket, "Key": source.key}
    return place if found.version_id is None else {**place, "VersionId": found.version_id}


def _metadata(info: ObjectInfo) -> dict[str, str]:
    headers: dict[str, str] = {}
    meta_headers(info.metadata, headers, 1 << 20)  # the server counts
    return {name.removeprefix(META): value for name, value in headers.items()}
