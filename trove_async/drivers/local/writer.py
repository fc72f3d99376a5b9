"""The writing side: staged files, their publication by one rename, and removal. All of it
runs in workers."""

from __future__ import annotations

import errno
import itertools
import os
import stat
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol

from trove_async.driver.base import Bytes
from trove_async.driver.conditions import check_write
from trove_async.drivers.local.ground import NO_XATTR, Ground
from trove_async.drivers.local.meta import XATTR, Record
from trove_async.drivers.local.names import Target
from trove_async.errors import (
    BackendError,
    InvalidMetadataError,
    KeyConflictError,
    PreconditionFailedError,
    TroveError,
)

__all__ = [
    "PATIENCE",
    "Removal",
    "Staged",
    "check_now",
    "new_etag",
    "publish",
    "put_small",
    "remove",
    "retag",
    "retire",
    "stage",
]

_IOV_MAX: Final = 1024
PATIENCE: Final = 200  # times a rename is tried while folders come and go under it
_IN_THE_WAY: Final = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ENOTEMPTY, errno.EEXIST})


def new_etag() -> str:
    """Never the same twice: a random word of this process and a count."""
    return f"{_word}{next(_count):010x}"


_word = os.urandom(10).hex()
_count = itertools.count()


def _after_fork() -> None:
    global _word
    _word = os.urandom(10).hex()


os.register_at_fork(after_in_child=_after_fork)


class Staged:
    """A file in our room that nobody sees yet. It holds the room until it ends."""

    __slots__ = ("_room", "fd", "ground", "name", "sidecar", "size")

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._room = ground.room.join()
        self.name: bytes | None = self._room.new_name()
        self.size = 0
        self.sidecar = False
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            self.fd = ground.fs.open(self.name, flags, 0o600, at=self._room.fd)
        except BaseException:
            self._room.leave()
            raise

    def write(self, pieces: Sequence[Bytes]) -> Staged:
        """All of ``pieces`` at the end, through short writes and interruptions."""
        fs, left = self.ground.fs, list(pieces)
        refused = 0
        while left:
            try:
                wrote = fs.writev(self.fd, left[:_IOV_MAX])
            except (InterruptedError, BlockingIOError):
                refused += 1
                if refused > 100:
                    raise
                time.sleep(0.001)
                continue
            if wrote <= 0:
                raise OSError(errno.EIO, "the file system takes no bytes")
            refused = 0
            self.size += wrote
            if len(left) == 1 and wrote == len(left[0]):
                return self
            done = 0
            while done < len(left) and wrote >= len(left[done]):
                wrote -= len(left[done])
                done += 1
            del left[:done]
            if left and wrote:
                left[0] = memoryview(left[0])[wrote:]
        return self

    def seal(self, record: Record) -> None:
        """Stamps the file and writes its record into it, or marks that a sidecar must."""
        ground, fs = self.ground, self.ground.fs
        fs.utime(self.fd, record.mtime)
        self.sidecar = not ground.use_xattr
        if ground.use_xattr:
            encoded = record.encode()
            try:
                fs.setxattr(self.fd, XATTR, encoded)
            except OSError as exc:
                if exc.errno not in NO_XATTR:
                    raise
                if ground.config.metadata == "xattr":
                    if len(encoded) < 2048 and exc.errno == errno.ENOSPC:
                        raise
                    raise InvalidMetadataError(
                        "the metadata does not fit into an extended attribute here"
                    ) from exc
                self.sidecar = True
                _drop_attribute(ground, self.fd)  # of an earlier stamp
        if ground.durable:
            fs.fsync(self.fd)

    def published(self) -> None:
        """It has another name now; only the descriptor is still ours."""
        self.name = None

    def end(self) -> None:
        """Closes it, and removes it unless it was published. Raises nothing."""
        fs = self.ground.fs
        fd, self.fd = self.fd, -1
        if fd < 0:
            return
        with suppress(OSError):
            fs.close(fd)
        name, self.name = self.name, None
        if name is not None:
            with suppress(OSError):
                fs.unlink(name, self._room.fd)
        self._room.leave()

    def rename_to(self, leaf: bytes, at: int) -> None:
        assert self.name is not None
        self.ground.fs.rename(self.name, self._room.fd, leaf, at)
        self.name = None


def _drop_attribute(ground: Ground, fd: int) -> None:
    try:
        ground.fs.removexattr(fd, XATTR)
    except OSError as exc:
        if exc.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise


def stage(ground: Ground, target: Target, pieces: Sequence[Bytes]) -> Staged:
    """The first bytes of a larger body; a missing bucket is said before more is pulled."""
    ground.check_bucket(target.path.partition(b"/")[0])
    staged = Staged(ground)
    try:
        return staged.write(pieces)
    except BaseException:
        staged.end()
        raise


