"""The collector: what nobody wants goes in two steps, what the index does not know in two runs.

G1 condemns, G2 dooms what was condemned long enough and is still unwanted, G3 deletes the
object, G4 buries the row. Each is a transaction of its own or one request, so that a run can
die anywhere and the next one goes on; two runs at once do each step once.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from trove_async.cas.index import BlobIndex, BlobRow
from trove_async.cas.place import Place
from trove_async.cas.records import GCResult
from trove_async.cas.sweep import Sweep
from trove_async.errors import TroveError

__all__ = ["Collector"]

_PAGE: Final = 1000
_TOMBSTONES: Final = 30 * 24 * 3600 * 1_000_000
"""Microseconds; longer than any delete that is still on its way."""


class Collector:
    """One run."""

    def __init__(self, place: Place, index: BlobIndex, *, dry: bool, force: bool) -> None:
        self._place = place
        self._index = index
        self._dry = dry
        self._force = force
        self._condemned = 0
        self._deleted = 0
        self._freed = 0
        self._errors: list[TroveError] = []

    async def run(self, grace: int, settle: int, orphan_after: int) -> GCResult:
        scanned, _ = await self._index.count()
        sweep = Sweep(self._place, self._index, dry=self._dry, force=self._force)
        await sweep.look(orphan_after)
        # An index that is older than the storage knows neither all blobs nor all references.
        if not sweep.is_stale:
            await self._mark(grace, settle)
            await self._collect(settle)
            if await self._uploads() and not grace:
                # What a manifest has let go is unwanted from now on.
                await self._mark(grace, settle)
                await self._collect(settle)
            self._deleted += await sweep.delete()
            self._freed += sweep.freed
            if not self._dry:
                await self._index.prune(_TOMBSTONES)
        self._errors += sweep.errors
        return GCResult(scanned, self._condemned, self._deleted, self._freed, self._errors)

    async def _mark(self, grace: int, settle: int) -> None:
        """G1."""
        after: str | None = ""
        while after is not None:
            page = await self._index.condemn(grace, after, _PAGE, dry=self._dry)
            self._condemned += len(page.blobs)
            if self._dry and settle == 0:  # then this very run would delete them
                self._deleted += len(page.blobs)
                self._freed += sum(blob.stored_size for blob in page.blobs)
            after = page.after

    async def _collect(self, settle: int) -> None:
        """G2 to G4, page by page."""
        async with aclosing(self._doomed(settle)) as pages:
            async for blobs in pages:
                if self._dry:
                    self._deleted += len(blobs)
                    self._freed += sum(blob.stored_size for blob in blobs)
                else:
                    await self._bury(blobs)

    async def _doomed(self, settle: int) -> AsyncGenerator[Sequence[BlobRow], None]:
        after: str | None = ""
        while after is not None:
            page = await self._index.doom(settle, after, _PAGE, dry=self._dry)
            if page.blobs:
                yield page.blobs
            after = page.after

    async def _bury(self, blobs: Sequence[BlobRow]) -> None:
        keys = [
            self._place.key(blob.digest, blob.gen, is_manifest=bool(blob.manifest))
            for blob in blobs
        ]
        keys += [
            self._place.key(blob.digest, blob.gen, is_manifest=True)
            for blob in blobs
            if blob.manifest == ""  # left by a writer of either kind
        ]
        results = await self._place.delete_many(keys)
        failed = {result.key for result in results if result.error is not None}
        self._errors += [result.error for result in results if result.error is not None]
        gone: dict[tuple[str, int], int] = {}
        for blob, key in zip(blobs, keys, strict=False):
            if not failed & {key, f"{key}.chunks"}:
                gone[blob.digest, blob.gen] = blob.stored_size
        for one in await self._index.bury([*gone]):
            self._deleted += 1
            self._freed += gone[one]

    async def _uploads(self) -> bool:
        """What writers left whose leases have ended, and manifests that are deleted. Whether
        chunks were let go."""
        has_shed = False
        while True:
            expired = await self._index.expired(_PAGE)
            if not expired or self._dry:
                return has_shed
            for upload in expired:
                if not upload.tmp_key:
                    has_shed = True
                    while await self._index.shed(upload.id, _PAGE):
                        pass
            uploads = [upload for upload in expired if upload.tmp_key]
            results = await self._place.delete_many([upload.tmp_key for upload in uploads])
            failed = [result.error for result in results if result.error is not None]
            self._errors += failed
            await self._index.forget(
                [u.id for u, r in zip(uploads, results, strict=True) if r.error is None]
            )
            if failed or len(expired) < _PAGE:
                return has_shed
