"""Reads: GET, HEAD, ranges, and the check of whole bodies by the checksum the server keeps."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from email.utils import format_datetime
from typing import Final

from trove_async._chunks import OneChunk
from trove_async.driver import ByteRange, GetOptions, HeadOptions, RawObject
from trove_async.driver.conditions import check_read
from trove_async.drivers.s3.base import S3Base, quoted
from trove_async.drivers.s3.faults import Refusal
from trove_async.drivers.s3.info import info_of
from trove_async.drivers.s3.wire import Answer, Request, Stream
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    ChecksumMismatchError,
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

_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


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
            headers["range"] = _range_header(wanted)
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
        body = _Body(stream, first - start, last - first, checksum, bucket, key)
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
        return info_of(key, answer.headers, _length(answer.headers))

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


def _range_header(wanted: ByteRange) -> str:
    if wanted.start < 0:
        return f"bytes={wanted.start}"
    if wanted.stop is None:
        return f"bytes={wanted.start}-"
    return f"bytes={wanted.start}-{wanted.stop - 1}"


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


def _length(headers: Mapping[str, str]) -> int:
    text = headers.get("content-length") or ""
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise BackendError("the answer does not say how long the object is")
    return int(text)


def _bounds(answer: Answer) -> tuple[int, int, int]:
    """(start, stop, size) of what an answer carries. Some servers answer a range with 200, so
    only the header counts."""
    text = answer.headers.get("content-range")
    if text is None:
        size = _length(answer.headers)
        return 0, size, size
    found = _CONTENT_RANGE.fullmatch(text)
    if found is None:
        raise BackendError("a Content-Range that cannot be read")
    start, last, size = int(found[1]), int(found[2]), int(found[3])
    if not start <= last < size:
        raise BackendError("a Content-Range that cannot be")
    return start, last + 1, size


class _Body:
    """``length`` bytes of a stream after ``skip`` others; the checksum is compared before the
    last of them are handed out."""

    __slots__ = ("_bucket", "_checksum", "_crc", "_key", "_left", "_skip", "_stream")

    def __init__(
        self, stream: Stream, skip: int, length: int, checksum: str | None, bucket: str, key: str
    ) -> None:
        self._stream = stream
        self._skip = skip
        self._left = length
        self._checksum = checksum
        self._crc = 0
        self._bucket = bucket
        self._key = key

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while self._left:
            try:
                chunk = await self._stream.__anext__()
            except StopAsyncIteration:
                raise UnavailableError(
                    f"the body ended {self._left} bytes too early",
                    bucket=self._bucket,
                    key=self._key,
                ) from None
            if self._skip:
                skipped = min(self._skip, len(chunk))
                chunk, self._skip = chunk[skipped:], self._skip - skipped
                if not chunk:
                    continue
            if len(chunk) > self._left:
                chunk = chunk[: self._left]
            self._left -= len(chunk)
            if self._checksum is not None:
                self._crc = zlib.crc32(chunk, self._crc)
                if not self._left and self._checksum != f"crc32:{self._crc:08x}":
                    await self._stream.aclose()
                    raise ChecksumMismatchError(
                        "the body is not what the server's checksum says",
                        bucket=self._bucket,
                        key=self._key,
                    )
            return chunk
        await self._stream.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self._left = 0
        await self._stream.aclose()
