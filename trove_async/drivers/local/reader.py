"""The reading side: small bodies at once, large ones ahead of their consumer by a chunk."""

from __future__ import annotations

import asyncio
import errno
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Final, Self

from trove_async._chunks import OneChunk
from trove_async._threads import Hop, Job, settle
from trove_async.driver import ByteRange, GetOptions, RawObject
from trove_async.driver.conditions import check_read
from trove_async.drivers.local.faults import located
from trove_async.drivers.local.fs import FS
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.meta import Record
from trove_async.drivers.local.names import Target
from trove_async.errors import DriverClosedError, StreamConsumedError, TroveError, TruncatedError

__all__ = [
    "SMALL",
    "FileBody",
    "head",
    "head_now",
    "open_now",
    "open_object",
    "raw_object",
    "read_ranges",
]

SMALL: Final = 256 * 1024
"""A body of at most so many bytes is read when it is opened."""
_CHUNK: Final = 1024 * 1024
_AHEAD: Final = 4
"""Chunks read before they are asked for."""
_LOW: Final = 2
"""Chunks left at which a worker reads on."""


@cache
def keep_pages() -> None:
    """Frees one block of 8 MiB, once in a process. From the largest block it has seen freed
    glibc learns how much free memory to keep (mallopt(3), M_TRIM_THRESHOLD): the few chunks
    under way would else be given back and faulted in anew, over and over. Measured for 1 GiB:
    80,000 faults and 0.55 CPU s, or none and 0.36. Nothing is touched, and elsewhere than on
    glibc nothing happens."""
    bytes(8 * _CHUNK)


class FileBody:
    """Bytes ``start`` to ``stop`` of an open file, which it owns.

    A worker reads ahead while the consumer works. It holds this object, so that the
    descriptor is never closed under it."""

    def __init__(self, fs: FS, hop: Hop, target: Target, fd: int, start: int, stop: int) -> None:
        self._fs = fs
        self._hop = hop
        self._target = target
        self._fd = fd
        self._next = start
        self._stop = stop
        self._ready: deque[bytes] = deque()
        self._job: Job[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_shut = False
        if stop - start > _AHEAD * _CHUNK:
            keep_pages()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        ready = self._ready
        while not ready:
            job = self._job
            if job is None:
                if self._next >= self._stop:
                    raise StopAsyncIteration
                if self._fd < 0:
                    raise StreamConsumedError("the body is closed")
                self._start()
            elif job.done():
                try:
                    job.result()
                except (OSError, TroveError) as exc:
                    raise located(exc, "get", self._target)  # noqa: B904 -- the cause is set in it
            await self._more()
        data = ready.popleft()
        if len(ready) <= _LOW and self._job is None and self._next < self._stop:
            with suppress(DriverClosedError):  # said when no chunk is left
                self._start()
        return data

    def _start(self) -> None:
        self._job = self._hop.run(self._read_on, at_once=True)
        self._job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Future[None]) -> None:
        if job.exception() is None:  # a failed one stays, for who asks for its chunk
            self._job = None
        self._wake()

    async def _more(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            if not self._ready:  # the worker may not have seen that we wait
                await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _read_on(self) -> None:
        """In a worker."""
        while self._next < self._stop and len(self._ready) < _AHEAD and not self._is_shut:
            want = min(_CHUNK, self._stop - self._next)
            data = self._fs.pread(self._fd, want, self._next)
            if not data:
                raise TruncatedError("the file became shorter while it was read")
            self._next += len(data)
            self._ready.append(data)
            waiter = self._waiter
            if waiter is not None:
                with suppress(RuntimeError):  # the loop is gone; nobody waits any more
                    waiter.get_loop().call_soon_threadsafe(self._wake)

    async def aclose(self) -> None:
        """Waits for a read that still runs, also when cancelled, and closes the file."""
        self._is_shut = True
        job, self._job = self._job, None
        try:
            if job is not None:
                with suppress(OSError, TruncatedError):
                    await settle(job)
        finally:
            self.close()

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        self._next = self._stop
        self._ready.clear()
        if fd >= 0:
            with suppress(OSError):
                self._fs.close(fd)

    def __del__(self) -> None:
        self.close()


Opened = tuple[Record, int, int, bytes | None, int]
"""Record, start, stop, and either all bytes between them or an open file."""


def open_object(ground: Ground, target: Target, options: GetOptions) -> Opened:
    """In a worker, or where nothing blocks."""
    fd, _, record = ground.load(target)
    return _begin(ground.fs, fd, target, record, options, _read_all)


def open_now(ground: Ground, target: Target, options: GetOptions) -> Opened | None:
    """On the event loop, from what the kernel holds in memory; None: ask a worker."""
    fs = ground.fs
    try:
        fd, status = ground.open_file(target, cached=True)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EINTR):
            return None
        raise
    try:
        record = ground.record_of(target, fd, status, cached=True)
    except BlockingIOError:
        fs.close(fd)
        return None
    except BaseException:
        fs.close(fd)
        raise
    try:
        return _begin(fs, fd, target, record, options, _read_cached)
    except BlockingIOError:
        return None


