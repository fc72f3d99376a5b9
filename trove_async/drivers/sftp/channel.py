"""Many requests over one SSH channel.

All that is asked within one turn of the event loop leaves as one message, and a server's
answers come back in as few: framing and enciphering are paid by the message, so this is what
makes small operations cheap (measured: a quarter of the processor time of one each).

An answer is a value, also when it is a `Failure`: nobody has to take up the answers of a batch
whose first has failed. A handle that nobody waits for any more is closed.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Literal

from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.sdk import asyncssh
from trove_async.drivers.sftp.wire import Failure

__all__ = ["Answer", "Asked", "Channel", "Lost"]

Answer = bytes | None | Failure
"""None: the status OK. Else what follows the request's number."""
Asked = asyncio.Future[Answer]


class Lost(Failure):
    """The channel has ended before the answer came; what was asked may have happened."""

    def __init__(
        self,
        text: str = "the connection was lost",
        why: Literal["lost", "silent", "closed"] = "lost",
    ) -> None:
        super().__init__(wire.CONNECTION_LOST, text)
        self.why = why
        """``silent``: the server did not answer in time; ``closed``: we have ended it."""

    def __reduce__(self) -> tuple[object, ...]:
        return Lost, (self.text, self.why)


_CORK: Final = getattr(socket, "TCP_CORK", 0)  # Linux
_GRACE: Final = 2.0
"""Seconds that a cancelled task waits for the answer to what cannot be taken back."""


_HEAD: Final = struct.Struct(">IBI")  # length, kind, number
_LEAST: Final = _HEAD.size
_IS_OK: Final = b"\0\0\0\0"
_MUCH: Final = 24
_NOT_ASKED: Final[tuple[int, None]] = (0, None)
_UNASKED: Final = "the server answers what it was not asked"


class _Firm(asyncio.Future[Answer]):
    """An answer that a cancel of the waiting task waits for, within `_GRACE`; the
    CancelledError is raised at that await all the same."""

    _last: asyncio.TimerHandle | None = None

    def cancel(self, msg: object = None) -> bool:
        if self._last is None and not self.done():
            self._last = self.get_loop().call_later(_GRACE, self._give_up)
            self.add_done_callback(self._answered)
        return False

    def _give_up(self) -> None:
        if not self.done():
            self.set_result(Lost("no answer within the time that a cancel gives"))

    def _answered(self, _: object) -> None:
        if self._last is not None:
            self._last.cancel()


