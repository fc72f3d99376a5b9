"""F. Copy and move: all of the object, atomically, and never onto nothing."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from trove_async.errors import (
    BucketNotFoundError,
    InvalidKeyError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
)
from trove_async.model import MiB
from trove_async.testing.case import case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source, fail
from trove_async.testing.harness import Harness
from trove_async.testing.setups import faulty_place

META = {"a": "1", "b": "zwei"}
NOWHERE = "trove-there-is-none"
ODD = ["%48%49", "100%", "%2F", "a?b#c&d=e+f", "a+b", "a b", "a\\b", 'a:b*c"d<e>f|g', "é 漢/🙀"]


async def put_full(h: Harness, key: str, body: bytes = b"body") -> None:
    await h.store.put(h.bucket, key, body, content_type="text/x", metadata=META)


async def whole(h: Harness, key: str, bucket: str | None = None) -> tuple[bytes, str, object]:
    """(body, content type, metadata), as get and head both say."""
    async with h.store.get(bucket or h.bucket, key) as reader:
        found = (await reader.read(), reader.info.content_type, dict(reader.info.metadata))
    info = await h.store.head(bucket or h.bucket, key)
    assert (len(found[0]), found[1], found[2]) == (
        info.size,
        info.content_type,
        dict(info.metadata),
    ), "head and get differ"
    return found


@case("K104", "copy_same_bucket")
async def copy_same_bucket(h: Harness) -> None:
    await put_full(h, "a")
    before = await h.store.head(h.bucket, "a")
    info = await h.store.copy(h.bucket, "a", h.bucket, "b")
    assert (info.key, info.size) == ("b", 4)
    assert await whole(h, "b") == (b"body", "text/x", META)
    assert await whole(h, "a") == (b"body", "text/x", META)
    assert (await h.store.head(h.bucket, "a")).etag == before.etag, "the source was touched"
    assert (await h.store.head(h.bucket, "b")).etag == info.etag
    assert sorted(await h.keys()) == ["a", "b"]


@case("K105", "copy_cross_bucket")
async def copy_cross_bucket(h: Harness) -> None:
    other = await h.new_bucket()
    await put_full(h, "a")
    await h.store.copy(h.bucket, "a", other, "a/deep/b")
    assert await whole(h, "a/deep/b", other) == (b"body", "text/x", META)
    assert await whole(h, "a") == (b"body", "text/x", META)
    assert await h.keys() == ["a"]


@case("K106", "copy_onto_self")
async def copy_onto_self(h: Harness) -> None:
    body = noise(300_000)
    await put_full(h, "a", body)
    await h.store.copy(h.bucket, "a", h.bucket, "a")
    assert await whole(h, "a") == (body, "text/x", META)
    assert await h.keys() == ["a"]


@case("K106", "move_onto_self")
async def move_onto_self(h: Harness) -> None:
    await put_full(h, "a")
    await h.store.move(h.bucket, "a", h.bucket, "a")
    assert await whole(h, "a") == (b"body", "text/x", META)


@case("K107", "copy_onto_self_new_metadata")
async def copy_onto_self_new_metadata(h: Harness) -> None:
    body = noise(300_000)
    await put_full(h, "a", body)
    await h.store.copy(h.bucket, "a", h.bucket, "a", metadata={"n": "new"}, content_type="text/y")
    assert await whole(h, "a") == (body, "text/y", {"n": "new"})


@case("K108", "copy_metadata_override")
async def copy_metadata_override(h: Harness) -> None:
    """It replaces all of it; an empty one empties it; the content type stands by itself."""
    await put_full(h, "a")
    await h.store.copy(h.bucket, "a", h.bucket, "b", metadata={"b": "neu", "c": "3"})
    assert await whole(h, "b") == (b"body", "text/x", {"b": "neu", "c": "3"})
    await h.store.copy(h.bucket, "a", h.bucket, "b", metadata={})
    assert await whole(h, "b") == (b"body", "text/x", {})
    await h.store.copy(h.bucket, "a", h.bucket, "b", content_type="image/png")
    assert await whole(h, "b") == (b"body", "image/png", META)
    assert await whole(h, "a") == (b"body", "text/x", META)


@case("K109", "copy_missing_source", params=["copy", "move"])
async def copy_missing_source(h: Harness, verb: str) -> None:
    transfer = h.store.copy if verb == "copy" else h.store.move
    await put_full(h, "there")
    with h.raises(ObjectNotFoundError) as raised:
        await transfer(h.bucket, "missing", h.bucket, "there")
    error = raised.error
    assert isinstance(error, ObjectNotFoundError)
    assert (error.bucket, error.key) == (h.bucket, "missing"), "the error names the source"
    assert await whole(h, "there") == (b"body", "text/x", META)
    with h.raises(ObjectNotFoundError):
        await transfer(h.bucket, "missing", h.bucket, "missing")
    with h.raises(ObjectNotFoundError):
        await transfer(h.bucket, "missing", h.bucket, "new", metadata={"x": "y"})
    assert await h.keys() == ["there"]


@case("K110", "copy_missing_source_bucket", params=["copy", "move"])
async def copy_missing_source_bucket(h: Harness, verb: str) -> None:
    transfer = h.store.copy if verb == "copy" else h.store.move
    with h.raises(BucketNotFoundError) as raised:
        await transfer(NOWHERE, "a", h.bucket, "a")
    assert isinstance(raised.error, TroveError) and raised.error.bucket == NOWHERE
    assert await h.keys() == []


@case("K110", "copy_missing_dest_bucket", params=["copy", "move"])
async def copy_missing_dest_bucket(h: Harness, verb: str) -> None:
    transfer = h.store.copy if verb == "copy" else h.store.move
    await put_full(h, "a")
    with h.raises(BucketNotFoundError) as raised:
        await transfer(h.bucket, "a", NOWHERE, "a")
    assert isinstance(raised.error, TroveError) and raised.error.bucket == NOWHERE
    assert await whole(h, "a") == (b"body", "text/x", META)
    assert NOWHERE not in [info.name for info in await h.store.list_buckets()]


@case("K111", "copy_overwrite_existing")
async def copy_overwrite_existing(h: Harness) -> None:
    """Nothing of the old destination is left, whichever of the two is longer."""
    for old, new in ((noise(200_000, 1), b"short"), (b"short", noise(200_000, 2))):
        await h.store.put(h.bucket, "b", old, content_type="text/old", metadata={"old": "x"})
        await put_full(h, "a", new)
        await h.store.copy(h.bucket, "a", h.bucket, "b")
        assert await whole(h, "b") == (new, "text/x", META)
    assert sorted(await h.keys()) == ["a", "b"]


@case("K112", "copy_empty_object")
async def copy_empty_object(h: Harness) -> None:
    await put_full(h, "a", b"")
    assert (await h.store.copy(h.bucket, "a", h.bucket, "b")).size == 0
    assert await whole(h, "b") == (b"", "text/x", META)


@case("K112", "copy_large")
async def copy_large(h: Harness) -> None:
    """More than one part."""
    part = h.features.min_part_size or 4 * MiB
    body = noise(2 * part + 17)
    await h.store.put(h.bucket, "a", Source(body, MiB), metadata=META)
    await h.store.copy(h.bucket, "a", h.bucket, "b")
    assert await h.get("b") == body
    await h.store.move(h.bucket, "b", h.bucket, "c")
    assert await h.get("c") == body
    assert sorted(await h.keys()) == ["a", "c"]


@case("K113", "copy_odd_keys", params=ODD)
async def copy_odd_keys(h: Harness, key: str) -> None:
    """The source's name travels in a header or a path of some backends, and must be quoted."""
    try:
        await h.put(key, key.encode())
    except InvalidKeyError:
        return  # the backend cannot hold it, and says so
    await h.store.copy(h.bucket, key, h.bucket, "plain")
    assert await h.get("plain") == key.encode()
    await h.store.copy(h.bucket, "plain", h.bucket, key + "2")
    assert await h.get(key + "2") == key.encode()
    await h.store.move(h.bucket, key, h.bucket, key + "3")
    assert sorted(await h.keys()) == sorted([key + "2", key + "3", "plain"])


