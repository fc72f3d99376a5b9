"""D. List: prefixes, delimiters and order."""

from __future__ import annotations

import random
from collections.abc import Sequence

from trove_async import Trove
from trove_async.errors import BucketNotFoundError, InvalidKeyError, UnsupportedError
from trove_async.model import CommonPrefix, ObjectInfo
from trove_async.testing.case import case
from trove_async.testing.harness import Harness


def name_of(entry: ObjectInfo | CommonPrefix) -> str:
    return entry.prefix if isinstance(entry, CommonPrefix) else entry.key


async def put_all(h: Harness, keys: Sequence[str]) -> None:
    for key in keys:
        await h.put(key, key.encode())


async def split(
    h: Harness, *, prefix: str = "", delimiter: str | None = None, store: Trove | None = None
) -> tuple[list[str], list[str]]:
    """(keys, prefixes) of a listing."""
    keys: list[str] = []
    prefixes: list[str] = []
    async for entry in (store or h.store).list(h.bucket, prefix=prefix, delimiter=delimiter):
        (prefixes if isinstance(entry, CommonPrefix) else keys).append(name_of(entry))
    return keys, prefixes


@case("K080", "list_delimiter_basic")
async def list_delimiter_basic(h: Harness) -> None:
    await put_all(h, ["a/1", "a/2", "b"])
    assert await split(h, delimiter="/") == (["b"], ["a/"])
    assert await split(h) == (["a/1", "a/2", "b"], [])


@case("K081", "list_delimiter_with_prefix")
async def list_delimiter_with_prefix(h: Harness) -> None:
    await put_all(h, ["a/1", "a/b/2", "a/b/3", "a/c/d/4", "b/5", "ab"])
    assert await split(h, prefix="a/", delimiter="/") == (["a/1"], ["a/b/", "a/c/"])
    assert await split(h, prefix="a/c", delimiter="/") == ([], ["a/c/"])
    assert await split(h, prefix="a/b/", delimiter="/") == (["a/b/2", "a/b/3"], [])
    assert await split(h, prefix="a", delimiter="/") == (["ab"], ["a/"])


@case("K082", "list_delimiter_multichar_and_odd", params=["--", " ", "%", "é", "::"])
async def list_delimiter_multichar_and_odd(h: Harness, delimiter: str) -> None:
    names = ("x{0}1", "x{0}2", "y{0}{0}3", "z", "-z", "w-1")
    keys = [name.format(delimiter) for name in names]
    await put_all(h, keys)
    try:
        found = await split(h, delimiter=delimiter)
    except UnsupportedError:
        return  # said at once, nothing wrong was answered
    groups = sorted({key.partition(delimiter)[0] + delimiter for key in keys if delimiter in key})
    assert (sorted(found[0]), sorted(found[1])) == (
        sorted(key for key in keys if delimiter not in key),
        groups,
    )


@case("K083", "list_dirs_before_delimiter_chars")
async def list_dirs_before_delimiter_chars(h: Harness) -> None:
    """``-`` and ``.`` sort before ``/``, so a folder is not where its name alone would be."""
    keys = ["a-b", "a.b", "a/b", "a/b-c", "a/b.c", "a0b", "b-/c", "b/c"]
    await put_all(h, keys)
    expected = [("a-b"), ("a.b"), ("a/"), ("a0b"), ("b-/"), ("b/")]
    for page_size in (1, 2, 3, 1000):
        entries = h.store.list(h.bucket, delimiter="/", page_size=page_size)
        grouped = [name_of(entry) async for entry in entries]
        flat = [name_of(e) async for e in h.store.list(h.bucket, page_size=page_size)]
        if not h.features.ordered_listing:
            grouped.sort()
            flat.sort()
            assert grouped == sorted(expected)
        else:
            assert grouped == expected, f"page size {page_size}"
        assert flat == sorted(keys), f"page size {page_size}"


_TRAPS = ["\uffee", "\U00010400", "🙀", "z", "Z", "_", "é", "e\u0301", "漢", "\ue000", "a-", "a0"]


