"""A body that breaks goes on at the byte where it broke, from the same version or not at all."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.strategies import STACKS
from trove_async import (
    ChecksumMismatchError,
    GetOptions,
    IntegrityError,
    ObjectChangedError,
    RetryPolicy,
    TrailingDataError,
    Trove,
    TruncatedError,
    UnavailableError,
)

DATA = random.Random(3).randbytes(15_000)
RETRY = RetryPolicy(attempts=3, base=0.001)


async def opened(driver: Faulty, stack: str = "none", **options: Any) -> Trove:
    store = await trove.open(driver, middleware=STACKS[stack](), **{"retry": RETRY, **options})
    await store.create_bucket("box")
    await store.put("box", "k", DATA)
    driver.forget()
    return store


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", ["break", "short"])
@pytest.mark.parametrize("after", [0, 1, 700])
async def test_a_broken_body_is_resumed_at_the_byte(stack: str, kind: str, after: int) -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, stack) as store:
        driver.body(after, kind)
        etag = (await store.head("box", "k")).etag
        driver.forget()
        assert await store.get_bytes("box", "k") == DATA
        first, second = driver.asked("get")
        assert isinstance(first, GetOptions) and first.range is None
        assert isinstance(second, GetOptions) and second.range is not None
        assert second.range.start == after
        assert second.if_match == etag
        assert driver.unclosed == 0


async def test_a_break_just_before_the_last_byte_is_resumed() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        for kind in ("break", "short"):
            driver.body(len(DATA) - 1, kind)
            assert await store.get_bytes("box", "k") == DATA


async def test_a_resumed_range_asks_for_the_rest_of_the_range() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        driver.body(500)
        assert await store.get_bytes("box", "k", range=slice(100, 2000)) == DATA[100:2000]
        _, second = driver.asked("get")
        assert isinstance(second, GetOptions) and second.range == trove.ByteRange(600, 2000)


async def test_progress_renews_the_budget_of_tries() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        for _ in range(10):
            driver.body(600)
        assert await store.get_bytes("box", "k") == DATA
        assert len(driver.bodies) == 11


async def test_a_long_read_is_resumed_after_its_deadline_too() -> None:
    driver = Faulty(chunk=300)
    retry = RetryPolicy(attempts=3, base=0.001, deadline=0.05)
    async with await opened(driver, retry=retry) as store:
        driver.body(600, "break", lambda: asyncio.sleep(0.1))
        driver.body(600, "break", lambda: asyncio.sleep(0.1))
        assert await store.get_bytes("box", "k") == DATA
        assert len(driver.bodies) == 3


async def test_without_progress_the_budget_ends_and_the_cause_is_raised() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        for _ in range(20):
            driver.body(0)
        with pytest.raises(UnavailableError, match="broke"):
            await store.get_bytes("box", "k")
        assert len(driver.bodies) == RETRY.attempts
        assert driver.unclosed == 0


@pytest.mark.parametrize("stack", STACKS)
async def test_a_short_body_is_an_error_when_nothing_may_be_tried_again(stack: str) -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, stack, retry=RetryPolicy(attempts=1)) as store:
        driver.body(500, "short")
        with pytest.raises(IntegrityError) as caught:
            await store.get_bytes("box", "k")
        assert stack != "none" or isinstance(caught.value, TruncatedError)
        driver.body(100, "short")
        with pytest.raises(IntegrityError):
            await store.get_bytes("box", "k", range=slice(0, 2000))
        assert driver.unclosed == 0


@pytest.mark.parametrize("wanted", [None, slice(10, 2000)])
async def test_a_body_that_goes_on_is_an_error(wanted: slice | None) -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        driver.body(0, "extra")
        with pytest.raises(TrailingDataError):
            async with store.get("box", "k", range=wanted) as reader:
                while await reader.read(100):
                    pass


@pytest.mark.parametrize("stack", STACKS)
async def test_F30_a_corrupt_byte_is_never_handed_out_as_a_whole_object(stack: str) -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, stack) as store:
        for place in (0, 5, 150):
            driver.body(place, "corrupt")
            with pytest.raises(IntegrityError):
                await store.get_bytes("box", "k")
        assert driver.unclosed == 0
        assert await store.get_bytes("box", "k") == DATA


async def test_the_last_byte_waits_for_the_digest() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        driver.body(10, "corrupt")
        got = b""
        with pytest.raises(ChecksumMismatchError):
            async with store.get("box", "k") as reader:
                async for chunk in reader:
                    got += chunk
        assert len(got) < len(DATA)


@pytest.mark.parametrize("stack", STACKS)
async def test_an_object_replaced_meanwhile_is_never_mixed(stack: str) -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, stack) as store:
        driver.body(200, "break", lambda: store.put("box", "k", DATA[::-1]))
        with pytest.raises(ObjectChangedError):
            async with store.get("box", "k") as reader:
                await reader.read()
        assert driver.unclosed == 0
        assert await store.get_bytes("box", "k") == DATA[::-1]


async def test_an_object_deleted_meanwhile_is_an_error() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        driver.body(600, "break", lambda: store.delete("box", "k"))
        with pytest.raises(trove.TroveError) as caught:
            await store.get_bytes("box", "k")
        assert isinstance(caught.value, trove.ObjectNotFoundError | ObjectChangedError)
        assert driver.unclosed == 0


async def test_an_error_that_is_not_retryable_passes_at_once() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        refusal = trove.PermissionDeniedError("no more")
        driver.body(600, "break", lambda: driver.fail("get", refusal))
        with pytest.raises(trove.PermissionDeniedError):
            await store.get_bytes("box", "k")
        assert driver.verbs() == ["get", "get"]
        assert driver.unclosed == 0


async def test_a_raw_body_is_resumed_too() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, "xor") as store:
        async with store.get("box", "k", raw=True) as reader:
            stored = await reader.read()
        driver.body(600)
        async with store.get("box", "k", raw=True) as reader:
            assert await reader.read() == stored


async def test_a_cancel_while_resuming_leaves_nothing_open() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver, retry=RetryPolicy(attempts=3, base=1000)) as store:
        driver.body(600)
        task = asyncio.create_task(store.get_bytes("box", "k"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert driver.unclosed == 0


async def test_a_reader_left_early_after_a_resume_is_closed() -> None:
    driver = Faulty(chunk=300)
    async with await opened(driver) as store:
        driver.body(600)
        async with store.get("box", "k") as reader:
            assert await reader.read(900) == DATA[:900]
        assert len(driver.bodies) == 2
        assert driver.unclosed == 0
