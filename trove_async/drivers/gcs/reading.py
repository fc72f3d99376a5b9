"""Reads: whole bodies, ranges, and the check of whole bodies by the checksum GCS keeps."""

from __future__ import annotations

from email.utils import format_datetime
from typing import Final
from urllib.parse import urlencode

import aiohttp
import google_crc32c

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
from trove_async.drivers.gcs.base import GCSBase, Opened, generation_of
from trove_async.drivers.gcs.info import (
    FIELDS,
    check_key,
    info_of,
    info_of_headers,
    json_path,
    xml_path,
)
from trove_async.drivers.gcs.transport import Download
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    InvalidRangeError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    VersionNotFoundError,
)
from trove_async.model import ObjectInfo

__all__ = ["Reads", "version_of"]

_LOOKS: Final = 100  # at an object that is overwritten all the time; each loses one time in a few


def version_of(bucket: str, key: str, version_id: str) -> str:
    """The generation. VersionNotFoundError for what cannot be one; for a delete marker, which
    only `list_versions` makes up, ObjectNotFoundError."""
    if version_id.startswith("deleted-"):
        raise ObjectNotFoundError("a delete marker", bucket=bucket, key=key)
    generation = generation_of(version_id)
    if generation is None:
        raise VersionNotFoundError("no such version", bucket=bucket, key=key)
    return generation


