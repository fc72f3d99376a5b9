"""J. Pages: every key exactly once, whatever the page size and whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from trove_async import Trove
from trove_async.driver import ListOptions, MultipartDriver, PutOptions
from trove_async.errors import InvalidTokenError
from trove_async.model import CommonPrefix, ObjectInfo, ObjectPage
from trove_async.testing.case import case
from trove_async.testing.cases.d_list import name_of, put_all
from trove_async.testing.harness import Harness


async def pages(
    store: Trove,
    bucket: str,
    *,
    page_size: int,
    prefix: str = "",
    delimiter: str | None = None,
    start_after: str | None = None,
    cursor: str | None = None,
) -> AsyncIterator[ObjectPage]:
    """All of a listing, page by page; no page holds more than it may."""
    for _ in range(10_000):
        page = await store.list_page(
            bucket,
            prefix=prefix,
            delimiter=delimiter,
            start_after=start_after,
            page_size=page_size,
            cursor=cursor,
        )
        assert len(page.objects) + len(page.prefixes) <= page_size, "a page is too long"
        yield page
        cursor = page.cursor
        if cursor is None:
            return
    raise AssertionError("the listing does not end")


def names_of(page: ObjectPage) -> list[str]:
    return [*(info.key for info in page.objects), *page.prefixes]


@case("K143", "list_page_sizes", params=[1, 2, 3, 24, 25, 26])
async def list_page_sizes(h: Harness, page_size: int) -> None:
    keys = [f"{'a/b' if number % 3 else 'c'}{number:02}" for number in range(25)]
    await put_all(h, keys)
    listed = [name_of(e) async for e in h.store.list(h.bucket, page_size=page_size)]
    assert sorted(listed) == sorted(keys), "a key is missing or comes twice"
    paged: list[str] = []
    async for page in pages(h.store, h.bucket, page_size=page_size):
        paged += names_of(page)
    assert paged == listed
    some = [name_of(e) async for e in h.store.list(h.bucket, page_size=page_size, limit=10)]
    assert some == listed[:10]


@case("K144", "list_10k", stacks=False, timeout=240)
async def list_10k(h: Harness) -> None:
    keys = [f"{number % 10}/{number:05}" for number in range(10_000)]

    async def fill(some: list[str]) -> None:
        for key in some:
            await h.store.put(h.bucket, key, b"")

    await asyncio.gather(*(fill(keys[start::32]) for start in range(32)))
    longest = 0
    list_page = h.driver.list

    async def measured(bucket: str, options: ListOptions) -> ObjectPage:
        nonlocal longest
        page = await list_page(bucket, options)
        longest = max(longest, len(page.objects) + len(page.prefixes))
        return page

    vars(h.driver)["list"] = measured
    before = h.log.calls["list"]
    at_first: int | None = None
    listed: list[str] = []
    async for entry in h.store.list(h.bucket):
        if at_first is None:
            at_first = h.log.calls["list"] - before
        listed.append(name_of(entry))
    in_all = h.log.calls["list"] - before
    assert len(listed) == len(set(listed)) == 10_000
    assert sorted(listed) == sorted(keys)
    assert at_first is not None and at_first < in_all, "nothing came before the last page"
    assert 0 < longest <= 1000, f"a page of {longest} entries was asked for or given"


@case("K145", "list_start_after_exclusive")
async def list_start_after_exclusive(h: Harness) -> None:
    keys = ["a", "b", "b0", "c/d", "c/e", "d"]
    await put_all(h, keys)
    for number, key in enumerate(keys):
        found = [name_of(e) async for e in h.store.list(h.bucket, start_after=key)]
        assert sorted(found) == keys[number + 1 :], f"after {key!r}"
        page = await h.store.list_page(h.bucket, start_after=key)
        assert sorted(names_of(page)) == keys[number + 1 :]
        paged: list[str] = []
        async for page in pages(h.store, h.bucket, page_size=1, start_after=key):
            paged += names_of(page)
        assert sorted(paged) == keys[number + 1 :], f"after {key!r}, one by one"


@case("K146", "list_start_after_missing_key")
async def list_start_after_missing_key(h: Harness) -> None:
    await put_all(h, ["a", "c", "e/f", "e/h"])
    for after, expected in (
        ("b", ["c", "e/f", "e/h"]),
        ("A", ["a", "c", "e/f", "e/h"]),
        ("e", ["e/f", "e/h"]),
        ("e/g", ["e/h"]),
        ("e-", ["e/f", "e/h"]),
        ("e0", []),
    ):
        found = [name_of(e) async for e in h.store.list(h.bucket, start_after=after)]
        assert sorted(found) == expected, f"after {after!r}"


@case("K146", "list_start_after_past_end")
async def list_start_after_past_end(h: Harness) -> None:
    await put_all(h, ["a", "b"])
    for after in ("b", "c", "🙀", "b/"):
        assert [e async for e in h.store.list(h.bucket, start_after=after)] == []
    page = await h.store.list_page(h.bucket, start_after="z")
    assert (names_of(page), page.cursor) == ([], None)


@case("K146", "list_start_after_inside_prefix_group")
async def list_start_after_inside_prefix_group(h: Harness) -> None:
    """A group is shown while keys of it are still to come."""
    await put_all(h, ["a/1", "a/2", "b/1", "c"])
    for after, expected in (
        ("a/1", ["a/", "b/", "c"]),
        ("a/2", ["b/", "c"]),
        ("a/", ["a/", "b/", "c"]),
        ("b/1", ["c"]),
    ):
        entries = h.store.list(h.bucket, delimiter="/", start_after=after)
        found = [name_of(e) async for e in entries]
        assert sorted(found) == expected, f"after {after!r}"
    entries = h.store.list(h.bucket, prefix="a/", start_after="a/1")
    assert [name_of(e) async for e in entries] == ["a/2"]
    entries = h.store.list(h.bucket, prefix="b/", start_after="a/1")
    assert [name_of(e) async for e in entries] == ["b/1"], "start_after before the prefix"


@case("K147", "list_token_resume_other_process", needs=["sibling"])
async def list_token_resume_other_process(h: Harness) -> None:
    """A cursor is text; a client that never saw the first page goes on from it."""
    keys = [f"k/{number:02}" for number in range(10)]
    await put_all(h, keys)
    first = await h.store.list_page(h.bucket, page_size=4)
    assert isinstance(first.cursor, str)
    other = await h.sibling_store()
    rest: list[str] = []
    async for page in pages(other, h.bucket, page_size=4, cursor=first.cursor):
        rest += names_of(page)
    assert sorted(names_of(first) + rest) == keys


_GARBAGE = {
    "word": "garbage",
    "empty": "",
    "nul": "\0",
    "emoji": "🙀",
    "long": "x" * 5000,
    "base64": "eyJrIjogImEifQ==",
    "surrogate": "\ud800",
    "traversal": "../../../etc",
}


@case("K148", "list_token_garbage", params=_GARBAGE)
async def list_token_garbage(h: Harness, cursor: str) -> None:
    """Refused by type, or a page that stays inside its prefix; never anything else."""
    await put_all(h, ["a/1", "a/2", "b/1"])
    try:
        page = await h.store.list_page(h.bucket, prefix="a/", cursor=cursor)
    except InvalidTokenError:
        pass
    else:
        assert all(name.startswith("a/") for name in names_of(page)), "it left the prefix"
    assert len(await h.keys()) == 3


@case("K148", "list_token_of_another_listing")
async def list_token_of_another_listing(h: Harness) -> None:
    """A cursor made for one prefix does not open another."""
    await put_all(h, ["a/1", "a/2", "b/1", "b/2"])
    cursor = (await h.store.list_page(h.bucket, prefix="b/", page_size=1)).cursor
    assert cursor is not None
    try:
        page = await h.store.list_page(h.bucket, prefix="a/", cursor=cursor)
    except InvalidTokenError:
        return
    assert all(name.startswith("a/") for name in names_of(page)), "it left the prefix"


@case("K149", "list_page_size_zero_negative", params=[0, -1])
async def list_page_size_zero_negative(h: Harness, page_size: int) -> None:
    await h.put("k")
    with h.raises(ValueError):
        await h.store.list_page(h.bucket, page_size=page_size)
    with h.raises(ValueError):
        async for _ in h.store.list(h.bucket, page_size=page_size):
            pass


@case("K150", "list_delete_during")
async def list_delete_during(h: Harness) -> None:
    keys = [f"{'d/' if number % 2 else ''}{number:03}" for number in range(300)]
    await put_all(h, keys)
    seen: list[str] = []
    async for entry in h.store.list(h.bucket, page_size=10):
        seen.append(name_of(entry))
        await h.store.delete(h.bucket, seen[-1])
    assert sorted(seen) == sorted(keys), "a key was missed or came twice"
    assert await h.keys() == []


@case("K151", "list_insert_during")
async def list_insert_during(h: Harness) -> None:
    keys = [f"m{number:03}" for number in range(60)]
    await put_all(h, keys)
    seen: list[str] = []
    async for entry in h.store.list(h.bucket, page_size=7):
        seen.append(name_of(entry))
        await h.put(f"a{len(seen):03}")
        if len(seen) < 20:
            await h.put(f"z{len(seen):03}")
    assert len(seen) == len(set(seen)), "a key came twice"
    assert [key for key in sorted(seen) if key[0] == "m"] == keys, "a key was missed"


@case("K152", "list_read_after_write", needs=["consistent"])
async def list_read_after_write(h: Harness) -> None:
    for number in range(20):
        await h.put(f"d/{number:02}", bytes(number))
        assert len(await h.keys()) == number + 1, "a new object is not listed"


@case("K152", "list_after_delete", needs=["consistent"])
async def list_after_delete(h: Harness) -> None:
    keys = [f"d/{number}/x" for number in range(10)]
    await put_all(h, keys)
    for key in keys:
        await h.store.delete(h.bucket, key)
        assert key not in await h.keys(), "a deleted object is listed"
    assert [e async for e in h.store.list(h.bucket, delimiter="/")] == []


@case("K152", "list_after_overwrite", needs=["consistent"])
async def list_after_overwrite(h: Harness) -> None:
    await h.put("k", bytes(1000))
    for size in (10, 2000, 0):
        info = await h.put("k", bytes(size))
        [entry] = [e async for e in h.store.list(h.bucket) if isinstance(e, ObjectInfo)]
        assert entry.etag == info.etag, "the old entry is listed"
        assert entry.stored_size == info.stored_size


@case("K153", "list_abandon_early")
async def list_abandon_early(h: Harness) -> None:
    await put_all(h, [f"{number:02}" for number in range(30)])
    entries = h.store.list(h.bucket, page_size=3)
    async for _ in entries:
        break
    close = getattr(entries, "aclose", None)
    assert close is not None, "the listing cannot be closed"
    before = h.log.calls["list"]
    await close()
    await asyncio.sleep(0)
    assert h.log.calls["list"] == before, "it goes on after it was closed"
    assert [entry async for entry in entries] == []
    untouched = h.store.list(h.bucket)
    await untouched.aclose()
    assert len(await h.keys()) == 30


@case("K154", "list_hides_unfinished")
async def list_hides_unfinished(h: Harness) -> None:
    await h.put("there")
    half, go_on = asyncio.Event(), asyncio.Event()

    async def paused() -> AsyncIterator[bytes]:
        yield b"a" * 200_000
        half.set()
        await go_on.wait()
        yield b"b"

    putting = asyncio.create_task(h.put("half-done", paused()))
    try:
        await asyncio.wait_for(half.wait(), 30)
        assert await h.keys() == ["there"], "a put that is under way is listed"
        assert [e async for e in h.store.list(h.bucket, delimiter="/")] != []
    finally:
        go_on.set()
        await asyncio.wait([putting])
    assert putting.result().size == 200_001
    assert await h.keys() == ["half-done", "there"]


@case("K154", "list_hides_open_multipart", needs=["multipart"], stacks=False)
async def list_hides_open_multipart(h: Harness) -> None:
    multipart = h.capable(MultipartDriver)
    assert multipart is not None
    await h.put("there")
    upload = await multipart.initiate_multipart(h.bucket, "d/open", PutOptions())
    assert await h.keys() == ["there"]
    grouped = [name_of(e) async for e in h.store.list(h.bucket, delimiter="/")]
    assert grouped == ["there"], "the folder of an unfinished upload is listed"
    await multipart.abort_multipart(h.bucket, "d/open", upload)
    assert await h.keys() == ["there"]


@case("K155", "list_prefix_delimiter_paged", params=[1, 2, 3])
async def list_prefix_delimiter_paged(h: Harness, page_size: int) -> None:
    keys = ["p/a/1", "p/a/2", "p/a/3", "p/b", "p/c/1", "p/c/d/1", "p/d", "p/e/1", "q"]
    await put_all(h, keys)
    expected = ["p/a/", "p/b", "p/c/", "p/d", "p/e/"]
    paged: list[str] = []
    async for page in pages(h.store, h.bucket, page_size=page_size, prefix="p/", delimiter="/"):
        paged += names_of(page)
    assert len(paged) == len(set(paged)), "a prefix came twice"
    assert sorted(paged) == expected
    entries = h.store.list(h.bucket, prefix="p/", delimiter="/", page_size=page_size)
    listed = [name_of(entry) async for entry in entries]
    assert (listed if h.features.ordered_listing else sorted(listed)) == expected


@case("K156", "list_fields_match_head")
async def list_fields_match_head(h: Harness) -> None:
    await h.store.put(h.bucket, "a/plain", b"x" * 10)
    await h.store.put(h.bucket, "b.json", b"{}", metadata={"m": "1"})
    await h.store.put(h.bucket, "c", b"", content_type="text/plain")
    resolve = not h.features.listing_has_metadata
    count = 0
    async for entry in h.store.list(h.bucket, resolve=resolve):
        assert not isinstance(entry, CommonPrefix)
        head = await h.store.head(h.bucket, entry.key)
        for name in ("key", "size", "stored_size", "etag", "last_modified", "content_type"):
            assert getattr(entry, name) == getattr(head, name), f"{name} of {entry.key!r}"
        for name in ("checksum", "encodings", "storage_class"):
            assert getattr(entry, name) == getattr(head, name), f"{name} of {entry.key!r}"
        assert dict(entry.metadata) == dict(head.metadata), f"metadata of {entry.key!r}"
        count += 1
    assert count == 3


async def driver_pages(h: Harness, options: ListOptions) -> AsyncIterator[ObjectPage]:
    """As the store asks for them; what the store would mend is seen here."""
    for _ in range(10_000):
        page = await h.driver.list(h.bucket, options)
        assert len(page.objects) + len(page.prefixes) <= options.page_size, "a page is too long"
        yield page
        if page.cursor is None:
            return
        options = replace(options, cursor=page.cursor)
    raise AssertionError("the listing does not end")


@case("K143", "list_pages_of_the_driver", params=[1, 2, 3, 7, 1000], stacks=False)
async def list_pages_of_the_driver(h: Harness, page_size: int) -> None:
    keys = [f"{'a/b' if number % 3 else 'c'}{number:02}" for number in range(14)]
    await put_all(h, keys)
    listed: list[str] = []
    async for page in driver_pages(h, ListOptions(page_size=page_size)):
        of_page = names_of(page)
        assert page.prefixes == [], "there is no delimiter"
        if h.features.ordered_listing:
            assert of_page == sorted(of_page), "a page is not in order"
        listed += of_page
    assert sorted(listed) == sorted(keys), "a key is missing or comes twice"
    if h.features.ordered_listing:
        assert listed == sorted(keys)


@case("K155", "list_groups_of_the_driver", params=[1, 2, 1000], stacks=False)
async def list_groups_of_the_driver(h: Harness, page_size: int) -> None:
    keys = ["p/a/1", "p/a/2", "p/a/3", "p/b", "p/c/1", "p/c/d/1", "p/d", "p/e/1", "q/1", "p-"]
    await put_all(h, keys)
    objects: list[str] = []
    prefixes: list[str] = []
    options = ListOptions(prefix="p/", delimiter="/", page_size=page_size)
    async for page in driver_pages(h, options):
        objects += [info.key for info in page.objects]
        prefixes += page.prefixes
    assert sorted(objects) == ["p/b", "p/d"]
    assert sorted(prefixes) == ["p/a/", "p/c/", "p/e/"], "a group is missing or comes twice"


@case("K148", "list_token_garbage_for_the_driver", params=_GARBAGE, stacks=False)
async def list_token_garbage_for_the_driver(h: Harness, cursor: str) -> None:
    """The store hands on what a caller made of a cursor; the driver must not trust it."""
    await put_all(h, ["a/1", "a/2", "b/1"])
    try:
        page = await h.driver.list(h.bucket, ListOptions(prefix="a/", cursor=cursor))
    except InvalidTokenError:
        return
    assert all(name.startswith("a/") for name in names_of(page)), "it left the prefix"
