"""S01, S02: no name leads out of the root or into another bucket, by whatever verb."""

from __future__ import annotations

from typing import Final

import pytest

from tests.security.conftest import SECRET, Walled
from tests.security.verbs import BY_BUCKET, BY_KEY, tree, unlisted
from trove_async import InvalidBucketNameError, InvalidKeyError, Trove, TroveError
from trove_async.errors import InvalidInputError, NotFoundError, UnsupportedError

CLIMBING: Final = (
    *("../outside.txt", "../../outside.txt", "../../../../../../etc/passwd", "..", "."),
    *("a/../../outside.txt", "a/../b", "./x", "a/./b", "a/..", "a/.", "../other/x", "../b/x"),
    *("/etc/passwd", "//etc/passwd", "a//b", "/", "//", "../.trove/locks"),
)
"""What a file system would take for another place, or for another key."""
ODD: Final = (
    *("~/x", "~root/x", "%2e%2e/x", "%2e%2e%2foutside.txt", "..%2foutside.txt", "..\\outside.txt"),
    *(
        "C:\\x",
        "C:/x",
        "\\\\host\\share",
        "...",
        ".. /x",
        "$HOME/x",
        "`id`",
        "a;b",
        "-rf",
        "*",
        "?",
    ),
    *(".trove", ".trove/locks", "．．/x", "‥/x", "a\nb", "\x1b[2J", "CON", "a:b"),
)
"""Names like others, which only look as if."""
BUCKETS: Final = (
    *("..", ".", "a/../b", "../victim", "bucket/../other", "/etc", "~", ".trove", "other/x"),
    *("%2e%2e", "..\\victim", "bucket\0", "BUCKET", "a\nb", "-bucket", "127.0.0.1", "a..b"),
)


def test_every_verb_is_in_the_tables() -> None:
    assert unlisted() == {"upload", "download"}  # they need a file: tests/uploads/test_files.py


@pytest.mark.parametrize("verb", BY_KEY)
async def test_S01_L1_no_key_climbs(walled: Walled, verb: str) -> None:
    before = tree(walled.around)
    for key in CLIMBING:
        with pytest.raises((InvalidKeyError, UnsupportedError)):
            await BY_KEY[verb](walled.store, "bucket", key)
    assert tree(walled.around) == before


@pytest.mark.parametrize("verb", ["list", "list_page"])
async def test_S01_no_prefix_climbs(walled: Walled, verb: str) -> None:
    """A prefix is text: it finds keys that begin with it, so nothing, or it is refused."""
    for prefix in (*CLIMBING, *ODD):
        try:
            found = await BY_BUCKET[verb](walled.store, "bucket", prefix)
        except InvalidInputError:
            continue
        assert "outside" not in str(found) and "victim" not in str(found)
        assert "of the other" not in str(found)
    for after in CLIMBING:
        page = await walled.store.list_page("bucket", start_after=after)
        assert {info.key for info in page.objects} <= {"there"}


@pytest.mark.parametrize("key", ODD)
async def test_S01_odd_keys_are_keys_like_others(walled: Walled, key: str) -> None:
    """Stored under their own name inside of the bucket, and given back as they are."""
    store = walled.store
    outside = {name: data for name, data in tree(walled.around).items() if data == SECRET}
    await store.put("bucket", key, b"odd")
    assert await store.get_bytes("bucket", key) == b"odd"
    assert [info.key async for info in store.list("bucket", prefix=key)] == [key]  # type: ignore[union-attr]  # no delimiter, no groups
    await store.copy("bucket", key, "other", key)
    await store.move("other", key, "other", "back")
    assert await store.get_bytes("other", "back") == b"odd"
    await store.delete("bucket", key)
    assert not await store.exists("bucket", key)
    now = tree(walled.around)
    assert {name: now[name] for name in outside} == outside


@pytest.mark.parametrize("bucket", BUCKETS)
async def test_S02_L1_no_bucket_leads_out(walled: Walled, bucket: str) -> None:
    before = tree(walled.around)
    for name, verb in {**BY_KEY, **BY_BUCKET}.items():
        with pytest.raises(InvalidBucketNameError):
            await verb(walled.store, bucket, "x")
            pytest.fail(f"{name} takes the bucket {bucket!r}")
    assert tree(walled.around) == before


async def test_S02_a_key_never_reaches_another_bucket(walled: Walled) -> None:
    store = walled.store
    for key in ("../other/x", "a/../../other/x", "..\\other\\x", "%2e%2e/other/x", "other/x"):
        for verb in ("get_bytes", "head", "delete", "put", "copy from", "move from"):
            try:
                await BY_KEY[verb](store, "bucket", key)
            except (InvalidKeyError, NotFoundError):
                continue
    assert await store.get_bytes("other", "x") == b"of the other bucket"
    assert (walled.root / "other" / "x").read_bytes() == b"of the other bucket"


@pytest.mark.parametrize("verb", BY_KEY)
async def test_S01_NUL_surrogates_and_length_are_refused_before_any_file(
    walled: Walled, memory: Trove, verb: str
) -> None:
    for key in ("", "a\0b", "\0", "\ud800", "a\udfff", "k" * 1025, "ü" * 513):
        for store in (walled.store, memory):
            with pytest.raises((InvalidKeyError, UnsupportedError)):
                await BY_KEY[verb](store, "bucket", key)


async def test_S30_a_tampered_token_never_leaves_the_prefix(walled: Walled) -> None:
    store = walled.store
    for number in range(20):
        await store.put("bucket", f"tenant-a/{number:02}", b"a")
        await store.put("bucket", f"tenant-b/{number:02}", b"b")
    page = await store.list_page("bucket", prefix="tenant-b/", page_size=5)
    assert page.cursor is not None
    token = page.cursor
    tampered = [token[:at] + chr(ord(token[at]) ^ 1) + token[at + 1 :] for at in range(len(token))]
    tampered += [token[:-1], token + "A", token * 2, "", "x", "../..", "tenant-a/00", "\0"]
    for wrong in tampered:
        try:
            found = await store.list_page("bucket", prefix="tenant-b/", cursor=wrong)
        except (TroveError, ValueError):
            continue
        assert all(info.key.startswith("tenant-b/") for info in found.objects)
    for other in ("tenant-a/", ""):
        try:
            found = await store.list_page("bucket", prefix=other, cursor=token)
        except TroveError:
            continue
        assert all(info.key.startswith(other) for info in found.objects)
