"""The reading side: small bodies at once, large ones ahead of their consumer by a window."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Self

from trove_async._chunks import OneChunk
from trove_async.driver import ByteRange, GetOptions, RawObject
from trove_async.driver.conditions import check_read
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer
from trove_async.drivers.sftp.faults import located
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.pool import LARGE
from trove_async.drivers.sftp.record import Identity, Record, foreign_info, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    ObjectChangedError,
    StreamConsumedError,
    TroveError,
    TruncatedError,
)
from trove_async.model import ObjectInfo

__all__ = ["Body", "Found", "get", "get_ranges", "head", "open_object"]

SMALL: Final = 256 * 1024
"""A body of at most so many bytes is read when it is opened."""
WINDOW: Final = 4 * 1024 * 1024
"""Bytes asked for ahead of the consumer."""
_CHASES: Final = 100
"""Times a read follows an object that others replace while it is opened."""


class Found:
    """An open version of an object and what is known of it. Whoever has it lets it go."""

    __slots__ = ("handle", "identity", "link", "record")

    def __init__(
        self, link: Link, handle: bytes, identity: Identity, record: Record | None
    ) -> None:
        self.link = link
        self.handle = handle
        self.identity = identity
        self.record = record

    def info(self, key: str) -> ObjectInfo:
        if self.record is None:
            return foreign_info(key, self.identity)
        return self.record.info(key, self.identity)

    def let_go(self) -> None:
        self.link.let_go(self.handle)


async def look(ground: Ground, link: Link, target: PathTarget) -> Identity:
    """ObjectNotFoundError also for links, pipes and folders, which are never opened."""
    there = await link.stat(ground.path(target))
    if there is None or not there.is_file:
        raise await ground.missing(link, target)
    return identity_of(there)


async def head(ground: Ground, link: Link, target: PathTarget) -> ObjectInfo:
    for _ in range(_CHASES):
        identity = await look(ground, link, target)
        record = await ground.read_record(link, target, identity)
        if record is not None:
            return record.info(target.key, identity)
        if await look(ground, link, target) == identity:
            return foreign_info(target.key, identity)
    raise ObjectChangedError("the object is replaced again and again")


async def open_object(
    ground: Ground, link: Link, target: PathTarget, options: GetOptions
) -> tuple[Found, int, int, list[asyncio.Future[Answer]]]:
    """(version, start, stop, reads of all bytes between them when these are few)."""
    path = ground.path(target)
    for _ in range(_CHASES):
        identity = await look(ground, link, target)
        if _is_conditional(options):
            check_read(options, foreign_info(target.key, identity))
        start, stop = (options.range or ByteRange(0)).resolve(identity.size)
        asked = [link.open(path), ground.ask_record(link, target, identity)]
        handle, recorded = await link.all_of(asked)
        if not isinstance(handle, bytes):
            if isinstance(handle, Failure) and handle.code == wire.NO_SUCH_FILE:
                continue
            raise handle or Failure(wire.BAD_MESSAGE)
        kept = False
        reads: list[asyncio.Future[Answer]] = []
        try:
            opened = link.fstat(handle)
            if stop - start <= SMALL:
                reads = reads_of(link, handle, start, stop)
            there = attributes(await opened)
            if there is None or not there.is_file:
                continue
            if identity_of(there) != identity:
                # Replaced between the two. What is open is a version as good, and going on with
                # it, not from the start, is what gets ahead of a writer that never rests.
                link.channel.abandon(*reads)
                reads = []
                identity = identity_of(there)
                if _is_conditional(options):
                    check_read(options, foreign_info(target.key, identity))
                start, stop = (options.range or ByteRange(0)).resolve(identity.size)
                asked_again = ground.ask_record(link, target, identity)
                if stop - start <= SMALL:
                    reads = reads_of(link, handle, start, stop)
                (recorded,) = await link.all_of([asked_again])
            record = await ground.record_of(link, recorded, target, identity)
            if record is None and await look(ground, link, target) != identity:
                continue  # replaced, and its record removed
            kept = True
            return Found(link, handle, identity, record), start, stop, reads
        finally:
            if not kept:
                link.channel.abandon(*reads)
                link.let_go(handle)
    raise ObjectChangedError("the object is replaced again and again")


def _is_conditional(options: GetOptions) -> bool:
    return (
        options.if_match is not None
        or options.if_none_match is not None
        or options.if_modified_since is not None
    )


def reads_of(link: Link, handle: bytes, start: int, stop: int) -> list[asyncio.Future[Answer]]:
    size = link.max_read
    return [
        link.read(handle, offset, min(size, stop - offset)) for offset in range(start, stop, size)
    ]


async def whole(
    link: Link, handle: bytes, start: int, stop: int, reads: Sequence[asyncio.Future[Answer]]
) -> bytes:
    """The bytes of ``reads``, which are those of `reads_of`."""
    size = link.max_read
    pieces = []
    answers = await link.all_of(reads)
    for number, answer in enumerate(answers):
        offset = start + number * size
        pieces.append(await complete(link, handle, offset, min(size, stop - offset), answer))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


async def complete(link: Link, handle: bytes, offset: int, size: int, answer: Answer) -> bytes:
    """All bytes of a read, of which ``answer`` may be only the first."""
    data = _bytes_of(answer)
    while len(data) < size:  # a server may give less than it was asked for
        data += _bytes_of(await link.read(handle, offset + len(data), size - len(data)))
    return data if len(data) == size else data[:size]


def _bytes_of(answer: Answer) -> bytes:
    if isinstance(answer, bytes) and answer:
        return answer
    if isinstance(answer, Failure) and answer.code != wire.EOF:
        raise answer
    raise TruncatedError("the file became shorter while it was read")


async def get(ground: Ground, target: PathTarget, options: GetOptions) -> RawObject:
    async with ground.pool.use() as link:
        found, start, stop, reads = await open_object(ground, link, target, options)
        info = found.info(target.key)
        if stop - start > SMALL:
            return RawObject(info, Body(ground, target, found, start, stop), start, stop)
        try:
            data = await whole(link, found.handle, start, stop, reads) if reads else b""
        finally:
            link.channel.abandon(*reads)
            found.let_go()
        return RawObject(info, OneChunk(data), start, stop)


async def get_ranges(
    ground: Ground, target: PathTarget, ranges: Sequence[ByteRange], options: GetOptions
) -> list[bytes]:
    """All of one version: the open file pins it. In one exchange, as far as the window goes."""
    pinned = GetOptions(
        ByteRange(0, 0), None, options.if_match, options.if_none_match, options.if_modified_since
    )
    async with ground.pool.use() as link:
        found, _, _, _ = await open_object(ground, link, target, pinned)
        waiting: deque[tuple[int, int, list[asyncio.Future[Answer]]]] = deque()
        data: list[bytes] = []
        under_way = 0
        try:
            bounds = [wanted.resolve(found.identity.size) for wanted in ranges]
            for start, stop in bounds:
                while waiting and under_way + stop - start > WINDOW:
                    first = waiting.popleft()
                    data.append(await whole(link, found.handle, *first))
                    under_way -= first[1] - first[0]
                waiting.append((start, stop, reads_of(link, found.handle, start, stop)))
                under_way += stop - start
            while waiting:
                data.append(await whole(link, found.handle, *waiting.popleft()))
            return data
        finally:
            for _, _, reads in waiting:
                link.channel.abandon(*reads)
            found.let_go()


class Body:
    """Bytes ``start`` to ``stop`` of an open file, which it owns, asked for ahead."""

    def __init__(
        self, ground: Ground, target: PathTarget, found: Found, start: int, stop: int
    ) -> None:
        self._loop = ground.loop
        self._target = target
        self._found: Found | None = found
        self._asked: deque[tuple[int, int, asyncio.Future[Answer]]] = deque()
        self._next = start
        self._stop = stop
        self._given = start
        found.link.load += LARGE
        self._ask()

    def _ask(self) -> None:
        found = self._found
        assert found is not None
        size = found.link.max_read
        while self._next < self._stop and self._next - self._given < WINDOW:
            wanted = min(size, self._stop - self._next)
            answer = found.link.read(found.handle, self._next, wanted)
            self._asked.append((self._next, wanted, answer))
            self._next += wanted

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        found = self._found
        if found is None:
            if self._given >= self._stop:
                raise StopAsyncIteration
            raise StreamConsumedError("the body is closed")
        offset, size, asked = self._asked[0]
        if asked.cancelled():  # with a task that waited for it, and is no more
            asked = found.link.read(found.handle, offset, size)
            self._asked[0] = offset, size, asked
        try:
            data = await complete(found.link, found.handle, offset, size, await asked)
        except (Failure, TroveError) as exc:
            raise located(exc, "get", self._target)  # noqa: B904 -- the cause is set in it
        self._asked.popleft()
        self._given = offset + size
        if self._given >= self._stop:
            self._close()
        else:
            self._ask()
        return data

    async def aclose(self) -> None:
        self._close()

    def _close(self) -> None:
        found, self._found = self._found, None
        if found is None:
            return
        for _, _, asked in self._asked:
            asked.cancel()
        self._asked.clear()
        found.link.load -= LARGE
        found.let_go()

    def __del__(self) -> None:
        if self._found is not None and not self._loop.is_closed():
            # Perhaps in another thread: the link is touched in its own loop alone.
            with suppress(RuntimeError):  # closed meanwhile
                asked = [one for _, _, one in self._asked]
                self._loop.call_soon_threadsafe(_forget, self._found, asked)


def _forget(found: Found, asked: list[asyncio.Future[Answer]]) -> None:
    found.link.load -= LARGE
    for one in asked:
        one.cancel()
    found.let_go()
