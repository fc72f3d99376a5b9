"""Two more whole drivers for the suite: one that can do the least, one that signs requests."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import inspect
import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qs, parse_qsl, quote, unquote, urlencode, urlsplit

from trove_async.driver import Driver, Features, GetOptions, PutOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import TroveError
from trove_async.model import PresignedRequest
from trove_async.testing.faults import Source

KEY = b"a key of this test alone"


class PoorDriver:
    """Just the contract: no capability, no condition, nothing native."""

    name = "poor"
    in_memory = True
    features = Features(late_metadata=True, ready=True)

    def __init__(self) -> None:
        inner = MemoryDriver()
        for verb, member in vars(Driver).items():
            if inspect.iscoroutinefunction(member):
                vars(self)[verb] = getattr(inner, verb)


class Signing(MemoryDriver):
    """Presigned requests, answered by a small HTTP server that is open as long as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._server: asyncio.Server | None = None
        self._port = 0

    async def open(self) -> None:
        await super().open()
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()
        await super().close()

    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        return self._signed("GET", bucket, key, expires, headers, {})

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        return self._signed("PUT", bucket, key, expires, {}, headers)

    def _signed(
        self,
        method: str,
        bucket: str,
        key: str,
        expires: float,
        shown: Mapping[str, str],
        sent: Mapping[str, str],
    ) -> PresignedRequest:
        self._check()
        path = f"/{bucket}/{quote(key, safe='')}"
        fields = {"until": f"{time.time() + expires:.3f}", **shown}
        fields |= {f"bound-{name}": value for name, value in sent.items()}
        query = urlencode(fields)
        query += f"&signature={self.signature(method, path, query)}"
        url = f"http://127.0.0.1:{self._port}{path}?{query}"
        plain = {name: value for name, value in sent.items() if name == "content-type"}
        return PresignedRequest(method, url, plain)

    def signature(self, method: str, path: str, query: str) -> str:
        return hmac.new(KEY, f"{method}\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()

    # -- the other side ------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, target, _ = head[0].split(" ")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            status, shown, answer = await self._answer(method, target, headers, body)
            lines = [f"HTTP/1.1 {status} .", f"content-length: {len(answer)}", *shown]
            writer.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer)
            await writer.drain()
        finally:
            writer.close()

    def permits(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> bool:
        parts = urlsplit(target)
        query, _, given = parts.query.rpartition("&signature=")
        if not hmac.compare_digest(given, self.signature(method, parts.path, query)):
            return False
        fields = dict(parse_qsl(query))
        held = {**headers, "content-length": str(len(body))}
        return time.time() < float(fields["until"]) and all(
            held.get(name.removeprefix("bound-")) == value
            for name, value in fields.items()
            if name.startswith("bound-") and name != "bound-checksum"
        )

    async def _answer(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, list[str], bytes]:
        if not self.permits(method, target, headers, body):
            return 403, [], b"no"
        parts = urlsplit(target)
        bucket, key = (unquote(part) for part in parts.path[1:].split("/", 1))
        fields = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            if method == "PUT":
                kind = headers.get("content-type", "application/octet-stream")
                await self.put(bucket, key, Source(body), PutOptions(kind))
                return 200, [], b""
            found = await self.get(bucket, key, GetOptions())
        except TroveError as error:
            return error.http_status, [], b"failed"
        data = b"".join([bytes(chunk) async for chunk in found.body])
        kind = fields.get("response-content-type", found.info.content_type)
        shown = [f"content-type: {kind}"]
        if "response-content-disposition" in fields:
            shown.append(f"content-disposition: {fields['response-content-disposition']}")
        return 200, shown, data


class SignsNoMethod(Signing):
    """A request of one method serves for all."""

    def signature(self, method: str, path: str, query: str) -> str:
        return super().signature("", path, query)


class SignsNoKey(Signing):
    def signature(self, method: str, path: str, query: str) -> str:
        return super().signature(method, "", query)


class NeverExpires(Signing):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        return await super().presign_get(bucket, key, 1e6, headers)


class BindsNothing(Signing):
    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        return await super().presign_put(bucket, key, expires, {})


class AsksBeforeItSigns(Signing):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.close()
        await writer.wait_closed()
        return await super().presign_get(bucket, key, expires, headers)


class QuotesWrongly(Signing):
    """As if a key were typed into an address bar."""

    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        made = await super().presign_get(bucket, key, expires, headers)
        return replace(made, url=made.url.replace("%2B", "+").replace("%3F", "?"))
