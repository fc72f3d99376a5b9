"""M. The life of a driver and of a store: open, close, and what they say of themselves."""

from __future__ import annotations

import asyncio
import copy
import pickle
import time
from collections.abc import Awaitable, Callable

import trove_async
from trove_async import Trove
from trove_async.config import Timeouts
from trove_async.driver import (
    BatchDeleteDriver,
    BucketOptions,
    CopyOptions,
    DeleteOptions,
    Driver,
    GetOptions,
    HeadOptions,
    LifecycleDriver,
    ListOptions,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PutOptions,
    RangeDriver,
    TaggingDriver,
    VersioningDriver,
    WatchOptions,
    capability,
    parse_dsn,
)
from trove_async.errors import (
    DriverClosedError,
    InvalidDSNError,
    TroveError,
    UnavailableError,
)
from trove_async.model import ObjectRef
from trove_async.testing.case import Deliberate, case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source, fail, hang
from trove_async.testing.harness import Harness
from trove_async.testing.second import in_second_process
from trove_async.testing.setups import faulty_place

SECRET = "ca-na-ry-0x5ec2e7"
Attempt = Callable[[], Awaitable[object]]


def _driver_calls(driver: Driver, bucket: str) -> dict[str, Attempt]:
    """Every method the driver has, but open and close."""
    one, two = ObjectRef(bucket, "k"), ObjectRef(bucket, "k2")
    calls: dict[str, Attempt] = {
        "ping": driver.ping,
        "put": lambda: driver.put(bucket, "k", Source(b"x"), PutOptions(size=1)),
        "get": lambda: driver.get(bucket, "k", GetOptions()),
        "head": lambda: driver.head(bucket, "k", HeadOptions()),
        "delete": lambda: driver.delete(bucket, "k", DeleteOptions()),
        "list": lambda: driver.list(bucket, ListOptions()),
        "copy": lambda: driver.copy(one, two, CopyOptions()),
        "create_bucket": lambda: driver.create_bucket(bucket + "-new", BucketOptions()),
        "delete_bucket": lambda: driver.delete_bucket(bucket),
        "list_buckets": driver.list_buckets,
    }
    if (parts := capability(driver, MultipartDriver)) is not None:
        calls["initiate_multipart"] = lambda: parts.initiate_multipart(bucket, "k", PutOptions())
        calls["list_uploads"] = lambda: parts.list_uploads(bucket, "")
    if (versions := capability(driver, VersioningDriver)) is not None:
        calls["list_versions"] = lambda: versions.list_versions(bucket, "k")
    if (tags := capability(driver, TaggingDriver)) is not None:
        calls["get_tags"] = lambda: tags.get_tags(bucket, "k")
    if (rules := capability(driver, LifecycleDriver)) is not None:
        calls["get_lifecycle"] = lambda: rules.get_lifecycle(bucket)
    if (events := capability(driver, NotificationDriver)) is not None:
        calls["watch"] = lambda: events.watch(bucket, WatchOptions())
    if (batch := capability(driver, BatchDeleteDriver)) is not None:
        calls["delete_many"] = lambda: batch.delete_many(bucket, ["k"])
    if (mover := capability(driver, MoveDriver)) is not None:
        calls["move"] = lambda: mover.move(one, two, CopyOptions())
    if (ranges := capability(driver, RangeDriver)) is not None:
        calls["get_ranges"] = lambda: ranges.get_ranges(bucket, "k", [], GetOptions())
    return calls


def _store_calls(store: Trove, bucket: str) -> dict[str, Attempt]:
    return {
        "put": lambda: store.put(bucket, "k", b"x"),
        "get": lambda: store.get_bytes(bucket, "k"),
        "head": lambda: store.head(bucket, "k"),
        "exists": lambda: store.exists(bucket, "k"),
        "delete": lambda: store.delete(bucket, "k"),
        "delete_many": lambda: store.delete_many(bucket, ["k"]),
        "list_page": lambda: store.list_page(bucket),
        "list": lambda: anext(aiter(store.list(bucket))),
        "copy": lambda: store.copy(bucket, "k", bucket, "k2"),
        "move": lambda: store.move(bucket, "k", bucket, "k2"),
        "get_ranges": lambda: store.get_ranges(bucket, "k", [slice(0, 1)]),
        "create_bucket": lambda: store.create_bucket(bucket + "-new"),
        "delete_bucket": lambda: store.delete_bucket(bucket),
        "list_buckets": store.list_buckets,
        "versions": lambda: store.versions(bucket, "k"),
        "get_tags": lambda: store.get_tags(bucket, "k"),
        "get_lifecycle": lambda: store.get_lifecycle(bucket),
    }


