"""Credentials, tokens, signed URLs, and the life of the driver."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.drivers.gcs.place import Place, opened
from tests.servers import proxy as faults
from tests.servers.gcs import EMAIL, Server
from trove_async import (
    DriverClosedError,
    PresignedRequest,
    UnsupportedError,
    lookup,
    parse_dsn,
)
from trove_async.driver import HeadOptions
from trove_async.drivers.gcs import GCSConfig, GCSDriver
from trove_async.drivers.gcs.presigning import canonical
from trove_async.errors import (
    InvalidConfigError,
    InvalidDSNError,
    OperationTimeoutError,
    UnauthenticatedError,
    WrongLoopError,
)
from trove_async.model import MiB


async def _sent(
    request: PresignedRequest, body: bytes | None = None, **headers: str
) -> tuple[int, bytes, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            request.method, request.url, headers={**request.headers, **headers}, data=body
        ) as answer,
    ):
        return answer.status, await answer.read(), answer.headers.get("content-type", "")


async def test_signed_urls_work_over_plain_http(place: Place) -> None:
    store, bucket = place.beside, place.bucket
    put = await store.presign_put(bucket, "a b/é.txt", content_type="text/x", size=4)
    assert (await _sent(put, b"longer"))[0] == 400
    assert (await _sent(put, b"body", **{"content-type": "text/html"}))[0] == 403
    assert (await _sent(put, b"body"))[0] == 200
    info = await store.head(bucket, "a b/é.txt")
    assert (info.size, info.content_type) == (4, "text/x")
    get = await store.presign_get(bucket, "a b/é.txt", content_type="image/png")
    assert await _sent(get) == (200, b"body", "image/png")
    assert (await _sent(get, range="bytes=1-2"))[:2] == (206, b"od")


async def test_changed_signed_urls_are_refused(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"secret")
    await place.beside.put(place.bucket, "k2", b"secret")
    get = await place.beside.presign_get(place.bucket, "k")
    parts = urlsplit(get.url)
    for url in (
        get.url.replace("/k?", "/k2?"),
        get.url.replace("X-Goog-Expires=900", "X-Goog-Expires=901"),
        get.url + "&generation=1",
        f"{parts.scheme}://{parts.netloc}{parts.path}",
    ):
        status, body, _ = await _sent(PresignedRequest("GET", url))
        assert status in (400, 401, 403) and b"secret" not in body
    for method in ("PUT", "DELETE"):
        assert (await _sent(PresignedRequest(method, get.url), b"evil"))[0] == 403
    assert await place.stored() == b"secret"


async def test_an_expired_url_is_refused(place: Place) -> None:
    await place.beside.put(place.bucket, "k", b"secret")
    get = await place.beside.presign_get(place.bucket, "k", expires=2)
    assert (await _sent(get))[0] == 200
    await asyncio.sleep(2.1)
    assert (await _sent(get))[0] == 400


async def test_a_callable_signs_in_place_of_a_key(gcs: Server) -> None:
    """As IAM's signBlob does."""
    account = json.loads(gcs.credentials.read_text())
    key = serialization.load_pem_private_key(account["private_key"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    asked: list[bytes] = []

    async def sign(text: bytes) -> bytes:
        asked.append(text)
        return key.sign(text, padding.PKCS1v15(), hashes.SHA256())

    async with opened(gcs) as place:
        await place.beside.put(place.bucket, "k", b"body")
        config = GCSConfig(endpoint=gcs.endpoint, anonymous=True, signer=sign, signer_email=EMAIL)
        driver = GCSDriver(config)
        await driver.open()
        request = await driver.presign_get(place.bucket, "k", 60, {})
        await driver.close()
        assert (await _sent(request))[:2] == (200, b"body")
        assert asked[0].startswith(b"GOOG4-RSA-SHA256\n") and "function" not in repr(config)


async def test_without_a_key_nothing_can_be_signed(gcs: Server) -> None:
    driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint))
    await driver.open()
    with pytest.raises(UnauthenticatedError):
        await driver.presign_get("bucket", "k", 60, {})
    await driver.close()


def test_a_canonical_request_is_as_google_writes_it() -> None:
    """The example of the page on canonical requests, with a header of ours."""
    text, query = canonical(
        "GET",
        "/example-bucket/cat.jpeg",
        {"X-Goog-Expires": "3600", "X-Goog-Date": "20191201T190859Z", "b c": "é/+"},
        {"host": "storage.googleapis.com", "content-type": "a  b "},
    )
    assert text == (
        "GET\n/example-bucket/cat.jpeg\n"
        "X-Goog-Date=20191201T190859Z&X-Goog-Expires=3600&b%20c=%C3%A9%2F%2B\n"
        "content-type:a b\nhost:storage.googleapis.com\n\ncontent-type;host\nUNSIGNED-PAYLOAD"
    )
    assert query in text


# -- tokens ---------------------------------------------------------------------------------


async def test_a_hundred_tasks_ask_for_one_token(gcs: Server) -> None:
    async with opened(gcs) as place:
        before = gcs.control("state")["grants"]
        await asyncio.gather(
            *(place.store.exists(place.bucket, f"k{number}") for number in range(100))
        )
        assert gcs.control("state")["grants"] - before == 1


async def test_a_token_that_is_refused_is_renewed_once_also_in_a_long_upload(
    gcs: Server,
) -> None:
    async with opened(gcs) as place:

        async def body() -> object:
            for number in range(8):
                if number == 5:
                    await asyncio.to_thread(gcs.control, "revoke")
                yield bytes([number]) * MiB

        await place.store.put(place.bucket, "k", body())
        assert len(await place.store.get_bytes(place.bucket, "k")) == 8 * MiB
        await asyncio.to_thread(gcs.control, "revoke")
        results = await asyncio.gather(*(place.store.head(place.bucket, "k") for _ in range(20)))
        assert {info.size for info in results} == {8 * MiB}
        await asyncio.to_thread(
            gcs.control, "script", when="/o/k", status=401, times=99, reason="authError"
        )
        with pytest.raises(UnauthenticatedError):
            await place.store.head(place.bucket, "k")


