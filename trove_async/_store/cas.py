"""`Trove.cas`: content-addressed storage over the verbs of a handle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final, Literal

from trove_async._chunks import AsyncBytes, Digest
from trove_async._store.backend import Backend
from trove_async._store.reader import ObjectReader, verified
from trove_async._store.requests import byte_range
from trove_async._store.services import Services
from trove_async.cas.chunking import FastCDC
from trove_async.cas.index import BlobIndex, HasBlobs
from trove_async.cas.store import CAS
from trove_async.checksum import digest_of
from trove_async.errors import ChecksumMismatchError, IntegrityError, InvalidConfigError
from trove_async.middleware.base import Context, Stage
from trove_async.middleware.pipeline import Chain
from trove_async.model import ObjectInfo

__all__ = ["make_cas"]

OnCorrupt = Callable[[], Awaitable[None]]

_SAMPLE: Final = (
    "cas/tmp/0",
    *(f"cas/{a}/{n:02x}/0~0" for a in ("sha256", "blake3") for n in range(256)),
)
"""Keys by which a route that goes elsewhere is found."""


def make_cas(
    handle: Services,
    bucket: str,
    algorithm: str,
    chunking: Literal["fastcdc"] | FastCDC | None,
) -> CAS:
    core = handle._core
    name = handle._bucket(bucket)
    opened: BlobIndex | None = None

    async def index() -> BlobIndex:
        nonlocal opened
        core.check()
        if opened is None:
            if not core.remembering.is_given:
                _check_alone(handle, name)
            catalog = await core.remembering.catalog()
            if not isinstance(catalog, HasBlobs):
                raise InvalidConfigError(f"{type(catalog).__name__} keeps no index of blobs")
            opened = catalog.blobs(_space(handle, name))
        return opened

    return CAS(
        handle,
        index,
        _proven,
        _assembled,
        bucket=name,
        algorithm=algorithm,
        recorded=core.checksum,
        chunk_size=core.chunk_size,
        chunking=chunking,
        is_encrypted=lambda: _is_encrypted(handle, name),
    )


def _is_encrypted(handle: Services, bucket: str) -> bool:
    layers = [e for e in handle._core.pipeline.writers if e.middleware.stage == Stage.ENCRYPT]
    return any(layer.matches(Context("put", bucket, key)) for layer in layers for key in _SAMPLE)


def _assembled(
    info: ObjectInfo, range: slice | None, open: Callable[[int, int], AsyncBytes]
) -> ObjectReader:
    wanted = byte_range(range)
    start, stop = (0, info.size) if wanted is None else wanted.resolve(info.size)
    return ObjectReader(info, Chain(open(start, stop)), None, stop - start)


def _space(handle: Services, bucket: str) -> str:
    """What tells these blobs from others in the same catalog."""
    pinned = handle._pinned
    if pinned is None or pinned is handle._core.default:
        return bucket
    return f"{bucket}@{pinned.name}"


def _check_alone(handle: Services, bucket: str) -> None:
    """Blobs on a backend that others reach need a catalog that others reach too: with one of
    our own, another host would take our blobs for garbage."""
    core = handle._core
    for key in _SAMPLE:
        place: Backend = handle._place(bucket, key)
        if place.driver is not core.default.driver or not core.remembering.has_own:
            raise InvalidConfigError(
                f"content-addressed storage on {place.driver.name!r} needs a catalog that all its "
                'hosts share: open the store with catalog="postgresql://..." (or '
                '"sqlite:///path" where all of them are on one machine)',
                bucket=bucket,
                backend=place.name,
            )
        if handle._pinned is not None or not core.router:
            return


def _proven(reader: ObjectReader, digest: str, on_corrupt: OnCorrupt) -> ObjectReader:
    """The last byte comes only once the whole has this digest."""
    info = reader.info
    is_checked = info.checksum == digest  # by the store already, against what is recorded
    if is_checked or info.size <= _AT_ONCE:
        data = reader.at_once()
        if data is not None:
            if not is_checked:
                found = digest_of(digest.partition(":")[0], data)
                if found != digest:
                    raise ChecksumMismatchError(f"the blob {digest} has the content of {found}")
            return ObjectReader(info, None, data, len(data))
    return ObjectReader(
        info, Chain(_Proven(reader, digest, is_checked, on_corrupt)), None, reader.length
    )


_AT_ONCE: Final = 1 << 20
"""Bytes that are hashed on the loop."""


class _Proven:
    """What is left of a reader, against the digest; it closes the reader."""

    def __init__(
        self, reader: ObjectReader, digest: str, is_checked: bool, on_corrupt: OnCorrupt
    ) -> None:
        self._reader = reader
        self._on_corrupt = on_corrupt
        chunks: AsyncIterator[bytes] = aiter(reader)
        if not is_checked:
            hasher = Digest(digest.partition(":")[0])
            chunks = verified(_Level(chunks), hasher, reader.info.size, digest)
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except IntegrityError:
            await self._on_corrupt()
            raise

    async def aclose(self) -> None:
        async with self._reader:
            close = getattr(self._chunks, "aclose", None)
            if close is not None:
                await close()


class _Level:
    """The chunks of an open reader, whose owner closes it."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._chunks)

    async def aclose(self) -> None: ...
