"""A client of clamd's INSTREAM command (man 8 clamd).

Plain sockets, because a transport loses what clamd says before it hangs up: over its
StreamMaxLength it answers and closes while the body is still on its way.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from trove_async.driver.base import Bytes
from trove_async.errors import (
    BackendError,
    OperationTimeoutError,
    PolicyError,
    TroveError,
    UnavailableError,
)
from trove_async.middleware.base import Context
from trove_async.middleware.scan.scanner import CLEAN, Verdict
from trove_async.model import Seconds, seconds

__all__ = ["ClamAV"]

_PIECE: Final = 1024 * 1024
"""Bytes sent at once at most; each piece has the time limit for itself."""
_BATCH: Final = 64 * 1024
"""Bytes of small chunks that go out together; a small body is one system call."""
_MOST_PARTS: Final = 512
"""Buffers of one system call; IOV_MAX is 1024 on Linux and macOS."""
_LINGER: Final = 1.0
"""Seconds that bytes of a slow body wait for others: clamd ends a stream that is silent for
its ReadTimeout (120 s)."""
_MOST_ANSWER: Final = 4096
_LENGTH: Final = struct.Struct(">I")
_COMMAND: Final = b"zINSTREAM\0"
_END: Final = _LENGTH.pack(0)
_NAME: Final = "clamav"
_Address = tuple[int, int, int, str, tuple[Any, ...]]


class ClamAV:
    """Scans with the clamd at ``host`` and ``port``, or at the Unix socket ``path``.

    ``timeout``, seconds, each for itself: to connect, for clamd to take a MiB, and from the
    end of the body to the whole verdict. A connection per scan, from the first bytes on.

    Errors: UnavailableError (nobody there, or hung up; retryable), OperationTimeoutError
    (retryable), PolicyError (over clamd's StreamMaxLength), BackendError (anything else that
    is no verdict). What clamd does not look at it calls OK: let ``Scan(max_size=...)`` be at
    most its MaxFileSize, and set its AlertExceedsMax, so that archives over its limits are
    findings.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 3310,
        timeout: Seconds = 30.0,
        *,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = os.fspath(path) if path is not None else None
        self._host = host
        self._port = port
        self._timeout = seconds(timeout)
        if not 0 < port < 65536:
            raise ValueError("port must be 1 to 65535")
        if not self._timeout > 0:  # nor NaN
            raise ValueError("timeout must be positive")

    def __repr__(self) -> str:
        place = f"path={self._path!r}" if self._path is not None else f"{self._host}:{self._port}"
        return f"<ClamAV {place}>"

    async def session(self, context: Context) -> _Stream:
        return _Stream(self)

    async def ping(self) -> None:
        """Raises unless clamd answers as it should."""
        answer = await self._ask(b"zPING\0")
        if answer != "PONG":
            raise _strange(answer)

    async def version(self) -> str:
        """Of clamd and, where it has an official one, of its signature database."""
        return await self._ask(b"zVERSION\0")

    async def _ask(self, command: bytes) -> str:
        connection = await self.connect()
        try:
            await connection.send([command])
            return await connection.answer()
        finally:
            connection.close()

    async def connect(self) -> _Connection:
        async with _limited(self._timeout, "connect"):
            if self._path is not None:
                sock = await _connected_to_path(self._path)
            else:
                sock = await _connected_to_host(self._host, self._port)
        return _Connection(sock, self._timeout)


class _Stream:
    """One INSTREAM: a command, pieces with their lengths, an empty one, an answer."""

    __slots__ = ("_connection", "_parts", "_pending", "_scanner", "_sent_at")

    def __init__(self, scanner: ClamAV) -> None:
        self._scanner = scanner
        self._connection: _Connection | None = None
        self._parts: list[Bytes] = [_COMMAND]
        self._pending = 0
        self._sent_at = asyncio.get_running_loop().time()

    async def feed(self, chunk: Bytes) -> None:
        if len(chunk) <= _PIECE:
            await self._add(chunk)
            return
        view = memoryview(chunk)
        for start in range(0, len(view), _PIECE):
            await self._add(view[start : start + _PIECE])

    async def _add(self, piece: Bytes) -> None:
        self._parts += (_LENGTH.pack(len(piece)), piece)
        self._pending += len(piece)
        if (
            self._pending >= _BATCH
            or len(self._parts) >= _MOST_PARTS
            or asyncio.get_running_loop().time() - self._sent_at >= _LINGER
        ):
            await self._send()

    async def _send(self) -> _Connection:
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._scanner.connect()
        parts, self._parts, self._pending = self._parts, [], 0
        try:
            await connection.send(parts)
        except UnavailableError:
            with suppress(UnavailableError, OperationTimeoutError):
                _verdict(await connection.answer())  # raises the reason; a verdict comes too early
            raise
        self._sent_at = asyncio.get_running_loop().time()
        return connection

    async def finish(self) -> Verdict:
        self._parts.append(_END)
        connection = await self._send()
        return _verdict(await connection.answer())

    async def aclose(self) -> None:
        if self._connection is not None:
            self._connection.close()


