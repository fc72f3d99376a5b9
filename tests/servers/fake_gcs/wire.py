"""Small things that every handler needs: targets, query, partial responses, media."""

from __future__ import annotations

import json
import re
from email.utils import formatdate, parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.servers.fake_gcs.errors import ApiError, bad
from tests.servers.fake_gcs.state import Version

__all__ = ["answered", "json_body", "media", "partial", "query_of", "root_of", "segments"]

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def segments(request: web.Request) -> list[str]:
    """Of the path as it was sent, each decoded once."""
    path = request.raw_path.partition("?")[0]
    return [unquote(part) for part in path.split("/")[1:]]


def query_of(request: web.Request) -> dict[str, str]:
    return dict(request.rel_url.query)


def root_of(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


async def json_body(request: web.Request) -> dict[str, Any]:
    data = await request.read()
    if not data:
        return {}
    try:
        found = json.loads(data)
    except ValueError:
        raise bad("Parse Error", "parseError") from None
    if not isinstance(found, dict):
        raise bad("Parse Error", "parseError")
    return found


def _tree(text: str) -> dict[str, Any]:
    """``items(name,size),prefixes`` -> {"items": {"name": {}, "size": {}}, "prefixes": {}}"""
    tree: dict[str, Any] = {}
    stack = [tree]
    word = ""
    for char in text + ",":
        if char in ",()/":
            child = stack[-1].setdefault(word, {}) if word else None
            if char == "(" and child is not None:
                stack.append(child)
            elif char == ")":
                if len(stack) == 1:
                    raise bad("Invalid field selection", "invalidParameter")
                stack.pop()
            word = ""
        else:
            word += char
    if len(stack) != 1:
        raise bad("Invalid field selection", "invalidParameter")
    return tree


def partial(document: Any, fields: str | None) -> Any:
    """https://cloud.google.com/storage/docs/json_api#partial-response"""
    return document if not fields else _pruned(document, _tree(fields))


def _pruned(document: Any, tree: dict[str, Any]) -> Any:
    if not tree or "*" in tree:
        return document
    if isinstance(document, list):
        return [_pruned(entry, tree) for entry in document]
    if not isinstance(document, dict):
        return document
    return {name: _pruned(value, tree[name]) for name, value in document.items() if name in tree}


def answered(request: web.Request, document: Any, status: int = 200) -> web.Response:
    found = partial(document, request.rel_url.query.get("fields"))
    return web.json_response(found, status=status)


def _cut(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop); None for a header that is to be ignored. 416."""
    found = _RANGE.fullmatch(header or "")
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        start, stop = max(0, size - int(found[2])), size
    else:
        start = int(found[1])
        stop = size if found[2] == "" else min(size, int(found[2]) + 1)
        if found[2] != "" and int(found[2]) < start:
            return None
    if start >= size or start >= stop:
        raise ApiError(
            416,
            "requestedRangeNotSatisfiable",
            "Request range not satisfiable",
            {"Content-Range": f"bytes */{size}"},
        )
    return start, stop


def media(request: web.Request, version: Version, *, with_metadata: bool) -> web.Response:
    """The bytes, for both APIs; custom metadata comes as headers only with the XML API."""
    fields = version.fields
    headers = {
        "Content-Type": fields["contentType"],
        "x-goog-generation": str(version.generation),
        "x-goog-metageneration": str(version.metageneration),
        "x-goog-storage-class": fields["storageClass"],
        "x-goog-stored-content-length": str(len(version.data)),
        "x-goog-stored-content-encoding": fields.get("contentEncoding", "identity"),
        "Accept-Ranges": "bytes",
        "ETag": f'"{version.etag}"',
        "Last-Modified": formatdate(version.updated, usegmt=True),
    }
    hashes = f"crc32c={version.crc32c}"
    if version.component_count is None:
        hashes += f",md5={version.md5}"
    headers["x-goog-hash"] = hashes
    for name, header in (
        ("cacheControl", "Cache-Control"),
        ("contentDisposition", "Content-Disposition"),
        ("contentLanguage", "Content-Language"),
        ("contentEncoding", "Content-Encoding"),
    ):
        if name in fields:
            headers[header] = fields[name]
    if with_metadata:
        for name, value in fields.get("metadata", {}).items():
            headers[f"x-goog-meta-{name}"] = value
        since = request.headers.get("If-Modified-Since")
        if since and int(version.updated) <= parsedate_to_datetime(since).timestamp():
            raise ApiError(304, "notModified", "Not Modified")
        for given, header in (
            ("response-content-type", "Content-Type"),
            ("response-content-disposition", "Content-Disposition"),
        ):
            if given in request.rel_url.query:
                headers[header] = request.rel_url.query[given]
    cut = _cut(request.headers.get("Range"), len(version.data))
    if cut is None:
        return web.Response(body=version.data, headers=headers)
    start, stop = cut
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(version.data)}"
    return web.Response(status=206, body=version.data[start:stop], headers=headers)
