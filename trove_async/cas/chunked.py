"""The put of content in chunks: each chunk is content of its own, and a manifest names them.

While they are stored an upload refers to them, by the owner ``manifest:<upload>``. The commit
that makes the manifest live forgets the upload, and the references are the manifest's from then
on: they need not be written twice, and there is no moment in which nobody holds the chunks. Who
dies before leaves an upload whose lease ends, by which the collector finds them.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial
from uuid import uuid4

from trove_async._chunks import Body, Digest
from trove_async._supply import Supply
from trove_async._threads import cpu_pool, settle
from trove_async._together import both, side_by_side
from trove_async.cas import chunking
from trove_async.cas.index import BlobIndex, State
from trove_async.cas.manifests import Manifest
from trove_async.cas.place import Place
from trove_async.cas.records import StoredBlob
from trove_async.cas.storing import LEASE, RENEW, stored_as
from trove_async.errors import ConflictError, TroveError

__all__ = ["ChunkedWriter"]

_SHED = 1000
Pieces = list[tuple[str, bytes]]


class ChunkedWriter:
    def __init__(self, place: Place, algorithm: str) -> None:
        self._place = place
        self._algorithm = algorithm

    async def store(self, index: BlobIndex, source: Body, owner: str) -> StoredBlob:
        size = source.size
        if source.replayable and size is not None and size > chunking.SMALLEST:
            # Content of this very size is likely this content: then nothing is cut.
            known = await self._known(index, source, owner) if await index.has_size(size) else None
            if known is not None:
                return known
        source.is_open = True
        chunks = source.open()
        async with aclosing(chunks):
            supply = Supply(chunks)
            cutting = _Cutting(supply, self._algorithm)
            pieces = await cutting.next()
            if not cutting.is_done or len(pieces) > 1:
                return await self._in_chunks(index, cutting, pieces, owner)
            # One chunk is the content itself.
            digest, data = pieces[0] if pieces else (cutting.whole, b"")
            return await stored_as(index, self._place, digest, data, owner)

    async def _known(self, index: BlobIndex, source: Body, owner: str) -> StoredBlob | None:
        """With the reference counted, if the content is there."""
        digest = Digest(self._algorithm)
        chunks = source.open()
        async with aclosing(chunks):
            async for chunk in chunks:
                await digest.feed(chunk)
        name = digest.text
        assert name is not None
        row = await index.find(name)
        if row is None or row.damaged or row.state not in (State.LIVE, State.CONDEMNED):
            return None
        claim = await index.claim(name, owner, LEASE)
        # Else it has gone just now. What is reserved then, is for us.
        return StoredBlob(name, digest.count, True) if claim.is_shared else None

    async def _in_chunks(
        self, index: BlobIndex, cutting: _Cutting, pieces: Pieces, owner: str
    ) -> StoredBlob:
        upload = _Upload(index, uuid4().hex)
        manifest = Manifest(self._algorithm)
        await index.begin(upload.id, "", LEASE)
        try:
            loop = asyncio.get_running_loop()
            renew_at = loop.time() + RENEW
            while pieces:
                for digest, data in pieces:
                    manifest.add(digest, len(data))
                if loop.time() > renew_at:
                    await index.renew(upload.id, LEASE)
                    renew_at = loop.time() + RENEW
                # The next ones are read and cut while these are stored.
                _, pieces = await both(
                    partial(self._keep, index, pieces, f"manifest:{upload.id}"), cutting.next
                )
            return await self._named(index, manifest, cutting.whole, owner, upload)
        except BaseException as exc:
            await upload.give_up(exc)
            raise

    async def _keep(self, index: BlobIndex, pieces: Pieces, owner: str) -> None:
        async def keep(piece: tuple[str, bytes]) -> None:
            await stored_as(index, self._place, *piece, owner)

        # Side by side: what the index is asked at the same time is one transaction.
        await side_by_side([*dict(pieces).items()], keep)

    async def _named(
        self, index: BlobIndex, manifest: Manifest, digest: str, owner: str, upload: _Upload
    ) -> StoredBlob:
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(cpu_pool(), manifest.dump, digest)
        while True:
            claim = await index.claim(digest, owner, LEASE)
            if claim.is_shared:
                await upload.abandon()
                return StoredBlob(digest, manifest.size, True)
            key = self._place.key(digest, claim.gen, is_manifest=True)
            info = await self._place.publish(key, body, len(body), claim.now)
            stored = manifest.size, info.stored_size
            if await upload.commit(digest, claim.gen, owner, *stored):
                return StoredBlob(digest, manifest.size, False)


class _Upload:
    """What refers to the chunks until the manifest is live."""

    def __init__(self, index: BlobIndex, id: str) -> None:
        self._index = index
        self.id = id
        self._is_doubtful = False
        """A commit may have been done: then the references are the manifest's."""

    async def commit(self, digest: str, gen: int, owner: str, size: int, stored: int) -> bool:
        self._is_doubtful = True
        commit = self._index.commit
        try:
            done = await commit(digest, gen, owner, size, stored, self.id, is_manifest=True)
        except ConflictError:
            self._is_doubtful = False
            raise
        self._is_doubtful = done
        return done

    async def abandon(self) -> None:
        """Drops the references, also where the upload was collected meanwhile: then those that
        came after are known to nobody else."""
        while await self._index.shed(self.id, _SHED, is_uncommitted=not self._is_doubtful):
            pass

    async def give_up(self, error: BaseException) -> None:
        """Leaves nothing that is referred to, as far as it can; the collector does the rest
        when the lease ends. What was published may be another writer's by now."""
        try:
            await settle(asyncio.ensure_future(self.abandon()))
        except (TroveError, OSError) as exc:
            error.add_note(f"what was written is left for the collector: {exc!r}")


class _Cutting:
    """A body in chunks of content, window by window."""

    def __init__(self, supply: Supply, algorithm: str) -> None:
        self._supply = supply
        self._cutter = chunking.Cutter(algorithm)
        self.is_done = False
        """`next` has given the last chunks."""

    @property
    def whole(self) -> str:
        """The digest of the content; right once it is done."""
        text = self._cutter.whole.text
        assert text is not None
        return text

    async def next(self) -> Pieces:
        """The chunks of the next window, none at the end."""
        found: Pieces = []
        while not found and not self.is_done:
            window = chunking.WINDOW
            await self._supply.fill(window)
            self.is_done = self._supply.held <= window
            data = await self._supply.take_bytes(window)
            cut = partial(self._cutter.feed, data, is_last=self.is_done)
            if len(data) <= chunking.SMALLEST:
                found = cut()
            else:
                loop = asyncio.get_running_loop()
                found = await settle(loop.run_in_executor(cpu_pool(), cut))
        return found
