"""What a stream of bytes is: bodies of every kind become one closable iterator of chunks."""

from __future__ import annotations

import asyncio
import inspect
import io
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, Self, cast, runtime_checkable

from trove_async._threads import cpu_pool, io_pool
from trove_async.checksum import INLINE_LIMIT, Hasher, digest_of, new_hasher
from trove_async.errors import ChecksumMismatchError, TrailingDataError, TruncatedError

__all__ = [
    "Body",
    "Digest",
    "OneChunk",
    "Tap",
    "as_body",
    "chunks_of",
    "collect",
    "cut",
]

Bytes = bytes | bytearray | memoryview
AsyncBytes = AsyncGenerator[Bytes, None]


class Closable(Protocol):
    def __aiter__(self) -> AsyncIterator[Bytes]: ...
    async def __anext__(self) -> Bytes: ...
    async def aclose(self) -> None: ...


@runtime_checkable
class _Sized(Protocol):
    @property
    def info(self) -> Any: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...


class OneChunk:
    """A body of one chunk, or none when it is empty; much cheaper than a generator."""

    __slots__ = ("_data",)

    def __init__(self, data: Bytes) -> None:
        self._data: Bytes | None = data if len(data) else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Bytes:
        data = self._data
        if data is None:
            raise StopAsyncIteration
        self._data = None
        return data

    async def aclose(self) -> None:
        self._data = None

    def whole(self, size: int) -> bytes | None:
        """Takes all of it, if that is ``size`` immutable bytes."""
        data = self._data
        if data is None:
            return b"" if size == 0 else None
        if type(data) is not bytes or len(data) != size:
            return None
        self._data = None
        return data


async def chunks_of(data: bytes | memoryview, size: int) -> AsyncBytes:
    """``data`` in views of at most ``size`` bytes; no copy."""
    view = memoryview(data)
    for start in range(0, len(view), size):
        yield view[start : start + size]


async def collect(chunks: AsyncIterable[Bytes]) -> bytes:
    """All of it in memory; the caller knows that it is small, and closes it."""
    if type(chunks) is OneChunk:
        data = await anext(chunks, b"")
        return data if type(data) is bytes else bytes(data)
    parts = [chunk async for chunk in chunks]
    if len(parts) == 1 and type(parts[0]) is bytes:
        return parts[0]
    return b"".join(parts)


async def cut(chunks: Closable, start: int, stop: int) -> AsyncBytes:
    """Bytes ``start`` to ``stop`` of a stream; stops pulling at the last one and closes it."""
    position = 0
    async with aclosing(chunks):
        if start >= stop:
            return
        async for chunk in chunks:
            end = position + len(chunk)
            if end > start:
                piece = memoryview(chunk)[max(0, start - position) : stop - position]
                if len(piece):
                    yield piece
            position = end
            if position >= stop:
                return


class Digest:
    """The one running count and digest of an operation's logical bytes, shared by the record
    and the formats. ``algorithm`` None only counts."""

    __slots__ = ("_hasher", "_inline", "_text", "algorithm", "count", "finished")

    def __init__(self, algorithm: str | None) -> None:
        self.algorithm = algorithm
        self.count = 0
        self.finished = False
        self._text: str | None = None
        self._hasher: Hasher | None = new_hasher(algorithm) if algorithm else None
        self._inline = INLINE_LIMIT.get(algorithm or "", 1 << 62)

    @classmethod
    def of(cls, algorithm: str | None, data: Bytes) -> Self:
        """Of bytes that are all there: complete."""
        made = cls.__new__(cls)  # every small put through a layer makes one
        made.algorithm = algorithm
        made.count = len(data)
        made.finished = True
        made._text = None if algorithm is None else digest_of(algorithm, data)
        made._hasher = None
        made._inline = 0
        return made

    def update(self, data: Bytes) -> None:
        self.count += len(data)
        if self._hasher is not None:
            self._hasher.update(data)

    async def feed(self, data: Bytes) -> None:
        """As `update`, off the loop when ``data`` is large for this algorithm."""
        if len(data) <= self._inline:
            self.update(data)
        else:
            await asyncio.get_running_loop().run_in_executor(cpu_pool(), self.update, data)

    @property
    def is_inline(self) -> int:
        return self._inline

    @property
    def text(self) -> str | None:
        """``"<algorithm>:<hex>"`` so far, or None without an algorithm."""
        if self._text is not None:
            return self._text
        if self._hasher is None:
            return None
        text = f"{self.algorithm}:{self._hasher.hexdigest()}"
        if self.finished:
            self._text = text
        return text

    @property
    def hex(self) -> str:
        return (self.text or "").rpartition(":")[2]