def _begin(
    fs: FS,
    fd: int,
    target: Target,
    record: Record,
    options: GetOptions,
    read: Callable[[FS, int, int, int], bytes],
) -> Opened:
    """Owns ``fd``: closes it unless it is handed on."""
    keep = False
    try:
        if (
            options.if_match is not None
            or options.if_none_match is not None
            or options.if_modified_since is not None
        ):
            check_read(options, record.info(target.key))
        if options.range is None:
            start, stop = 0, record.size
        else:
            start, stop = options.range.resolve(record.size)
        if stop - start > SMALL:
            keep = True
            return record, start, stop, None, fd
        return record, start, stop, read(fs, fd, start, stop), -1
    finally:
        if not keep:
            fs.close(fd)


def _read_all(fs: FS, fd: int, start: int, stop: int) -> bytes:
    data = fs.pread(fd, stop - start, start) if stop > start else b""
    while len(data) < stop - start:
        more = fs.pread(fd, stop - start - len(data), start + len(data))
        if not more:
            raise TruncatedError("the file became shorter while it was read")
        data += more
    return data


def _read_cached(fs: FS, fd: int, start: int, stop: int) -> bytes:
    if stop <= start:
        return b""
    buffer = bytearray(stop - start)
    try:
        count = fs.preadv_nowait(fd, buffer, start)
    except OSError as exc:
        raise BlockingIOError(errno.EAGAIN, "not in memory") from exc
    if count < len(buffer):
        raise BlockingIOError(errno.EAGAIN, "not all in memory")
    return bytes(buffer)


def head(ground: Ground, target: Target) -> Record:
    fd, _, record = ground.load(target)
    ground.fs.close(fd)
    return record


def head_now(ground: Ground, target: Target) -> Record | None:
    """On the event loop, from what the kernel holds in memory; None: ask a worker."""
    try:
        fd, status = ground.open_file(target, cached=True)
    except OSError as exc:
        if exc.errno in (errno.EAGAIN, errno.EINTR):
            return None
        raise
    try:
        return ground.record_of(target, fd, status, cached=True)
    except BlockingIOError:
        return None
    finally:
        ground.fs.close(fd)


def raw_object(ground: Ground, hop: Hop, target: Target, opened: Opened) -> RawObject:
    record, start, stop, data, fd = opened
    info = record.info(target.key)
    if data is not None:
        return RawObject(info, OneChunk(data), start, stop)
    return RawObject(info, FileBody(ground.fs, hop, target, fd, start, stop), start, stop)


def read_ranges(
    ground: Ground, target: Target, ranges: Sequence[ByteRange], options: GetOptions
) -> list[bytes]:
    """All of one version: the open file pins it."""
    fd, _, record = ground.load(target)
    try:
        check_read(options, record.info(target.key))
        bounds = [wanted.resolve(record.size) for wanted in ranges]
        return [_read_all(ground.fs, fd, start, stop) for start, stop in bounds]
    finally:
        ground.fs.close(fd)