@case("K084", "list_order_is_utf8_bytes", needs=["ordered_listing"])
async def list_order_is_utf8_bytes(h: Harness) -> None:
    """UTF-16 order, locale order and folder order all differ from it."""
    chance = random.Random(84)
    alphabet = [*"abzAZ09-._~ ", "é", "ß", "漢", "字", "\uffee", "🙀", "\U00010400", "ا", "\ue000"]
    keys = {*_TRAPS, "d/x", "d-x", "d.x", "d0x"}
    while len(keys) < 200:
        keys.add("k" + "".join(chance.choices(alphabet, k=chance.randrange(1, 12))))
    stored: list[str] = []
    for key in sorted(keys, key=lambda _: chance.random()):
        try:
            await h.put(key, b"")
        except InvalidKeyError:
            continue
        stored.append(key)
    assert len(stored) > 150, "too many keys are refused to say anything"
    assert await h.keys() == sorted(stored, key=str.encode)
    assert await h.keys("k") == sorted((k for k in stored if k[0] == "k"), key=str.encode)


@case("K085", "list_empty_bucket")
async def list_empty_bucket(h: Harness) -> None:
    assert await split(h) == ([], [])
    assert await split(h, prefix="a/", delimiter="/") == ([], [])
    page = await h.store.list_page(h.bucket)
    assert (page.objects, page.prefixes, page.cursor) == ([], [], None)


@case("K085", "list_missing_bucket")
async def list_missing_bucket(h: Harness) -> None:
    with h.raises(BucketNotFoundError):
        async for _ in h.store.list("trove-there-is-none"):
            pass
    with h.raises(BucketNotFoundError):
        await h.store.list_page("trove-there-is-none", prefix="a/", delimiter="/")


@case("K086", "list_prefix_is_string_not_dir")
async def list_prefix_is_string_not_dir(h: Harness) -> None:
    await put_all(h, ["ab", "a/b", "b", "abc/d/e"])
    assert sorted(await h.keys("a")) == ["a/b", "ab", "abc/d/e"]
    assert await h.keys("abc/d") == ["abc/d/e"]
    assert sorted(await h.keys("ab")) == ["ab", "abc/d/e"]


@case("K087", "list_prefix_no_match")
async def list_prefix_no_match(h: Harness) -> None:
    await put_all(h, ["a/b", "b"])
    for prefix in ("c", "a/b/", "a/bc", "aa", "a//", "/a", "b/"):
        assert await h.keys(prefix) == [], f"prefix {prefix!r}"


@case("K087", "list_prefix_full_key")
async def list_prefix_full_key(h: Harness) -> None:
    await put_all(h, ["a/b", "a/c", "b"])
    assert await h.keys("a/b") == ["a/b"]
    assert await h.keys("b") == ["b"]


@case("K088", "list_prefix_special_chars", params=["%", "a b", "é", "[", "*", "?", "a.", "\\", "^"])
async def list_prefix_special_chars(h: Harness, prefix: str) -> None:
    """A prefix is literal: no pattern, no decoding."""
    try:
        await put_all(h, [prefix + "1", prefix + "2/x", "a1", "ab", "x", "[a]1", "%25"])
    except InvalidKeyError:
        h.drop(f"keys with {prefix} are refused")
    expected = sorted(k for k in await h.keys() if k.startswith(prefix))
    assert prefix + "1" in expected
    assert sorted(await h.keys(prefix)) == expected
    keys, prefixes = await split(h, prefix=prefix, delimiter="/")
    assert f"{prefix}2/" in prefixes and prefix + "1" in keys


@case("K088", "list_prefix_not_decoded")
async def list_prefix_not_decoded(h: Harness) -> None:
    await put_all(h, ["%41/x", "A/x", "a+b", "a b"])
    assert await h.keys("%41") == ["%41/x"]
    assert await h.keys("a+") == ["a+b"]
    assert await h.keys("a%20") == []


@case("K088", "list_prefix_that_is_no_key")
async def list_prefix_that_is_no_key(h: Harness) -> None:
    """Prefixes that could never begin a key of some backend find nothing, or are refused."""
    await h.put("a/b")
    for prefix in ("../", "a/../", "/", "a//", ".", "./a"):
        try:
            assert await h.keys(prefix) == [], f"prefix {prefix!r}"
        except InvalidKeyError:
            continue
