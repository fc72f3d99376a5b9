"""Keys that end with a slash: a real folder that stays when it is empty.

It holds an empty folder of a reserved name, which no listing shows. So the server itself keeps
it when its last file goes, and a delete has nothing to ask."""

from __future__ import annotations

from typing import Final

from trove_async.driver import PutOptions
from trove_async.driver.conditions import check_write
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.ground import KEEP, Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.record import moment
from trove_async.drivers.sftp.wire import Attributes, Failure
from trove_async.errors import (
    BackendError,
    InvalidMetadataError,
    KeyConflictError,
    ObjectNotFoundError,
    UnsupportedError,
)
from trove_async.model import ObjectInfo

__all__ = ["drop", "folder_info", "is_folder", "look", "make", "target_of"]

TYPE: Final = "application/x-directory"
_TRIES: Final = 6


def is_folder(key: str) -> bool:
    return key[-1:] == "/"


def target_of(bucket: str, key: str) -> PathTarget:
    """InvalidKeyError for what is no folder's name."""
    return PathTarget(bucket, key[:-1])


def folder_info(key: str, found: Attributes) -> ObjectInfo:
    return ObjectInfo(key, 0, 0, TYPE, f"folder{found.mtime:x}", moment(found.mtime))


async def _found(ground: Ground, link: Link, target: PathTarget) -> ObjectInfo | None:
    found = await link.stat(ground.path(target) + b"/" + KEEP)
    if found is None or not found.is_folder:
        return None
    return folder_info(target.key + "/", found)


async def look(ground: Ground, link: Link, target: PathTarget) -> ObjectInfo:
    """ObjectNotFoundError when it is not there."""
    info = await _found(ground, link, target)
    if info is None:
        await ground.check_bucket(link, target.bucket)
        key = target.key + "/"
        raise ObjectNotFoundError("no such object", bucket=target.bucket, key=key)
    return info


async def make(ground: Ground, link: Link, target: PathTarget, options: PutOptions) -> ObjectInfo:
    if any(not name.startswith("trove") for name in options.metadata):
        raise InvalidMetadataError("a folder has no metadata")
    if options.tags or options.storage_class is not None:
        raise UnsupportedError("a folder has no tags and no class")
    await ground.check_bucket(link, target.bucket)
    if options.if_none_match is not None:
        info = await _found(ground, link, target)
        check_write(None, options.if_none_match, None if info is None else info.etag)
    paths = [ground.root + b"/" + folder for folder in [*target.folders, target.path]]
    for _ in range(_TRIES):  # a delete may take one away again
        names = [*paths, paths[-1] + b"/" + KEEP]
        *_, kept = await link.all_of([link.make_folder(name) for name in names])
        info = await _found(ground, link, target)
        if info is not None:
            return info
        for path in paths:
            found = await link.stat(path)
            if found is not None and not found.is_folder:
                raise KeyConflictError("an object is in the way of a folder")
        if isinstance(kept, Failure) and kept.code not in (wire.NO_SUCH_FILE, wire.FAILURE):
            raise kept
    raise BackendError("the folder was removed again and again")


async def drop(ground: Ground, link: Link, target: PathTarget) -> None:
    """From now on it is there only as long as something is in it."""
    path = ground.path(target)
    if await _found(ground, link, target) is None:
        await ground.check_bucket(link, target.bucket)
        return
    gone, *_ = await link.all_of(
        [
            link.remove_folder(path + b"/" + KEEP),
            link.remove_folder(path),
            *ground.prune(link, target),
        ]
    )
    if isinstance(gone, Failure) and gone.code != wire.NO_SUCH_FILE:
        raise gone
