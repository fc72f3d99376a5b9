"""Puts: a body inside one part is a single Put Blob, anything longer blocks and their list.

Metadata travels with the last request either way, so `PutOptions.late` is always asked. Blocks
that no list names are not seen by anybody and are collected by the service after a week, or
when somebody else commits the key.
"""

from __future__ import annotations

import asyncio
import secrets
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote, urlencode

from trove_async._chunks import OneChunk
from trove_async.driver import Chunks, HeadOptions, PutOptions
from trove_async.driver.conditions import check_write
from trove_async.driver.finishing import finished, tried
from trove_async.driver.parallel import Parallel
from trove_async.driver.supply import Part, Supply, check_size
from trove_async.drivers.azure.base import Opened, conditions
from trove_async.drivers.azure.blocks import digest_of, send_block, size_of_part
from trove_async.drivers.azure.config import LEAST_PART, MOST_PART, MOST_PARTS
from trove_async.drivers.azure.info import http_time, md5_of_text
from trove_async.drivers.azure.names import meta_headers
from trove_async.drivers.azure.reading import Reads
from trove_async.drivers.azure.xml import block_list, read_blocks
from trove_async.errors import (
    InvalidInputError,
    ObjectChangedError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    UnsupportedError,
    UploadIntegrityError,
)
from trove_async.model import ObjectInfo

__all__ = ["Writes", "content_headers"]

_COMMITS: Final = 4
_GRACE: Final = 5.0  # seconds that a cancelled caller waits for a commit it must know the end of


def content_headers(options: PutOptions, metadata: Mapping[str, str]) -> dict[str, str]:
    """Of the request that publishes."""
    headers = {"x-ms-blob-content-type": options.content_type}
    if options.tags:
        headers["x-ms-tags"] = urlencode(options.tags, quote_via=quote)
    if options.storage_class is not None:
        headers["x-ms-access-tier"] = options.storage_class
    meta_headers(metadata, headers)
    return headers


def published_metadata(options: PutOptions) -> dict[str, str]:
    """Legal once the body has ended."""
    metadata = dict(options.metadata)
    if options.late is not None:
        metadata.update(options.late())
    return metadata