def put_small(
    ground: Ground,
    target: Target,
    pieces: Sequence[Bytes],
    record: Record,
    if_match: str | None,
    if_none_match: str | None,
    *,
    wait: bool = True,
) -> Record:
    """A whole put in one job. Without ``wait``: BlockingIOError, and nothing done, when
    another holds the key."""
    staged = Staged(ground)
    try:
        staged.write(pieces)
        return publish(staged, target, record, if_match, if_none_match, wait=wait)
    finally:
        staged.end()


def check_now(
    ground: Ground, target: Target, if_match: str | None, if_none_match: str | None
) -> None:
    """PreconditionFailedError before a body is pulled for nothing; decides nothing."""
    current = ground.look(target)
    check_write(if_match, if_none_match, None if current is None else current.etag)


def publish(
    staged: Staged,
    target: Target,
    record: Record,
    if_match: str | None = None,
    if_none_match: str | None = None,
    *,
    wait: bool = True,
) -> Record:
    """Makes the staged file the object, body and record together, by one rename.

    On any error the old object is there as before, but for one: when the folder cannot be
    synced after the rename, the new object is seen yet not acknowledged."""
    ground = staged.ground
    record.size = staged.size
    record.mtime = ground.stamp()
    ground.fs.chmod(staged.fd, ground.file_mode)
    staged.seal(record)
    with ground.locks.hold(target.stripe, wait=wait):
        folder = _swap(staged, target, record, if_match, if_none_match)
    try:
        ground.sync_folder(target.folder, folder)
    finally:
        ground.fs.close(folder)
    return record


def _swap(
    staged: Staged, target: Target, record: Record, if_match: str | None, if_none_match: str | None
) -> int:
    """With the key's lock held. Returns the open folder of the object."""
    ground, fs = staged.ground, staged.ground.fs
    made = False
    try:
        for _ in range(PATIENCE):
            folder = ground.open_folder(target.folder)
            if folder is None:
                check_write(if_match, if_none_match, None)
                made = True
                ground.make_folders(target.folder)
                continue
            try:
                if _try_swap(staged, target, record, folder, if_match, if_none_match):
                    return folder
            except BaseException:
                fs.close(folder)
                raise
            fs.close(folder)
    except BaseException as exc:
        if made:
            with suppress(OSError, TroveError):
                ground.prune(target.folder)
        if isinstance(exc, NotADirectoryError) and not isinstance(exc, TroveError):
            raise KeyConflictError("an object is in the way of a folder of this key") from exc
        raise
    raise BackendError("the folders of the key change without end")


def _try_swap(
    staged: Staged,
    target: Target,
    record: Record,
    folder: int,
    if_match: str | None,
    if_none_match: str | None,
) -> bool:
    """False: the folder was removed meanwhile, try again."""
    ground, fs = staged.ground, staged.ground.fs
    leaf = target.leaf
    try:
        old: os.stat_result | None = fs.stat(leaf, folder)
    except FileNotFoundError:
        old = None
    if if_match is not None or if_none_match is not None:
        current = ground.look(target)
        check_write(if_match, if_none_match, None if current is None else current.etag)
    if old is not None and stat.S_ISDIR(old.st_mode):
        if not ground.prune_below(leaf, folder):
            raise KeyConflictError("other keys begin with this key and a slash")
        old = None
    if old is not None and old.st_mtime_ns >= record.mtime:
        record.mtime = ground.stamp(after=old.st_mtime_ns)
        staged.seal(record)
    claimed = claim(staged, target, record) if staged.sidecar else None
    try:
        staged.rename_to(leaf, folder)
    except OSError as exc:
        if claimed is not None and not _took_place(staged, leaf, folder):
            _forget(ground, claimed)
        if exc.errno == errno.ENOENT:
            return False
        if exc.errno in _IN_THE_WAY:
            raise KeyConflictError("other keys begin with this key and a slash") from exc
        raise
    if old is not None and stat.S_ISREG(old.st_mode):
        retire(ground, target, old, folder, keep=claimed)
    return True


def _took_place(staged: Staged, leaf: bytes, folder: int) -> bool:
    """Whether a rename that failed was done all the same, as a network's lost reply has it;
    True where that cannot be told."""
    fs = staged.ground.fs
    try:
        there = fs.stat(leaf, folder)
        return there.st_ino == fs.fstat(staged.fd).st_ino
    except FileNotFoundError:
        return False
    except OSError:
        return True


