"""Parts and versions in memory."""

from __future__ import annotations

import builtins
import secrets
from collections import deque
from collections.abc import Sequence

from trove_async._chunks import collect
from trove_async.driver import Chunks, GetOptions, PutOptions, RawObject
from trove_async.driver.conditions import check_write
from trove_async.drivers.memory.state import Keeper, Upload
from trove_async.errors import InvalidInputError, InvalidPartError, VersionNotFoundError
from trove_async.model import ObjectInfo, PartInfo, UploadInfo, VersionInfo

__all__ = ["Parts", "Versions"]


class Parts(Keeper):
    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        place = self._bucket(bucket)
        upload_id = secrets.token_hex(16)
        place.uploads[upload_id] = Upload(key, options, self.clock())
        return upload_id

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self._upload(bucket, key, upload_id)
        if not 1 <= number <= 10_000:
            raise InvalidInputError("part numbers go from 1 to 10000", bucket=bucket, key=key)
        data = await collect(body)
        etag = secrets.token_hex(16)
        self._upload(bucket, key, upload_id).parts[number] = (data, etag)
        return PartInfo(number, etag, len(data))

    async def complete_multipart(
        self,
        bucket: str,
        key: str,
        upload_id: str,
        parts: Sequence[PartInfo],
        options: PutOptions,
    ) -> ObjectInfo:
        upload = self._upload(bucket, key, upload_id)
        numbers = [part.number for part in parts]
        if not parts or numbers != sorted(set(numbers)):
            raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
        pieces = []
        for part in parts:
            data, etag = upload.parts.get(part.number, (b"", None))
            if etag != part.etag:
                raise InvalidPartError(f"part {part.number} is not there", bucket=bucket, key=key)
            pieces.append(data)
        place = self._bucket(bucket)
        check_write(options.if_match, options.if_none_match, self._etag(place, key))
        metadata = {**upload.options.metadata, **options.metadata}
        if options.late is not None:
            metadata.update(options.late())
        del place.uploads[upload_id]
        return self._store(
            place,
            key,
            b"".join(pieces),
            upload.options.content_type,
            metadata,
            upload.options.storage_class,
            dict(upload.options.tags or {}),
        )

    async def abort_multipart(self, bucket: str, key: str, upload_id: str) -> None:
        self._upload(bucket, key, upload_id)
        del self._bucket(bucket).uploads[upload_id]

    async def list_parts(self, bucket: str, key: str, upload_id: str) -> builtins.list[PartInfo]:
        upload = self._upload(bucket, key, upload_id)
        return [PartInfo(n, etag, len(data)) for n, (data, etag) in sorted(upload.parts.items())]

    async def list_uploads(self, bucket: str, prefix: str) -> builtins.list[UploadInfo]:
        uploads = self._bucket(bucket).uploads.items()
        found = (UploadInfo(i, u.key, u.started_at) for i, u in uploads if u.key.startswith(prefix))
        return sorted(found, key=lambda upload: (upload.key, upload.started_at))


class Versions(Keeper):
    async def list_versions(self, bucket: str, key: str) -> builtins.list[VersionInfo]:
        place = self._bucket(bucket)
        every = [*place.past.get(key, ())]
        if (current := place.objects.get(key)) is not None:
            every.append(current)
        every.reverse()
        return [
            VersionInfo(
                stored.info.etag,
                key,
                stored.info.stored_size,
                stored.info.last_modified,
                is_latest=index == 0,
                is_delete_marker=stored.data is None,
            )
            for index, stored in enumerate(every)
        ]

    async def get_version(
        self, bucket: str, key: str, version_id: str, options: GetOptions
    ) -> RawObject:
        stored = self._version(self._bucket(bucket), key, version_id)
        return self._opened(self._readable(stored), options)

    async def delete_version(self, bucket: str, key: str, version_id: str) -> None:
        place = self._bucket(bucket)
        stored = self._version(place, key, version_id)
        past = place.past.get(key, deque())
        is_current = place.objects.get(key) is stored
        if is_current:
            del place.objects[key]
        else:
            past.remove(stored)
            self._drop(stored)
        if key not in place.objects and past and past[-1].data is not None:
            latest = past.pop()
            self._drop(latest)
            place.objects[key] = latest
            place.added(key)
            place.notify("object.updated" if is_current else "object.created", key, latest.info)
        elif is_current:
            place.notify("object.deleted", key, None)
        if not past:
            place.past.pop(key, None)

    async def restore_version(self, bucket: str, key: str, version_id: str) -> ObjectInfo:
        place = self._bucket(bucket)
        stored = self._version(place, key, version_id)
        if stored.data is None:
            raise VersionNotFoundError("a delete marker holds nothing", bucket=bucket, key=key)
        info = stored.info
        return self._store(
            place,
            key,
            stored.data,
            info.content_type,
            dict(info.metadata),
            info.storage_class,
            dict(stored.tags),
        )
