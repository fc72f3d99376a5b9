"""Storage against index: bit rot, lost objects, miscounted references, a lost index."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final
from uuid import uuid4

from trove_async._together import side_by_side
from trove_async.cas.index import BlobIndex, State
from trove_async.cas.place import PREFIX, Place
from trove_async.cas.reading import Readings, is_readable
from trove_async.cas.records import RebuildReport, VerifyReport
from trove_async.cas.storing import LEASE
from trove_async.errors import (
    BlobNotFoundError,
    BucketNotFoundError,
    CasMissingBlobError,
    EncryptionKeyError,
    IntegrityError,
    KeyProviderError,
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
    except KeyProviderError:
        raise  # who has the keys does not answer: that says nothing of any blob
    except (IntegrityError, EncryptionKeyError):
        # Where no key opens it, its header rotted, or the keys here are wrong. Only what is
        # surely rot is marked in the index: its next store replaces it.
        report.corrupt.append(digest)
    else:
        if row is not None and row.damaged:
            await index.damage(digest, row.gen, False)
    return 1


async def rebuilt(index: BlobIndex, place: Place, readings: Readings) -> RebuildReport:
    """A crash on the way leaves a part done; the next run does the rest."""
    found = manifests = 0
    recovered: list[str] = []
    async with aclosing(_listed(place)) as pages:
        async for page in pages:
            blobs: list[tuple[str, int, int, int, str | None]] = []
            for info in page:
                blob = place.blob_of(info.key)
                if blob is None:
                    continue
                if blob[2]:
                    manifests += 1
                    continue
                whole = await _resolved(place, info)
                if whole is not None:
                    blobs.append((*blob[:2], whole.size, whole.stored_size, None))
            found += len(blobs)
            if blobs:
                recovered += await index.recover(blobs, RECOVERED)
    if manifests:  # once their chunks are known
        async with aclosing(_listed(place)) as pages:
            async for page in pages:
                for info in page:
                    blob = place.blob_of(info.key)
                    if blob is not None and blob[2]:
                        recovered += await _recovered(index, readings, *blob[:2], info)
    return RebuildReport(found + manifests, sorted(set(recovered)))


async def _listed(place: Place) -> AsyncGenerator[Sequence[ObjectInfo], None]:
    cursor: str | None = None
    while True:
        try:
            page = await place.store.list_page(place.bucket, prefix=PREFIX, cursor=cursor)
        except BucketNotFoundError:
            return
        yield page.objects
        cursor = page.cursor
        if cursor is None:
            return


async def _recovered(
    index: BlobIndex, readings: Readings, digest: str, gen: int, info: ObjectInfo
) -> Sequence[str]:
    """A manifest, live again with the references to its chunks. One that the index has live has
    them already: both are in the same copy of it."""
    row = await index.find(digest)
    if row is not None and row.gen == gen and is_readable(row):
        return await index.recover(
            [(digest, gen, row.size, row.stored_size, row.manifest)], RECOVERED
        )
    if row is not None and (row.gen > gen or row.state in (State.DELETING, State.GONE)):
        return []
    try:
        manifest, info = await readings.manifest(digest, info.key)
    except (ObjectNotFoundError, IntegrityError):
        return []  # gone meanwhile, or it names nothing
    upload = uuid4().hex
    await index.begin(upload, "", LEASE)

    async def retain(number: int) -> bool:
        """A chunk that is lost does not keep the others from being held."""
        return await index.retain(manifest.digest(number), f"manifest:{upload}")

    for start in range(0, len(manifest), _PAGE):
        await side_by_side(range(start, min(start + _PAGE, len(manifest))), retain)
    made = await index.recover([(digest, gen, manifest.size, info.stored_size, upload)], RECOVERED)
    while not made and await index.shed(upload, _PAGE):
        pass
    return made


async def _resolved(place: Place, info: ObjectInfo) -> ObjectInfo | None:
    """With its logical size, also where listings do not know that. None: deleted meanwhile."""
    if info.encodings is not None:
        return info
    try:
        return await place.store.head(place.bucket, info.key)
    except ObjectNotFoundError:
        return None