def _verdict(answer: str) -> Verdict:
    if answer == "stream: OK":
        return CLEAN
    if answer.startswith("stream: ") and answer.endswith(" FOUND"):
        return Verdict(answer.removeprefix("stream: ").removesuffix(" FOUND"))
    if answer.startswith("INSTREAM size limit exceeded"):
        raise PolicyError("the body is over clamd's StreamMaxLength", backend=_NAME)
    if answer.endswith("ERROR"):
        raise BackendError(f"clamd could not scan: {answer[:200]!r}", backend=_NAME)
    raise _strange(answer)


def _strange(answer: str) -> BackendError:
    return BackendError(f"not an answer of clamd: {answer[:200]!r}", backend=_NAME)


# -- the wire ----------------------------------------------------------------------------


class _Connection:
    __slots__ = ("_sock", "_timeout")

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._timeout = timeout

    async def send(self, parts: Sequence[Bytes]) -> None:
        """All of it, without a copy; a timer only where clamd lets us wait."""
        try:
            sent = self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as exc:
            raise _gone() from exc
        if left := _after(parts, sent):
            loop = asyncio.get_running_loop()
            async with _limited(self._timeout, "take the body"):
                for view in left:
                    await loop.sock_sendall(self._sock, view)

    async def answer(self) -> str:
        """Up to its NUL, with which the answer ends."""
        loop = asyncio.get_running_loop()
        data = b""
        async with _limited(self._timeout, "answer"):
            while not data.endswith(b"\0"):
                piece = await loop.sock_recv(self._sock, _MOST_ANSWER)
                if not piece:
                    raise _gone()
                data += piece
                if len(data) > _MOST_ANSWER:
                    raise BackendError("clamd's answer does not end", backend=_NAME)
        if b"\0" in data[:-1]:
            raise _strange(data.decode("utf-8", "backslashreplace"))
        return data[:-1].decode("utf-8", "backslashreplace")

    def close(self) -> None:
        self._sock.close()


def _after(parts: Sequence[Bytes], sent: int) -> list[memoryview]:
    """What is left of ``parts`` behind the first ``sent`` bytes."""
    left = []
    for part in parts:
        if sent >= len(part):
            sent -= len(part)
        else:
            left.append(memoryview(part)[sent:])
            sent = 0
    return left


def _gone() -> UnavailableError:
    return UnavailableError("clamd hung up without a verdict", backend=_NAME)


@asynccontextmanager
async def _limited(timeout: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout):
            yield
    except TroveError:
        raise
    except TimeoutError as exc:
        message = f"clamd did not {what} within {timeout:g} s"
        raise OperationTimeoutError(message, backend=_NAME) from exc
    except (OSError, UnicodeError) as exc:  # a host that is no name is a UnicodeError
        raise UnavailableError(f"clamd did not {what}", backend=_NAME) from exc


async def _connected_to_host(host: str, port: int) -> socket.socket:
    """The first of the host's addresses that accepts."""
    refused: OSError | None = None
    for family, kind, protocol, _, address in await _addresses(host, port):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(sock, address)
        except OSError as exc:
            sock.close()
            refused = exc
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise refused or OSError(f"{host} has no address")


async def _addresses(host: str, port: int) -> Sequence[_Address]:
    try:  # no look-up of a name, so no thread
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _connected_to_path(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    pause = 0.001
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
            except BlockingIOError:  # its queue is full, and there is nothing to wait for
                await asyncio.sleep(pause)
                pause = min(2 * pause, 0.1)
            else:
                return sock
    except BaseException:
        sock.close()
        raise
