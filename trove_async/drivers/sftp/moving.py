"""A file gets a second, private name, and that one the place of the goal; then the first name
goes. Nothing is copied, and at every moment one of the two is there."""

from __future__ import annotations

from trove_async.driver import CopyOptions
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer, Lost
from trove_async.drivers.sftp.copying import changed, copy
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.publish import publish
from trove_async.drivers.sftp.reader import Found, look
from trove_async.drivers.sftp.record import Identity, Record, identity_of
from trove_async.drivers.sftp.wire import Failure
from trove_async.errors import ObjectChangedError
from trove_async.model import ObjectInfo

__all__ = ["move", "remove_version"]


async def move(
    ground: Ground, origin: PathTarget, goal: PathTarget, options: CopyOptions
) -> ObjectInfo:
    """Where the file cannot keep its identity at the goal: a copy, and a delete of just what
    was copied."""
    if ground.can_link and ground.can_replace:
        async with ground.pool.use() as link:
            info = await _relinked(ground, link, origin, goal, options)
        if info is not None:
            return info
    async with ground.pool.use() as link:
        identity = await look(ground, link, origin)
        _check(origin, identity, options)
        pinned = CopyOptions(
            options.metadata,
            options.content_type,
            options.if_none_match,
            source_if_match=identity.etag,
        )
        info = await copy(ground, origin, goal, pinned)
        await remove_version(ground, link, origin, identity)
    return info


def _check(origin: PathTarget, identity: Identity, options: CopyOptions) -> None:
    if options.source_if_match not in (None, identity.etag):
        raise ObjectChangedError("the source changed", bucket=origin.bucket, key=origin.key)


async def _relinked(
    ground: Ground, link: Link, origin: PathTarget, goal: PathTarget, options: CopyOptions
) -> ObjectInfo | None:
    """None: nothing was done. The file is not newer than what it would replace, or the server's
    file system has no second names."""
    name = ground.new_name()
    try:
        linked, second, there = await link.all_of(
            [
                link.link_to(ground.path(origin), name),
                link.lstat(name),
                link.lstat(ground.path(goal)),
            ]
        )
        if isinstance(linked, Lost):
            raise linked
        if linked is not None:
            await look(ground, link, origin)  # says what is missing
            return None
        found, old = attributes(second), attributes(there)
        if found is None or not found.is_file:
            return None
        identity = identity_of(found)
        _check(origin, identity, options)
        if old is not None and (not old.is_file or old.mtime >= identity.mtime):
            return None
        if goal.bucket != origin.bucket:
            await ground.check_bucket(link, goal.bucket)
        kept = await ground.read_record(link, origin, identity)
        record = changed(Found(link, b"", identity, kept), origin.key, options)
        if not ground.may_have(goal, identity.mtime):
            return None
        if not await _claimed(ground, link, goal, identity, record):
            return None
        create_only = options.if_none_match is not None
        await publish(ground, link, goal, name, identity, create_only=create_only)
    finally:
        ground.pool.clean(link, name)
    await remove_version(ground, link, origin, identity)
    return record.info(goal.key, identity)


async def _claimed(
    ground: Ground, link: Link, goal: PathTarget, identity: Identity, record: Record
) -> bool:
    """Writes the record for the goal; False: another version of it had this identity."""
    sidecar = ground.sidecar(goal, identity)
    data = record.encode(goal, identity)
    try:
        await ground.write_record(link, sidecar, data)
    except Failure as failure:
        if failure.code == wire.FAILURE:
            return False
        if failure.code != wire.NO_SUCH_FILE:
            raise
        await ground.make_shard(link, sidecar)
        await ground.write_record(link, sidecar, data)
    return True


async def remove_version(
    ground: Ground, link: Link, target: PathTarget, identity: Identity
) -> None:
    """Of what is at ``target``, if it is still this version."""
    path = ground.path(target)
    there = await link.stat(path)
    if there is None or identity_of(there) != identity:
        return
    answers: list[Answer] = await link.all_of([link.remove(path), *ground.prune(link, target)])
    gone = answers[0]
    if isinstance(gone, Failure) and gone.code != wire.NO_SUCH_FILE:
        raise gone
    ground.drop_record(link, target, identity, deleted=True)
