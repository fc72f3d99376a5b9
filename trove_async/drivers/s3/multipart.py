"""Multipart uploads: those that callers steer, and those that long puts are made of."""

from __future__ import annotations

import asyncio
import base64
import builtins
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from trove_async.driver import Chunks, HeadOptions, PutOptions
from trove_async.driver.conditions import check_write
from trove_async.driver.finishing import dropped, finished
from trove_async.driver.parallel import Parallel
from trove_async.driver.supply import Part, Supply
from trove_async.drivers.s3.base import Opened
from trove_async.drivers.s3.config import LEAST_PART, MOST_PART, MOST_PARTS, S3Config
from trove_async.drivers.s3.info import http_time, meta_headers, unquoted
from trove_async.drivers.s3.listed import crc_of_all, etag_of, listed, size_of_part
from trove_async.drivers.s3.sums import Sums, WholeMD5
from trove_async.drivers.s3.writing import (
    Writes,
    put_headers,
    sent_part,
    storable,
    write_conditions,
)
from trove_async.errors import (
    BucketNotFoundError,
    InvalidPartError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    UnsupportedError,
    UploadIntegrityError,
    UploadNotFoundError,
)
from trove_async.model import ObjectInfo, PartInfo, UploadInfo

__all__ = ["Multipart"]

_TRIES: Final = 4
_GRACE: Final = 5.0  # seconds that a cancelled caller waits for a request it must know the end of
_CLEAN_UP: Final = 15.0
_REMEMBERED: Final = 1000
_PARAMS: Final = {
    "content-type": "ContentType",
    "x-amz-tagging": "Tagging",
    "x-amz-storage-class": "StorageClass",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}
_META: Final = "x-amz-meta-"


