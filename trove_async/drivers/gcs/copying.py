"""Copies inside the service, in as many calls as it asks for.

https://cloud.google.com/storage/docs/json_api/v1/objects/rewrite
"""

from __future__ import annotations

import json
from typing import Any, Final
from urllib.parse import quote, urlencode

from trove_async.driver import CopyOptions, HeadOptions
from trove_async.drivers.gcs.base import Opened, generation_of, write_conditions
from trove_async.drivers.gcs.info import FIELDS, check_key, info_of, json_path, marked
from trove_async.drivers.gcs.writing import Writes
from trove_async.errors import (
    BackendError,
    BucketNotFoundError,
    NotFoundError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.model import ObjectInfo, ObjectRef

__all__ = ["Copies"]

_KEPT: Final = (
    "contentType,cacheControl,contentDisposition,contentEncoding,contentLanguage,metadata"
)
_MOST_CALLS: Final = 100_000


class Copies(Writes):
    async def server_copy(
        self, source: ObjectRef, target: ObjectRef, options: CopyOptions
    ) -> ObjectInfo:
        return await self.copy(source, target, options)

    async def copy(self, source: ObjectRef, target: ObjectRef, options: CopyOptions) -> ObjectInfo:
        opened = self._now()
        check_key(source.bucket, source.key)
        check_key(target.bucket, target.key)
        query = write_conditions(None, options.if_none_match)
        pinned = options.source_if_match
        if pinned is not None and pinned != "*":
            generation = generation_of(pinned)
            if generation is None:
                raise ObjectChangedError("no object has such an etag", key=source.key)
            query["ifSourceGenerationMatch"] = generation
        body: dict[str, Any] = {}
        if options.metadata is not None or options.content_type is not None:
            body, generation = await self._overridden(opened, source, options)
            if query.setdefault("ifSourceGenerationMatch", generation) != generation:
                raise ObjectChangedError("the source was replaced", key=source.key)
        if source == target and "ifSourceGenerationMatch" in query:
            # Onto itself it replaces just what it has read, not a put that came in between.
            query.setdefault("ifGenerationMatch", query["ifSourceGenerationMatch"])
        try:
            return await self.rewritten(opened, source, target, query, body)
        except PreconditionFailedError as exc:
            if await self._changed(source, query.get("ifSourceGenerationMatch")):
                raise ObjectChangedError(
                    "the source was replaced", bucket=source.bucket, key=source.key
                ) from exc
            raise

    async def _changed(self, source: ObjectRef, generation: str | None) -> bool:
        """Whether it was the source's condition that did not hold."""
        if generation is None:
            return False
        try:
            info = await self.head(source.bucket, source.key, HeadOptions())
        except ObjectNotFoundError:
            return True
        return info.etag != generation

    async def _overridden(
        self, opened: Opened, source: ObjectRef, options: CopyOptions
    ) -> tuple[dict[str, Any], str]:
        """(what the target is to have, the generation that was looked at). A rewrite with a body
        takes nothing along, so all that is kept is said again."""
        target = f"{json_path(source.bucket, source.key)}?fields={_KEPT},generation"
        try:
            found = await opened.client.json("GET", target, source.bucket, source.key)
        except ObjectNotFoundError as exc:
            raise await self._missing(exc, source.bucket, source.key, None) from exc.__cause__
        generation = str(found.pop("generation", ""))
        found["contentType"] = (
            options.content_type or found.get("contentType") or "application/octet-stream"
        )
        if options.metadata is not None:
            found["metadata"] = marked(options.metadata)
            if not options.metadata:
                found.pop("metadata")
        return found, generation

    async def rewritten(
        self,
        opened: Opened,
        source: ObjectRef,
        target: ObjectRef,
        query: dict[str, str],
        body: dict[str, Any],
    ) -> ObjectInfo:
        return info_of(await self._rewritten(opened, source, target, query, body), target.key)

    async def _rewritten(
        self,
        opened: Opened,
        source: ObjectRef,
        target: ObjectRef,
        query: dict[str, str],
        body: dict[str, Any],
    ) -> dict[str, Any]:
        """The resource of the target, which is seen once the last call has been answered."""
        path = (
            f"{json_path(source.bucket, source.key)}/rewriteTo"
            f"/b/{target.bucket}/o/{quote(target.key, safe='')}"
        )
        fields = f"done,rewriteToken,resource({FIELDS})"
        query = {**query, "fields": fields}
        document = json.dumps(body).encode() if body else b""
        headers = {"content-type": "application/json; charset=UTF-8"}
        for _ in range(_MOST_CALLS):
            try:
                answer = await opened.client.json(
                    "POST",
                    f"{path}?{urlencode(query)}",
                    source.bucket,
                    source.key,
                    headers=headers,
                    pieces=[document],
                    size=len(document),
                )
            except (ObjectNotFoundError, BucketNotFoundError) as exc:
                raise await self._lost(exc, source, target) from exc.__cause__
            if answer.get("done"):
                resource = answer.get("resource")
                if not isinstance(resource, dict):
                    break
                return resource
            token = answer.get("rewriteToken")
            if not isinstance(token, str) or not token:
                break
            query["rewriteToken"] = token
        raise BackendError(
            "a copy that gives neither end nor object", bucket=target.bucket, key=target.key
        )

    async def _lost(
        self, exc: NotFoundError, source: ObjectRef, target: ObjectRef
    ) -> NotFoundError:
        """What it is that is not there; the answer does not say which bucket."""
        for bucket in (source.bucket, target.bucket):
            if not await self._has_bucket(bucket):
                return BucketNotFoundError("no such bucket", bucket=bucket)
        return exc
