"""An open file."""

from __future__ import annotations

import asyncio
import io
import os
import warnings
from types import TracebackType
from typing import Generic, Literal, Self, TypeVar, cast

from trove_async.errors import FileModeError, InvalidInputError
from trove_async.model import ObjectInfo
from trove_async.vfs.incoming import Incoming
from trove_async.vfs.outgoing import Outgoing
from trove_async.vfs.text import TextReader, TextWriter

__all__ = ["BinaryMode", "File", "Mode", "TextMode"]

BinaryMode = Literal["rb", "br", "wb", "bw", "xb", "bx", "ab", "ba"]
TextMode = Literal["r", "rt", "tr", "w", "wt", "tw", "x", "xt", "tx", "a", "at", "ta"]
Mode = BinaryMode | TextMode
Content = TypeVar("Content")  # bytes or str


class File(Generic[Content]):
    """Of bytes or of text, for reading or for writing.

    A file that is read is one version of it: once it is replaced, what was not read yet is an
    ObjectChangedError, and once it is removed an ObjectNotFoundError.

    A file that is written is nowhere before it is closed. Leaving the block without an
    exception closes and so publishes it, whole; an exception, a cancel and `abort` leave what
    was there. It appears where it was opened, whatever was renamed or removed meanwhile."""

    def __init__(
        self,
        path: str,
        mode: str,
        incoming: Incoming | None,
        outgoing: Outgoing | None,
        *,
        decoder: TextReader | None = None,
        encoder: TextWriter | None = None,
        start: int = 0,
    ) -> None:
        self.path = path
        self.mode = mode
        self._in = incoming
        self._out = outgoing
        self._decoder = decoder
        self._encoder = encoder
        self._start = start
        self._closed = False
        self._lock = asyncio.Lock()
        self._loop = asyncio.get_running_loop()

    # -- what it is --------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def info(self) -> ObjectInfo | None:
        """Of what is read; of what was written, once it is closed."""
        return self._in.info if self._in is not None else self._out.info if self._out else None

    def readable(self) -> bool:
        return self._in is not None

    def writable(self) -> bool:
        return self._out is not None

    def seekable(self) -> bool:
        return self._in is not None

    def _reading(self) -> Incoming:
        self._check()
        if self._in is None:
            raise FileModeError(f"a file opened with {self.mode!r} is not read", key=self.path)
        return self._in

    def _writing(self) -> Outgoing:
        self._check()
        if self._out is None:
            raise FileModeError(f"a file opened with {self.mode!r} is not written", key=self.path)
        return self._out

    def _check(self) -> None:
        if self._closed:
            raise InvalidInputError("I/O operation on closed file", key=self.path)

    # -- reading -----------------------------------------------------------------------------

    async def read(self, n: int = -1) -> Content:
        """``n`` bytes or characters, fewer only at the end; all that is left when negative.
        Cancelled, it may be repeated."""
        async with self._lock:
            source = self._reading()
            if self._decoder is None:
                return cast("Content", await source.read(n))
            text = self._decoder
            while (n < 0 or text.held < n) and not text.ended:
                await self._feed(source, text)
            return cast("Content", text.take(n))

    async def readinto(self, buffer: bytearray | memoryview) -> int:
        """Bytes read into ``buffer``; 0 only at the end. Of binary files."""
        if self._decoder is not None or self._encoder is not None:
            raise FileModeError("readinto is for binary files", key=self.path)
        async with self._lock:
            data = await self._reading().read(len(buffer))
            buffer[: len(data)] = data
            return len(data)

    async def readline(self, limit: int = -1) -> Content:
        """Up to the next end of a line, which it includes, or ``limit`` bytes or characters."""
        async with self._lock:
            source = self._reading()
            if self._decoder is None:
                return cast("Content", await self._byte_line(source, limit))
            text = self._decoder
            searched = 0
            while (line := text.line(limit, searched)) is None:
                searched = text.held
                await self._feed(source, text)
            return cast("Content", line)

    async def _byte_line(self, source: Incoming, limit: int) -> bytes:
        parts: list[bytes] = []
        size, began = 0, source.position
        try:
            while size != limit and (piece := await source.more()):
                at = piece.find(b"\n") + 1
                wanted = at or len(piece)
                if limit >= 0:
                    wanted = min(wanted, limit - size)
                parts.append(piece[:wanted])
                size += wanted
                if at or wanted < len(piece):
                    break
        except BaseException:
            source.seek(began)
            raise
        source.seek(began + size)
        return b"".join(parts)

    async def _feed(self, source: Incoming, text: TextReader) -> None:
        position = source.position
        text.feed(await source.more(), position)

    async def readlines(self) -> list[Content]:
        return [line async for line in self]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Content:
        """Lines; of a binary file they end with ``\\n``."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    async def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Of a file that is read; costs no request. In text only to 0, to the end, and to what
        `tell` told."""
        async with self._lock:
            self._check()
            if self._in is None:
                raise FileModeError("a file that is written cannot be sought", key=self.path)
            source = self._in
            if self._decoder is not None:
                return await self._seek_text(source, self._decoder, offset, whence)
            if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
                raise InvalidInputError(f"whence is 0, 1 or 2, not {whence!r}", key=self.path)
            base = (0, source.position, source.size)[whence]
            if base + offset < 0:
                raise InvalidInputError("a seek to before the start", key=self.path)
            source.seek(base + offset)
            return source.position

    async def _seek_text(self, source: Incoming, text: TextReader, offset: int, whence: int) -> int:
        if whence == os.SEEK_END and offset == 0:
            text.at(0)
            source.seek(source.size)
            return source.size
        if whence == os.SEEK_CUR and offset == 0:
            return text.tell(source.position)
        if whence != os.SEEK_SET:
            raise FileModeError("text is sought to 0, the end, or what tell told", key=self.path)
        if offset < 0:
            raise InvalidInputError("a seek to before the start", key=self.path)
        position, skip = text.at(offset)
        source.seek(position)
        while text.held < skip and not text.ended:
            await self._feed(source, text)
        text.take(skip)
        return offset

    async def tell(self) -> int:
        """Bytes from the start; in text that is read a number that only `seek` understands."""
        self._check()
        if self._out is not None:
            return self._start + self._out.written
        assert self._in is not None
        if self._decoder is not None:
            return self._decoder.tell(self._in.position)
        return self._in.position

    # -- writing -----------------------------------------------------------------------------

    async def write(self, data: Content) -> int:
        """All of ``data``; waits while the store is behind. When it fails, also by a cancel, the
        file is given up: nothing is published, and closing it raises."""
        async with self._lock:
            sink = self._writing()
            if self._encoder is not None:
                text = cast("str", data)
                await sink.write(self._encoder.encode(text))
                return len(text)
            if isinstance(data, str):
                raise TypeError("a binary file takes bytes, not str")
            given = cast("bytes", data)
            whole = given if type(given) is bytes else memoryview(given).tobytes()
            await sink.write(whole)
            return len(whole)

    async def writelines(self, lines: list[Content]) -> None:
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Hands what was gathered to the store, which takes it on its way. Nothing can be seen
        before the file is closed, flushed or not."""
        async with self._lock:
            self._check()
            if self._out is not None:
                await self._out.flush()

    async def truncate(self, size: int | None = None) -> int:
        raise io.UnsupportedOperation("a file is written from its start to its end")

    # -- the end -----------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Publishes what was written. Twice is harmless. When it raises, nothing is published
        (but for a lost reply or a cancel at the last moment: then old or new)."""
        async with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._in is not None:
                self._in.close()
            if self._out is not None:
                try:
                    if self._encoder is not None and (rest := self._encoder.end()):
                        await self._out.write(rest)
                except BaseException:
                    await self._out.abort()
                    raise
                await self._out.close()

    close = aclose

    async def abort(self) -> None:
        """Closes it and publishes nothing. Harmless once it is closed."""
        if self._closed:
            return
        self._closed = True
        if self._in is not None:
            self._in.close()
        if self._out is not None:
            await self._out.abort()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self.aclose()
        else:
            await self.abort()

    def __del__(self) -> None:
        if getattr(self, "_closed", True) or self._out is None:
            return
        if not self._loop.is_closed():  # whatever thread the collector runs in
            dropped = InvalidInputError("the file was dropped open", key=self.path)
            self._loop.call_soon_threadsafe(self._out.break_off, dropped)
        warnings.warn(
            f"the file {self.path!r} was dropped open and is not published; use async with",
            ResourceWarning,
            stacklevel=2,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<File {self.path!r} {self.mode!r}, {state}>"
