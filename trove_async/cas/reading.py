"""Reads of content, each against its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trove_async.cas.index import BlobRow, OpenIndex, State
from trove_async.cas.place import Place, Prove
from trove_async.errors import (
    BlobNotFoundError,
    BucketNotFoundError,
    CasMissingBlobError,
    IntegrityError,
    ObjectNotFoundError,
)

if TYPE_CHECKING:
    from trove_async._reader import ObjectReader

__all__ = ["Readings"]

_LOOKS: Final = tuple(range(8))
"""Times a blob is looked up anew whose generation changed while it was opened."""


class Readings:
    def __init__(self, place: Place, index: OpenIndex, prove: Prove) -> None:
        self._place = place
        self._index = index
        self._prove = prove

    async def open(self, digest: str, range: slice | None) -> ObjectReader:
        index = await self._index()
        seen: int | None = None
        for _ in _LOOKS:
            row = await index.find(digest)
            if row is None or row.state not in (State.LIVE, State.CONDEMNED):
                if row is not None and row.state == State.RESERVED and row.refs:
                    return await self._former(row, range)
                raise BlobNotFoundError(f"no blob {digest}")
            if row.gen == seen:
                break
            seen = row.gen
            try:
                return await self._opened(row, range)
            except (ObjectNotFoundError, BucketNotFoundError) as exc:
                missing = exc  # collected and stored again meanwhile, or lost
        await index.damage(digest, seen or 0, True)
        raise CasMissingBlobError(
            f"the bytes of {digest} are missing", bucket=self._place.bucket, key=missing.key
        ) from missing

    async def _former(self, row: BlobRow, range: slice | None) -> ObjectReader:
        """Of content that is being written anew, or was by a writer that died: the bytes that
        were found corrupt, which may have been the fault of one reading."""
        key = self._place.key(row.digest, row.gen - 1)
        try:
            return await self._opened(row, range, key)
        except (ObjectNotFoundError, BucketNotFoundError) as exc:
            raise CasMissingBlobError(
                f"the bytes of {row.digest} are missing", bucket=self._place.bucket, key=key
            ) from exc

    async def _opened(
        self, row: BlobRow, range: slice | None, former: str | None = None
    ) -> ObjectReader:
        place = self._place
        key = former or place.key(row.digest, row.gen)

        async def on_corrupt() -> None:
            await (await self._index()).damage(row.digest, row.gen, True)

        try:
            reader = await place.store.get(place.bucket, key, range=range)
            if range is not None:
                return reader
            try:
                return self._prove(reader, row.digest, on_corrupt)
            except BaseException:
                await reader.aclose()
                raise
        except IntegrityError:
            await on_corrupt()
            raise
