"""The part of the XML API that carries single objects, for tokens and for signed URLs.

https://cloud.google.com/storage/docs/xml-api/get-object-download
https://cloud.google.com/storage/docs/xml-api/put-object-upload
https://cloud.google.com/storage/docs/xml-api/reference-headers
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.servers.fake_gcs.auth import Auth
from tests.servers.fake_gcs.errors import ApiError, bad
from tests.servers.fake_gcs.state import State, check
from tests.servers.fake_gcs.wire import media, query_of

__all__ = ["XmlApi"]

_CONDITIONS = {
    "x-goog-if-generation-match": "ifGenerationMatch",
    "x-goog-if-metageneration-match": "ifMetagenerationMatch",
}


class XmlApi:
    def __init__(self, state: State, auth: Auth) -> None:
        self.state = state
        self.auth = auth

    async def handle(self, request: web.Request, bucket_name: str, name: str) -> web.Response:
        query = query_of(request)
        if any(given.startswith("X-Goog-") for given in query):
            self.auth.check_signature(request)
        else:
            self.auth.check(request, bucket_name)
        bucket = self.state.bucket(bucket_name)
        conditions = {
            wanted: request.headers[header]
            for header, wanted in _CONDITIONS.items()
            if header in request.headers
        }
        if request.method in ("GET", "HEAD"):
            version = bucket.find(name, query.get("generation"))
            check(conditions, version)
            return media(request, version, with_metadata=True)
        if request.method == "PUT":
            return await self._put(request, bucket_name, name, conditions)
        if request.method == "DELETE":
            check(conditions, bucket.find(name, query.get("generation")))
            bucket.delete(name, query.get("generation"))
            return web.Response(status=204)
        raise ApiError(405, "MethodNotAllowed", "The method is not allowed")

    async def _put(
        self, request: web.Request, bucket_name: str, name: str, conditions: dict[str, str]
    ) -> web.Response:
        data = await request.read()
        allowed = request.headers.get("x-goog-content-length-range")
        if allowed is not None:
            least, most = (int(number) for number in allowed.split(","))
            if len(data) < least:
                raise bad("Your proposed upload is smaller than the minimum.", "tooSmall")
            if len(data) > most:
                raise bad("Your proposed upload exceeds the maximum.", "tooLarge")
        given: dict[str, Any] = {
            "contentType": request.headers.get("Content-Type"),
            "metadata": {
                header[12:].lower(): value
                for header, value in request.headers.items()
                if header.lower().startswith("x-goog-meta-")
            },
        }
        for pair in request.headers.get("x-goog-hash", "").split(","):
            kind, _, value = pair.strip().partition("=")
            if kind in ("crc32c", "md5"):
                given["md5Hash" if kind == "md5" else kind] = value
        if "Content-MD5" in request.headers:
            given["md5Hash"] = request.headers["Content-MD5"]
        bucket = self.state.bucket(bucket_name)
        version = self.state.write(bucket, name, data, given, conditions)
        headers = {"x-goog-generation": str(version.generation), "ETag": f'"{version.etag}"'}
        return web.Response(status=200, headers=headers)
