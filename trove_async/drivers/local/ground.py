"""The open root: directories below it, what is known of a file, and what makes it durable.

Everything here blocks and runs in a worker, unless the medium is memory.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from contextlib import suppress
from typing import Final

from trove_async.drivers.local.config import LocalConfig
from trove_async.drivers.local.fs import FS
from trove_async.drivers.local.locks import KeyLocks
from trove_async.drivers.local.meta import XATTR, Record, foreign
from trove_async.drivers.local.names import Target
from trove_async.drivers.local.room import DIRECTORY, STATE, Room, sweep_rooms
from trove_async.errors import (
    BucketNotFoundError,
    CorruptMetadataError,
    InvalidConfigError,
    ObjectNotFoundError,
)

__all__ = ["NO_XATTR", "Ground", "Moved"]

_log = logging.getLogger("trove_async.local")
_FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_HANDLE: Final = os.O_PATH | os.O_DIRECTORY
_TICKS: Final = (1, 100, 1000, 10**6)  # nanoseconds; coarser ones are taken for two seconds
_MAX_RECORD: Final = 1 << 20
NO_XATTR: Final = frozenset({errno.ENOTSUP, errno.E2BIG, errno.ENOSPC, errno.ERANGE})
_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO})


class Moved(Exception):
    """The file was replaced between its open and the read of its record: open it again."""


class Ground:
    """Descriptors and facts of one opened root."""

    def __init__(self, config: LocalConfig, fs: FS) -> None:
        self.config = config
        self.fs = fs
        self.durable = config.durability == "full"
        self._held: list[int] = []
        self._synced: dict[bytes, tuple[int, int]] = {}
        self._shards: set[bytes] = set()
        try:
            self._open_root()
        except BaseException:
            for fd in self._held:
                with suppress(OSError):
                    fs.close(fd)
            raise

    def _open_root(self) -> None:
        fs = self.fs
        path = os.path.abspath(os.fspath(self.config.root))
        _make_root(fs, os.fsencode(path))
        self.root = self._hold(fs.open(os.fsencode(path), os.O_RDONLY | os.O_DIRECTORY))
        status = fs.fstat(self.root)
        if status.st_mode & stat.S_IWOTH:
            _log.warning("the root %s of a local store is writable by everybody", path)
        fs.has_openat2 = self._try_openat2()
        self.state = self._hold(self._make(STATE, self.root))
        for name in (b"meta", b"multipart"):
            fs.close(self._make(name, self.state))
        rooms = self._make(b"tmp", self.state)
        try:
            sweep_rooms(fs, rooms)
            self.room = Room.enter(fs, rooms)
        except BaseException:
            fs.close(rooms)
            raise
        try:
            lock = fs.open(b"locks", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, at=self.state)
            self.locks = KeyLocks(fs, self._hold(lock))
            self.medium = fs.medium(status.st_dev)
            self.file_mode = 0o644 & ~fs.umask()
            self._measure()
            if self.durable:
                fs.fsync(self.state)
                fs.fsync(self.root)
        except BaseException:
            self.room.leave()
            raise

    def _hold(self, fd: int) -> int:
        self._held.append(fd)
        return fd

    def _make(self, name: bytes, at: int) -> int:
        """An open private folder, made if it is missing."""
        with suppress(FileExistsError):
            self.fs.mkdir(name, 0o700, at)
        return self.fs.open(name, DIRECTORY, at=at)

    def _try_openat2(self) -> bool:
        self.fs.has_openat2 = True
        try:
            self.fs.close(self.fs.open_beneath(self.root, b".", _HANDLE))
        except OSError as exc:
            if exc.errno in (errno.ENOSYS, errno.EPERM, errno.EINVAL):
                return False
            raise
        return True

    def _measure(self) -> None:
        """Whether there are extended attributes, and how fine an mtime is."""
        fs, name = self.fs, self.room.new_name()
        fd = fs.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, at=self.room.fd)
        try:
            self.use_xattr = self.config.metadata != "sidecar"
            if self.use_xattr:
                try:
                    fs.setxattr(fd, XATTR, b"x")
                except OSError as exc:
                    if exc.errno != errno.ENOTSUP:
                        raise
                    if self.config.metadata == "xattr":
                        raise InvalidConfigError(
                            "this file system has no extended attributes: metadata=auto"
                        ) from exc
                    self.use_xattr = False
            fs.utime(fd, 1_700_000_001_123_456_789)
            kept = fs.fstat(fd).st_mtime_ns
            self.tick = next((t for t in _TICKS if kept % (10 * t)), 2 * 10**9)
        finally:
            fs.close(fd)
            fs.unlink(name, self.room.fd)

    def close(self) -> None:
        """Called when no job runs any more; the room waits for writers that still unwind."""
        self.room.leave()
        for fd in self._held:
            with suppress(OSError):
                self.fs.close(fd)
        self._held.clear()

    # -- folders -----------------------------------------------------------------------------

    def open_folder(self, path: bytes) -> int | None:
        """A handle on a folder below the root; None when it is not there. KeyConflict is the
        caller's to say: a file or link on the way is NotADirectoryError.

        Raises BucketNotFoundError when the bucket itself is missing."""
        flags = os.O_RDONLY | os.O_DIRECTORY if self.durable else _HANDLE
        try:
            return self.fs.open_beneath(self.root, path, flags)
        except OSError as exc:
            if exc.errno not in _ABSENT:
                raise
            self.check_bucket(path.partition(b"/")[0])
            if exc.errno == errno.ENOENT:
                return None
            raise NotADirectoryError(errno.ENOTDIR, "a file is in the way") from exc

    def check_bucket(self, bucket: bytes) -> None:
        try:
            self.fs.close(self.fs.open_beneath(self.root, bucket, _HANDLE))
        except OSError as exc:
            if exc.errno not in _ABSENT:
                raise
            raise BucketNotFoundError("no such bucket", bucket=bucket.decode()) from exc

    def make_folders(self, path: bytes) -> None:
        """All folders of ``path`` below its bucket, which must be there."""
        bucket, *names = path.split(b"/")
        fs = self.fs
        at = self.open_folder(bucket)
        if at is None:
            raise BucketNotFoundError("no such bucket", bucket=bucket.decode())
        try:
            for name in names:
                with suppress(FileExistsError):
                    fs.mkdir(name, 0o755, at)
                below = fs.open(name, _HANDLE | os.O_NOFOLLOW, at=at)
                at, done = below, at
                fs.close(done)
        except FileNotFoundError:
            pass  # a delete took the folder away again: the caller looks once more
        finally:
            fs.close(at)

    def prune(self, folder: bytes) -> bytes:
        """Removes ``folder`` and its parents as long as they are empty, never the bucket.
        Returns the nearest one that stays."""
        while b"/" in folder:
            parent, _, leaf = folder.rpartition(b"/")
            try:
                at = self.fs.open_beneath(self.root, parent, _HANDLE)
            except OSError:
                pass  # gone already: go on above it
            else:
                try:
                    if self.fs.stat(leaf, at).st_mode & stat.S_ISVTX:
                        return folder  # it is an object of its own
                    self.fs.rmdir(leaf, at)
                    self._synced.pop(folder, None)
                except FileNotFoundError:
                    pass
                except OSError:
                    return folder  # not empty, or not ours to remove
                finally:
                    self.fs.close(at)
            folder = parent
        return folder

    def prune_below(self, leaf: bytes, at: int) -> bool:
        """Removes a folder that holds nothing but empty folders; whether it is gone."""
        try:
            fd = self.fs.open(leaf, DIRECTORY, at=at)
        except FileNotFoundError:
            return True
        try:
            if self.fs.fstat(fd).st_mode & stat.S_ISVTX:
                return False  # it is an object of its own
            for entry in list(self.fs.scandir(fd)):
                if not entry.is_dir(follow_symlinks=False):
                    return False
                if not self.prune_below(os.fsencode(entry.name), fd):
                    return False
        finally:
            self.fs.close(fd)
        try:
            self.fs.rmdir(leaf, at)
        except FileNotFoundError:
            pass
        except OSError as exc:
            if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def may_have_sidecars(self) -> bool:
        """False only where no process ever made one: their home has no folder yet. (A file
        system that does not count folders as links says 1, and so perhaps.)"""
        return bool(self._shards) or self.fs.stat(b"meta", self.state).st_nlink != 2

    def forget(self, folder: bytes) -> None:
        """The folder is gone: one of the same name must be synced anew."""
        self._synced.pop(folder, None)

    def make_shard(self, shard: bytes) -> None:
        """A folder for sidecars, durable before the first of them counts."""
        if shard in self._shards:
            return
        with suppress(FileExistsError):
            self.fs.mkdir(shard, 0o700, self.state)
        if self.durable:
            self.sync_state(b"meta")
        self._shards.add(shard)

    def sync_state(self, name: bytes) -> None:
        """Makes what happened in a folder of the private state durable."""
        fd = self.fs.open_beneath(self.state, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            self.fs.fsync(fd)
        finally:
            self.fs.close(fd)

    def sync_folder(self, path: bytes, fd: int | None = None) -> None:
        """Makes what happened in a folder durable, and the folder's own place in its parents
        the first time we see it: another writer may have made it and not synced it yet."""
        if not self.durable:
            return
        held = self.open_folder(path) if fd is None else fd
        if held is None:
            return  # removed meanwhile, with all that was in it
        try:
            self.fs.fsync(held)
            status = self.fs.fstat(held)
        finally:
            if fd is None:
                self.fs.close(held)
        identity = (status.st_dev, status.st_ino)
        if self._synced.get(path) == identity:
            return
        above = path
        while b"/" in above:
            above = above.rpartition(b"/")[0]
            folder = self.open_folder(above)
            if folder is None:
                return
            try:
                self.fs.fsync(folder)
            finally:
                self.fs.close(folder)
        self.fs.fsync(self.root)
        if len(self._synced) > 10_000:
            self._synced.clear()
        self._synced[path] = identity

    def settle_folder(self, path: bytes) -> None:
        """Makes the folder's own place durable, before something is moved into it that is
        then nowhere else."""
        if not self.durable:
            return
        held = self.open_folder(path)
        if held is None:
            return
        try:
            status = self.fs.fstat(held)
        finally:
            self.fs.close(held)
        if self._synced.get(path) != (status.st_dev, status.st_ino):
            self.sync_folder(path)

    # -- files -------------------------------------------------------------------------------

    def open_file(self, target: Target, *, cached: bool = False) -> tuple[int, os.stat_result]:
        """An open regular file. Links, pipes and devices are not objects, and opening them
        never blocks. ``cached``: BlockingIOError where that would read from disk."""
        try:
            fd = self.fs.open_beneath(self.root, target.path, _FILE, cached=cached)
        except OSError as exc:
            if exc.errno not in _ABSENT:
                raise
            self.check_bucket(target.path.partition(b"/")[0])
            raise ObjectNotFoundError(
                "no such object", bucket=target.bucket, key=target.key
            ) from exc
        try:
            status = self.fs.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ObjectNotFoundError("no such object", bucket=target.bucket, key=target.key)
        except BaseException:
            self.fs.close(fd)
            raise
        return fd, status

    def record_of(
        self, target: Target, fd: int, status: os.stat_result, *, cached: bool = False
    ) -> Record:
        """The record that belongs to just this file, or what can be said without one.

        ``cached``: BlockingIOError when the answer is in another file. Raises `Moved` when
        the file was replaced, and its sidecar removed, since its open."""
        raw = self._attribute(fd)
        if raw is not None:
            record = Record.decode(raw)
            return record if record.matches(status) else foreign(target.key, status)
        if cached:
            raise BlockingIOError(errno.EAGAIN, "perhaps in a sidecar")
        if not self.may_have_sidecars():
            return foreign(target.key, status)
        name = target.sidecar(status.st_size, status.st_mtime_ns)
        raw = self.read_state(name)
        if raw is None:
            self._still(target, fd, status)
            return foreign(target.key, status)
        record = Record.decode(raw)
        if not record.matches(status):
            raise CorruptMetadataError("the record belongs to another file")
        return record

    def _still(self, target: Target, fd: int, status: os.stat_result) -> None:
        try:
            now = self.fs.open_beneath(self.root, target.path, os.O_PATH)
        except OSError as exc:
            if exc.errno in _ABSENT:
                raise Moved from exc
            raise
        try:
            there = self.fs.fstat(now)
        finally:
            self.fs.close(now)
        if (there.st_dev, there.st_ino, there.st_mtime_ns) != (
            status.st_dev,
            status.st_ino,
            status.st_mtime_ns,
        ):
            raise Moved

    def _attribute(self, fd: int) -> bytes | None:
        try:
            return self.fs.getxattr(fd, XATTR)
        except OSError as exc:
            if exc.errno in (errno.ENODATA, errno.ENOTSUP):
                return None
            raise

    def read_state(self, name: bytes) -> bytes | None:
        """A small file of the private folder, or None."""
        try:
            fd = self.fs.open_beneath(self.state, name, _FILE)
        except FileNotFoundError:
            return None
        try:
            pieces: list[bytes] = []
            held = 0
            while piece := self.fs.pread(fd, 1 << 16, held):
                pieces.append(piece)
                held += len(piece)
                if held > _MAX_RECORD:
                    raise CorruptMetadataError("a record of more than 1 MiB")
            return b"".join(pieces)
        finally:
            self.fs.close(fd)

    def load(self, target: Target) -> tuple[int, os.stat_result, Record]:
        """An open file and its record, both of one moment."""
        for _ in range(100):
            fd, status = self.open_file(target)
            try:
                return fd, status, self.record_of(target, fd, status)
            except Moved:
                self.fs.close(fd)
            except BaseException:
                self.fs.close(fd)
                raise
        raise BlockingIOError(errno.EAGAIN, "the object is replaced too fast to be read")

    def look(self, target: Target) -> Record | None:
        """The record of what is there now, None when there is no object."""
        try:
            fd, _, record = self.load(target)
        except ObjectNotFoundError:
            return None
        self.fs.close(fd)
        return record

    def stamp(self, after: int = -1) -> int:
        """An mtime the file system can hold, later than ``after``."""
        tick = self.tick
        now = time.time_ns() // tick * tick
        return now if now > after else (after // tick + 1) * tick


def _make_root(fs: FS, path: bytes) -> None:
    missing: list[bytes] = []
    while True:
        try:
            fs.mkdir(path, 0o700 if not missing else 0o755)
            break
        except FileExistsError:
            break
        except FileNotFoundError:
            missing.append(path)
            path = os.path.dirname(path)
    for folder in reversed(missing):
        with suppress(FileExistsError):
            fs.mkdir(folder, 0o700 if folder == missing[0] else 0o755)
