"""Content-addressed storage: content by its digest, each once, for as long as it is wanted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal
from uuid import uuid4

from trove_async._opening import Opening
from trove_async.cas.checking import rebuilt, verified
from trove_async.cas.chunked import ChunkedWriter
from trove_async.cas.chunking import FastCDC, chunking_of
from trove_async.cas.gc import Collector
from trove_async.cas.index import BlobRow, OpenIndex, State
from trove_async.cas.place import ALGORITHMS, Assemble, BlobStore, Place, Prove, check_digest
from trove_async.cas.reading import Readings, is_readable
from trove_async.cas.records import (
    BlobInfo,
    GCResult,
    RebuildReport,
    StoredBlob,
    VerifyReport,
)
from trove_async.cas.writing import Writer
from trove_async.errors import (
    BlobNotFoundError,
    InvalidConfigError,
    InvalidInputError,
    PolicyError,
)
from trove_async.model import Seconds, seconds

if TYPE_CHECKING:
    from trove_async._store.reader import ObjectReader

__all__ = ["CAS"]

_PAGE: Final = 1000
_MOST_OWNER: Final = 4096
_OURS: Final = ("anon:", "manifest:")


class CAS:
    """Content stored once, referenced by owners, collected when nobody refers to it.

    Get one from `Trove.cas`. Safe with many tasks, and with many processes on one catalog."""

    def __init__(
        self,
        store: BlobStore,
        index: OpenIndex,
        prove: Prove,
        assemble: Assemble,
        *,
        bucket: str,
        algorithm: str = "sha256",
        recorded: str | None = None,
        chunk_size: int = 8 * 1024 * 1024,
        chunking: Literal["fastcdc"] | FastCDC | None = None,
        is_encrypted: Callable[[], bool] = lambda: False,
    ) -> None:
        """``recorded``: the checksum that the store itself computes of every object.
        ``is_encrypted``: whether a layer encrypts what is stored here."""
        if algorithm not in ALGORITHMS:
            raise InvalidConfigError(
                f"content is named by {' or '.join(ALGORITHMS)}, not {str(algorithm)[:40]!r}"
            )
        self.bucket = bucket
        self.algorithm = algorithm
        self._open_index = index
        self._place = Place(store, bucket)
        self.chunking = chunking_of(chunking)
        self._is_encrypted = is_encrypted
        chunked = ChunkedWriter(self._place, algorithm) if self.chunking is not None else None
        self._writer = Writer(self._place, index, algorithm, recorded, chunk_size, chunked)
        self._readings = Readings(self._place, index, prove, assemble)

    def __repr__(self) -> str:
        return f"<CAS in bucket {self.bucket!r}, named by {self.algorithm}>"

    # -- content -----------------------------------------------------------------------------

    async def store(self, body: object, *, owner: str | None = None) -> StoredBlob:
        """Content that is there already is not written again, whether in chunks or not.

        ``body`` as in `Trove.put`. ``owner``: who refers to it, by any name; the same owner
        counts once. Without one each call adds a reference. When this returns, content and
        reference are durable. PolicyError where it would be cut into chunks and encrypted,
        unless the chunking reveals their lengths."""
        name = _checked_owner(owner) or f"anon:{uuid4().hex}"
        return await self._writer.store(body, name, self._check_chunking)

    def _check_chunking(self) -> None:
        chunking = self.chunking
        if chunking is not None and not chunking.reveal_lengths and self._is_encrypted():
            raise PolicyError(
                "what is encrypted here would be told by the lengths of its chunks: store it "
                "without chunking, or with FastCDC(reveal_lengths=True)",
                bucket=self.bucket,
            )

    def retrieve(self, digest: str, *, range: slice | None = None) -> Opening[ObjectReader]:
        """Opens content for one reading. A whole read is checked against ``digest`` before its
        last byte is handed out. BlobNotFoundError; CasMissingBlobError where the index has it
        and storage does not."""

        async def start() -> ObjectReader:
            return await self._readings.open(check_digest(digest), range)

        return Opening(start)

    async def exists(self, digest: str) -> bool:
        """By the index: no request to the backend."""
        row = await (await self._open_index()).find(check_digest(digest))
        return row is not None and is_readable(row)

    async def stat(self, digest: str) -> BlobInfo:
        """BlobNotFoundError."""
        row = await (await self._open_index()).find(check_digest(digest))
        if row is None or not is_readable(row):
            raise BlobNotFoundError(f"no blob {digest}")
        return _info(row)

    async def list(
        self, *, start_after: str | None = None, limit: int | None = None
    ) -> AsyncGenerator[BlobInfo, None]:
        """In the order of their digests, in bounded memory."""
        if limit is not None and limit < 0:
            raise ValueError("limit must not be negative")
        index = await self._open_index()
        after: str | None = start_after or ""
        left = limit
        while after is not None and (left is None or left > 0):
            page = await index.page(after, _PAGE if left is None else min(_PAGE, left))
            rows = [row for row in page.blobs if is_readable(row)]
            for row in rows:
                yield _info(row)
            after = page.after
            if left is not None:
                left -= len(rows)

    # -- who wants it ------------------------------------------------------------------------

    async def retain(self, digest: str, *, owner: str) -> None:
        """Counts a reference of ``owner`` to content that is there: as `store`, without the
        bytes. BlobNotFoundError."""
        index = await self._open_index()
        name = _checked_owner(owner)
        if name is None or not await index.retain(check_digest(digest), name):
            raise BlobNotFoundError(f"no blob {digest}")

    async def owners(self, prefix: str) -> AsyncGenerator[tuple[str, str], None]:
        """(owner, digest) of every reference whose owner begins with ``prefix``, in order."""
        _check_text(prefix, "prefix")
        index = await self._open_index()
        after: tuple[str, str] | None = None
        while True:
            page = await index.owners(prefix, after, _PAGE)
            for pair in page:
                yield pair
            if len(page) < _PAGE:
                return
            after = page[-1]

    async def release(self, digest: str, *, owner: str | None = None) -> None:
        """Drops the owner's reference; nothing where there is none. Without an owner: one of
        those that were stored so; CasInvariantError where there is none, BlobNotFoundError
        where there is no such blob."""
        index = await self._open_index()
        await index.release(check_digest(digest), _checked_owner(owner))

    async def pin(self, digest: str, *, ttl: Seconds | None = None, reason: str = "") -> str:
        """Keeps content, referenced or not, for ``ttl`` seconds or for ever. The pin's id.
        BlobNotFoundError."""
        duration = None if ttl is None else _micros(ttl, "ttl")
        if duration == 0:
            raise ValueError("ttl must be positive")
        _check_text(reason, "reason")
        id = f"pin_{uuid4().hex}"
        await (await self._open_index()).pin(id, check_digest(digest), duration, reason)
        return id

    async def unpin(self, pin: str) -> int:
        """Drops a pin by its id, or all of a digest. How many stood; 0 is no error."""
        if not pin.startswith("pin_"):
            pin = check_digest(pin)
        return await (await self._open_index()).unpin(pin)

    # -- care --------------------------------------------------------------------------------

    async def gc(
        self,
        *,
        grace: Seconds = timedelta(hours=24),
        settle: Seconds = timedelta(hours=1),
        orphan_after: Seconds = timedelta(hours=24),
        dry_run: bool = False,
        force: bool = False,
    ) -> GCResult:
        """Deletes what nobody wants, in two steps: content without a reference or a pin for
        ``grace`` is condemned, and what has been condemned for ``settle`` is deleted. With both
        0 one call frees it. The chunks of content that is deleted begin their own ``grace`` then;
        a dry run does not count them. Objects the index knows nothing of are deleted when two runs
        ``orphan_after`` apart have seen them.

        A run that sees that the index is older than the storage deletes nothing and says so in
        ``errors``; ``force`` overrides that."""
        index = await self._open_index()
        collector = Collector(self._place, index, dry=dry_run, force=force)
        return await collector.run(
            _micros(grace, "grace"),
            _micros(settle, "settle"),
            _micros(orphan_after, "orphan_after"),
        )

    async def verify(self, digest: str | None = None, *, repair: bool = False) -> VerifyReport:
        """Reads one blob, or every one, against its digest. What is corrupt or missing is
        marked, so that the next `store` of the content writes it anew; what is whole again is
        unmarked. ``repair``: references are counted again too."""
        index = await self._open_index()
        wanted = None if digest is None else check_digest(digest)
        return await verified(index, self._readings, wanted, repair=repair)

    async def rebuild(self) -> RebuildReport:
        """Makes the index know all blobs in storage, after it was lost or an older copy of it
        was restored. They are pinned (``"recovered"``) until `unpin`; references come back as
        their owners store or refer again."""
        return await rebuilt(await self._open_index(), self._place, self._readings)


def _info(row: BlobRow) -> BlobInfo:
    state = "live" if row.state == State.LIVE else "condemned"
    return BlobInfo(
        row.digest,
        row.size,
        row.stored_size,
        row.refs,
        row.pinned,
        "live" if state == "live" else "condemned",
        row.damaged,
        bool(row.manifest),
    )


def _micros(value: Seconds, name: str) -> int:
    duration = seconds(value)
    if not duration >= 0:
        raise ValueError(f"{name} must not be negative")
    return int(duration * 1_000_000)


def _checked_owner(owner: str | None) -> str | None:
    if owner is None:
        return None
    _check_text(owner, "owner")
    if not owner or owner.startswith(_OURS):
        raise InvalidInputError(f"not an owner: {owner[:100]!r}")
    return owner


def _check_text(text: str, name: str) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} is a str, not {type(text).__name__}")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidInputError(f"lone surrogate in {name}") from None
    if length > _MOST_OWNER or "\0" in text:
        raise InvalidInputError(f"{name} has at most {_MOST_OWNER} bytes and no NUL")
