"""Uploads that callers steer.

An upload is a blob of its own under a reserved name: empty, with key and options in its
metadata, its parts as blocks that are not committed. So uploads of one key do not throw each
other's blocks away, any client finds them, and deleting the blob ends one. Completing commits
the blocks there and copies the blob onto the key, whole and under the conditions; the service
does that inside the account without moving bytes.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import re
import secrets
import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from trove_async.driver import Chunks, PutOptions
from trove_async.driver.finishing import finished
from trove_async.driver.supply import Supply
from trove_async.drivers.azure.base import Opened, conditions
from trove_async.drivers.azure.blocks import BlockId, send_block
from trove_async.drivers.azure.config import MOST_PART, MOST_PARTS
from trove_async.drivers.azure.copying import Copies
from trove_async.drivers.azure.info import http_time, metadata_of
from trove_async.drivers.azure.names import META, SESSION, is_session, plain_metadata
from trove_async.drivers.azure.wire import Request
from trove_async.drivers.azure.writing import content_headers, published_metadata
from trove_async.drivers.azure.xml import read_blocks, read_listing
from trove_async.errors import (
    CorruptMetadataError,
    InvalidMetadataError,
    InvalidPartError,
    NotFoundError,
    ObjectNotFoundError,
    UploadNotFoundError,
)
from trove_async.model import ObjectInfo, PartInfo, UploadInfo

__all__ = ["Multipart"]

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_FIELD: Final = "troveupload"
_MOST_RECORD: Final = 8000
_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Session:
    upload_id: str
    key: str
    options: PutOptions
    record: str
    """As it stands in the blob's metadata."""

    @property
    def token(self) -> bytes:
        return bytes.fromhex(self.upload_id)

    @property
    def blob(self) -> str:
        return SESSION + self.upload_id


def _written(key: str, options: PutOptions) -> str:
    fields = {
        "key": key,
        "type": options.content_type,
        "metadata": dict(options.metadata),
        "tags": None if options.tags is None else dict(options.tags),
        "class": options.storage_class,
    }
    text = b64encode(zlib.compress(json.dumps(fields).encode())).decode()
    if len(text) > _MOST_RECORD:
        raise InvalidMetadataError("more options than an upload can keep")
    return text


def _read(upload_id: str, record: str | None) -> _Session:
    try:
        unpacker = zlib.decompressobj()
        fields = json.loads(unpacker.decompress(b64decode(record or "", validate=True), 1 << 20))
        options = PutOptions(
            content_type=fields["type"],
            metadata=fields["metadata"],
            tags=fields["tags"],
            storage_class=fields["class"],
        )
        return _Session(upload_id, fields["key"], options, record or "")
    except (ValueError, KeyError, TypeError, zlib.error) as exc:
        raise CorruptMetadataError("an upload whose record cannot be read") from exc


