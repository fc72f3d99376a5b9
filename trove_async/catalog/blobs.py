"""The index of content-addressed storage: its rows and the rules by which they change.

One blob goes reserved, live, condemned, deleting, gone, and by the next `store` of the same
content round again with a higher generation. Every rule is a plain function on a row that its
caller holds locked; the catalogs only load and save rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from trove_async.errors import BlobNotFoundError, CasInvariantError, ConflictError

__all__ = [
    "CONDEMNED",
    "DELETING",
    "GONE",
    "LIVE",
    "RESERVED",
    "Blob",
    "Books",
    "Claim",
    "Expired",
    "Found",
    "Order",
    "add",
    "adopt",
    "bury",
    "carry_out",
    "check_pinnable",
    "condemn",
    "doom",
    "drop",
    "held_by",
    "recover",
    "shed",
]

RESERVED: Final = 0
"""Its bytes are on their way; ``writer_lease`` says how long they are waited for."""
LIVE: Final = 1
CONDEMNED: Final = 2
"""Still readable; a store of the same content makes it live again."""
DELETING: Final = 3
"""A store of the same content takes the next generation."""
GONE: Final = 4
"""A tombstone, by which no generation is used twice."""


@dataclass(slots=True)
class Blob:
    """One row. Times are microseconds since 1970."""

    digest: str
    gen: int = -1
    size: int = 0
    """Bytes of the content."""
    stored_size: int = 0
    state: int = GONE
    refs: int = 0
    zero_since: int | None = None
    state_since: int = 0
    writer_lease: int | None = None
    damaged: bool = False
    """The bytes at this generation are not its content; the next store writes them anew."""
    manifest: str | None = None
    """The object names chunks, to which `held_by` this refers. While ``state`` is reserved: of
    the former generation. Empty: nobody knows what its dead writer wrote."""
    pinned: bool = False
    """Whether a pin stood when it was looked at; no column."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a writer has to do."""

    is_shared: bool
    """The content is there and the reference is counted. Else: write this generation."""
    gen: int
    size: int
    now: int
    """By the index's clock."""


@dataclass(frozen=True, slots=True)
class Found:
    """A page of rows, and the digest after which the next one begins."""

    blobs: Sequence[Blob]
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """An upload whose time has ended."""

    id: str
    tmp_key: str


@dataclass(frozen=True, slots=True)
class Order:
    """One change that a writer asks for, to be carried out with others in one transaction."""

    kind: Literal["claim", "commit", "release", "retain"]
    digest: str
    owner: str
    gen: int = 0
    size: int = 0
    stored_size: int = 0
    lease: int = 0
    upload: str | None = None
    is_manifest: bool = False
    """Of a commit: the object names chunks that ``upload`` has stored."""


@dataclass(slots=True)
class Books:
    """What orders look at beside the rows, kept up to date."""

    refs: set[tuple[str, str]]
    """Those of the orders' (owner, digest) pairs that there are."""
    uploads: set[str]
    """Those of the uploads of manifests that there are."""
    let_go: list[str] = field(default_factory=list)
    """Manifests that name nothing any more: each becomes an upload whose time has ended, by
    which the collector drops the references to its chunks."""


def held_by(manifest: str) -> str:
    """The owner of the references to its chunks."""
    return f"manifest:{manifest}"


def carry_out(
    order: Order, blob: Blob | None, books: Books, now: int
) -> tuple[Blob | None, Claim | bool | None]:
    """The row as it is then (None: there is still none) and the answer."""
    if order.kind == "claim":
        blob, claim = _claim(order, blob, books.refs, now)
        return blob, claim
    if order.kind == "commit":
        return blob, _commit(order, blob, books, now)
    if order.kind == "retain":
        return blob, _retain(order, blob, books.refs, now)
    if blob is not None:
        drop(blob, books.refs, order.owner, now)
    return blob, None


def _claim(
    order: Order, blob: Blob | None, refs: set[tuple[str, str]], now: int
) -> tuple[Blob, Claim]:
    """The decision whether content is shared; it is made here and nowhere else."""
    if blob is None:
        blob = Blob(order.digest)
    if blob.state in (LIVE, CONDEMNED) and not blob.damaged:
        if blob.state == CONDEMNED:
            blob.state, blob.state_since = LIVE, now
        add(blob, refs, order.owner)
        return blob, Claim(True, blob.gen, blob.size, now)
    if blob.state == RESERVED:  # by a writer that has died, or one that we race: the same bytes
        blob.writer_lease = max(blob.writer_lease or 0, now + order.lease)
    else:
        if blob.state in (DELETING, GONE):
            blob.manifest = None
        blob.gen += 1
        blob.state, blob.state_since = RESERVED, now
        blob.writer_lease = now + order.lease
        blob.damaged = False
    return blob, Claim(False, blob.gen, 0, now)


def _commit(order: Order, blob: Blob | None, books: Books, now: int) -> bool:
    """False: the reservation is no more; claim again."""
    if order.is_manifest and order.upload not in books.uploads:
        raise ConflictError("its chunks were collected while it was stored: store it again")
    if blob is None or blob.state != RESERVED or blob.gen != order.gen:
        return False
    if blob.manifest:
        books.let_go.append(blob.manifest)
    blob.manifest = order.upload if order.is_manifest else None
    blob.state, blob.state_since, blob.writer_lease = LIVE, now, None
    blob.size, blob.stored_size = order.size, order.stored_size
    add(blob, books.refs, order.owner)
    return True


