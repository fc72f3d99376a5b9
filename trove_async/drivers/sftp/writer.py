"""From a body to a published object.

A put is three exchanges with the server, however many are under way at the same time: open the
staged file and claim a record; write, stamp and close both; rename. Until the rename nothing is
visible, after it everything is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from trove_async._chunks import OneChunk
from trove_async.driver import Bytes, Chunks, PutOptions
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer, Lost
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.pool import LARGE
from trove_async.drivers.sftp.publish import publish
from trove_async.drivers.sftp.record import Identity, Record, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    KeyConflictError,
    PreconditionFailedError,
    UploadIntegrityError,
)
from trove_async.model import ObjectInfo

__all__ = ["SMALL", "Staged", "Writes", "put", "record_of"]

SMALL: Final = 128 * 1024
"""A body of at most so many bytes is written when all of it is there."""
WINDOW: Final = 4 * 1024 * 1024
"""Bytes on their way to the server that it has not acknowledged."""
_CLAIMS: Final = 100


def record_of(options: PutOptions) -> Record:
    """Legal once the body has ended."""
    metadata = dict(options.metadata)
    if options.late is not None:
        metadata.update(options.late())
    return Record(options.content_type, metadata, options.tags, options.storage_class)


class Writes:
    """Bytes into an open file, with a window of unacknowledged ones."""

    def __init__(self, ground: Ground, link: Link, handle: bytes, offset: int = 0) -> None:
        self._ground = ground
        self._link = link
        self._handle = handle
        self._held: list[bytes] = []
        self._length = 0
        self._asked: deque[tuple[asyncio.Future[Answer], int]] = deque()
        self._unacknowledged = 0
        self.offset = offset

    async def add(self, chunk: Bytes) -> None:
        """Takes ``chunk``, which may change as soon as this returns."""
        size = self._link.max_write
        view = memoryview(chunk)
        if self._length:
            head = view[: size - self._length]
            self._hold(head)
            view = view[len(head) :]
            if self._length < size:
                return
            await self._send_held()
        is_lent = False
        while len(view) >= size:
            await self._send(view[:size])
            view = view[size:]
            is_lent = True
        if is_lent:
            self._link.channel.flush()  # a copy is made, and the chunk is free
        if len(view):
            self._hold(view)

    def _hold(self, view: memoryview) -> None:
        self._held.append(bytes(view))
        self._length += len(view)

    async def _send_held(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        self._length = 0
        if data:
            await self._send(data)

    async def _send(self, data: bytes | memoryview) -> None:
        while self._asked and self._unacknowledged + len(data) > WINDOW:
            await self._acknowledge()
        self._asked.append((self._link.write(self._handle, self.offset, data), len(data)))
        self._unacknowledged += len(data)
        self.offset += len(data)

    async def _acknowledge(self) -> None:
        asked, size = self._asked.popleft()
        answer = await asked
        self._unacknowledged -= size
        if answer is not None:
            await self._ground.check(self._link, [answer])

    async def end(self) -> None:
        """Sends what is held, and waits for all acknowledgements."""
        await self._send_held()
        while self._asked:
            await self._acknowledge()

    def drop(self) -> None:
        for asked, _ in self._asked:
            asked.cancel()
        self._asked.clear()
        self._held.clear()


class Staged:
    """A private file and the record that is claimed for it, until they are published."""

    def __init__(
        self, ground: Ground, link: Link, target: PathTarget, existing: bytes | None = None
    ) -> None:
        """``existing``: path of a private file that is there, and stays when this is dropped."""
        self.ground = ground
        self.link = link
        self.target = target
        self.name = ground.new_name() if existing is None else existing
        self._is_ours = existing is None
        self.handle: bytes | None = None
        self.sidecar: bytes | None = None
        self.sidecar_handle: bytes | None = None
        self._data = self._wanted = b""
        self.identity = Identity(0, 0)
        self.is_quick = False
        """It is over in three exchanges: the server is not asked once more what it has after a
        single write that it acknowledges, nor what is replaced."""
        self.is_new = False
        """Nothing was there when it was begun."""
        self.seen: Identity | None = None
        """What was there when it was begun."""
        self.after = 0
        """What is there, or was tried, has this mtime: ours must be newer."""

    async def begin(self, size: int | None, record: Record | None = None) -> None:
        """Opens the file; with a known ``size`` claims ``record`` in the same exchange."""
        ground, link = self.ground, self.link
        path = ground.path(self.target)
        if self._is_ours:
            asked = [link.create(self.name)]
        else:
            asked = [link.ask(wire.OPEN, wire.open_file(self.name, wire.FOR_WRITING))]
        asked.append(link.lstat(path))
        stamp = ground.next_stamp(self.target)
        if size is not None and record is not None:
            asked.append(self._ask_claim(Identity(size, stamp), record))
        answers = await self._all_of(asked, asked[2:])
        try:
            if isinstance(answers[0], bytes):
                self.handle = answers[0]
            if self.handle is None:
                raise answers[0] if isinstance(answers[0], Failure) else Failure(wire.BAD_MESSAGE)
            there = attributes(answers[1])
            self.is_new = there is None
            if there is not None and there.is_file:
                self.seen = identity_of(there)
            if there is not None and there.is_folder and not await ground.prune_below(link, path):
                raise _folder_conflict(self.target)
            if there is not None and there.is_file and there.mtime >= stamp:
                self.after = there.mtime
            if size is not None and record is not None:
                is_claimed = self._take_claim(answers[2])
                if not is_claimed or self.after:
                    await self.claim(size, record, None if is_claimed else answers[2])
        except BaseException:
            self.drop()
            raise

    def _ask_claim(self, identity: Identity, record: Record) -> asyncio.Future[Answer]:
        self.identity = identity
        self._data = record.encode(self.target, identity)
        self._wanted = self.ground.sidecar(self.target.path, identity)
        if self.ground.fits_link(self._data):
            return self.link.make_symlink(self._data, self._wanted)
        return self.link.create(self._wanted, 0o600)

    def _take_claim(self, answer: Answer) -> bool:
        """False: somebody else has it, or nobody can."""
        if isinstance(answer, Failure):
            return False
        self.sidecar, self.sidecar_handle = self._wanted, answer
        return True

    async def _all_of(
        self, asked: list[asyncio.Future[Answer]], claims: list[asyncio.Future[Answer]]
    ) -> list[Answer]:
        try:
            return await self.link.all_of(asked)
        except BaseException:
            # A claim of which we do not know whether it is ours is left to the sweep.
            for claim in claims:
                if claim.done() and not claim.cancelled():
                    self._take_claim(claim.result())
                    self.sidecar_handle = None  # closed already
            self.drop()
            raise

    async def claim(self, size: int, record: Record, refused: Answer = None) -> None:
        """A record for this size and an mtime that nobody has. ``refused``: what the first try
        was answered."""
        ground, link = self.ground, self.link
        self._drop_claim()
        for _ in range(_CLAIMS):
            if isinstance(refused, Failure):
                if refused.code == wire.NO_SUCH_FILE:
                    await ground.make_shard(link, ground.sidecar(self.target.path, self.identity))
                elif refused.code != wire.FAILURE or not await ground.may_claim(
                    link, ground.sidecar(self.target.path, self.identity)
                ):
                    raise refused
            identity = Identity(size, ground.next_stamp(self.target, self.after))
            asked = self._ask_claim(identity, record)
            (refused,) = await self._all_of([asked], [asked])
            if self._take_claim(refused):
                return
            self.after = max(self.after, identity.mtime)
        raise refused if isinstance(refused, Failure) else Failure(wire.BAD_MESSAGE)

    def seal(self) -> list[asyncio.Future[Answer]]:
        """Asks for all that makes file and record complete, in order."""
        link, syncs = self.link, self.ground.syncs
        assert self.handle is not None and self.sidecar is not None
        asked = [link.stamp(self.handle, self.identity.mtime)]
        if not self.is_quick:
            asked.append(link.fstat(self.handle))
        if syncs:
            asked.append(link.fsync(self.handle))
        asked.append(link.close_file(self.handle))
        if self.sidecar_handle is not None:
            asked += link.write_pieces(self.sidecar_handle, self._data)
            if syncs:
                asked.append(link.fsync(self.sidecar_handle))
            asked.append(link.close_file(self.sidecar_handle))
        self.handle = self.sidecar_handle = None
        return asked

    async def sealed(self, asked: Sequence[asyncio.Future[Answer]], before: int = 0) -> None:
        """Waits for the answers: ``before`` of other requests, then those of `seal`."""
        answers = await self.link.all_of(asked)
        for place, answer in enumerate(answers):
            if not self.is_quick and place == before + 1:
                there = attributes(answer)
                if there is None or (there.size, there.mtime) != self.identity:
                    raise UploadIntegrityError("the staged file is not what was written")
            elif answer is not None:
                await self.ground.check(self.link, [answer])

    async def publish(self, *, create_only: bool, placed: Callable[[], None] | None = None) -> None:
        await publish(
            self.ground,
            self.link,
            self.target,
            self.name,
            self.identity,
            create_only=create_only,
            keep_staged=not self._is_ours,
            placed=placed,
            seen=self.seen if self.is_quick else "look",
        )

    def _drop_claim(self) -> None:
        if self.sidecar_handle is not None:
            self.link.let_go(self.sidecar_handle)
            self.sidecar_handle = None
        if self.sidecar is not None:
            self.ground.pool.clean(self.link, self.sidecar)
            self.sidecar = None

    def drop(self) -> None:
        """Takes all of it away again, without waiting; twice is fine."""
        if self.handle is not None:
            self.link.let_go(self.handle)
            self.handle = None
        self._drop_claim()
        if self._is_ours:
            self.ground.pool.clean(self.link, self.name)


def _folder_conflict(target: PathTarget) -> KeyConflictError:
    return KeyConflictError("a folder is in the way", bucket=target.bucket, key=target.key)


async def put(ground: Ground, target: PathTarget, body: Chunks, options: PutOptions) -> ObjectInfo:
    whole = body.whole(options.size or 0) if type(body) is OneChunk else None
    head: list[Bytes] = []
    if whole is None or len(whole) > SMALL:
        if whole is not None:
            head = [whole]
            whole = None
        else:
            whole, head = await _first(body)
    create_only = options.if_none_match is not None
    if whole is not None:
        record = record_of(options)
        async with ground.pool.use() as link:
            staged = Staged(ground, link, target)
            await _put_whole(staged, whole, record, create_only)
    else:
        async with ground.pool.use(LARGE) as link:
            staged = Staged(ground, link, target)
            record = await _put_stream(staged, head, body, options)
    return record.info(target.key, staged.identity)


async def _first(body: Chunks) -> tuple[bytes | None, list[Bytes]]:
    """(all of a small body, or None and the first chunks of a longer one)."""
    pieces: list[bytes] = []
    length = 0
    async for chunk in body:
        length += len(chunk)
        if length > SMALL:
            return None, [*pieces, chunk]
        pieces.append(bytes(chunk))
    return b"".join(pieces), []


async def _put_whole(staged: Staged, data: bytes, record: Record, create_only: bool) -> None:
    link = staged.link
    staged.is_quick = len(data) <= link.max_write
    await _begin(staged, create_only, len(data), record)
    try:
        assert staged.handle is not None
        writes = link.write_pieces(staged.handle, data)
        await staged.sealed([*writes, *staged.seal()], len(writes))
    except BaseException:
        staged.drop()
        raise
    await staged.publish(create_only=create_only)


async def _put_stream(
    staged: Staged, head: list[Bytes], body: Chunks, options: PutOptions
) -> Record:
    link = staged.link
    create_only = options.if_none_match is not None
    await _begin(staged, create_only)
    if staged.is_new:
        try:
            await staged.ground.check_bucket(link, staged.target.bucket)
        except BaseException:
            staged.drop()
            raise
    assert staged.handle is not None
    writes = Writes(staged.ground, link, staged.handle)
    try:
        while head:
            await writes.add(head.pop(0))
        async for chunk in body:
            await writes.add(chunk)
        record = record_of(options)
        await writes.end()
        await staged.claim(writes.offset, record)
        await staged.sealed(staged.seal())
    except BaseException:
        writes.drop()
        staged.drop()
        raise
    await staged.publish(create_only=create_only)
    return record


async def _begin(
    staged: Staged, create_only: bool, size: int | None = None, record: Record | None = None
) -> None:
    try:
        await staged.begin(size, record)
    except Failure as failure:
        if failure.code != wire.NO_SUCH_FILE or isinstance(failure, Lost):
            raise
        # Somebody took the private folder away.
        await staged.ground.make_state(staged.link)
        await staged.begin(size, record)
    if create_only and not staged.is_new:
        staged.drop()
        raise PreconditionFailedError("the object exists already")