@case("K114", "copy_if_not_exists", needs=["conditional:create"])
async def copy_if_not_exists(h: Harness) -> None:
    await put_full(h, "a")
    await h.store.copy(h.bucket, "a", h.bucket, "new", if_none_match="*")
    assert await whole(h, "new") == (b"body", "text/x", META)
    await h.put("there", b"old", metadata={"old": "x"})
    for transfer in (h.store.copy, h.store.move):
        with h.raises(PreconditionFailedError):
            await transfer(h.bucket, "a", h.bucket, "there", if_none_match="*")
    assert await h.get("there") == b"old"
    assert dict((await h.store.head(h.bucket, "there")).metadata) == {"old": "x"}
    assert await whole(h, "a") == (b"body", "text/x", META)


@case("K115", "copy_atomic_for_readers")
async def copy_atomic_for_readers(h: Harness) -> None:
    """Readers of the destination see one source or the other, with its metadata."""
    size = 300_000
    for letter in "ab":
        await h.put(letter, letter.encode() * size, metadata={"letter": letter})
    await h.store.copy(h.bucket, "a", h.bucket, "dest")
    done = False
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not done:
            async with h.store.get(h.bucket, "dest") as reader:
                letter = reader.info.metadata["letter"]
                body = await reader.read()
            assert body == letter.encode() * size, f"torn: {letter}, {body[:1]!r}..{body[-1:]!r}"
            reads += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for _ in range(4):
            group.create_task(read())
        try:
            for number in range(24):
                await h.store.copy(h.bucket, "ab"[number % 2], h.bucket, "dest")
                await asyncio.sleep(0)
        finally:
            done = True
    assert reads >= 4


