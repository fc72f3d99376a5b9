"""Bodies over aiohttp, both ways, and what aiohttp's errors mean."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
from yarl import URL

from trove_async.driver.base import Bytes
from trove_async.driver.progress import moved
from trove_async.drivers.s3.config import S3Config
from trove_async.drivers.s3.faults import secretless
from trove_async.drivers.s3.wire import Request
from trove_async.errors import (
    BackendError,
    DriverClosedError,
    InvalidInputError,
    OperationTimeoutError,
    TroveError,
    UnavailableError,
)

__all__ = ["Download", "Http", "Proxied", "Response", "bounded_read", "let_go", "translated"]

_SLICE: Final = 256 * 1024
_BUFFER: Final = 512 * 1024  # bytes of a body that are read ahead of its consumer


class Content(Protocol):
    async def readany(self) -> bytes:
        """Some bytes of the body; none at its end."""
        ...

    def at_eof(self) -> bool: ...


class Response(Protocol):
    """An answer of which the headers are there."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> Mapping[str, str]: ...
    @property
    def method(self) -> str: ...
    @property
    def host(self) -> str | None: ...
    @property
    def content(self) -> Content: ...
    def release(self) -> object:
        """Its connection can be used again, if the body was read to its end."""
        ...

    def close(self) -> object: ...


class Http(Protocol):
    """How a request gets to its server."""

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        host: str,
        headers: Mapping[str, str],
        pieces: Sequence[Bytes] = (),
        size: int = 0,
    ) -> Response: ...
    async def close(self) -> None: ...


class Proxied:
    """aiohttp, where the environment names a proxy."""

    def __init__(self, config: S3Config) -> None:
        self._idle = config.read_timeout
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=config.connections, ttl_dns_cache=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=config.connect_timeout, sock_read=config.read_timeout
            ),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            auto_decompress=False,  # stored bytes are stored bytes
            read_bufsize=_BUFFER,
            trust_env=True,
        )
        # A condition that our own first request met must not be asked again in silence.
        self._session._retry_connection = False

    async def request(
        self,
        method: str,
        origin: str,
        target: str,
        host: str,
        headers: Mapping[str, str],
        pieces: Sequence[Bytes] = (),
        size: int = 0,
    ) -> Response:
        url = URL(origin + target, encoded=True)
        data = Payload(pieces, size) if size else None
        async with asyncio.timeout(self._idle) as scope:
            if data is not None:
                data.watch(scope, self._idle)
            else:
                scope.reschedule(None)
            try:
                response = await self._session.request(
                    method, url, headers=headers, data=data, allow_redirects=False
                )
            finally:
                if data is not None:
                    data.watch(None, 0)
        return response if data is None or data.is_sent else Refused(response, data)

    async def close(self) -> None:
        await self._session.close()


class Refused:
    """An answer that came before all of the body was sent: no more of it is."""

    def __init__(self, response: aiohttp.ClientResponse, data: Payload) -> None:
        self._response = response
        self._data = data
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.method = response.method
        self.host = response.host
        self.content = response.content

    def release(self) -> None:
        self._response.release()
        self._data.end()

    def close(self) -> None:
        self._response.close()
        self._data.end()


class Payload(payload.Payload):
    """Pieces as one body, written in slices so that nothing is copied as a whole. Each slice
    that the network takes is progress; after the last one the read timeout counts."""

    def __init__(self, pieces: Sequence[Bytes], size: int) -> None:
        super().__init__(pieces)
        self._pieces = pieces
        self._length = size
        self._scope: asyncio.Timeout | None = None
        self._idle = 0.0
        self._transport: asyncio.Transport | None = None
        self.is_sent = False

    def watch(self, scope: asyncio.Timeout | None, idle: float) -> None:
        """From now on progress is told to ``scope``; None: nobody listens any more."""
        self._scope, self._idle = scope, idle

    def end(self) -> None:
        """After the answer: a body that was refused on its way is not sent on."""
        if not self.is_sent and self._transport is not None:
            self._transport.abort()

    @property
    def size(self) -> int:
        return self._length

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a body of bytes")

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._transport = getattr(writer, "transport", None)
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                await writer.write(view[start : start + _SLICE])
                self._progress(self._idle)
                moved()
        self.is_sent = True
        self._progress(None)

    def _progress(self, idle: float | None) -> None:
        if self._scope is not None and not self._scope.expired():
            now = asyncio.get_running_loop().time()
            self._scope.reschedule(None if idle is None else now + idle)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)


class Download:
    """The body of a GetObject as it comes; its connection goes back at the end."""

    __slots__ = ("_content", "_loop", "_request", "_response", "headers")

    def __init__(self, response: Response, request: Request) -> None:
        self._response: Response | None = response
        self._content = response.content
        self._request = request
        self._loop = asyncio.get_running_loop()
        self.headers: Mapping[str, str] = response.headers

    def __del__(self) -> None:
        """Its connection keeps a response alive."""
        if self._response is not None:
            let_go(self._loop, self._response.close)

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
            raise translated(exc, self._request, response.host or "") from exc
        if not chunk:
            self._response = None
            response.release()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """What has not been read is not waited for: the connection is dropped then."""
        response, self._response = self._response, None
        if response is not None:
            if self._content.at_eof():
                response.release()
            else:
                response.close()


def let_go(loop: asyncio.AbstractEventLoop, close: Callable[[], object]) -> None:
    """For finalizers, which may run in any thread, and after the loop."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(close)


async def bounded_read(response: Response, most: int) -> bytes:
    """The whole body; BackendError past ``most`` bytes."""
    content = response.content
    data = await content.readany()
    if content.at_eof():
        return data
    pieces = [data]
    length = len(data)
    while piece := await content.readany():
        length += len(piece)
        if length > most:
            response.close()
            raise BackendError(f"an answer of more than {most} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def translated(exc: Exception, request: Request, host: str) -> TroveError:
    """To be raised from ``exc``."""
    where = {"bucket": request.bucket or None, "key": request.key or None}
    if isinstance(exc, TimeoutError):
        return OperationTimeoutError(f"{host} does not answer", **where)
    if isinstance(exc, aiohttp.ClientSSLError | ssl.SSLError):
        return BackendError(f"no secure connection to {host}", **where)
    if isinstance(exc, aiohttp.InvalidURL):
        return InvalidInputError("this cannot be a URL", **where)
    if isinstance(exc, aiohttp.ClientError | BotoCoreError | OSError):
        about = secretless(str(exc))[:200]
        return UnavailableError(f"the connection to {host} failed: {about}", **where)
    if isinstance(exc, RuntimeError) and "closed" in str(exc).lower():
        return DriverClosedError("the driver was closed", **where)
    raise exc
