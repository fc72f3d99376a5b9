"""Copy and move below one root. All of it runs in workers."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from trove_async._names import content_type_of
from trove_async.driver import CopyOptions
from trove_async.driver.conditions import check_write
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.meta import Record
from trove_async.drivers.local.names import Target
from trove_async.drivers.local.writer import (
    PATIENCE,
    Staged,
    check_now,
    new_etag,
    retire,
    write_sidecar,
)
from trove_async.errors import KeyConflictError, ObjectChangedError, TruncatedError

__all__ = ["PIECE", "Copy", "append_file", "move_file"]

PIECE = 32 * 1024 * 1024
"""Bytes one job copies; a cancel takes effect between two."""
_NO_COPY = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


def append_file(staged: Staged, source: int, offset: int, size: int) -> None:
    """Bytes ``offset`` and on of an open file, at the end of the staged one."""
    fs = staged.ground.fs
    stop = offset + size
    in_kernel = True
    while offset < stop:
        if in_kernel:
            try:
                count = fs.copy_file_range(source, staged.fd, stop - offset, offset)
            except InterruptedError:
                continue
            except OSError as exc:
                if exc.errno not in _NO_COPY:
                    raise
                in_kernel = False  # this pair of files, or this kernel, cannot
                continue
            staged.size += count
        else:
            data = fs.pread(source, min(1 << 20, stop - offset), offset)
            count = len(data)
            if count:
                staged.write([data])
        if not count:
            raise TruncatedError("the source became shorter while it was copied")
        offset += count


class Copy:
    """One copy under way: `begin`, `more` until it says so, then publish; `end` always."""

    def __init__(self, ground: Ground, source: Target, target: Target, options: CopyOptions):
        self.ground = ground
        self._source = source
        self._target = target
        self._options = options
        self._fd = -1
        self._done = 0
        self.staged: Staged | None = None
        self.record: Record | None = None
        self.etag = ""
        """Of the source that was opened."""

    def begin(self) -> bool:
        """Opens the source, which is pinned from now on, and copies the first piece."""
        ground, options = self.ground, self._options
        self._fd, _, record = ground.load(self._source)
        self.etag = record.etag
        if options.source_if_match not in (None, record.etag):
            raise ObjectChangedError(
                "the source changed", bucket=self._source.bucket, key=self._source.key
            )
        ground.check_bucket(self._target.path.partition(b"/")[0])
        if options.if_none_match is not None:
            check_now(ground, self._target, None, options.if_none_match)
        self.record = Record(
            record.size,
            0,
            new_etag(),
            options.content_type or record.content_type,
            record.metadata if options.metadata is None else dict(options.metadata),
            record.tags,
            record.storage_class,
        )
        self.staged = Staged(ground)
        return self.more()

    def more(self) -> bool:
        """Copies a piece; whether the copy is whole."""
        assert self.staged is not None and self.record is not None
        size = min(PIECE, self.record.size - self._done)
        append_file(self.staged, self._fd, self._done, size)
        self._done += size
        return self._done >= self.record.size

    def end(self) -> None:
        """Raises nothing."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            with suppress(OSError):
                self.ground.fs.close(fd)
        if self.staged is not None:
            self.staged.end()


def move_file(
    ground: Ground, source: Target, target: Target, if_none_match: str | None
) -> Record | None:
    """Moves by one rename; None where only a copy would keep what the object is.

    That is where the target is newer than the source (its clients would take the moved object
    for the older one), where a foreign file would change its type with its name, and where a
    folder went away at the same moment."""
    fs = ground.fs
    with ground.locks.hold_all(source.stripe, target.stripe):
        fd, status, record = ground.load(source)
        try:
            if record.is_foreign and content_type_of(target.key) != record.content_type:
                return None
            if if_none_match is not None:
                current = ground.look(target)
                check_write(None, if_none_match, None if current is None else current.etag)
            old = _prepare(ground, target, status)
            is_same = old is not None and _identity(old) == _identity(status)
            if old is not None and old.st_mtime_ns >= status.st_mtime_ns and not is_same:
                return None
            sidecar = source.sidecar(status.st_size, status.st_mtime_ns)
            if ground.read_state(sidecar) is not None:
                try:
                    write_sidecar(
                        ground,
                        target.sidecar(status.st_size, status.st_mtime_ns),
                        target,
                        record,
                    )
                except FileExistsError:
                    return None
            for _ in range(PATIENCE):
                ground.settle_folder(target.folder)
                if _rename(ground, source, target, status):
                    break
                _prepare(ground, target, status)  # others removed the last file of the folder
            else:
                return None
            if ground.may_have_sidecars():
                ground.sync_folder(target.folder)
                _retire(ground, target, old)
                _retire(ground, source, status)
        finally:
            fs.close(fd)
    ground.sync_folder(target.folder)
    ground.sync_folder(ground.prune(source.folder))
    return ground.look(target) or record


def _retire(ground: Ground, target: Target, gone: os.stat_result | None) -> None:
    """The sidecar of a name that means something else now, or nothing."""
    folder = ground.open_folder(target.folder) if gone is not None else None
    if folder is None or gone is None:
        return
    try:
        retire(ground, target, gone, folder)
    finally:
        ground.fs.close(folder)


def _prepare(ground: Ground, target: Target, source: os.stat_result) -> os.stat_result | None:
    """Makes the folders of the target; what is there now."""
    try:
        folder = ground.open_folder(target.folder)
        if folder is None:
            ground.make_folders(target.folder)
            return None
    except NotADirectoryError as exc:
        raise KeyConflictError("an object is in the way of a folder of this key") from exc
    try:
        old = ground.fs.stat(target.leaf, folder)
        if stat.S_ISDIR(old.st_mode):
            if not ground.prune_below(target.leaf, folder):
                raise KeyConflictError("other keys begin with this key and a slash")
            return None
        return old
    except FileNotFoundError:
        return None
    finally:
        ground.fs.close(folder)


def _rename(ground: Ground, source: Target, target: Target, status: os.stat_result) -> bool:
    """False: a folder is not there any more, and nothing was done."""
    fs = ground.fs
    source_at = ground.open_folder(source.folder)
    if source_at is None:
        return False
    try:
        target_at = ground.open_folder(target.folder)
        if target_at is None:
            return False
        try:
            same = False
            with suppress(FileNotFoundError):
                there = fs.stat(target.leaf, target_at)
                same = _identity(there) == _identity(status)
            if same:
                fs.unlink(source.leaf, source_at)  # two names of one file: rename would do nothing
            else:
                fs.rename(source.leaf, source_at, target.leaf, target_at)
        except FileNotFoundError:
            return False
        finally:
            fs.close(target_at)
    finally:
        fs.close(source_at)
    return True


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
