"""Requests over the one aiohttp session, and what its errors mean."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from json import JSONDecodeError, loads
from typing import Any, Final, NoReturn

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from trove_async.driver.base import Bytes
from trove_async.driver.limiter import Limiter
from trove_async.driver.progress import moved
from trove_async.drivers.gcs.config import GCSConfig
from trove_async.drivers.gcs.credentials import Tokens
from trove_async.drivers.gcs.faults import error_of, refusal_of, secretless
from trove_async.errors import (
    BackendError,
    DriverClosedError,
    InvalidInputError,
    OperationTimeoutError,
    ThrottledError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["Client", "Download", "new_session"]

_SLICE: Final = 256 * 1024
_BUFFER: Final = 512 * 1024  # bytes of a body that are read ahead of its consumer
_INSTANT: Final = 64 * 1024  # bytes that go to the kernel without waiting for the network
_MOST_JSON: Final = 64 * 1024 * 1024
_MOST_ERROR: Final = 64 * 1024


def new_session(config: GCSConfig) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=config.connections, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=config.connect_timeout, sock_read=config.read_timeout
        ),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        auto_decompress=False,  # stored bytes are stored bytes
        read_bufsize=_BUFFER,
        trust_env=bool(urllib.request.getproxies()),
    )
    # A condition that our own first request met must not be asked again in silence.
    session._retry_connection = False
    return session


class Payload(payload.Payload):
    """Pieces as one body, written in slices so that nothing is copied as a whole. Each slice
    that the network takes is progress; after the last one the session's read timeout counts."""

    def __init__(self, pieces: Sequence[Bytes], size: int) -> None:
        super().__init__(pieces)
        self._pieces = pieces
        self._length = size
        self._scope: asyncio.Timeout | None = None
        self._idle = 0.0

    def watch(self, scope: asyncio.Timeout, idle: float) -> None:
        self._scope, self._idle = scope, idle

    @property
    def size(self) -> int:
        return self._length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body of bytes")

    async def write(self, writer: AbstractStreamWriter) -> None:
        scope = self._scope
        if scope is None:
            for piece in self._pieces:
                await writer.write(piece)
            return
        now = asyncio.get_running_loop().time
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                await writer.write(view[start : start + _SLICE])
                if not scope.expired():
                    scope.reschedule(now() + self._idle)
                moved()
        if not scope.expired():
            scope.reschedule(None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)


