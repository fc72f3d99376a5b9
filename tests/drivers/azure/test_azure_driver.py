"""Names and metadata, settings and secrets, presigned requests, snapshots, listings."""

from __future__ import annotations

import asyncio
import pickle
import secrets
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drivers.azure.place import Place
from tests.servers.azurite import ACCOUNT, KEY, Azurite
from trove_async import Trove, lookup, parse_dsn
from trove_async._chunks import OneChunk
from trove_async.driver import (
    BucketOptions,
    ByteRange,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
    TaggingDriver,
    VersioningDriver,
    capability,
)
from trove_async.drivers.azure import AzureConfig, AzureDriver
from trove_async.drivers.azure.config import TokenCredential
from trove_async.drivers.azure.names import META, blob_path, meta_headers, plain_metadata
from trove_async.errors import (
    ConflictError,
    DriverClosedError,
    InvalidBucketNameError,
    InvalidConfigError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidMetadataError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnsupportedError,
    VersionNotFoundError,
    WrongLoopError,
)
from trove_async.model import ObjectRef
from trove_async.testing.http import fetch

# -- metadata ------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z0-9_.-]{1,40}", fullmatch=True)
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(st.dictionaries(NAMES, VALUES, max_size=8))
def test_metadata_comes_back_as_it_was(metadata: dict[str, str]) -> None:
    headers: dict[str, str] = {}
    meta_headers(metadata, headers)
    for name, value in headers.items():
        assert name.removeprefix(META).isidentifier() and name.isascii()
        assert value.isascii() and value == value.strip() and value.isprintable()
    pairs = ((name.removeprefix(META), value) for name, value in headers.items())
    assert plain_metadata(pairs) == metadata


def test_an_empty_map_that_must_be_said_is_still_empty() -> None:
    headers: dict[str, str] = {}
    meta_headers({}, headers, marks_empty=True)
    assert len(headers) == 1
    assert plain_metadata((n.removeprefix(META), v) for n, v in headers.items()) == {}


def test_metadata_that_grows_too_long_by_escaping_is_refused() -> None:
    with pytest.raises(InvalidMetadataError, match="8192"):
        meta_headers({"a": "漢" * 1000}, {})


def test_foreign_metadata_is_taken_as_it_is() -> None:
    assert plain_metadata([("Owner", "Ana"), ("x", "utf-8''%ff")]) == {
        "owner": "Ana",
        "x": "utf-8''%ff",
    }


async def test_metadata_of_every_kind_survives_the_server(place: Place) -> None:
    metadata = {"plain": "1", "a-b": "x", "a.b": "y", "9": " spaces ", "trovex__": "é", "e": ""}
    metadata |= {"class": "漢字 🙀", "two": "a  b", "escaped": "utf-8''%41"}
    await place.driver.put(place.bucket, "k", OneChunk(b"1"), PutOptions(metadata=metadata))
    info = await place.driver.head(place.bucket, "k", HeadOptions())
    assert dict(info.metadata) == metadata
    page = await place.driver.list(place.bucket, ListOptions())
    assert page.objects == [info]


# -- names ---------------------------------------------------------------------------------

REFUSED = ["./x", "a/../b", "..", "a/.", "a\\b", "\x01", "a\x7f", "a\ufffe", "a\u0081", "/" * 254]
ALLOWED = ["a//b", "/a", "a/", "a%2e%2e/b", ".hidden", "a..b", "100%", "a?b#c&d=e+f", "é", "a/" * 9]


@pytest.mark.parametrize("key", REFUSED)
async def test_keys_that_would_become_others_are_refused_before_any_byte(
    place: Place, key: str
) -> None:
    target = ObjectRef(place.bucket, key)
    place.proxy.requests.clear()
    for verb in (
        place.driver.put(place.bucket, key, OneChunk(b"1"), PutOptions(size=1)),
        place.driver.get(place.bucket, key, GetOptions()),
        place.driver.head(place.bucket, key, HeadOptions()),
        place.driver.delete(place.bucket, key, DeleteOptions()),
        place.driver.copy(ObjectRef(place.bucket, "k"), target, CopyOptions()),
        place.driver.initiate_multipart(place.bucket, key, PutOptions()),
        place.driver.presign_get(place.bucket, key, 60.0, {}),
    ):
        with pytest.raises(InvalidKeyError):
            await verb
    assert place.proxy.requests == []