class Tap:
    """Passes the body on, counts and hashes it, and raises *in place of its end* when it is
    not what was declared: a wrong object is never published.

    ``digests[0]`` is the recorded one; ``expected`` is checked against whichever has its
    algorithm. A class, so that a small put makes and closes one generator less."""

    __slots__ = ("_chunks", "_digests", "_expected", "_size")

    def __init__(
        self,
        chunks: Closable,
        digests: list[Digest],
        *,
        size: int | None = None,
        expected: tuple[str, str] | None = None,
    ) -> None:
        self._chunks = chunks
        self._digests = digests
        self._size = size
        self._expected = expected

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        size = self._size
        main = self._digests[0]
        try:
            chunk = await self._chunks.__anext__()
        except StopAsyncIteration:
            if not main.finished:
                self._check_end(main)
            raise
        if size is not None and main.count + len(chunk) > size:
            raise TrailingDataError(f"the body gives more than the declared {size} bytes")
        for digest in self._digests:
            if len(chunk) <= digest.is_inline:
                digest.update(chunk)
            else:
                await digest.feed(chunk)
        return chunk

    def _check_end(self, main: Digest) -> None:
        if self._size is not None and main.count != self._size:
            raise TruncatedError(f"the body gave {main.count} of the declared {self._size} bytes")
        if self._expected is not None:
            algorithm, wanted = self._expected
            found = next(d.hex for d in self._digests if d.algorithm == algorithm)
            if found != wanted:
                raise ChecksumMismatchError(f"expected {algorithm}:{wanted}, the body has {found}")
        for digest in self._digests:
            digest.finished = True

    async def aclose(self) -> None:
        """The level below belongs to the chain."""


# -- bodies ------------------------------------------------------------------------------


@dataclass(slots=True)
class Body:
    """A caller's body, named but not yet opened."""

    open: Callable[[], Closable]
    """A fresh stream of it; legal once unless `replayable`."""
    size: int | None = None
    whole: bytes | None = None
    """All of it, when it is in memory and no larger than a chunk."""
    replayable: bool = False
    is_taken: bool = False
    """An iterator: once handed over it is closed, whatever becomes of the operation."""
    is_open: bool = False

    async def refuse(self, error: BaseException) -> None:
        """Closes a body that was handed over and never opened, because of ``error``."""
        if self.is_taken and not self.is_open:
            self.is_open = True
            try:
                await self.open().aclose()
            except Exception as closing:
                error.add_note(f"closing the body failed too: {closing!r}")


def as_body(source: object, chunk_size: int) -> Body:
    """Raises TypeError for what gives no bytes (str, None, text files), before any I/O."""
    if type(source) is bytes:
        return _of_bytes(source, chunk_size)
    if isinstance(source, str) or source is None or isinstance(source, io.TextIOBase):
        raise TypeError(f"a body gives bytes; {type(source).__name__} does not")
    if isinstance(source, os.PathLike):
        return _of_path(source, chunk_size)
    if isinstance(source, _Sized):  # an ObjectReader
        return Body(lambda: _of_async(source), size=_size_of_reader(source))
    if hasattr(source, "read"):
        return _of_file(source, chunk_size)
    if isinstance(source, AsyncIterable):
        return Body(lambda: _of_async(source), is_taken=True)
    try:
        view = memoryview(cast("bytes", source))
    except TypeError:
        pass
    else:
        return _of_view(view, chunk_size)
    if isinstance(source, Body):  # one of ours, looked at already
        return source
    if isinstance(source, Iterable):
        replayable = isinstance(source, list | tuple)
        return Body(lambda: _of_iterable(source), replayable=replayable, is_taken=not replayable)
    raise TypeError(f"a body gives bytes; {type(source).__name__} does not")


def _size_of_reader(reader: Any) -> int | None:
    size = getattr(reader, "length", None)
    return size if isinstance(size, int) else None


def _of_bytes(data: bytes, chunk_size: int) -> Body:
    if len(data) <= chunk_size:
        return Body(lambda: OneChunk(data), len(data), data, True)
    return Body(lambda: chunks_of(data, chunk_size), len(data), None, True)


def _of_view(view: memoryview, chunk_size: int) -> Body:
    if view.nbytes == 0:
        return _of_bytes(b"", chunk_size)
    if view.ndim != 1 or view.format != "B" or not view.c_contiguous:
        view = memoryview(view.tobytes()) if not view.c_contiguous else view.cast("B")
    if len(view) <= chunk_size:
        return _of_bytes(view.tobytes(), chunk_size)  # what is stored is what it held now
    return Body(lambda: _of_mutable(view, chunk_size), len(view), None, True)


async def _of_mutable(view: memoryview, size: int) -> AsyncBytes:
    for start in range(0, len(view), size):
        yield view[start : start + size].tobytes()


