"""Uploads in parts: those that callers steer, and puts whose parts are sent side by side.

GCS has no such uploads of its own. Parts are objects under a reserved name that listings do not
show and no key can have, and the whole is composed of them at the end, at once and under the
conditions.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Final

from trove_async.driver import Chunks, HeadOptions, PutOptions
from trove_async.driver.conditions import check_write
from trove_async.driver.finishing import dropped, finished, tried
from trove_async.driver.parallel import Parallel, growing
from trove_async.driver.supply import Part, Supply
from trove_async.drivers.gcs.base import Opened, write_conditions
from trove_async.drivers.gcs.composing import Composes, Whole
from trove_async.drivers.gcs.config import MOST_PARTS, GCSConfig
from trove_async.drivers.gcs.info import STAGED, check_key, is_staged, json_path
from trove_async.drivers.gcs.staging import (
    OWNER,
    Staged,
    check_id,
    check_parts,
    name_of_part,
    staged_of,
    told_of,
)
from trove_async.drivers.gcs.writing import resource_of
from trove_async.errors import (
    CorruptMetadataError,
    InvalidPartError,
    ObjectNotFoundError,
    UploadNotFoundError,
)
from trove_async.model import MiB, ObjectInfo, PartInfo, UploadInfo

__all__ = ["Multipart"]

_GRACE: Final = 5.0  # seconds that a cancelled caller waits for a request it must know the end of
_REMEMBERED: Final = 1000
_STEP: Final = 128  # parts after which they double
_MOST_PART: Final = 1024 * MiB  # of what is held in memory


def _published(early: Mapping[str, str], options: PutOptions) -> dict[str, str]:
    """Legal once the body has ended."""
    metadata = {**early, **options.metadata}
    if options.late is not None:
        metadata.update(options.late())
    return metadata


class Multipart(Composes):
    def __init__(self, config: GCSConfig) -> None:
        super().__init__(config)
        self._begun: dict[tuple[str, str, str], None] = {}  # uploads that were there

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        """What is given here and not again at the end is kept for it. Cancelled, it leaves no
        upload."""
        opened = self._now()
        check_key(bucket, key)
        self._check_write(options)
        upload_id = secrets.token_hex(16)
        try:
            await finished(
                asyncio.ensure_future(self._record(opened, bucket, key, upload_id, options)),
                grace=_GRACE,
            )
        except asyncio.CancelledError:
            await self._drop(opened, bucket, upload_id, None)
            raise
        self._remember(bucket, key, upload_id)
        return upload_id

    async def _record(
        self, opened: Opened, bucket: str, key: str, upload_id: str, options: PutOptions
    ) -> None:
        """In the storage class that is wanted, so that one that there is not is refused now."""
        fields = {
            "type": options.content_type,
            "metadata": dict(options.metadata),
            "class": options.storage_class,
        }
        body = json.dumps(fields).encode()
        record = PutOptions(
            content_type="application/json",
            metadata={OWNER: key},
            storage_class=options.storage_class,
        )
        part = Part([body], len(body), True)
        with told_of(key):
            await tried(lambda: self._single(opened, bucket, STAGED + upload_id, part, record, {}))

    def _remember(self, bucket: str, key: str, upload_id: str) -> None:
        while len(self._begun) >= _REMEMBERED:
            del self._begun[next(iter(self._begun))]
        self._begun[bucket, key, upload_id] = None

    async def _check_upload(self, opened: Opened, bucket: str, key: str, upload_id: str) -> None:
        """UploadNotFoundError unless there is one of just this key."""
        gone = UploadNotFoundError("no such upload", bucket=bucket, key=key)
        check_id(bucket, key, upload_id)
        name = STAGED + upload_id
        target = f"{json_path(bucket, name)}?fields=name,size,generation,metadata,timeCreated"
        try:
            record = staged_of(await opened.client.json("GET", target, bucket, name))
        except ObjectNotFoundError as exc:
            self._begun.pop((bucket, key, upload_id), None)
            error = await self._missing(exc, bucket, name, None)
            raise (gone if isinstance(error, ObjectNotFoundError) else error) from exc.__cause__
        if record.owner != key:
            raise gone
        self._remember(bucket, key, upload_id)

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        """Memory as of a put; a part of more than ``part_size`` is a resumable upload."""
        opened = self._now()
        check_key(bucket, key)
        if not 1 <= number <= MOST_PARTS:
            raise InvalidPartError(f"parts are numbered from 1 to {MOST_PARTS}")
        if (bucket, key, upload_id) not in self._begun:
            await self._check_upload(opened, bucket, key, upload_id)
        supply = Supply(body)
        if (await supply.peek(self._part_size(PutOptions()))).is_last:
            part = await supply.take(0)
            _check_size(bucket, key, part.size, size)
            sending = self._part_sent(opened, bucket, key, upload_id, number, part)
            sent = await finished(asyncio.ensure_future(sending), grace=_GRACE)
        else:
            name, options = name_of_part(upload_id, number), _options_of_part(key, size)
            with told_of(key):
                info = await self._placed(opened, bucket, name, supply, options, {})
            sent = Staged(name, info.etag, info.size, None, key, info.last_modified)
        confirming = self._confirmed(opened, bucket, key, upload_id, sent)
        await finished(asyncio.ensure_future(confirming), grace=_GRACE)
        return PartInfo(number, sent.generation, sent.size)

    async def _part_sent(
        self, opened: Opened, bucket: str, key: str, upload_id: str, number: int, part: Part
    ) -> Staged:
        name = name_of_part(upload_id, number)
        options = _options_of_part(key, part.size)
        with told_of(key):
            info = await tried(lambda: self._single(opened, bucket, name, part, options, {}))
        crc = None if info.checksum is None else int(info.checksum.partition(":")[2], 16)
        return Staged(name, info.etag, info.size, crc, key, info.last_modified)

    async def _confirmed(
        self, opened: Opened, bucket: str, key: str, upload_id: str, sent: Staged
    ) -> None:
        """An upload that ended meanwhile did not see this part."""
        try:
            await tried(lambda: self._check_upload(opened, bucket, key, upload_id))
        except UploadNotFoundError:
            await tried(lambda: self._removed(opened, bucket, [sent]))
            raise

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        opened = self._now()
        check_key(bucket, key)
        held = await self._held(opened, bucket, key, upload_id)
        return [
            PartInfo(number, part.generation, part.size) for number, part in sorted(held.items())
        ]

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
        check_key(bucket, key)
        conditions = write_conditions(options.if_match, options.if_none_match)
        held = await self._held(opened, bucket, key, upload_id)
        wanted = check_parts(bucket, key, [(part.number, part.etag) for part in parts], held)
        begun = await self._options(opened, bucket, key, upload_id)
        metadata = _published(begun.metadata, options)
        whole = Whole(upload_id, resource_of(begun, metadata), metadata, conditions)
        assembling = self._assembled(opened, bucket, key, wanted, whole)
        info = await finished(asyncio.ensure_future(assembling), grace=_GRACE)
        self._begun.pop((bucket, key, upload_id), None)
        return info

    async def _options(self, opened: Opened, bucket: str, key: str, upload_id: str) -> PutOptions:
        """Those that the upload was begun with."""
        name = STAGED + upload_id
        target = f"{json_path(bucket, name)}?alt=media"
        try:
            fields = await opened.client.json("GET", target, bucket, key)
            return PutOptions(
                content_type=fields["type"],
                metadata={str(name): str(value) for name, value in fields["metadata"].items()},
                storage_class=fields["class"],
            )
        except ObjectNotFoundError as exc:
            gone = UploadNotFoundError("no such upload", bucket=bucket, key=key)
            raise gone from exc.__cause__
        except (KeyError, TypeError, AttributeError) as exc:
            raise CorruptMetadataError("an upload whose record cannot be read") from exc

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        """Also what a crash has left of an upload that was ended."""
        opened = self._now()
        check_key(bucket, key)
        check_id(bucket, key, upload_id)
        found, _ = await self._staged(opened, bucket, STAGED + upload_id, past=True, most=1)
        if not found or found[0].owner != key:
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key)
        self._begun.pop((bucket, key, upload_id), None)
        with told_of(key):
            sweeping = self._swept(opened, bucket, upload_id)
            await finished(asyncio.ensure_future(sweeping), grace=_GRACE)

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        """Also those of which a crash has left some parts only."""
        opened = self._now()
        records, groups = await self._staged(opened, bucket, STAGED, past=True, delimiter="/")
        found = {one.upload_id: one for one in records}
        for group in groups:
            if is_staged(group) and group[len(STAGED) : -1] not in found:
                rest, _ = await self._staged(opened, bucket, group, past=True, most=1)
                found.update((one.upload_id, one) for one in rest)
        uploads = [
            UploadInfo(upload_id, one.owner, one.created)
            for upload_id, one in found.items()
            if one.owner is not None and one.owner.startswith(prefix)
        ]
        return sorted(uploads, key=lambda upload: (upload.key, upload.started_at))

    # -- long puts --------------------------------------------------------------------------

    async def _side_by_side(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        supply: Supply,
        at_once: int,
        options: PutOptions,
        conditions: dict[str, str],
    ) -> ObjectInfo:
        await self._check_condition(bucket, key, options)
        first = self._part_size(options)
        if options.size is not None:
            first = max(first, -(-options.size // MOST_PARTS))
        most = max(first, _MOST_PART)

        def size_of(number: int) -> int:
            """A known length needs no growth: its parts are made to fit."""
            if options.size is not None:
                return first
            return growing(number, first, step=_STEP, most=most)

        upload_id = await self.initiate_multipart(bucket, key, options)

        async def send(number: int, part: Part) -> Staged:
            sending = self._part_sent(opened, bucket, key, upload_id, number, part)
            return await finished(asyncio.ensure_future(sending), grace=_GRACE)

        parallel = Parallel(send, at_once, MOST_PARTS)
        try:
            await parallel.run(supply, options.size, size_of)
            parts = [parallel.sent[number] for number in sorted(parallel.sent)]
            metadata = _published({}, options)
            whole = Whole(upload_id, resource_of(options, metadata), metadata, conditions)
            assembling = self._assembled(opened, bucket, key, parts, whole)
            return await finished(asyncio.ensure_future(assembling), grace=_GRACE)
        except BaseException as exc:
            await self._drop(opened, bucket, upload_id, exc)
            raise
        finally:
            self._begun.pop((bucket, key, upload_id), None)

    async def _check_condition(self, bucket: str, key: str, options: PutOptions) -> None:
        """Before a long body moves; the server has the last word."""
        if options.if_match is None and options.if_none_match is None:
            return
        try:
            etag = (await self.head(bucket, key, HeadOptions())).etag
        except ObjectNotFoundError:
            etag = None
        check_write(options.if_match, options.if_none_match, etag)

    async def _drop(
        self, opened: Opened, bucket: str, upload_id: str, reason: BaseException | None
    ) -> None:
        await dropped(
            lambda: self._swept(opened, bucket, upload_id),
            f"upload {upload_id}",
            reason,
        )


def _options_of_part(key: str, size: int | None) -> PutOptions:
    return PutOptions(metadata={OWNER: key}, size=size)


def _check_size(bucket: str, key: str, size: int, declared: int | None) -> None:
    if declared is not None and size != declared:
        raise InvalidPartError(
            f"the part has {size} bytes, {declared} were declared", bucket=bucket, key=key
        )