async def _all_closed(calls: dict[str, Attempt], *kinds: type[TroveError]) -> None:
    for name, attempt in calls.items():
        try:
            async with asyncio.timeout(5):
                await attempt()
        except kinds:
            continue
        except Exception as error:
            raise AssertionError(f"{name} raised {error!r}") from error
        raise AssertionError(f"{name} worked")


@case("K185", "closed_driver_every_method")
async def closed_driver_every_method(h: Harness) -> None:
    await h.put("k", b"body")
    store = await h.make_store()
    await store.aclose()
    await _all_closed(_store_calls(store, h.bucket), DriverClosedError)
    driver = h.new_driver()
    await driver.open()
    await driver.create_bucket(h.bucket, BucketOptions())
    await driver.close()
    await _all_closed(_driver_calls(driver, h.bucket), DriverClosedError)
    assert await h.get("k") == b"body", "another store was closed with it"


@case("K186", "close_twice")
async def close_twice(h: Harness) -> None:
    driver = h.new_driver()
    await driver.close()  # never opened
    await driver.open()
    await asyncio.gather(driver.close(), driver.close())
    await driver.close()
    store = await h.make_store()
    await store.aclose()
    await store.aclose()


@case("K187", "close_with_open_reader")
async def close_with_open_reader(h: Harness) -> None:
    """The rest of the body comes, or a typed error does; nothing hangs."""
    body = noise(3_000_000)
    store = await h.make_store()
    bucket = await h.new_bucket(store)
    await store.put(bucket, "k", body)
    reader = await store.get(bucket, "k")
    start = await reader.read(10)
    await store.aclose()
    try:
        async with asyncio.timeout(5):
            assert start + await reader.read() == body
    except TimeoutError as error:
        assert isinstance(error, TroveError), "the reader hangs"
    except TroveError:
        pass
    finally:
        await reader.aclose()


@case("K187", "close_with_put_under_way")
async def close_with_put_under_way(h: Harness) -> None:
    """The put ends well, or with a typed error."""
    driver = h.new_driver()
    await driver.open()
    await driver.create_bucket(h.bucket, BucketOptions())
    gate = asyncio.Event()
    source = Source(noise(3_000_000), 400_000, gate=gate, gate_at=5)
    putting = asyncio.create_task(driver.put(h.bucket, "k", source, PutOptions()))
    await source.waiting.wait()
    await driver.close()
    gate.set()
    await asyncio.wait([putting], timeout=5)
    assert putting.done(), "the put hangs"
    error = putting.exception()
    assert error is None or isinstance(error, TroveError), repr(error)
    await driver.close()


@case("K188", "use_before_open", needs=["not_ready"])
async def use_before_open(h: Harness) -> None:
    await _all_closed(_driver_calls(h.new_driver(), h.bucket), DriverClosedError)


@case("K188", "use_before_open_store")
async def use_before_open_store(h: Harness) -> None:
    """A store is opened first, whatever its driver could do without."""
    store = Trove(h.new_driver())
    await _all_closed(_store_calls(store, h.bucket), DriverClosedError)


@case("K188", "use_before_open_ready")
async def use_before_open_ready(h: Harness) -> None:
    if not h.features.ready:
        h.drop("driver declares ready=False")
    driver = h.new_driver()
    await driver.create_bucket(h.bucket, BucketOptions())
    await driver.put(h.bucket, "k", Source(b"body"), PutOptions(size=4))
    assert (await driver.head(h.bucket, "k", HeadOptions())).size == 4


@case("K189", "reopen_after_close")
async def reopen_after_close(h: Harness) -> None:
    """It works, with the objects that were there, or it is a typed error."""
    driver = h.new_driver()
    store = await h.open_store(driver)
    bucket = await h.new_bucket(store)
    await store.put(bucket, "k", b"body")
    await store.aclose()
    try:
        await store.aopen()
    except TroveError:
        return
    assert await store.get_bytes(bucket, "k") == b"body"


@case("K190", "ping_ok_and_down")
async def ping_ok_and_down(h: Harness) -> None:
    health = (await h.store.ping())["default"]
    assert health.ok and health.error is None and health.latency >= 0, health
    place, driver = await faulty_place(h, timeouts=Timeouts(read=0.3))
    driver.add(fail("ping", lambda: UnavailableError("nobody listens")))
    health = (await place.store.ping())["default"]
    assert not health.ok and health.error is not None and "nobody listens" in health.error
    driver.add(hang("ping"))
    started = time.monotonic()
    health = (await place.store.ping())["default"]
    assert not health.ok and time.monotonic() - started < 1, "not within the time limit"
    driver.faults.clear()
    assert (await place.store.ping())["default"].ok


