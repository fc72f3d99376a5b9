"""The index of content-addressed storage in a SQL database: what writers and readers ask.

A row is locked while it is decided upon: SQLite has one writer (BEGIN IMMEDIATE), PostgreSQL
SELECT ... FOR UPDATE, always in the order of digests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqlalchemy import (
    ColumnElement,
    and_,
    bindparam,
    collate,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from trove_async.catalog.blobs import (
    CONDEMNED,
    GONE,
    LIVE,
    RESERVED,
    Blob,
    Books,
    Claim,
    Found,
    Order,
    carry_out,
    check_pinnable,
    drop,
)
from trove_async.catalog.grouping import Grouped
from trove_async.catalog.schema import blobs, pins, refs, uploads
from trove_async.catalog.sql_collecting import SQLCollecting
from trove_async.catalog.sql_rows import columns_of
from trove_async.catalog.sqlite_orders import carry_out_all, find
from trove_async.errors import BlobNotFoundError, CasInvariantError, TroveError

__all__ = ["SQLBlobs"]

_REF: Final = tuple_(refs.c.owner, refs.c.digest)
_KNOWN = (
    select(refs.c.owner, refs.c.digest)
    .where(refs.c.space == bindparam("at"))
    .where(_REF.in_(bindparam("pairs", expanding=True)))
)
_ADD_REF = insert(refs)
_DROP_REF = delete(refs).where(
    refs.c.space == bindparam("at"),
    refs.c.digest == bindparam("of"),
    refs.c.owner == bindparam("by"),
)
_STANDING = (
    select(uploads.c.id)
    .where(uploads.c.space == bindparam("at"), uploads.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(uploads.c.id)
    .with_for_update()
)
_FORGET = delete(uploads).where(
    uploads.c.space == bindparam("at"), uploads.c.id.in_(bindparam("ids", expanding=True))
)


class SQLBlobs(SQLCollecting):
    """Of one space."""

    _orders: Grouped[Order, Claim | bool | None] | None = None

    # -- writers -----------------------------------------------------------------------------

    async def begin(self, upload: str, tmp_key: str, lease: int) -> int:
        async def work(connection: AsyncConnection) -> int:
            now = await self._now(connection)
            row = {
                "id": upload,
                "space": self._space,
                "tmp_key": tmp_key,
                "lease_expires": now + lease,
            }
            await connection.execute(insert(uploads), row)
            return now

        return await self._database.write(work)

    async def renew(self, upload: str, lease: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            until = await self._now(connection) + lease
            await connection.execute(
                update(uploads)
                .where(uploads.c.space == self._space, uploads.c.id == upload)
                .values(lease_expires=until)
            )

        await self._database.write(work)

    async def forget(self, uploads: Sequence[str]) -> None:
        if not uploads:
            return

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_FORGET, {"at": self._space, "ids": [*uploads]})

        await self._database.write(work)

    async def claim(self, digest: str, owner: str, lease: int) -> Claim:
        answer = await self._ordered(Order("claim", digest, owner, lease=lease))
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
        return bool(await self._ordered(order))

    async def release(self, digest: str, owner: str | None) -> None:
        if owner is None:
            await self._database.write(lambda connection: self._drop_any(connection, digest))
        else:
            await self._ordered(Order("release", digest, owner))

    async def retain(self, digest: str, owner: str) -> bool:
        return bool(await self._ordered(Order("retain", digest, owner)))

    async def owners(
        self, prefix: str, after: tuple[str, str] | None, limit: int
    ) -> Sequence[tuple[str, str]]:
        owner = self._owner()
        query = (
            select(refs.c.owner, refs.c.digest)
            .where(refs.c.space == self._space, func.substr(owner, 1, len(prefix)) == prefix)
            .order_by(owner, refs.c.digest)
            .limit(limit)
        )
        if after is not None:
            query = query.where(
                or_(owner > after[0], and_(owner == after[0], refs.c.digest > after[1]))
            )

        async def work(connection: AsyncConnection) -> Sequence[tuple[str, str]]:
            return [(row[0], row[1]) for row in await connection.execute(query)]

        return await self._database.read(work)

    def _owner(self) -> ColumnElement[str]:
        """Compared by code points: by the rules of a language punctuation would not count."""
        return refs.c.owner if self._database.is_sqlite else collate(refs.c.owner, "C")

    async def _ordered(self, order: Order) -> Claim | bool | None:
        if self._orders is None:
            self._orders = Grouped(self._carry_out)
        return await self._orders.run(order)

    async def _carry_out(
        self, orders: Sequence[Order]
    ) -> Sequence[Claim | bool | Exception | None]:
        if self._database.is_sqlite:
            return await self._database.visit(
                lambda connection: carry_out_all(connection, self._space, orders, self._ticks)
            )

        async def work(
            connection: AsyncConnection,
        ) -> Sequence[Claim | bool | Exception | None]:
            return await self._transaction(connection, orders)

        return await self._database.write(work)

    async def _transaction(
        self, connection: AsyncConnection, orders: Sequence[Order]
    ) -> Sequence[Claim | bool | Exception | None]:
        standing: set[str] = set()
        manifests = [order.upload for order in orders if order.is_manifest]
        if manifests:  # locked before any row: `shed` takes both in this order too
            found = await connection.execute(_STANDING, {"at": self._space, "ids": manifests})
            standing = {row[0] for row in found}
        rows, now = await self._locked(connection, sorted({order.digest for order in orders}))
        before = {digest: columns_of(blob) for digest, blob in rows.items()}
        pairs = [(order.owner, order.digest) for order in orders if order.digest in rows]
        known: set[tuple[str, str]] = set()
        if pairs:
            found = await connection.execute(_KNOWN, {"at": self._space, "pairs": pairs})
            known = {(row[0], row[1]) for row in found}
        books = Books(set(known), standing)
        then = books.refs
        answers: list[Claim | bool | Exception | None] = []
        forgotten: list[str] = []
        for order in orders:
            try:
                blob, answer = carry_out(order, rows.get(order.digest), books, now)
            except TroveError as exc:
                answers.append(exc)
                continue
            if blob is not None:
                rows[order.digest] = blob
            if answer is True and order.upload is not None:
                forgotten.append(order.upload)
            answers.append(answer)
        await self._save(connection, before, rows)
        await self._let_go(connection, books.let_go, now)
        if added := then - known:
            await connection.execute(
                _ADD_REF,
                [{"space": self._space, "digest": d, "owner": o} for o, d in sorted(added)],
            )
        if gone := known - then:
            await connection.execute(
                _DROP_REF, [{"at": self._space, "of": d, "by": o} for o, d in sorted(gone)]
            )
        if forgotten:
            await connection.execute(_FORGET, {"at": self._space, "ids": forgotten})
        return answers

    async def _save(
        self,
        connection: AsyncConnection,
        before: dict[str, tuple[object, ...]],
        rows: dict[str, Blob],
    ) -> None:
        changed = [b for d, b in rows.items() if d in before and columns_of(b) != before[d]]
        await self._update(connection, changed)
        await self._insert(connection, [b for d, b in rows.items() if d not in before])

    async def _drop_any(self, connection: AsyncConnection, digest: str) -> None:
        rows, now = await self._locked(connection, [digest])
        blob = rows.get(digest)
        if blob is None or blob.state == GONE:
            raise BlobNotFoundError(f"no blob {digest}")
        column = self._owner()
        query = (
            select(refs.c.owner)
            .where(refs.c.space == self._space, refs.c.digest == digest)
            .where(column >= "anon:", column < "anon;")
            .limit(1)
        )
        owner = (await connection.execute(query)).scalar()
        if owner is None:
            raise CasInvariantError(f"{digest} has no reference without an owner")
        drop(blob, {(owner, digest)}, owner, now)
        await self._update(connection, [blob])
        await connection.execute(_DROP_REF, {"at": self._space, "of": digest, "by": owner})

    # -- pins --------------------------------------------------------------------------------

    async def pin(self, id: str, digest: str, ttl: int | None, reason: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            # The row's lock makes whoever collects wait, and look again.
            rows, now = await self._locked(connection, [digest])
            blob = check_pinnable(rows.get(digest), digest, now)
            await self._update(connection, [blob])
            row = {
                "id": id,
                "space": self._space,
                "digest": digest,
                "expires_at": None if ttl is None else now + ttl,
                "reason": reason,
            }
            await connection.execute(insert(pins), row)

        await self._database.write(work)

    async def unpin(self, what: str) -> int:
        column = pins.c.digest if ":" in what and not what.startswith("pin_") else pins.c.id

        async def work(connection: AsyncConnection) -> int:
            now = await self._now(connection)
            mine = (pins.c.space == self._space) & (column == what)
            found = (await connection.execute(select(pins.c.expires_at).where(mine))).all()
            await connection.execute(delete(pins).where(mine))
            return sum(row[0] is None or row[0] > now for row in found)

        return await self._database.write(work)

    # -- readers -----------------------------------------------------------------------------

    async def find(self, digest: str) -> Blob | None:
        if self._database.is_sqlite:
            now = self._ticks()
            return await self._database.visit(
                lambda connection: find(connection, self._space, digest, now)
            )

        async def work(connection: AsyncConnection) -> Blob | None:
            return (await self._looked_up(connection, [digest])).get(digest)

        return await self._database.read(work)

    async def has_size(self, size: int) -> bool:
        query = (
            select(literal(1))
            .where(blobs.c.space == self._space, blobs.c.size == size)
            .where(blobs.c.state.in_((LIVE, CONDEMNED)))
            .limit(1)
        )

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(query)).first() is not None

        return await self._database.read(work)

    async def page(self, after: str, limit: int) -> Found:
        query = (
            select(blobs.c.digest)
            .where(blobs.c.space == self._space, blobs.c.digest > after)
            .where(
                or_(
                    blobs.c.state.in_((LIVE, CONDEMNED)),
                    and_(blobs.c.state == RESERVED, blobs.c.refs > 0),
                )
            )
            .order_by(blobs.c.digest)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> Found:
            digests = [*(await connection.execute(query)).scalars()]
            found = await self._looked_up(connection, digests)
            last = digests[-1] if len(digests) == limit else None
            return Found([found[d] for d in digests if d in found], last)

        return await self._database.read(work)

    async def damage(self, digest: str, gen: int, is_damaged: bool) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(blobs)
                .where(blobs.c.space == self._space, blobs.c.digest == digest)
                .where(blobs.c.gen == gen, blobs.c.state.in_((LIVE, CONDEMNED)))
                .values(damaged=int(is_damaged))
            )

        await self._database.write(work)
