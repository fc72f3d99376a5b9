"""What writers ask of an index in SQLite, carried out in one visit of its writer thread.

By plain statements: through the asynchronous engine each of them is a visit of its own, and a
store of small content asks for two transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from trove_async.catalog.blobs import Blob, Books, Claim, Order, carry_out
from trove_async.errors import TroveError

__all__ = ["carry_out_all", "find"]

_NAMES = (
    "digest, gen, size, stored_size, state, refs, zero_since, state_since, writer_lease, damaged, "
    "manifest"
)
_ROW = f"SELECT {_NAMES} FROM trove_cas_blob WHERE space = ? AND digest = ?"
_FIND = (
    f"SELECT {_NAMES}, EXISTS (SELECT 1 FROM trove_cas_pin AS p WHERE p.space = b.space "
    "AND p.digest = b.digest AND (p.expires_at IS NULL OR p.expires_at > ?)) "
    "FROM trove_cas_blob AS b WHERE space = ? AND digest = ?"
)
_HAS_REF = "SELECT 1 FROM trove_cas_ref WHERE space = ? AND digest = ? AND owner = ?"
_SAVE = f"REPLACE INTO trove_cas_blob (space, {_NAMES}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_REF = "INSERT INTO trove_cas_ref (space, digest, owner) VALUES (?, ?, ?)"
_DROP_REF = "DELETE FROM trove_cas_ref WHERE space = ? AND digest = ? AND owner = ?"
_HAS_UPLOAD = "SELECT 1 FROM trove_cas_upload WHERE space = ? AND id = ?"
_LET_GO = "INSERT INTO trove_cas_upload (space, id, tmp_key, lease_expires) VALUES (?, ?, '', ?)"
_FORGET = "DELETE FROM trove_cas_upload WHERE space = ? AND id = ?"

Answers = Sequence[Claim | bool | Exception | None]


def carry_out_all(
    connection: sqlite3.Connection, space: str, orders: Sequence[Order], ticks: Callable[[], int]
) -> Answers:
    """One transaction; durable when this returns."""
    cursor = connection.cursor()
    cursor.execute("BEGIN IMMEDIATE")
    try:
        answers = _carried_out(cursor, space, orders, ticks())
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    cursor.execute("COMMIT")
    return answers


def find(connection: sqlite3.Connection, space: str, digest: str, now: int) -> Blob | None:
    row = connection.execute(_FIND, (now, space, digest)).fetchone()
    return None if row is None else _blob(row, bool(row[11]))


def _carried_out(cursor: sqlite3.Cursor, space: str, orders: Sequence[Order], now: int) -> Answers:
    rows: dict[str, Blob | None] = {}
    before: dict[str, tuple[object, ...] | None] = {}
    known: set[tuple[str, str]] = set()
    asked: set[tuple[str, str]] = set()
    standing: set[str] = set()
    for order in orders:
        if order.is_manifest and order.upload is not None:
            found = cursor.execute(_HAS_UPLOAD, (space, order.upload)).fetchone()
            standing |= set() if found is None else {order.upload}
        digest = order.digest
        if digest not in rows:
            found = cursor.execute(_ROW, (space, digest)).fetchone()
            before[digest] = found
            rows[digest] = None if found is None else _blob(found)
        pair = (order.owner, digest)
        if before[digest] is not None and pair not in asked:
            asked.add(pair)
            if cursor.execute(_HAS_REF, (space, digest, order.owner)).fetchone() is not None:
                known.add(pair)
    books = Books(set(known), standing)
    then = books.refs
    answers: list[Claim | bool | Exception | None] = []
    for order in orders:
        try:
            rows[order.digest], answer = carry_out(order, rows[order.digest], books, now)
        except TroveError as exc:
            answers.append(exc)
            continue
        if answer is True and order.upload is not None:
            cursor.execute(_FORGET, (space, order.upload))
        answers.append(answer)
    changed = [
        (space, *values)
        for digest, blob in rows.items()
        if blob is not None and (values := _values(blob)) != before[digest]
    ]
    cursor.executemany(_SAVE, changed)
    cursor.executemany(_ADD_REF, [(space, digest, owner) for owner, digest in then - known])
    cursor.executemany(_DROP_REF, [(space, digest, owner) for owner, digest in known - then])
    cursor.executemany(_LET_GO, [(space, manifest, now) for manifest in books.let_go])
    return answers


def _blob(row: tuple[Any, ...], pinned: bool = False) -> Blob:
    digest, gen, size, stored, state, refs, zero, since, lease, damaged, manifest = row[:11]
    whether = bool(damaged), manifest, pinned
    return Blob(digest, gen, size, stored, state, refs, zero, since, lease, *whether)


def _values(blob: Blob) -> tuple[object, ...]:
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
