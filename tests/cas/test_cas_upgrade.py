"""An index that was made before content was stored in chunks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.dialects import sqlite

import trove_async as trove
from tests.cas.contents import name_of, read
from tests.catalog.conftest import new_database
from trove_async.catalog import schema
from trove_async.catalog.sql_collecting import IS_CHUNK


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_an_older_index_is_brought_up_to_date(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/c.sqlite"
    if kind == "postgres":
        url = await new_database(request.getfixturevalue("postgres"))
    target = f"file://{tmp_path}/root?durability=none"
    with monkeypatch.context() as before:
        before.setattr("trove_async.catalog.database.MIGRATIONS", schema.MIGRATIONS[:2])
        async with trove.open(target, catalog=url) as store:
            opened = store.cas()._open_index
            await (await opened()).now()  # the tables are there
    async with trove.open(target, catalog=url) as store:
        cas = store.cas(chunking="fastcdc")
        data = bytes(range(256)) * 8000
        digest = (await cas.store(data, owner="a")).digest
        assert digest == name_of(data) and await read(cas, digest) == data
        assert (await cas.stat(digest)).chunked


def test_the_chunks_of_a_manifest_are_found_by_an_index() -> None:
    """And not among the references of everybody."""
    connection = sqlite3.connect(":memory:")
    for statements in schema.MIGRATIONS:
        for statement in statements:
            connection.execute(statement)
    query = select(schema.refs.c.digest).where(
        schema.refs.c.space == "cas", schema.refs.c.owner == "manifest:x", IS_CHUNK
    )
    compiled = query.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})
    plan = connection.execute(f"EXPLAIN QUERY PLAN {compiled}").fetchall()
    assert "trove_cas_ref_chunk (space=? AND owner=?)" in plan[0][3]
    connection.close()
