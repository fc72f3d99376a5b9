"""A. Keys: what goes in comes back exactly, or is refused; nothing is merged or renamed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import cast

from trove_async.errors import InvalidKeyError, KeyConflictError, ObjectNotFoundError, TroveError
from trove_async.model import CommonPrefix
from trove_async.testing.case import case, drop
from trove_async.testing.harness import Harness

NFC, NFD = "caf\u00e9", "cafe\u0301"
ODD_KEYS = ["a%b?c#d&e=f+g", "a b", "a\\b", 'a:b*c"d<e>f|g', "%48%49", "100%", "%2F", "a?b#c&d=e+f"]


def body_of(key: str) -> bytes:
    """Another body for every key."""
    return b"body of " + key.encode("utf-8", "surrogatepass")


async def exact(h: Harness, key: str) -> None:
    info = await h.put(key, body_of(key))
    assert info.key == key, "put names another key"
    assert await h.get(key) == body_of(key)
    assert (await h.store.head(h.bucket, key)).key == key, "head names another key"
    assert key in await h.keys(), "the key is not in the listing"


async def exact_or_refused(h: Harness, key: str) -> None:
    try:
        await exact(h, key)
    except InvalidKeyError:
        assert await h.keys() == [], "a refused key left an object"


async def distinct(h: Harness, *keys: str) -> list[str]:
    """Puts all; those that were not refused are there, each with its own body."""
    stored: list[str] = []
    refusals = (InvalidKeyError,) if h.features.flat_keys else (InvalidKeyError, KeyConflictError)
    for key in keys:
        try:
            await h.put(key, body_of(key))
        except refusals:
            continue
        stored.append(key)
    assert stored, "all keys were refused"
    for key in stored:
        assert await h.get(key) == body_of(key), f"{key!r} has another body"
    assert sorted(await h.keys()) == sorted(stored)
    return stored


@case("K001", "ascii_key_round_trip", params=["a", "dir/file.txt", "A-Z_0.9~"])
async def ascii_key_round_trip(h: Harness, key: str) -> None:
    await exact(h, key)


@case("K002", "key_with_spaces", params=[" lead mid trail ", "  ", "a / b"])
async def key_with_spaces(h: Harness, key: str) -> None:
    await exact(h, key)
    assert await h.keys() == [key]


@case("K003", "key_unicode_nfc_nfd_distinct")
async def key_unicode_nfc_nfd_distinct(h: Harness) -> None:
    await distinct(h, NFC, NFD)


@case("K004", "key_emoji_and_flags")
async def key_emoji_and_flags(h: Harness) -> None:
    key = "🙀/🇦🇺.bin"
    await exact(h, key)
    assert await h.keys("🙀/") == [key]
    assert await h.keys("🙀/🇦🇺") == [key]


@case("K005", "key_rtl_and_zero_width")
async def key_rtl_and_zero_width(h: Harness) -> None:
    stored = await distinct(h, "ab", "a\u202eb", "a\u200bb")
    assert len(stored) == 3, "direction marks and zero-width spaces are characters like others"


@case("K006", "key_percent_encoded_not_decoded")
async def key_percent_encoded_not_decoded(h: Harness) -> None:
    await exact(h, "%48%49")
    with h.raises(ObjectNotFoundError):
        await h.get("HI")
    assert await h.keys() == ["%48%49"]


@case("K007", "key_bare_percent", params=["100%", "%Q", "%2F", "%"])
async def key_bare_percent(h: Harness, key: str) -> None:
    await exact(h, key)


@case("K008", "key_question_hash_amp", params=["a?b#c&d=e+f", "?", "#", "a;b,c@d"])
async def key_question_hash_amp(h: Harness, key: str) -> None:
    await exact(h, key)
    assert await h.keys() == [key]


@case("K009", "key_plus_vs_space")
async def key_plus_vs_space(h: Harness) -> None:
    assert len(await distinct(h, "a+b", "a b", "a%20b", "a%2Bb")) == 4


@case("K010", "key_backslash")
async def key_backslash(h: Harness) -> None:
    try:
        await exact(h, "a\\b")
    except InvalidKeyError:
        assert await h.keys() == [], "a refused key left an object"
        h.drop("keys with a backslash are refused")
    entries = [entry async for entry in h.store.list(h.bucket, delimiter="/")]
    assert [getattr(entry, "key", None) for entry in entries] == ["a\\b"], "it is no folder"


@case("K011", "key_colon_star_quotes")
async def key_colon_star_quotes(h: Harness) -> None:
    await exact(h, 'a:b*c"d<e>f|g')
    assert await h.keys() == ['a:b*c"d<e>f|g']


@case("K012", "key_leading_slash")
async def key_leading_slash(h: Harness) -> None:
    assert "a" in await distinct(h, "a", "/a")


@case("K013", "key_trailing_slash")
async def key_trailing_slash(h: Harness) -> None:
    assert "a" in await distinct(h, "a", "a/")


@case("K014", "key_double_slash")
async def key_double_slash(h: Harness) -> None:
    assert "a/b" in await distinct(h, "a/b", "a//b")


@case("K015", "key_dot_segments", params=[".", "..", "a/./b", "a/../b", "../x", "a/..", "./a"])
async def key_dot_segments(h: Harness, key: str) -> None:
    other = await h.new_bucket()
    await h.store.put(other, "x", b"untouched")
    escape = f"../{other}/x" if key == "../x" else key
    before = [bucket.name for bucket in await h.store.list_buckets()]
    await exact_or_refused(h, escape)
    assert [bucket.name for bucket in await h.store.list_buckets()] == before
    assert await h.store.get_bytes(other, "x") == b"untouched", "written outside the bucket"
    assert [e.key async for e in h.store.list(other) if not isinstance(e, CommonPrefix)] == ["x"]
    for innocent in ("x", "b", "a/b"):
        assert innocent not in await h.keys(), "a dot segment was resolved"


async def _both(h: Harness, first: str, second: str) -> None:
    await h.put(first, body_of(first))
    if not h.features.flat_keys:
        with h.raises(KeyConflictError):
            await h.put(second, body_of(second))
        assert await h.get(first) == body_of(first), "the refused put hurt the other object"
        assert await h.keys() == [first]
        drop("driver declares flat_keys=False (the refusal is KeyConflictError, as it must be)")
    await h.put(second, body_of(second))
    assert await h.get(first) == body_of(first)
    assert await h.get(second) == body_of(second)
    assert sorted(await h.keys()) == sorted([first, second])


@case("K016", "key_prefix_of_other")
async def key_prefix_of_other(h: Harness) -> None:
    await _both(h, "a", "a/b")


@case("K017", "key_prefix_of_other_reverse")
async def key_prefix_of_other_reverse(h: Harness) -> None:
    await _both(h, "a/b", "a")


@case("K018", "key_prefix_delete_keeps_child", needs=["flat_keys"])
async def key_prefix_delete_keeps_child(h: Harness) -> None:
    await distinct(h, "a", "a/b")
    await h.store.delete(h.bucket, "a")
    assert await h.get("a/b") == body_of("a/b")
    assert await h.keys() == ["a/b"]


@case("K019", "key_child_delete_keeps_parent", needs=["flat_keys"])
async def key_child_delete_keeps_parent(h: Harness) -> None:
    await distinct(h, "a", "a/b")
    await h.store.delete(h.bucket, "a/b")
    assert await h.get("a") == body_of("a")
    assert await h.keys() == ["a"]


@case("K018", "key_delete_of_a_mere_prefix")
async def key_delete_of_a_mere_prefix(h: Harness) -> None:
    """A key that is only the folder of others is no object; deleting it deletes nothing."""
    await h.put("a/b")
    await h.store.delete(h.bucket, "a")
    assert await h.keys() == ["a/b"]
    assert not await h.store.exists(h.bucket, "a")


@case("K019", "key_child_delete_frees_parent")
async def key_child_delete_frees_parent(h: Harness) -> None:
    """Once the last child is gone its parent's name is free."""
    await h.put("a/b/c")
    await h.store.delete(h.bucket, "a/b/c")
    await exact(h, "a")


