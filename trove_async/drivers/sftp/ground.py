"""The opened root: where things are, what the server can do, and what time it is there.

    <root>/<bucket>/<key>            the objects
    <root>/.trove/tmp/<random>       what is being written; swept by age
    <root>/.trove/meta/<xx>/<...>    records, each chosen by its object's path, size and mtime
    <root>/.trove/multipart/<bucket>/<id>/   unfinished uploads

A version of an object is known by its size and its mtime. The mtime is stamped by us: the
server's time, but always newer than what is replaced; the pair is claimed by the exclusive
creation of its record and moved on by a second when somebody has it already. So a rename of
the file publishes the record with it, and a record is never taken for another version's.

With OpenSSH a record is the text of a symbolic link: made in one request, exclusively and whole
(a file takes three, and is empty between them), and read in one. It points nowhere. Other
servers, and records that are too long, have files.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from trove_async.driver.paths import STATE, PathTarget, bucket_path
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer, Lost
from trove_async.drivers.sftp.config import SFTPConfig
from trove_async.drivers.sftp.link import Link, attributes, text_of
from trove_async.drivers.sftp.pool import Pool
from trove_async.drivers.sftp.record import Identity, Record
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import (
    BucketNotFoundError,
    InvalidConfigError,
    ObjectNotFoundError,
    StorageFullError,
    UnsupportedError,
)

__all__ = ["KEEP", "Ground"]

KEEP: Final = b".trove-keep"
"""An empty folder of this name keeps the folder that it is in."""

_log = logging.getLogger("trove_async.sftp")
_MAX_RECORD: Final = 1 << 20
_LONGEST_LINK: Final = 4000  # PATH_MAX is 4096
_FLOORS: Final = 10_000  # keys whose last stamp is remembered
_NEARLY: Final = 1 << 20  # bytes: a disk with less is full for the writes of this driver
_ODD: Final = 1_700_000_001


class Ground:
    """Facts of one opened root. Bound to the loop it is made in."""

    def __init__(self, config: SFTPConfig, pool: Pool) -> None:
        self.config = config
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self.root = config.root
        self.state = self.root + b"/" + STATE
        self.staging = self.state + b"/tmp/"
        self.uploads = self.state + b"/multipart/"
        self._records = self.state + b"/meta/"
        self._prefix = secrets.token_hex(8).encode()
        self._number = 0
        self._skew = 0.0
        self._floors: OrderedDict[bytes, int] = OrderedDict()
        self._gone: deque[tuple[int, bytes]] = deque()
        self.uses_links = False
        self.can_replace = False
        self.can_link = False
        self.can_copy = False
        self.syncs = False

    # -- opening -----------------------------------------------------------------------------

    async def set_up(self, link: Link) -> None:
        """Makes what is missing, and learns what the server can do."""
        has = link.extensions
        self.uses_links = link.is_openssh
        self.can_replace = b"posix-rename@openssh.com" in has
        self.can_link = b"hardlink@openssh.com" in has
        self.can_copy = b"copy-data" in has
        self.syncs = self.config.durability == "full" and b"fsync@openssh.com" in has
        if not self.can_replace:
            _log.warning(
                "the SFTP server cannot rename over a file: an object that is overwritten is "
                "missing for a moment"
            )
        if not await self._look(link):
            await self._make_root(link)
            await self._look(link)

    async def _look(self, link: Link) -> bool:
        """Makes the private folders, and measures the server's clock and whether it keeps an
        mtime as it is given; all in two exchanges. False: there is no root."""
        probe = self.new_name()
        asked = [link.lstat(self.root), *self._state_folders(link), link.create(probe, 0o600)]
        answers = await link.all_of(asked)
        handle = answers[-1]
        if not isinstance(handle, bytes):
            if attributes(answers[0]) is None:
                return False
            if isinstance(handle, Failure) and handle.code == wire.CONNECTION_LOST:
                raise handle
            _log.warning("the root of an SFTP store cannot be written: it is read-only")
            return True
        try:
            asked = [link.fstat(handle), link.stamp(handle, _ODD), link.fstat(handle)]
            first, _, last = await link.all_of(asked)
        finally:
            link.let_go(handle)
            self.pool.clean(link, probe)
        before, after = attributes(first), attributes(last)
        if before is None or after is None or after.mtime != _ODD:
            raise UnsupportedError("the server does not keep the mtime that a file is given")
        skew = before.mtime - time.time()
        self._skew = skew if abs(skew) > 2 else 0.0  # a difference in whole seconds says no more
        return True

    def _state_folders(self, link: Link) -> list[asyncio.Future[Answer]]:
        names = (b"", b"/tmp", b"/meta", b"/multipart")
        return [link.make_folder(self.state + name, 0o700) for name in names]

    async def make_state(self, link: Link) -> None:
        """The private folders, as far as they can be made."""
        await link.all_of(self._state_folders(link))

    async def _make_root(self, link: Link) -> None:
        names = self.root.split(b"/")[1:]
        paths = [b"/" + b"/".join(names[:count]) for count in range(1, len(names) + 1)]
        modes = [0o755] * (len(paths) - 1) + [0o700]
        answers = await link.all_of(
            [link.make_folder(path, mode) for path, mode in zip(paths, modes, strict=True)]
        )
        if (await link.stat(self.root)) is None:
            failed = answers[-1]
            if isinstance(failed, Failure) and failed.code == wire.PERMISSION_DENIED:
                raise failed
            raise InvalidConfigError("the root cannot be made on the server") from (
                failed if isinstance(failed, Failure) else None
            )

    # -- time --------------------------------------------------------------------------------

    def clock(self) -> float:
        """The server's time, as well as we know it."""
        return time.time() + self._skew

    def now(self) -> int:
        """The server's time in whole seconds, as it stamps files."""
        return int(time.time() + self._skew)

    def next_stamp(self, target: PathTarget, after: int = 0) -> int:
        """An mtime newer than ``after`` and than any that we have given this key."""
        path = target.path
        stamp = max(self.now(), after + 1, self._floors.pop(path, 0) + 1)
        self._floors[path] = stamp
        if len(self._floors) > _FLOORS:
            self._floors.popitem(last=False)
        return stamp

    def may_have(self, target: PathTarget, mtime: int) -> bool:
        """Whether a file that has its stamp already may take the place of ``target``."""
        if self._floors.get(target.path, 0) >= mtime:
            return False
        self._floors[target.path] = mtime
        return True

    def new_name(self) -> bytes:
        """For a private file that nobody else knows; tells when it was given, for the sweep."""
        self._number += 1
        return b"%b%b-%x-%x" % (self.staging, self._prefix, self._number, self.now())

    # -- records -----------------------------------------------------------------------------

    def sidecar(self, target: PathTarget, identity: Identity) -> bytes:
        return self._records + target.sidecar(*identity)

    def drop_record(
        self, link: Link, target: PathTarget, identity: Identity, *, deleted: bool
    ) -> None:
        """Of a version that is no more. That of one deleted in the second of its stamp stays
        for a moment: the next version of that key must not be stamped alike."""
        name = self.sidecar(target, identity)
        if deleted and identity.mtime >= self.now() - 1:
            self._gone.append((identity.mtime, name))
        else:
            self.pool.clean(link, name)
        limit = self.now() - 2
        for _ in range(2):
            if self._gone and self._gone[0][0] < limit:
                self.pool.clean(link, self._gone.popleft()[1])

    def drop_gone(self, link: Link) -> None:
        """At the end; the records that must stay for a moment are left to the sweep."""
        limit = self.now() - 2
        self.pool.clean(link, *(name for mtime, name in self._gone if mtime < limit))
        self._gone.clear()

    async def may_claim(self, link: Link, sidecar: bytes) -> bool:
        """After a failed claim: whether another try has a chance. Where nothing is in its way
        the file system has no links, and from then on records are files."""
        if not self.uses_links or await link.stat(sidecar) is not None:
            return True
        probe = self.new_name()
        answer = await link.make_symlink(b"probe", probe)
        self.pool.clean(link, probe)
        if answer is not None:
            if await self._is_full(link):
                return False
            self.uses_links = False
        return True

    async def make_shard(self, link: Link, sidecar: bytes) -> None:
        folder = sidecar.rpartition(b"/")[0]
        names = (self.state, self._records[:-1], folder)
        await link.all_of([link.make_folder(name, 0o700) for name in names])

    def fits_link(self, record: bytes) -> bool:
        return self.uses_links and len(record) <= _LONGEST_LINK and b"\0" not in record

    async def write_record(self, link: Link, path: bytes, record: bytes) -> None:
        """Failure of `wire.FAILURE` when something is there already."""
        if not self.fits_link(record):
            await self.write_private(link, path, record)
            return
        answer = await link.make_symlink(record, path)
        if answer is not None:
            raise answer if isinstance(answer, Failure) else Failure(wire.BAD_MESSAGE)

    def ask_record(
        self, link: Link, target: PathTarget, identity: Identity
    ) -> asyncio.Future[Answer]:
        """What `record_of` goes on from."""
        sidecar = self.sidecar(target, identity)
        return link.read_symlink(sidecar) if self.uses_links else link.lstat(sidecar)

    async def record_of(
        self, link: Link, answer: Answer, target: PathTarget, identity: Identity
    ) -> Record | None:
        """None: there is none for just this version."""
        if isinstance(answer, Failure) and answer.code == wire.NO_SUCH_FILE:
            return None
        if isinstance(answer, Lost):
            raise answer
        if isinstance(answer, bytes) and self.uses_links:
            data: bytes | None = text_of(answer)
        else:
            data = await self.read_private(link, self.sidecar(target, identity))
        return None if data is None else Record.decode(data, target, identity)

    async def read_record(
        self, link: Link, target: PathTarget, identity: Identity
    ) -> Record | None:
        answer = await self.ask_record(link, target, identity)
        return await self.record_of(link, answer, target, identity)

    async def read_private(self, link: Link, path: bytes) -> bytes | None:
        """Whether it is a file or a link; None: it is not there."""
        text = await link.read_symlink(path)
        if isinstance(text, bytes):
            return text_of(text)
        (handle,) = await link.all_of([link.open(path)])
        if isinstance(handle, Failure) and handle.code == wire.NO_SUCH_FILE:
            return None
        if not isinstance(handle, bytes):
            raise handle or Failure(wire.BAD_MESSAGE)
        try:
            first = await link.read(handle, 0, link.max_read)
            return await link.read_all(handle, first, _MAX_RECORD)
        finally:
            link.let_go(handle)

    async def write_private(
        self, link: Link, path: bytes, data: bytes, mode: int | None = 0o600
    ) -> None:
        """A small file that must not be there yet; raises Failure."""
        (handle,) = await link.all_of([link.create(path, mode)])
        if not isinstance(handle, bytes):
            raise handle or Failure(wire.BAD_MESSAGE)
        asked = link.write_pieces(handle, data)
        if self.syncs and data:
            asked.append(link.fsync(handle))
        asked.append(link.close_file(handle))
        try:
            await self.check(link, await link.all_of(asked))
        except BaseException:
            self.pool.clean(link, path)
            raise

    async def check(self, link: Link, answers: Sequence[Answer]) -> None:
        """Raises for the first that is not OK. The status of a write that failed does not say
        that the disk is full: that is asked for."""
        for answer in answers:
            if answer is None:
                continue
            failure = answer if isinstance(answer, Failure) else Failure(wire.BAD_MESSAGE)
            if failure.code == wire.FAILURE and await self._is_full(link):
                raise StorageFullError("the disk of the server is full") from failure
            raise failure

    # -- places ------------------------------------------------------------------------------

    def path(self, target: PathTarget) -> bytes:
        return self.root + b"/" + target.path

    async def missing(self, link: Link, target: PathTarget) -> ObjectNotFoundError:
        """The error for an object that is not there; raises that of a bucket."""
        await self.check_bucket(link, target.bucket)
        return ObjectNotFoundError("no such object", bucket=target.bucket, key=target.key)

    async def check_bucket(self, link: Link, bucket: str) -> None:
        found = await link.stat(self.root + b"/" + bucket_path(bucket))
        if found is None or not found.is_folder:
            raise BucketNotFoundError("no such bucket", bucket=bucket)

    async def make_folders(self, link: Link, target: PathTarget) -> None:
        """All between the bucket, which must be there, and the file."""
        await self.check_bucket(link, target.bucket)
        await link.all_of(
            [link.make_folder(self.root + b"/" + folder) for folder in target.folders]
        )

    def prune(self, link: Link, target: PathTarget) -> list[asyncio.Future[Answer]]:
        """Asks to remove the folders of a key from the innermost on: those that are empty go."""
        folders = reversed(target.folders)
        return [link.remove_folder(self.root + b"/" + folder) for folder in folders]

    async def prune_below(self, link: Link, path: bytes) -> bool:
        """Removes a folder that holds nothing but empty folders, none of them kept; whether it
        is gone."""
        found = await link.entries(path)
        if found is None:
            return True
        for entry in found:
            if not entry.attributes.is_folder or entry.name == KEEP:
                return False
            if not await self.prune_below(link, path + b"/" + entry.name):
                return False
        answer = await link.remove_folder(path)
        return answer is None or (isinstance(answer, Failure) and answer.code == wire.NO_SUCH_FILE)

    async def _is_full(self, link: Link) -> bool:
        """By statvfs@openssh.com."""
        if b"statvfs@openssh.com" not in link.extensions:
            return False
        with suppress(Failure):
            request = wire.extended(b"statvfs@openssh.com", wire.string(self.state))
            answer = await link.ask(wire.EXTENDED, request)
            if isinstance(answer, bytes) and len(answer) >= 56:
                size, _, _, available, inodes, _, free_inodes = wire.numbers_of(answer)[1:8]
                return size * available < _NEARLY or (inodes > 0 and free_inodes == 0)
        return False