class Multipart(Copies):
    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """What is given here and not again at the end is kept for it."""
        opened = self._now()
        opened.blob("PUT", bucket, key)
        self._check_write(opened, options)
        upload_id = secrets.token_hex(16)
        request = opened.upload(bucket, SESSION + upload_id, "")
        request.headers = {
            "x-ms-blob-type": "BlockBlob",
            META + _FIELD: _written(key, options),
        }
        request.pieces = ()
        await opened.send(request)
        return upload_id

    async def _session(self, opened: Opened, bucket: str, key: str, upload_id: str) -> _Session:
        opened.blob("PUT", bucket, key)
        gone = UploadNotFoundError("no such upload", bucket=bucket, key=key)
        if _ID.fullmatch(upload_id) is None:
            raise gone
        request = _own(opened, "HEAD", bucket, upload_id)
        try:
            said = (await opened.send(request)).headers
        except ObjectNotFoundError as exc:
            raise gone from exc.__cause__
        session = _read(upload_id, metadata_of(said).get(_FIELD))
        if session.key != key:
            raise gone
        return session

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        """A part is held in memory as a whole."""
        opened = self._now()
        if not 1 <= number <= MOST_PARTS:
            raise InvalidPartError(f"parts are numbered from 1 to {MOST_PARTS}")
        session = await self._session(opened, bucket, key, upload_id)
        part = await Supply(body).take(MOST_PART)
        if not part.is_last:
            raise InvalidPartError("a part has at most 4,000 MiB", bucket=bucket, key=key)
        if size is not None and part.size != size:
            raise InvalidPartError(f"the part has {part.size} bytes, {size} were declared")
        if not part.size:
            raise InvalidPartError("Azure has no empty blocks", bucket=bucket, key=key)
        block = await send_block(opened, bucket, session.blob, session.token, number, part)
        return PartInfo(number, block.digest.hex(), part.size)

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        opened = self._now()
        session = await self._session(opened, bucket, key, upload_id)
        held = await self._held(opened, bucket, session)
        return [part for _, (_, part) in sorted(held.items())]

    async def _held(
        self, opened: Opened, bucket: str, session: _Session
    ) -> dict[int, tuple[BlockId, PartInfo]]:
        """Number -> the last block that was sent of it."""
        request = _own(opened, "GET", bucket, session.upload_id)
        request.query = "comp=blocklist&blocklisttype=all"
        committed, others = read_blocks((await opened.send(request)).data)
        held: dict[int, tuple[BlockId, PartInfo]] = {}
        for name, size in committed + others:
            block = BlockId.read(name, session.token)
            if block is None:
                continue
            known = held.get(block.number)
            if known is None or known[0].stamp < block.stamp:
                part = PartInfo(block.number, block.digest.hex(), size)
                held[block.number] = block, part
        return held

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        """Metadata given here is added to that given when the upload began."""
        opened = self._now()
        conditions(options.if_match, options.if_none_match, {})
        session = await self._session(opened, bucket, key, upload_id)
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
        held = await self._held(opened, bucket, session)
        for part in parts:
            found = held.get(part.number)
            if found is None or found[1].etag != part.etag:
                raise InvalidPartError(f"part {part.number} is not there", bucket=bucket, key=key)
        metadata = {**session.options.metadata, **published_metadata(options)}
        content_headers(session.options, metadata)  # refused before anything is committed
        size = sum(held[number][1].size for number in numbers)
        ids = [held[number][0].pack() for number in numbers]
        completing = self._completed(opened, bucket, session, ids, options, metadata, size)
        return await finished(asyncio.ensure_future(completing), grace=_GRACE)

    async def _completed(
        self,
        opened: Opened,
        bucket: str,
        session: _Session,
        ids: Sequence[bytes],
        options: PutOptions,
        metadata: Mapping[str, str],
        size: int,
    ) -> ObjectInfo:
        kept = replace(session.options, metadata={}, tags=None)
        staged = await self._commit(
            opened, bucket, session.blob, ids, kept, {_FIELD: session.record}, size
        )
        target = opened.blob("PUT", bucket, session.key)
        conditions(options.if_match, options.if_none_match, target.headers)
        source = self._source_url(opened, _own(opened, "HEAD", bucket, session.upload_id))
        wanted = replace(staged, key=session.key, metadata=metadata)
        info = await self._copied(opened, target, source, staged.etag, wanted, session.options.tags)
        with suppress(NotFoundError):
            await opened.send(_own(opened, "DELETE", bucket, session.upload_id))
        return info

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        opened = self._now()
        session = await self._session(opened, bucket, key, upload_id)
        try:
            await opened.send(_own(opened, "DELETE", bucket, session.upload_id))
        except ObjectNotFoundError as exc:
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key) from exc

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        opened = self._now()
        found: builtins.list[UploadInfo] = []
        marker: str | None = None
        while True:
            query: dict[str, Any] = {
                "restype": "container",
                "comp": "list",
                "include": "metadata",
                "prefix": SESSION,
            }
            if marker is not None:
                query["marker"] = marker
            request = opened.container("GET", bucket, urlencode(query, quote_via=quote))
            listing = await read_listing((await opened.send(request)).data)
            for blob in listing.blobs:
                name = blob.fields["Name"]
                if not is_session(name):
                    continue
                record = plain_metadata(blob.metadata.items()).get(_FIELD)
                session = _read(name.removeprefix(SESSION), record)
                if session.key.startswith(prefix):
                    started = http_time(blob.fields.get("Creation-Time"))
                    found.append(UploadInfo(session.upload_id, session.key, started))
            marker = listing.marker
            if marker is None:
                return sorted(found, key=lambda upload: (upload.key, upload.started_at))


def _own(opened: Opened, method: str, bucket: str, upload_id: str) -> Request:
    request = opened.upload(bucket, SESSION + upload_id, "")
    request.method = method
    return request
