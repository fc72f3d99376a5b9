"""A bad network between a client and a server: an asyncio proxy that breaks what it carries.

    async with Proxy("127.0.0.1", port) as proxy:
        proxy.add(reset("down", at=0, when="PUT /bucket/key"))    # the reply is lost
        ...  # the client talks to proxy.endpoint

As an HTTP proxy (the default) it sees single requests, also of connections that are used again:
``at`` counts from the first byte of one message, head included. With ``http=False`` (SFTP,
clamd) it counts from the first byte of a connection in that direction.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Literal, Self

__all__ = [
    "Fault",
    "Proxy",
    "corrupt",
    "hang",
    "latency",
    "refuse",
    "reset",
    "slow",
    "status",
    "truncate",
]

Direction = Literal["up", "down"]
Kind = Literal["latency", "reset", "truncate", "corrupt", "hang", "slow", "status", "refuse"]
_PIECE: Final = 64 * 1024
_MOST_HEAD: Final = 256 * 1024


@dataclass(slots=True)
class Fault:
    """``at``: a byte offset, or as a float a part of the message (0.5: its middle).
    ``when``: what the request's first line holds. ``times``: None is for ever."""

    kind: Kind
    direction: Direction = "down"
    at: int | float = 0
    when: str = ""
    times: int | None = 1
    seconds: float = 0.0
    code: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    step: int = 1
    hits: int = 0
    struck: asyncio.Event = field(default_factory=asyncio.Event)

    def strike(self) -> None:
        self.hits += 1
        self.struck.set()


def latency(
    seconds: float,
    direction: Direction = "down",
    *,
    when: str = "",
    at: int | float = 0,
    times: int | None = 1,
) -> Fault:
    return Fault("latency", direction, at, when, times, seconds)


def reset(
    direction: Direction = "down", *, at: int | float = 0, when: str = "", times: int | None = 1
) -> Fault:
    """RST. Down at 0: the server has done it, and its reply is lost."""
    return Fault("reset", direction, at, when, times)


def truncate(
    direction: Direction = "down", *, at: int | float = 0, when: str = "", times: int | None = 1
) -> Fault:
    """A clean close, too early."""
    return Fault("truncate", direction, at, when, times)


def corrupt(
    direction: Direction = "down", *, at: int | float = 0, when: str = "", times: int | None = 1
) -> Fault:
    """One byte is another."""
    return Fault("corrupt", direction, at, when, times)


def hang(
    direction: Direction = "down", *, at: int | float = 0, when: str = "", times: int | None = 1
) -> Fault:
    """Nothing more comes, and nobody closes."""
    return Fault("hang", direction, at, when, times)


def slow(
    seconds: float,
    direction: Direction = "down",
    *,
    at: int | float = 0,
    when: str = "",
    times: int | None = 1,
    step: int = 1,
) -> Fault:
    """From there on ``step`` bytes at a time, ``seconds`` apart."""
    return Fault("slow", direction, at, when, times, seconds, step=step)


