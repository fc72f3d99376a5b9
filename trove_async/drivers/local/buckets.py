"""Buckets are the folders of the root that have the name of one."""

from __future__ import annotations

import errno
import os

from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.names import bucket_path, is_bucket
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
)
from trove_async.model import BucketInfo

__all__ = ["create", "listed", "remove_bucket"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY


def create(ground: Ground, name: str) -> None:
    try:
        ground.fs.mkdir(bucket_path(name), 0o755, ground.root)
    except FileExistsError as exc:
        raise BucketExistsError("the bucket exists already", bucket=name) from exc
    ground.sync_folder(bucket_path(name))


def remove_bucket(ground: Ground, name: str) -> None:
    """Only ever removes empty folders, so that an object that comes meanwhile is not lost:
    either the put finds no bucket, or the bucket is not empty."""
    path = bucket_path(name)
    ground.check_bucket(path)
    fd = ground.fs.open_beneath(ground.root, path, _FOLDER)
    try:
        for entry in list(ground.fs.scandir(fd)):
            is_folder = entry.is_dir(follow_symlinks=False)
            if not is_folder or not ground.prune_below(os.fsencode(entry.name), fd):
                raise BucketNotEmptyError("the bucket holds objects", bucket=name)
    finally:
        ground.fs.close(fd)
    try:
        ground.fs.rmdir(path, ground.root)
    except FileNotFoundError as exc:
        raise BucketNotFoundError("no such bucket", bucket=name) from exc
    except OSError as exc:
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise BucketNotEmptyError("the bucket holds objects", bucket=name) from exc
        raise
    ground.forget(path)
    if ground.durable:
        ground.fs.fsync(ground.root)


def listed(ground: Ground) -> list[BucketInfo]:
    fd = ground.fs.open_beneath(ground.root, b".", _FOLDER)
    try:
        names = [
            entry.name
            for entry in ground.fs.scandir(fd)
            if is_bucket(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
    finally:
        ground.fs.close(fd)
    return [BucketInfo(name) for name in sorted(names)]
