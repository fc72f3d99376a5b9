"""Puts: a body inside one part is a single request, anything longer a resumable upload.

Only a put that asks for parts side by side is composed of objects that lie about meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from trove_async._chunks import OneChunk
from trove_async._threads import cpu_pool, settle
from trove_async.driver import Chunks, PutOptions
from trove_async.driver.finishing import tried
from trove_async.driver.supply import Part, Supply, check_size
from trove_async.drivers.gcs.base import Opened, write_conditions
from trove_async.drivers.gcs.config import UNIT
from trove_async.drivers.gcs.info import FIELDS, base64_crc, check_key, crc_of, info_of, marked
from trove_async.drivers.gcs.reading import Reads
from trove_async.drivers.gcs.resumable import Resumable
from trove_async.drivers.gcs.tasks import ended, with_grace
from trove_async.errors import UnsupportedError, UploadIntegrityError
from trove_async.model import ObjectInfo

__all__ = ["Writes", "compared", "resource_of"]

_INLINE: Final = 1024 * 1024  # bytes summed on the event loop
_GRACE: Final = 5.0  # seconds that a cancelled caller waits to learn what it must undo
_FEW: Final = 3  # parts that are not worth the requests that composing takes


def resource_of(options: PutOptions, metadata: dict[str, str]) -> dict[str, Any]:
    resource: dict[str, Any] = {"contentType": options.content_type}
    if metadata:
        resource["metadata"] = marked(metadata)
    if options.storage_class is not None:
        resource["storageClass"] = options.storage_class
    return resource


async def summed(part: Part, crc: int) -> int:
    if part.size <= _INLINE:
        return crc_of(part.pieces, crc)
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(cpu_pool(), crc_of, part.pieces, crc)


class Writes(Reads, ABC):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """Memory: the part on its way and the one that is being filled; with ``concurrency``
        as many as are sent at once, and one."""
        opened = self._now()
        check_key(bucket, key)
        self._check_write(options)
        conditions = write_conditions(options.if_match, options.if_none_match)
        size, part_size = options.size, self._part_size(options)
        if type(body) is OneChunk and size is not None and size <= part_size:
            whole = body.whole(size)
            if whole is not None:
                part = Part([whole] if whole else [], size, True)
                return await self._single(opened, bucket, key, part, options, conditions)
        supply = Supply(body)
        at_once = options.concurrency or self.config.parts_at_once
        if at_once == 1 or (size is not None and size <= _FEW * part_size):
            return await self._placed(opened, bucket, key, supply, options, conditions)
        if (await supply.peek(part_size)).is_last:
            return await self._placed(opened, bucket, key, supply, options, conditions)
        return await self._side_by_side(opened, bucket, key, supply, at_once, options, conditions)

    def _check_write(self, options: PutOptions) -> None:
        if options.tags:
            raise UnsupportedError("GCS has no tags on objects", backend="gcs")

    def _part_size(self, options: PutOptions) -> int:
        wanted = options.part_size or self.config.part_size
        return -(-wanted // UNIT) * UNIT

    async def _placed(
        self,
        opened: Opened,
        bucket: str,
        name: str,
        supply: Supply,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo:
        """One object from a body that is pulled here."""
        if not (await supply.peek(self._part_size(options))).is_last:
            return await self._long(opened, bucket, name, supply, options, conditions)
        part = await supply.take(0)
        check_size(part.size, options.size)
        if conditions:
            return await self._single(opened, bucket, name, part, options, conditions)
        return await tried(lambda: self._single(opened, bucket, name, part, options, conditions))

    @abstractmethod
    async def _side_by_side(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        supply: Supply,
        at_once: int,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo: ...

    async def _single(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        part: Part,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo:
        """One request with metadata, checksum and body: GCS compares before it publishes."""
        metadata = dict(options.metadata)
        if options.late is not None:
            metadata.update(options.late())
        crc = base64_crc(await summed(part, 0))
        resource = resource_of(options, metadata)
        resource["name"] = key
        resource["crc32c"] = crc
        mark = f"trove{secrets.token_hex(16)}"
        before = (
            f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(resource)}\r\n"
            f"--{mark}\r\nContent-Type: {options.content_type}\r\n\r\n"
        ).encode()
        after = f"\r\n--{mark}--\r\n".encode()
        pieces = [before, *part.pieces, after]
        size = len(before) + part.size + len(after)
        if size <= 64 * 1024:
            pieces = [b"".join(pieces)]
        query = {"uploadType": "multipart", "fields": FIELDS, **conditions}
        answer = await opened.client.json(
            "POST",
            f"/upload/storage/v1/b/{bucket}/o?{urlencode(query)}",
            bucket,
            key,
            headers={"content-type": f"multipart/related; boundary={mark}"},
            pieces=pieces,
            size=size,
        )
        return compared(answer, bucket, key, part.size, crc, metadata)

    async def _long(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        supply: Supply,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo:
        resource = resource_of(options, dict(options.metadata))
        query = {"fields": FIELDS, **conditions}
        upload, is_cancelled = await with_grace(
            Resumable.begin(opened.client, bucket, key, query, resource), _GRACE
        )
        try:
            if is_cancelled or upload is None:
                raise asyncio.CancelledError
            return await self._sent(upload, bucket, key, supply, options)
        except BaseException as exc:
            if upload is not None:
                await settle(asyncio.ensure_future(upload.cancel(exc)))
            raise

    async def _sent(
        self,
        upload: Resumable,
        bucket: str,
        key: str,
        supply: Supply,
        options: PutOptions,
    ) -> ObjectInfo:
        """Only this coroutine pulls the body; the part before is on its way meanwhile."""
        part_size = self._part_size(options)
        part = await supply.take(part_size)
        size = crc = 0
        while True:
            size += part.size
            crc = await summed(part, crc)
            if part.is_last:
                break
            sending = asyncio.ensure_future(upload.send(part, crc))
            try:
                part = await supply.take(part_size)
                await asyncio.wait([sending])
                sending.result()
            except BaseException:
                await ended(sending)
                raise
        check_size(size, options.size)
        answer = await upload.send(part, crc)
        assert answer is not None
        return compared(answer, bucket, key, size, base64_crc(crc), options.metadata)


def compared(
    answer: dict[str, Any],
    bucket: str,
    key: str,
    size: int,
    crc: str | None,
    metadata: Mapping[str, str],
) -> ObjectInfo:
    """What the server says it got, against what was sent. The checksum covers the body alone."""
    theirs = answer.get("crc32c")
    info = info_of(answer, key)
    if info.stored_size != size or (None not in (crc, theirs) and theirs != crc):
        raise UploadIntegrityError(
            "the server got other bytes than were sent", bucket=bucket, key=key
        )
    if info.metadata != {name.lower(): value for name, value in metadata.items()}:
        raise UploadIntegrityError(
            "the server got other metadata than was sent", bucket=bucket, key=key
        )
    return info