@case("K116", "copy_independent")
async def copy_independent(h: Harness) -> None:
    await put_full(h, "a")
    await h.store.copy(h.bucket, "a", h.bucket, "b")
    await h.put("a", b"changed", metadata={"n": "new"})
    assert await whole(h, "b") == (b"body", "text/x", META)
    await h.store.delete(h.bucket, "a")
    assert await whole(h, "b") == (b"body", "text/x", META)
    await h.put("b", b"other")
    await h.store.copy(h.bucket, "b", h.bucket, "c")
    await h.store.delete(h.bucket, "b")
    assert await h.get("c") == b"other"


@case("K117", "move_not_lost")
async def move_not_lost(h: Harness) -> None:
    """Moved to and fro, the object is always there under one of its two names."""
    await put_full(h, "a", b"x" * 100_000)
    done = False
    looks = 0

    async def look() -> None:
        nonlocal looks
        while not done:
            for _ in range(3):  # it may move on between two looks
                seen = [key for key in ("a", "b") if await h.store.exists(h.bucket, key)]
                if seen:
                    break
            else:
                raise AssertionError("the object is under neither name")
            looks += 1
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        try:
            for number in range(30):
                pair = ("a", "b") if number % 2 == 0 else ("b", "a")
                await h.store.move(h.bucket, pair[0], h.bucket, pair[1])
                assert not await h.store.exists(h.bucket, pair[0]), "the source is still there"
                assert await h.store.exists(h.bucket, pair[1])
                await asyncio.sleep(0)
        finally:
            done = True
    assert looks
    assert await whole(h, "a") == (b"x" * 100_000, "text/x", META)


@case("K117", "move_is_one_step", needs=["move"])
async def move_is_one_step(h: Harness) -> None:
    """With a move of the backend's own: exactly one of the two names, whenever one looks."""
    if not h.bare:
        h.drop("transforms may have the move streamed")
    for number in range(20):
        source, target = f"{number}/a", f"{number}/b"
        await put_full(h, source)
        moving = asyncio.create_task(h.store.move(h.bucket, source, h.bucket, target))
        while not moving.done():
            gone = not await h.store.exists(h.bucket, source)
            there = await h.store.exists(h.bucket, target)
            assert there or not gone, "the source was gone before the destination was there"
            still = await h.store.exists(h.bucket, source)
            assert not (there and still), "both are there"
            await asyncio.sleep(0)
        await moving
        assert await whole(h, target) == (b"body", "text/x", META)


@case("K117", "move_keeps_source_on_failure")
async def move_keeps_source_on_failure(h: Harness) -> None:
    """When the answer never comes or the copy fails, one of the two holds the object."""
    for verb in ("move", "copy", "put", "delete"):
        for after in (False, True):
            place, driver = await faulty_place(h)
            await place.store.put(place.bucket, "a", b"body")
            driver.add(fail(verb, lambda: UnavailableError("gone"), after=after))
            with suppress(UnavailableError):
                await place.store.move(place.bucket, "a", place.bucket, "b")
            driver.faults.clear()
            found = [key for key in ("a", "b") if await place.store.exists(place.bucket, key)]
            assert found, f"lost, when {verb} failed"
            for key in found:
                assert await place.get(key) == b"body"
