"""What is tried again, how often, when; and what a lost answer means."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import trove_async as trove
from tests.core.faulty import Faulty
from tests.core.layers import Source
from tests.transforms import Xor
from trove_async import (
    Features,
    HeadOptions,
    PreconditionFailedError,
    PutOptions,
    RetryPolicy,
    ThrottledError,
    Trove,
    UnavailableError,
)
from trove_async._chunks import OneChunk

QUICK = RetryPolicy(attempts=4, base=0.001)


@pytest.fixture
def driver() -> Faulty:
    return Faulty()


@pytest.fixture
async def store(driver: Faulty) -> AsyncIterator[Trove]:
    async with trove.open(driver, retry=QUICK) as opened:
        await opened.create_bucket("box")
        await opened.put("box", "k", b"old")
        driver.forget()
        yield opened


Verb = Callable[[Trove], Awaitable[object]]
IDEMPOTENT: dict[str, tuple[str, Verb]] = {
    "put": ("put", lambda store: store.put("box", "new", b"x")),
    "get": ("get", lambda store: store.get_bytes("box", "k")),
    "head": ("head", lambda store: store.head("box", "k")),
    "exists": ("head", lambda store: store.exists("box", "k")),
    "delete": ("delete", lambda store: store.delete("box", "k")),
    "list_page": ("list", lambda store: store.list_page("box")),
    "copy": ("copy", lambda store: store.copy("box", "k", "box", "l")),
    "list_buckets": ("list_buckets", lambda store: store.list_buckets()),
}


@pytest.mark.parametrize("name", IDEMPOTENT)
async def test_an_idempotent_verb_is_tried_again(store: Trove, driver: Faulty, name: str) -> None:
    verb, call = IDEMPOTENT[name]
    driver.fail(verb, UnavailableError("busy"), times=3)
    await call(store)
    assert driver.verbs().count(verb) == 4
    driver.forget()
    driver.fail(verb, UnavailableError("busy"), times=4)
    with pytest.raises(UnavailableError) as caught:
        await call(store)
    assert driver.verbs().count(verb) == 4
    assert caught.value.backend == "default"


@pytest.mark.parametrize("name", IDEMPOTENT)
async def test_what_is_not_retryable_is_raised_at_once(
    store: Trove, driver: Faulty, name: str
) -> None:
    verb, call = IDEMPOTENT[name]
    driver.fail(verb, trove.PermissionDeniedError("no"))
    with pytest.raises(trove.PermissionDeniedError):
        await call(store)
    assert driver.verbs().count(verb) == 1


ONCE: dict[str, tuple[str, Verb]] = {
    "move": ("copy", lambda store: store.move("box", "k", "box", "l")),
    "create_bucket": ("create_bucket", lambda store: store.create_bucket("bin")),
    "delete_bucket": ("delete_bucket", lambda store: store.delete_bucket("bin")),
    "conditional copy": (
        "copy",
        lambda store: store.copy("box", "k", "box", "l", if_none_match="*"),
    ),
    "iterator": ("put", lambda store: store.put("box", "l", Source())),
    "raw conditional put": (
        "put",
        lambda store: store.put("box", "l", b"x", raw=True, if_none_match="*"),
    ),
}


@pytest.mark.parametrize("name", ONCE)
async def test_what_cannot_be_repeated_is_tried_once(
    store: Trove, driver: Faulty, name: str
) -> None:
    verb, call = ONCE[name]
    if verb == "delete_bucket":
        await store.create_bucket("bin")
    driver.fail(verb, UnavailableError("busy"))
    with pytest.raises(UnavailableError):
        await call(store)
    assert driver.verbs().count(verb) == 1


async def test_a_conditional_delete_does_not_report_its_own_success(
    store: Trove, driver: Faulty
) -> None:
    etag = (await store.head("box", "k")).etag
    driver.lose("delete")
    with pytest.raises(UnavailableError):  # in doubt, and said so; never "precondition failed"
        await store.delete("box", "k", if_match=etag)
    assert driver.verbs().count("delete") == 1


@pytest.mark.parametrize("layers", [[], [Xor()]])
async def test_replayable_bodies_are_sent_again_whole(
    driver: Faulty, layers: list[trove.Middleware], tmp_path: Path
) -> None:
    path = tmp_path / "body"
    path.write_bytes(b"from a file" * 1000)
    async with trove.open(driver, middleware=layers, retry=QUICK, chunk_size=1000) as store:
        await store.create_bucket("box")
        bodies: list[tuple[object, bytes]] = [
            (b"abc" * 1000, b"abc" * 1000),
            (bytearray(b"abc"), b"abc"),
            ([b"a", b"b"], b"ab"),
            (path, path.read_bytes()),
        ]
        for body, wanted in bodies:
            driver.fail("put", UnavailableError("lost"), times=2, after=True)
            await store.put("box", "k", body)
            assert await store.get_bytes("box", "k") == wanted
        with path.open("rb") as file:
            file.seek(5)
            driver.fail("put", UnavailableError("lost"), times=2, after=True)
            await store.put("box", "k", file)
            assert not file.closed
        assert await store.get_bytes("box", "k") == path.read_bytes()[5:]


async def test_retry_after_is_honoured_up_to_the_maximum(driver: Faulty) -> None:
    async with trove.open(driver, retry=RetryPolicy(base=0, maximum=0.15)) as store:
        await store.create_bucket("box")
        asked = ThrottledError("slow down")
        asked.retry_after = 3600.0
        driver.fail("list", asked)
        started = time.monotonic()
        await store.list_page("box")
        assert 0.14 <= time.monotonic() - started < 30


async def test_no_try_begins_after_the_deadline(driver: Faulty) -> None:
    async with trove.open(driver, retry=RetryPolicy(attempts=50, deadline=0.0, base=5)) as store:
        await store.create_bucket("box")
        driver.fail("list", UnavailableError("busy"), times=50)
        started = time.monotonic()
        with pytest.raises(UnavailableError):
            await store.list_page("box")
        assert time.monotonic() - started < 5
        assert driver.verbs().count("list") <= 2


def test_delays_grow_with_full_jitter() -> None:
    random.seed(7)
    policy = RetryPolicy(attempts=9, base=0.1, maximum=1.0)
    for attempt, ceiling in enumerate([0.1, 0.2, 0.4, 0.8, 1.0, 1.0], 1):
        delays = [policy.delay(attempt) for _ in range(200)]
        assert 0 <= min(delays) < 0.3 * ceiling
        assert 0.7 * ceiling < max(delays) <= ceiling
    assert policy.delay(1, retry_after=0.5) == 0.5
    assert policy.delay(1, retry_after=1e9) == 1.0
    assert policy.delay(1, retry_after=-5) == 0.0
    assert policy.delay(1, retry_after=float("nan")) == 0.0
    assert policy.delay(1, retry_after=float("inf")) == 1.0
    assert policy.delay(10_000) <= 1.0


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"base": -1}, {"maximum": -1}, {"deadline": -0.1}, {"base": float("nan")}],
)
def test_a_senseless_policy_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        RetryPolicy(**wrong)  # type: ignore[arg-type]  # one field per case


async def test_a_cancel_while_waiting_for_the_next_try_ends_it(driver: Faulty) -> None:
    async with trove.open(driver, retry=RetryPolicy(base=1000, maximum=1000)) as store:
        await store.create_bucket("box")
        driver.fail("list", UnavailableError("busy"))
        driver._faults["list"][0].error = error = ThrottledError("busy")
        error.retry_after = 50.0
        task = asyncio.create_task(store.list_page("box"))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


# -- lost answers --------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [[], [Xor()]])
@pytest.mark.parametrize("lost", [1, 2])
async def test_F19_a_conditional_put_knows_its_own_success(
    driver: Faulty, layers: list[trove.Middleware], lost: int
) -> None:
    async with trove.open(driver, middleware=layers, retry=QUICK) as store:
        await store.create_bucket("box")
        for _ in range(lost):
            driver.lose("put")
        info = await store.put("box", "k", b"body", if_none_match="*", metadata={"who": "me"})
        seen = await store.head("box", "k")
        assert info == seen
        assert (info.size, info.metadata) == (4, {"who": "me"})
        driver.lose("put")
        info = await store.put("box", "k", b"newer", if_match=info.etag)
        assert info == await store.head("box", "k")
        assert await store.get_bytes("box", "k") == b"newer"


async def test_F19_another_writers_success_is_not_taken_for_ones_own(
    store: Trove, driver: Faulty
) -> None:
    async def other() -> None:
        await store.delete("box", "fresh")
        await store.put("box", "fresh", b"theirs", if_none_match="*")

    driver.lose("put", other)
    with pytest.raises(PreconditionFailedError):
        await store.put("box", "fresh", b"mine", if_none_match="*")
    assert await store.get_bytes("box", "fresh") == b"theirs"


async def test_F19_half_of_ones_own_body_is_no_success(store: Trove, driver: Faulty) -> None:
    """A server that published what it had when the connection broke."""

    async def halve() -> None:
        info = await driver.driver.head("box", "fresh", HeadOptions())
        options = PutOptions(metadata=info.metadata)
        await driver.driver.put("box", "fresh", OneChunk(b"bo"), options)

    driver.lose("put", halve)
    with pytest.raises(PreconditionFailedError):
        await store.put("box", "fresh", b"body", if_none_match="*")


async def test_F19_a_first_try_that_is_refused_is_not_looked_at_again(
    store: Trove, driver: Faulty
) -> None:
    with pytest.raises(PreconditionFailedError):
        await store.put("box", "k", b"new", if_none_match="*")
    assert driver.verbs() == ["put"]


async def test_F19_a_lost_answer_to_an_unconditional_verb_is_repeated(
    store: Trove, driver: Faulty
) -> None:
    driver.lose("put")
    assert (await store.put("box", "k", b"new")).size == 3
    driver.lose("delete")
    await store.delete("box", "k")
    assert not await store.exists("box", "k")


async def test_the_token_of_a_conditional_put_is_not_shown(store: Trove) -> None:
    info = await store.put("box", "fresh", b"x", if_none_match="*")
    assert info.metadata == {} == (await store.head("box", "fresh")).metadata


async def test_errors_say_where_they_happened(store: Trove, driver: Faulty) -> None:
    with pytest.raises(trove.ObjectNotFoundError) as caught:
        await store.get_bytes("box", "missing")
    error = caught.value
    assert (error.operation, error.bucket, error.key, error.backend) == (
        "get",
        "box",
        "missing",
        "default",
    )
    assert "key='missing'" in str(error)


async def test_a_driver_without_conditions_never_sees_one() -> None:
    driver = Faulty(features=Features(late_metadata=True))
    async with trove.open(driver) as store:
        await store.create_bucket("box")
        calls: list[Awaitable[object]] = [
            store.put("box", "k", b"x", if_match="e"),
            store.put("box", "k", b"x", if_none_match="*"),
            store.delete("box", "k", if_match="e"),
            store.copy("box", "k", "box", "l", if_none_match="*"),
        ]
        for call in calls:
            with pytest.raises(trove.UnsupportedError):
                await call
        assert driver.verbs() == ["open", "create_bucket"]