class Channel(asyncssh.SSHClientSession[bytes]):
    """One `sftp` subsystem. Bound to the loop it is made in."""

    def __init__(self, patience: float) -> None:
        """``patience``: seconds without a byte from a server that owes an answer, after which
        the channel counts as lost."""
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._channel: asyncssh.SSHClientChannel[bytes] | None = None
        self._waiting: dict[int, tuple[int, Asked | None]] = {}
        self._number = 0
        self._out: list[bytes | memoryview] = []
        self._held: list[bytes] = []
        self._have = 0
        self._need = 0
        self._heard = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._hello: asyncio.Future[Answer] = self._loop.create_future()
        self.lost: Lost | None = None
        self.cork: socket.socket | None = None
        """asyncssh sends each message in two pieces: with its socket corked they leave as one."""

    # -- asking ------------------------------------------------------------------------------

    def ask(self, kind: int, head: bytes, data: bytes | memoryview = b"") -> Asked:
        """Sends a request with the next turn of the loop."""
        future: Asked = asyncio.Future(loop=self._loop)
        self._send(kind, head, data, future)
        return future

    def ask_firmly(self, kind: int, head: bytes) -> Asked:
        """For what cannot be taken back: a cancelled task still learns how it ended."""
        future = _Firm(loop=self._loop)
        self._send(kind, head, b"", future)
        return future

    def tell(self, kind: int, head: bytes) -> None:
        """A request whose answer is of no interest."""
        self._send(kind, head, b"", None)

    def _send(self, kind: int, head: bytes, data: bytes | memoryview, future: Asked | None) -> None:
        if self.lost is not None:
            if future is not None:
                future.set_result(self.lost)
            return
        waiting, out = self._waiting, self._out
        if not waiting:
            self._heard = self._loop.time()
        number = self._number = (self._number + 1) & 0xFFFFFFFF
        waiting[number] = kind, future
        if not out:
            self._loop.call_soon(self._soon)
        out.append(_HEAD.pack(5 + len(head) + len(data), kind, number))
        out.append(head)
        if data:
            out.append(data)

    def _soon(self) -> None:
        """When much is under way it pays to wait another turn of the loop: what comes in with it
        is answered in the same message."""
        if len(self._waiting) < _MUCH:
            self.flush()
        else:
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Hands over now what is asked; data that was lent for it is free after."""
        out, self._out = self._out, []
        if self.lost is not None or self._channel is None or not out:
            return
        cork = self.cork
        with suppress(OSError):  # `connection_lost` tells those who wait
            if cork is not None:
                cork.setsockopt(socket.IPPROTO_TCP, _CORK, 1)
            self._channel.write(b"".join(out))
            if cork is not None:
                cork.setsockopt(socket.IPPROTO_TCP, _CORK, 0)
        if self._timer is None:
            self._timer = self._loop.call_later(self._patience, self._look)

    async def hello(self) -> tuple[int, dict[bytes, bytes]]:
        """(version, extensions) of the server; raises Failure."""
        assert self._channel is not None
        self._channel.write(b"\0\0\0\5\1\0\0\0\3")
        answer = await self._hello
        if not isinstance(answer, bytes):
            raise answer or Failure(wire.BAD_MESSAGE)
        try:
            return wire.hello(answer)
        except ValueError as exc:
            raise Failure(wire.BAD_MESSAGE, str(exc)) from exc

    # -- waiting -----------------------------------------------------------------------------

    async def all_of(self, answers: Sequence[asyncio.Future[Answer]]) -> list[Answer]:
        """Every answer; when the wait is broken off, none of them leaves a handle behind."""
        try:
            return [answer.result() if answer.done() else await answer for answer in answers]
        except BaseException:
            self.abandon(*answers)
            raise

    def abandon(self, *answers: asyncio.Future[Answer]) -> None:
        """Nobody waits for these any more; a handle among them is closed."""
        for answer in answers:
            if not answer.done():
                answer.cancel()
            elif not answer.cancelled():
                found = answer.result()
                if isinstance(found, _Handle):
                    self.tell(wire.CLOSE, wire.close(found))

    @property
    def silence(self) -> float:
        """Seconds that the server owes an answer and has said nothing."""
        return self._loop.time() - self._heard if self._waiting else 0.0

    def _look(self) -> None:
        self._timer = None
        if self.lost is not None or not self._waiting:
            return  # the next request sets it again
        left = self._patience - self.silence
        if left <= 0:
            self.end(Lost(f"the server said nothing for {self._patience:g} s", "silent"))
        else:
            self._timer = self._loop.call_later(left, self._look)

    # -- what asyncssh calls -----------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            return  # what the server's program says on stderr
        self._heard = self._loop.time()
        if self._held:
            self._held.append(data)
            self._have += len(data)
            if self._have < self._need:
                return
            data = b"".join(self._held)
            self._held.clear()
        at, end = 0, len(data)
        need = _LEAST
        while end - at >= _LEAST and self.lost is None:
            length, kind, number = _HEAD.unpack_from(data, at)
            need = 4 + length
            if not _LEAST <= need <= wire.LONGEST:
                self.end(Lost("the server does not speak SFTP"))
                return
            if end - at < need:
                break
            if kind == wire.STATUS and data[at + 9 : at + 13] == _IS_OK:  # most are
                asked, future = self._waiting.pop(number, _NOT_ASKED)
                if future is not None and not future.done():
                    future.set_result(None)
                elif not asked:
                    self.end(Lost(_UNASKED))
                    return
            else:
                self._answered(kind, number, data, at + _LEAST, at + need)
            at += need
            need = _LEAST
        if at < end and self.lost is None:
            rest = data[at:] if at else data
            self._held.append(rest)
            self._have, self._need = len(rest), need

    def _answered(self, kind: int, number: int, data: bytes, at: int, end: int) -> None:
        """``data`` from ``at`` to ``end``: what follows the number."""
        if kind == wire.VERSION:  # the one message without a number: it has the version there
            if not self._hello.done():
                self._hello.set_result(data[at - 4 : end])
            return
        asked, future = self._waiting.pop(number, _NOT_ASKED)
        if not asked:
            self.end(Lost(_UNASKED))
            return
        if future is None or future.done():
            if kind == wire.HANDLE and asked in (wire.OPEN, wire.OPENDIR):
                handle = wire.string_of(data[at:end])
                self.tell(wire.CLOSE, wire.close(handle))
            return
        answer: Answer
        try:
            if kind == wire.STATUS:
                answer = wire.failure_of(data[at:end])
            elif kind == wire.DATA:
                answer = data[at + 4 : end]
            elif kind == wire.HANDLE:
                answer = _Handle(wire.string_of(data[at:end]))
            else:
                answer = data[at:end]
        except ValueError as exc:
            answer = Failure(wire.BAD_MESSAGE, str(exc))
        future.set_result(answer)

    def eof_received(self) -> bool:
        self.end(Lost("the server ended the session"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        lost = Lost()
        lost.__cause__ = exc
        self.end(lost)

    def end(self, lost: Lost) -> None:
        """Everything that is asked has this for an answer; twice is fine."""
        if self.lost is not None:
            return
        self.lost = lost
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, {}
        self._out.clear()
        self._held.clear()
        for _, future in waiting.values():
            if future is not None and not future.done():
                future.set_result(lost)
        if not self._hello.done():
            self._hello.set_result(lost)
        if self._channel is not None:
            self._channel.abort()


class _Handle(bytes):
    """So that a handle is known among other answers."""
