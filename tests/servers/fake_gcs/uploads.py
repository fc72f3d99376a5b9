"""The three ways to send an object.

https://cloud.google.com/storage/docs/uploading-objects (simple, multipart)
https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.fake_gcs.errors import ApiError, bad, precondition
from tests.servers.fake_gcs.state import Bucket, State, Version, check, check_name, fields_of
from tests.servers.fake_gcs.wire import answered, json_body, query_of, root_of

__all__ = ["Session", "Uploads"]

_UNIT = 256 * 1024
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


@dataclass(slots=True)
class Session:
    """One resumable upload."""

    bucket: Bucket
    name: str
    given: dict[str, Any]
    query: dict[str, str]
    data: bytearray = field(default_factory=bytearray)
    """What is persisted: a multiple of 256 KiB until the end."""
    done: Version | None = None


class Uploads:
    def __init__(self, state: State) -> None:
        self.state = state
        self.sessions: dict[str, Session] = {}

    async def handle(self, request: web.Request, bucket_name: str) -> web.StreamResponse:
        query = query_of(request)
        if "upload_id" in query:
            return await self._continue(request, query["upload_id"])
        if request.method != "POST":
            raise ApiError(405, "httpMethodNotAllowed", "Method not allowed")
        bucket = self.state.bucket(bucket_name)
        kind = query.get("uploadType")
        if kind == "media":
            given: dict[str, Any] = {"contentType": request.headers.get("Content-Type")}
            data, name = await request.read(), query.get("name", "")
        elif kind == "multipart":
            given, data = _parts(request.headers.get("Content-Type", ""), await request.read())
            name = query.get("name") or str(given.get("name", ""))
        elif kind == "resumable":
            return await self._begin(request, bucket, query)
        else:
            raise bad("Invalid uploadType")
        version = self.state.write(bucket, name, data, given, query)
        return answered(request, version.resource(bucket.name, root_of(request)))

    async def _begin(
        self, request: web.Request, bucket: Bucket, query: dict[str, str]
    ) -> web.Response:
        given = await json_body(request)
        name = query.get("name") or str(given.get("name", ""))
        check_name(name)
        if check(query, bucket.live.get(name)):
            raise precondition()
        given.setdefault("contentType", request.headers.get("X-Upload-Content-Type"))
        fields_of(given)
        upload_id = secrets.token_urlsafe(24)
        self.sessions[upload_id] = Session(bucket, name, given, query)
        location = (
            f"{root_of(request)}/upload/storage/v1/b/{bucket.name}/o"
            f"?uploadType=resumable&upload_id={upload_id}"
        )
        headers = {"Location": location, "X-GUploader-UploadID": upload_id}
        return web.Response(status=200, headers=headers)

    async def _continue(self, request: web.Request, upload_id: str) -> web.Response:
        session = self.sessions.get(upload_id)
        if session is None:
            raise ApiError(404, "notFound", "No such upload session.")
        if request.method == "DELETE":
            del self.sessions[upload_id]
            return web.Response(status=499, reason="Client Closed Request")
        if request.method != "PUT":
            raise ApiError(405, "httpMethodNotAllowed", "Method not allowed")
        if session.done is not None:
            await request.read()
            return self._finished(request, session)
        first, total = _announced(request.headers.get("Content-Range"))
        if first is None:  # asks how far it is, or says how long it was
            await request.read()
            if total is None or total != len(session.data):
                return _so_far(session)
            return self._finish(request, session, upload_id)
        if first > len(session.data):
            raise ApiError(
                503,
                "backendError",
                f"Invalid request. According to the Content-Range header, the upload offset is "
                f"{first} byte(s), which exceeds already uploaded size of {len(session.data)} "
                f"byte(s).",
            )
        skip = len(session.data) - first
        received = bytearray()
        is_whole = is_last = False
        is_all = "Content-Range" not in request.headers
        try:
            async for chunk in request.content.iter_any():
                received += chunk
            is_whole = True
        finally:
            fresh = received[skip:]
            is_last = is_whole and (is_all or first + len(received) == total)
            if not is_last:
                del fresh[len(fresh) - len(fresh) % _UNIT :]
            session.data += fresh
        if not is_last:
            return _so_far(session)
        return self._finish(request, session, upload_id)

    def _finish(self, request: web.Request, session: Session, upload_id: str) -> web.Response:
        given = dict(session.given)
        for pair in request.headers.get("X-Goog-Hash", "").split(","):
            name, _, value = pair.strip().partition("=")
            if name in ("crc32c", "md5"):
                given["md5Hash" if name == "md5" else name] = value
        try:
            session.done = self.state.write(
                session.bucket, session.name, bytes(session.data), given, session.query
            )
        except ApiError:
            del self.sessions[upload_id]
            raise
        session.data.clear()
        return self._finished(request, session)

    def _finished(self, request: web.Request, session: Session) -> web.Response:
        assert session.done is not None
        resource = session.done.resource(session.bucket.name, root_of(request))
        return answered(request, resource)

    def open(self) -> list[str]:
        """``bucket/name`` of each upload that has neither ended nor been cancelled."""
        return [f"{s.bucket.name}/{s.name}" for s in self.sessions.values() if s.done is None]


def _announced(header: str | None) -> tuple[int | None, int | None]:
    """(offset of the first byte, total length), each None where it is not said."""
    if header is None:
        return 0, None
    found = _RANGE.fullmatch(header)
    if found is None:
        raise bad("Failed to parse Content-Range header.")
    total = None if found[3] == "*" else int(found[3])
    return (None if found[1] is None else int(found[1])), total


def _so_far(session: Session) -> web.Response:
    headers = {"X-Range-MD5": "0"} if session.data else {}
    if session.data:
        headers["Range"] = f"bytes=0-{len(session.data) - 1}"
    return web.Response(status=308, reason="Resume Incomplete", headers=headers)


def _parts(content_type: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """multipart/related: the resource in JSON, then the media."""
    found = re.search(r'boundary="?([^";]+)"?', content_type)
    if not content_type.startswith("multipart/related") or found is None:
        raise bad("Multipart must be of type multipart/related with a boundary.")
    mark = b"--" + found[1].encode()
    pieces = (b"\r\n" + body).split(b"\r\n" + mark)
    if len(pieces) != 4 or pieces[3][:2] != b"--":
        raise bad("Malformed multipart body.", "badContent")
    headers, _, data = pieces[2].removeprefix(b"\r\n").partition(b"\r\n\r\n")
    _, _, document = pieces[1].removeprefix(b"\r\n").partition(b"\r\n\r\n")
    try:
        given = json.loads(document)
    except ValueError:
        raise bad("Parse Error", "parseError") from None
    kind = re.search(rb"(?im)^content-type:\s*([^\r\n]+)", headers)
    if kind is not None:
        given.setdefault("contentType", kind[1].decode())
    return given, data
