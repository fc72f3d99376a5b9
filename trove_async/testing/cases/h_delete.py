"""H. Delete: what is gone is gone everywhere, and a missing key is no error."""

from __future__ import annotations

import asyncio

from trove_async.errors import BucketNotFoundError, InvalidKeyError, ObjectNotFoundError
from trove_async.testing.case import case
from trove_async.testing.harness import Harness

NOWHERE = "trove-there-is-none"


@case("K127", "delete_existing")
async def delete_existing(h: Harness) -> None:
    await h.put("k", b"body", metadata={"a": "1"})
    await h.put("other", b"stays")
    await h.store.delete(h.bucket, "k")
    with h.raises(ObjectNotFoundError):
        await h.get("k")
    with h.raises(ObjectNotFoundError):
        await h.store.head(h.bucket, "k")
    assert not await h.store.exists(h.bucket, "k")
    assert await h.keys() == ["other"]
    await h.put("k", b"again")
    assert dict((await h.store.head(h.bucket, "k")).metadata) == {}, "metadata of the deleted one"
    assert await h.get("other") == b"stays"


@case("K128", "delete_missing_idempotent", params=["k", "a/b/c", "%25", "dir/"])
async def delete_missing_idempotent(h: Harness, key: str) -> None:
    await h.put("a/b", b"not a folder")
    for _ in range(2):
        try:
            await h.store.delete(h.bucket, key)
        except InvalidKeyError:
            return  # the backend can hold no such key, and says so
    assert await h.keys() == ["a/b"]


@case("K129", "delete_missing_bucket")
async def delete_missing_bucket(h: Harness) -> None:
    with h.raises(BucketNotFoundError):
        await h.store.delete(NOWHERE, "k")
    with h.raises(BucketNotFoundError):
        for result in await h.store.delete_many(NOWHERE, ["k"]):
            if result.error is not None:
                raise result.error


@case("K130", "batch_delete_mixed")
async def batch_delete_mixed(h: Harness) -> None:
    """One result per key, in the order given, whatever the single ones come to."""
    odd = ["%48%49", "a?b#c", "a+b", "a b", "<&>\"'", "é🙀", "x/y/z"]
    stored: list[str] = []
    for key in ["one", *odd, "stays", "two"]:
        try:
            await h.put(key, b"")
        except InvalidKeyError:
            continue
        stored.append(key)
    gone = [key for key in stored if key != "stays"]
    asked = ["missing", *gone[::-1], "", "also/missing", "nul\0"]
    results = await h.store.delete_many(h.bucket, asked)
    assert [result.key for result in results] == asked
    for result in results:
        if result.key in ("", "nul\0"):
            assert isinstance(result.error, InvalidKeyError), f"{result.key!r}: {result.error!r}"
        else:
            assert result.error is None, f"{result.key!r}: {result.error!r}"
    assert await h.keys() == ["stays"]


@case("K131", "batch_delete_2500", timeout=120)
async def batch_delete_2500(h: Harness) -> None:
    """More than any backend takes at once."""
    keys = [f"{number % 7}/{number:04}" for number in range(2500)]

    async def fill(some: list[str]) -> None:
        for key in some:
            await h.store.put(h.bucket, key, b"")

    await asyncio.gather(*(fill(keys[start::32]) for start in range(32)), h.put("stays"))
    results = await h.store.delete_many(h.bucket, keys)
    assert [result.key for result in results] == keys
    assert [result.error for result in results if result.error is not None] == []
    assert await h.keys() == ["stays"]


@case("K132", "batch_delete_empty_and_duplicates")
async def batch_delete_empty_and_duplicates(h: Harness) -> None:
    await h.put("a")
    await h.put("b")
    assert await h.store.delete_many(h.bucket, []) == []
    assert sorted(await h.keys()) == ["a", "b"]
    results = await h.store.delete_many(h.bucket, ["a", "a", "c", "a"])
    assert [(result.key, result.error) for result in results] == [
        ("a", None),
        ("a", None),
        ("c", None),
        ("a", None),
    ]
    assert await h.keys() == ["b"]
