"""Objects that the index does not know: deleted when two runs have seen them, unless it is the
index that is wrong.

A blob has a row before it has an object, and its row outlives it by 30 days. So an object of a
higher generation than its row, or a blob without a row that was written in the last 30 days,
shows that the index lost something: it is empty, or an older copy was restored. Then nothing
is deleted; `rebuild` makes the index know what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trove_async.cas.index import BlobIndex, BlobRow, State
from trove_async.cas.place import PREFIX, STAMP, TMP, Place
from trove_async.errors import (
    BucketNotFoundError,
    CasInvariantError,
    ObjectNotFoundError,
    TroveError,
)
from trove_async.model import ObjectInfo

__all__ = ["Sweep"]

_MEMORY: Final = 30 * 24 * 3600 * 1_000_000
"""Microseconds for which the row of a deleted blob is kept."""
_FEW: Final = 10
"""So many unknown blobs may be more than half of all."""
_TOGETHER: Final = 1_000
"""Objects deleted in one request."""
_MOST: Final = 100_000
"""Objects one run deletes; the next run deletes the rest."""


class Sweep:
    """One run over the bucket: `look`, then `delete`."""

    def __init__(self, place: Place, index: BlobIndex, *, dry: bool, force: bool) -> None:
        self._place = place
        self._index = index
        self._dry = dry
        self._force = force
        self._run = 0
        self._ripe: list[_Orphan] = []
        self._blobs = 0
        self._unknown = 0
        self.is_stale = False
        """The index is older than the storage."""
        self._is_refused = False
        self.freed = 0
        self.errors: list[TroveError] = []

    # -- looking -----------------------------------------------------------------------------

    async def look(self, age: int) -> None:
        """Reads the listing against the index, page by page; deletes nothing."""
        self._run = await self._index.now()
        cursor: str | None = None
        while True:
            page = await self._listed(cursor)
            if page is None:
                break
            objects, cursor = page
            await self._note(await self._orphans(objects), age)
            if cursor is None:
                break
        _, rows = await self._index.count()
        if self._blobs and not rows:
            self._refuse("the index is empty and the storage is not: rebuild()", stale=True)
        elif self._unknown > _FEW and self._unknown * 2 > self._blobs:
            self._refuse(f"{self._unknown} of {self._blobs} blobs are not in the index")
        if not self._dry:
            await self._index.forget_orphans(self._run)

    async def _note(self, orphans: Sequence[_Orphan], age: int) -> None:
        if not orphans:
            return
        by_key = {orphan.key: orphan for orphan in orphans}
        ripe = await self._index.orphans([*by_key], age, self._run, dry=self._dry)
        self._ripe += [by_key[key] for key in ripe][: _MOST - len(self._ripe)]

    async def _listed(self, cursor: str | None) -> tuple[Sequence[ObjectInfo], str | None] | None:
        place = self._place
        try:
            page = await place.store.list_page(place.bucket, prefix=PREFIX, cursor=cursor)
        except BucketNotFoundError:
            return None
        return page.objects, page.cursor

    def _refuse(self, why: str, *, stale: bool = False) -> None:
        if self._force:
            return
        self._is_refused = True
        self.is_stale |= stale
        if not any(why == error.message for error in self.errors):
            self.errors.append(CasInvariantError(why, bucket=self._place.bucket))

    async def _orphans(self, objects: Sequence[ObjectInfo]) -> list[_Orphan]:
        """Those objects that belong to no row."""
        blobs = [(info, found) for info in objects if (found := Place.blob_of(info.key))]
        tmp = [info for info in objects if info.key.startswith(TMP)]
        self._blobs += len(blobs)
        orphans: list[_Orphan] = []
        if blobs:
            rows = await self._index.rows(sorted({digest for _, (digest, _, _) in blobs}))
            known = {row.digest: row for row in rows}
            for info, (digest, gen, is_manifest) in blobs:
                row = known.get(digest)
                if await self._is_orphan(info, gen, is_manifest, row):
                    name = digest if row is None else None
                    orphans.append(_Orphan(info.key, info.stored_size, name, gen))
        if tmp:
            uploads = set(await self._index.uploads([info.key for info in tmp]))
            orphans += [_Orphan(i.key, i.stored_size) for i in tmp if i.key not in uploads]
        return orphans

    async def _is_orphan(
        self, info: ObjectInfo, gen: int, is_manifest: bool, row: BlobRow | None
    ) -> bool:
        if row is None:
            self._unknown += 1
            if self._run - await self._began(info) < _MEMORY:
                self._refuse("the storage has blobs that the index has lost: rebuild()", stale=True)
            return True
        if gen > row.gen:
            self._refuse("the storage is newer than the index: rebuild()", stale=True)
        if row.state == State.RESERVED and row.refs:  # read until it is written anew
            return gen < row.gen - 1
        if row.state in (State.LIVE, State.CONDEMNED) and is_manifest != bool(row.manifest):
            return True  # of a writer that lost the race for this generation
        return gen != row.gen or row.state == State.GONE

    async def _began(self, info: ObjectInfo) -> int:
        """When its writer began; long ago for what no writer of ours made."""
        if info.encodings is None and STAMP not in info.metadata:  # the listing has no metadata
            try:
                info = await self._place.store.head(self._place.bucket, info.key)
            except ObjectNotFoundError:
                return self._run - _MEMORY
        stamp = info.metadata.get(STAMP, "")
        return int(stamp) if stamp.isascii() and stamp.isdigit() else self._run - _MEMORY

    # -- deleting ----------------------------------------------------------------------------

    async def delete(self) -> int:
        """Those that an earlier run has seen too; how many."""
        if self._is_refused:
            return 0
        if self._dry:
            self.freed += sum(orphan.size for orphan in self._ripe)
            return len(self._ripe)
        deleted = 0
        # The highest generation of a blob first: the row it gets covers the lower ones.
        self._ripe.sort(key=lambda orphan: (orphan.digest or "", -orphan.gen))
        for start in range(0, len(self._ripe), _TOGETHER):
            deleted += await self._deleted(self._ripe[start : start + _TOGETHER])
        return deleted

    async def _deleted(self, orphans: Sequence[_Orphan]) -> int:
        """A blob without a row gets one first, as being deleted: a writer that claims the same
        content from now on takes the next generation, and never finds these bytes there."""
        rowless = [(o.digest, o.gen, o.size) for o in orphans if o.digest is not None]
        adopted = set(await self._index.adopt(rowless)) if rowless else set()
        chosen = [o for o in orphans if o.digest is None or (o.digest, o.gen) in adopted]
        results = await self._place.delete_many([orphan.key for orphan in chosen])
        gone = [o for o, r in zip(chosen, results, strict=True) if r.error is None]
        self.errors += [result.error for result in results if result.error is not None]
        await self._index.bury([(o.digest, o.gen) for o in gone if o.digest is not None])
        self.freed += sum(orphan.size for orphan in gone)
        return len(gone)


@dataclass(frozen=True, slots=True)
class _Orphan:
    key: str
    size: int
    """Bytes stored."""
    digest: str | None = None
    """Of a blob that has no row at all."""
    gen: int = 0
