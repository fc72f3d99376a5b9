"""Rows of the index of content-addressed storage, loaded, locked and saved."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, bindparam, exists, insert, or_, select, text, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.asyncio import AsyncConnection

from trove_async.catalog.blobs import Blob
from trove_async.catalog.clock import ticks, utc_now
from trove_async.catalog.database import Database, TakenMeanwhile
from trove_async.catalog.schema import blobs, pins, uploads

__all__ = ["SQLRows", "blob_of", "columns_of"]

_NAMES: Final = (
    "digest",
    "gen",
    "size",
    "stored_size",
    "state",
    "refs",
    "zero_since",
    "state_since",
    "writer_lease",
    "damaged",
    "manifest",
)
_COLUMNS: Final = tuple(blobs.c[name] for name in _NAMES)
_MINE = blobs.c.space == bindparam("at")
_THESE = blobs.c.digest.in_(bindparam("digests", expanding=True))
_DATABASE_NOW: Final = text(
    "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
)
_LOCK = select(*_COLUMNS).where(_MINE, _THESE).order_by(blobs.c.digest).with_for_update()
_STANDING = exists().where(
    pins.c.space == blobs.c.space,
    pins.c.digest == blobs.c.digest,
    or_(pins.c.expires_at.is_(None), pins.c.expires_at > bindparam("now", type_=BigInteger)),
)
_WITH_PINS = select(*_COLUMNS, _STANDING).where(_MINE, _THESE)
_UPDATE = (
    update(blobs)
    .where(_MINE, blobs.c.digest == bindparam("of"))
    .values({name: bindparam(f"new_{name}") for name in _NAMES[1:]})
)
_INSERT = insert(blobs)
_LET_GO = insert(uploads)
_INSERT_OR_LOSE = postgresql.insert(blobs).on_conflict_do_nothing().returning(blobs.c.digest)


class SQLRows:
    """Of one space."""

    def __init__(
        self, database: Database, space: str, clock: Callable[[], datetime] | None
    ) -> None:
        """``clock`` None: the database's own."""
        self._database = database
        self._space = space
        self._clock = clock

    def _ticks(self) -> int:
        return ticks(utc_now() if self._clock is None else self._clock())

    async def _now(self, connection: AsyncConnection) -> int:
        if self._clock is not None:
            return self._ticks()
        return int((await connection.execute(_DATABASE_NOW)).scalar_one())

    async def _locked(
        self, connection: AsyncConnection, digests: Sequence[str]
    ) -> tuple[dict[str, Blob], int]:
        """Their rows, locked to the end of the transaction, and the time."""
        now = await self._now(connection)
        found = await connection.execute(_LOCK, {"at": self._space, "digests": digests})
        return {row[0]: blob_of(row) for row in found}, now

    async def _looked_up(
        self, connection: AsyncConnection, digests: Sequence[str], now: int | None = None
    ) -> dict[str, Blob]:
        """With what is pinned at present."""
        if not digests:
            return {}
        moment = await self._now(connection) if now is None else now
        found = await connection.execute(
            _WITH_PINS, {"at": self._space, "digests": digests, "now": moment}
        )
        return {row[0]: blob_of(row, row[-1]) for row in found}

    async def _update(self, connection: AsyncConnection, changed: Sequence[Blob]) -> None:
        if changed:
            await connection.execute(
                _UPDATE,
                [
                    {
                        "at": self._space,
                        "of": blob.digest,
                        **{
                            f"new_{name}": value
                            for name, value in zip(_NAMES[1:], columns_of(blob)[1:], strict=True)
                        },
                    }
                    for blob in changed
                ],
            )

    async def _let_go(
        self, connection: AsyncConnection, manifests: Sequence[str], now: int
    ) -> None:
        if manifests:
            await connection.execute(
                _LET_GO,
                [
                    {"id": id, "space": self._space, "tmp_key": "", "lease_expires": now}
                    for id in manifests
                ],
            )

    async def _insert(self, connection: AsyncConnection, new: Sequence[Blob]) -> None:
        """TakenMeanwhile where another process has inserted one of them: the transaction is
        done again, and then finds it."""
        if not new:
            return
        rows = [
            {"space": self._space, **dict(zip(_NAMES, columns_of(blob), strict=True))}
            for blob in sorted(new, key=lambda blob: blob.digest)
        ]
        if self._database.is_sqlite:
            await connection.execute(_INSERT, rows)
            return
        done = await connection.execute(_INSERT_OR_LOSE, rows)
        if len(done.all()) != len(rows):
            raise TakenMeanwhile


def columns_of(blob: Blob) -> tuple[object, ...]:
    return (
        blob.digest,
        blob.gen,
        blob.size,
        blob.stored_size,
        blob.state,
        blob.refs,
        blob.zero_since,
        blob.state_since,
        blob.writer_lease,
        int(blob.damaged),
        blob.manifest,
    )


def blob_of(row: Sequence[Any], pinned: object = False) -> Blob:
    digest, gen, size, stored, state, refs, zero, since, lease, damaged, manifest = row[:11]
    whether = bool(damaged), manifest, bool(pinned)
    return Blob(digest, gen, size, stored, state, refs, zero, since, lease, *whether)
