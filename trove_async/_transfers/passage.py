"""One pass of a source through the layers to a backend, part by part, with a memory.

What a message has sealed is never sealed differently: the digest of a part's inner bytes is
durable before its first frame is sealed, and a part is sealed again under that message only if
the re-made bytes have that digest. Else the pass is over, and another begins another message.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from trove_async._chunks import Bytes, Digest
from trove_async._store.backend import Backend
from trove_async._store.core import Core
from trove_async._store.multipart import (
    Diverged,
    finish,
    give_up,
    part_length,
    part_size_for,
    retried,
)
from trove_async._store.record import DIGEST, FORMAT, LENGTH, TOKEN, write_format
from trove_async._store.seam import Idle, Pulled, sending
from trove_async._supply import Pieces, Supply, length_of
from trove_async._threads import settle
from trove_async._transfers.proof import Covered, Proven
from trove_async.checksum import parse_digest
from trove_async.driver.base import Chunks
from trove_async.driver.options import PutOptions
from trove_async.errors import CorruptMetadataError, UploadNotFoundError
from trove_async.middleware.base import Context, Continuable, Sealer, Telling
from trove_async.middleware.pipeline import Chain, Entry
from trove_async.model import MiB, ObjectInfo, PartInfo
from trove_async.stream.session import Message, PartRecord, Plan, SessionCatalog, SessionRecord
from trove_async.stream.width import Width

__all__ = ["Passage", "begun", "early"]

_NETWORKED: Final = 4
"""Parts on their way at once, where the backend is far enough to bound the size of parts."""
_PIECE: Final = MiB


class Passage:
    def __init__(
        self,
        core: Core,
        backend: Backend,
        catalog: SessionCatalog,
        record: SessionRecord,
        owner: str,
        *,
        acknowledged: Callable[[PartRecord], None],
        began: Callable[[Message], None],
        adaptive: bool = False,
    ) -> None:
        """``acknowledged`` is told of every part that is durable, also those of before, and
        ``began`` when another message takes their place. ``adaptive``: as many parts at once
        as the backend takes."""
        self._core = core
        self._backend = backend
        self._multipart = backend.need(backend.multipart, "uploads in parts")
        self._catalog = catalog
        self._owner = owner
        self._plan = record.plan
        self._id = record.id
        self._message = record.message
        self._known = {part.number: part for part in record.parts}
        self._done: dict[int, PartRecord] = {}
        self._acknowledged = acknowledged
        self._began = began
        self._digest = Digest(core.checksum)
        self._sealer: Sealer | None = None
        self._covered: Covered | None = None
        self._is_as_read = True
        self._is_from_start = True
        most = self._most()
        clock = asyncio.get_running_loop().time
        self._width = Width(most, clock) if adaptive else None
        self._fixed_width = most

    async def run(self, source: Chunks, *, skip: int = 0) -> ObjectInfo:
        """Takes the source to its end and completes the upload. The source is closed.

        ``skip``: logical bytes that are acknowledged and not given again; only where nothing
        stands between the user and the backend."""
        plan, owned = self._plan, self._core.owned
        context = Context("put", plan.bucket, plan.key, plan.content_type, plan.metadata, plan.size)
        try:
            info = await self._sent(Chain(source), context, skip)
        except BaseException as exc:
            await owned.ended(self._backend, context, exc)
            raise
        await owned.ended(self._backend, context, None)
        return info

    async def _sent(self, chain: Chain, context: Context, skip: int) -> ObjectInfo:
        try:
            supply = await self._opened(chain, context, skip)
            await self._send_all(supply, skip)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        await chain.aclose()
        return await self._complete(context)

    # -- the layers ----------------------------------------------------------------------------

    async def _opened(self, chain: Chain, context: Context, skip: int) -> Supply:
        plan = self._plan
        context.stored_size = plan.size
        expected = None if plan.checksum is None else parse_digest(plan.checksum)
        if skip:
            self._digest = Digest(None)
            self._digest.count = skip
        context.digest = self._digest
        digests = [self._digest]
        if expected is not None and expected[0] != self._digest.algorithm:
            digests.append(Digest(expected[0]))
        # The proof of the source is its digest: it is not hashed twice.
        is_shared = not skip and self._digest.algorithm == "blake3" and expected is None
        if is_shared:
            digests = [Digest(None)]  # that which `Tap` counts
        marks = () if skip else [part.source_digest for part in self._known.values()]
        self._is_from_start = not skip
        self._proven = Proven(chain.top, marks, self._digest if is_shared else None)
        chain.push(self._proven)
        entries = self._core.pipeline.for_write(context)
        last = _continuable(entries)
        outer = entries if last is None else entries[:-1]
        covered = Covered()
        context.covers = covered.tell
        inner = await self._core.pipeline.write(chain, outer, context, digests, expected)
        self._is_as_read = not context.applied
        if _tells(outer, context.applied):
            covered.chunks = inner
            self._covered = inner = covered
        self._is_own = not entries
        if last is not None:
            self._sealer = await self._sealing(last, context)
        message = self._message
        header = None if self._sealer is None else self._sealer.header
        if message is None or (message.encodings, dict(message.hints), message.header) != (
            tuple(context.applied),
            context.hints,
            header,
        ):
            await self._begin(context)
        return Supply(inner)

    async def _sealing(self, entry: Entry, context: Context) -> Sealer:
        layer = entry.middleware
        assert isinstance(layer, Continuable)
        message, sealer = self._message, None
        # Other hints of the layers before are other bytes, which this message must not seal.
        is_same = message is not None and context.hints.items() <= message.hints.items()
        if message is not None and message.header is not None and is_same:
            try:
                sealer = await layer.continued(message.header, context)
            except CorruptMetadataError:
                sealer = None  # it is of other inner bytes
        if sealer is None:
            sealer = await layer.begin(context)
        context.applied.append(layer.encoding)
        return sealer

    async def _begin(self, context: Context) -> None:
        """A new message; the upload of the one before is given up."""
        before, plan = self._message, self._plan
        self._message = await begun(
            self._core,
            self._backend,
            self._catalog,
            self._id,
            self._owner,
            plan,
            context,
            self._sealer,
        )
        self._known.clear()
        self._began(self._message)
        if before is not None:
            await give_up(
                self._backend, plan.bucket, plan.key, before.upload_id, self._core.timeouts
            )

    # -- the parts -----------------------------------------------------------------------------

    async def _send_all(self, supply: Supply, skip: int) -> None:
        message = self._message
        assert message is not None
        backend = self._backend
        number, start = 1, 0
        while start < skip:
            part = self._known[number]
            self._keep(part)
            number, start = number + 1, start + part.size
        tasks: set[asyncio.Task[None]] = set()
        try:
            while True:
                length = part_length(backend, message.part_size, number)
                await supply.fill(length)
                is_last = supply.held <= length
                pieces = await supply.take(length)
                if not pieces and number > 1:
                    break  # only a source that is all there already ends so
                data = pieces  # as they came, where no layer asks for all of a part at once
                if not self._is_own and len(pieces) > 1:
                    data = [b"".join(pieces)]
                del pieces
                part = await self._fixed(number, data, start, is_last)
                if part.etag is None:
                    while len(tasks) >= (self._width.now if self._width else self._fixed_width):
                        await _first(tasks)
                    tasks.add(asyncio.create_task(self._send(part, data, start, is_last)))
                else:
                    self._keep(part)
                number, start = number + 1, start + length_of(data)
                del data
                if is_last:
                    break
            while tasks:
                await _first(tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await settle(asyncio.ensure_future(asyncio.wait(tasks)))
                for task in tasks:
                    if not task.cancelled():
                        task.exception()  # retrieved: the first one is raised already

    def _most(self) -> int:
        features = self._backend.features
        if features.parts_in_order:
            return 1
        is_near = features.min_part_size is None and features.max_part_size is None
        return self._plan.concurrency or (1 if is_near else _NETWORKED)

    async def _fixed(self, number: int, data: Pieces, start: int, is_last: bool) -> PartRecord:
        """What is known of this part, if it is this one; else what is to be known of it.
        Diverged where the message has fixed other bytes."""
        size = length_of(data)
        source = self._source_in(start + size, is_last)  # of every part: what is behind is let go
        text = ""
        if not self._is_own:
            digest = Digest("blake3")
            for piece in data:
                await digest.feed(piece)
            text = f"{digest.text}{';last' if is_last else ''}"
        known = self._known.get(number)
        if known is not None:
            if known.digest == text and known.size == length_of(data):
                return known
            if known.etag is not None or self._sealer is not None:
                raise Diverged(f"part {number} is not what it was")
        # What began in the middle of the source knows no digest of what lies before a place.
        mark = self._proven.mark if self._is_from_start else ""
        return PartRecord(number, text, size, None, 0, source, mark)

    def _source_in(self, inner: int, is_last: bool) -> int:
        """Bytes of the source that are wholly in the first ``inner`` ones."""
        if self._is_as_read:
            return inner
        if is_last:
            return self._proven.digest.count
        return 0 if self._covered is None else self._covered.at(inner)

    async def _send(self, part: PartRecord, data: Pieces, start: int, is_last: bool) -> None:
        sealer, size = self._sealer, length_of(data)
        if sealer is not None:
            size = sealer.sealed_size(size, start, is_last=is_last)
            if part.number not in self._known:
                await self._catalog.keep_part(self._id, self._owner, part)

        def body() -> Chunks:
            if sealer is not None:
                return sealer.seal(data[0] if data else b"", start, is_last=is_last)
            return _in_order(data)

        clock = asyncio.get_running_loop().time
        began = clock()
        sent = await self._upload(part.number, body, size)
        took = clock() - began
        part = replace(part, etag=sent.etag, stored_size=sent.size)
        await self._catalog.keep_part(self._id, self._owner, part)
        self._keep(part)
        if self._width is not None:
            self._width.sent(part.size, took)

    def _keep(self, part: PartRecord) -> None:
        self._done[part.number] = part
        self._acknowledged(part)

    async def _upload(self, number: int, body: Callable[[], Chunks], size: int) -> PartInfo:
        assert self._message is not None
        plan, upload_id = self._plan, self._message.upload_id

        async def once() -> PartInfo:
            async with aclosing(body()) as chunks:
                limit = self._core.timeouts.read
                if limit is None:
                    return await self._multipart.upload_part(
                        plan.bucket, plan.key, upload_id, number, chunks, size
                    )
                idle = Idle(limit)
                pulled = Pulled(chunks, idle)
                return await sending(
                    self._multipart.upload_part(
                        plan.bucket, plan.key, upload_id, number, pulled, size
                    ),
                    idle,
                )

        try:
            return await retried(self._core.retry, once)
        except UploadNotFoundError as exc:
            raise Diverged("the backend has forgotten the upload") from exc

    # -- the end -------------------------------------------------------------------------------

    async def _complete(self, context: Context) -> ObjectInfo:
        message = self._message
        assert message is not None
        plan, digest = self._plan, self._digest

        def late() -> Mapping[str, str]:
            known = {LENGTH: str(digest.count)}
            if digest.text is not None:
                known[DIGEST] = digest.text
            for more in context.late:
                known.update(more())
            return known

        done = [self._done[number] for number in sorted(self._done)]
        parts = [PartInfo(p.number, p.etag or "", p.stored_size) for p in done]
        options = PutOptions(
            plan.content_type,
            early(plan, context, message.token),
            sum(part.size for part in parts),
            late,
            plan.tags,
            plan.storage_class,
            plan.if_match,
            plan.if_none_match,
        )
        info = await finish(
            self._backend,
            plan.bucket,
            plan.key,
            message.upload_id,
            message.token,
            parts,
            options,
            self._core.retry,
            self._core.timeouts,
        )
        return ObjectInfo(
            plan.key,
            digest.count,
            info.stored_size,
            info.content_type,
            info.etag,
            info.last_modified,
            dict(plan.metadata),
            digest.text,
            info.version_id,
            info.storage_class,
            tuple(context.applied),
        )


def early(plan: Plan, context: Context, token: str) -> dict[str, str]:
    """What of an object's metadata is known before its body."""
    metadata = dict(plan.metadata)
    metadata[FORMAT] = write_format(context.applied, context.hints)
    if context.size is not None:
        metadata[LENGTH] = str(context.size)
    metadata[TOKEN] = token
    return metadata


