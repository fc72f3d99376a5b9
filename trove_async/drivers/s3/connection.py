"""One connection of HTTP/1.1 and the answer that is on its way on it."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final, Protocol, cast

from aiohttp import ClientConnectionError, ClientPayloadError, ServerDisconnectedError

from trove_async.driver.base import Bytes
from trove_async.driver.progress import moved
from trove_async.drivers.s3.framing import Framing, framing_of, read_head

__all__ = ["Connection", "Response"]

_MOST_HEAD: Final = 64 * 1024
_AHEAD: Final = 512 * 1024  # bytes of a body that are read ahead of its consumer
_SLICE: Final = 256 * 1024
_JOINED: Final = 64 * 1024  # bytes of a body that travel in one call with its headers


class Owner(Protocol):
    read_timeout: float
    """Seconds without a byte in either direction."""

    def back(self, connection: Connection) -> None:
        """Its answer has been read to the end, and it can be used again."""
        ...

    def lost(self, connection: Connection) -> None: ...


class Response:
    """Pieces of the body are handed on as they came from the network."""

    __slots__ = (
        "_connection",
        "_error",
        "_held",
        "_is_over",
        "_pieces",
        "_waiter",
        "headers",
        "host",
        "method",
        "status",
    )

    def __init__(
        self, connection: Connection, method: str, host: str, status: int, headers: dict[str, str]
    ) -> None:
        self._connection: Connection | None = connection
        self.method = method
        self.host = host
        self.status = status
        self.headers: Mapping[str, str] = headers
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def content(self) -> Response:
        return self

    async def readany(self) -> bytes:
        """Some bytes; none at the end."""
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._is_over:
                return b""
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        piece = self._pieces.popleft()
        self._held -= len(piece)
        if self._connection is not None and self._held < _AHEAD:
            self._connection.read_on()
        return piece

    def at_eof(self) -> bool:
        return self._is_over and not self._pieces

    def release(self) -> None:
        """A connection whose answer has not been read to its end cannot be used again."""
        self.close()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort(ClientConnectionError("the answer was closed"))

    def feed(self, pieces: list[bytes]) -> bool:
        """Whether more is wanted."""
        for piece in pieces:
            self._pieces.append(piece)
            self._held += len(piece)
        self._wake()
        return self._held < _AHEAD

    def end(self, error: Exception | None = None) -> None:
        self._connection = None
        self._is_over = error is None
        self._error = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Connection(asyncio.Protocol):
    """Belongs to one request from its owner until its answer has been read, then goes back."""

    def __init__(self, owner: Owner, origin: str) -> None:
        self._owner = owner
        self.origin = origin
        self.idle_since = 0.0
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._method = self._host = ""
        self._buffer = b""
        self._answer: asyncio.Future[Response] | None = None
        self._response: Response | None = None
        self._framing: Framing | None = None
        self._is_kept = False
        self._is_sent = True
        self._is_paused = False
        self._room: asyncio.Future[None] | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._error: Exception | None = None
        self.is_busy = False
        self.is_lost = False

    @property
    def is_usable(self) -> bool:
        return (
            self._error is None and self._transport is not None and not self._transport.is_closing()
        )

    # -- what asyncio calls ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        if self._deadline is not None:
            self._progress()
        response = self._response
        if response is None:
            if self._answer is None:
                self.abort(ClientPayloadError("an answer that nobody asked for"))
                return
            try:
                data = self._headed(data)
            except ClientPayloadError as exc:
                self.abort(exc)
                return
            response = self._response
            if response is None:
                return
        framing = self._framing
        assert framing is not None
        try:
            pieces = framing.take(data) if data else []
        except ClientPayloadError as exc:
            self.abort(exc)
            return
        if pieces and not response.feed(pieces) and not framing.is_over:
            self._pause()
        if framing.is_over:
            self._over(response, framing)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        error = self._error or exc
        framing, response = self._framing, self._response
        if error is None and response is not None and framing is not None and framing.can_end():
            self._is_kept = False
            self._over(response, framing)
        else:
            self._fail(error)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if self._deadline is not None:
            self._progress()
        if room is not None and not room.done():
            room.set_result(None)

    # -- a request -------------------------------------------------------------------------

    async def exchange(
        self,
        method: str,
        host: str,
        head: bytes,
        pieces: Sequence[Bytes],
        size: int,
    ) -> Response:
        """The answer as soon as its headers are there; cancelled or failed, no connection."""
        transport = self._transport
        assert transport is not None
        answer: asyncio.Future[Response] = self._loop.create_future()
        self._answer = answer
        self._method, self._host = method, host
        self._progress()
        try:
            if size <= _JOINED:
                transport.write(b"".join([head, *pieces]) if size else head)
            else:
                self._is_sent = False
                transport.write(head)
                await self._write(transport, answer, pieces)
            return await answer
        except BaseException:
            if answer.done() and not answer.cancelled() and answer.exception() is None:
                answer.result().close()  # it may have been read, and the connection be another's
            else:
                answer.cancel()
                self.abort(ClientConnectionError("the request was given up"))
            raise

    async def _write(
        self,
        transport: asyncio.Transport,
        answer: asyncio.Future[Response],
        pieces: Sequence[Bytes],
    ) -> None:
        """Ends early when the answer is there already: then it is a refusal."""
        for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), _SLICE):
                if answer.done():
                    return
                if self._room is not None:
                    await asyncio.wait((self._room, answer), return_when="FIRST_COMPLETED")
                    if answer.done():
                        return
                transport.write(view[start : start + _SLICE])
                moved()
        self._is_sent = True

    def abort(self, error: Exception) -> None:
        """Whoever waits for this connection is told ``error``."""
        if not self.is_lost and self._error is None:
            self._error = error
            self._fail(error)
            if self._transport is not None:
                self._transport.abort()

    def _fail(self, error: Exception | None) -> None:
        answer, self._answer = self._answer, None
        response, self._response = self._response, None
        if answer is not None and not answer.done():
            answer.set_exception(error or ServerDisconnectedError())
        if response is not None:
            response.end(error or ClientPayloadError("the body ended too early"))

    def _headed(self, data: bytes) -> bytes:
        """Makes the response once its headers are complete; what follows them."""
        data = self._buffer + data if self._buffer else data
        while True:
            end = data.find(b"\r\n\r\n", 0, _MOST_HEAD)
            if end < 0:
                if len(data) > _MOST_HEAD:
                    raise ClientPayloadError("more headers than are read")
                self._buffer = data
                return b""
            head = read_head(data[:end])
            data = data[end + 4 :]
            if head.status >= 200:
                break
            if head.status == 101:
                raise ClientPayloadError("another protocol")
        self._buffer = b""
        self._framing = framing_of(self._method, head)
        self._is_kept = head.is_kept
        response = Response(self, self._method, self._host, head.status, head.headers)
        self._response = response
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(response)
        return data

    def _over(self, response: Response, framing: Framing) -> None:
        self._response = self._framing = None
        self._deadline = None
        response.end()
        self.read_on()
        if self._is_kept and self._is_sent and not framing.surplus and not self.is_lost:
            self._owner.back(self)
        else:
            self.abort(ClientConnectionError("the connection is not kept"))

    # -- flow and time ---------------------------------------------------------------------

    def _pause(self) -> None:
        """Time does not count while it is the consumer that is slow."""
        if not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._deadline = None
            self._transport.pause_reading()

    def read_on(self) -> None:
        if self._is_paused and self._transport is not None:
            self._is_paused = False
            if self._response is not None:
                self._progress()
            if not self.is_lost:
                self._transport.resume_reading()

    def _progress(self) -> None:
        """The read timeout starts again. One timer looks after all deadlines."""
        self._deadline = deadline = self._loop.time() + self._owner.read_timeout
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        self._timer = None
        deadline = self._deadline
        if deadline is None:
            return
        if self._loop.time() >= deadline:
            self.abort(TimeoutError("no byte in either direction"))
        else:
            self._timer = self._loop.call_at(deadline, self._look)
