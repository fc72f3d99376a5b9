"""The catalog in a SQL database: SQLite for the processes of one machine, else PostgreSQL."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncConnection

from trove_async.catalog.clock import EPOCH as _EPOCH
from trove_async.catalog.clock import TICK as _TICK
from trove_async.catalog.clock import ticks as _ticks
from trove_async.catalog.clock import utc_now
from trove_async.catalog.database import Database
from trove_async.catalog.schema import parts, sessions
from trove_async.catalog.sql_blobs import SQLBlobs
from trove_async.errors import ConflictError, UploadNotFoundError
from trove_async.stream.session import Message, PartRecord, Plan, SessionRecord

__all__ = ["SQLCatalog"]


class SQLCatalog:
    """``sqlite:///relative``, ``sqlite:////absolute`` or ``postgresql://user@host/name``."""

    def __init__(self, url: str | URL, *, clock: Callable[[], datetime] = utc_now) -> None:
        self.clock = clock
        self._database = Database(url)
        self._blobs: dict[str, SQLBlobs] = {}

    @classmethod
    def at(cls, path: str, *, clock: Callable[[], datetime] = utc_now) -> SQLCatalog:
        """In one file, whatever characters its name has."""
        return cls(URL.create("sqlite", database=path), clock=clock)

    def __repr__(self) -> str:
        return f"<SQLCatalog {self._database!r}>"

    @property
    def folder(self) -> str | None:
        """Where the file of an SQLite catalog is."""
        return self._database.folder

    async def open(self) -> None:
        await self._database.open()

    async def close(self) -> None:
        await self._database.close()

    def blobs(self, space: str) -> SQLBlobs:
        """The index of content-addressed storage in that space. On PostgreSQL its time is the
        server's, unless the catalog was given a clock."""
        found = self._blobs.get(space)
        if found is None:
            is_shared = not self._database.is_sqlite and self.clock is utc_now
            clock = None if is_shared else self.clock
            found = self._blobs[space] = SQLBlobs(self._database, space, clock)
        return found

    # -- sessions ----------------------------------------------------------------------------

    async def create(self, record: SessionRecord) -> None:
        plan = record.plan
        row = {
            "id": record.id,
            "backend": plan.backend,
            "bucket": plan.bucket,
            "object_key": plan.key,
            "fingerprint": plan.fingerprint,
            "plan": json.dumps(asdict(plan)),
            "created_at": _ticks(record.created_at),
            "expires_at": _ticks(record.expires_at),
            "generation": record.generation,
            "message": None,
            "owner": record.owner,
            "leased_until": None if record.leased_until is None else _ticks(record.leased_until),
        }

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(insert(sessions).values(row))

        await self._database.write(work)

    async def get(self, id: str) -> SessionRecord | None:
        async def work(connection: AsyncConnection) -> SessionRecord | None:
            return await _whole(connection, id)

        return await self._database.read(work)

    async def find(
        self, backend: str, bucket: str, key: str, fingerprint: str
    ) -> SessionRecord | None:
        query = (
            select(sessions.c.id)
            .where(
                sessions.c.bucket == bucket,
                sessions.c.object_key == key,
                sessions.c.fingerprint == fingerprint,
                sessions.c.backend == backend,
                sessions.c.expires_at > _ticks(self.clock()),
            )
            .order_by(sessions.c.id.desc())
            .limit(1)
        )

        async def work(connection: AsyncConnection) -> SessionRecord | None:
            id = (await connection.execute(query)).scalar()
            return None if id is None else await _whole(connection, id)

        return await self._database.read(work)

    async def list(
        self, bucket: str | None, after: str | None, limit: int
    ) -> builtins.list[SessionRecord]:
        query = select(sessions).order_by(sessions.c.id).limit(limit)
        if bucket is not None:
            query = query.where(sessions.c.bucket == bucket)
        if after is not None:
            query = query.where(sessions.c.id > after)

        async def work(connection: AsyncConnection) -> builtins.list[SessionRecord]:
            return [_record(row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)

    async def expired(self, limit: int) -> builtins.list[SessionRecord]:
        query = select(sessions).where(sessions.c.expires_at <= _ticks(self.clock())).limit(limit)

        async def work(connection: AsyncConnection) -> builtins.list[SessionRecord]:
            return [_record(row) for row in (await connection.execute(query)).mappings()]

        return await self._database.read(work)

    # -- who works on one --------------------------------------------------------------------

    async def claim(
        self, id: str, owner: str, seconds: float, is_dead: Callable[[str], bool]
    ) -> SessionRecord | None:
        now = self.clock()
        until = _ticks(now + timedelta(seconds=seconds))

        async def work(connection: AsyncConnection) -> SessionRecord | None:
            # On PostgreSQL the row is locked to the end of the transaction; SQLite has one writer.
            query = select(sessions).where(sessions.c.id == id).with_for_update()
            row = (await connection.execute(query)).mappings().first()
            if row is None:
                raise UploadNotFoundError(f"no upload session {id}")
            holder = row["owner"]
            if (
                holder not in (None, owner)
                and (row["leased_until"] or 0) > _ticks(now)
                and not is_dead(holder)
            ):
                return None
            await connection.execute(
                update(sessions).where(sessions.c.id == id).values(owner=owner, leased_until=until)
            )
            return await _whole(connection, id)

        return await self._database.write(work)

    async def renew(self, id: str, owner: str, seconds: float) -> None:
        until = _ticks(self.clock() + timedelta(seconds=seconds))

        async def work(connection: AsyncConnection) -> None:
            await _as_owner(connection, id, owner, leased_until=until)

        await self._database.write(work)

    async def release(self, id: str, owner: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(
                update(sessions)
                .where(sessions.c.id == id, sessions.c.owner == owner)
                .values(owner=None, leased_until=None)
            )

        await self._database.write(work)

    # -- progress ----------------------------------------------------------------------------

    async def begin(self, id: str, owner: str, message: Message | None) -> None:
        text = None
        if message is not None:
            fields = asdict(message)
            fields["header"] = None if message.header is None else message.header.hex()
            text = json.dumps(fields)

        async def work(connection: AsyncConnection) -> None:
            await _as_owner(
                connection, id, owner, message=text, generation=sessions.c.generation + 1
            )
            await connection.execute(delete(parts).where(parts.c.session == id))

        await self._database.write(work)

    async def keep_part(self, id: str, owner: str, part: PartRecord) -> None:
        values = asdict(part)
        number = values.pop("number")

        async def work(connection: AsyncConnection) -> None:
            await _as_owner(connection, id, owner, owner=owner)
            done = await connection.execute(
                update(parts).where(parts.c.session == id, parts.c.number == number).values(values)
            )
            if done.rowcount == 0:
                await connection.execute(
                    insert(parts).values({"session": id, "number": number, **values})
                )

        await self._database.write(work)

    async def delete(self, id: str, owner: str | None) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            query = select(sessions.c.owner).where(sessions.c.id == id).with_for_update()
            row = (await connection.execute(query)).first()
            if row is None:
                return False
            if owner is not None and row[0] != owner:
                raise _lost(id)
            await connection.execute(delete(parts).where(parts.c.session == id))
            await connection.execute(delete(sessions).where(sessions.c.id == id))
            return True

        return await self._database.write(work)


def _lost(id: str) -> ConflictError:
    return ConflictError(f"upload session {id} was taken over by another process")


async def _as_owner(connection: AsyncConnection, id: str, holder: str, /, **values: Any) -> None:
    """Changes the session's row only where ``holder`` still has it; which also locks the row."""
    done = await connection.execute(
        update(sessions).where(sessions.c.id == id, sessions.c.owner == holder).values(values)
    )
    if done.rowcount != 1:
        raise _lost(id)


async def _whole(connection: AsyncConnection, id: str) -> SessionRecord | None:
    row = (await connection.execute(select(sessions).where(sessions.c.id == id))).mappings().first()
    if row is None:
        return None
    query = select(parts).where(parts.c.session == id).order_by(parts.c.number)
    found = (await connection.execute(query)).mappings().all()
    return _record(row, tuple(_part(part) for part in found))


def _record(row: Mapping[Any, Any], found: tuple[PartRecord, ...] = ()) -> SessionRecord:
    message = None
    if row["message"] is not None:
        fields = json.loads(row["message"])
        fields["encodings"] = tuple(fields["encodings"])
        if fields["header"] is not None:
            fields["header"] = bytes.fromhex(fields["header"])
        message = Message(**fields)
    until = row["leased_until"]
    return SessionRecord(
        row["id"],
        Plan(**json.loads(row["plan"])),
        _EPOCH + row["created_at"] * _TICK,
        _EPOCH + row["expires_at"] * _TICK,
        row["generation"],
        message,
        found,
        row["owner"],
        None if until is None else _EPOCH + until * _TICK,
    )


def _part(row: Mapping[Any, Any]) -> PartRecord:
    return PartRecord(
        row["number"],
        row["digest"],
        row["size"],
        row["etag"],
        row["stored_size"],
        row["source"],
        row["source_digest"],
    )
