"""S10 to S16: values that would be markup, headers, code or endless work elsewhere."""

from __future__ import annotations

import ast
import time
import zlib
from pathlib import Path
from typing import Any, Final

import pytest

import trove_async
from tests.security.conftest import Walled
from trove_async import (
    Context,
    InvalidDSNError,
    MultipartDriver,
    PartInfo,
    Trove,
    capability,
    keys,
    parse_dsn,
)
from trove_async._chunks import OneChunk
from trove_async.driver import ByteRange, PutOptions
from trove_async.driver.records import unseal
from trove_async.drivers.local.meta import Record
from trove_async.errors import (
    CorruptMetadataError,
    InvalidInputError,
    InvalidRangeError,
    TroveError,
    UploadNotFoundError,
)

PACKAGE: Final = Path(trove_async.__file__).parent
BREAKS: Final = ("a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b", "\x1b[2J", "\x7f")


@pytest.mark.parametrize("text", BREAKS)
async def test_S10_no_line_break_or_NUL_gets_into_a_header(
    walled: Walled, memory: Trove, text: str
) -> None:
    for store in (walled.store, memory):
        calls: list[dict[str, Any]] = [
            {"metadata": {"name": text}},
            {"metadata": {text: "value"}},
            {"content_type": f"text/plain; x={text}"},
            {"content_type": text},
            {"storage_class": text},
            {"tags": {"name": text}},
            {"tags": {text: "value"}},
            {"if_match": text},
            {"if_none_match": text},
            {"checksum": f"sha256:{text}"},
        ]
        for options in calls:
            with pytest.raises(ValueError):  # InvalidInputError is one
                await store.put("bucket", "k", b"x", **options)
        await store.put("bucket", "k", b"x")
        with pytest.raises(InvalidInputError):
            await store.copy("bucket", "k", "bucket", "c", metadata={"name": text})
        with pytest.raises(InvalidInputError):
            await store.copy("bucket", "k", "bucket", "c", content_type=text)
        with pytest.raises(InvalidInputError):
            await store.set_tags("bucket", "k", {"name": text})
        with pytest.raises(TroveError):
            await store.presign_get("bucket", "k", filename=text, content_type=text)
        with pytest.raises(TroveError):
            await store.get_bytes("bucket", "k", version_id=text)
        assert not await store.exists("bucket", "c")


@pytest.mark.parametrize(
    "name", ["content-length", "host", "x-amz-acl", "authorization", "set-cookie", "location"]
)
async def test_S11_a_metadata_name_stays_a_metadata_name(
    walled: Walled, memory: Trove, name: str
) -> None:
    for store in (walled.store, memory):
        info = await store.put("bucket", "k", b"four", metadata={name: "7"})
        found = await store.head("bucket", "k")
        assert dict(found.metadata) == dict(info.metadata) == {name: "7"}
        assert (found.size, found.content_type) == (4, "application/octet-stream")


MARKUP: Final = (
    "</Key><Key>other</Key>",
    "<!DOCTYPE x [<!ENTITY a SYSTEM 'file:-etc-passwd'>]>",
    "&lol;&amp;",
    "]]>",
    '"}],"o":"other',
    "{{7*7}}",
    "${jndi:x}",
)


@pytest.mark.parametrize("text", MARKUP)
async def test_S12_markup_in_names_and_values_is_data(
    walled: Walled, memory: Trove, text: str
) -> None:
    key = text.replace("/", "|")
    for store in (walled.store, memory):
        await store.put("bucket", key, b"data", metadata={"m": text}, tags={"t": text})
        found = await store.head("bucket", key)
        assert found.metadata["m"] == text
        assert await store.get_tags("bucket", key) == {"t": text}
        (result,) = await store.delete_many("bucket", [key])
        assert result.error is None and result.key == key
        assert not await store.exists("bucket", key)


def test_S13_nothing_loads_code_from_data() -> None:
    """No pickle and its kin, no eval, no yaml loader that makes objects."""
    banned = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle", "yaml"}
    for path in PACKAGE.rglob("*.py"):
        if "testing" in path.relative_to(PACKAGE).parts:
            continue  # its cases prove that errors can be pickled
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names: set[str] = set()
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                is_ours = path.name == "_quick.py"  # builds constructors from names of fields
                assert is_ours or node.func.id not in ("eval", "exec", "compile"), path
            assert not names & banned, f"{path} imports {names & banned}"


def test_S13_records_on_disk_are_data_only(tmp_path: Path) -> None:
    whole = Record(1, 2, "e", "text/plain", {"a": "b"}).encode()
    assert unseal(whole)["m"] == {"a": "b"}
    for text in (
        b"cos\nsystem\n(S'id'\ntR.",
        b"!!python/object/apply:os.system ['id']",
        b"[" * 9999,
    ):
        with pytest.raises(CorruptMetadataError):
            Record.decode(text)
    deep = b"[" * 100_000
    with pytest.raises(CorruptMetadataError):
        Record.decode(b"%08x " % zlib.crc32(deep) + deep)


