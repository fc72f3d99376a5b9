"""Verbs of the JSON API on objects that exist.

https://cloud.google.com/storage/docs/json_api/v1/objects
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.servers.fake_gcs.errors import (
    ApiError,
    bad,
    not_modified,
    precondition,
)
from tests.servers.fake_gcs.state import EDITABLE, Bucket, State, Version, check, fields_of
from tests.servers.fake_gcs.wire import answered, json_body, media, query_of, root_of

__all__ = ["Objects"]

_MOST_COMPONENTS = 32


@dataclass(slots=True)
class _Rewrite:
    source: Version
    target: tuple[str, str]
    given: dict[str, Any]
    done: int = 0


class Objects:
    def __init__(self, state: State, step: int) -> None:
        self.state = state
        self.step = step
        """Bytes that one call of rewrite copies."""
        self.rewrites: dict[str, _Rewrite] = {}

    async def handle(self, request: web.Request, bucket_name: str, name: str) -> web.Response:
        query = query_of(request)
        bucket = self.state.bucket(bucket_name)
        root = root_of(request)
        if request.method == "GET":
            version = bucket.find(name, query.get("generation"))
            if check(query, version):
                raise not_modified()
            if query.get("alt") == "media":
                return media(request, version, with_metadata=False)
            return answered(request, version.resource(bucket.name, root))
        if request.method == "DELETE":
            version = bucket.find(name, query.get("generation"))
            if check(query, version):
                raise precondition()
            bucket.delete(name, query.get("generation"))
            return web.Response(status=204)
        if request.method in ("PATCH", "PUT"):
            version = bucket.find(name, query.get("generation"))
            if check(query, version):
                raise precondition()
            _patch(version, await json_body(request))
            return answered(request, version.resource(bucket.name, root))
        raise ApiError(405, "httpMethodNotAllowed", "Method not allowed")

    async def compose(self, request: web.Request, bucket_name: str, name: str) -> web.Response:
        """https://cloud.google.com/storage/docs/json_api/v1/objects/compose"""
        if request.method != "POST":
            raise ApiError(405, "httpMethodNotAllowed", "Method not allowed")
        given = await json_body(request)
        bucket = self.state.bucket(bucket_name)
        sources = given.get("sourceObjects") or []
        if not 1 <= len(sources) <= _MOST_COMPONENTS:
            raise bad("The number of source components provided must be between 1 and 32.")
        found = [_source(bucket, source) for source in sources]
        target = dict(given.get("destination") or {})
        if "bucket" in target and target["bucket"] != bucket_name:
            raise bad("The destination is in another bucket.")
        classes = {version.fields["storageClass"] for version in found}
        if "storageClass" in target:
            classes.add(target["storageClass"])
        if len(classes) > 1:
            raise bad("Source and destination objects must have the same storage class.")
        target["storageClass"] = classes.pop()
        composed = self.state.write(
            bucket,
            name,
            b"".join(version.data for version in found),
            target,
            query_of(request),
            components=sum(version.component_count or 1 for version in found),
        )
        return answered(request, composed.resource(bucket.name, root_of(request)))

    async def rewrite(
        self, request: web.Request, source: tuple[str, str], target: tuple[str, str]
    ) -> web.Response:
        query = query_of(request)
        given = await json_body(request)
        origin, bucket = self.state.bucket(source[0]), self.state.bucket(target[0])
        version = origin.find(source[1], query.get("sourceGeneration"))
        if check(query, version, "Source"):
            raise precondition()
        if check(query, bucket.live.get(target[1])):
            raise precondition()
        token = query.get("rewriteToken")
        job = self.rewrites.pop(token, None) if token else _Rewrite(version, target, given)
        if job is None or (job.target, job.given) != (target, given) or job.source is not version:
            raise bad("Invalid rewrite token.")
        step = int(query.get("maxBytesRewrittenPerCall", self.step))
        if step < 1 << 20:
            raise bad("maxBytesRewrittenPerCall must be at least 1 MiB.")
        size = len(version.data)
        job.done = min(size, job.done + step)
        document: dict[str, Any] = {
            "kind": "storage#rewriteResponse",
            "totalBytesRewritten": str(job.done),
            "objectSize": str(size),
            "done": job.done == size,
        }
        if job.done < size:
            document["rewriteToken"] = secrets.token_urlsafe(16)
            self.rewrites[document["rewriteToken"]] = job
            return answered(request, document)
        kept = {name: version.fields.get(name) for name in EDITABLE}
        if given:  # then nothing is taken along
            kept = {"contentType": None} | fields_of(given)
        storage_class = given.get("storageClass")
        written = self.state.write(
            bucket,
            target[1],
            version.data,
            kept | ({"storageClass": storage_class} if storage_class else {}),
            query,
            components=version.component_count,
        )
        document["resource"] = written.resource(bucket.name, root_of(request))
        return answered(request, document)


def _source(bucket: Bucket, given: dict[str, Any]) -> Version:
    """One component; a generation that was replaced is there only where versions are kept."""
    wanted = given.get("generation")
    version = bucket.find(str(given.get("name", "")), None if wanted is None else str(wanted))
    match = given.get("objectPreconditions", {}).get("ifGenerationMatch")
    if match is not None and int(match) != version.generation:
        raise precondition()
    return version


def _patch(version: Version, given: dict[str, Any]) -> None:
    merged = dict(version.fields)
    for name in EDITABLE:
        if name not in given:
            continue
        value = given[name]
        if name == "metadata" and value is not None:
            both = {**merged.get("metadata", {}), **value}
            value = {key: text for key, text in both.items() if text is not None}
        merged[name] = value
    version.fields = {
        "storageClass": version.fields["storageClass"],
        "contentType": "application/octet-stream",
        **fields_of(merged),
    }
    version.metageneration += 1
    version.updated = time.time()
