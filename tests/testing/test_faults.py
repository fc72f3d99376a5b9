"""A faulty driver does what was ordered and nothing else; it hides and adds no capability."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from trove_async import BucketOptions, Trove
from trove_async.driver import (
    Driver,
    GetOptions,
    HeadOptions,
    MultipartDriver,
    PutOptions,
    VersioningDriver,
    capability,
)
from trove_async.driver import capabilities as protocols
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import ObjectNotFoundError, UnavailableError
from trove_async.testing.faults import (
    FaultyDriver,
    Source,
    broken,
    cancelling,
    corrupt,
    fail,
    hang,
    short,
    slow,
    stalled,
)
from trove_async.testing.faulty import _MIXINS, faulty
from trove_async.testing.needs import CAPABILITIES
from trove_async.testing.stepper import Step, cancel_everywhere

BODY = bytes(range(256)) * 4


async def filled(**options: bool) -> FaultyDriver:
    driver = faulty(MemoryDriver(), **options)
    await driver.create_bucket("b", BucketOptions())
    await driver.put("b", "k", Source(BODY), PutOptions())
    driver.calls.clear()
    return driver


async def read(driver: Driver) -> bytes:
    found = await driver.get("b", "k", GetOptions())
    try:
        return b"".join([bytes(chunk) async for chunk in found.body])
    finally:
        await found.body.aclose()


def coroutines(protocol: type) -> set[str]:
    return {n for n, f in vars(protocol).items() if inspect.iscoroutinefunction(f)}


def test_every_verb_is_spelt_out() -> None:
    assert coroutines(Driver) <= vars(FaultyDriver).keys()
    for protocol, mixin in _MIXINS.items():
        assert coroutines(protocol) <= vars(mixin).keys(), protocol.__name__


def test_no_capability_is_forgotten() -> None:
    declared = {
        member
        for name, member in vars(protocols).items()
        if name.endswith("Driver") and getattr(member, "_is_protocol", False)
    }
    assert declared == set(_MIXINS) == set(CAPABILITIES.values())


def test_capabilities_are_those_of_the_inner_driver() -> None:
    class Plain:
        """Just the contract."""

        name = "plain"
        features = MemoryDriver.features

    for verb in coroutines(Driver):
        setattr(Plain, verb, vars(FaultyDriver)[verb])
    rich = faulty(MemoryDriver())
    assert isinstance(rich, MultipartDriver) and isinstance(rich, VersioningDriver)
    assert capability(rich, MultipartDriver) is rich
    plain = FaultyDriver(MemoryDriver())
    assert not isinstance(plain, MultipartDriver)
    assert isinstance(capability(plain, MultipartDriver), MemoryDriver)
    poor = faulty(Plain())  # type: ignore[arg-type]
    assert not any(isinstance(poor, protocol) for protocol in CAPABILITIES.values())
    assert isinstance(poor, Driver)


async def test_failures_before_and_after_and_how_often() -> None:
    driver = await filled()
    driver.add(fail("put", lambda: UnavailableError("lost"), times=2, skip=1))
    for body, fails in ((b"1", False), (b"2", True), (b"3", True), (b"4", False)):
        if fails:
            with pytest.raises(UnavailableError):
                await driver.put("b", "k", Source(body), PutOptions())
        else:
            await driver.put("b", "k", Source(body), PutOptions())
        assert await read(driver) == (b"1" if fails else body)
    driver.add(fail("put", UnavailableError("lost"), after=True))
    with pytest.raises(UnavailableError):
        await driver.put("b", "k", Source(b"5"), PutOptions())
    assert await read(driver) == b"5"
    assert driver.count("put") == 5


async def test_a_fault_of_one_key_leaves_the_others_alone() -> None:
    driver = await filled()
    driver.add(fail(None, UnavailableError("lost"), times=None, key="other"))
    await driver.head("b", "k", HeadOptions())
    with pytest.raises(UnavailableError):
        await driver.head("b", "other", HeadOptions())


@pytest.mark.parametrize("at", [0, 1, 255, 1000, 1023])
async def test_bodies_go_wrong_at_that_byte(at: int) -> None:
    driver = await filled()
    driver.add(short(at))
    assert await read(driver) == BODY[:at]
    driver.add(corrupt(at))
    found = await read(driver)
    assert found != BODY
    assert found[:at] + bytes([found[at] ^ 1]) + found[at + 1 :] == BODY
    driver.add(broken(at, UnavailableError("cut")))
    with pytest.raises(UnavailableError):
        await read(driver)
    assert await read(driver) == BODY


async def test_hanging_slow_and_stalled_calls_can_be_ended() -> None:
    driver = await filled()
    driver.add(hang("head", times=1), slow("list_buckets", 0.01, times=1), stalled(10, times=1))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await driver.head("b", "k", HeadOptions())
    assert [bucket.name for bucket in await driver.list_buckets()] == ["b"]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await read(driver)
    assert await read(driver) == BODY


@pytest.mark.parametrize("after", [False, True])
async def test_a_call_can_cancel_its_own_task(after: bool) -> None:
    driver = await filled()
    driver.add(cancelling("put", after=after))
    task = asyncio.create_task(driver.put("b", "k", Source(b"new"), PutOptions()))
    await asyncio.wait([task])
    assert task.cancelled()
    assert await read(driver) == (b"new" if after else BODY)


async def test_a_body_nobody_gets_is_closed() -> None:
    """Cancelled or failed after the inner get: the inner body must not stay open."""
    driver = await filled(yields=True)
    closed = 0
    inner_get = driver.inner.get

    async def counting(bucket: str, key: str, options: GetOptions) -> object:
        nonlocal closed
        found = await inner_get(bucket, key, options)
        source = Source(BODY)
        found.body = source
        opened.append(source)
        return found

    opened: list[Source] = []
    vars(driver.inner)["get"] = counting

    async def check(step: Step) -> None:
        assert all(source.closed == 1 for source in opened), "left open"

    assert await cancel_everywhere(lambda: read(driver), check=check) >= 3


async def test_a_store_over_a_faulty_driver_is_a_store() -> None:
    async with Trove(faulty(MemoryDriver(), yields=True)) as store:
        await store.create_bucket("bucket")
        await store.put("bucket", "k", BODY)
        assert await store.get_bytes("bucket", "k") == BODY
        with pytest.raises(ObjectNotFoundError):
            await store.get_bytes("bucket", "other")
        assert len(await store.versions("bucket", "k")) == 1


async def test_a_source_counts_and_breaks_where_it_should() -> None:
    source = Source(b"abcdef", 4)
    assert [chunk async for chunk in source] == [b"abcd", b"ef"]
    assert (source.given, source.closed) == (2, 0)
    await source.aclose()
    assert source.closed == 1
    for fail_at, given in ((None, 0), (0, 0), (1, 1), (2, 2)):
        source = Source(b"abcdef", 3, error=OSError("broken"), fail_at=fail_at)
        with pytest.raises(OSError, match="broken"):
            [chunk async for chunk in source]
        assert source.given == given


async def test_a_gated_source_waits_and_says_so() -> None:
    gate = asyncio.Event()
    source = Source(b"abcdef", 2, gate=gate, gate_at=1)
    reading = asyncio.create_task(_collected(source))
    await source.waiting.wait()
    assert source.given == 1
    gate.set()
    assert await reading == b"abcdef"


async def _collected(source: Source) -> bytes:
    return b"".join([chunk async for chunk in source])