class Writes(Reads):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """Memory: as many blocks as are sent at once."""
        opened = self._now()
        opened.blob("PUT", bucket, key)
        self._check_write(opened, options)
        size = options.size
        part_size = self._part_size(options)
        if type(body) is OneChunk and size is not None and size <= part_size:
            whole = body.whole(size)
            if whole is not None:
                part = Part([whole], size, True)
                return await self._single(opened, bucket, key, part, options)
        supply = Supply(body)
        if not (await supply.peek(part_size)).is_last:
            return await self._parted(opened, bucket, key, supply, options)
        first = await supply.take(0)
        check_size(first.size, options.size)
        if options.if_match is not None or options.if_none_match is not None:
            return await self._single(opened, bucket, key, first, options)
        return await tried(lambda: self._single(opened, bucket, key, first, options))

    def _check_write(self, opened: Opened, options: PutOptions) -> None:
        if options.tags and opened.is_hierarchical:
            raise UnsupportedError("a hierarchical namespace keeps no tags", backend="azure")
        conditions(options.if_match, options.if_none_match, {})
        meta_headers(options.metadata, {})

    def _part_size(self, options: PutOptions) -> int:
        """Large enough that what is known to come fits into 50,000 blocks."""
        wanted = max(LEAST_PART, options.part_size or self.config.part_size)
        if options.size is not None:
            wanted = max(wanted, -(-options.size // MOST_PARTS))
        if wanted > MOST_PART:
            raise InvalidInputError("Azure takes blobs of up to 50,000 blocks of 4,000 MiB")
        return wanted

    async def _single(
        self, opened: Opened, bucket: str, key: str, part: Part, options: PutOptions
    ) -> ObjectInfo:
        metadata = published_metadata(options)
        request = opened.blob("PUT", bucket, key)
        request.pieces, request.size = part.pieces, part.size
        headers = request.headers = content_headers(options, metadata)
        headers["x-ms-blob-type"] = "BlockBlob"
        conditions(options.if_match, options.if_none_match, headers)
        md5 = b64encode(await digest_of(part)).decode()
        headers["Content-MD5"] = md5  # checked on arrival, and kept
        said = (await opened.send(request)).headers
        theirs = said.get("Content-MD5")
        if theirs is not None and theirs != md5:
            raise UploadIntegrityError("the service got other bytes than were sent")
        return self._published(key, part.size, options, metadata, said, md5)

    def _published(
        self,
        key: str,
        size: int,
        options: PutOptions,
        metadata: Mapping[str, str],
        said: Mapping[str, str],
        md5: str | None,
    ) -> ObjectInfo:
        etag = (said.get("ETag") or "").strip('"')
        if not etag:
            raise UploadIntegrityError("the put was answered without an ETag")
        return ObjectInfo(
            key,
            size,
            size,
            options.content_type,
            etag,
            http_time(said.get("Last-Modified")),
            metadata,
            md5_of_text(md5),
            said.get("x-ms-version-id"),
            options.storage_class,
            None,
        )

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
        token = secrets.token_bytes(16)
        parallel = Parallel(
            lambda number, part: send_block(opened, bucket, key, token, number, part),
            options.concurrency or self.config.concurrency,
            MOST_PARTS,
        )
        first = self._part_size(options)

        def size_of(number: int) -> int:
            """A known length needs no growth: its blocks are made to fit."""
            return first if options.size is not None else size_of_part(number, first)

        await parallel.run(supply, options.size, size_of)
        ids = [parallel.sent[number].pack() for number in sorted(parallel.sent)]
        metadata = published_metadata(options)
        committing = asyncio.ensure_future(
            self._commit(opened, bucket, key, ids, options, metadata, parallel.size)
        )
        return await finished(committing, grace=_GRACE)

    async def _check_condition(self, bucket: str, key: str, options: PutOptions) -> None:
        """Before a long body moves; the service has the last word."""
        if options.if_match is None and options.if_none_match is None:
            return
        try:
            etag = (await self.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            etag = None
        check_write(options.if_match, options.if_none_match, etag)

    async def _commit(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        ids: Sequence[bytes],
        options: PutOptions,
        metadata: Mapping[str, str],
        size: int,
    ) -> ObjectInfo:
        """ObjectChangedError when somebody else has committed the key meanwhile, which throws
        the blocks of all others away."""
        data = block_list(ids)
        md5 = b64encode(await digest_of(Part([data], len(data), True))).decode()
        is_in_doubt = False
        for attempt in range(1, _COMMITS + 1):
            request = opened.upload(bucket, key, "comp=blocklist")
            request.pieces, request.size = [data], len(data)
            request.headers = content_headers(options, metadata)
            request.headers["Content-MD5"] = md5
            conditions(options.if_match, options.if_none_match, request.headers)
            try:
                said = (await opened.send(request)).headers
                return self._published(key, size, options, metadata, said, None)
            except (PreconditionFailedError, ObjectChangedError) as exc:
                # Not ours to report when an answer before this one was lost.
                if is_in_doubt and (info := await self._own(opened, bucket, key, ids)):
                    return info
                if isinstance(exc, ObjectChangedError):
                    raise ObjectChangedError(
                        "another writer committed the object, and discarded these blocks",
                        bucket=bucket,
                        key=key,
                    ) from exc.__cause__
                raise
            except (UnavailableError, OperationTimeoutError):
                if attempt == _COMMITS:
                    if info := await self._own(opened, bucket, key, ids):
                        return info
                    raise
                is_in_doubt = True
            await asyncio.sleep(0.1 * attempt)
        raise AssertionError("every way out of the loop is above")

    async def _own(
        self, opened: Opened, bucket: str, key: str, ids: Sequence[bytes]
    ) -> ObjectInfo | None:
        """The object there now, if it is made of just these blocks."""
        wanted = [b64encode(one).decode() for one in ids]
        request = opened.blob("GET", bucket, key, "comp=blocklist&blocklisttype=committed")
        try:
            committed, _ = read_blocks((await opened.send(request)).data)
            if [name for name, _ in committed] != wanted:
                return None
            return await self.head(bucket, key, HeadOptions())
        except TroveError:
            return None