async def test_all_other_keys_are_exact(place: Place) -> None:
    for key in ALLOWED:
        await place.store.put(place.bucket, key, key.encode())
    assert {info.key for info in (await place.store.list_page(place.bucket)).objects} == {*ALLOWED}
    for key in ALLOWED:
        assert await place.store.get_bytes(place.bucket, key) == key.encode()


def test_the_service_itself_drops_dots_that_end_segments() -> None:
    """rclone found so, which escapes them; azurite keeps them."""
    for key in ("a.", "a./b"):
        with pytest.raises(InvalidKeyError):
            blob_path("bucket", key, no_trailing_dots=True)
        blob_path("bucket", key, no_trailing_dots=False)


@pytest.mark.parametrize("name", ["a.b.c", "a--b", "no"])
async def test_containers_that_azure_cannot_name_are_refused(place: Place, name: str) -> None:
    place.proxy.requests.clear()
    with pytest.raises(InvalidBucketNameError):
        await place.driver.create_bucket(name, BucketOptions())
    assert place.proxy.requests == []


# -- listings and uploads ------------------------------------------------------------------


async def test_unfinished_uploads_are_in_no_listing_and_cannot_be_touched(place: Place) -> None:
    upload = await place.driver.initiate_multipart(place.bucket, "k", PutOptions())
    await place.driver.put(place.bucket, "a-b", OneChunk(b"1"), PutOptions(size=1))
    for delimiter, groups in (("/", []), ("-", ["a-"]), ("~", []), (None, []), (".", [])):
        page = await place.driver.list(place.bucket, ListOptions(delimiter=delimiter))
        assert page.prefixes == groups, delimiter
        assert [info.key for info in page.objects] == ([] if delimiter == "-" else ["a-b"])
    with pytest.raises(InvalidKeyError):
        await place.driver.head(place.bucket, f".trove-upload~{upload}", HeadOptions())
    near = f".trove-upload~{upload}x"
    await place.driver.put(place.bucket, near, OneChunk(b"1"), PutOptions(size=1))
    page = await place.driver.list(place.bucket, ListOptions(delimiter="~"))
    assert page.prefixes == [".trove-upload~"], "a key of somebody's is hidden"
    await place.driver.delete(place.bucket, near, DeleteOptions())
    await place.driver.delete(place.bucket, "a-b", DeleteOptions())
    await place.driver.delete_bucket(place.bucket)


async def test_completing_replaces_everything_and_ends_the_upload(place: Place) -> None:
    await place.driver.put(place.bucket, "k", OneChunk(b"old"), PutOptions(metadata={"a": "1"}))
    options = PutOptions(content_type="text/x", tags={"t": "1"}, storage_class="Cool")
    upload = await place.driver.initiate_multipart(place.bucket, "k", options)
    parts = [
        await place.driver.upload_part(place.bucket, "k", upload, number, OneChunk(body), None)
        for number, body in ((2, b"world"), (1, b"hello "))
    ]
    done = await place.driver.complete_multipart(
        place.bucket, "k", upload, parts[::-1], PutOptions(late=lambda: {"b": "é"})
    )
    assert await place.driver.head(place.bucket, "k", HeadOptions()) == done
    assert (done.content_type, dict(done.metadata)) == ("text/x", {"b": "é"})
    assert done.storage_class == "Cool"
    assert await place.stored() == b"hello world"
    assert await place.driver.get_tags(place.bucket, "k") == {"t": "1"}
    assert await place.uploads() == []


async def test_a_suffix_is_two_requests_pinned_and_any_other_range_is_one(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"0123456789")
    for wanted, lines in ((ByteRange(2, 5), ["GET"]), (ByteRange(-3), ["HEAD", "GET"])):
        place.proxy.requests.clear()
        raw = await place.driver.get(place.bucket, "k", GetOptions(wanted))
        start, stop = wanted.resolve(10)
        assert b"".join([c async for c in raw.body]) == b"0123456789"[start:stop]
        assert [line.split()[0] for line in place.proxy.requests] == lines


