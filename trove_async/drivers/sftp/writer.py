"""From a body to a published object.

A put is three exchanges with the server, however many are under way at the same time: open the
staged file and claim a record; write, stamp and close both; rename. Until the rename nothing is
visible, after it everything is.
"""

from __future__ import annotations

from typing import Final

from trove_async._chunks import OneChunk
from trove_async.driver import Bytes, Chunks, PutOptions
from trove_async.driver.paths import PathTarget
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Lost
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.pool import LARGE
from trove_async.drivers.sftp.record import Record
from trove_async.drivers.sftp.staged import Staged
from trove_async.drivers.sftp.wire import Failure
from trove_async.drivers.sftp.writes import Writes
from trove_async.errors import PreconditionFailedError
from trove_async.model import ObjectInfo

__all__ = ["SMALL", "put", "record_of"]

SMALL: Final = 128 * 1024
"""A body of at most so many bytes is written when all of it is there."""


def record_of(options: PutOptions) -> Record:
    """Legal once the body has ended."""
    metadata = dict(options.metadata)
    if options.late is not None:
        metadata.update(options.late())
    return Record(options.content_type, metadata, options.tags, options.storage_class)


async def put(ground: Ground, target: PathTarget, body: Chunks, options: PutOptions) -> ObjectInfo:
    whole = body.whole(options.size or 0) if type(body) is OneChunk else None
    head: list[Bytes] = []
    if whole is None or len(whole) > SMALL:
        if whole is not None:
            head = [whole]
            whole = None
        else:
            whole, head = await _first(body)
    create_only = options.if_none_match is not None
    if whole is not None:
        record = record_of(options)
        async with ground.pool.use() as link:
            staged = Staged(ground, link, target)
            await _put_whole(staged, whole, record, create_only)
    else:
        async with ground.pool.use(LARGE) as link:
            staged = Staged(ground, link, target)
            record = await _put_stream(staged, head, body, options)
    return record.info(target.key, staged.identity)


async def _first(body: Chunks) -> tuple[bytes | None, list[Bytes]]:
    """(all of a small body, or None and the first chunks of a longer one)."""
    pieces: list[bytes] = []
    length = 0
    async for chunk in body:
        length += len(chunk)
        if length > SMALL:
            return None, [*pieces, chunk]
        pieces.append(bytes(chunk))
    return b"".join(pieces), []


async def _put_whole(staged: Staged, data: bytes, record: Record, create_only: bool) -> None:
    link = staged.link
    staged.is_quick = len(data) <= link.max_write
    await _begin(staged, create_only, len(data), record)
    try:
        assert staged.handle is not None
        writes = link.write_pieces(staged.handle, data)
        await staged.sealed([*writes, *staged.seal()], len(writes))
    except BaseException:
        staged.drop()
        raise
    await staged.publish(create_only=create_only)


async def _put_stream(
    staged: Staged, head: list[Bytes], body: Chunks, options: PutOptions
) -> Record:
    link = staged.link
    create_only = options.if_none_match is not None
    await _begin(staged, create_only)
    if staged.is_new:
        try:
            await staged.ground.check_bucket(link, staged.target.bucket)
        except BaseException:
            staged.drop()
            raise
    assert staged.handle is not None
    writes = Writes(staged.ground, link, staged.handle)
    try:
        while head:
            await writes.add(head.pop(0))
        async for chunk in body:
            await writes.add(chunk)
        record = record_of(options)
        await writes.end()
        await staged.claim(writes.offset, record)
        await staged.sealed(staged.seal())
    except BaseException:
        writes.drop()
        staged.drop()
        raise
    await staged.publish(create_only=create_only)
    return record


async def _begin(
    staged: Staged, create_only: bool, size: int | None = None, record: Record | None = None
) -> None:
    try:
        await staged.begin(size, record)
    except Failure as failure:
        if failure.code != wire.NO_SUCH_FILE or isinstance(failure, Lost):
            raise
        # Somebody took the private folder away.
        await staged.ground.make_state(staged.link)
        await staged.begin(size, record)
    if create_only and not staged.is_new:
        staged.drop()
        raise PreconditionFailedError("the object exists already")