_BAD = {
    "empty": "",
    "no scheme": f"user:{SECRET}@bucket",
    "wrong scheme": f"nonsense://user:{SECRET}@bucket",
    "bad port": f"sftp://user:{SECRET}@host:port/x",
    "port too large": f"sftp://user:{SECRET}@host:99999/x",
    "unknown option": f"mem://?nonsense={SECRET}",
    "option twice": f"file:///tmp/x?durability=full&durability={SECRET}",
}


@case("K191", "open_bad_dsn", params=_BAD, stacks=False)
async def open_bad_dsn(h: Harness, text: str) -> None:
    with h.raises(InvalidDSNError) as raised:
        await trove_async.open(text)
    _no_secret(raised.error)


@case("K191", "open_bad_dsn_of_this_driver", needs=["dsn"], stacks=False)
async def open_bad_dsn_of_this_driver(h: Harness) -> None:
    assert h.dsn is not None
    joint = "&" if "?" in h.dsn else "?"
    with h.raises(InvalidDSNError) as raised:
        await trove_async.open(f"{h.dsn}{joint}no_such_option={SECRET}")
    _no_secret(raised.error)
    async with trove_async.open(h.dsn) as store:
        assert h.bucket in [info.name for info in await store.list_buckets()]


def _no_secret(error: BaseException | None) -> None:
    while error is not None:
        assert SECRET not in f"{error!s}{error!r}", f"the secret is in {type(error).__name__}"
        error = error.__cause__ or error.__context__


@case("K192", "context_manager_exception")
async def context_manager_exception(h: Harness) -> None:
    """The body's own exception comes out, and the driver is closed."""
    driver = h.new_driver()
    original = Deliberate("from the body")
    try:
        async with Trove(driver) as store:
            await store.create_bucket(h.bucket)
            raise original
    except Deliberate as error:
        assert error is original
    else:
        raise AssertionError("the exception was swallowed")
    with h.raises(DriverClosedError):
        await driver.list(h.bucket, ListOptions())
    with h.raises(DriverClosedError):
        await store.list_buckets()


@case("K193", "repr_has_no_secret", stacks=False)
async def repr_has_no_secret(h: Harness) -> None:
    dsn = parse_dsn(f"s3://KEY{SECRET}:{SECRET}@bucket?token={SECRET}")
    assert SECRET not in f"{dsn}{dsn!r}"
    shown = f"{h.driver}{h.driver!r}{h.store!r}{getattr(h.driver, 'config', '')!r}"
    if h.dsn is not None:
        own = parse_dsn(h.dsn)
        hidden = (value for name, value in own.params.items() if f"{name}=***" in str(own))
        for secret in (own.password, *hidden):
            if own.password is not None and secret and len(secret) > 6:
                assert secret not in shown, "a credential is shown"
    try:
        copied = pickle.dumps(h.driver)
    except (TypeError, pickle.PicklingError, AttributeError, TroveError, RecursionError):
        return  # a driver need not be pickled
    assert SECRET.encode() not in copied


@case("K194", "driver_state_not_shared")
async def driver_state_not_shared(h: Harness) -> None:
    """The factory gives fresh storage; two drivers know nothing of each other."""
    await h.put("k", b"one")
    other = await h.make_store()
    if h.bucket in [info.name for info in await other.list_buckets()]:
        h.drop("the factory gives drivers that share one storage")
    await other.create_bucket(h.bucket)
    try:
        assert not await other.exists(h.bucket, "k")
        await other.put(h.bucket, "k", b"two")
        assert await h.get("k") == b"one"
        await other.delete(h.bucket, "k")
        await other.delete_bucket(h.bucket)
        assert await h.get("k") == b"one"
    finally:
        if h.bucket in [info.name for info in await other.list_buckets()]:
            await other.delete_bucket(h.bucket, force=True)
    assert copy.copy(h.features) == h.features


@case("K195", "fork_or_spawn_safe", needs=["dsn"], stacks=False)
async def fork_or_spawn_safe(h: Harness) -> None:
    """A spawned process reads what is here and writes what is then seen here."""
    body = b"from here" * 1000
    await h.put("k", body)
    order = {"do": "swap", "dsn": h.dsn, "bucket": h.bucket, "read": "k", "write": "d/back"}
    assert await in_second_process(order) == {"read": body.decode()}
    assert await h.get("d/back") == body[::-1]