class Reads(GCSBase):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        opened = self._now()
        check_key(bucket, key)
        wanted = options.range
        if wanted is not None:
            if wanted.start == 0 and wanted.stop is None:
                wanted = None
            elif wanted.stop is not None and wanted.stop <= wanted.start:
                return await self._empty(bucket, key, options, wanted)
        match = None
        if options.if_match is not None and options.if_match != "*":
            match = generation_of(options.if_match)
            if match is None:
                raise PreconditionFailedError("no object has such an etag", bucket=bucket, key=key)
        version = None
        if options.version_id is not None:
            version = version_of(bucket, key, options.version_id)
        # The XML API has no condition on generations that answers 304.
        if self.config.xml_reads and options.if_none_match is None:
            return await self._by_xml(opened, bucket, key, options, wanted, match, version)
        for _ in range(_LOOKS - 1):
            try:
                return await self._by_json(opened, bucket, key, options, wanted, match, version)
            except ObjectChangedError:
                continue  # nothing has been handed out: look at what is there now
        return await self._by_json(opened, bucket, key, options, wanted, match, version)

    async def _by_xml(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        options: GetOptions,
        wanted: ByteRange | None,
        match: str | None,
        version: str | None,
    ) -> RawObject:
        """One request; a second one when headers do not give the metadata as it is."""
        headers = {"accept-encoding": "gzip"}  # else GCS would unpack what is stored packed
        if wanted is not None:
            headers["range"] = range_header(wanted)
        if match is not None:
            headers["x-goog-if-generation-match"] = match
        if options.if_modified_since is not None:
            headers["if-modified-since"] = format_datetime(options.if_modified_since, usegmt=True)
        target = xml_path(bucket, key)
        if version is not None:
            target += f"?generation={version}"
        try:
            response = await opened.client.open("GET", target, bucket, key, headers=headers)
        except InvalidRangeError:
            if wanted is None:
                raise
            return await self._empty(bucket, key, options, wanted)
        except ObjectNotFoundError as exc:
            raise await self._missing(exc, bucket, key, version) from exc.__cause__
        stream = Download(opened.client, response, bucket, key)
        try:
            span = _bounds(response)
            info, is_exact = info_of_headers(key, response.headers, span[2])
            if not is_exact:
                info = await self._described(opened, bucket, key, info)
            check_read(options, info)
            return _raw(stream, info, wanted, span, bucket)
        except BaseException:
            await stream.aclose()
            raise

    async def _by_json(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        options: GetOptions,
        wanted: ByteRange | None,
        match: str | None,
        version: str | None,
    ) -> RawObject:
        """Looks, then reads what it saw."""
        asked = {
            "fields": FIELDS,
            "generation": version,
            "ifGenerationMatch": match,
            "ifGenerationNotMatch": generation_of(options.if_none_match or ""),
        }
        query = {name: value for name, value in asked.items() if value is not None}
        path = json_path(bucket, key)
        try:
            found = await opened.client.json("GET", f"{path}?{urlencode(query)}", bucket, key)
        except ObjectNotFoundError as exc:
            raise await self._missing(exc, bucket, key, version) from exc.__cause__
        info = info_of(found, key)
        check_read(options, info)
        headers = {"accept-encoding": "gzip"}
        if wanted is not None:
            start, stop = wanted.resolve(info.size)
            if start == stop:
                return RawObject(info, OneChunk(b""), start, stop)
            headers["range"] = f"bytes={start}-{stop - 1}"
        target = f"{path}?alt=media&generation={info.etag}"
        try:
            response = await opened.client.open("GET", target, bucket, key, headers=headers)
        except ObjectNotFoundError as exc:
            raise _replaced(bucket, key) from exc
        stream = Download(opened.client, response, bucket, key)
        try:
            span = _bounds(response)
            # The emulator names no generation and serves the latest; a size it can have.
            if span[2] != info.size or info.etag != response.headers.get(
                "x-goog-generation", info.etag
            ):
                raise _replaced(bucket, key)
            return _raw(stream, info, wanted, span, bucket)
        except BaseException:
            await stream.aclose()
            raise

    async def _described(
        self, opened: Opened, bucket: str, key: str, info: ObjectInfo
    ) -> ObjectInfo:
        """What the JSON API says of the very generation that a body is of."""
        target = f"{json_path(bucket, key)}?generation={info.etag}&fields={FIELDS}"
        try:
            return info_of(await opened.client.json("GET", target, bucket, key), key)
        except ObjectNotFoundError as exc:
            raise _replaced(bucket, key) from exc

    async def _empty(
        self, bucket: str, key: str, options: GetOptions, wanted: ByteRange
    ) -> RawObject:
        """An empty range cannot be asked for, and one past the end says no size."""
        info = await self.head(bucket, key, HeadOptions(options.version_id))
        check_read(options, info)
        start, stop = wanted.resolve(info.size)
        if start != stop:  # it has grown meanwhile
            raise UnavailableError("the object was replaced", bucket=bucket, key=key)
        return RawObject(info, OneChunk(b""), start, stop)

    async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
        opened = self._now()
        check_key(bucket, key)
        target = f"{json_path(bucket, key)}?fields={FIELDS}"
        if options.version_id is not None:
            target += f"&generation={version_of(bucket, key, options.version_id)}"
        try:
            return info_of(await opened.client.json("GET", target, bucket, key), key)
        except ObjectNotFoundError as exc:
            raise await self._missing(exc, bucket, key, options.version_id) from exc.__cause__

    async def _missing(
        self, exc: ObjectNotFoundError, bucket: str, key: str, version_id: str | None
    ) -> NotFoundError:
        """What it is that is not there; asks when the answer does not say."""
        said = getattr(exc.__cause__, "text", "").lower()
        reason = getattr(exc.__cause__, "reason", "")
        is_told = said.startswith("no such object") or reason == "NoSuchKey"
        if not is_told and not await self._has_bucket(bucket):
            return BucketNotFoundError("no such bucket", bucket=bucket)
        if version_id is not None:
            return VersionNotFoundError("no such version", bucket=bucket, key=key)
        return exc

    async def _has_bucket(self, bucket: str) -> bool:
        try:
            await self._now().client.json("GET", f"/storage/v1/b/{bucket}?fields=name", bucket)
        except BucketNotFoundError:
            return False
        except TroveError:
            return True  # not to be known: the answer stays what it was
        return True


def _replaced(bucket: str, key: str) -> ObjectChangedError:
    return ObjectChangedError("the object was replaced while it was opened", bucket=bucket, key=key)


def _raw(
    stream: Download,
    info: ObjectInfo,
    wanted: ByteRange | None,
    span: tuple[int, int, int],
    bucket: str,
) -> RawObject:
    """What was asked for, of the bytes ``span`` that come."""
    start, stop, size = span
    first, last = (0, size) if wanted is None else wanted.resolve(size)
    if not start <= first <= last <= stop:
        raise BackendError("another range than was asked for", bucket=bucket, key=info.key)
    expected = info.checksum if (first, last) == (0, size) else None
    body = Body(stream, first - start, last - first, expected, _running, bucket, info.key)
    return RawObject(info, body, first, last)


def _bounds(response: aiohttp.ClientResponse) -> tuple[int, int, int]:
    """(start, stop, size) of what an answer carries."""
    headers = response.headers
    text = headers.get("content-range")
    if text is None:
        size = length_of(headers, "content-length", "x-goog-stored-content-length")
        return 0, size, size
    return check_span(*content_range(text))


def _running() -> Crc:
    return Crc("crc32c", lambda chunk, crc: int(google_crc32c.extend(crc, chunk)))