async def begun(
    core: Core,
    backend: Backend,
    catalog: SessionCatalog,
    id: str,
    owner: str,
    plan: Plan,
    context: Context,
    sealer: Sealer | None,
) -> Message:
    """Another message of a session, durable, and the backend's upload for it."""
    multipart = backend.need(backend.multipart, "uploads in parts")
    token = os.urandom(8).hex()
    options = PutOptions(
        plan.content_type,
        early(plan, context, token),
        context.stored_size,
        tags=plan.tags,
        storage_class=plan.storage_class,
        part_size=plan.part_size,
        concurrency=plan.concurrency,
    )

    async def once() -> str:
        request = multipart.initiate_multipart(plan.bucket, plan.key, options)
        return await backend.limited(request, core.timeouts)

    upload_id = await retried(core.retry, once)
    length = part_size_for(backend, plan.part_size, core.chunk_size, plan.size)
    if sealer is not None:
        length = -(-length // sealer.grain) * sealer.grain
    message = Message(
        upload_id,
        tuple(context.applied),
        dict(context.hints),
        length,
        token,
        None if sealer is None else sealer.header,
    )
    try:
        await catalog.begin(id, owner, message)
    except Exception:  # nobody knows of it; a cancel may come after it was written down
        await give_up(backend, plan.bucket, plan.key, upload_id, core.timeouts)
        raise
    return message


def _continuable(entries: list[Entry]) -> Entry | None:
    """The last transform, where its work can go on in another process."""
    if entries and isinstance(entries[-1].middleware, Continuable):
        return entries[-1]
    return None


def _tells(entries: list[Entry], applied: Sequence[str]) -> bool:
    """One transform stands between the source and the parts, and says how far it has come."""
    return len(applied) == 1 and any(
        entry.encoding == applied[0] and isinstance(entry.middleware, Telling) for entry in entries
    )


async def _in_order(pieces: Pieces) -> AsyncGenerator[Bytes, None]:
    for piece in pieces:
        view = piece if len(piece) <= _PIECE else memoryview(piece)
        for start in range(0, len(view), _PIECE):
            yield view[start : start + _PIECE]


async def _first(tasks: set[asyncio.Task[None]]) -> None:
    """Waits for one of them, and takes it out; raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    tasks -= done
    # Of several that failed at once each is asked; one that is not would be told to the loop.
    errors = [task.exception() for task in done]
    for error in errors:
        if error is not None:
            raise error
