"""C. Metadata, content type, ETag, time: stored with the body, exactly, and by nobody else."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from datetime import UTC, datetime, timedelta
from typing import cast

from trove_async._chunks import OneChunk
from trove_async.driver import HeadOptions, PutOptions
from trove_async.errors import InvalidInputError, InvalidMetadataError, PreconditionFailedError
from trove_async.model import ObjectInfo
from trove_async.testing.case import case
from trove_async.testing.harness import Harness

LIMIT = 2048
"""Bytes of names and values of user metadata that every backend takes, unless it says less."""


async def listed(h: Harness, key: str) -> ObjectInfo:
    """The entry of the listing, looked up where the backend's listing says too little."""
    resolve = not h.features.listing_has_metadata
    entries = h.store.list(h.bucket, prefix=key, resolve=resolve)
    found = [e async for e in entries if isinstance(e, ObjectInfo) and e.key == key]
    assert len(found) == 1, f"{key!r} is listed {len(found)} times"
    return found[0]


async def seen_by_all(h: Harness, key: str) -> list[ObjectInfo]:
    """What head, get and list say."""
    async with h.store.get(h.bucket, key) as reader:
        of_get = reader.info
    return [await h.store.head(h.bucket, key), of_get, await listed(h, key)]


@case("K063", "content_type_explicit", params=["text/x; charset=utf-8", "image/png", "a/b+c"])
async def content_type_explicit(h: Harness, kind: str) -> None:
    info = await h.store.put(h.bucket, "k.json", b"body", content_type=kind)
    for one in [info, *await seen_by_all(h, "k.json")]:
        assert one.content_type == kind


_BY_NAME = {
    "k": "application/octet-stream",
    "k.json": "application/json",
    "a.b/k.png": "image/png",
    "k.unknown-suffix": "application/octet-stream",
}


@case("K064", "content_type_default", params=list(_BY_NAME))
async def content_type_default(h: Harness, key: str) -> None:
    info = await h.put(key)
    for one in [info, *await seen_by_all(h, key)]:
        assert one.content_type == _BY_NAME[key]


_NO_TYPES = {
    "nonsense": "nonsense",
    "crlf": "text/plain\r\nx-evil: 1",
    "newline": "text/plain\n",
    "nul": "text/pl\0ain",
    "10kB": "text/" + "x" * 10_000,
    "empty": "",
    "unicode": "text/é",
}


@case("K065", "content_type_invalid", params=_NO_TYPES)
async def content_type_invalid(h: Harness, kind: str) -> None:
    before = h.calls
    with h.raises(InvalidInputError):
        await h.store.put(h.bucket, "k", b"body", content_type=kind)
    assert h.calls == before, "the driver was asked"
    assert await h.keys() == []


@case("K066", "etag_put_equals_head_equals_get_equals_list")
async def etag_put_equals_head_equals_get_equals_list(h: Harness) -> None:
    info = await h.put("k", metadata={"a": "1"})
    for one in await seen_by_all(h, "k"):
        assert one.etag == info.etag
        assert one.last_modified == info.last_modified
    if h.bare and h.meets("multipart"):
        part = max(h.features.min_part_size or 0, 64 * 1024)
        info = await h.store.put(h.bucket, "big", bytes(3 * part), part_size=part)
        for one in await seen_by_all(h, "big"):
            assert one.etag == info.etag


@case("K067", "etag_changes_on_overwrite_same_size")
async def etag_changes_on_overwrite_same_size(h: Harness) -> None:
    """Twenty times as fast as it goes, so that several fall into one tick of any clock."""
    etags = [(await h.put("k", bytes([number]))).etag for number in range(20)]
    assert len(set(etags)) == 20, "two bodies share an etag"
    assert (await h.store.head(h.bucket, "k")).etag == etags[-1]


@case("K068", "etag_stable_without_write")
async def etag_stable_without_write(h: Harness) -> None:
    await h.put("k")
    first = await h.store.head(h.bucket, "k")
    await h.get("k")
    await asyncio.sleep(1)
    second = await h.store.head(h.bucket, "k")
    assert (second.etag, second.last_modified) == (first.etag, first.last_modified)


@case("K069", "etag_opaque_and_quoted_form")
async def etag_opaque_and_quoted_form(h: Harness) -> None:
    etag = (await h.put("k", b"body")).etag
    assert isinstance(etag, str) and etag
    assert not etag.startswith(('"', "W/")) and not etag.endswith('"'), "quotes are for the wire"
    async with h.store.get(h.bucket, "k", if_match=etag) as reader:
        assert await reader.read() == b"body"
    with h.raises(PreconditionFailedError):
        await h.store.get(h.bucket, "k", if_match=f'"{etag}"')
    if "match" in h.features.conditional:
        await h.store.put(h.bucket, "k", b"next", if_match=etag)
        assert await h.get("k") == b"next"


async def kept(h: Harness, metadata: dict[str, str]) -> None:
    info = await h.put("k", metadata=metadata)
    assert dict(info.metadata) == metadata, "put answers with other metadata"
    for one in await seen_by_all(h, "k"):
        assert dict(one.metadata) == metadata


async def kept_or_refused(h: Harness, metadata: dict[str, str]) -> None:
    try:
        await kept(h, metadata)
    except InvalidMetadataError:
        assert await h.keys() == []


