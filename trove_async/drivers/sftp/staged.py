"""A file that nobody sees yet, and the record that is claimed for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.publish import publish
from trove_async.drivers.sftp.record import Identity, Record, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import KeyConflictError, UploadIntegrityError

__all__ = ["Staged"]

_CLAIMS: Final = 100


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
        self._wanted = self.ground.sidecar(self.target, identity)
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
                    await ground.make_shard(link, ground.sidecar(self.target, self.identity))
                elif refused.code != wire.FAILURE or not await ground.may_claim(
                    link, ground.sidecar(self.target, self.identity)
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
