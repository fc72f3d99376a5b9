"""Keys from elsewhere: shared calls under cancellation, tenants that never share, silence."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from tests.middleware.encrypt.kms import (
    ANSWER,
    KMS,
    A,
    B,
    Clock,
    ask,
    asking,
    at,
    both,
    others,
    turns,
)
from tests.middleware.encrypt.leaks import assert_silent, everything_of
from trove_async.errors import (
    EncryptionKeyError,
    InvalidConfigError,
    KeyNotFoundError,
    KeyProviderError,
    KeyUnwrapError,
    TroveError,
)
from trove_async.middleware.encrypt.provider import (
    CachedKeyProvider,
    KeyProvider,
    one_for_all,
)

# -- one call for many --------------------------------------------------------------------


@both
async def test_a_hundred_callers_make_one_call(way: str) -> None:
    kms = KMS()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    assert isinstance(cached, KeyProvider)
    answers = await asyncio.gather(*(asking(cached, way) for _ in range(100)))
    assert answers == [ANSWER[way]] * 100
    assert kms.calls == 1
    assert await asking(cached, way) == ANSWER[way]
    assert kms.calls == 1
    assert not others()


@both
async def test_a_kept_key_is_given_without_a_task_or_a_turn(way: str) -> None:
    cached = CachedKeyProvider(KMS(), scope=one_for_all)
    await asking(cached, way)
    request = ask(cached, way)
    with pytest.raises(StopIteration) as ended:
        request.send(None)
    assert ended.value.value == ANSWER[way]


@both
@pytest.mark.parametrize("who", [0, 1, 98])
async def test_one_callers_cancel_ends_only_its_own_wait(way: str, who: int) -> None:
    """Also when it is the one who began the call."""
    kms = KMS()
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    callers = [asking(cached, way) for _ in range(99)]
    await turns()
    callers[who].cancel()
    await turns()
    assert callers[who].cancelled()
    assert (kms.running, kms.cancelled) == (1, 0)
    kms.open.set()
    rest = [caller for caller in callers if caller is not callers[who]]
    assert await asyncio.gather(*rest) == [ANSWER[way]] * 98
    assert kms.calls == 1
    assert not others()


@both
async def test_the_call_ends_when_nobody_waits_any_more(way: str) -> None:
    kms = KMS()
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    callers = [asking(cached, way) for _ in range(10)]
    await turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    assert all(caller.cancelled() for caller in callers)
    assert (kms.calls, kms.running, kms.cancelled) == (1, 0, 1)
    assert not others(), "the call has ended when the last caller has"
    kms.open.set()
    assert await asking(cached, way) == ANSWER[way]
    assert kms.calls == 2


async def test_callers_that_leave_one_by_one_keep_the_call_until_the_last() -> None:
    kms = KMS()
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    callers = [asking(cached, "wrap") for _ in range(5)]
    await turns()
    for caller in callers[:-1]:
        caller.cancel()
        await turns()
        assert kms.running == 1
    late = asking(cached, "wrap")
    await turns()
    callers[-1].cancel()
    await turns()
    kms.open.set()
    assert await late == ("a", A)
    assert (kms.calls, kms.cancelled) == (1, 0)
    assert not others()


async def test_a_caller_who_comes_while_an_abandoned_call_ends_gets_a_call_of_its_own() -> None:
    class Slow(KMS):
        async def _travel(self) -> None:
            try:
                await super()._travel()
            except asyncio.CancelledError:
                await turns(10)  # says goodbye to the service
                raise

    kms = Slow()
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    first = asking(cached, "wrap")
    await turns()
    first.cancel()
    await turns(2)
    assert not first.done(), "waits for what it began"
    first.cancel()
    await turns(2)
    assert not first.done(), "also when it is cancelled again"
    kms.open.set()
    second = asking(cached, "wrap")
    assert await second == ("a", A)
    await asyncio.wait([first])
    assert first.cancelled()
    assert kms.calls == 2
    assert not others()


async def test_a_time_out_of_one_caller_is_its_own() -> None:
    kms = KMS()
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)

    async def hurried() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await cached.wrapping_key(at())

    patient = asking(cached, "wrap")
    await turns()
    await hurried()
    kms.open.set()
    assert await patient == ("a", A)
    await hurried_alone(kms)


async def hurried_alone(kms: KMS) -> None:
    kms.open.clear()
    alone = CachedKeyProvider(kms, scope=one_for_all)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await alone.wrapping_key(at())
    assert kms.running == 0
    assert not others()


def test_a_loop_that_was_stopped_in_the_middle_does_not_block_the_next() -> None:
    kms: KMS | None = None
    cached: CachedKeyProvider | None = None

    async def begin() -> None:
        nonlocal kms, cached
        kms = KMS()
        kms.open.clear()
        cached = CachedKeyProvider(kms, scope=one_for_all)
        asking(cached, "wrap")
        await turns()

    async def go_on() -> object:
        assert kms is not None and cached is not None
        kms.open = asyncio.Event()
        kms.open.set()
        return await cached.wrapping_key(at())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())  # the call is still under way
    assert asyncio.run(go_on()) == ("a", A)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


async def test_a_random_storm_of_cancels_leaves_nothing_behind() -> None:
    import random

    kms = KMS()
    cached = CachedKeyProvider(kms, scope=one_for_all, ttl=0)
    dice = random.Random(3)
    for _ in range(200):
        callers = [
            asking(cached, dice.choice(["wrap", "unwrap"])) for _ in range(dice.randint(1, 6))
        ]
        kms.failure = dice.choice([None, OSError("down")])
        for caller in callers:
            if dice.random() < 0.6:
                await turns(dice.randint(0, 4))
                caller.cancel()
        results = await asyncio.gather(*callers, return_exceptions=True)
        for result in results:
            assert result in ANSWER.values() or isinstance(
                result, asyncio.CancelledError | KeyProviderError
            )
        assert kms.running == 0
        assert not others()
    assert not cached._wrapping._flights and not cached._unwrapping._flights


# -- how long -----------------------------------------------------------------------------


@both
async def test_a_key_is_asked_for_again_when_its_time_is_over(way: str) -> None:
    kms, clock = KMS(), Clock()
    cached = CachedKeyProvider(kms, scope=one_for_all, ttl=300, clock=clock)
    await asking(cached, way)
    clock.now += 299.9
    await asking(cached, way)
    assert kms.calls == 1
    clock.now += 0.1
    await asking(cached, way)
    assert kms.calls == 2


async def test_a_new_active_key_is_seen_when_the_old_ones_time_is_over() -> None:
    kms, clock = KMS({"a": A, "b": B}), Clock()
    cached = CachedKeyProvider(kms, scope=one_for_all, ttl=300, clock=clock)
    await cached.wrapping_key(at())
    kms.active = "b"
    assert await cached.wrapping_key(at()) == ("a", A)
    clock.now += 300
    assert await cached.wrapping_key(at()) == ("b", B)


async def test_clear_forgets_also_what_is_under_way() -> None:
    kms = KMS({"a": A, "b": B})
    kms.open.clear()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    early = asking(cached, "wrap")
    await turns()
    cached.clear()
    late = asking(cached, "wrap")
    await turns()
    kms.open.set()
    assert await early == await late == ("a", A)
    assert kms.calls == 2
    cached.clear()
    await cached.wrapping_key(at())
    assert kms.calls == 3
    assert not others()


async def test_the_least_used_keys_are_forgotten_first() -> None:
    kms = KMS({f"k{n}": bytes([n]) * 32 for n in range(4)})
    cached = CachedKeyProvider(kms, scope=one_for_all, max_keys=2)
    for name, calls in (("k0", 1), ("k1", 2), ("k0", 2), ("k2", 3), ("k0", 3), ("k1", 4)):
        await cached.unwrapping_key(name, at())
        assert kms.calls == calls, name
    assert "2 kept" in repr(cached)


# -- failures -----------------------------------------------------------------------------


@both
async def test_a_failure_is_told_to_all_who_wait_and_is_not_kept(way: str) -> None:
    kms = KMS()
    kms.failure = OSError("connection refused by kms.internal, token=" + A.hex())
    cached = CachedKeyProvider(kms, scope=one_for_all)
    callers = [asking(cached, way) for _ in range(20)]
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert kms.calls == 1
    for error in errors:
        assert isinstance(error, KeyProviderError)
        assert error.retryable and error.http_status == 503
        assert error.__cause__ is kms.failure
        assert_silent(f"{error} {error!r} {vars(error)}", A)
    assert len({id(error) for error in errors}) == 20
    kms.failure = None
    assert await asking(cached, way) == ANSWER[way]
    assert kms.calls == 2


async def test_each_caller_adds_its_own_place_to_its_own_error() -> None:
    kms = KMS()
    kms.failure = KeyProviderError("throttled")
    cached = CachedKeyProvider(kms, scope=one_for_all)

    async def get(key: str) -> str:
        with pytest.raises(KeyProviderError) as caught:
            await cached.wrapping_key(at(key))
        caught.value.at(key=key)
        return str(caught.value)

    told = [*await asyncio.gather(get("x"), get("y"))]
    assert told == ["throttled [key='x']", "throttled [key='y']"]


@pytest.mark.parametrize(
    "kind", [KeyNotFoundError, KeyUnwrapError, KeyProviderError, EncryptionKeyError]
)
async def test_an_error_about_keys_stays_what_it_is(kind: type[EncryptionKeyError]) -> None:
    kms = KMS()
    kms.failure = kind("as the service says")
    cached = CachedKeyProvider(kms, scope=one_for_all)
    with pytest.raises(kind, match="as the service says") as caught:
        await cached.unwrapping_key("a", at())
    assert type(caught.value) is kind
    assert caught.value.__cause__ is kms.failure


@both
async def test_a_provider_that_cancels_itself_cancels_nobody(way: str) -> None:
    kms = KMS()
    kms.failure = asyncio.CancelledError()
    cached = CachedKeyProvider(kms, scope=one_for_all)
    with pytest.raises(KeyProviderError, match="cancelled its own call"):
        await asking(cached, way)
    kms.failure = None
    assert await asking(cached, way) == ANSWER[way]


@pytest.mark.parametrize("junk", [b"short", A.hex(), None, bytearray(A)])
async def test_a_provider_that_gives_no_key_is_told_so(junk: object) -> None:
    kms = KMS({"a": junk})  # type: ignore[dict-item]
    cached = CachedKeyProvider(kms, scope=one_for_all)
    for way in ("wrap", "unwrap") * 2:
        with pytest.raises(InvalidConfigError, match="key 'a' is") as caught:
            await asking(cached, way)
        assert_silent(everything_of(caught.value), A)
    assert kms.calls == 4


class Falling(KMS):
    """Does something in the very step in which its call fails, before its callers know."""

    last_act: Callable[[], object] | None = None

    async def _travel(self) -> None:
        try:
            await super()._travel()
        except OSError:
            act, self.last_act, self.failure = self.last_act, None, None
            if act is not None:
                act()
            raise


async def test_a_failure_nobody_hears_of_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    kms = Falling()
    kms.failure = OSError("down")
    cached = CachedKeyProvider(kms, scope=one_for_all)
    callers = [asking(cached, "wrap")]
    kms.last_act = lambda: asyncio.get_running_loop().call_soon(callers[0].cancel)
    await asyncio.wait(callers)
    assert callers[0].cancelled()
    callers.clear()  # its error holds the frames that hold the call
    gc.collect()
    await turns()
    assert not caplog.records
    assert await asking(cached, "wrap") == ("a", A)


async def test_a_provider_that_fails_when_it_is_cancelled_is_no_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Rude(KMS):
        async def _travel(self) -> None:
            try:
                await super()._travel()
            except asyncio.CancelledError as exc:
                raise OSError("the connection was closed") from exc

    kms = Rude()
    kms.open.clear()
    callers = [asking(CachedKeyProvider(kms, scope=one_for_all), "wrap")]
    await turns()
    callers[0].cancel()
    await asyncio.wait(callers)
    assert callers[0].cancelled()
    callers.clear()
    gc.collect()
    await turns()
    assert not caplog.records


async def test_who_comes_after_a_failure_does_not_hear_of_it() -> None:
    kms = Falling()
    kms.failure = OSError("down")
    cached = CachedKeyProvider(kms, scope=one_for_all)
    late: list[asyncio.Task[object]] = []
    kms.last_act = lambda: late.append(asking(cached, "wrap"))
    with pytest.raises(KeyProviderError):
        await asking(cached, "wrap")
    assert await late[0] == ("a", A)
    assert kms.calls == 2
    assert not others()


async def test_a_stale_key_serves_while_the_provider_fails() -> None:
    kms, clock = KMS(), Clock()
    cached = CachedKeyProvider(kms, scope=one_for_all, ttl=10, stale_if_error=60, clock=clock)
    await cached.unwrapping_key("a", at())
    kms.failure = OSError("down")
    clock.now += 69.9
    assert await cached.unwrapping_key("a", at()) == A
    assert kms.calls == 2, "asked first, each time"
    clock.now += 0.1
    with pytest.raises(KeyProviderError):
        await cached.unwrapping_key("a", at())


@pytest.mark.parametrize("kind", [KeyNotFoundError, KeyUnwrapError])
async def test_a_revoked_key_is_not_stale_but_gone(kind: type[TroveError]) -> None:
    kms, clock = KMS(), Clock()
    cached = CachedKeyProvider(kms, scope=one_for_all, ttl=10, stale_if_error=60, clock=clock)
    await cached.unwrapping_key("a", at())
    clock.now += 11
    kms.failure = kind("revoked")
    with pytest.raises(kind):
        await cached.unwrapping_key("a", at())
    kms.failure = OSError("down")
    with pytest.raises(KeyProviderError):
        await cached.unwrapping_key("a", at())


@pytest.mark.parametrize(("ttl", "stale", "most"), [(-1, 0, 1), (0, -1, 1), (0, 0, 0)])
async def test_impossible_options_are_refused(ttl: float, stale: float, most: int) -> None:
    with pytest.raises(InvalidConfigError):
        CachedKeyProvider(KMS(), scope=one_for_all, ttl=ttl, stale_if_error=stale, max_keys=most)