def status(
    code: int,
    *,
    when: str = "",
    times: int | None = 1,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An answer without asking the server."""
    return Fault("status", "down", 0, when, times, 0.0, code, headers or {}, body)


def refuse(*, times: int | None = 1) -> Fault:
    """New connections are reset at once."""
    return Fault("refuse", "up", 0, "", times)


class _Broken(Exception):
    """The fault has ended this connection."""


class _Message:
    """Carries the bytes of one message and breaks it where its fault says."""

    def __init__(
        self,
        fault: Fault | None,
        length: int | None,
        tally: Callable[[int], None] | None = None,
    ) -> None:
        self._fault = fault
        self._tally = tally
        self._sent = 0
        at = 0 if fault is None else fault.at
        self._at = int(at * (length or 0)) if isinstance(at, float) else at

    async def carry(self, data: bytes, sink: asyncio.StreamWriter) -> None:
        fault = self._fault
        if self._tally is not None:
            self._tally(len(data))
        start, self._sent = self._sent, self._sent + len(data)
        if fault is None or self._sent <= self._at:
            await _send(sink, data)
            return
        cut = max(0, self._at - start)
        before, after = data[:cut], data[cut:]
        if fault.kind == "corrupt":
            if start <= self._at:
                fault.strike()
                after = bytes([after[0] ^ 0x20]) + after[1:]
            await _send(sink, before + after)
            return
        await _send(sink, before)
        if fault.kind == "latency":
            if start <= self._at:
                fault.strike()
                await asyncio.sleep(fault.seconds)
            await _send(sink, after)
        elif fault.kind == "slow":
            if start <= self._at:
                fault.strike()
            for start in range(0, len(after), fault.step):
                await asyncio.sleep(fault.seconds)
                await _send(sink, after[start : start + fault.step])
        else:
            fault.strike()
            if fault.kind == "hang":
                await asyncio.Event().wait()
            raise _Broken(fault.kind)


async def _send(sink: asyncio.StreamWriter, data: bytes) -> None:
    if data:
        sink.write(data)
        await sink.drain()


class Proxy:
    """``requests``: the first line of every request that came. ``connections``: made so far;
    ``open``: now. ``uploaded``: bytes that came from clients, heads and handshakes included."""

    def __init__(
        self, host: str, port: int, *, http: bool = True, window: int | None = None
    ) -> None:
        """``window``: bytes from clients that wait here, so that they feel a slow link."""
        self._window = window
        self._target = (host, port)
        self._http = http
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.connections = 0
        self.uploaded = 0
        self.on_uploaded: Callable[[int], None] | None = None
        """Told of ``uploaded`` before the bytes go on."""
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def open(self) -> int:
        return len(self._tasks)

    def add(self, *faults: Fault) -> None:
        self.faults.extend(faults)

    def clear(self) -> None:
        self.faults.clear()

    async def __aenter__(self) -> Self:
        sock = socket.socket()
        if self._window is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._window)
        sock.bind(("127.0.0.1", 0))
        self._server = await asyncio.start_server(self._accepted, sock=sock, limit=_MOST_HEAD)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _tally(self, count: int) -> None:
        self.uploaded += count
        if self.on_uploaded is not None:
            self.on_uploaded(self.uploaded)

    def _matching(self, line: str, *kinds: Kind) -> Fault | None:
        for fault in self.faults:
            if fault.times == 0 or fault.when not in line or fault.kind not in kinds:
                continue
            if fault.times is not None:
                fault.times -= 1
            return fault
        return None

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        upstream: asyncio.StreamWriter | None = None
        try:
            if (fault := self._matching("", "refuse")) is not None:
                fault.strike()
                raise _Broken("reset")
            server, upstream = await asyncio.open_connection(*self._target, limit=_MOST_HEAD)
            if self._http:
                while await self._exchange(reader, writer, server, upstream):
                    pass
            else:
                await self._raw(reader, writer, server, upstream)
        except _Broken as exc:
            for end in (writer, upstream):
                if end is not None and str(exc) == "reset":
                    _abort(end)
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.close()
                    with suppress(OSError, asyncio.CancelledError):
                        await end.wait_closed()

    # -- plain TCP -------------------------------------------------------------------------

    async def _raw(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> None:
        fault = self._matching("", *_CARRIED)
        up = fault if fault is not None and fault.direction == "up" else None
        down = fault if fault is not None and fault.direction == "down" else None

        async def pump(
            source: asyncio.StreamReader, sink: asyncio.StreamWriter, message: _Message
        ) -> None:
            while data := await source.read(_PIECE):
                await message.carry(data, sink)
            if sink.can_write_eof():
                sink.write_eof()

        await _both(
            pump(reader, upstream, _Message(up, None, self._tally)),
            pump(server, writer, _Message(down, None)),
        )

    # -- HTTP/1.1 --------------------------------------------------------------------------

    async def _exchange(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        upstream: asyncio.StreamWriter,
    ) -> bool:
        """One request and its answer; whether the connection can go on."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        line = head.split(b"\r\n", 1)[0].decode("latin-1")
        self.requests.append(line)
        fault = self._matching(line, "status", *_CARRIED)
        length = _length(head)
        if fault is not None and fault.kind == "status":
            fault.strike()
            await _drained(reader, head)
            await _send(writer, _scripted(fault, line))
            return True
        up = fault if fault is not None and fault.direction == "up" else None
        down = fault if fault is not None and fault.direction == "down" else None
        message = _Message(up, len(head) + (length or 0), self._tally)
        asked = asyncio.create_task(_request(reader, upstream, head, length, message))
        try:
            return await _answer(server, writer, line, down, asked)
        finally:
            asked.cancel()
            with suppress(BaseException):
                await asked


_CARRIED: Final[tuple[Kind, ...]] = ("latency", "reset", "truncate", "corrupt", "hang", "slow")


async def _both(*coros: Coroutine[object, object, None]) -> None:
    tasks = [asyncio.create_task(coro) for coro in coros]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _request(
    reader: asyncio.StreamReader,
    upstream: asyncio.StreamWriter,
    head: bytes,
    length: int | None,
    message: _Message,
) -> None:
    await message.carry(head, upstream)
    await _body(reader, upstream, head, length or 0, message)


async def _answer(
    server: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    line: str,
    fault: Fault | None,
    asked: asyncio.Task[None],
) -> bool:
    head = await _first(server, asked)
    while head.startswith((b"HTTP/1.1 100", b"HTTP/1.0 100")):
        await _send(writer, head)
        head = await _first(server, asked)
    code = int(head.split(b" ", 2)[1])
    has_body = not line.startswith("HEAD ") and code not in (204, 304)
    length = _length(head) if has_body else 0
    message = _Message(fault, len(head) + (length or 0))
    await message.carry(head, writer)
    if not has_body:
        return not _closes(head)
    if length is None and b"transfer-encoding: chunked" not in head.lower():
        while data := await server.read(_PIECE):
            await message.carry(data, writer)
        return False
    await _body(server, writer, head, length or 0, message)
    return not _closes(head)


async def _first(server: asyncio.StreamReader, asked: asyncio.Task[None]) -> bytes:
    """The next head from the server; the request's own fault, if that comes first."""
    reading = asyncio.ensure_future(server.readuntil(b"\r\n\r\n"))
    try:
        if not asked.done():
            await asyncio.wait({reading, asked}, return_when=asyncio.FIRST_COMPLETED)
            if asked.done() and not reading.done():
                asked.result()
        return await reading
    finally:
        reading.cancel()


async def _body(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    head: bytes,
    length: int,
    message: _Message,
) -> None:
    if b"transfer-encoding: chunked" in head.lower():
        while True:
            size = await source.readuntil(b"\r\n")
            await message.carry(size, sink)
            count = int(size.split(b";")[0], 16)
            await message.carry(await source.readexactly(count + 2), sink)
            if not count:
                return
    while length:
        data = await source.read(min(length, _PIECE))
        if not data:
            raise EOFError
        length -= len(data)
        await message.carry(data, sink)


async def _drained(reader: asyncio.StreamReader, head: bytes) -> None:
    length = _length(head) or 0
    while length:
        data = await reader.read(min(length, _PIECE))
        if not data:
            raise EOFError
        length -= len(data)


def _length(head: bytes) -> int | None:
    found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    return None if found is None else int(found[1])


def _closes(head: bytes) -> bool:
    return b"connection: close" in head.lower() or head.startswith(b"HTTP/1.0")


def _scripted(fault: Fault, line: str) -> bytes:
    headers = {"content-length": str(len(fault.body)), **fault.headers}
    text = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = b"" if line.startswith("HEAD ") else fault.body
    return f"HTTP/1.1 {fault.code} Scripted\r\n{text}\r\n".encode() + body


def _abort(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
