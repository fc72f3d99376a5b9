"""Bodies over the SDK's transport, both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from azure.core.rest import AsyncHttpResponse

from trove_async.driver import Bytes
from trove_async.driver.progress import moved
from trove_async.drivers.azure.faults import broken
from trove_async.drivers.azure.wire import Request
from trove_async.errors import BackendError

__all__ = ["Download", "Payload", "Session", "bounded_read"]

_SLICE: Final = 256 * 1024


class Payload(payload.Payload):
    """Pieces as one body, written in slices so that nothing is copied as a whole. Each slice
    that the network takes is progress; after the last one the read timeout counts."""

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

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Makes it a body to the SDK, which passes it on as it is."""
        raise TypeError("written by aiohttp only")

    async def write(self, writer: AbstractStreamWriter) -> None:
        scope = self._scope
        now = asyncio.get_running_loop().time
        for piece in self._pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                await writer.write(view[start : start + _SLICE])
                if scope is not None and not scope.expired():
                    scope.reschedule(now() + self._idle)
                moved()
        if scope is not None and not scope.expired():
            scope.reschedule(None)

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)


class Session:
    """What the SDK's transport asks of an aiohttp session, with an idle timeout for bodies on
    their way up: aiohttp's own begins when they are there."""

    auto_decompress = False

    def __init__(self, session: aiohttp.ClientSession, idle: float) -> None:
        self._session = session
        self._idle = idle

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closed by who made it."""

    async def request(
        self, method: str, url: str, *, data: Any = None, **options: Any
    ) -> aiohttp.ClientResponse:
        if not isinstance(data, Payload):
            return await self._session.request(method, url, data=data, **options)
        async with asyncio.timeout(self._idle) as scope:
            data.watch(scope, self._idle)
            return await self._session.request(method, url, data=data, **options)


class Download:
    """The body of a Get Blob as it comes; its connection goes back at the end."""

    __slots__ = ("_chunks", "_host", "_request", "_response")

    def __init__(self, response: AsyncHttpResponse, request: Request, host: str) -> None:
        self._response: AsyncHttpResponse | None = response
        self._chunks = response.iter_raw()
        self._request = request
        self._host = host

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._response is None:
            raise StopAsyncIteration
        try:
            chunk: bytes = await self._chunks.__anext__()
        except StopAsyncIteration:
            await self.aclose()
            raise
        except Exception as exc:
            await self.aclose()
            raise broken(exc, self._host, self._request.bucket, self._request.key) from exc
        return chunk

    async def aclose(self) -> None:
        """What has not been read is not waited for: the connection is dropped then."""
        response, self._response = self._response, None
        if response is not None:
            try:
                await self._chunks.aclose()  # type: ignore[attr-defined]
            finally:
                await response.close()

    def __del__(self) -> None:
        """Dropped unread: nothing else would end the connection, which the pool remembers."""
        inner = getattr(self._response, "internal_response", None)
        if isinstance(inner, aiohttp.ClientResponse):
            inner.close()


async def bounded_read(response: AsyncHttpResponse, most: int) -> bytes:
    """The whole body; BackendError past ``most`` bytes."""
    pieces: list[bytes] = []
    length = 0
    async for piece in response.iter_raw():
        length += len(piece)
        if length > most:
            raise BackendError(f"an answer of more than {most} bytes")
        pieces.append(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