async def test_wrong_credentials_are_told_without_showing_them(gcs: Server, tmp_path: Path) -> None:
    account = json.loads(gcs.credentials.read_text())
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    path = tmp_path / "account.json"
    path.write_text(json.dumps({**account, "private_key": other.decode()}))
    driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint, credentials=str(path)))
    await driver.open()
    with pytest.raises(UnauthenticatedError) as raised:
        await driver.head("bucket", "k", HeadOptions())
    await driver.close()
    shown = repr(raised.value) + repr(raised.value.__cause__) + repr(vars(driver))
    assert "PRIVATE" not in shown and "assertion" not in shown


_NO_KEY = '{"type": "service_account", "client_email": "a@b", "private_key": "secret"}'


@pytest.mark.parametrize("text", [None, "{", "[]", '{"a": 1}', '{"type": "unknown"}', _NO_KEY])
async def test_key_files_that_are_none_are_refused(tmp_path: Path, text: str | None) -> None:
    """The SDK would take the machine's own account then."""
    path = tmp_path / "account.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidConfigError) as raised:
        await GCSDriver(GCSConfig(credentials=str(path))).open()
    assert "secret" not in repr(raised.value)


async def test_a_token_service_that_hangs_is_a_timeout(
    gcs: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("trove_async.drivers.gcs.credentials._TIMEOUT", 0.2)
    async with opened(gcs) as place:
        account = json.loads(gcs.credentials.read_text())
        path = tmp_path / "account.json"
        path.write_text(json.dumps({**account, "token_uri": f"{place.proxy.endpoint}/token"}))
        place.proxy.add(faults.hang("down", when="/token", times=None))
        driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint, credentials=str(path)))
        await driver.open()
        with pytest.raises(OperationTimeoutError):
            await driver.head(place.bucket, "k", HeadOptions())
        place.proxy.clear()
        await driver.close()


async def test_an_anonymous_client_reads_what_is_public(gcs: Server) -> None:
    async with opened(gcs) as place:
        await place.beside.put(place.bucket, "k", b"body")
        driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint, anonymous=True))
        await driver.open()
        with pytest.raises(UnauthenticatedError):
            await driver.head(place.bucket, "k", HeadOptions())
        await asyncio.to_thread(gcs.control, "public", bucket=place.bucket)
        assert (await driver.head(place.bucket, "k", HeadOptions())).size == 4
        await driver.close()


# -- settings and life ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "gs://bucket?nonsense=1",
        "gs://user@bucket",
        "gs://bucket/path",
        "gs://bucket:80",
        "gs://bucket?part_size=x",
        "gs://bucket?concurrency=0",
        "gs://bucket?anonymous=true&credentials=x",
        "gs://bucket?endpoint=ftp://x",
        "gs://bucket?endpoint=http://x/path",
    ],
)
def test_wrong_connection_strings_are_refused(dsn: str) -> None:
    with pytest.raises(InvalidDSNError):
        GCSDriver.from_dsn(parse_dsn(dsn))


def test_a_connection_string_says_it_all() -> None:
    for scheme in ("gs", "gcs"):
        dsn = parse_dsn(
            f"{scheme}://bucket?endpoint=http://h:1&project=p&part_size=1048576&concurrency=3"
            "&anonymous=true"
        )
        driver = lookup(scheme)(dsn)
        assert isinstance(driver, GCSDriver)
        assert driver.config == GCSConfig(
            endpoint="http://h:1", project="p", part_size=MiB, concurrency=3, anonymous=True
        )


def test_the_emulator_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert GCSConfig().root == "https://storage.googleapis.com" and not GCSConfig().is_anonymous
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "localhost:9")
    assert GCSConfig().root == "http://localhost:9" and GCSConfig().is_anonymous
    assert GCSConfig(endpoint="https://x/").root == "https://x"


def test_neither_driver_nor_config_is_pickled(gcs: Server) -> None:
    config = GCSConfig(endpoint=gcs.endpoint, credentials=str(gcs.credentials))
    for thing in (config, GCSDriver(config)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


async def test_a_bucket_needs_a_project(gcs: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT", raising=False)
    driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint))
    await driver.open()
    with pytest.raises(InvalidConfigError, match="project"):
        await driver.list_buckets()
    await driver.close()


async def test_use_before_open_after_close_and_elsewhere(gcs: Server) -> None:
    driver = GCSDriver(GCSConfig(endpoint=gcs.endpoint))
    with pytest.raises(DriverClosedError):
        await driver.ping()
    await driver.open()
    await driver.open()

    def elsewhere() -> None:
        with pytest.raises(WrongLoopError):
            asyncio.run(driver.ping())

    await asyncio.to_thread(elsewhere)
    driver._now().pid = os.getpid() + 1  # as after a fork
    with pytest.raises(WrongLoopError):
        await driver.ping()
    await driver.close()
    await driver.close()
    with pytest.raises(DriverClosedError):
        await driver.ping()


async def test_what_gcs_cannot_bind_is_refused(place: Place) -> None:
    with pytest.raises(UnsupportedError):
        await place.driver.presign_put(place.bucket, "k", 60, {"checksum": "sha256:00"})
    with pytest.raises(UnsupportedError):
        await place.driver.presign_get(place.bucket, "k", 60, {"range": "bytes=0-1"})
