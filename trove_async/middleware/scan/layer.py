"""The layer between a body and its driver that waits for a scanner's verdict."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import BackendError, ContentBlockedError, PolicyError
from trove_async.middleware.base import Context, Direction, Stage
from trove_async.middleware.scan.scanner import Scanner, ScanSession, Verdict

__all__ = ["Scan"]

MiB = 1024 * 1024
OnDetect = Callable[[Context, str], Awaitable[None] | None]

_log = logging.getLogger("trove_async.scan")


class Scan:
    """Passes every written body by ``scanner``, and the last chunk on only after its verdict.

    A blocked object is never published, and what was there stays: ContentBlockedError, with
    the ``threat``. So it is when there is no verdict: whatever the scanner raises (unreachable,
    too slow, closed in the middle) fails the put. Stands at Stage.OBSERVE, so it sees what a
    reader will see, before compression and encryption; of a raw put it sees the raw bytes.
    Nothing is skipped for its name or type, which the uploader chooses: exceptions are made
    by the registration's scope. Holds one chunk.

    ``max_size``: bytes; a larger body is refused with PolicyError, before its first byte if
    its size is known. None: no limit. Keep it at or below what the scanner really looks at:
    clamd answers "OK" to what is over its own MaxFileSize. The default is the smallest of the
    defaults of clamd and of its Debian package.

    ``on_detect(context, threat)`` is called, and awaited if it is async, before the error is
    raised. Its own errors are logged, to ``trove_async.scan``.
    """

    name: Final = "scan"
    direction: Final = Direction.WRITE
    stage: Final = Stage.OBSERVE

    def __init__(
        self,
        scanner: Scanner,
        *,
        max_size: int | None = 25 * MiB,
        on_detect: OnDetect | None = None,
    ) -> None:
        if not isinstance(scanner, Scanner):
            raise TypeError(f"{type(scanner).__name__} is no scanner: it has no session")
        if max_size is not None and max_size < 0:
            raise ValueError("max_size must not be negative")
        self._scanner = scanner
        self._max_size = max_size
        self._on_detect = on_detect

    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        if self._max_size is not None and context.size is not None:
            check_size(context.size, self._max_size)
        session = await self._scanner.session(context)
        return _Scanned(chunks, session, self._max_size, self._report, context)

    async def _report(self, context: Context, threat: str) -> None:
        if self._on_detect is None:
            return
        try:
            result = self._on_detect(context, threat)
            if inspect.isawaitable(result):
                await result
        except asyncio.CancelledError:
            me = asyncio.current_task()
            if me is not None and me.cancelling():
                raise
            _log.exception("on_detect was cancelled from inside")
        except Exception:  # the hook is the caller's code: the object is refused all the same
            _log.exception("on_detect failed")


class _Scanned:
    """The body on its way to the driver. A class, so that a session is closed also when
    nothing was pulled, and so that what has failed once never looks like an ended body."""

    __slots__ = (
        "_chunks",
        "_context",
        "_count",
        "_held",
        "_is_closed",
        "_is_done",
        "_is_sound",
        "_max_size",
        "_report",
        "_session",
    )

    def __init__(
        self,
        chunks: Chunks,
        session: ScanSession,
        max_size: int | None,
        report: Callable[[Context, str], Awaitable[None]],
        context: Context,
    ) -> None:
        self._chunks = chunks
        self._session = session
        self._max_size = max_size
        self._report = report
        self._context = context
        self._count = 0
        self._held: Bytes | None = None
        self._is_sound = True
        self._is_done = False
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        if not self._is_sound:
            raise BackendError("the scan of this body has failed")
        self._is_sound = False  # until this step has gone well: errors and cancels stick
        chunk = await self._next()
        self._is_sound = True
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def _next(self) -> Bytes | None:
        """The chunk before the one just scanned, so that no driver, however hasty, has a whole
        body without a verdict."""
        while not self._is_done:
            try:
                chunk = await self._chunks.__anext__()
            except StopAsyncIteration:
                await self._asked(self._finish)
                self._is_done = True
                break
            self._count += len(chunk)
            if self._max_size is not None:
                check_size(self._count, self._max_size)
            chunk = _kept(chunk)
            await self._asked(self._session.feed, chunk)
            held, self._held = self._held, chunk
            if held is not None:
                return held
        held, self._held = self._held, None
        return held

    async def _asked(self, step: Callable[..., Awaitable[None]], *chunk: Bytes) -> None:
        try:
            await step(*chunk)
        except ContentBlockedError as exc:
            await self._report(self._context, exc.threat)
            raise
        except StopAsyncIteration as exc:
            # From here it would be taken for the end of the body.
            raise RuntimeError("the scanner raised StopAsyncIteration") from exc

    async def _finish(self) -> None:
        verdict = await self._session.finish()
        if not isinstance(verdict, Verdict):
            raise TypeError(f"the scanner's finish gave {type(verdict).__name__}, not a Verdict")
        if verdict.threat is not None:
            raise _blocked(verdict.threat)
        await self._close()  # before the driver publishes, which may take its time

    async def _close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self._session.aclose()

    async def aclose(self) -> None:
        """Closes the session; the level below belongs to the chain."""
        self._is_sound = False
        self._held = None
        await self._close()


def check_size(size: int, most: int) -> None:
    if size > most:
        raise PolicyError(f"the body has more than the {most} bytes that are scanned")


def _blocked(threat: str) -> ContentBlockedError:
    error = ContentBlockedError(f"the scanner found {threat!r}")
    error.threat = threat
    return error


def _kept(chunk: Bytes) -> Bytes:
    """A chunk that its producer cannot change when it makes the next one."""
    if type(chunk) is bytes or (type(chunk) is memoryview and type(chunk.obj) is bytes):
        return chunk
    return bytes(chunk)