PATTERNS: Final = (
    "*a" * 30 + "*b",
    "[" * 10_000,
    "*" * 5_000,
    "?" * 5_000,
    "{a,b}" * 2_000,
    "**/" * 2_000,
)


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda p: p[:6])
async def test_S14_no_pattern_of_a_scope_or_route_takes_long(pattern: str) -> None:
    start = time.monotonic()
    try:
        context = Context("put", "bucket", "a" * 1000)
        keys(pattern).matches(context)
        async with trove_async.open(
            "mem://", backends={"b": "mem://"}, routes=[(pattern, "b")]
        ) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "a" * 1000, b"x")
            assert await store.get_bytes("bucket", "a" * 1000) == b"x"
    except (ValueError, TroveError):
        pass
    assert time.monotonic() - start < 2.0


def test_S15_a_range_of_any_number_is_answered_or_refused() -> None:
    for size in (0, 1, 10, 1 << 62):
        for start in (0, 1, -1, 9, 10, -(1 << 70), 1 << 63, 1 << 70):
            for stop in (None, 0, 1, 10, 1 << 63, 1 << 70, -5):
                try:
                    low, high = ByteRange(start, stop).resolve(size)
                except InvalidRangeError:
                    continue
                assert 0 <= low <= high <= size


async def test_S15_a_thousand_ranges_are_read_once_each(walled: Walled, memory: Trove) -> None:
    data = bytes(range(256)) * 40
    wanted = [slice(at % 9000, at % 9000 + 50) for at in range(0, 40_000, 37)]
    for store in (walled.store, memory):
        await store.put("bucket", "k", data)
        assert await store.get_ranges("bucket", "k", wanted) == [data[w] for w in wanted]
        overlapping = [slice(0, None)] * 200
        assert await store.get_ranges("bucket", "k", overlapping) == [data] * 200


async def test_S16_sizes_and_numbers_past_every_limit_are_refused(
    walled: Walled, memory: Trove
) -> None:
    for store in (walled.store, memory):
        await store.put("bucket", "k", b"old")
        for size in (-1, 1 << 63, 1 << 70):
            with pytest.raises((ValueError, TroveError)):
                await store.put("bucket", "k", b"x", size=size)
        assert await store.get_bytes("bucket", "k") == b"old"
        for wrong in (slice(1 << 63, None), slice(0, 1 << 70, 2), slice(5, 1), slice(0, -1)):
            with pytest.raises((ValueError, TroveError)):
                await store.get_bytes("bucket", "k", range=wrong)
        assert await store.get_bytes("bucket", "k", range=slice(0, 1 << 50)) == b"old"
        for pages in (0, -1):
            with pytest.raises((ValueError, TroveError)):
                await store.list_page("bucket", page_size=pages)


async def test_S16_part_numbers_and_upload_ids_are_checked(walled: Walled) -> None:
    driver = capability(walled.store.driver, MultipartDriver)
    assert driver is not None
    upload = await driver.initiate_multipart("bucket", "k", PutOptions())
    for number in (0, -1, 10_001, 1 << 31, 1 << 63):
        with pytest.raises(InvalidInputError):
            await driver.upload_part("bucket", "k", upload, number, OneChunk(b"x"), 1)
    for wrong in ("", "..", "../../..", upload + "/../..", upload.upper() + "x", "\0", "%2e%2e"):
        with pytest.raises(UploadNotFoundError):
            await driver.upload_part("bucket", "k", wrong, 1, OneChunk(b"x"), 1)
        with pytest.raises(UploadNotFoundError):
            await driver.abort_multipart("bucket", "k", wrong)
        with pytest.raises(UploadNotFoundError):
            await driver.list_parts("bucket", "k", wrong)
    for bucket, key in (("other", "k"), ("bucket", "other")):
        with pytest.raises(UploadNotFoundError):
            await driver.list_parts(bucket, key, upload)
    for etag in ("../../x", "a/b", "0" * 24, ""):
        with pytest.raises(TroveError):
            await driver.complete_multipart(
                "bucket", "k", upload, [PartInfo(1, etag, 1)], PutOptions()
            )


@pytest.mark.parametrize(
    "text",
    [
        "file://evil.example/etc",
        "file://user:secret@/tmp/x",
        "local://host/tmp",
        "file:///tmp/x?unknown=1",
        "file:///tmp/x?durability=maybe",
        "mem://?x=1",
        "javascript://x",
        "file:///tmp/%00x",
        "gopher://x",
        "file://",
        "ＦＩＬＥ:///tmp",
    ],
)
async def test_S21_a_scheme_or_option_that_is_not_known_is_refused(text: str) -> None:
    with pytest.raises(InvalidDSNError):
        async with trove_async.open(text):
            pass


@pytest.mark.parametrize("text", ["mem://" + "a" * 100_000, "file:///" + "%41" * 40_000])
def test_S14_a_DSN_has_a_length(text: str) -> None:
    with pytest.raises(InvalidDSNError):
        parse_dsn(text)
