"""An index that was made before content was stored in chunks."""

from __future__ import annotations

from pathlib import Path

import pytest

import trove_async as trove
from tests.cas.contents import name_of, read
from tests.catalog.conftest import new_database
from trove_async.catalog import schema


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
