"""Copies made by the server (copy-data), or through us where it cannot."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from trove_async.driver import ByteRange, CopyOptions, GetOptions
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.pool import LARGE
from trove_async.drivers.sftp.reader import Found, complete, open_object
from trove_async.drivers.sftp.record import Record
from trove_async.drivers.sftp.staged import Staged
from trove_async.drivers.sftp.writes import Writes
from trove_async.errors import ObjectChangedError, PreconditionFailedError
from trove_async.model import ObjectInfo

__all__ = ["changed", "copy", "transfer"]

_STEP: Final = 32 * 1024 * 1024
"""Bytes the server copies at a time: it says nothing, and does nothing else, meanwhile."""
_AHEAD: Final = 16  # reads under way
_NOTHING: Final = GetOptions(ByteRange(0, 0))


async def copy(
    ground: Ground, origin: PathTarget, goal: PathTarget, options: CopyOptions
) -> ObjectInfo:
    async with ground.pool.use(LARGE) as link:
        found, _, _, _ = await open_object(ground, link, origin, _NOTHING)
        try:
            if options.source_if_match not in (None, found.identity.etag):
                raise ObjectChangedError("the source changed", bucket=origin.bucket, key=origin.key)
            record = changed(found, origin.key, options)
            staged = Staged(ground, link, goal)
            await staged.begin(found.identity.size, record)
            try:
                if options.if_none_match is not None and not staged.is_new:
                    raise PreconditionFailedError("the object exists already")
                if staged.is_new and goal.bucket != origin.bucket:
                    await ground.check_bucket(link, goal.bucket)
                assert staged.handle is not None
                size = found.identity.size
                await transfer(ground, link, found.handle, 0, size, staged.handle, 0)
                await staged.sealed(staged.seal())
            except BaseException:
                staged.drop()
                raise
        finally:
            found.let_go()
        await staged.publish(create_only=options.if_none_match is not None)
        return record.info(goal.key, staged.identity)


def changed(found: Found, key: str, options: CopyOptions) -> Record:
    info = found.info(key)
    tags = found.record.tags if found.record is not None else None
    return Record(
        options.content_type or info.content_type,
        dict(info.metadata if options.metadata is None else options.metadata),
        tags,
        info.storage_class,
    )


async def transfer(
    ground: Ground, link: Link, source: bytes, start: int, size: int, target: bytes, at: int
) -> None:
    """``size`` bytes from ``start`` of one open file to ``at`` in another."""
    if not ground.can_copy:
        await _carry(ground, link, source, start, size, target, at)
        return
    for done in range(0, size, _STEP):
        wanted = min(_STEP, size - done)
        request = wire.copy_data(source, start + done, wanted, target, at + done)
        await ground.check(link, [await link.ask(wire.EXTENDED, request)])


async def _carry(
    ground: Ground, link: Link, source: bytes, start: int, size: int, target: bytes, at: int
) -> None:
    """Read and written by us, a window at a time."""
    writes = Writes(ground, link, target, at)
    asked: deque[tuple[int, int, asyncio.Future[Answer]]] = deque()
    offset, stop = start, start + size
    try:
        while offset < stop or asked:
            while offset < stop and len(asked) < _AHEAD:
                wanted = min(link.max_read, stop - offset)
                asked.append((offset, wanted, link.read(source, offset, wanted)))
                offset += wanted
            begin, wanted, read = asked.popleft()
            await writes.add(await complete(link, source, begin, wanted, await read))
        await writes.end()
    finally:
        writes.drop()
        for _, _, read in asked:
            read.cancel()
