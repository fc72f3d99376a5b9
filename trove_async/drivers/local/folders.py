"""Keys that end with a slash: a real folder that stays when it is empty.

Such a folder has the sticky bit, which on a folder that only its owner writes to changes
nothing. Others are there as long as something is in them, and are no objects. All of it runs
in workers."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from trove_async.driver.conditions import check_write
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.names import Target
from trove_async.errors import (
    BackendError,
    KeyConflictError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.model import ObjectInfo

__all__ = ["drop", "is_folder", "look", "make", "target_of"]

TYPE = "application/x-directory"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_TRIES = 20


def is_folder(key: str) -> bool:
    return key[-1:] == "/"


def target_of(bucket: str, key: str) -> Target:
    """InvalidKeyError for what is no folder's name."""
    return Target(bucket, key[:-1])


def _open(ground: Ground, target: Target) -> tuple[int, os.stat_result] | None:
    """The folder, if it is there and is kept."""
    try:
        fd = ground.fs.open_beneath(ground.root, target.path, _FOLDER)
    except OSError:
        ground.check_bucket(target.path.partition(b"/")[0])
        return None
    status = ground.fs.fstat(fd)
    if status.st_mode & stat.S_ISVTX:
        return fd, status
    ground.fs.close(fd)
    return None


def _info(key: str, status: os.stat_result) -> ObjectInfo:
    modified = _EPOCH + timedelta(microseconds=status.st_mtime_ns // 1000)
    return ObjectInfo(key, 0, 0, TYPE, f"folder{status.st_ino:x}", modified)


def look(ground: Ground, target: Target) -> ObjectInfo:
    """ObjectNotFoundError when it is not there."""
    key = target.key + "/"
    found = _open(ground, target)
    if found is None:
        raise ObjectNotFoundError("no such object", bucket=target.bucket, key=key)
    ground.fs.close(found[0])
    return _info(key, found[1])


def make(
    ground: Ground, target: Target, if_match: str | None, if_none_match: str | None
) -> ObjectInfo:
    fs = ground.fs
    with ground.locks.hold(target.stripe):
        if if_match is not None or if_none_match is not None:
            etag = None
            with suppress(ObjectNotFoundError):
                etag = look(ground, target).etag
            check_write(if_match, if_none_match, etag)
        for _ in range(_TRIES):
            try:
                ground.make_folders(target.path)
                fd = fs.open_beneath(ground.root, target.path, _FOLDER)
            except FileNotFoundError:
                continue  # a delete took it away again
            except NotADirectoryError as exc:
                raise KeyConflictError("an object is in the way of a folder") from exc
            try:
                fs.chmod(fd, stat.S_IMODE(fs.fstat(fd).st_mode) | stat.S_ISVTX)
                if not fs.fstat(fd).st_mode & stat.S_ISVTX:
                    ground.prune(target.path)
                    raise UnsupportedError("this file system cannot mark a folder")
            finally:
                fs.close(fd)
            found = _open(ground, target)
            if found is not None:
                fs.close(found[0])
                ground.sync_folder(target.path)
                return _info(target.key + "/", found[1])
    raise BackendError("the folder was removed again and again")


def drop(
    ground: Ground, target: Target, if_match: str | None = None, *, sync: bool = True
) -> bytes | None:
    """From now on it is there only as long as something is in it. Returns the nearest folder
    that stays, None when it was not kept."""
    fs = ground.fs
    with ground.locks.hold(target.stripe):
        found = _open(ground, target)
        if found is None:
            if if_match is not None:
                raise PreconditionFailedError("the object is gone")
            return None
        fd, status = found
        try:
            check_write(if_match, None, _info("", status).etag)
            fs.chmod(fd, stat.S_IMODE(status.st_mode) & ~stat.S_ISVTX)
            if ground.durable:
                fs.fsync(fd)
        finally:
            fs.close(fd)
    remains = ground.prune(target.path)
    if sync:
        ground.sync_folder(remains)
    return remains
