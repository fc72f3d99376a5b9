"""Reads, metadata as it was given, copies, listings, versions and rules."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

import aiohttp
import pytest

from tests.drivers.gcs.place import Place, opened, settled
from tests.servers import proxy as faults
from tests.servers.gcs import Server
from trove_async import (
    NotModifiedError,
    ObjectInfo,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
    VersionNotFoundError,
)
from trove_async._chunks import OneChunk
from trove_async.driver import CopyOptions, GetOptions, ListOptions, PutOptions
from trove_async.errors import (
    BucketNotFoundError,
    ChecksumMismatchError,
    InvalidKeyError,
    InvalidTokenError,
    ObjectChangedError,
)
from trove_async.model import LifecycleRule, MiB, ObjectRef

ODD_VALUES = {"plain": "a b", "unicode": "é 漢", "edges": "  x ", "percent": "100%41", "empty": ""}


async def test_a_read_is_one_request(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"body", metadata={"a": "b c"})
    await place.store.head(place.bucket, "k")  # a token is at hand
    place.proxy.requests.clear()
    async with place.store.get(place.bucket, "k") as reader:
        assert await reader.read() == b"body" and dict(reader.info.metadata) == {"a": "b c"}
    assert await place.store.get_bytes(place.bucket, "k", range=slice(-2, None)) == b"dy"
    assert len(place.proxy.requests) == 2


@pytest.mark.parametrize("is_xml", [True, False])
async def test_metadata_is_the_same_from_put_get_head_and_list(gcs: Server, is_xml: bool) -> None:
    async with opened(gcs, xml_reads=is_xml) as place:
        put = await place.driver.put(place.bucket, "k", *_body(b"body", ODD_VALUES))
        raw = await place.driver.get(place.bucket, "k", GetOptions())
        await raw.body.aclose()
        page = await place.driver.list(place.bucket, ListOptions())
        head = await place.store.head(place.bucket, "k")
    assert dict(put.metadata) == dict(head.metadata) == ODD_VALUES
    assert put == raw.info == page.objects[0], "and nothing of how it is stored shows"


def _body(data: bytes, metadata: dict[str, str]) -> tuple[OneChunk, PutOptions]:
    return OneChunk(data), PutOptions(metadata=metadata, size=len(data))


async def test_values_that_a_header_would_change_survive_copies(place: Place) -> None:
    await place.driver.put(place.bucket, "k", *_body(b"body", ODD_VALUES))
    await place.store.copy(place.bucket, "k", place.bucket, "same")
    await place.store.copy(place.bucket, "k", place.bucket, "plain", metadata={"a": "b"})
    for key, wanted in (("same", ODD_VALUES), ("plain", {"a": "b"})):
        async with place.store.get(place.bucket, key) as reader:
            assert dict(reader.info.metadata) == wanted


async def test_an_object_of_another_tool_is_read_with_its_metadata(place: Place) -> None:
    """With the mark of ours missing, non-ASCII and percent signs still show the way."""
    token = await place.driver._now().client.tokens.current()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        base = place.server.endpoint
        url = f"{base}/upload/storage/v1/b/{place.bucket}/o?uploadType=media&name=k"
        await session.post(url, data=b"theirs", headers={"Content-Type": "text/x"})
        await session.patch(
            f"{base}/storage/v1/b/{place.bucket}/o/k", json={"metadata": {"Name": "é 5%"}}
        )
    async with place.store.get(place.bucket, "k") as reader:
        assert await reader.read() == b"theirs"
        assert dict(reader.info.metadata) == {"name": "é 5%"}
        assert reader.info.content_type == "text/x"


async def test_what_is_stored_packed_comes_as_it_is_stored(place: Place) -> None:
    """GCS unpacks ``Content-Encoding: gzip`` for clients that do not say they want it packed."""
    token = await place.driver._now().client.tokens.current()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session:
        base = place.server.endpoint
        url = f"{base}/upload/storage/v1/b/{place.bucket}/o?uploadType=media&name=k"
        await session.post(url, data=b"not really gzip", headers={"Content-Type": "text/x"})
        answer = await session.patch(
            f"{base}/storage/v1/b/{place.bucket}/o/k", json={"contentEncoding": "gzip"}
        )
        assert answer.status == 200
    assert await place.store.get_bytes(place.bucket, "k") == b"not really gzip"
    info = await place.store.copy(place.bucket, "k", place.bucket, "c", metadata={"a": "b"})
    assert dict(info.metadata) == {"a": "b"}
    found = await place.driver._now().client.json(
        "GET", f"/storage/v1/b/{place.bucket}/o/c", place.bucket, "c"
    )
    assert found["contentEncoding"] == "gzip", "a copy with other metadata keeps the rest"


async def test_conditions_of_reads(place: Place) -> None:
    old = await place.store.put(place.bucket, "k", b"old")
    new = await place.store.put(place.bucket, "k", b"new")
    for wrong in (old.etag, "nonsense", "0"):
        with pytest.raises(PreconditionFailedError):
            await place.store.get(place.bucket, "k", if_match=wrong)
    for known in (new.etag, "*"):
        with pytest.raises(NotModifiedError):
            await place.store.get(place.bucket, "k", if_none_match=known)
    with pytest.raises(NotModifiedError):
        await place.store.get(place.bucket, "k", if_modified_since=new.last_modified)
    for conditions in (
        {"if_match": new.etag},
        {"if_match": "*"},
        {"if_none_match": old.etag},
        {"if_none_match": "nonsense"},
        {"if_modified_since": new.last_modified - timedelta(seconds=1)},
    ):
        async with place.store.get(place.bucket, "k", **conditions) as reader:
            assert await reader.read() == b"new" and reader.info.etag == new.etag
    assert settled() == []


async def test_a_changed_byte_of_a_whole_read_is_noticed_without_a_record(place: Place) -> None:
    body = secrets.token_bytes(MiB)
    await place.beside.put(place.bucket, "k", body, raw=True)
    place.proxy.add(faults.corrupt("down", at=MiB // 2, when="GET"))
    raw = await place.driver.get(place.bucket, "k", GetOptions())
    got = b""
    with pytest.raises(ChecksumMismatchError):
        async for chunk in raw.body:
            got += bytes(chunk)
    assert len(got) < MiB, "the last bytes are not handed out"
    await raw.body.aclose()


async def test_names_that_gcs_refuses_are_refused_before_anything_is_sent(place: Place) -> None:
    place.proxy.requests.clear()
    for key in (".", "..", "a\nb", "a\rb", ".well-known/acme-challenge/x"):
        for attempt in (
            place.store.put(place.bucket, key, b""),
            place.store.head(place.bucket, key),
            place.store.delete(place.bucket, key),
        ):
            with pytest.raises(InvalidKeyError):
                await attempt
    assert place.proxy.requests == []
    await place.beside.put(place.bucket, "k", b"")
    assert await place.beside.exists(place.bucket, "k"), "no request named the bucket itself"


@pytest.mark.parametrize("key", ["a/../b", "a%2F..%2Fb", "?x=1#y", "//", "100%", "é/漢", "a+b c"])
async def test_keys_are_encoded_once_on_both_apis(gcs: Server, key: str) -> None:
    for is_xml in (True, False):
        async with opened(gcs, xml_reads=is_xml) as place:
            await place.store.put(place.bucket, key, key.encode())
            assert await place.store.get_bytes(place.bucket, key) == key.encode()
            page = await place.store.list_page(place.bucket)
            assert [info.key for info in page.objects] == [key]
            results = await place.store.delete_many(place.bucket, [key, "none"])
            assert [result.error for result in results] == [None, None]
            assert not await place.store.exists(place.bucket, key)


# -- copies ---------------------------------------------------------------------------------


async def test_a_large_copy_takes_as_many_calls_as_the_server_wants(place: Place) -> None:
    body = secrets.token_bytes(5 * MiB)
    await place.beside.put(place.bucket, "k", body)
    await asyncio.to_thread(place.server.control, "step", bytes=MiB)
    try:
        place.proxy.requests.clear()
        await place.store.copy(place.bucket, "k", place.bucket, "c", metadata={"a": "b"})
        assert sum("rewriteTo" in line for line in place.proxy.requests) == 5
        copying = asyncio.create_task(place.store.copy(place.bucket, "k", place.bucket, "d"))
        held = faults.hang("up", when="rewriteToken=")
        place.proxy.add(held)
        await held.struck.wait()
        copying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await copying
    finally:
        await asyncio.to_thread(place.server.control, "step", bytes=8 * MiB)
    assert await place.stored("c") == body
    assert not await place.beside.exists(place.bucket, "d"), "half a copy is not seen"


async def test_a_copy_of_an_object_that_was_replaced_is_a_typed_error(place: Place) -> None:
    old = await place.store.put(place.bucket, "k", b"old")
    await place.store.put(place.bucket, "k", b"new")
    source, target = ObjectRef(place.bucket, "k"), ObjectRef(place.bucket, "c")
    for options in (
        CopyOptions(source_if_match=old.etag),
        CopyOptions(source_if_match=old.etag, metadata={"a": "b"}),
        CopyOptions(source_if_match=old.etag, if_none_match="*"),
    ):
        with pytest.raises(ObjectChangedError):
            await place.driver.copy(source, target, options)
    await place.driver.copy(source, target, CopyOptions(if_none_match="*"))
    with pytest.raises(PreconditionFailedError):
        await place.driver.copy(source, target, CopyOptions(if_none_match="*"))


# -- listings -------------------------------------------------------------------------------


async def test_pages_come_in_order_and_carry_what_head_says(place: Place) -> None:
    keys = ["a", "a/1", "a/2", "b", "c/1", "é", "\U0001f600"]
    for key in keys:
        await place.beside.put(place.bucket, key, key.encode(), metadata={"k": "v"})
    found: list[ObjectInfo] = []
    cursor = None
    while True:
        page = await place.store.list_page(place.bucket, page_size=2, cursor=cursor)
        found += page.objects
        cursor = page.cursor
        if cursor is None:
            break
    assert [info.key for info in found] == sorted(keys, key=str.encode)
    assert found[0] == await place.store.head(place.bucket, "a")
    page = await place.store.list_page(place.bucket, delimiter="/", start_after="a/1")
    assert (page.prefixes, [i.key for i in page.objects]) == (["a/", "c/"], ["b", "é", keys[-1]])
    page = await place.store.list_page(place.bucket, delimiter="/", start_after="a/2")
    assert page.prefixes == ["c/"], "nothing of that group is left"


@pytest.mark.parametrize("cursor", ["t", "nonsense", "tnonsense", "k1"])
async def test_a_cursor_that_is_none_is_told(place: Place, cursor: str) -> None:
    with pytest.raises(InvalidTokenError):
        await place.store.list_page(place.bucket, cursor=cursor)


async def test_two_hundred_and_fifty_deletes_are_three_requests(place: Place) -> None:
    keys = [f"k{number}/%ü?" for number in range(250)]
    await asyncio.gather(*(place.beside.put(place.bucket, key, b"") for key in keys[::25]))
    await place.store.head(place.bucket, keys[0])
    place.proxy.requests.clear()
    results = await place.store.delete_many(place.bucket, [*keys, ".."])
    assert len(place.proxy.requests) == 3
    assert [r.error for r in results[:-1]] == [None] * 250
    assert isinstance(results[-1].error, InvalidKeyError)
    assert (await place.beside.list_page(place.bucket)).objects == []
    with pytest.raises(BucketNotFoundError):
        await place.store.delete_many("trove-there-is-none", ["k"])


# -- versions and rules ---------------------------------------------------------------------


async def test_versions_are_generations(gcs: Server) -> None:
    """The live one can be deleted for good; no other becomes live then, but by a restore."""
    async with opened(gcs, versioning=True) as place:
        store, bucket = place.store, place.bucket
        one = await store.put(bucket, "k", b"one", metadata={"n": "é"})
        two = await store.put(bucket, "k", b"two")
        await store.put(bucket, "k/other", b"")
        assert [v.version_id for v in await store.versions(bucket, "k")] == [two.etag, one.etag]
        await store.delete(bucket, "k", version_id=two.etag)
        assert not await store.exists(bucket, "k")
        marker, old = await store.versions(bucket, "k")
        assert marker.is_delete_marker and marker.is_latest and not old.is_latest
        with pytest.raises(ObjectNotFoundError):
            await store.get_bytes(bucket, "k", version_id=marker.version_id)
        with pytest.raises(UnsupportedError):
            await store.delete(bucket, "k", version_id=marker.version_id)
        info = await store.restore(bucket, "k", one.etag)
        assert info.etag not in (one.etag, two.etag) and dict(info.metadata) == {"n": "é"}
        assert await store.get_bytes(bucket, "k") == b"one"
        for unknown in ("nonsense", "0" * 32, two.etag, "9" * 40, "-1"):
            for attempt in (
                store.get_bytes(bucket, "k", version_id=unknown),
                store.head(bucket, "k", version_id=unknown),
                store.restore(bucket, "k", unknown),
            ):
                with pytest.raises(VersionNotFoundError):
                    await attempt
            await store.delete(bucket, "k", version_id=unknown)
        await store.delete(bucket, "k")
        await store.delete(bucket, "k/other")
        await store.delete_bucket(bucket)


async def test_rules_keep_their_names_and_switches_beside_others_labels(place: Place) -> None:
    rules = [
        LifecycleRule("logs", "logs/", True, 30, 7, "NEARLINE"),
        LifecycleRule("off", enabled=False, expiration_days=0),
        LifecycleRule("cold", "a/", True, None, 90, "COLDLINE"),
    ]
    client = place.driver._now().client
    target = f"/storage/v1/b/{place.bucket}"
    body = b'{"labels": {"team": "x"}}'
    await client.json("PATCH", target, place.bucket, pieces=[body], size=len(body))
    await place.store.set_lifecycle(place.bucket, rules)
    assert await place.store.get_lifecycle(place.bucket) == rules
    await place.store.set_lifecycle(place.bucket, rules[1:2])
    assert await place.store.get_lifecycle(place.bucket) == rules[1:2]
    with pytest.raises(UnsupportedError):
        await place.store.set_lifecycle(
            place.bucket, [LifecycleRule("No Label", expiration_days=1)]
        )
    await place.store.set_lifecycle(place.bucket, [])
    found = await client.json("GET", target, place.bucket)
    assert found["labels"] == {"team": "x"} and "lifecycle" not in found
