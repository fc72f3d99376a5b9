"""Storage against index: bit rot, lost objects, miscounted references, a lost index."""

from __future__ import annotations

from typing import Final

from trove_async._together import side_by_side
from trove_async.cas.index import BlobIndex
from trove_async.cas.place import PREFIX, Place
from trove_async.cas.reading import Readings
from trove_async.cas.records import RebuildReport, VerifyReport
from trove_async.errors import (
    BlobNotFoundError,
    BucketNotFoundError,
    CasMissingBlobError,
    IntegrityError,
    ObjectNotFoundError,
)
from trove_async.model import ObjectInfo

__all__ = ["RECOVERED", "rebuilt", "verified"]

RECOVERED: Final = "recovered"
_PAGE: Final = 256
_WIDTH: Final = 4
"""Blobs read at once."""


async def verified(
    index: BlobIndex, readings: Readings, digest: str | None, *, repair: bool
) -> VerifyReport:
    report = VerifyReport(0, [], [])
    checked = recounted = 0

    async def check(name: str) -> int:
        return await _check(index, readings, name, report)

    if digest is not None:
        if await index.find(digest) is None:
            raise BlobNotFoundError(f"no blob {digest}")
        checked += await check(digest)
    after: str | None = "" if digest is None else None
    while after is not None:
        page = await index.page(after, _PAGE)
        names = [row.digest for row in page.blobs]
        checked += sum(await side_by_side(names, check, _WIDTH))
        after = page.after
    if repair:
        after = ""
        while after is not None:
            page = await index.recount(after, _PAGE)
            recounted += len(page.blobs)
            after = page.after
    return VerifyReport(checked, sorted(report.corrupt), sorted(report.missing), recounted)


async def _check(index: BlobIndex, readings: Readings, digest: str, report: VerifyReport) -> int:
    """How many were read: none of one that was collected meanwhile."""
    row = await index.find(digest)
    try:
        async with await readings.open(digest, None) as reader:
            async for _ in reader:
                pass
    except BlobNotFoundError:
        return 0
    except CasMissingBlobError:
        report.missing.append(digest)
    except IntegrityError:
        report.corrupt.append(digest)
    else:
        if row is not None and row.damaged:
            await index.damage(digest, row.gen, False)
    return 1


async def rebuilt(index: BlobIndex, place: Place) -> RebuildReport:
    """A crash on the way leaves a part done; the next run does the rest."""
    found = 0
    recovered: list[str] = []
    cursor: str | None = None
    while True:
        try:
            page = await place.store.list_page(place.bucket, prefix=PREFIX, cursor=cursor)
        except BucketNotFoundError:
            break
        blobs: list[tuple[str, int, int, int]] = []
        for info in page.objects:
            blob = place.blob_of(info.key)
            if blob is None:
                continue
            whole = await _resolved(place, info)
            if whole is not None:
                blobs.append((*blob, whole.size, whole.stored_size))
        found += len(blobs)
        if blobs:
            recovered += await index.recover(blobs, RECOVERED)
        cursor = page.cursor
        if cursor is None:
            break
    return RebuildReport(found, sorted(set(recovered)))


async def _resolved(place: Place, info: ObjectInfo) -> ObjectInfo | None:
    """With its logical size, also where listings do not know that. None: deleted meanwhile."""
    if info.encodings is not None:
        return info
    try:
        return await place.store.head(place.bucket, info.key)
    except ObjectNotFoundError:
        return None