class Multipart(Writes):
    def __init__(self, config: S3Config) -> None:
        super().__init__(config)
        self._begun: dict[str, dict[str, str]] = {}  # upload -> its metadata

    # -- steered by the caller -------------------------------------------------------------

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """Metadata is fixed here; ``late`` is not asked. Cancelled, it leaves no upload."""
        beginning = asyncio.ensure_future(self._initiate(bucket, key, options))
        try:
            return await finished(beginning, grace=_GRACE)
        except asyncio.CancelledError:
            if beginning.done() and not beginning.cancelled() and not beginning.exception():
                await self._drop(bucket, key, beginning.result(), None)
            raise

    async def _initiate(self, bucket: str, key: str, options: PutOptions) -> str:
        opened = self._now()
        opened.server.check_key(key)
        self._check_write(opened, options)
        headers = put_headers(self.config, options)
        meta_headers(options.metadata, headers, opened.server.max_metadata)
        params: dict[str, Any] = {
            _PARAMS[name]: value for name, value in headers.items() if name in _PARAMS
        }
        params["Metadata"] = {
            name.removeprefix(_META): value
            for name, value in headers.items()
            if name.startswith(_META)
        }
        if self.config.checksum == "when_supported":
            params |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        with storable(bucket, key, options):
            answer = await opened.control("create_multipart_upload", bucket, key, **params)
        upload_id: str = answer["UploadId"]
        while len(self._begun) >= _REMEMBERED:
            del self._begun[next(iter(self._begun))]
        self._begun[upload_id] = dict(options.metadata)
        return upload_id

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        """A part is held in memory as a whole."""
        opened = self._now()
        if not 1 <= number <= MOST_PARTS:
            raise InvalidPartError(f"parts are numbered from 1 to {MOST_PARTS}")
        _check_id(bucket, key, upload_id)
        part = await Supply(body).take(MOST_PART)
        if not part.is_last:
            raise InvalidPartError("a part has at most 5 GiB", bucket=bucket, key=key)
        if size is not None and part.size != size:
            raise InvalidPartError(f"the part has {part.size} bytes, {size} were declared")
        is_summed = self.config.checksum == "when_supported"
        try:
            etag, _ = await sent_part(opened, bucket, key, upload_id, number, part, is_summed)
        except UnavailableError:
            await self._held(bucket, key, upload_id)  # some servers fail where there is no upload
            raise
        return PartInfo(number, etag, part.size)

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        """The metadata is that given when the upload began; to ask for other metadata here is
        UnsupportedError. When an answer is lost, what was completed is recognised."""
        opened = self._now()
        self._check_write(opened, options)
        _check_id(bucket, key, upload_id)
        begun = self._begun.get(upload_id)
        if options.metadata and begun is not None and begun != dict(options.metadata):
            raise UnsupportedError("S3 fixes metadata when an upload begins", backend="s3")
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
        held = await self._held(bucket, key, upload_id)
        for part in parts:
            found = held.get(part.number)
            if found is None or found[0].etag != part.etag:
                raise InvalidPartError(f"part {part.number} is not there", bucket=bucket, key=key)
        if any(held[part.number][0].size < LEAST_PART for part in parts[:-1]):
            raise InvalidPartError("only the last part may be below 5 MiB", bucket=bucket, key=key)
        listed: builtins.list[dict[str, Any]] = []
        for part in parts:
            crc = held[part.number][1]
            entry = {"PartNumber": part.number, "ETag": f'"{part.etag}"'}
            listed.append(entry if crc is None else {**entry, "ChecksumCRC32": crc})
        size = sum(held[number][0].size for number in numbers)
        # A request that was sent may take effect after its caller has been cancelled.
        completing = self._complete(opened, bucket, key, upload_id, listed, options, size, None)
        info = await finished(asyncio.ensure_future(completing), grace=_GRACE)
        self._begun.pop(upload_id, None)
        return info

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        opened = self._now()
        _check_id(bucket, key, upload_id)
        aborting = opened.control("abort_multipart_upload", bucket, key, UploadId=upload_id)
        await finished(asyncio.ensure_future(aborting), grace=_GRACE)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        held = await self._held(bucket, key, upload_id)
        return [held[number][0] for number in sorted(held)]

    async def _held(
        self, bucket: str, key: str, upload_id: str
    ) -> dict[int, tuple[PartInfo, str | None]]:
        """Number -> part, and its CRC32 where the server keeps that."""
        opened = self._now()
        _check_id(bucket, key, upload_id)
        held: dict[int, tuple[PartInfo, str | None]] = {}
        marker: dict[str, Any] = {}
        while True:
            page = await opened.control("list_parts", bucket, key, UploadId=upload_id, **marker)
            for found in page.get("Parts", ()):
                part = PartInfo(found["PartNumber"], unquoted(found["ETag"]), found["Size"])
                held[part.number] = part, found.get("ChecksumCRC32")
            if not page.get("IsTruncated"):
                return held
            marker = {"PartNumberMarker": page["NextPartNumberMarker"]}

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        opened = self._now()
        found: builtins.list[UploadInfo] = []
        marker: dict[str, Any] = {}
        while True:
            try:
                page = await opened.control(
                    "list_multipart_uploads", bucket, Prefix=prefix, **marker
                )
            except UploadNotFoundError:
                if not await self._has_bucket(bucket):
                    raise BucketNotFoundError("no such bucket", bucket=bucket) from None
                return []  # how rclone says that there are none
            found += [
                UploadInfo(upload["UploadId"], upload["Key"], upload["Initiated"])
                for upload in page.get("Uploads", ())
                if upload["Key"].startswith(prefix)
            ]
            if not page.get("IsTruncated"):
                return sorted(found, key=lambda upload: (upload.key, upload.started_at))
            marker = {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    # -- the end of every upload -----------------------------------------------------------

    async def _complete(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        upload_id: str,
        listed: builtins.list[dict[str, Any]],
        options: PutOptions,
        size: int,
        crc: str | None,
        md5: str | None = None,
    ) -> ObjectInfo:
        params: dict[str, Any] = {
            "UploadId": upload_id,
            "MultipartUpload": {"Parts": listed},
            **({"ChecksumCRC32": crc, "ChecksumType": "FULL_OBJECT"} if crc is not None else {}),
        }
        conditions = write_conditions(options)
        if "if-match" in conditions:
            params["IfMatch"] = conditions["if-match"]
        if "if-none-match" in conditions:
            params["IfNoneMatch"] = conditions["if-none-match"]
        if options.if_match is not None:
            await self._check_condition(bucket, key, options)
        is_in_doubt = False
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await opened.control("complete_multipart_upload", bucket, key, **params)
                break
            except (UploadNotFoundError, PreconditionFailedError):
                # Not ours to report when an answer before this one was lost.
                if is_in_doubt and (info := await self._own(bucket, key, listed, size, crc)):
                    return info
                raise
            except (UnavailableError, OperationTimeoutError):
                if attempt == _TRIES:
                    if info := await self._own(bucket, key, listed, size, crc):
                        return info
                    raise
                is_in_doubt = True
                await asyncio.sleep(0.1 * attempt)
        theirs = answer.get("ChecksumCRC32")
        if crc is not None and theirs is not None and theirs != crc:
            raise UploadIntegrityError(
                "the server put other bytes together than were sent", bucket=bucket, key=key
            )
        is_as_sent = unquoted(answer.get("ETag")) == etag_of(listed)
        if md5 is not None and is_as_sent and opened.wholes.get(bucket):
            return _info(key, answer, size, options, md5)
        info = await self._completed(opened, bucket, key, answer, size, options)
        if md5 is not None and is_as_sent:
            opened.wholes[bucket] = info.etag == md5
        return info

    async def _completed(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        answer: dict[str, Any],
        size: int,
        options: PutOptions,
    ) -> ObjectInfo:
        """Asks for what the answer does not say: the time, and the etag of servers that give
        another one afterwards. Some of those hash the whole object for it, which is why they
        are asked no more once that is known."""
        etag, version = unquoted(answer.get("ETag")), _real(answer.get("VersionId"))
        info: ObjectInfo | None = None
        with suppress(ObjectNotFoundError):
            info = await self.head(bucket, key, HeadOptions(version))
        is_ours = info is not None and info.etag == etag
        if is_ours and info is not None and info.stored_size != size:
            raise UploadIntegrityError(
                f"the object has {info.stored_size} bytes, {size} were sent",
                bucket=bucket,
                key=key,
            )
        if info is not None and (
            is_ours or (opened.server.has_folders and info.stored_size == size)
        ):
            return info
        return _info(key, answer, size, options, etag)  # another writer was here since

    async def _own(
        self,
        bucket: str,
        key: str,
        listed: builtins.list[dict[str, Any]],
        size: int,
        crc: str | None,
    ) -> ObjectInfo | None:
        """The object there now, if this upload made it: by the checksum of all its bytes, or
        by the etag that these parts give."""
        try:
            info = await self.head(bucket, key, HeadOptions())
        except TroveError:
            return None
        if info.stored_size != size:
            return None
        is_same = info.etag == etag_of(listed)
        if crc is not None and info.checksum is not None:
            is_same = info.checksum == f"crc32:{base64.b64decode(crc).hex()}"
        return info if is_same else None

    # -- long puts --------------------------------------------------------------------------

    async def _parted(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        supply: Supply,
        options: PutOptions,
    ) -> ObjectInfo:
        await self._check_condition(bucket, key, options)
        upload_id = await self.initiate_multipart(bucket, key, options)
        is_summed = self.config.checksum == "when_supported"
        is_candidate = opened.server.has_folders and opened.wholes.get(bucket, True)
        whole = WholeMD5() if is_candidate else None

        async def send(number: int, part: Part) -> tuple[str, Sums]:
            hashed = None if whole is None else whole.follow(number, part)
            done = await sent_part(opened, bucket, key, upload_id, number, part, is_summed)
            if hashed is not None:
                await asyncio.shield(hashed)
            return done

        concurrency = options.concurrency or self.config.concurrency
        parallel = Parallel(send, concurrency, MOST_PARTS)
        first = self._part_size(options)

        def size_of(number: int) -> int:
            """A known length needs no growth: its parts are made to fit."""
            return first if options.size is not None else size_of_part(number, first)

        try:
            await parallel.run(supply, options.size, size_of)
            completing = asyncio.ensure_future(
                self._complete(
                    opened,
                    bucket,
                    key,
                    upload_id,
                    listed(parallel.sent, is_summed),
                    options,
                    parallel.size,
                    crc_of_all(parallel.sent) if is_summed else None,
                    None if whole is None else whole.hexdigest(),
                )
            )
            return await finished(completing, grace=_GRACE)
        except BaseException as exc:
            await self._drop(bucket, key, upload_id, exc)
            raise

    async def _check_condition(self, bucket: str, key: str, options: PutOptions) -> None:
        """Before a long body moves, and again before it counts: the server has the last word,
        but some look at no etag when an upload completes."""
        if options.if_match is None and options.if_none_match is None:
            return
        try:
            etag = (await self.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            etag = None
        check_write(options.if_match, options.if_none_match, etag)

    async def _drop(
        self, bucket: str, key: str, upload_id: str, reason: BaseException | None
    ) -> None:
        await dropped(
            lambda: self.abort_multipart(bucket, key, upload_id), f"upload {upload_id}", reason
        )


def _info(
    key: str, answer: dict[str, Any], size: int, options: PutOptions, etag: str
) -> ObjectInfo:
    """What is known of a completed upload without asking."""
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return ObjectInfo(
        key,
        size,
        size,
        options.content_type,
        etag,
        http_time(date),
        dict(options.metadata),
        None,
        _real(answer.get("VersionId")),
        options.storage_class,
        None,
    )


def _check_id(bucket: str, key: str, upload_id: str) -> None:
    if not upload_id or not upload_id.isascii() or not upload_id.isprintable():
        raise UploadNotFoundError("no such upload", bucket=bucket, key=key)


def _real(version: str | None) -> str | None:
    return None if version == "null" else version
