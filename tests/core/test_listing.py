"""Listings: merged over backends in key order, paged by tokens that are not trusted."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.strategies import keys as any_key
from tests.transforms import Xor
from trove_async import (
    BucketNotFoundError,
    CommonPrefix,
    Features,
    InvalidTokenError,
    ObjectInfo,
    RetryPolicy,
    Trove,
    UnavailableError,
)
from trove_async.driver import ListOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.model import ObjectPage

NAMES = ["default", "one", "two"]


def text_of(entry: ObjectInfo | CommonPrefix) -> str:
    return entry.prefix if isinstance(entry, CommonPrefix) else entry.key


async def texts(store: Trove, bucket: str = "box", **options: Any) -> list[str]:
    return [text_of(entry) async for entry in store.list(bucket, **options)]


async def by_pages(store: Trove, **options: Any) -> list[str]:
    """The same listing by tokens, each page checked."""
    found: list[str] = []
    cursor: str | None = None
    for _ in range(10_000):
        page = await store.list_page("box", cursor=cursor, **options)
        entries = sorted([info.key for info in page.objects] + page.prefixes)
        assert len(entries) <= options.get("page_size", 1000)
        assert not found or not entries or found[-1] < entries[0]
        found += entries
        cursor = page.cursor
        if cursor is None:
            return found
    raise AssertionError("the listing does not end")


def grouped(keys: set[str], prefix: str, delimiter: str | None, after: str | None) -> list[str]:
    found = set()
    for key in keys:
        if not key.startswith(prefix) or (after is not None and key <= after):
            continue
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        found.add(key if cut < 0 or not delimiter else key[: cut + len(delimiter)])
    return sorted(found)


def route(bucket: str, key: str) -> str:
    return NAMES[sum(key.encode()) % 3]


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    names=st.sets(
        st.one_of(st.text(st.sampled_from("ab/é"), min_size=1, max_size=5), any_key), max_size=25
    ),
    strays=st.sets(st.text(st.sampled_from("ab/"), min_size=1, max_size=4), max_size=6),
    page_size=st.sampled_from([1, 2, 3, 7, 1000]),
    delimiter=st.sampled_from([None, "/", "a", "//"]),
    prefix=st.sampled_from(["", "a", "a/", "é"]),
    after=st.sampled_from([None, "a", "a/b", "b"]),
)
def test_a_merged_listing_is_the_sorted_union(
    names: set[str],
    strays: set[str],
    page_size: int,
    delimiter: str | None,
    prefix: str,
    after: str | None,
) -> None:
    async def work() -> None:
        async with trove.open(
            "mem://", backends={"one": "mem://", "two": Faulty()}, routes=[route]
        ) as store:
            await store.create_bucket("box")
            for key in names:
                await store.put("box", key, b"")
            if delimiter is None:  # keys that route elsewhere stay hidden
                for key in strays:
                    await store.backend(NAMES[(NAMES.index(route("", key)) + 1) % 3]).put(
                        "box", key, b"stray"
                    )
            options: dict[str, Any] = {
                "prefix": prefix,
                "delimiter": delimiter,
                "start_after": after,
            }
            expected = grouped(names, prefix, delimiter, after)
            assert await texts(store, page_size=page_size, **options) == expected
            assert await by_pages(store, page_size=page_size, **options) == expected

    asyncio.run(work())


@pytest.mark.parametrize("limit", [0, 1, 2, 5, 99])
@pytest.mark.parametrize("page_size", [1, 3, 1000])
async def test_a_limit_ends_a_listing(limit: int, page_size: int) -> None:
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        for number in range(7):
            await store.put("box", f"{number}/k", b"")
        wanted = [f"{number}/" for number in range(7)]
        options: dict[str, Any] = {"limit": limit, "page_size": page_size, "delimiter": "/"}
        assert await texts(store, **options) == wanted[:limit]


async def test_bad_arguments_of_a_listing_are_refused() -> None:
    driver = Faulty()
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        driver.forget()
        refused: list[dict[str, Any]] = [
            {"page_size": 0},
            {"delimiter": ""},
            {"limit": -1},
            {"prefix": "\ud800"},
        ]
        for wrong in refused:
            with pytest.raises(ValueError):
                await texts(store, **wrong)
        with pytest.raises(TypeError):
            await texts(store, prefix=7)
        assert driver.calls == []
        with pytest.raises(BucketNotFoundError):
            await texts(store, "nowhere")


async def test_entries_equal_head_where_the_listing_carries_metadata() -> None:
    async with trove.open("mem://", middleware=[Xor()]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"body" * 999, metadata={"a": "b"})
        (entry,) = [entry async for entry in store.list("box")]
        assert entry == await store.head("box", "k")
        assert isinstance(entry, ObjectInfo) and entry.size == 3996


async def test_resolve_completes_what_a_listing_lacks() -> None:
    driver = Faulty(features=Features(late_metadata=True))
    async with trove.open(driver, middleware=[Xor()]) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"body" * 999)
        driver.forget()
        (bare,) = [entry async for entry in store.list("box")]
        assert isinstance(bare, ObjectInfo)
        assert (bare.size, bare.encodings) == (bare.stored_size, None)
        assert driver.verbs() == ["list"]
        (entry,) = [entry async for entry in store.list("box", resolve=True)]
        assert entry == await store.head("box", "k")


@pytest.mark.parametrize("record", ["garbage;;", "2;later", "1;a,,b"])
async def test_one_unreadable_record_does_not_hide_the_others(record: str) -> None:
    async with trove.open("mem://") as store:
        await store.create_bucket("box")
        await store.put("box", "a", b"1", metadata={"n": "1"})
        await store.put("box", "b", b"22", raw=True, metadata={"trovefmt": record, "n": "2"})
        await store.put("box", "c", b"333")
        for resolve in (False, True):
            entries = [entry async for entry in store.list("box", resolve=resolve)]
            assert [text_of(entry) for entry in entries] == ["a", "b", "c"]
            odd = entries[1]
            assert isinstance(odd, ObjectInfo)
            assert (odd.size, odd.encodings, odd.metadata) == (2, None, {"n": "2"})
        with pytest.raises(trove.IntegrityError):
            await store.head("box", "b")


async def test_a_bucket_that_only_some_backends_have_is_listed() -> None:
    late = MemoryDriver()
    async with trove.open("mem://", backends={"late": late}, routes=[("l*", "late")]) as store:
        await store.backend("default").create_bucket("box")
        await store.put("box", "a", b"")
        assert await texts(store) == ["a"]
        await store.create_bucket("box")  # where it was missing
        await store.put("box", "l", b"")
        assert await texts(store, page_size=1) == ["a", "l"]
        await store.backend("default").delete_bucket("box", force=True)
        assert await texts(store) == ["l"]
        with pytest.raises(BucketNotFoundError):
            await texts(store, "nowhere")


# -- tokens --------------------------------------------------------------------------------


async def filled(driver: trove.Driver | str = "mem://") -> Trove:
    store = await trove.open(driver)
    await store.create_bucket("box")
    await store.create_bucket("bin")
    for number in range(6):
        await store.put("box", f"pub/{number}", b"")
        await store.put("box", f"secret/{number}", b"")
    return store


async def test_a_token_is_bound_to_its_listing() -> None:
    async with await filled() as store:
        page = await store.list_page("box", prefix="pub/", page_size=2)
        token = page.cursor
        assert token is not None
        others: list[tuple[str, dict[str, Any]]] = [
            ("bin", {"prefix": "pub/"}),
            ("box", {"prefix": "secret/"}),
            ("box", {}),
            ("box", {"prefix": "pub/", "delimiter": "/"}),
        ]
        for bucket, options in others:
            with pytest.raises(InvalidTokenError):
                await store.list_page(bucket, cursor=token, **options)


GARBAGE = ["", "x", "!!!!", "AAAA", "é", "k", "p", "=" * 9, "e30", "bnVsbA", "W10", "A" * 100_000]


@pytest.mark.parametrize("token", [*GARBAGE, "WzIsIiIse31d", "[" * 50_000, "\x00", "W" * 70_000])
async def test_garbage_is_no_token(token: str) -> None:
    async with await filled() as store:
        with pytest.raises(InvalidTokenError):
            await store.list_page("box", cursor=token)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
)
@given(
    state=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text() | st.just("\ud800"),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=6,
    ),
    last=st.text(max_size=5) | st.just("\udfff"),
    cursor=st.text(max_size=5) | st.sampled_from(["k", "ksecret/3", "psecret/", "k\ud800", "p"]),
    shape=st.integers(0, 3),
)
def test_a_tampered_token_never_leaves_the_prefix(
    state: object, last: str, cursor: str, shape: int
) -> None:
    async def work() -> None:
        async with await filled() as store:
            page = await store.list_page("box", prefix="pub/", page_size=2)
            assert page.cursor is not None
            version, signed, *_ = json.loads(base64.urlsafe_b64decode(page.cursor + "=="))
            forged = {
                0: [version, signed, {"default": [cursor, last]}],
                1: [version, signed, state],
                2: [version, signed, {"default": [cursor, state]}],
                3: state,
            }[shape]
            token = base64.urlsafe_b64encode(json.dumps(forged).encode()).decode().rstrip("=")
            try:
                found = await store.list_page("box", prefix="pub/", cursor=token)
            except InvalidTokenError:
                return
            assert all(info.key.startswith("pub/") for info in found.objects)

    asyncio.run(work())


async def test_a_token_is_good_in_a_new_store() -> None:
    driver = MemoryDriver()
    async with await filled(driver) as store:
        first = await store.list_page("box", page_size=5)
    async with trove.open(driver.sibling()) as store:
        rest = await store.list_page("box", cursor=first.cursor)
        keys = [info.key for page in (first, rest) for info in page.objects]
        assert keys == sorted(keys) and len(keys) == 12
        assert rest.cursor is None


# -- four ways -----------------------------------------------------------------------------


async def test_a_listing_left_early_or_cancelled_leaves_nothing() -> None:
    slow = Faulty()
    async with trove.open("mem://", backends={"slow": slow}, routes=[("s*", "slow")]) as store:
        await store.create_bucket("box")
        await store.put("box", "a", b"")
        await store.put("box", "s", b"")
        entries = store.list("box", page_size=1)
        assert text_of(await anext(entries)) == "a"
        await entries.aclose()
        slow.hang("list")
        task = asyncio.create_task(texts(store))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        slow.fail("list", trove.PermissionDeniedError("no"))
        with pytest.raises(trove.PermissionDeniedError) as caught:
            await texts(store)
        assert caught.value.backend == "slow"


async def test_a_page_that_fails_is_asked_for_again_and_nothing_is_lost() -> None:
    flaky = Faulty()
    async with trove.open(
        "mem://", backends={"flaky": flaky}, routes=[route3], retry=RetryPolicy(base=0.001)
    ) as store:
        await store.create_bucket("box")
        for number in range(20):
            await store.put("box", f"{number:02}", b"")
        flaky.fail("list", UnavailableError("busy"), times=3)
        assert await texts(store, page_size=3) == [f"{number:02}" for number in range(20)]


def route3(bucket: str, key: str) -> str | None:
    return "flaky" if int(key) % 3 else None


# -- backends with an order of their own -----------------------------------------------------


class Wide(MemoryDriver):
    """Lists in the order of UTF-16, as azurite does: a page's entries after those of the page
    before, and yet not after them by their text."""

    features = replace(MemoryDriver.features, ordered_listing=False)

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        whole = replace(options, cursor=None, page_size=10_000)
        page = await super().list(bucket, whole)
        entries: list[ObjectInfo | str] = [*page.objects, *page.prefixes]
        entries.sort(key=lambda e: (e if isinstance(e, str) else e.key).encode("utf-16-be"))
        start = int(options.cursor or 0)
        stop = start + options.page_size
        shown = entries[start:stop]
        return ObjectPage(
            [entry for entry in shown if not isinstance(entry, str)],
            [entry for entry in shown if isinstance(entry, str)],
            str(stop) if stop < len(entries) else None,
        )


WIDE = ["a", "b/1", "b/2", "\ue000", "\uff01", "\uff02/x", "\U0001f600", "\U0001f601/y", "z"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 100])
@pytest.mark.parametrize("others", [[], ["m", "\U0001f602", "\uff03"]])
async def test_no_key_of_another_order_is_lost_or_told_twice(
    page_size: int, others: list[str]
) -> None:
    """By one iteration, and by tokens each of which goes to a new store."""
    drivers: dict[str, MemoryDriver] = {"one": MemoryDriver()} if others else {}
    first = Wide()
    routes = [(f"{key}*", "one") for key in others]
    for delimiter in (None, "/"):
        async with Trove(first, backends=drivers, routes=routes) as store:
            if delimiter is None:
                await store.create_bucket("box")
                for key in [*WIDE, *others]:
                    await store.put("box", key, b"")
            whole = await texts(store, page_size=page_size, delimiter=delimiter)
            expected = grouped({*WIDE, *others}, "", delimiter, None)
            assert sorted(whole) == expected
            found: list[str] = []
            cursor: str | None = None
            while True:
                page = await store.list_page(
                    "box", page_size=page_size, cursor=cursor, delimiter=delimiter
                )
                found += [info.key for info in page.objects] + page.prefixes
                cursor = page.cursor
                if cursor is None:
                    break
            assert sorted(found) == expected
