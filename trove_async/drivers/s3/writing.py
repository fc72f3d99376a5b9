"""Puts: a body inside one part is a single PUT, anything longer a multipart upload."""

from __future__ import annotations

import asyncio
import base64
import re
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlencode

from trove_async._chunks import OneChunk
from trove_async._threads import cpu_pool
from trove_async.driver import Chunks, PutOptions
from trove_async.driver.finishing import tried
from trove_async.driver.supply import Part, Supply, check_size
from trove_async.drivers.s3.base import Opened, quoted
from trove_async.drivers.s3.config import LEAST_PART, MOST_PART, S3Config
from trove_async.drivers.s3.info import http_time, meta_headers, unquoted
from trove_async.drivers.s3.reading import Reads
from trove_async.drivers.s3.sums import Sums, md5_of
from trove_async.drivers.s3.wire import Request
from trove_async.errors import (
    InvalidInputError,
    InvalidKeyError,
    KeyConflictError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnavailableError,
    UnsupportedError,
    UploadIntegrityError,
)
from trove_async.model import ObjectInfo

__all__ = [
    "Writes",
    "base64_crc",
    "is_md5",
    "put_headers",
    "sent_part",
    "storable",
    "write_conditions",
]

_INLINE: Final = 256 * 1024  # bytes summed on the event loop
_MD5: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)


def put_headers(config: S3Config, options: PutOptions) -> dict[str, str]:
    """All of a put but its metadata."""
    headers = {"content-type": options.content_type}
    if options.tags:
        headers["x-amz-tagging"] = urlencode(options.tags)
    if options.storage_class is not None:
        headers["x-amz-storage-class"] = options.storage_class
    if config.sse is not None:
        headers["x-amz-server-side-encryption"] = config.sse
        if config.kms_key is not None:
            headers["x-amz-server-side-encryption-aws-kms-key-id"] = config.kms_key
    return headers


def write_conditions(options: PutOptions) -> dict[str, str]:
    headers = {}
    try:
        if options.if_match is not None:
            headers["if-match"] = quoted(options.if_match)
    except InvalidInputError as exc:
        raise PreconditionFailedError("no object has such an etag") from exc
    if options.if_none_match is not None:
        if options.if_none_match != "*":
            raise UnsupportedError('S3 knows only if_none_match="*" for writes')
        headers["if-none-match"] = "*"
    return headers


@contextmanager
def storable(bucket: str, key: str, options: PutOptions) -> Generator[None, None, None]:
    """A write that is answered "not found", though not for its bucket, has a key that the
    server's own routes do not reach; with a condition it is the condition's object."""
    try:
        yield
    except ObjectNotFoundError as exc:
        if options.if_match is not None:
            raise PreconditionFailedError("there is no such object", key=key) from exc
        raise InvalidKeyError("the server takes no such key", bucket=bucket, key=key) from exc


def base64_crc(crc: int) -> str:
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


async def sums_of(part: Part, *, with_sha256: bool) -> Sums:
    if part.size <= _INLINE:
        return Sums.of(part, with_sha256=with_sha256)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(cpu_pool(), lambda: Sums.of(part, with_sha256=with_sha256))


def is_md5(etag: str) -> bool:
    """Of a whole object, not of parts."""
    return _MD5.fullmatch(etag) is not None


async def sent(opened: Opened, request: Request, part: Part, sums: Sums) -> Mapping[str, str]:
    """Headers of the answer, once what the server says it got is what was sent: its CRC32, else
    an etag that is an MD5 (RFC 1321 hex; under KMS it is none). UploadIntegrityError."""
    hashing: asyncio.Future[str] | None = None
    if opened.has_md5 and part.size > _INLINE:  # while the network is waited for
        hashing = _md5_in_thread(part)
    try:
        headers = (await opened.plane.send(request)).headers
        theirs = headers.get("x-amz-checksum-crc32")
        if theirs is not None:
            opened.has_md5 = False
            if theirs != base64_crc(sums.crc):
                raise UploadIntegrityError("the server got other bytes than were sent")
            return headers
        encryption = headers.get("x-amz-server-side-encryption", "")
        etag = unquoted(headers.get("etag"))
        if encryption in ("", "AES256") and is_md5(etag):
            opened.has_md5 = True
            if part.size <= _INLINE:
                ours = md5_of(part)
            else:
                ours = await (hashing or _md5_in_thread(part))
            if etag != ours:
                raise UploadIntegrityError("the server got other bytes than were sent")
        return headers
    finally:
        if hashing is not None:
            hashing.cancel()