@case("K020", "key_case_sensitive", needs=["case_sensitive"])
async def key_case_sensitive(h: Harness) -> None:
    assert len(await distinct(h, "K", "k", "Dir/x", "dir/x")) == 4


@case("K021", "key_ends_in_sidecar_suffix", params=[".meta.json", ".meta", ".json", ".attrs"])
async def key_ends_in_sidecar_suffix(h: Harness, suffix: str) -> None:
    await h.put("x", b"plain", metadata={"a": "1"})
    await exact(h, "x" + suffix)
    assert await h.get("x") == b"plain"
    assert (await h.store.head(h.bucket, "x")).metadata == {"a": "1"}
    assert await h.keys() == ["x", "x" + suffix]


@case("K022", "key_and_its_sidecar_name")
async def key_and_its_sidecar_name(h: Harness) -> None:
    await h.put("k", b"k", metadata={"a": "1"})
    await exact(h, "k.meta.json")
    await h.store.delete(h.bucket, "k")
    assert await h.get("k.meta.json") == body_of("k.meta.json")
    await h.put("k", b"k", metadata={"a": "2"})
    await h.store.delete(h.bucket, "k.meta.json")
    assert await h.get("k") == b"k"
    assert (await h.store.head(h.bucket, "k")).metadata == {"a": "2"}


@case("K023", "key_looks_like_temp", params=[".trove-tmp-1", "a#1", "a.tmp", ".trove/x", "~a"])
async def key_looks_like_temp(h: Harness, key: str) -> None:
    await exact(h, key)


@case("K024", "key_1024_bytes")
async def key_1024_bytes(h: Harness) -> None:
    await exact(h, "/".join(["k" * 127] * 8) + "k")


@case("K025", "key_1025_bytes", params={"segments": "/".join(["k" * 127] * 8) + "kk"})
async def key_1025_bytes(h: Harness, key: str) -> None:
    assert len(key) == 1025
    with h.raises(InvalidKeyError):
        await h.put(key)
    assert await h.keys() == []