async def test_a_copy_can_change_type_and_empty_the_map_and_takes_tags_along(place: Place) -> None:
    put = PutOptions("text/a", {"a": "1"}, tags={"t": "x y"}, size=1)
    await place.driver.put(place.bucket, "k", OneChunk(b"1"), put)
    source = ObjectRef(place.bucket, "k")
    for number, options in enumerate(
        (CopyOptions(), CopyOptions(metadata={}), CopyOptions(content_type="text/b"))
    ):
        target = ObjectRef(place.bucket, f"copy{number}")
        info = await place.driver.copy(source, target, options)
        assert await place.driver.head(place.bucket, target.key, HeadOptions()) == info
        assert dict(info.metadata) == ({} if number == 1 else {"a": "1"})
        assert info.content_type == ("text/b" if number == 2 else "text/a")
        assert await place.driver.get_tags(place.bucket, target.key) == {"t": "x y"}


async def test_an_object_with_snapshots_is_not_deleted_in_silence(azurite: Azurite) -> None:
    config = AzureConfig(account=ACCOUNT, key=KEY, endpoint=azurite.endpoint, versions="snapshots")
    driver = AzureDriver(config)
    bucket = f"trove-{secrets.token_hex(6)}"
    await driver.open()
    try:
        assert capability(driver, VersioningDriver) is driver
        await driver.create_bucket(bucket, BucketOptions())
        await driver.put(bucket, "k", OneChunk(b"one"), PutOptions(metadata={"n": "1"}, size=3))
        taken = await driver.snapshot(bucket, "k")
        await driver.put(bucket, "k", OneChunk(b"two!"), PutOptions(size=4))
        now, old = await driver.list_versions(bucket, "k")
        assert (now.version_id, now.is_latest, now.size) == ("current", True, 4)
        assert (old.version_id, old.is_latest, old.size) == (taken, False, 3)
        raw = await driver.get_version(bucket, "k", taken, GetOptions(ByteRange(1)))
        assert b"".join([c async for c in raw.body]) == b"ne"
        with pytest.raises(ConflictError):
            await driver.delete(bucket, "k", DeleteOptions())
        with pytest.raises(VersionNotFoundError):
            await driver.head(bucket, "k", HeadOptions("2020-01-01T00:00:00.0000000Z"))
        restored = await driver.restore_version(bucket, "k", taken)
        assert (restored.size, dict(restored.metadata)) == (3, {"n": "1"})
        await driver.delete_version(bucket, "k", taken)
        await driver.delete_version(bucket, "k", taken)
        await driver.delete(bucket, "k", DeleteOptions())
        assert await driver.list_versions(bucket, "k") == []
    finally:
        await driver.close()


# -- presigned requests --------------------------------------------------------------------


async def test_what_a_sas_cannot_bind_is_refused(place: Place) -> None:
    for headers in ({"content-type": "text/x"}, {"content-length": "4"}, {"checksum": "sha256:0"}):
        with pytest.raises(UnsupportedError):
            await place.driver.presign_put(place.bucket, "k", 60.0, headers)
    with pytest.raises(UnsupportedError):
        await place.driver.presign_get(place.bucket, "k", 60.0, {"range": "bytes=0-1"})


async def test_a_presigned_request_shows_no_key_and_is_for_one_method(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"body")
    get = await place.driver.presign_get(place.bucket, "k", 60.0, {})
    assert KEY not in get.url and get.url not in repr(get)
    assert (await fetch("GET", get.url, get.headers)).body == b"body"
    assert (await fetch("PUT", get.url, {"x-ms-blob-type": "BlockBlob"}, b"evil")).status == 403
    assert await place.stored() == b"body"


# -- credentials, settings, life -----------------------------------------------------------


async def test_a_sas_a_connection_string_and_no_secret_at_all(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"body")
    endpoint = place.plain.config.endpoint
    get = await place.plain.presign_get(place.bucket, "k", 60.0, {})
    text = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
    by_text = AzureConfig(connection_string=f"{text}BlobEndpoint={endpoint};")
    by_sas = AzureConfig(endpoint=endpoint, sas="?" + get.url.partition("?")[2])
    for config in (by_text, by_sas):
        driver = AzureDriver(config)
        await driver.open()
        raw = await driver.get(place.bucket, "k", GetOptions())
        assert b"".join([c async for c in raw.body]) == b"body"
        if config is by_sas:
            with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
                await driver.put(place.bucket, "k", OneChunk(b"1"), PutOptions(size=1))
            with pytest.raises(UnauthenticatedError):
                await driver.presign_get(place.bucket, "k", 60.0, {})
        await driver.close()
    for config in (
        AzureConfig(endpoint=endpoint, anonymous=True),
        AzureConfig(account=ACCOUNT, key="A" * 88, endpoint=endpoint),
    ):
        driver = AzureDriver(config)
        await driver.open()
        with pytest.raises((PermissionDeniedError, UnauthenticatedError)):
            raw = await driver.get(place.bucket, "k", GetOptions())
        await driver.close()


