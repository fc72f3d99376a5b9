"""I. Buckets: made and deleted whole, never by accident, never mixed up."""

from __future__ import annotations

from trove_async.driver import MultipartDriver, PutOptions
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    InvalidBucketNameError,
    TroveError,
)
from trove_async.testing.case import case
from trove_async.testing.cases.f_copy import NOWHERE
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness

INVALID = {
    "empty": "",
    "dot": ".",
    "two dots": "..",
    "slash": "a/b",
    "capitals and space": "A B",
    "dash first": "-ab",
    "dash last": "ab-",
    "two letters": "ab",
    "64 letters": "a" * 64,
    "address": "192.168.0.1",
    "NUL": "a\0b",
    "dots inside": "a..b",
    "up": "../up",
    "not ASCII": "bücket",
    "newline": "bucket\n",
}


async def names(h: Harness) -> list[str]:
    return [info.name for info in await h.store.list_buckets()]


@case("K133", "bucket_delete_non_empty_refused")
async def bucket_delete_non_empty_refused(h: Harness) -> None:
    await h.put("a/b/c", b"body", metadata={"n": "1"})
    with h.raises(BucketNotEmptyError):
        await h.store.delete_bucket(h.bucket)
    with h.raises(BucketNotEmptyError):
        await h.driver.delete_bucket(h.bucket)
    assert await h.get("a/b/c") == b"body"
    assert dict((await h.store.head(h.bucket, "a/b/c")).metadata) == {"n": "1"}
    await h.store.delete(h.bucket, "a/b/c")
    await h.store.delete_bucket(h.bucket)
    assert h.bucket not in await names(h)


@case("K134", "bucket_delete_non_empty_force")
async def bucket_delete_non_empty_force(h: Harness) -> None:
    other = await h.new_bucket()
    await h.store.put(other, "stays", b"body")
    for number in range(30):
        await h.put(f"a/{number % 3}/{number}")
    await h.store.delete_bucket(h.bucket, force=True)
    assert h.bucket not in await names(h)
    with h.raises(BucketNotFoundError):
        await h.get("a/0/0")
    assert await h.store.get_bytes(other, "stays") == b"body"
    empty = await h.new_bucket()
    await h.store.delete_bucket(empty, force=True)
    assert empty not in await names(h)


@case("K135", "bucket_create_duplicate")
async def bucket_create_duplicate(h: Harness) -> None:
    await h.put("k", b"body")
    with h.raises(BucketExistsError):
        await h.store.create_bucket(h.bucket)
    assert await h.get("k") == b"body"
    assert (await names(h)).count(h.bucket) == 1


@case("K136", "put_to_missing_bucket")
async def put_to_missing_bucket(h: Harness) -> None:
    for body in (b"body", Source(b"body" * 1000, 100)):
        with h.raises(BucketNotFoundError) as raised:
            await h.store.put(NOWHERE, "k", body)
        assert isinstance(raised.error, TroveError) and raised.error.bucket == NOWHERE
    assert NOWHERE not in await names(h), "the put made the bucket"


@case("K137", "bucket_invalid_names", params=INVALID, stacks=False)
async def bucket_invalid_names(h: Harness, name: str) -> None:
    """Refused before the backend is asked anything."""
    before = h.calls
    for attempt in (
        lambda: h.store.create_bucket(name),
        lambda: h.store.delete_bucket(name),
        lambda: h.store.put(name, "k", b"body"),
        lambda: h.store.get_bytes(name, "k"),
        lambda: h.store.head(name, "k"),
        lambda: h.store.delete(name, "k"),
        lambda: h.store.delete_many(name, ["k"]),
        lambda: h.store.list_page(name),
        lambda: h.store.copy(name, "k", h.bucket, "k"),
        lambda: h.store.copy(h.bucket, "k", name, "k"),
    ):
        with h.raises(InvalidBucketNameError):
            await attempt()
    assert h.calls == before, "the backend was asked"


