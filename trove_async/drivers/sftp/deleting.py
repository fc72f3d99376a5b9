"""Deletes: the file, its record, and the folders that are empty without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import folders, wire
from trove_async.drivers.sftp.faults import located
from trove_async.drivers.sftp.gathering import gathered
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.record import identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import InvalidKeyError, TroveError
from trove_async.model import DeleteResult

__all__ = ["delete", "delete_many"]

_TOGETHER: Final = 64


async def delete(ground: Ground, link: Link, target: PathTarget) -> None:
    """A missing key is no error. Looks first: some servers remove folders as well."""
    path = ground.path(target)
    there = await link.stat(path)
    if there is None:
        await ground.check_bucket(link, target.bucket)
        return
    if not there.is_file:
        return  # a folder or a link is no object
    gone, *_ = await link.all_of([link.remove(path), *ground.prune(link, target)])
    if isinstance(gone, Failure) and gone.code != wire.NO_SUCH_FILE:
        raise gone
    ground.drop_record(link, target, identity_of(there), deleted=True)


async def delete_many(ground: Ground, bucket: str, keys: Sequence[str]) -> list[DeleteResult]:
    results: list[DeleteResult] = []
    async with ground.pool.use() as link:
        await ground.check_bucket(link, bucket)
        for start in range(0, len(keys), _TOGETHER):
            some = keys[start : start + _TOGETHER]
            results += await gathered([_one(ground, link, bucket, key) for key in some])
    return results


async def _one(ground: Ground, link: Link, bucket: str, key: str) -> DeleteResult:
    remove = folders.drop if folders.is_folder(key) else delete
    try:
        target = PathTarget(bucket, key.removesuffix("/"))
    except InvalidKeyError as exc:
        return DeleteResult(key, exc)
    try:
        await remove(ground, link, target)
    except (Failure, TroveError) as exc:
        return DeleteResult(key, located(exc, "delete_many", target))
    return DeleteResult(key)