@case("K026", "key_segment_255_256", params=[255, 256, 1024])
async def key_segment_255_256(h: Harness, length: int) -> None:
    await exact_or_refused(h, "s" * length)


@case("K027", "key_multibyte_at_limit")
async def key_multibyte_at_limit(h: Harness) -> None:
    segments = "/".join(["漢" * 80] * 4) + "/" + "漢" * 19  # 339 characters of 3 bytes, 4 slashes
    assert len(segments.encode()) == 1021
    await exact(h, segments + "abc")
    with h.raises(InvalidKeyError):
        await h.put(segments + "漢漢")


@case("K028", "key_100_levels_deep")
async def key_100_levels_deep(h: Harness) -> None:
    key = "a/" * 100 + "x"
    await exact(h, key)
    await h.store.delete(h.bucket, key)
    assert await h.keys() == []
    ghosts = [entry async for entry in h.store.list(h.bucket, delimiter="/")]
    assert ghosts == [], "empty prefixes stay in the listing"


@case("K029", "key_control_chars", params=[*range(1, 32), 127])
async def key_control_chars(h: Harness, code: int) -> None:
    await exact_or_refused(h, f"a{chr(code)}b")


@case("K030", "key_nul")
async def key_nul(h: Harness) -> None:
    before = h.calls
    with h.raises(InvalidKeyError):
        await h.put("a\0b")
    with h.raises(InvalidKeyError):
        await h.get("a\0b")
    assert h.calls == before, "the driver was asked"


@case("K031", "key_crlf")
async def key_crlf(h: Harness) -> None:
    await exact_or_refused(h, "a\r\nx-amz-meta-evil: y")
    for key in await h.keys():
        assert (await h.store.head(h.bucket, key)).metadata == {}, "a header was injected"


async def refused_everywhere(h: Harness, key: str, kind: type[Exception]) -> None:
    await h.put("ok", b"ok")
    before = h.calls
    store, bucket = h.store, h.bucket
    for call in (
        lambda: store.put(bucket, key, b"x"),
        lambda: store.get_bytes(bucket, key),
        lambda: store.head(bucket, key),
        lambda: store.delete(bucket, key),
        lambda: store.copy(bucket, key, bucket, "copy"),
        lambda: store.copy(bucket, "ok", bucket, key),
    ):
        with h.raises(kind):
            await call()
    assert h.calls == before, "the driver was asked"
    assert await h.keys() == ["ok"]


@case("K032", "key_empty")
async def key_empty(h: Harness) -> None:
    await refused_everywhere(h, "", InvalidKeyError)


@case("K033", "key_lone_surrogate", params={"high": "\ud800", "low": "a\udfffb"})
async def key_lone_surrogate(h: Harness, key: str) -> None:
    await refused_everywhere(h, key, InvalidKeyError)


@case(
    "K034",
    "key_wrong_type",
    params={"bytes": b"a", "none": None, "int": 3, "path": Path("a"), "list": ["a"]},
)
async def key_wrong_type(h: Harness, key: object) -> None:
    await refused_everywhere(h, cast("str", key), TypeError)


@case("K035", "key_xml_special", params={"markup": "<&>\"'", "fffe": "a\ufffeb", "cdata": "]]>"})
async def key_xml_special(h: Harness, key: str) -> None:
    await exact_or_refused(h, key)


@case("K036", "key_reserved_windows_names", params=["CON", "aux.txt", "a.", "NUL/x", "LPT1"])
async def key_reserved_windows_names(h: Harness, key: str) -> None:
    await exact(h, key)


@case("K037", "key_ascii_sweep", params=list(range(8)))
async def key_ascii_sweep(h: Harness, part: int) -> None:
    """All 128 characters; each alone where its group is refused, so that none hides another."""
    group = "".join(chr(code) for code in range(part * 16, part * 16 + 16))
    try:
        await exact(h, f"x{group}y")
    except InvalidKeyError:
        for character in group:
            try:
                await exact(h, f"x{character}y")
            except InvalidKeyError:
                assert f"x{character}y" not in await h.keys()


@case("K015", "key_dots_inside_names", params=["...", "a/...", ".hidden", "a..b", "..a", "a/.b"])
async def key_dots_inside_names(h: Harness, key: str) -> None:
    """Dots are refused only where they are whole segments."""
    await exact(h, key)


@case("K015", "key_dot_segments_on_every_verb", params=["../x", "a/../../x", "/../x"])
async def key_dot_segments_on_every_verb(h: Harness, key: str) -> None:
    other = await h.new_bucket()
    await h.store.put(other, "x", b"untouched")
    escape = key.replace("/x", f"/{other}/x")
    for verb in (h.store.head, h.store.get_bytes):
        with h.raises(TroveError):
            await verb(h.bucket, escape)
    with suppress(InvalidKeyError):
        await h.store.delete(h.bucket, escape)
    with suppress(TroveError):
        await h.store.copy(h.bucket, escape, h.bucket, "stolen")
    assert await h.store.get_bytes(other, "x") == b"untouched"
    assert await h.keys() == []
