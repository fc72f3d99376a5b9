"""What content-addressed storage must remember, as `CAS` needs it; catalogs implement it.

Each call is one transaction, durable when it returns, safe with many tasks and processes. All
times are the index's own clock, in microseconds; durations are given in microseconds too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from typing import Protocol, runtime_checkable

__all__ = [
    "BlobIndex",
    "BlobRow",
    "Claimed",
    "ExpiredUpload",
    "HasBlobs",
    "OpenIndex",
    "RowPage",
    "State",
]


class State(IntEnum):
    RESERVED = 0
    LIVE = 1
    CONDEMNED = 2
    DELETING = 3
    GONE = 4


class BlobRow(Protocol):
    @property
    def digest(self) -> str: ...
    @property
    def gen(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def stored_size(self) -> int: ...
    @property
    def state(self) -> int: ...
    @property
    def refs(self) -> int: ...
    @property
    def pinned(self) -> bool: ...
    @property
    def damaged(self) -> bool: ...
    @property
    def manifest(self) -> str | None:
        """Its object names chunks. Empty: nobody knows whether it does."""
        ...


class Claimed(Protocol):
    @property
    def is_shared(self) -> bool: ...
    @property
    def gen(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def now(self) -> int: ...


class RowPage(Protocol):
    @property
    def blobs(self) -> Sequence[BlobRow]: ...
    @property
    def after(self) -> str | None:
        """Give it back for the next page; None: this was the last."""
        ...


class ExpiredUpload(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def tmp_key(self) -> str: ...


class BlobIndex(Protocol):
    """Of one space, which is one bucket of one store."""

    # -- writers -----------------------------------------------------------------------------

    async def begin(self, upload: str, tmp_key: str, lease: int) -> int:
        """Step 1 of a put: remembers ``tmp_key`` before anything is written there. The time.
        Without a key: remembers that there may be chunks, to which ``manifest:<upload>``
        refers."""
        ...

    async def renew(self, upload: str, lease: int) -> None: ...
    async def forget(self, uploads: Sequence[str]) -> None: ...

    async def claim(self, digest: str, owner: str, lease: int) -> Claimed:
        """Step 3: counts the owner's reference where the content is there; else reserves a
        generation to write."""
        ...

    async def commit(
        self,
        digest: str,
        gen: int,
        owner: str,
        size: int,
        stored_size: int,
        upload: str | None,
        *,
        is_manifest: bool = False,
    ) -> bool:
        """Step 5: live, with the owner's reference; ``upload`` is forgotten. False, and nothing
        changed, where the reservation is no more. ``is_manifest``: the object names chunks, to
        which the owner ``manifest:<upload>`` refers; ConflictError where ``upload`` was
        collected."""
        ...

    async def shed(self, manifest: str, limit: int, *, is_uncommitted: bool = False) -> bool:
        """Drops up to ``limit`` references of ``manifest:<manifest>``, and with the last of them
        the upload of that name. Whether some are left. Nothing where there is no such upload:
        then they are those of a blob, which a commit has made live; unless the caller knows that
        there was no commit, and the upload was collected."""
        ...

    async def retain(self, digest: str, owner: str) -> bool:
        """Counts the owner's reference to content that is live or condemned; False where it is
        not there."""
        ...

    async def owners(
        self, prefix: str, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        """(owner, digest) of references whose owner begins with ``prefix``, in the order of
        these pairs, those past ``after``."""
        ...

    async def release(self, digest: str, owner: str | None) -> None:
        """``owner`` None: one of those that `store` counted without an owner. CasInvariantError
        where there is none, BlobNotFoundError where there is no such blob."""
        ...

    async def pin(self, id: str, digest: str, ttl: int | None, reason: str) -> None:
        """BlobNotFoundError."""
        ...

    async def unpin(self, what: str) -> int:
        """By the pin's id or the digest; how many pins there were."""
        ...

    # -- readers -----------------------------------------------------------------------------

    async def find(self, digest: str) -> BlobRow | None: ...
    async def has_size(self, size: int) -> bool:
        """Whether content of so many bytes may be there."""
        ...

    async def page(self, after: str, limit: int) -> RowPage:
        """Live and condemned ones by digest, and those referenced ones whose bytes were to be
        written anew by a writer that has not come to its end."""
        ...

    async def damage(self, digest: str, gen: int, is_damaged: bool) -> None: ...

    async def recount(self, after: str, limit: int) -> RowPage:
        """Counts the references of a page of blobs again; gives those that were wrong."""
        ...

    # -- garbage -----------------------------------------------------------------------------

    async def condemn(self, grace: int, after: str, limit: int, *, dry: bool) -> RowPage:
        """G1 for a page: those it condemned."""
        ...

    async def doom(self, settle: int, after: str, limit: int, *, dry: bool) -> RowPage:
        """G2 for a page: those that are to be deleted now. What a manifest among them referred
        to is left to `shed`, as an upload whose lease has ended."""
        ...

    async def bury(self, blobs: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        """G4: (digest, generation) of objects that are deleted; gives those this call buried."""
        ...

    async def prune(self, age: int) -> int:
        """Forgets tombstones older than ``age``."""
        ...

    async def expired(self, limit: int) -> Sequence[ExpiredUpload]:
        """Uploads whose lease has ended, the oldest first."""
        ...

    # -- storage against index ---------------------------------------------------------------

    async def now(self) -> int: ...
    async def count(self) -> tuple[int, int]:
        """Rows that are no tombstones, and all rows."""
        ...

    async def rows(self, digests: Sequence[str]) -> Sequence[BlobRow]:
        """Tombstones too."""
        ...

    async def uploads(self, tmp_keys: Sequence[str]) -> Sequence[str]:
        """Those of the keys that belong to an upload."""
        ...

    async def orphans(self, keys: Sequence[str], age: int, run: int, *, dry: bool) -> Sequence[str]:
        """Notes keys without a row as seen by ``run`` (its time); gives those that an earlier
        run saw too, at least ``age`` before."""
        ...

    async def forget_orphans(self, run: int) -> None:
        """Those that ``run`` has not seen are none any more."""
        ...

    async def adopt(self, objects: Sequence[tuple[str, int, int]]) -> Sequence[tuple[str, int]]:
        """(digest, generation, stored size) of objects without a row, as being deleted; gives
        those that had none still."""
        ...

    async def recover(
        self, objects: Sequence[tuple[str, int, int, int, str | None]], pin_reason: str
    ) -> Sequence[str]:
        """(digest, generation, size, stored size, manifest) of objects that are there: live, and
        pinned for ever, unless their row knows this or a later generation. Their digests. The
        upload by which a manifest's chunks were referred to is forgotten."""
        ...


@runtime_checkable
class HasBlobs(Protocol):
    """A catalog that can be asked for an index."""

    def blobs(self, space: str) -> BlobIndex: ...


OpenIndex = Callable[[], Awaitable[BlobIndex]]
"""Opens the catalog on first use. InvalidConfigError where there is none."""