def _retain(order: Order, blob: Blob | None, refs: set[tuple[str, str]], now: int) -> bool:
    """False: the content is not there."""
    if blob is None or blob.state not in (LIVE, CONDEMNED):
        return False
    if blob.state == CONDEMNED:
        blob.state, blob.state_since = LIVE, now
    add(blob, refs, order.owner)
    return True


def add(blob: Blob, refs: set[tuple[str, str]], owner: str) -> None:
    """Counts the owner once, however often it asks."""
    if (owner, blob.digest) not in refs:
        refs.add((owner, blob.digest))
        blob.refs += 1
        blob.zero_since = None


def drop(blob: Blob, refs: set[tuple[str, str]], owner: str, now: int) -> None:
    """Nothing where the owner has no reference."""
    if (owner, blob.digest) not in refs:
        return
    if blob.refs < 1:
        raise CasInvariantError(f"{blob.digest} has references that are not counted; verify it")
    refs.discard((owner, blob.digest))
    blob.refs -= 1
    if not blob.refs:
        blob.zero_since = now


def check_pinnable(blob: Blob | None, digest: str, now: int) -> Blob:
    """The row, live again if it was condemned. BlobNotFoundError."""
    if blob is None or blob.state not in (LIVE, CONDEMNED):
        raise BlobNotFoundError(f"no blob {digest}")
    if blob.state == CONDEMNED:
        blob.state, blob.state_since = LIVE, now
    return blob


# -- garbage ---------------------------------------------------------------------------------


def condemn(blob: Blob, now: int, grace: int) -> bool:
    """G1: live, unreferenced and unpinned for ``grace``."""
    since = blob.state_since if blob.zero_since is None else blob.zero_since
    if blob.state != LIVE or blob.refs or blob.pinned or since > now - grace:
        return False
    blob.state, blob.state_since = CONDEMNED, now
    return True


def doom(blob: Blob, now: int, settle: int, let_go: list[str]) -> bool:
    """G2: condemned for ``settle`` and still unwanted. A reservation whose writer is gone goes
    straight here: it may have no bytes, so nobody may be told that its content is there.
    Adds to ``let_go`` the manifest whose chunks this blob was."""
    if blob.state == DELETING:
        return True  # by a run that did not come to its end
    if blob.state == CONDEMNED and (blob.refs or blob.pinned):
        blob.state, blob.state_since = LIVE, now
        return False
    is_settled = blob.state == CONDEMNED and blob.state_since <= now - settle
    is_abandoned = (
        blob.state == RESERVED and not blob.refs and (blob.writer_lease or 0) <= now - settle
    )
    if not is_settled and not is_abandoned:
        return False
    if blob.manifest:
        let_go.append(blob.manifest)
    if is_abandoned:
        blob.manifest = ""
    blob.state, blob.state_since, blob.writer_lease = DELETING, now, None
    return True


def bury(blob: Blob, gen: int, now: int) -> bool:
    """G4: the object is deleted. False: another run was first, or a writer went on."""
    if blob.state != DELETING or blob.gen != gen:
        return False
    blob.state, blob.state_since = GONE, now
    return True


def adopt(blob: Blob | None, digest: str, gen: int, size: int, now: int) -> Blob | None:
    """An object without a row becomes one that is being deleted, so that no writer takes its
    generation meanwhile. None where it has a row by now."""
    if blob is not None:
        return None
    return Blob(digest, gen, 0, size, DELETING, 0, None, now)


def shed(blob: Blob | None, now: int) -> None:
    """One of its references is no more: that of a manifest which names it no longer."""
    if blob is None or blob.refs < 1:
        return  # miscounted; `verify` counts again
    blob.refs -= 1
    if not blob.refs:
        blob.zero_since = now


def recover(
    blob: Blob | None, found: tuple[str, int, int, int, str | None], now: int, let_go: list[str]
) -> Blob | None:
    """An object found in storage becomes a live blob; None where the row knows better. A row
    that says nobody wants it does not: it may be of an older copy of the index. ``found``:
    (digest, generation, size, stored size, manifest)."""
    digest, gen, size, stored_size, manifest = found
    if blob is not None and blob.gen >= gen:
        is_unwanted = blob.state in (LIVE, CONDEMNED) and not blob.refs and not blob.pinned
        if blob.gen > gen or not (is_unwanted or blob.state == RESERVED):
            return None
        if is_unwanted and (blob.manifest is None) != (manifest is None):
            return None  # a writer that lost the race for this generation left it
        if blob.state != RESERVED:
            size = blob.size
    refs = 0 if blob is None else blob.refs
    is_damaged = blob is not None and blob.gen == gen and blob.damaged
    since = None if refs else now
    if blob is not None and blob.manifest and blob.manifest != manifest:
        let_go.append(blob.manifest)
    return Blob(digest, gen, size, stored_size, LIVE, refs, since, now, None, is_damaged, manifest)