def _md5_in_thread(part: Part) -> asyncio.Future[str]:
    return asyncio.get_running_loop().run_in_executor(cpu_pool(), md5_of, part)


async def sent_part(
    opened: Opened, bucket: str, key: str, upload_id: str, number: int, part: Part, crc: bool
) -> tuple[str, Sums]:
    """(etag, sums) of one part that the server has."""
    sums = await sums_of(part, with_sha256=opened.plane.wants_digest)
    headers = {"x-amz-checksum-crc32": base64_crc(sums.crc)} if crc else {}
    query = {"partNumber": str(number), "uploadId": upload_id}
    request = Request(
        "UploadPart", bucket, key, query, headers, part.pieces, part.size, sums.sha256
    )
    etag = unquoted((await sent(opened, request, part, sums)).get("etag"))
    if not etag:
        raise UploadIntegrityError("a part was answered without its etag")
    return etag, sums


class Writes(Reads, ABC):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """Memory: the parts on their way and the one that is being filled."""
        opened = self._now()
        opened.server.check_key(key)
        self._check_write(opened, options)
        size = options.size
        part_size = self._part_size(options)
        if type(body) is OneChunk and size is not None and size <= part_size:
            whole = body.whole(size)
            if whole is not None:
                part = Part([whole] if whole else [], size, True)
                return await self._single(opened, bucket, key, part, options)
        supply = Supply(body)
        if not (await supply.peek(part_size)).is_last:
            return await self._parted(opened, bucket, key, supply, options)
        part = await supply.take(0)
        check_size(part.size, options.size)
        if options.if_match is not None or options.if_none_match is not None:
            return await self._single(opened, bucket, key, part, options)
        return await tried(lambda: self._single(opened, bucket, key, part, options))

    def _check_write(self, opened: Opened, options: PutOptions) -> None:
        self._need("match", options.if_match)
        self._need("create", options.if_none_match)
        if options.tags and not opened.server.tags:
            raise UnsupportedError("this server keeps no tags", backend="s3")

    def _part_size(self, options: PutOptions) -> int:
        """Large enough that what is known to come fits into 10,000 parts."""
        wanted = max(LEAST_PART, options.part_size or self.config.part_size)
        if options.size is not None:
            wanted = max(wanted, -(-options.size // 10_000))
        if wanted > MOST_PART:
            raise InvalidInputError("S3 takes objects of up to 10,000 parts of 5 GiB")
        return wanted

    async def _single(
        self, opened: Opened, bucket: str, key: str, part: Part, options: PutOptions
    ) -> ObjectInfo:
        metadata = dict(options.metadata)
        if options.late is not None:
            metadata.update(options.late())
        headers = put_headers(self.config, options)
        meta_headers(metadata, headers, opened.server.max_metadata)
        headers.update(write_conditions(options))
        sums = await sums_of(part, with_sha256=opened.plane.wants_digest)
        sends_crc = self.config.checksum == "when_supported"
        if sends_crc:
            headers["x-amz-checksum-crc32"] = base64_crc(sums.crc)
        pieces, digest = part.pieces, sums.sha256
        request = Request("PutObject", bucket, key, {}, headers, pieces, part.size, digest)
        try:
            said = await sent(opened, request, part, sums)
        except ObjectNotFoundError as exc:
            with storable(bucket, key, options):
                raise exc from exc.__cause__
        except UnavailableError as exc:
            if opened.server.has_folders and await self._in_the_way(bucket, key):
                raise KeyConflictError("a key is the folder of another", key=key) from exc
            raise
        etag = unquoted(said.get("etag"))
        if not etag:
            raise UploadIntegrityError("the put was answered without an etag")
        version = said.get("x-amz-version-id")
        return ObjectInfo(
            key,
            part.size,
            part.size,
            options.content_type,
            etag,
            http_time(said.get("last-modified") or said.get("date")),
            metadata,
            f"crc32:{sums.crc:08x}" if "x-amz-checksum-crc32" in said else None,
            None if version in (None, "null") else version,
            None if options.storage_class == "STANDARD" else options.storage_class,
            None,
        )

    async def _in_the_way(self, bucket: str, key: str) -> bool:
        """Whether this key's folder is an object, or the key another's folder."""
        parts = key.split("/")
        for count in range(1, len(parts)):
            if await self._exists(bucket, "/".join(parts[:count])):
                return True
        listing = await self._now().plane.list(
            Request("ListObjectsV2", bucket, "", {"list-type": "2", "prefix": key + "/"})
        )
        return bool(listing.objects)

    @abstractmethod
    async def _parted(
        self, opened: Opened, bucket: str, key: str, supply: Supply, options: PutOptions
    ) -> ObjectInfo: ...
