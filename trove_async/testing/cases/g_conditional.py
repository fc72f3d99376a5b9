"""G. Conditions: checked by the backend at the moment of the change, never ignored."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from trove_async.errors import (
    NotModifiedError,
    ObjectNotFoundError,
    PreconditionFailedError,
)
from trove_async.testing.case import case
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness

STALE = "0123456789abcdef"


async def state(h: Harness, key: str) -> tuple[bytes, dict[str, str]]:
    return await h.get(key), dict((await h.store.head(h.bucket, key)).metadata)


@case("K118", "put_if_none_match_star_new", needs=["conditional:create"])
async def put_if_none_match_star_new(h: Harness) -> None:
    info = await h.store.put(h.bucket, "k", b"new", if_none_match="*")
    assert await h.get("k") == b"new"
    assert (await h.store.head(h.bucket, "k")).etag == info.etag
    await h.store.delete(h.bucket, "k")
    await h.store.put(h.bucket, "k", Source(b"again"), if_none_match="*")
    assert await h.get("k") == b"again"


@case("K118", "put_if_none_match_star_existing", needs=["conditional:create"])
async def put_if_none_match_star_existing(h: Harness) -> None:
    await h.put("k", b"old", metadata={"n": "old"})
    for body in (b"new", Source(b"new" * 1000, 100)):
        with h.raises(PreconditionFailedError):
            await h.store.put(h.bucket, "k", body, if_none_match="*", metadata={"n": "new"})
        assert await state(h, "k") == (b"old", {"n": "old"})


@case("K119", "put_if_match_current", needs=["conditional:match"])
async def put_if_match_current(h: Harness) -> None:
    first = await h.put("k", b"1")
    second = await h.store.put(h.bucket, "k", b"2", if_match=first.etag)
    assert await h.get("k") == b"2"
    await h.store.put(h.bucket, "k", Source(b"3"), if_match=second.etag)
    assert await h.get("k") == b"3"


@case("K119", "put_if_match_stale", needs=["conditional:match"])
async def put_if_match_stale(h: Harness) -> None:
    first = await h.put("k", b"1")
    await h.put("k", b"2", metadata={"n": "2"})
    for stale in (first.etag, STALE):
        for body in (b"3", Source(b"3" * 1000, 100)):
            with h.raises(PreconditionFailedError):
                await h.store.put(h.bucket, "k", body, if_match=stale)
            assert await state(h, "k") == (b"2", {"n": "2"})


@case("K120", "put_if_match_missing_object", needs=["conditional:match"])
async def put_if_match_missing_object(h: Harness) -> None:
    with h.raises(PreconditionFailedError, ObjectNotFoundError):
        await h.store.put(h.bucket, "k", b"new", if_match=STALE)
    info = await h.put("k", b"1")
    await h.store.delete(h.bucket, "k")
    with h.raises(PreconditionFailedError, ObjectNotFoundError):
        await h.store.put(h.bucket, "k", b"new", if_match=info.etag)
    assert await h.keys() == []


@case("K121", "put_create_race", needs=["conditional:create"], params=["whole", "streamed"])
async def put_create_race(h: Harness, how: str) -> None:
    """Twenty at once: one wins, and the object is all of the winner's."""

    async def attempt(number: int) -> int | None:
        text = b"%02d" % number * 1000
        body = text if how == "whole" else Source(text, 500, delay=0)
        metadata = {"number": str(number)}
        try:
            await h.store.put(h.bucket, "k", body, if_none_match="*", metadata=metadata)
        except PreconditionFailedError:
            return None
        return number

    won = [n for n in await asyncio.gather(*(attempt(n) for n in range(20))) if n is not None]
    assert len(won) == 1, f"{len(won)} of 20 create-only puts succeeded"
    assert await state(h, "k") == (b"%02d" % won[0] * 1000, {"number": str(won[0])})


@case("K122", "put_cas_counter", needs=["conditional:match", "conditional:create"])
async def put_cas_counter(h: Harness) -> None:
    """Ten tasks, twenty increments each by compare and swap: none is lost."""
    await h.put("n", b"0")

    async def increment() -> None:
        for _ in range(2000):
            async with h.store.get(h.bucket, "n") as reader:
                value, etag = int(await reader.read()), reader.info.etag
            await asyncio.sleep(0)
            body = Source(b"%d" % (value + 1), delay=0)
            try:
                await h.store.put(h.bucket, "n", body, if_match=etag)
            except PreconditionFailedError:
                continue
            return
        raise AssertionError("2000 tries, and another client was always faster")

    async def worker() -> None:
        for _ in range(20):
            await increment()

    await asyncio.gather(*(worker() for _ in range(10)))
    assert await h.get("n") == b"200"


@case("K123", "get_if_none_match_current")
async def get_if_none_match_current(h: Harness) -> None:
    info = await h.put("k", b"body")
    with h.raises(NotModifiedError):
        await h.store.get(h.bucket, "k", if_none_match=info.etag)
    async with h.store.get(h.bucket, "k", if_none_match=STALE) as reader:
        assert await reader.read() == b"body"
    await h.put("k", b"two")
    async with h.store.get(h.bucket, "k", if_none_match=info.etag) as reader:
        assert await reader.read() == b"two"


@case("K124", "get_if_match_stale")
async def get_if_match_stale(h: Harness) -> None:
    first = await h.put("k", b"1")
    second = await h.put("k", b"2")
    for stale in (first.etag, STALE):
        with h.raises(PreconditionFailedError):
            await h.store.get(h.bucket, "k", if_match=stale)
        with h.raises(PreconditionFailedError):
            await h.store.get(h.bucket, "k", if_match=stale, range=slice(0, 1))
    async with h.store.get(h.bucket, "k", if_match=second.etag) as reader:
        assert await reader.read() == b"2"


@case("K125", "get_if_modified_since")
async def get_if_modified_since(h: Harness) -> None:
    info = await h.put("k", b"body")
    past = info.last_modified - timedelta(hours=1)
    async with h.store.get(h.bucket, "k", if_modified_since=past) as reader:
        assert await reader.read() == b"body"
    # One second on: some backends compare whole seconds.
    with h.raises(NotModifiedError):
        await h.store.get(
            h.bucket, "k", if_modified_since=info.last_modified + timedelta(seconds=1)
        )


@case("K126", "delete_if_match_stale", needs=["conditional:match"])
async def delete_if_match_stale(h: Harness) -> None:
    first = await h.put("k", b"1")
    second = await h.put("k", b"2")
    for stale in (first.etag, STALE):
        with h.raises(PreconditionFailedError):
            await h.store.delete(h.bucket, "k", if_match=stale)
        assert await h.get("k") == b"2"
    await h.store.delete(h.bucket, "k", if_match=second.etag)
    assert await h.keys() == []
    with h.raises(PreconditionFailedError, ObjectNotFoundError):
        await h.store.delete(h.bucket, "k", if_match=second.etag)
