"""Buckets are the folders of the root that have the name of one."""

from __future__ import annotations

from trove_async.driver.paths import bucket_path, is_bucket
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import BucketExistsError, BucketNotEmptyError, BucketNotFoundError
from trove_async.model import BucketInfo

__all__ = ["create", "listed", "remove"]


async def create(ground: Ground, link: Link, name: str) -> None:
    path = ground.root + b"/" + bucket_path(name)
    answer = await link.make_folder(path)
    if answer is None:
        return
    failure = answer if isinstance(answer, Failure) else Failure(wire.BAD_MESSAGE)
    if failure.code == wire.FAILURE and await link.stat(path) is not None:
        raise BucketExistsError("the bucket exists already", bucket=name) from failure
    raise failure


async def remove(ground: Ground, link: Link, name: str) -> None:
    """Only ever removes empty folders, so that an object that comes meanwhile is not lost:
    either the put finds no bucket, or the bucket is not empty."""
    path = ground.root + b"/" + bucket_path(name)
    there = await link.stat(path)
    if there is None or not there.is_folder:
        raise BucketNotFoundError("no such bucket", bucket=name)
    if not await ground.prune_below(link, path):
        raise BucketNotEmptyError("the bucket holds objects", bucket=name)


async def listed(ground: Ground, link: Link) -> list[BucketInfo]:
    names = []
    for raw, attributes in await link.entries(ground.root or b"/") or ():
        if raw.isascii() and attributes.is_folder and is_bucket(raw.decode("ascii")):
            names.append(raw.decode("ascii"))
    return [BucketInfo(name) for name in sorted(names)]
