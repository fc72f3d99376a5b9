"""The index of content-addressed storage in a SQL database: what the collector asks.

Pages of candidates are chosen, locked, looked at again with the pins that stand by then, and
changed, all in one transaction: a pin or a reference that came between is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from trove_async.catalog.blobs import (
    CONDEMNED,
    DELETING,
    GONE,
    LIVE,
    RESERVED,
    Blob,
    Expired,
    Found,
    adopt,
    bury,
    condemn,
    doom,
    held_by,
    recover,
    shed,
)
from trove_async.catalog.schema import blobs, orphans, pins, refs, uploads
from trove_async.catalog.sql_rows import SQLRows, columns_of

__all__ = ["IS_CHUNK", "SQLCollecting"]

IS_CHUNK = text("substr(owner, 1, 9) = 'manifest:'")
"""As the partial index says it, or no database would use that."""


class SQLCollecting(SQLRows):
    # -- garbage -----------------------------------------------------------------------------

    async def condemn(self, grace: int, after: str, limit: int, *, dry: bool) -> Found:
        wanted = and_(blobs.c.state == LIVE, blobs.c.refs == 0)
        return await self._changed(
            wanted, after, limit, lambda blob, now: condemn(blob, now, grace), dry=dry
        )

    async def doom(self, settle: int, after: str, limit: int, *, dry: bool) -> Found:
        wanted = or_(
            blobs.c.state.in_((CONDEMNED, DELETING)),
            and_(blobs.c.state == RESERVED, blobs.c.refs == 0),
        )
        let_go: list[str] = []
        return await self._changed(
            wanted,
            after,
            limit,
            lambda blob, now: doom(blob, now, settle, let_go),
            dry=dry,
            let_go=let_go,
        )

    async def _changed(
        self,
        wanted: ColumnElement[bool],
        after: str,
        limit: int,
        change: Callable[[Blob, int], bool],
        *,
        dry: bool,
        let_go: list[str] | None = None,
    ) -> Found:
        """Those of a page for which ``change`` is true; all that it changed are saved.
        ``let_go``: where it puts manifests that name nothing any more."""
        gone: list[str] = [] if let_go is None else let_go
        # Named alike, so that the partial index of what nobody wants serves it.
        few = or_(blobs.c.refs == 0, blobs.c.state != LIVE)
        query = (
            select(blobs.c.digest)
            .where(blobs.c.space == self._space, blobs.c.digest > after, few, wanted)
            .order_by(blobs.c.digest)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> Found:
            gone.clear()  # of a transaction that is done again
            # Without a lock: what changes meanwhile is seen below.
            digests = [*(await connection.execute(query)).scalars()]
            if not digests:
                return Found([])
            _, now = await self._locked(connection, digests)
            found = await self._looked_up(connection, digests, now)
            before = {digest: columns_of(blob) for digest, blob in found.items()}
            chosen = [blob for digest, blob in sorted(found.items()) if change(blob, now)]
            if not dry:
                await self._update(
                    connection, [b for d, b in found.items() if columns_of(b) != before[d]]
                )
                await self._let_go(connection, gone, now)
            return Found(chosen, digests[-1] if len(digests) == limit else None)

        return await self._database.write(work)

    async def bury(self, blobs: Sequence[tuple[str, int]]) -> list[tuple[str, int]]:
        if not blobs:
            return []

        async def work(connection: AsyncConnection) -> list[tuple[str, int]]:
            rows, now = await self._locked(connection, sorted({digest for digest, _ in blobs}))
            buried = [
                (digest, gen)
                for digest, gen in blobs
                if (blob := rows.get(digest)) is not None and bury(blob, gen, now)
            ]
            await self._update(connection, [rows[digest] for digest, _ in buried])
            return buried

        return await self._database.write(work)

    async def prune(self, age: int) -> int:
        async def work(connection: AsyncConnection) -> int:
            before = await self._now(connection) - age
            done = await connection.execute(
                delete(blobs)
                .where(blobs.c.space == self._space, blobs.c.state == GONE)
                .where(blobs.c.state_since <= before)
            )
            return int(done.rowcount)

        return await self._database.write(work)

    async def shed(self, manifest: str, limit: int, *, is_uncommitted: bool = False) -> bool:
        owner = held_by(manifest)
        mine = and_(refs.c.space == self._space, refs.c.owner == owner, IS_CHUNK)
        upload = and_(uploads.c.space == self._space, uploads.c.id == manifest)

        async def work(connection: AsyncConnection) -> bool:
            lock = select(uploads.c.id).where(upload).with_for_update()
            is_there = (await connection.execute(lock)).first() is not None
            if not is_there and not is_uncommitted:
                return False
            query = select(refs.c.digest).where(mine).order_by(refs.c.digest).limit(limit)
            digests = [*(await connection.execute(query)).scalars()]
            rows, now = await self._locked(connection, digests)
            for digest in digests:
                shed(rows.get(digest), now)
            await self._update(connection, [*rows.values()])
            await connection.execute(delete(refs).where(mine, refs.c.digest.in_(digests)))
            if len(digests) == limit:
                return True
            await connection.execute(delete(uploads).where(upload))
            return False

        return await self._database.write(work)

    async def expired(self, limit: int) -> list[Expired]:
        async def work(connection: AsyncConnection) -> list[Expired]:
            now = await self._now(connection)
            query = (
                select(uploads.c.id, uploads.c.tmp_key)
                .where(uploads.c.space == self._space, uploads.c.lease_expires <= now)
                .order_by(uploads.c.lease_expires)
                .limit(limit)
            )
            return [Expired(row[0], row[1]) for row in await connection.execute(query)]

        return await self._database.read(work)

    async def recount(self, after: str, limit: int) -> Found:
        query = (
            select(blobs.c.digest)
            .where(blobs.c.space == self._space, blobs.c.digest > after)
            .where(blobs.c.state.in_((RESERVED, LIVE, CONDEMNED)))
            .order_by(blobs.c.digest)
            .limit(limit)
        )

        async def work(connection: AsyncConnection) -> Found:
            digests = [*(await connection.execute(query)).scalars()]
            if not digests:
                return Found([])
            rows, now = await self._locked(connection, digests)
            counted = await connection.execute(
                select(refs.c.digest, func.count())
                .where(refs.c.space == self._space, refs.c.digest.in_(digests))
                .group_by(refs.c.digest)
            )
            counts = {row[0]: row[1] for row in counted}
            wrong = [blob for d, blob in sorted(rows.items()) if blob.refs != counts.get(d, 0)]
            for blob in wrong:
                blob.refs = counts.get(blob.digest, 0)
                blob.zero_since = None if blob.refs else now
            await self._update(connection, wrong)
            return Found(wrong, digests[-1] if len(digests) == limit else None)

        return await self._database.write(work)

    # -- storage against index ---------------------------------------------------------------

    async def now(self) -> int:
        return await self._database.read(self._now)

    async def count(self) -> tuple[int, int]:
        mine = blobs.c.space == self._space
        query = select(
            select(func.count())
            .select_from(blobs)
            .where(mine, blobs.c.state != GONE)
            .scalar_subquery(),
            select(func.count()).select_from(blobs).where(mine).scalar_subquery(),
        )

        async def work(connection: AsyncConnection) -> tuple[int, int]:
            row = (await connection.execute(query)).one()
            return row[0], row[1]

        return await self._database.read(work)

    async def rows(self, digests: Sequence[str]) -> list[Blob]:
        async def work(connection: AsyncConnection) -> list[Blob]:
            return [*(await self._looked_up(connection, digests)).values()]

        return await self._database.read(work)

    async def uploads(self, tmp_keys: Sequence[str]) -> list[str]:
        query = select(uploads.c.tmp_key).where(
            uploads.c.space == self._space, uploads.c.tmp_key.in_(tmp_keys)
        )

        async def work(connection: AsyncConnection) -> list[str]:
            return [*(await connection.execute(query)).scalars()]

        return await self._database.read(work)

    async def orphans(self, keys: Sequence[str], age: int, run: int, *, dry: bool) -> list[str]:
        mine = and_(orphans.c.space == self._space, orphans.c.object_key.in_(keys))

        async def work(connection: AsyncConnection) -> list[str]:
            found = await connection.execute(
                select(orphans.c.object_key, orphans.c.first_seen).where(mine).with_for_update()
            )
            known = {row[0]: row[1] for row in found}
            if not dry:
                await connection.execute(update(orphans).where(mine).values(last_seen=run))
                new = [
                    {"space": self._space, "object_key": key, "first_seen": run, "last_seen": run}
                    for key in keys
                    if key not in known
                ]
                if new:
                    await self._note(connection, new)
            return [key for key in keys if key in known and known[key] <= run - age]

        return await self._database.write(work)

    async def _note(self, connection: AsyncConnection, new: Sequence[dict[str, object]]) -> None:
        if self._database.is_sqlite:
            await connection.execute(insert(orphans), new)
        else:  # another run may be at the same page
            await connection.execute(postgresql.insert(orphans).on_conflict_do_nothing(), new)

    async def forget_orphans(self, run: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                delete(orphans).where(orphans.c.space == self._space, orphans.c.last_seen < run)
            )

        await self._database.write(work)

    async def adopt(self, objects: Sequence[tuple[str, int, int]]) -> list[tuple[str, int]]:
        async def work(connection: AsyncConnection) -> list[tuple[str, int]]:
            rows, now = await self._locked(connection, sorted({o[0] for o in objects}))
            new: dict[str, Blob] = {}
            for digest, gen, stored_size in objects:
                known = rows.get(digest) or new.get(digest)
                blob = adopt(known, digest, gen, stored_size, now)
                if blob is not None:
                    new[digest] = blob
            await self._insert(connection, [*new.values()])
            return [(blob.digest, blob.gen) for blob in new.values()]

        return await self._database.write(work)

    async def recover(
        self, objects: Sequence[tuple[str, int, int, int, str | None]], pin_reason: str
    ) -> list[str]:
        async def work(connection: AsyncConnection) -> list[str]:
            names = sorted({o[0] for o in objects})
            _, now = await self._locked(connection, names)
            rows = await self._looked_up(connection, names, now)
            known = set(rows)
            changed: dict[str, Blob] = {}
            let_go: list[str] = []
            for found in objects:
                digest = found[0]
                blob = recover(rows.get(digest), found, now, let_go)
                if blob is not None:
                    rows[digest] = changed[digest] = blob
            manifests = [blob.manifest for blob in changed.values() if blob.manifest]
            if manifests:
                await connection.execute(
                    delete(uploads).where(
                        uploads.c.space == self._space, uploads.c.id.in_(manifests)
                    )
                )
            await self._let_go(connection, let_go, now)
            await self._update(connection, [b for d, b in changed.items() if d in known])
            await self._insert(connection, [b for d, b in changed.items() if d not in known])
            ids = [f"{pin_reason}:{digest}" for digest in changed]
            if ids:
                await connection.execute(
                    delete(pins).where(pins.c.space == self._space, pins.c.id.in_(ids))
                )
                await connection.execute(
                    insert(pins),
                    [
                        {
                            "id": f"{pin_reason}:{digest}",
                            "space": self._space,
                            "digest": digest,
                            "expires_at": None,
                            "reason": pin_reason,
                        }
                        for digest in changed
                    ],
                )
            return [*changed]

        return await self._database.write(work)
