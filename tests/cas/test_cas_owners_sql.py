"""What every index must answer alike, also on a database whose language orders text otherwise."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

import trove_async as trove
from tests.cas.contents import name_of
from tests.servers.postgres import Postgres
from trove_async import BlobNotFoundError
from trove_async.cas import CAS

OWNERS = ["a/1", "a/2", "a-3", "A/1", "b", "a", "ä/1"]


async def check(cas: CAS) -> None:
    one = (await cas.store(b"one")).digest
    two = (await cas.store(b"two", owner="x")).digest
    for owner in OWNERS:
        await cas.retain(one, owner=owner)
        await cas.retain(one, owner=owner)
        await cas.retain(two, owner=owner)
    assert (await cas.stat(one)).references == len(OWNERS) + 1
    both = sorted([one, two])
    assert [pair async for pair in cas.owners("a/")] == [
        (owner, digest) for owner in ("a/1", "a/2") for digest in both
    ]
    everything = sorted([(o, d) for o in OWNERS for d in both] + [("x", two)])
    found = [pair async for pair in cas.owners("") if not pair[0].startswith("anon:")]
    assert found == everything
    with pytest.raises(BlobNotFoundError):
        await cas.retain(name_of(b"never"), owner="a")
    await cas.release(one)
    with pytest.raises(trove.CasInvariantError):
        await cas.release(one)


async def test_retain_and_owners_are_alike_on_every_index(cas: CAS) -> None:
    await check(cas)


async def test_pages_of_owners_go_on_where_the_last_ended(
    cas: CAS, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trove_async.cas.store._PAGE", 2)
    await check(cas)


async def test_the_language_of_the_database_changes_nothing(postgres: Postgres) -> None:
    asyncpg: Any = import_module("asyncpg")
    connection = await asyncpg.connect(postgres.url())
    try:
        await connection.execute(
            "CREATE DATABASE cas_icu LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0"
        )
    finally:
        await connection.close()
    async with trove.open("mem://", catalog=postgres.url("cas_icu")) as store:
        await check(store.cas())
