"""Puts: a body inside one part is a single request, anything longer a resumable upload.

Parts never lie about as objects of their own, as they would for a composed upload: those can be
listed by everybody, and a versioned bucket would keep them.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from trove_async._chunks import OneChunk
from trove_async._threads import cpu_pool, settle
from trove_async.driver import Chunks, PutOptions
from trove_async.drivers.gcs.base import Opened, write_conditions
from trove_async.drivers.gcs.config import UNIT
from trove_async.drivers.gcs.info import FIELDS, base64_crc, check_key, crc_of, info_of, marked
from trove_async.drivers.gcs.parts import Part, Parts, check_size
from trove_async.drivers.gcs.reading import Reads
from trove_async.drivers.gcs.resumable import Resumable
from trove_async.drivers.gcs.tasks import ended, with_grace
from trove_async.errors import (
    TroveError,
    UnsupportedError,
    UploadIntegrityError,
)
from trove_async.model import ObjectInfo

__all__ = ["Writes", "resource_of"]

_INLINE: Final = 1024 * 1024  # bytes summed on the event loop
_GRACE: Final = 5.0  # seconds that a cancelled caller waits to learn what it must undo
_TRIES: Final = 3
_PAUSE: Final = 0.1


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


class Writes(Reads):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        """Memory: the part on its way and the one that is being filled."""
        opened = self._now()
        check_key(bucket, key)
        if options.tags:
            raise UnsupportedError("GCS has no tags on objects", backend="gcs")
        conditions = write_conditions(options.if_match, options.if_none_match)
        wanted = options.part_size or self.config.part_size
        part_size = -(-wanted // UNIT) * UNIT
        size = options.size
        if type(body) is OneChunk and size is not None and size <= part_size:
            whole = body.whole(size)
            if whole is not None:
                part = Part([whole] if whole else [], size, True)
                return await self._single(opened, bucket, key, part, options, conditions)
        parts = Parts(body)
        part = await parts.take(part_size)
        if not part.is_last:
            return await self._long(
                opened, bucket, key, parts, part, part_size, options, conditions
            )
        check_size(part.size, size)
        return await self._again(opened, bucket, key, part, options, conditions)

    async def _again(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        part: Part,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo:
        """The body of an iterator is gone once it has been pulled, so the store cannot repeat
        such a put; here it is still at hand."""
        for attempt in range(1, 1 if conditions else _TRIES):
            try:
                return await self._single(opened, bucket, key, part, options, conditions)
            except TroveError as exc:
                if not exc.retryable:
                    raise
                wait = getattr(exc, "retry_after", None)
            await asyncio.sleep(min(wait or _PAUSE * attempt, 5.0))
        return await self._single(opened, bucket, key, part, options, conditions)

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
        return _compared(answer, bucket, key, part.size, crc, metadata)

    async def _long(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        parts: Parts,
        part: Part,
        part_size: int,
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
            return await self._sent(upload, bucket, key, parts, part, part_size, options)
        except BaseException as exc:
            if upload is not None:
                await settle(asyncio.ensure_future(upload.cancel(exc)))
            raise

    async def _sent(
        self,
        upload: Resumable,
        bucket: str,
        key: str,
        parts: Parts,
        part: Part,
        part_size: int,
        options: PutOptions,
    ) -> ObjectInfo:
        """Only this coroutine pulls the body; the part before is on its way meanwhile."""
        size = crc = 0
        while True:
            size += part.size
            crc = await summed(part, crc)
            if part.is_last:
                break
            sending = asyncio.ensure_future(upload.send(part, crc))
            try:
                part = await parts.take(part_size)
                await asyncio.wait([sending])
                sending.result()
            except BaseException:
                await ended(sending)
                raise
        check_size(size, options.size)
        answer = await upload.send(part, crc)
        assert answer is not None
        return _compared(answer, bucket, key, size, base64_crc(crc), options.metadata)


def _compared(
    answer: dict[str, Any],
    bucket: str,
    key: str,
    size: int,
    crc: str,
    metadata: Mapping[str, str],
) -> ObjectInfo:
    """What the server says it got, against what was sent. The checksum covers the body alone."""
    theirs = answer.get("crc32c")
    info = info_of(answer, key)
    if info.stored_size != size or (theirs is not None and theirs != crc):
        raise UploadIntegrityError(
            "the server got other bytes than were sent", bucket=bucket, key=key
        )
    if info.metadata != {name.lower(): value for name, value in metadata.items()}:
        raise UploadIntegrityError(
            "the server got other metadata than was sent", bucket=bucket, key=key
        )
    return info