def _frozen(chunk: object) -> bytes:
    """A chunk from outside as immutable bytes: its producer may reuse the buffer."""
    if type(chunk) is bytes:
        return chunk
    if isinstance(chunk, bytes | bytearray | memoryview):
        return bytes(chunk)
    if isinstance(chunk, str) or chunk is None or isinstance(chunk, int):
        raise TypeError(f"a body gives bytes, not {type(chunk).__name__}")
    try:
        return memoryview(cast("bytes", chunk)).tobytes()
    except TypeError:
        raise TypeError(f"a body gives bytes, not {type(chunk).__name__}") from None


class _of_async:
    """An async iterable, closed exactly once and also when nothing was pulled."""

    __slots__ = ("_closed", "_iterator")

    def __init__(self, source: AsyncIterable[object]) -> None:
        self._iterator = aiter(source)
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while True:
            chunk = _frozen(await anext(self._iterator))
            if chunk:
                return chunk

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            close = getattr(self._iterator, "aclose", None)
            if close is not None:
                await close()


class _of_iterable:
    """A plain iterable; it runs on the event loop, so it should not block."""

    __slots__ = ("_closed", "_iterator")

    def __init__(self, source: Iterable[object]) -> None:
        self._iterator = iter(source)
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        for item in self._iterator:
            chunk = _frozen(item)
            if chunk:
                return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            close = getattr(self._iterator, "close", None)
            if close is not None:
                close()


def _of_path(path: os.PathLike[str] | os.PathLike[bytes], chunk_size: int) -> Body:
    name = os.fspath(path)
    try:
        status = os.stat(name)
    except OSError:
        size = None  # said by open(), where the caller's await is
    else:
        size = status.st_size if stat.S_ISREG(status.st_mode) and status.st_size else None
    return Body(lambda: _read_path(name, chunk_size), size, None, True)


async def _read_path(name: str | bytes, chunk_size: int) -> AsyncBytes:
    """Reads ahead by one chunk, so that disk and consumer work at the same time."""
    loop = asyncio.get_running_loop()
    pool = io_pool()
    opening = loop.run_in_executor(pool, lambda: open(name, "rb", buffering=0))  # noqa: SIM115 -- closed in finally
    pending: asyncio.Future[bytes] | None = None
    try:
        await asyncio.shield(opening)
        file = opening.result()
        pending = loop.run_in_executor(pool, file.read, chunk_size)
        while chunk := await asyncio.shield(pending):
            pending = loop.run_in_executor(pool, file.read, chunk_size)
            yield chunk
        pending = None
    finally:
        # A worker may still own the file: closing it now could hit somebody else's descriptor.
        try:
            await _quietly(opening, pending)
        finally:
            if opening.done() and not opening.cancelled() and opening.exception() is None:
                opening.result().close()


async def _quietly(*jobs: asyncio.Future[Any] | None) -> None:
    """Waits for the end of jobs whatever comes; a cancel is passed on afterwards."""
    running = [job for job in jobs if job is not None]
    interrupted: asyncio.CancelledError | None = None
    while not all(job.done() for job in running):
        try:
            await asyncio.wait(running)
        except asyncio.CancelledError as exc:
            interrupted = exc
    for job in running:
        if not job.cancelled():
            job.exception()  # retrieved, so that the loop does not report it
    if interrupted is not None:
        raise interrupted


def _of_file(file: Any, chunk_size: int) -> Body:
    if inspect.iscoroutinefunction(file.read):
        return Body(lambda: _read_async_file(file, chunk_size))
    size: int | None = None
    start: int | None = None
    try:
        if file.seekable():
            start = file.tell()
            end = file.seek(0, os.SEEK_END)
            file.seek(start)
            size = max(0, end - start) if isinstance(end, int) else None
    except (AttributeError, OSError, ValueError, TypeError):
        size = start = None
    if isinstance(file, io.BytesIO):
        return Body(lambda: _read_inline(file, start, chunk_size), size, None, True)
    return Body(lambda: _read_file(file, start, chunk_size), size, None, start is not None)


async def _read_async_file(file: Any, chunk_size: int) -> AsyncBytes:
    while chunk := _frozen(await file.read(chunk_size)):
        yield chunk


async def _read_inline(file: io.BytesIO, start: int | None, chunk_size: int) -> AsyncBytes:
    if start is not None:
        file.seek(start)
    while chunk := file.read(chunk_size):
        yield chunk


async def _read_file(file: Any, start: int | None, chunk_size: int) -> AsyncBytes:
    """A blocking file, read in a worker. It belongs to the caller and stays open, so no
    worker may still read it when this generator is closed."""
    loop = asyncio.get_running_loop()

    def read() -> object:
        nonlocal start
        if start is not None:
            file.seek(start)
            start = None
        return file.read(chunk_size)

    while True:
        job = loop.run_in_executor(io_pool(), read)
        try:
            await asyncio.shield(job)
        except asyncio.CancelledError:
            await _quietly(job)
            raise
        result = job.result()
        chunk = _frozen(await result if inspect.isawaitable(result) else result)
        if not chunk:
            return
        yield chunk
