"""Reads: Get Blob, its properties, ranges, and the check of whole bodies by the MD5 that the
service keeps of single puts."""

from __future__ import annotations

from email.utils import format_datetime
from hashlib import md5
from typing import Final
from urllib.parse import quote

from trove_async._chunks import OneChunk
from trove_async.driver import ByteRange, GetOptions, HeadOptions, RawObject
from trove_async.driver.conditions import check_read
from trove_async.driver.http import Body, check_span, content_range, length_of
from trove_async.drivers.azure.base import AzureBase, Opened, quoted
from trove_async.drivers.azure.faults import Refusal
from trove_async.drivers.azure.info import info_of, is_folder
from trove_async.drivers.azure.wire import Answer
from trove_async.errors import (
    BackendError,
    InvalidInputError,
    InvalidRangeError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async.model import ObjectInfo

__all__ = ["CURRENT", "Reads", "of_version"]

CURRENT: Final = "current"
"""The version id of what is no snapshot, where there are snapshots."""

_CHASES: Final = 3


class Reads(AzureBase):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        """One request; a suffix, which Azure does not know, is two: the size is asked for, and
        the read pinned to it."""
        opened = self._now()
        wanted = options.range
        if wanted is None or (wanted.start == 0 and wanted.stop is None):
            return await self._read(opened, bucket, key, options, None, options.if_match)
        if wanted.start >= 0 and (wanted.stop is None or wanted.stop > wanted.start):
            try:
                return await self._read(opened, bucket, key, options, wanted, options.if_match)
            except InvalidRangeError:
                return await self._empty(bucket, key, options, wanted)
        if wanted.start >= 0:
            return await self._empty(bucket, key, options, wanted)
        for _ in range(_CHASES):
            info = await self._checked(bucket, key, options)
            start, stop = wanted.resolve(info.size)
            if start == stop:
                return RawObject(info, OneChunk(b""), start, stop)
            span = ByteRange(start, stop)
            try:
                return await self._read(opened, bucket, key, options, span, info.etag)
            except PreconditionFailedError:
                if options.if_match is not None:
                    raise
        raise ObjectChangedError("the object changes all the time", bucket=bucket, key=key)

    async def _read(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        options: GetOptions,
        wanted: ByteRange | None,
        if_match: str | None,
    ) -> RawObject:
        query = self._version_query(options.version_id)
        request = opened.blob("GET", bucket, key, query)
        headers = request.headers
        if wanted is not None:
            last = "" if wanted.stop is None else wanted.stop - 1
            headers["x-ms-range"] = f"bytes={wanted.start}-{last}"
        _read_conditions(options, if_match, headers)
        request.is_stream = True
        try:
            answer = await opened.send(request)
        except TroveError as exc:
            raise of_version(exc, options.version_id) from exc.__cause__
        stream = answer.stream
        assert stream is not None
        try:
            start, stop, size = _bounds(answer)
            info = info_of(key, answer.headers, size)
            _refuse_folder(opened, info, bucket)
            check_read(options, info)
            first, last_byte = (0, size) if wanted is None else wanted.resolve(size)
            if (first, last_byte) != (start, stop):
                raise BackendError("another range than was asked for", bucket=bucket, key=key)
        except BaseException:
            await stream.aclose()
            raise
        is_whole = (start, stop) == (0, size)
        checksum = info.checksum if is_whole else None
        return RawObject(
            info, Body(stream, 0, stop - start, checksum, _Md5, bucket, key), start, stop
        )

    async def _empty(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange
    ) -> RawObject:
        info = await self._checked(bucket, key, options)
        start, stop = wanted.resolve(info.size)
        if start != stop:  # it has grown meanwhile
            raise UnavailableError("the object was replaced", bucket=bucket, key=key)
        return RawObject(info, OneChunk(b""), start, stop)

    async def _checked(self, bucket: str, key: str, options: GetOptions) -> ObjectInfo:
        info = await self.head(bucket, key, HeadOptions(options.version_id))
        check_read(options, info)
        return info

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        opened = self._now()
        request = opened.blob("HEAD", bucket, key, self._version_query(options.version_id))
        try:
            answer = await opened.send(request)
        except TroveError as exc:
            raise of_version(exc, options.version_id) from exc.__cause__
        info = info_of(key, answer.headers, length_of(answer.headers, "Content-Length"))
        _refuse_folder(opened, info, bucket)
        return info

    def _version_query(self, version_id: str | None) -> str:
        mode = self.config.versions
        if version_id is None or (mode == "snapshots" and version_id == CURRENT):
            return ""
        if mode == "none":
            raise UnsupportedError("the account keeps no versions", backend="azure")
        name = "versionid" if mode == "versions" else "snapshot"
        return f"{name}={quote(version_id, safe='')}"


def _refuse_folder(opened: Opened, info: ObjectInfo, bucket: str) -> None:
    if opened.is_hierarchical and is_folder(info.metadata):
        raise ObjectNotFoundError("a directory, and no object", bucket=bucket, key=info.key)


def _read_conditions(options: GetOptions, if_match: str | None, headers: dict[str, str]) -> None:
    if if_match is not None:
        try:
            headers["If-Match"] = quoted(if_match)
        except InvalidInputError as exc:
            raise PreconditionFailedError("no object has such an etag") from exc
    if options.if_none_match is not None:
        headers["If-None-Match"] = quoted(options.if_none_match)
    elif options.if_modified_since is not None:
        headers["If-Modified-Since"] = format_datetime(options.if_modified_since, usegmt=True)


def of_version(exc: TroveError, version_id: str | None) -> TroveError:
    """The service says in several ways that there is no such version."""
    if version_id is None or not isinstance(exc.__cause__, Refusal):
        return exc
    if isinstance(exc, ObjectNotFoundError) or exc.http_status == 400:
        return VersionNotFoundError("no such version", bucket=exc.bucket, key=exc.key)
    return exc


def _bounds(answer: Answer) -> tuple[int, int, int]:
    """(start, stop, size) of what an answer carries."""
    text = answer.headers.get("Content-Range")
    if text is None:
        size = length_of(answer.headers, "Content-Length")
        return 0, size, size
    start, stop, size = content_range(text)
    if start == stop == size:  # azurite's answer to a range that begins at the end
        raise InvalidRangeError(f"range starts at byte {start} of {size}")
    return check_span(start, stop, size)


class _Md5:
    __slots__ = ("_hasher", "update")

    def __init__(self) -> None:
        self._hasher = md5(usedforsecurity=False)
        self.update = self._hasher.update

    def text(self) -> str:
        return f"md5:{self._hasher.hexdigest()}"
