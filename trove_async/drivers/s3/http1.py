"""Requests over connections of our own: a third of the CPU time that a client for any use takes.

One request at a time on a connection, no redirects, cookies, proxies or codings.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from aiohttp import ClientConnectionError, ServerDisconnectedError

from trove_async._threads import io_pool
from trove_async.driver.base import Bytes
from trove_async.drivers.s3.connection import Connection, Response
from trove_async.errors import InvalidInputError

__all__ = ["Http1"]

_IDLE: Final = 15.0  # seconds that a connection is kept without use


@cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _head_of(method: str, target: str, host: str, headers: Mapping[str, str]) -> bytes:
    """InvalidInputError for a value that would be more than its header."""
    lines = [f"{method} {target} HTTP/1.1\r\nhost: {host}\r\n"]
    lines += [f"{name}: {value}\r\n" for name, value in headers.items()]
    text = "".join(lines)
    breaks = len(headers) + 2
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise InvalidInputError("control characters in a header")
    return f"{text}\r\n".encode()


class Http1:
    """At most ``connections`` at once, of all hosts together; the one used last goes first."""

    def __init__(self, connections: int, connect_timeout: float, read_timeout: float) -> None:
        self.read_timeout = read_timeout
        self._connect_timeout = connect_timeout
        self._most = connections
        self._busy = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._idle: dict[str, list[Connection]] = {}
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

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
        """``host`` is the Host header; the rest of ``headers`` goes out as it is."""
        head = _head_of(method, target, host, headers)
        if self._busy < self._most and not self._is_closed:
            self._busy += 1
        else:
            await self._turn()
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            if connection.is_usable:
                break
        else:
            connection = await self._connected(origin)
        connection.is_busy = True
        return await connection.exchange(method, host, head, pieces, size)

    async def _turn(self) -> None:
        if self._is_closed:
            raise RuntimeError("the connections are closed")
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._free()
            raise

    def _free(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._busy -= 1

    async def _connected(self, origin: str) -> Connection:
        """In a turn, which it gives back when it fails."""
        try:
            if self._busy + sum(map(len, self._idle.values())) > self._most:
                self._evict()
            scheme, _, place = origin.partition("://")
            is_secure = scheme == "https"
            host, port = _split(place, 443 if is_secure else 80)
            more: dict[str, Any] = {}
            if is_secure:
                context = await self._loop.run_in_executor(io_pool(), _tls)
                more = {"ssl": context, "server_hostname": host}
            # No happy eyeballs: cancelled, asyncio's leave a socket open.
            async with asyncio.timeout(self._connect_timeout):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self, origin), host, port, **more
                )
        except BaseException:
            self._free()
            raise
        if not connection.is_usable:
            self._free()
            raise ServerDisconnectedError("the connection is gone")
        self._all.add(connection)
        if self._is_closed:
            connection.abort(RuntimeError("the connections are closed"))
            self._free()
            raise RuntimeError("the connections are closed")
        return connection

    def back(self, connection: Connection) -> None:
        """A connection whose answer has been read."""
        connection.is_busy = False
        connection.idle_since = self._loop.time()
        self._idle.setdefault(connection.origin, []).append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_IDLE, self._sweep)
        self._free()

    def lost(self, connection: Connection) -> None:
        self._all.discard(connection)
        if connection.is_busy:
            connection.is_busy = False
            self._free()
        elif connection in (idle := self._idle.get(connection.origin, [])):
            idle.remove(connection)

    def _evict(self) -> None:
        """Room for another host: the connection that has been idle for the longest time goes."""
        oldest = min(
            (idle[0] for idle in self._idle.values() if idle),
            key=lambda connection: connection.idle_since,
            default=None,
        )
        if oldest is not None:
            self._idle[oldest.origin].remove(oldest)
            oldest.abort(ClientConnectionError("the connection is not kept"))

    def _sweep(self) -> None:
        self._sweeper = None
        limit = self._loop.time() - _IDLE
        is_any_left = False
        for idle in self._idle.values():
            for connection in list(idle):
                if connection.idle_since <= limit:
                    idle.remove(connection)
                    connection.abort(ClientConnectionError("the connection is not kept"))
                else:
                    is_any_left = True
        if is_any_left:
            self._sweeper = self._loop.call_later(_IDLE / 3, self._sweep)

    async def close(self) -> None:
        """Requests on their way fail with RuntimeError."""
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(RuntimeError("the connections are closed"))
        self._waiting.clear()
        self._idle.clear()
        for connection in list(self._all):
            connection.abort(RuntimeError("the connections are closed"))
        for _ in range(10):  # a transport closes its socket in a later step of the loop
            if not self._all:
                return
            await asyncio.sleep(0)


def _split(place: str, port: int) -> tuple[str, int]:
    host, colon, number = place.rpartition(":")
    if not colon or place.endswith("]"):
        host, number = place, str(port)
    return host.strip("[]"), int(number)