class Client:
    """``target`` is path and query as they go over the wire, encoded already."""

    def __init__(
        self, session: aiohttp.ClientSession, root: str, tokens: Tokens, idle: float
    ) -> None:
        self.session = session
        self.root = root
        self.tokens = tokens
        self.limiter = Limiter()
        self._idle = idle
        self._host = URL(root).host or root

    async def open(
        self,
        method: str,
        target: str,
        bucket: str = "",
        key: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        pieces: Sequence[Bytes] | None = None,
        size: int = 0,
    ) -> aiohttp.ClientResponse:
        """The answer, once its head is there; for a refusal, its error. A token that has become
        invalid is renewed once."""
        if self.limiter.distance:
            await self.limiter.turn()
        token = self.tokens.ready()
        if token is None and self.tokens.is_needed:
            token = await self.tokens.current()
        try:
            return await self._once(method, target, bucket, key, headers, pieces, size, token)
        except UnauthenticatedError:
            if token is None:
                raise
            self.tokens.spoil(token)
        token = await self.tokens.current()
        return await self._once(method, target, bucket, key, headers, pieces, size, token)

    async def _once(
        self,
        method: str,
        target: str,
        bucket: str,
        key: str,
        headers: Mapping[str, str] | None,
        pieces: Sequence[Bytes] | None,
        size: int,
        token: str | None,
    ) -> aiohttp.ClientResponse:
        sent = dict(headers) if headers else {}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        body: Payload | bytes | None = None
        if pieces is not None:
            body = Payload(pieces, size) if size else b""
        url = URL(self.root + target, encoded=True)
        try:
            if size <= _INSTANT:
                response = await self.session.request(
                    method, url, headers=sent, data=body, allow_redirects=False
                )
            else:
                assert isinstance(body, Payload)
                response = await self._long(method, url, sent, body)
        except (aiohttp.ClientError, OSError, RuntimeError, ValueError) as exc:
            self.failed(exc, bucket, key)
        status = response.status
        if status < 300 or status == 308:
            if self.limiter.distance:
                self.limiter.succeeded()
            return response
        raise await self._refused(response, bucket, key)

    async def _long(
        self, method: str, url: URL, headers: dict[str, str], body: Payload
    ) -> aiohttp.ClientResponse:
        async with asyncio.timeout(None) as scope:
            body.watch(scope, self._idle)
            return await self.session.request(
                method, url, headers=headers, data=body, allow_redirects=False
            )

    async def _refused(self, response: aiohttp.ClientResponse, bucket: str, key: str) -> TroveError:
        try:
            body = b""
            while len(body) < _MOST_ERROR and (piece := await response.content.readany()):
                body += piece
        except (aiohttp.ClientError, OSError) as exc:
            self.failed(exc, bucket, key)
        finally:
            _left(response)
        said = response.headers
        refusal = refusal_of(
            response.status, body, said.get("x-guploader-uploadid", ""), said.get("retry-after")
        )
        error = error_of(refusal, bucket, key)
        if isinstance(error, ThrottledError) or response.status == 503:
            self.limiter.throttled()
        return error

    async def json(
        self,
        method: str,
        target: str,
        bucket: str = "",
        key: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        pieces: Sequence[Bytes] | None = None,
        size: int = 0,
    ) -> dict[str, Any]:
        """The document of the answer; {} for one without."""
        response = await self.open(
            method, target, bucket, key, headers=headers, pieces=pieces, size=size
        )
        return await self.document(response, bucket, key)

    async def document(
        self, response: aiohttp.ClientResponse, bucket: str, key: str
    ) -> dict[str, Any]:
        data = await self.read(response, bucket, key)
        if not data:
            return {}
        try:
            found = loads(data)
        except (JSONDecodeError, UnicodeDecodeError, RecursionError) as exc:
            raise BackendError("an answer that is not JSON", bucket=bucket, key=key) from exc
        if not isinstance(found, dict):
            raise BackendError("an answer of another form", bucket=bucket, key=key)
        return found

    async def read(self, response: aiohttp.ClientResponse, bucket: str, key: str) -> bytes:
        content = response.content
        try:
            data = await content.readany()
            if content.at_eof():
                return data
            pieces, length = [data], len(data)
            while piece := await content.readany():
                length += len(piece)
                if length > _MOST_JSON:
                    raise BackendError(f"an answer of more than {_MOST_JSON} bytes")
                pieces.append(piece)
            return b"".join(pieces)
        except (aiohttp.ClientError, OSError) as exc:
            self.failed(exc, bucket, key)
        finally:
            _left(response)

    def failed(self, exc: Exception, bucket: str, key: str) -> NoReturn:
        """Raises what ``exc`` means."""
        where = {"bucket": bucket or None, "key": key or None}
        host = self._host
        if isinstance(exc, TimeoutError):
            raise OperationTimeoutError(f"{host} does not answer", **where) from exc
        if isinstance(exc, aiohttp.ClientSSLError):
            raise BackendError(f"no secure connection to {host}", **where) from exc
        if isinstance(exc, aiohttp.InvalidURL):
            raise InvalidInputError("this cannot be a URL", **where) from exc
        if isinstance(exc, aiohttp.ClientResponseError):  # an answer that is no HTTP
            raise UnavailableError(f"{host} answered nonsense", **where) from None
        if isinstance(exc, aiohttp.ClientError | OSError):
            about = secretless(str(exc))[:200]
            raise UnavailableError(f"the connection to {host} failed: {about}", **where) from exc
        if isinstance(exc, RuntimeError) and "closed" in str(exc).lower():
            raise DriverClosedError("the driver was closed", **where) from exc
        raise exc


def _left(response: aiohttp.ClientResponse) -> None:
    """Its connection goes back, or is dropped with what has not been read."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


class Download:
    """The body of an answer as it comes; its connection goes back at the end."""

    __slots__ = ("_client", "_content", "_loop", "_response", "_where")

    def __init__(
        self, client: Client, response: aiohttp.ClientResponse, bucket: str, key: str
    ) -> None:
        self._client = client
        self._response: aiohttp.ClientResponse | None = response
        self._content = response.content
        self._where = bucket, key
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        """aiohttp keeps a response alive as long as its connection. This may run in any thread,
        and after the loop."""
        if self._response is not None:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._response.close)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        response = self._response
        if response is None:
            raise StopAsyncIteration
        try:
            chunk = await self._content.readany()
        except (aiohttp.ClientError, OSError, RuntimeError) as exc:
            await self.aclose()
            self._client.failed(exc, *self._where)
        if not chunk:
            self._response = None
            response.release()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """What has not been read is not waited for: the connection is dropped then."""
        response, self._response = self._response, None
        if response is not None:
            _left(response)