@case("K070", "metadata_round_trip")
async def metadata_round_trip(h: Harness) -> None:
    await kept(h, {"a": "1", "b": "2"})
    await kept(h, {"with-dash": "x y", "with_underscore": "a=b;c", "with.dot": "  spaces  inside"})


_VALUES = {
    "accent": "é",
    "cjk": "漢字",
    "emoji": "🙀",
    "mixed": "é 漢字 🙀",
    "latin1_trap": "Ã©",
    "percent": "%C3%A9 =?utf-8?q?x?=",
    "nfd": "e\u0301",
}


@case("K071", "metadata_unicode_values", params=_VALUES)
async def metadata_unicode_values(h: Harness, value: str) -> None:
    await kept_or_refused(h, {"v": value})


@case("K072", "metadata_key_case")
async def metadata_key_case(h: Harness) -> None:
    """Names are case-insensitive and come back in lower case; one name twice is refused."""
    info = await h.put("k", metadata={"Foo": "1", "BAR": "2"})
    assert dict(info.metadata) == {"foo": "1", "bar": "2"}
    assert dict((await h.store.head(h.bucket, "k")).metadata) == {"foo": "1", "bar": "2"}
    with h.raises(InvalidMetadataError):
        await h.put("k2", metadata={"Foo": "1", "foo": "2"})
    assert await h.keys() == ["k"]


@case("K073", "metadata_empty_value_and_empty_dict")
async def metadata_empty_value_and_empty_dict(h: Harness) -> None:
    await kept(h, {"a": "", "b": "1"})
    await kept(h, {})
    await h.put("k", metadata=None)
    assert dict((await h.store.head(h.bucket, "k")).metadata) == {}


@case("K074", "metadata_many")
async def metadata_many(h: Harness) -> None:
    await kept_or_refused(h, {f"name-{number:03}": f"{number}" for number in range(100)})


@case("K075", "metadata_2k_limit")
async def metadata_2k_limit(h: Harness) -> None:
    most = h.features.max_metadata
    limit = LIMIT if most is None else min(LIMIT, most)
    under = limit if most is None else limit - 256  # the record beside it needs room as well
    await kept(h, {"k": "v" * (under - 1)})
    await h.store.delete(h.bucket, "k")
    for value in ("v" * limit, "é" * (limit // 2)):
        with h.raises(InvalidMetadataError):
            await h.put("k", metadata={"k": value})
        assert await h.keys() == [], "what was refused is stored"


_NO_VALUES = {"crlf": "a\r\nx-evil: 1", "nul": "a\0b", "newline": "a\n", "escape": "\x1b[2J"}


@case("K076", "metadata_crlf_nul", params=_NO_VALUES)
async def metadata_crlf_nul(h: Harness, value: str) -> None:
    before = h.calls
    with h.raises(InvalidMetadataError):
        await h.put("k", metadata={"v": value})
    assert h.calls == before, "the driver was asked"


@case("K076", "metadata_bad_names", params=["a b", "a:b", "", "é", "a\r\nb", "trovefmt", "a/b"])
async def metadata_bad_names(h: Harness, name: str) -> None:
    before = h.calls
    with h.raises(InvalidMetadataError):
        await h.put("k", metadata={name: "v"})
    assert h.calls == before, "the driver was asked"


@case("K077", "metadata_replaced_not_merged")
async def metadata_replaced_not_merged(h: Harness) -> None:
    await h.put("k", metadata={"a": "1", "b": "1"})
    await kept(h, {"b": "2"})
    await kept(h, {})


@case("K078", "metadata_not_aliased")
async def metadata_not_aliased(h: Harness) -> None:
    mine = {"a": "1"}
    info = await h.put("k", metadata=mine)
    mine["a"] = "changed"
    mine["b"] = "added"
    assert dict((await h.store.head(h.bucket, "k")).metadata) == {"a": "1"}
    for one in [info, *await seen_by_all(h, "k")]:
        try:
            cast("MutableMapping[str, str]", one.metadata)["a"] = "changed"
        except TypeError:
            continue  # it is read-only, which is as good
    for one in await seen_by_all(h, "k"):
        assert dict(one.metadata) == {"a": "1"}, "a caller changed what is stored"


@case("K078", "metadata_of_the_driver_not_aliased")
async def metadata_of_the_driver_not_aliased(h: Harness) -> None:
    """Nor does the driver hand out, or keep, a map that somebody else can change."""
    mine = {"a": "1"}
    info = await h.driver.put(h.bucket, "k", OneChunk(b"body"), PutOptions(metadata=mine))
    mine["a"] = "changed"
    for one in (info, await h.driver.head(h.bucket, "k", HeadOptions())):
        try:
            cast("MutableMapping[str, str]", one.metadata)["a"] = "changed"
        except TypeError:
            continue
    assert (await h.driver.head(h.bucket, "k", HeadOptions())).metadata["a"] == "1"


@case("K079", "last_modified_utc_and_monotone")
async def last_modified_utc_and_monotone(h: Harness) -> None:
    first = await h.put("k", b"1")
    second = await h.put("k", b"2")
    for info in (first, second, *await seen_by_all(h, "k")):
        assert info.last_modified.utcoffset() == timedelta(0), "times are aware and in UTC"
        assert abs(info.last_modified - datetime.now(UTC)) < timedelta(minutes=5)
    assert second.last_modified >= first.last_modified, "time went backwards"