def claim(staged: Staged, target: Target, record: Record) -> bytes:
    """Writes the sidecar of the staged file under a name that no other file has."""
    ground = staged.ground
    for _ in range(PATIENCE):
        name = target.sidecar(record.size, record.mtime)
        try:
            write_sidecar(ground, name, target, record)
        except FileExistsError:
            record.mtime = ground.stamp(after=record.mtime)
            staged.seal(record)
            continue
        return name
    raise BackendError("no name is left for the metadata of the object")


def write_sidecar(
    ground: Ground, name: bytes, target: Target, record: Record, *, replace: bool = False
) -> None:
    """Whole or not at all, durable before anything refers to it. FileExistsError unless
    ``replace``."""
    fs = ground.fs
    shard, _, leaf = name.rpartition(b"/")
    ground.make_shard(shard)
    at = fs.open_beneath(ground.state, shard, os.O_RDONLY | os.O_DIRECTORY)
    try:
        draft = Staged(ground)
        try:
            draft.write([record.encode(target.bucket, target.key)])
            fs.chmod(draft.fd, ground.file_mode)
            if ground.durable:
                fs.fsync(draft.fd)
            assert draft.name is not None
            if replace:
                draft.rename_to(leaf, at)
            else:
                fs.rename_new(draft.name, ground.room.fd, leaf, at)
                draft.published()
        finally:
            draft.end()
        if ground.durable:
            fs.fsync(at)
    finally:
        fs.close(at)


def _forget(ground: Ground, name: bytes) -> None:
    """Removes a sidecar that nothing refers to any more; what stays is swept later."""
    with suppress(OSError):
        ground.fs.unlink(name, ground.state)


def retire(
    ground: Ground, target: Target, old: os.stat_result, folder: int, keep: bytes | None = None
) -> None:
    """Removes the sidecar, if there is one, of a file that lost its name in ``folder``.

    That loss is made durable first: a power cut could bring the file back without it."""
    name = target.sidecar(old.st_size, old.st_mtime_ns)
    if name == keep or not ground.may_have_sidecars():
        return
    if ground.durable:
        try:
            ground.fs.stat(name, ground.state)
        except FileNotFoundError:
            return
        ground.sync_folder(target.folder, folder)
    _forget(ground, name)


class Removal(Protocol):
    def __call__(
        self, ground: Ground, target: Target, if_match: str | None = None, *, sync: bool = True
    ) -> bytes | None: ...


def remove(
    ground: Ground, target: Target, if_match: str | None = None, *, sync: bool = True
) -> bytes | None:
    """Deletes an object and the folders it leaves empty. Returns the nearest folder that
    stays, which must be synced; None when there was no object.

    PreconditionFailedError when ``if_match`` is given and does not hold."""
    fs = ground.fs
    with ground.locks.hold(target.stripe):
        if if_match is not None:
            current = ground.look(target)
            check_write(if_match, None, None if current is None else current.etag)
        try:
            folder = ground.open_folder(target.folder)
        except NotADirectoryError:
            folder = None
        if folder is None:
            return None
        try:
            try:
                old = fs.stat(target.leaf, folder)
                if not stat.S_ISREG(old.st_mode):
                    raise FileNotFoundError(errno.ENOENT, "not an object")
                fs.unlink(target.leaf, folder)
            except FileNotFoundError:
                if if_match is not None:
                    raise PreconditionFailedError("the object is gone") from None
                return None
            retire(ground, target, old, folder)
        finally:
            fs.close(folder)
    remains = ground.prune(target.folder)
    if sync:
        ground.sync_folder(remains)
    return remains


def retag(ground: Ground, target: Target, tags: Mapping[str, str]) -> None:
    """Replaces the tags in the record of an object; body, etag and mtime stay."""
    with ground.locks.hold(target.stripe):
        fd, status, record = ground.load(target)
        try:
            record.tags = dict(tags)
            record.size, record.mtime = status.st_size, status.st_mtime_ns
            if not _retag_attribute(ground, fd, record):
                write_sidecar(
                    ground,
                    target.sidecar(record.size, record.mtime),
                    target,
                    record,
                    replace=True,
                )
                _drop_attribute(ground, fd)  # from here on the sidecar decides
            if ground.durable:
                ground.fs.fsync(fd)
        finally:
            ground.fs.close(fd)


def _retag_attribute(ground: Ground, fd: int, record: Record) -> bool:
    if not ground.use_xattr:
        return False
    try:
        ground.fs.setxattr(fd, XATTR, record.encode())
    except OSError as exc:
        if exc.errno not in NO_XATTR or ground.config.metadata == "xattr":
            raise
        return False
    return True
