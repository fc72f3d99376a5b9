"""What is S3's own: copies by parts, settings, what a lesser server is told to lack, events."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.drivers.s3.conftest import opened
from tests.drivers.s3.place import Place, pieces, settled
from tests.servers import proxy as faults
from tests.servers.s3 import KEY, SECRET, Server
from trove_async import (
    DriverClosedError,
    InvalidConfigError,
    InvalidDSNError,
    KeyConflictError,
    ObjectChangedError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
    lookup,
    parse_dsn,
)
from trove_async._chunks import OneChunk
from trove_async.driver import (
    CopyOptions,
    HeadOptions,
    NotificationDriver,
    PutOptions,
    VersioningDriver,
    capability,
)
from trove_async.drivers.s3 import S3Config, S3Credentials, S3Driver
from trove_async.model import MiB, ObjectRef


def made(dsn: str) -> S3Driver:
    driver = lookup("s3")(parse_dsn(dsn))
    assert isinstance(driver, S3Driver)
    return driver


# -- copies --------------------------------------------------------------------------------


async def test_a_copy_over_the_limit_goes_by_parts(place: Place) -> None:
    """With the limit of 5 GiB lowered to 6 MiB."""
    place.driver.most_copied, place.driver.copy_part = 6 * MiB, 5 * MiB
    tags = {"team": "blue"}
    await place.store.put(
        place.bucket, "a", pieces(12), content_type="text/x", metadata={"n": "1"}, tags=tags
    )
    place.proxy.requests.clear()
    await place.store.copy(place.bucket, "a", place.bucket, "b")
    assert len([line for line in place.proxy.requests if "partNumber" in line]) == 3
    assert await place.stored("b") == await place.stored("a")
    info = await place.beside.head(place.bucket, "b")
    assert (info.content_type, dict(info.metadata)) == ("text/x", {"n": "1"})
    assert await place.beside.get_tags(place.bucket, "b") == tags
    place.proxy.add(faults.status(500, when="partNumber=2", times=None))
    with pytest.raises(TroveError):
        await place.store.copy(place.bucket, "a", place.bucket, "c")
    assert await place.uploads() == [] and not await place.beside.exists(place.bucket, "c")


async def test_a_conditional_copy_does_not_overwrite(place: Place) -> None:
    await place.beside.put(place.bucket, "a", b"new")
    for key, body in (("b", b"old"), ("empty", b"")):
        await place.beside.put(place.bucket, key, body)
        with pytest.raises(PreconditionFailedError):
            await place.store.copy(place.bucket, "a", place.bucket, key, if_none_match="*")
        assert await place.stored(key) == body
    await place.store.copy(place.bucket, "empty", place.bucket, "fresh", if_none_match="*")
    assert await place.stored("fresh") == b"" and await place.uploads() == []


async def test_a_copy_is_of_the_version_that_was_asked_for(place: Place) -> None:
    await place.beside.put(place.bucket, "a", b"body")
    source, target = ObjectRef(place.bucket, "a"), ObjectRef(place.bucket, "b")
    with pytest.raises(ObjectChangedError):
        await place.driver.copy(source, target, CopyOptions(source_if_match="0" * 32))
    etag = (await place.driver.head(place.bucket, "a", HeadOptions())).etag
    await place.driver.copy(source, target, CopyOptions(source_if_match=etag))
    assert await place.stored("b") == b"body"


# -- settings -------------------------------------------------------------------------------


def test_every_parameter_of_a_dsn_arrives() -> None:
    driver = made(
        "s3://KEY:SECRET@bucket?region=eu-west-1&endpoint=https://s3.example:9000&path_style=false"
        "&token=t&checksum=when_required&conditional=false&part_size=10485760&concurrency=7"
        "&sse=aws:kms&kms_key=k"
    )
    config = driver.config
    assert (config.key, config.secret, config.token) == ("KEY", "SECRET", "t")
    assert (config.region, config.endpoint) == ("eu-west-1", "https://s3.example:9000")
    assert (config.path_style, config.conditional, config.checksum) == (
        False,
        False,
        "when_required",
    )
    assert (config.part_size, config.concurrency) == (10 * MiB, 7)
    assert (config.sse, config.kms_key) == ("aws:kms", "k")
    assert made("s3://b?anonymous=true").config.anonymous
    assert made("s3://b?profile=dev").config.profile == "dev"
    assert made("s3://b?accelerated=true").config.accelerated
    assert made("s3://b?sign_payload=false").config.sign_payload is False


@pytest.mark.parametrize(
    "dsn",
    [
        "s3://b?colour=red",
        "s3://b/path",
        "s3://key@b",
        "s3://b?part_size=1000",
        "s3://b?part_size=many",
        "s3://b?checksum=never",
        "s3://b?endpoint=ftp://host",
        "s3://k:s3cret-s3cret@b?anonymous=true",
        "s3://b?sse=rot13",
        "s3://b?kms_key=k",
        "s3://b?accelerated=true&endpoint=http://h",
        "s3://b?concurrency=0",
    ],
)
def test_a_wrong_dsn_says_so_and_no_secret(dsn: str) -> None:
    with pytest.raises(InvalidDSNError) as raised:
        made(dsn)
    assert "s3cret" not in str(raised.value)


def test_secrets_are_never_shown() -> None:
    config = S3Config(key="AKIA", secret="ca-na-ry", token="ca-na-ry-2")
    driver = S3Driver(config)
    assert "ca-na-ry" not in f"{config}{config!r}{driver}{driver!r}"
    assert "ca-na-ry" not in repr(S3Credentials("a", "ca-na-ry", "ca-na-ry"))
    for secretive in (config, driver, S3Credentials("a", "ca-na-ry")):
        with pytest.raises(TypeError):
            pickle.dumps(secretive)
    with pytest.raises(InvalidConfigError):
        S3Config(key="only")


@pytest.mark.parametrize(
    ("region", "bucket", "settings", "url"),
    [
        ("us-east-1", "bkt", {}, "https://bkt.s3.us-east-1.amazonaws.com/a%20b"),
        ("eu-west-1", "bkt", {}, "https://bkt.s3.eu-west-1.amazonaws.com/a%20b"),
        ("cn-north-1", "bkt", {}, "https://bkt.s3.cn-north-1.amazonaws.com.cn/a%20b"),
        ("eu-west-1", "b.kt", {}, "https://s3.eu-west-1.amazonaws.com/b.kt/a%20b"),
        ("eu-west-1", "bkt", {"path_style": True}, "https://s3.eu-west-1.amazonaws.com/bkt/a%20b"),
        (
            "eu-west-1",
            "bkt",
            {"accelerated": True},
            "https://bkt.s3-accelerate.amazonaws.com/a%20b",
        ),
    ],
)
async def test_aws_is_found_where_it_is(
    region: str, bucket: str, settings: dict[str, bool], url: str
) -> None:
    config = S3Config(key="k", secret="s", region=region, **settings)  # type: ignore[arg-type]
    driver = S3Driver(config)
    await driver.open()
    try:
        signed = await driver.presign_get(bucket, "a b", 60, {})
        assert signed.url.partition("?")[0] == url
        elsewhere = driver._address(driver._now().connection, "ap-south-1").of("bkt", "k")
        assert "ap-south-1" in elsewhere.origin or config.accelerated
    finally:
        await driver.close()


# -- servers --------------------------------------------------------------------------------


@pytest.fixture
async def folders(rclone: Server) -> AsyncIterator[Place]:
    async with opened(rclone) as place:
        yield place


async def test_a_lesser_server_is_found_out(folders: Place) -> None:
    driver = folders.driver
    assert driver.features.conditional == frozenset() and not driver.features.flat_keys
    assert capability(driver, VersioningDriver) is None
    assert capability(driver, NotificationDriver) is None and isinstance(driver, S3Driver)
    with pytest.raises(UnsupportedError):
        await folders.store.put(folders.bucket, "k", b"", if_none_match="*")
    with pytest.raises(UnsupportedError):
        await driver.put(folders.bucket, "k", OneChunk(b"x"), PutOptions(size=1, if_match="e"))


@pytest.mark.parametrize("direct", [True, False])
async def test_a_refusal_without_a_100_does_not_hang(rclone: Server, direct: bool) -> None:
    """rclone says nothing to ``Expect: 100-continue`` when it refuses."""
    async with opened(rclone, direct=direct, read_timeout=5.0) as place:
        await place.store.put(place.bucket, "a", b"body")
        async with asyncio.timeout(3):
            with pytest.raises(KeyConflictError):
                await place.store.put(place.bucket, "a/b", b"body")


@pytest.mark.parametrize("direct", [True, False])
async def test_both_ways_to_the_server_mean_the_same(moto: Server, direct: bool) -> None:
    async with opened(moto, direct=direct) as place:
        metadata = {"n": "é 漢字", "plain": "x"}
        await place.store.put(
            place.bucket, "a b+c/é%", b"x" * 1000, content_type="text/x", metadata=metadata
        )
        async with place.store.get(place.bucket, "a b+c/é%", range=slice(10, 20)) as reader:
            assert await reader.read() == b"x" * 10
            assert (reader.info.content_type, dict(reader.info.metadata)) == ("text/x", metadata)
        page = await place.store.list_page(place.bucket, prefix="a b+c/", delimiter="%")
        assert (page.objects, page.prefixes) == ([], ["a b+c/é%"])
        await place.store.put(place.bucket, "long", pieces(11))
        assert len(await place.store.get_bytes(place.bucket, "long")) == 11 * MiB
        await place.store.delete(place.bucket, "long")
        assert not await place.store.exists(place.bucket, "long")
    assert settled() == []


async def test_another_loop_is_refused(place: Place) -> None:
    def elsewhere() -> None:
        with pytest.raises(WrongLoopError):
            asyncio.run(place.driver.ping())

    await asyncio.get_running_loop().run_in_executor(None, elsewhere)


async def test_a_dropped_server_is_noticed_by_the_first_verb() -> None:
    driver = S3Driver(S3Config(endpoint="http://127.0.0.1:9", key=KEY, secret=SECRET))
    await driver.open()
    try:
        with pytest.raises(TroveError) as raised:
            await driver.ping()
        assert SECRET not in str(raised.value)
    finally:
        await driver.close()


# -- presigned requests ---------------------------------------------------------------------


async def test_what_was_bound_is_refused_when_changed(folders: Place) -> None:
    """rclone looks at signatures: plain HTTP, with a client that knows nothing of us."""
    store, bucket = folders.beside, folders.bucket
    put = await store.presign_put(bucket, "up/k", content_type="text/x", size=4)
    async with aiohttp.ClientSession() as session:
        for body, headers, is_good in (
            (b"longer", {"content-type": "text/x"}, False),
            (b"body", {"content-type": "text/html"}, False),
            (b"body", {"content-type": "text/x"}, True),
        ):
            async with session.put(put.url, data=body, headers=headers) as answer:
                assert (answer.status == 200) == is_good, await answer.text()
        get = await store.presign_get(bucket, "up/k")
        async with session.get(get.url) as answer:
            assert (answer.status, await answer.read()) == (200, b"body")
        for url in (get.url.replace("up/k", "up/other"), get.url[:-1] + "x"):
            async with session.get(url) as answer:
                assert answer.status >= 400
        async with session.delete(get.url) as answer:
            assert answer.status >= 400


# -- events ---------------------------------------------------------------------------------


async def test_a_watch_leaves_nothing_on_the_server(place: Place) -> None:
    opened_now = place.plain._now()
    queues = opened_now.connection
    async with place.beside.watch(place.bucket) as events:
        await place.beside.put(place.bucket, "a b", b"")
        async with asyncio.timeout(10):
            event = await anext(events)
        assert (event.type, event.key) == ("object.created", "a b")
        told = await opened_now.control("get_bucket_notification_configuration", place.bucket)
        assert len(told["QueueConfigurations"]) == 1
    told = await opened_now.control("get_bucket_notification_configuration", place.bucket)
    assert not told.get("QueueConfigurations")
    sqs = await queues.shared_client("sqs")
    left = (await sqs.list_queues(QueueNamePrefix="trove-")).get("QueueUrls", [])
    assert left == []


@pytest.mark.parametrize("direct", [True, False])
async def test_a_request_after_the_close_makes_no_connection(moto: Server, direct: bool) -> None:
    """A closed SDK client connects anew when it is asked, and nobody would end that."""
    driver = S3Driver(
        S3Config(endpoint=moto.endpoint, region="us-east-1", key=KEY, secret=SECRET, direct=direct)
    )
    await driver.open()
    await driver.ping()
    opened = driver._now()
    await driver.close()
    with pytest.raises(DriverClosedError):
        await opened.control("list_buckets")
    sessions: dict[object, object] = opened.control.client._endpoint.http_session._sessions
    assert not sessions