class Token:
    closed = False

    async def get_token(self, *scopes: str) -> object:
        raise AssertionError("no token is asked for without TLS")

    async def close(self) -> None:
        self.closed = True


async def test_a_token_credential_needs_tls_and_is_closed_by_its_owner() -> None:
    token = cast("TokenCredential", Token())
    with pytest.raises(InvalidConfigError, match="TLS"):
        AzureConfig(endpoint="http://127.0.0.1:1/a", credential=token)
    driver = AzureDriver(AzureConfig(endpoint="https://127.0.0.1:1/a", credential=token))
    await driver.close()
    assert not cast("Token", token).closed


@pytest.mark.parametrize(
    "text",
    [
        "azblob://c?account=a&key=QQ==&bogus=1",
        "azblob://c?account=a&key=QQ==&sas=x",
        "azblob://c?key=QQ==",
        "azblob://user:word@c?account=a",
        "azblob://c/path?account=a&key=QQ==",
        "azblob://c?account=a&key=QQ==&part_size=1",
        "azblob://c?account=a&key=QQ==&versions=maybe",
        "azure://c?endpoint=ftp://x",
    ],
)
def test_connection_strings_that_mean_nothing_are_refused(text: str) -> None:
    dsn = parse_dsn(text)
    with pytest.raises(InvalidDSNError) as raised:
        lookup(dsn.scheme)(dsn)
    assert "QQ==" not in str(raised.value)


async def test_both_schemes_open_and_the_container_is_the_default_bucket(place: Place) -> None:
    from urllib.parse import quote

    from trove_async import open as open_store

    await place.beside.put(place.bucket, "k", b"body")
    key, endpoint = quote(KEY, safe=""), quote(place.plain.config.endpoint or "", safe="")
    for scheme in ("azblob", "azure"):
        text = f"{scheme}://{place.bucket}?account={ACCOUNT}&key={key}&endpoint={endpoint}"
        async with open_store(text) as store:
            assert await store.get_bytes(None, "k") == b"body"
    raw_key = f"azblob://c?account={ACCOUNT}&key={KEY}"  # plus signs that were not escaped
    assert AzureDriver.from_dsn(parse_dsn(raw_key)).config.key == KEY


def test_secrets_are_in_no_text() -> None:
    config = AzureConfig(account="a", key="c2VjcmV0")
    driver = AzureDriver(config)
    assert "c2VjcmV0" not in repr(config) + repr(driver) + str(driver)
    for one in (config, driver):
        with pytest.raises(TypeError):
            pickle.dumps(one)


def test_another_loop_and_use_before_or_after_are_typed_errors(azurite: Azurite) -> None:
    driver = AzureDriver(AzureConfig(account=ACCOUNT, key=KEY, endpoint=azurite.endpoint))

    async def ask() -> None:
        await driver.head("abc", "k", HeadOptions())

    with pytest.raises(DriverClosedError):
        asyncio.run(ask())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(driver.open())
    with pytest.raises(WrongLoopError):
        asyncio.run(ask())
    loop.run_until_complete(driver.close())
    loop.run_until_complete(driver.close())
    loop.close()
    with pytest.raises(DriverClosedError):
        asyncio.run(ask())


async def test_capabilities_are_those_of_the_account(azurite: Azurite) -> None:
    config = AzureConfig(account=ACCOUNT, key=KEY, endpoint=azurite.endpoint, hierarchical=True)
    driver = AzureDriver(config)
    await driver.open()
    try:
        assert capability(driver, TaggingDriver) is None
        assert capability(driver, VersioningDriver) is None
        assert not driver.features.flat_keys
        with pytest.raises(UnsupportedError):
            await driver.put("abc", "k", OneChunk(b"1"), PutOptions(tags={"a": "b"}))
        with pytest.raises(UnsupportedError):
            await driver.create_bucket("abc", BucketOptions(region="mars"))
    finally:
        await driver.close()


async def test_a_store_closes_cleanly(azurite: Azurite) -> None:
    driver = AzureDriver(AzureConfig(account=ACCOUNT, key=KEY, endpoint=azurite.endpoint))
    async with Trove(driver) as store:
        assert (await store.ping())["default"].ok