@case("K138", "bucket_list_contains_after_create")
async def bucket_list_contains_after_create(h: Harness) -> None:
    made = [await h.new_bucket() for _ in range(4)]
    found = await names(h)
    assert set(made) | {h.bucket} <= set(found)
    assert found == sorted(found), "not in order"
    assert len(found) == len(set(found))


@case("K138", "bucket_list_not_after_delete")
async def bucket_list_not_after_delete(h: Harness) -> None:
    made = await h.new_bucket()
    await h.store.delete_bucket(made)
    found = await names(h)
    assert made not in found and h.bucket in found
    with h.raises(BucketNotFoundError):
        await h.store.put(made, "k", b"body")
    with h.raises(BucketNotFoundError):
        await h.store.list_page(made)


@case("K139", "bucket_delete_missing")
async def bucket_delete_missing(h: Harness) -> None:
    for force in (False, True):
        with h.raises(BucketNotFoundError) as raised:
            await h.store.delete_bucket(NOWHERE, force=force)
        assert isinstance(raised.error, TroveError) and raised.error.bucket == NOWHERE
    with h.raises(BucketNotFoundError):
        await h.driver.delete_bucket(NOWHERE)


@case("K140", "bucket_delete_then_recreate_is_empty")
async def bucket_delete_then_recreate_is_empty(h: Harness) -> None:
    for number in range(5):
        await h.put(f"a/{number}", b"old", metadata={"old": "x" * 500})
    await h.store.delete_bucket(h.bucket, force=True)
    await h.store.create_bucket(h.bucket)
    assert await h.keys() == []
    assert not await h.store.exists(h.bucket, "a/0")
    await h.put("a/0", b"new")
    assert await h.get("a/0") == b"new"
    assert dict((await h.store.head(h.bucket, "a/0")).metadata) == {}
    versions = h.meets("versioning") and await h.store.versions(h.bucket, "a/0")
    assert not versions or len(versions) == 1, "versions of the deleted bucket are there"


@case("K141", "bucket_isolation")
async def bucket_isolation(h: Harness) -> None:
    """Also of buckets whose name begins with the other's."""
    longer = h.bucket + "2"
    await h.store.create_bucket(longer)
    try:
        await h.put("k", b"one")
        await h.store.put(longer, "k", b"two")
        await h.store.put(longer, "2/k", b"three")
        assert await h.get("k") == b"one"
        assert await h.store.get_bytes(longer, "k") == b"two"
        assert await h.keys() == ["k"]
        assert sorted([e.key for e in (await h.store.list_page(longer)).objects]) == ["2/k", "k"]
        await h.store.delete(h.bucket, "k")
        assert await h.store.get_bytes(longer, "k") == b"two"
        await h.store.delete_bucket(h.bucket)
        assert await h.store.get_bytes(longer, "2/k") == b"three"
    finally:
        await h.store.delete_bucket(longer, force=True)


@case("K142", "bucket_delete_leaves_no_multipart", needs=["multipart"], stacks=False)
async def bucket_delete_leaves_no_multipart(h: Harness) -> None:
    multipart = h.capable(MultipartDriver)
    assert multipart is not None
    upload = await multipart.initiate_multipart(h.bucket, "k", PutOptions())
    await multipart.upload_part(h.bucket, "k", upload, 1, Source(b"part"), 4)
    try:
        await h.store.delete_bucket(h.bucket)
    except BucketNotEmptyError:
        assert upload in [u.upload_id for u in await multipart.list_uploads(h.bucket, "")]
        return
    with h.raises(TroveError):
        await multipart.upload_part(h.bucket, "k", upload, 2, Source(b"part"), 4)
    await h.store.create_bucket(h.bucket)
    assert await multipart.list_uploads(h.bucket, "") == [], "the upload outlived its bucket"
    with h.raises(TroveError):
        await multipart.list_parts(h.bucket, "k", upload)
