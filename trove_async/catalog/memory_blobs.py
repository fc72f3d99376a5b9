"""The index of content-addressed storage in memory. Every change is one step without an await."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest

from trove_async.catalog.blobs import (
    CONDEMNED,
    DELETING,
    GONE,
    LIVE,
    RESERVED,
    Blob,
    Books,
    Claim,
    Expired,
    Found,
    Order,
    adopt,
    bury,
    carry_out,
    check_pinnable,
    condemn,
    doom,
    drop,
    held_by,
    recover,
    shed,
)
from trove_async.errors import BlobNotFoundError, CasInvariantError

__all__ = ["MemoryBlobs"]


@dataclass(slots=True)
class _Pin:
    digest: str
    expires_at: int | None
    reason: str


class MemoryBlobs:
    """Of one space."""

    def __init__(self, ticks: Callable[[], int]) -> None:
        self._ticks = ticks
        self._rows: dict[str, Blob] = {}
        self._order: list[str] = []
        """Digests, sorted."""
        self._refs: set[tuple[str, str]] = set()
        """(owner, digest)."""
        self._anonymous: dict[str, deque[str]] = {}
        self._chunks: dict[str, set[str]] = {}
        """Digests by the owner that is a manifest."""
        self._pins: dict[str, _Pin] = {}
        self._uploads: dict[str, tuple[str, int]] = {}
        """Id to (temporary key, end of the lease)."""
        self._orphans: dict[str, tuple[int, int]] = {}
        """Key to the times of the first and the last run that saw it."""

    # -- writers -----------------------------------------------------------------------------

    async def begin(self, upload: str, tmp_key: str, lease: int) -> int:
        now = self._ticks()
        self._uploads[upload] = (tmp_key, now + lease)
        return now

    async def renew(self, upload: str, lease: int) -> None:
        if upload in self._uploads:
            self._uploads[upload] = (self._uploads[upload][0], self._ticks() + lease)

    async def forget(self, uploads: Sequence[str]) -> None:
        for upload in uploads:
            self._uploads.pop(upload, None)

    async def claim(self, digest: str, owner: str, lease: int) -> Claim:
        answer = self._carry_out(Order("claim", digest, owner, lease=lease))
        assert isinstance(answer, Claim)
        return answer

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
        order = Order("commit", digest, owner, gen, size, stored_size, 0, upload, is_manifest)
        done = self._carry_out(order)
        if done and upload is not None:
            self._uploads.pop(upload, None)
        return bool(done)

    async def retain(self, digest: str, owner: str) -> bool:
        return bool(self._carry_out(Order("retain", digest, owner)))

    async def release(self, digest: str, owner: str | None) -> None:
        if owner is not None:
            self._carry_out(Order("release", digest, owner))
            return
        blob = self._rows.get(digest)
        if blob is None or blob.state == GONE:
            raise BlobNotFoundError(f"no blob {digest}")
        owners = self._anonymous.get(digest)
        if not owners:
            raise CasInvariantError(f"{digest} has no reference without an owner")
        drop(blob, self._refs, owners.popleft(), self._ticks())

    def _carry_out(self, order: Order) -> Claim | bool | None:
        count = len(self._refs)
        books = Books(self._refs, {order.upload} & self._uploads.keys() if order.upload else set())
        blob, answer = carry_out(order, self._rows.get(order.digest), books, self._ticks())
        if blob is not None and blob.digest not in self._rows:
            self._keep(blob)
        if len(self._refs) > count and order.owner.startswith("anon:"):
            self._anonymous.setdefault(order.digest, deque()).append(order.owner)
        if len(self._refs) > count and order.owner.startswith(held_by("")):
            self._chunks.setdefault(order.owner, set()).add(order.digest)
        self._let_go(books.let_go)
        return answer

    def _let_go(self, manifests: Sequence[str]) -> None:
        for manifest in manifests:
            self._uploads[manifest] = ("", self._ticks())

    async def shed(self, manifest: str, limit: int, *, is_uncommitted: bool = False) -> bool:
        now, owner = self._ticks(), held_by(manifest)
        if manifest not in self._uploads and not is_uncommitted:
            return False
        held = self._chunks.get(owner, set())
        for digest in nsmallest(limit, held):
            held.discard(digest)
            self._refs.discard((owner, digest))
            shed(self._rows.get(digest), now)
        if held:
            return True
        self._chunks.pop(owner, None)
        self._uploads.pop(manifest, None)
        return False

    def _keep(self, blob: Blob) -> None:
        self._rows[blob.digest] = blob
        insort(self._order, blob.digest)

    # -- pins --------------------------------------------------------------------------------

    async def pin(self, id: str, digest: str, ttl: int | None, reason: str) -> None:
        now = self._ticks()
        check_pinnable(self._rows.get(digest), digest, now)
        self._pins[id] = _Pin(digest, None if ttl is None else now + ttl, reason)

    async def unpin(self, what: str) -> int:
        found = [id for id, pin in self._pins.items() if what in (id, pin.digest)]
        now = self._ticks()
        standing = [id for id in found if _stands(self._pins[id], now)]
        for id in found:
            del self._pins[id]
        return len(standing)

    def _pinned(self) -> set[str]:
        now = self._ticks()
        return {pin.digest for pin in self._pins.values() if _stands(pin, now)}

    async def owners(
        self, prefix: str, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        return nsmallest(
            limit,
            (
                ref
                for ref in self._refs
                if ref[0].startswith(prefix) and (after is None or ref > after)
            ),
        )

    # -- readers -----------------------------------------------------------------------------

    async def find(self, digest: str) -> Blob | None:
        blob = self._rows.get(digest)
        return None if blob is None else replace(blob, pinned=digest in self._pinned())

    async def has_size(self, size: int) -> bool:
        return any(
            blob.size == size and blob.state in (LIVE, CONDEMNED) for blob in self._rows.values()
        )

    async def page(self, after: str, limit: int) -> Found:
        states = {RESERVED, LIVE, CONDEMNED}
        return self._select(after, limit, states, lambda b: b.state != RESERVED or b.refs > 0)

    def _select(
        self, after: str, limit: int, states: set[int], change: Callable[[Blob], bool]
    ) -> Found:
        """Copies of those for which ``change`` is true, of at most ``limit`` that were asked."""
        pinned = self._pinned()
        found: list[Blob] = []
        asked = 0
        for digest in self._order[bisect_right(self._order, after) :]:
            blob = self._rows[digest]
            if blob.state not in states:
                continue
            if asked == limit:
                return Found(found, after)
            asked, after = asked + 1, digest
            blob.pinned = digest in pinned
            if change(blob):
                found.append(replace(blob))
        return Found(found)

    async def damage(self, digest: str, gen: int, is_damaged: bool) -> None:
        blob = self._rows.get(digest)
        if blob is not None and blob.gen == gen and blob.state in (LIVE, CONDEMNED):
            blob.damaged = is_damaged

    async def recount(self, after: str, limit: int) -> Found:
        counts: dict[str, int] = {}
        for _, digest in self._refs:
            counts[digest] = counts.get(digest, 0) + 1
        now = self._ticks()

        def change(blob: Blob) -> bool:
            right = counts.get(blob.digest, 0)
            if blob.refs == right:
                return False
            blob.refs = right
            blob.zero_since = None if right else now
            return True

        return self._select(after, limit, {RESERVED, LIVE, CONDEMNED}, change)

    # -- garbage -----------------------------------------------------------------------------

    async def condemn(self, grace: int, after: str, limit: int, *, dry: bool) -> Found:
        now = self._ticks()
        return self._select(
            after, limit, {LIVE}, lambda blob: condemn(replace(blob) if dry else blob, now, grace)
        )

    async def doom(self, settle: int, after: str, limit: int, *, dry: bool) -> Found:
        now = self._ticks()
        let_go: list[str] = []
        found = self._select(
            after,
            limit,
            {RESERVED, CONDEMNED, DELETING},
            lambda blob: doom(replace(blob) if dry else blob, now, settle, let_go),
        )
        if not dry:
            self._let_go(let_go)
        return found

    async def bury(self, blobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        now = self._ticks()
        return [
            (digest, gen)
            for digest, gen in blobs
            if (blob := self._rows.get(digest)) is not None and bury(blob, gen, now)
        ]

    async def prune(self, age: int) -> int:
        before = self._ticks() - age
        old = {b.digest for b in self._rows.values() if b.state == GONE and b.state_since <= before}
        for digest in old:
            del self._rows[digest]
            self._anonymous.pop(digest, None)
        if old:
            self._order = [digest for digest in self._order if digest not in old]
        return len(old)

    async def expired(self, limit: int) -> list[Expired]:
        now = self._ticks()
        found = sorted(
            (until, id, key) for id, (key, until) in self._uploads.items() if until <= now
        )
        return [Expired(id, key) for _, id, key in found[:limit]]

    # -- storage against index ---------------------------------------------------------------

    async def now(self) -> int:
        return self._ticks()

    async def count(self) -> tuple[int, int]:
        return sum(blob.state != GONE for blob in self._rows.values()), len(self._rows)

    async def rows(self, digests: Sequence[str]) -> list[Blob]:
        return [replace(self._rows[digest]) for digest in digests if digest in self._rows]

    async def uploads(self, tmp_keys: Sequence[str]) -> list[str]:
        known = {key for key, _ in self._uploads.values()}
        return [key for key in tmp_keys if key in known]

    async def orphans(self, keys: Sequence[str], age: int, run: int, *, dry: bool) -> list[str]:
        ripe: list[str] = []
        for key in keys:
            first, last = self._orphans.get(key, (run, -1))
            if last >= 0 and first <= run - age:
                ripe.append(key)
            if not dry:
                self._orphans[key] = (first, run)
        return ripe

    async def forget_orphans(self, run: int) -> None:
        self._orphans = {key: seen for key, seen in self._orphans.items() if seen[1] >= run}

    async def adopt(self, objects: Sequence[tuple[str, int, int]]) -> list[tuple[str, int]]:
        now = self._ticks()
        adopted: list[tuple[str, int]] = []
        for digest, gen, stored_size in objects:
            blob = adopt(self._rows.get(digest), digest, gen, stored_size, now)
            if blob is not None:
                self._keep(blob)
                adopted.append((digest, gen))
        return adopted

    async def recover(
        self, objects: Sequence[tuple[str, int, int, int, str | None]], pin_reason: str
    ) -> list[str]:
        now = self._ticks()
        let_go: list[str] = []
        recovered: list[str] = []
        pinned = self._pinned()
        for found in objects:
            digest, manifest = found[0], found[4]
            known = self._rows.get(digest)
            if known is not None:
                known.pinned = digest in pinned
            blob = recover(known, found, now, let_go)
            if blob is None:
                continue
            if known is None:
                self._keep(blob)
            else:
                self._rows[digest] = blob
            self._pins[f"{pin_reason}:{digest}"] = _Pin(digest, None, pin_reason)
            recovered.append(digest)
            if manifest is not None:
                self._uploads.pop(manifest, None)
        self._let_go(let_go)
        return recovered


def _stands(pin: _Pin, now: int) -> bool:
    return pin.expires_at is None or pin.expires_at > now
