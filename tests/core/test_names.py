"""What a bucket, a key, a content type, metadata and tags may look like."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trove_async as trove
from tests.core.faulty import Faulty
from tests.strategies import bucket_names, metadata
from trove_async import (
    InvalidBucketNameError,
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
    Trove,
)
from trove_async._names import (
    MAX_METADATA,
    check_bucket,
    check_content_type,
    check_key,
    check_metadata,
    check_tags,
    check_word,
    content_type_of,
)

GOOD_BUCKETS = ["abc", "a-b.c", "0a0", "a" * 63, "xn--a", "a.b.c", "1.2.3.4.5", "1.2.3.a"]
BAD_BUCKETS = [
    "ab",
    "a" * 64,
    "Abc",
    "a_b",
    "-ab",
    "ab-",
    ".ab",
    "ab.",
    "a..b",
    "1.2.3.4",
    "999.999.999.999",
    "a b",
    "äbc",
    "ab\u0661",
    "abc\n",
    "abc\0",
    "../abc",
    "a/b",
    "abc\ud800",
    "%2e%2e",
]


@pytest.mark.parametrize("name", GOOD_BUCKETS)
def test_a_bucket_name_is_accepted(name: str) -> None:
    assert check_bucket(name) == name


@pytest.mark.parametrize("name", BAD_BUCKETS)
def test_what_is_no_bucket_name_is_refused_each_time(name: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidBucketNameError):
            check_bucket(name)


@given(bucket_names.filter(lambda name: ".." not in name))
def test_any_name_of_the_rules_is_accepted(name: str) -> None:
    assert check_bucket(name) == name


GOOD_KEYS = [
    "a",
    " ",
    "/",
    "//",
    "..",
    "../x",
    "a\nb",
    "\x01",
    "\x7f",
    "ключ",
    "e\u0301",
    "\u00e9",
    "\U0001f600",
    "\ufeff",
    "\u202e",
    "x" * 1024,
    "é" * 512,
    "\U0001f600" * 256,
    "CON",
    "a:b",
    "a\\b",
    "%2e%2e",
    "a?b#c",
]
BAD_KEYS = [
    "",
    "\0",
    "a\0b",
    "x" * 1025,
    "é" * 513,
    "x" + "\U0001f600" * 256,
    "\ud800",
    "a\udfffb",
    "\ud83d\ude00",
]


@pytest.mark.parametrize("key", GOOD_KEYS)
def test_a_key_is_accepted_as_it_is(key: str) -> None:
    assert check_key(key) is key


@pytest.mark.parametrize("key", BAD_KEYS)
def test_what_is_no_key_is_refused_with_a_printable_error(key: str) -> None:
    with pytest.raises(InvalidKeyError) as caught:
        check_key(key)
    str(caught.value).encode()
    assert len(str(caught.value)) < 1000


@given(st.text(max_size=1100))
def test_a_key_is_accepted_exactly_when_it_is_1_to_1024_bytes_without_nul(key: str) -> None:
    try:
        length = len(key.encode())
    except UnicodeEncodeError:
        length = 0
    if 1 <= length <= 1024 and "\0" not in key:
        assert check_key(key) == key
    else:
        with pytest.raises(InvalidKeyError):
            check_key(key)


@pytest.mark.parametrize("check", [check_bucket, check_key, check_content_type, check_word])
@pytest.mark.parametrize("value", [None, 1, b"abc", ["abc"]])
def test_what_is_no_text_is_a_type_error(check: Callable[[Any], str], value: object) -> None:
    with pytest.raises(TypeError):
        check(value)


@pytest.mark.parametrize(
    "text",
    ["text/plain", "a/b;c=d", 'text/plain; charset="utf-8"', "x/y ; q=1 ; z=2", "image/svg+xml"],
)
def test_a_content_type_is_accepted(text: str) -> None:
    assert check_content_type(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "text/",
        "/plain",
        "text/plain;",
        "text/plain\r\nX: 1",
        "text/plain\n",
        "text/plain\0",
        "téxt/plain",
        "text/plain; a",
        'text/plain; a="\n"',
        "a/" + "b" * 254,
        "text/plain, text/html",
    ],
)
def test_S10_what_is_no_content_type_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError):
        check_content_type(text)


def test_S14_no_content_type_takes_long() -> None:
    started = time.perf_counter()
    for text in ("a/b" + ";a=b" * 60 + "!", "a/b;" + " " * 240, 'a/b;a="' + " " * 240):
        with pytest.raises(InvalidInputError):
            check_content_type(text + "\n")
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize("text", ["", "a\r\nb", "a\0", "\x7f", "\ud800", "x" * 1025])
def test_S10_a_word_has_no_control_characters(text: str) -> None:
    with pytest.raises(InvalidInputError):
        check_word(text)


# -- metadata and tags -----------------------------------------------------------------------------


@given(metadata)
def test_metadata_is_copied_with_lower_case_names(given: dict[str, str]) -> None:
    upper = {name.upper(): value for name, value in given.items()}
    checked = check_metadata(upper)
    assert checked == given
    assert checked is not upper


@pytest.mark.parametrize(
    "given",
    [
        {"": "x"},
        {"a b": "x"},
        {"a:b": "x"},
        {"a\r\nb": "x"},
        {"é": "x"},
        {"n" * 129: "x"},
        {"n": "a\r\nX: 1"},
        {"n": "a\0"},
        {"n": "\x7f"},
        {"n": "\ud800"},
        {"A": "x", "a": "y"},
        {"trove": "x"},
        {"trovefmt": "1"},
        {"Trovetok": "x"},
        {"TROVE-anything": "x"},
    ],
)
def test_S10_wrong_metadata_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidMetadataError):
        check_metadata(given)


def test_S57_metadata_has_a_limit_in_bytes() -> None:
    assert check_metadata({"a": "é" * ((MAX_METADATA - 1) // 2)})
    assert check_metadata({"a": "x" * (MAX_METADATA - 1)})
    for value in ("x" * MAX_METADATA, "é" * (MAX_METADATA // 2)):
        with pytest.raises(InvalidMetadataError):
            check_metadata({"a": value})
    with pytest.raises(InvalidMetadataError):
        check_metadata({f"n{i:03}": "" for i in range(MAX_METADATA // 4 + 1)})


@pytest.mark.parametrize("given", [{"a": 1}, {1: "a"}, {"a": None}, {"a": b"x"}])
def test_metadata_and_tags_map_text_to_text(given: Any) -> None:
    with pytest.raises(TypeError):
        check_metadata(given)
    with pytest.raises(TypeError):
        check_tags(given)


def test_tags_have_limits() -> None:
    full = {"k" * 127 + str(i): "v" * 256 for i in range(10)}
    assert check_tags(full) == full
    assert check_tags(full) is not full
    for wrong in (
        {**full, "one": "more"},
        {"": "x"},
        {"k" * 129: "x"},
        {"k": "v" * 257},
        {"k\n": "x"},
        {"k": "x\0"},
        {"k": "\ud800"},
    ):
        with pytest.raises(InvalidMetadataError):
            check_tags(wrong)


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("a/b.PNG", "image/png"),
        ("x.json", "application/json"),
        ("x.tar.gz", "application/gzip"),
        ("x.zst", "application/zstd"),
        ("README.md", "text/markdown"),
        ("x.webp", "image/webp"),
        ("x", "application/octet-stream"),
        ("x.", "application/octet-stream"),
        ("x.nosuch", "application/octet-stream"),
        ("a.png/b", "application/octet-stream"),
        ("x." + "y" * 500, "application/octet-stream"),
    ],
)
def test_the_type_of_a_key_goes_by_its_suffix(key: str, wanted: str) -> None:
    assert content_type_of(key) == wanted


# -- at the front: nothing wrong reaches a driver ------------------------------------------------


@pytest.fixture
async def guarded() -> AsyncIterator[tuple[Trove, Faulty]]:
    faulty = Faulty()
    async with trove.open(faulty) as store:
        await store.create_bucket("box")
        faulty.forget()
        yield store, faulty


PLACED: dict[str, Callable[[Trove, str, str], Any]] = {
    "put": lambda store, bucket, key: store.put(bucket, key, b""),
    "get": lambda store, bucket, key: store.get(bucket, key),
    "get_bytes": lambda store, bucket, key: store.get_bytes(bucket, key),
    "get_ranges": lambda store, bucket, key: store.get_ranges(bucket, key, [slice(0, 1)]),
    "head": lambda store, bucket, key: store.head(bucket, key),
    "exists": lambda store, bucket, key: store.exists(bucket, key),
    "delete": lambda store, bucket, key: store.delete(bucket, key),
    "copy from": lambda store, bucket, key: store.copy(bucket, key, "box", "k"),
    "copy to": lambda store, bucket, key: store.copy("box", "k", bucket, key),
    "move from": lambda store, bucket, key: store.move(bucket, key, "box", "k"),
    "move to": lambda store, bucket, key: store.move("box", "k", bucket, key),
    "versions": lambda store, bucket, key: store.versions(bucket, key),
    "restore": lambda store, bucket, key: store.restore(bucket, key, "v"),
    "get_tags": lambda store, bucket, key: store.get_tags(bucket, key),
    "set_tags": lambda store, bucket, key: store.set_tags(bucket, key, {}),
    "presign_get": lambda store, bucket, key: store.presign_get(bucket, key),
    "presign_put": lambda store, bucket, key: store.presign_put(bucket, key),
}


@pytest.mark.parametrize("verb", PLACED)
async def test_every_verb_refuses_a_wrong_bucket_and_key_before_the_driver(
    guarded: tuple[Trove, Faulty], verb: str
) -> None:
    store, faulty = guarded
    for bucket in BAD_BUCKETS:
        with pytest.raises(InvalidBucketNameError):
            await PLACED[verb](store, bucket, "k")
    for key in BAD_KEYS:
        with pytest.raises(InvalidKeyError):
            await PLACED[verb](store, "box", key)
    assert faulty.calls == []


async def test_every_verb_on_a_bucket_refuses_a_wrong_one_before_the_driver(
    guarded: tuple[Trove, Faulty],
) -> None:
    store, faulty = guarded
    for name in BAD_BUCKETS:
        for verb in (
            lambda name: store.create_bucket(name),
            lambda name: store.delete_bucket(name),
            lambda name: store.delete_bucket(name, force=True),
            lambda name: anext(store.list(name)),
            lambda name: store.list_page(name),
            lambda name: store.delete_many(name, ["k"]),
            lambda name: store.get_lifecycle(name),
            lambda name: store.set_lifecycle(name, []),
        ):
            with pytest.raises(InvalidBucketNameError):
                await verb(name)
        with pytest.raises(InvalidBucketNameError):
            store.bucket(name)
        with pytest.raises(InvalidBucketNameError):
            store.watch(name)
    assert faulty.calls == []


async def test_delete_many_tells_a_wrong_key_in_its_place(guarded: tuple[Trove, Faulty]) -> None:
    store, _ = guarded
    await store.put("box", "a", b"")
    results = await store.delete_many("box", ["a", "\0", "gone", ""])
    assert [result.key for result in results] == ["a", "\0", "gone", ""]
    assert [type(result.error) for result in results] == [
        type(None),
        InvalidKeyError,
        type(None),
        InvalidKeyError,
    ]
    with pytest.raises(TypeError):
        await store.delete_many("box", "abc")


@pytest.mark.parametrize("key", GOOD_KEYS)
async def test_an_odd_key_is_kept_as_it_is(guarded: tuple[Trove, Faulty], key: str) -> None:
    store, _ = guarded
    info = await store.put("box", key, b"x")
    assert info.key == key
    assert [entry async for entry in store.list("box")] == [await store.head("box", key)]
    assert await store.get_bytes("box", key) == b"x"
    await store.delete("box", key)
    assert not await store.exists("box", key)


async def test_L8_the_callers_mappings_are_not_kept(guarded: tuple[Trove, Faulty]) -> None:
    store, _ = guarded
    given = {"Colour": "blue"}
    await store.put("box", "k", b"", metadata=given)
    given["Colour"] = "red"
    assert (await store.head("box", "k")).metadata == {"colour": "blue"}
