"""An open object, as its reader holds it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from types import TracebackType
from typing import Self

from trove_async._chunks import Digest
from trove_async.checksum import digest_of
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import (
    ChecksumMismatchError,
    IntegrityError,
    OperationTimeoutError,
    StreamConsumedError,
    TroveError,
    TruncatedError,
)
from trove_async.middleware.pipeline import Chain
from trove_async.model import ObjectInfo

__all__ = ["ObjectReader", "check_small", "check_whole", "verified"]


def check_whole(digest: Digest, size: int | None, recorded: str | None) -> None:
    """The body of a full read against what the object records of itself."""
    if size is not None and digest.count != size:
        raise TruncatedError(f"the body has {digest.count} bytes, {size} were recorded")
    if recorded is not None and digest.text != recorded:
        raise ChecksumMismatchError(f"the body has {digest.text}, {recorded} was recorded")


def check_small(data: bytes, size: int | None, recorded: str | None) -> None:
    """As `check_whole`, of bytes that are all there."""
    if size is not None and len(data) != size:
        raise TruncatedError(f"the body has {len(data)} bytes, {size} were recorded")
    if recorded is not None:
        found = digest_of(recorded[: recorded.index(":")], data)
        if found != recorded:
            raise ChecksumMismatchError(f"the body has {found}, {recorded} was recorded")


async def verified(
    chunks: Chunks, digest: Digest, size: int | None, recorded: str | None
) -> AsyncGenerator[bytes, None]:
    """Passes the logical bytes on; the last of them only once the whole has been checked."""
    held: bytes | None = None
    async for chunk in chunks:
        if held is not None:
            yield held
            held = None
        if len(chunk) <= digest.is_inline:
            digest.update(chunk)
        else:
            await digest.feed(chunk)
        if size is not None and digest.count > size:
            raise IntegrityError(f"the body goes on after the {size} bytes that were recorded")
        piece = chunk if type(chunk) is bytes else bytes(chunk)
        if size is not None and digest.count < size:
            yield piece
        else:
            held = piece
    check_whole(digest, size, recorded)
    if held is not None:
        yield held


async def _until(chunks: Chunks, deadline: float, total: float) -> AsyncGenerator[Bytes, None]:
    while True:
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                chunk = await anext(chunks, None)
        except TimeoutError as exc:
            if scope.expired() and not isinstance(exc, TroveError):
                raise OperationTimeoutError(f"not done within {total:g} s") from exc
            raise
        if chunk is None:
            return
        yield chunk


class ObjectReader:
    """Iterate it, or `read` from it; once. Close it, or use it as a context manager.

    Chunks are ``bytes`` and never empty. ``info.size`` is the size of the whole object, also
    when a range of it is read.
    """

    __slots__ = ("_buffer", "_callbacks", "_chain", "_data", "_ended", "_state", "info", "length")

    def __init__(
        self, info: ObjectInfo, chain: Chain | None, data: bytes | None, length: int | None
    ) -> None:
        self.info = info
        self.length = length
        """Bytes this reader gives (of the range), when known before the end."""
        self._chain = chain
        self._data = data
        self._buffer: bytes = b""
        self._ended = False
        # 0 new, 1 being read, 2 closed, 3 failed: what is left must not pass for the end
        self._state = 0 if chain is not None or data is not None else 2
        self._callbacks: list[Callable[[], object]] | None = None

    def on_close(self, callback: Callable[[], Awaitable[None] | None]) -> None:
        """Called once when the reader is closed; for limits that hold while a body is read."""
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def limit(self, deadline: float, total: float) -> None:
        """No chunk comes after ``deadline`` on the loop's clock, ``total`` seconds after the
        operation began."""
        if self._chain is not None and self._chain.levels:
            self._chain.push(_until(self._chain.top, deadline, total))

    def __aiter__(self) -> AsyncIterator[bytes]:
        if self._state:
            raise StreamConsumedError("an object is read once; get it again", key=self.info.key)
        self._state = 1
        return self._iterate()

    async def _iterate(self) -> AsyncGenerator[bytes, None]:
        while chunk := await self._next():
            yield chunk

    async def _next(self) -> bytes:
        """The next chunk, ``b""`` at the end."""
        if self._buffer:
            chunk, self._buffer = self._buffer, b""
            return chunk
        data = self._data
        if data is not None:
            self._data = None
            self._ended = True
            return data
        if self._ended or self._chain is None or not self._chain.levels:
            if self._state > 1 and not self._ended:
                raise self._unreadable()
            return b""
        top = self._chain.top
        try:
            piece = await top.__anext__()
            while not piece:  # a careless layer; taken for the end it would cut the body short
                piece = await top.__anext__()
        except StopAsyncIteration:
            self._ended = True
            await self._release()  # nothing is left to close for who only reads to the end
            return b""
        except BaseException as exc:
            self._failed(exc)
            raise
        return piece if type(piece) is bytes else bytes(piece)

    def at_once(self) -> bytes | None:
        """All of it, if it is in memory and nobody waits for the close; the reader is closed."""
        data = self._data
        if data is None or self._callbacks is not None or self._state:
            return None
        self._data = None
        self._ended = True
        self._state = 2
        return data

    async def read(self, n: int = -1) -> bytes:
        """Up to ``n`` bytes, fewer only at the end; all that is left when ``n`` is negative."""
        if self._state > 1:
            raise self._unreadable()
        self._state = 1
        if n < 0 and self._data is not None:
            data, self._data = self._data, None
            self._ended = True
            return data
        if n == 0:
            return b""
        if n < 0:
            return await self._rest()
        parts = []
        wanted = n
        while wanted and (chunk := await self._next()):
            if len(chunk) > wanted:
                chunk, self._buffer = chunk[:wanted], chunk[wanted:]
            parts.append(chunk)
            wanted -= len(chunk)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _rest(self) -> bytes:
        """All that is left, with no frame of ours between the chunks."""
        parts: list[bytes] = []
        if self._buffer or self._data is not None:
            parts.append(await self._next())
        if not self._ended and self._chain is not None and self._chain.levels:
            try:
                parts += [
                    piece if type(piece) is bytes else bytes(piece)
                    async for piece in self._chain.top
                ]
            except BaseException as exc:
                self._failed(exc)
                raise
            self._ended = True
            await self._release()
        else:
            await self._next()  # says why there is none
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _failed(self, exc: BaseException) -> None:
        """A cancel too ends what gives the bytes."""
        self._state = 3
        if isinstance(exc, TroveError):
            exc.at(key=self.info.key, operation="get")

    def _unreadable(self) -> StreamConsumedError:
        what = "is closed" if self._state == 2 else "failed; get the object again"
        return StreamConsumedError(f"the reader {what}", key=self.info.key)

    async def aclose(self) -> None:
        if self._state == 2:
            return
        self._state = 2
        self._data, self._buffer = None, b""
        if self._chain is not None or self._callbacks is not None:
            await self._release()

    async def _release(self) -> None:
        chain, self._chain = self._chain, None
        callbacks, self._callbacks = self._callbacks, None
        try:
            if chain is not None:
                await chain.aclose()
        finally:
            for callback in callbacks or ():
                result = callback()
                if isawaitable(result):
                    await result

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_chain", None) is not None:
            warnings.warn(
                f"the reader of {self.info.key!r} was dropped open; use async with or aclose()",
                ResourceWarning,
                stacklevel=2,
            )

    def __repr__(self) -> str:
        state = ("new", "open", "closed", "failed")[self._state]
        return f"<ObjectReader {self.info.key!r} {self.info.size} bytes, {state}>"
