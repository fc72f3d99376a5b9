"""Reads: GET, HEAD, ranges, and the check of whole bodies by the checksum the server keeps."""

from __future__ import annotations

import zlib
from dataclasses import replace
from email.utils import format_datetime

from trove_async._chunks import OneChunk
from trove_async.driver import ByteRange, GetOptions, HeadOptions, RawObject
from trove_async.driver.conditions import check_read
from trove_async.driver.http import (
    Body,
    Crc,
    check_span,
    content_range,
    length_of,
    range_header,
)
from trove_async.drivers.s3.base import S3Base, quoted
from trove_async.drivers.s3.faults import Refusal
from trove_async.drivers.s3.info import info_of
from trove_async.drivers.s3.wire import Answer, Request
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    InvalidInputError,
    InvalidRangeError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    VersionNotFoundError,
)
from trove_async.model import ObjectInfo

__all__ = ["Reads", "of_version"]


class Reads(S3Base):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        opened = self._now()
        opened.server.check_key(key)
        wanted = options.range
        headers: dict[str, str] = {}
        if wanted is None or (wanted.start == 0 and wanted.stop is None):
            wanted = None
            if self.config.checksum == "when_supported":
                headers["x-amz-checksum-mode"] = "ENABLED"
        elif wanted.stop is not None and wanted.stop <= wanted.start:
            return await self._empty(bucket, key, options, wanted)
        else:
            headers["range"] = range_header(wanted)
        _read_conditions(options, headers)
        query = {} if options.version_id is None else {"versionId": options.version_id}
        request = Request("GetObject", bucket, key, query, headers)
        try:
            answer = await opened.plane.send(request)
        except InvalidRangeError:
            assert wanted is not None
            return await self._empty(bucket, key, options, wanted)
        except TroveError as exc:
            raise of_version(exc, options.version_id) from exc.__cause__
        stream = answer.stream
        assert stream is not None
        try:
            start, stop, size = _bounds(answer)
            info = info_of(key, answer.headers, size)
            check_read(options, info)
            first, last = (0, size) if wanted is None else wanted.resolve(size)
        except BaseException:
            await stream.aclose()
            raise
        if not start <= first <= last <= stop:
            await stream.aclose()
            raise BackendError("another range than was asked for", bucket=bucket, key=key)
        is_whole = (first, last) == (0, size)
        checksum = info.checksum if is_whole else None
        body = Body(stream, first - start, last - first, checksum, _running, bucket, key)
        return RawObject(info, body, first, last)

    async def _empty(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange
    ) -> RawObject:
        """An empty range cannot be asked for, and one past the end says no size."""
        info = await self.head(bucket, key, HeadOptions(options.version_id))
        check_read(options, info)
        start, stop = wanted.resolve(info.size)
        if start != stop:
            if wanted == ByteRange(start, stop):
                raise UnavailableError("the object was replaced", bucket=bucket, key=key)
            # Some servers know no suffix longer than the object.
            exact = replace(options, range=ByteRange(start, stop), if_match=info.etag)
            return await self.get(bucket, key, exact)
        return RawObject(info, OneChunk(b""), start, stop)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        opened = self._now()
        opened.server.check_key(key)
        headers = {}
        if self.config.checksum == "when_supported":
            headers["x-amz-checksum-mode"] = "ENABLED"
        query = {} if options.version_id is None else {"versionId": options.version_id}
        try:
            answer = await opened.plane.send(Request("HeadObject", bucket, key, query, headers))
        except TroveError as exc:
            cause = exc.__cause__
            if isinstance(exc, ObjectNotFoundError) and not await self._has_bucket(bucket):
                raise BucketNotFoundError("no such bucket", bucket=bucket) from cause
            raise of_version(exc, options.version_id) from cause
        return info_of(key, answer.headers, length_of(answer.headers, "content-length"))

    async def _exists(self, bucket: str, key: str) -> bool:
        try:
            await self.head(bucket, key, HeadOptions())
        except ObjectNotFoundError:
            return False
        return True

    async def _has_bucket(self, bucket: str) -> bool:
        """A HEAD says only 404, without what is missing."""
        try:
            await self._now().control("head_bucket", bucket)
        except (ObjectNotFoundError, BucketNotFoundError):
            return False
        except TroveError:
            return True  # not to be known: the answer stays what it was
        return True


def _read_conditions(options: GetOptions, headers: dict[str, str]) -> None:
    if options.if_match is not None:
        try:
            headers["if-match"] = quoted(options.if_match)
        except InvalidInputError as exc:
            raise PreconditionFailedError("no object has such an etag") from exc
    if options.if_none_match is not None:
        headers["if-none-match"] = quoted(options.if_none_match)
    if options.if_modified_since is not None:
        headers["if-modified-since"] = format_datetime(options.if_modified_since, usegmt=True)


def of_version(exc: TroveError, version_id: str | None) -> TroveError:
    """Servers say in many ways that there is no such version."""
    if version_id is None:
        return exc
    refusal = exc.__cause__ if isinstance(exc.__cause__, Refusal) else None
    if isinstance(exc, BucketNotFoundError | VersionNotFoundError):
        return exc
    if refusal is not None and (refusal.is_marker or exc.http_status == 501):
        return ObjectNotFoundError("a delete marker", bucket=exc.bucket, key=exc.key)
    if isinstance(exc, ObjectNotFoundError) or (exc.http_status == 400 and refusal is not None):
        return VersionNotFoundError("no such version", bucket=exc.bucket, key=exc.key)
    return exc


def _bounds(answer: Answer) -> tuple[int, int, int]:
    """(start, stop, size) of what an answer carries. Some servers answer a range with 200, so
    only the header counts."""
    text = answer.headers.get("content-range")
    if text is None:
        size = length_of(answer.headers, "content-length")
        return 0, size, size
    return check_span(*content_range(text))


def _running() -> Crc:
    return Crc("crc32", zlib.crc32)
