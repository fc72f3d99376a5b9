"""Reads of content, each against its name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trove_async._threads import cpu_pool
from trove_async.cas.assembling import assembled
from trove_async.cas.index import BlobRow, OpenIndex, State
from trove_async.cas.manifests import LONGEST, Manifest
from trove_async.cas.place import Assemble, Place, Prove
from trove_async.errors import (
    BlobNotFoundError,
    BucketNotFoundError,
    CasMissingBlobError,
    CorruptMetadataError,
    IntegrityError,
    ObjectNotFoundError,
    TroveError,
)

if TYPE_CHECKING:
    from trove_async._store.reader import ObjectReader
    from trove_async.model import ObjectInfo

__all__ = ["Readings", "is_readable"]

_LOOKS: Final = tuple(range(8))
"""Times a blob is looked up anew whose generation changed while it was opened."""
_AT_ONCE: Final = 256 * 1024
"""Bytes of a manifest that is parsed on the loop."""


class Readings:
    def __init__(self, place: Place, index: OpenIndex, prove: Prove, assemble: Assemble) -> None:
        self._place = place
        self._index = index
        self._prove = prove
        self._assemble = assemble

    async def open(self, digest: str, range: slice | None) -> ObjectReader:
        index = await self._index()
        seen: int | None = None
        for _ in _LOOKS:
            row = await index.find(digest)
            if row is None or not is_readable(row):
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
        key = self._place.key(row.digest, row.gen - 1, is_manifest=bool(row.manifest))
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
        key = former or place.key(row.digest, row.gen, is_manifest=bool(row.manifest))

        async def on_corrupt() -> None:
            await (await self._index()).damage(row.digest, row.gen, True)

        try:
            if row.manifest:
                reader = await self._in_chunks(row, key, range)
            else:
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

    # -- in chunks ---------------------------------------------------------------------------

    async def manifest(self, digest: str, key: str) -> tuple[Manifest, ObjectInfo]:
        """ObjectNotFoundError, IntegrityError."""
        async with self._place.store.get(self._place.bucket, key) as reader:
            if reader.info.size > LONGEST:
                raise CorruptMetadataError(f"the manifest of {digest} is too long for one")
            data = await reader.read()
        if len(data) <= _AT_ONCE:
            return Manifest.load(data, digest), reader.info
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(cpu_pool(), Manifest.load, data, digest), reader.info

    async def _in_chunks(self, row: BlobRow, key: str, range: slice | None) -> ObjectReader:
        manifest, info = await self.manifest(row.digest, key)
        whole = replace(info, size=manifest.size, checksum=None)
        return self._assemble(
            whole, range, lambda start, stop: self._chunks(row, manifest, start, stop)
        )

    async def _chunks(
        self, row: BlobRow, manifest: Manifest, start: int, stop: int
    ) -> AsyncGenerator[bytes, None]:
        chunks = assembled(manifest, start, stop, self._looked_up)
        async with aclosing(chunks):
            try:
                async for chunk in chunks:
                    yield chunk
            except (BlobNotFoundError, IntegrityError) as exc:
                told = await self._told(row, exc)
                if told is None:
                    raise
                raise told from exc

    async def _told(self, row: BlobRow, error: TroveError) -> TroveError | None:
        """What the reader of content is told where one of its chunks does not read; None: just
        what the reader of the chunk was."""
        index = await self._index()
        now = await index.find(row.digest)
        if now is None or now.gen != row.gen or now.state in (State.DELETING, State.GONE):
            return BlobNotFoundError(f"{row.digest} was collected while it was read")
        await index.damage(row.digest, row.gen, True)
        if isinstance(error, BlobNotFoundError | CasMissingBlobError):
            return CasMissingBlobError(
                f"bytes of {row.digest} are missing", bucket=self._place.bucket
            )
        return None

    async def _looked_up(self, digests: Sequence[str]) -> Callable[[str], Awaitable[bytes]]:
        """What reads one of them whole, against its name."""
        rows = {row.digest: row for row in await (await self._index()).rows([*set(digests)])}

        async def read(digest: str) -> bytes:
            row = rows.get(digest)
            if row is None or not is_readable(row):
                reader = await self.open(digest, None)
            else:
                try:
                    reader = await self._opened(row, None)
                except (ObjectNotFoundError, BucketNotFoundError):
                    reader = await self.open(digest, None)  # it is looked up anew
            async with reader:
                return await reader.read()

        return read


def is_readable(row: BlobRow) -> bool:
    return row.state in (State.LIVE, State.CONDEMNED)
