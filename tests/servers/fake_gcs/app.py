"""The server: which request goes where, faults by script, and what only tests may ask."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from tests.servers.fake_gcs.auth import Auth
from tests.servers.fake_gcs.batch import batched
from tests.servers.fake_gcs.errors import ApiError, bad, json_error, xml_error
from tests.servers.fake_gcs.listing import listed, token, untoken
from tests.servers.fake_gcs.objects import Objects
from tests.servers.fake_gcs.state import State
from tests.servers.fake_gcs.uploads import Uploads
from tests.servers.fake_gcs.wire import answered, json_body, query_of, root_of, segments
from tests.servers.fake_gcs.xml_api import XmlApi

__all__ = ["Fake"]

_MOST = 2 << 30


@dataclass(slots=True)
class Script:
    """Answers in place of the server, ``times`` times, for requests whose "METHOD target"
    holds ``when``. ``after``: only once the request has had its effect."""

    when: str
    status: int
    times: int = 1
    reason: str = "backendError"
    message: str = "Backend Error"
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    after: bool = False

    def answer(self) -> web.Response:
        if self.body is not None:
            return web.Response(status=self.status, text=self.body, headers=self.headers)
        return json_error(ApiError(self.status, self.reason, self.message, self.headers))


class Fake:
    def __init__(self, step: int = 8 << 20) -> None:
        self.state = State()
        self.auth = Auth()
        self.uploads = Uploads(self.state)
        self.objects = Objects(self.state, step)
        self.xml = XmlApi(self.state, self.auth)
        self.scripts: list[Script] = []
        self.seen: list[str] = []

    def app(self) -> web.Application:
        app = web.Application(client_max_size=_MOST)
        app.router.add_route("*", "/{tail:.*}", self.handle)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        parts = segments(request)
        if parts[0] == "_fake":
            return await self._control(request, parts[1])
        line = f"{request.method} {request.raw_path}"
        self.seen.append(line)
        del self.seen[:-10_000]
        script = next((s for s in self.scripts if s.times and s.when in line), None)
        if script is not None:
            script.times -= 1
            if not script.after:
                await request.read()
                return script.answer()
        is_json = parts[0] in ("storage", "upload", "batch", "token", "download")
        try:
            answer = await self.route(request, parts)
        except ApiError as error:
            if request.can_read_body:
                await request.read()
            answer = (json_error if is_json else xml_error)(error)
        answer.headers.setdefault("X-GUploader-UploadID", "fake-request-id")
        return script.answer() if script is not None else answer

    async def route(self, request: web.Request, parts: list[str]) -> web.StreamResponse:
        match parts:
            case ["token"]:
                return await self.auth.grant(request)
            case ["batch", "storage", "v1"]:
                return await batched(request, self.one)
            case ["upload", "storage", "v1", "b", bucket, "o"]:
                if "upload_id" not in query_of(request):  # its own secret
                    self.auth.check(request)
                return await self.uploads.handle(request, bucket)
            case ["storage", "v1", *rest] | ["download", "storage", "v1", *rest]:
                return await self._json(request, rest)
            case [bucket, name, *more] if bucket:
                return await self.xml.handle(request, bucket, "/".join([name, *more]))
        raise ApiError(404, "notFound", "Not Found")

    async def _json(self, request: web.Request, rest: list[str]) -> web.Response:
        self.auth.check(request, rest[1] if len(rest) > 1 else None)
        match rest:
            case ["b"]:
                return await self._buckets(request)
            case ["b", bucket]:
                return await self._bucket(request, bucket)
            case ["b", bucket, "o"]:
                found = listed(self.state.bucket(bucket), query_of(request), root_of(request))
                return answered(request, found)
            case ["b", bucket, "o", name]:
                return await self.objects.handle(request, bucket, name)
            case ["b", bucket, "o", name, "compose"]:
                return await self.objects.compose(request, bucket, name)
            case ["b", bucket, "o", name, "rewriteTo", "b", target, "o", new]:
                return await self.objects.rewrite(request, (bucket, name), (target, new))
        raise ApiError(404, "notFound", "Not Found")

    async def _buckets(self, request: web.Request) -> web.Response:
        query = query_of(request)
        project = query.get("project")
        if not project:
            raise bad("Required parameter: project", "required")
        root = root_of(request)
        if request.method == "POST":
            given = await json_body(request)
            bucket = self.state.create(str(given.get("name", "")), project, given)
            return answered(request, bucket.resource(root))
        names = sorted(
            name
            for name, bucket in self.state.buckets.items()
            if bucket.project == project and name.startswith(query.get("prefix", ""))
        )
        after = untoken(query["pageToken"]) if query.get("pageToken") else ""
        names = [name for name in names if name > after]
        most = int(query.get("maxResults") or 1000)
        page: dict[str, Any] = {"kind": "storage#buckets"}
        if len(names) > most:
            names = names[:most]
            page["nextPageToken"] = token(names[-1])
        if names:
            page["items"] = [self.state.buckets[name].resource(root) for name in names]
        return answered(request, page)

    async def _bucket(self, request: web.Request, name: str) -> web.Response:
        bucket = self.state.bucket(name)
        if request.method == "DELETE":
            self.state.drop(name)
            gone = [key for key, s in self.uploads.sessions.items() if s.bucket is bucket]
            for key in gone:
                del self.uploads.sessions[key]
            return web.Response(status=204)
        if request.method == "PATCH":
            given = await json_body(request)
            wanted = query_of(request).get("ifMetagenerationMatch")
            if wanted is not None and wanted != str(bucket.metageneration):
                raise ApiError(412, "conditionNotMet", "Precondition Failed")
            self.state.edit(bucket, given)
        elif request.method != "GET":
            raise ApiError(405, "httpMethodNotAllowed", "Method not allowed")
        return answered(request, bucket.resource(root_of(request)))

    async def one(self, method: str, target: str, headers: dict[str, str]) -> tuple[int, str]:
        """A request inside a batch; only deletes are served."""
        path, _, raw = target.partition("?")
        query = dict(pair.partition("=")[::2] for pair in raw.split("&") if pair)
        query = {name: unquote(value) for name, value in query.items()}
        parts = [unquote(part) for part in path.split("/")[1:]]
        try:
            match parts:
                case ["storage", "v1", "b", bucket, "o", name] if method == "DELETE":
                    self.state.bucket(bucket).delete(name, query.get("generation"))
                    return 204, ""
            raise bad("Only deletes can be batched here")
        except ApiError as error:
            return error.status, str(json_error(error).text)

    async def _control(self, request: web.Request, verb: str) -> web.Response:
        given = await json_body(request)
        if verb == "keys":
            self.auth.register(given["email"], given["public_key"])
        elif verb == "script":
            self.scripts.append(Script(**given))
        elif verb == "clear":
            self.scripts.clear()
            self.seen.clear()
        elif verb == "revoke":
            self.auth.tokens.clear()
        elif verb == "public":
            self.auth.public.add(given["bucket"])
        elif verb == "step":
            self.objects.step = given["bytes"]
        document = {
            "uploads": self.uploads.open(),
            "grants": self.auth.grants,
            "seen": self.seen,
            "rewrites": len(self.objects.rewrites),
        }
        return web.Response(text=json.dumps(document), content_type="application/json")


async def serve(port: int, step: int) -> None:
    """Until it is cancelled; prints the port once it listens."""
    runner = web.AppRunner(Fake(step).app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()
