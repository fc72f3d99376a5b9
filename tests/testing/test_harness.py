"""The invariants that are checked on every case, and that each of them can fail."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Coroutine

import pytest

from trove_async.driver import BucketOptions, GetOptions, HeadOptions, RawObject
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import ObjectNotFoundError, TroveError
from trove_async.model import ObjectInfo
from trove_async.testing.case import CASES, Case, Deliberate, Result, case, drop, roll_up
from trove_async.testing.harness import Harness, Stack, run_case
from trove_async.testing.needs import CAPABILITIES, unmet

Body = Callable[[Harness], Coroutine[object, object, None]]


def judged(body: Body, *, timeout: float = 5.0, needs: tuple[str, ...] = ()) -> Result:
    made = Case("K000", "made", body, needs=needs, timeout=timeout)
    return run_case(made, (), MemoryDriver)


def failed(body: Body, words: str, *, timeout: float = 5.0) -> None:
    result = judged(body, timeout=timeout)
    assert result.outcome == "failed", result
    assert words in result.reason


def test_a_case_that_ends_has_passed() -> None:
    async def fine(h: Harness) -> None:
        await h.put("k", b"body")
        assert await h.get("k") == b"body"
        assert await h.keys() == ["k"]
        assert h.calls > 2

    assert judged(fine) == Result("passed")


def test_a_failed_assertion_is_a_failure_with_its_words() -> None:
    async def wrong(h: Harness) -> None:
        assert await h.keys() == ["k"], "the key is lost"

    failed(wrong, "the key is lost")


def test_what_the_driver_lacks_makes_a_case_absent() -> None:
    async def never(h: Harness) -> None:
        raise AssertionError("it must not run")

    async def found_out(h: Harness) -> None:
        drop("no such thing here")

    absent = judged(never, needs=("multipart", "presign"))
    assert absent == Result("absent", "driver does not declare PresignDriver")
    assert judged(found_out) == Result("absent", "no such thing here")


def test_a_case_that_says_nothing_more_is_absent_under_a_stack() -> None:
    async def never(h: Harness) -> None:
        raise AssertionError("it must not run")

    made = Case("K000", "made", never, stacks=False)
    assert run_case(made, (), MemoryDriver, Stack("other", list)).outcome == "absent"


def test_a_task_left_behind_is_a_failure() -> None:
    kept: list[asyncio.Task[None]] = []

    async def leaks(h: Harness) -> None:
        kept.append(asyncio.create_task(asyncio.sleep(60)))

    failed(leaks, "tasks are left")


def test_a_descriptor_left_behind_is_a_failure() -> None:
    opened: list[int] = []

    async def leaks(h: Harness) -> None:
        opened.append(os.open("/dev/null", os.O_RDONLY))

    failed(leaks, "left behind: descriptor")
    os.close(opened[0])


def test_a_thread_left_behind_is_a_failure() -> None:
    go_on = threading.Event()

    async def leaks(h: Harness) -> None:
        threading.Thread(target=go_on.wait, name="stray", daemon=True).start()

    failed(leaks, "left behind: thread stray")
    go_on.set()


def test_a_thread_that_is_just_ending_is_not() -> None:
    async def quick(h: Harness) -> None:
        threading.Timer(0.1, lambda: None).start()

    assert judged(quick).outcome == "passed"


def test_an_unclosed_reader_is_a_failure() -> None:
    async def forgets(h: Harness) -> None:
        await h.put("k", bytes(4_000_000))
        await h.store.get(h.bucket, "k")

    failed(forgets, "ResourceWarning")


def test_a_warning_the_case_permits_is_none() -> None:
    async def warns(h: Harness) -> None:
        h.permits(ResourceWarning)
        warnings.warn("dropped", ResourceWarning, stacklevel=1)

    assert judged(warns).outcome == "passed"


def test_a_coroutine_never_awaited_is_a_failure() -> None:
    async def forgets(h: Harness) -> None:
        h.keys()  # type: ignore[unused-coroutine] # that is the point

    failed(forgets, "never awaited")


def test_an_exception_nobody_retrieves_is_a_failure() -> None:
    async def breaks() -> None:
        raise Deliberate("lost")

    async def forgets(h: Harness) -> None:
        task = asyncio.create_task(breaks())
        await asyncio.wait([task])

    failed(forgets, "the event loop heard")


def test_a_case_that_hangs_is_a_failure() -> None:
    async def hangs(h: Harness) -> None:
        await asyncio.Event().wait()

    failed(hangs, "not done after 0.1 s", timeout=0.1)


def test_an_error_outside_the_family_is_a_failure_also_when_the_case_expects_any() -> None:
    class Raw(MemoryDriver):
        async def head(self, bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
            raise OSError(5, "the disk")

    async def careless(h: Harness) -> None:
        with h.raises(Exception):
            await h.store.head(h.bucket, "k")

    result = run_case(Case("K000", "made", careless), (), Raw)
    assert result.outcome == "failed"
    assert "head raised OSError, which is outside the error family" in result.reason


def test_errors_in_the_family_and_deliberate_ones_are_not() -> None:
    async def fine(h: Harness) -> None:
        with h.raises(ObjectNotFoundError) as raised:
            await h.get("missing")
        assert isinstance(raised.error, TroveError)
        with h.raises(KeyError):
            CASES["K000"].clear()
        h.expects(OSError)

    assert judged(fine).outcome == "passed"


def test_raises_fails_when_nothing_is_raised_and_lets_others_through() -> None:
    async def nothing(h: Harness) -> None:
        with h.raises(ObjectNotFoundError):
            pass

    async def another(h: Harness) -> None:
        with h.raises(ObjectNotFoundError):
            raise KeyError("other")

    failed(nothing, "ObjectNotFoundError was expected, nothing was raised")
    failed(another, "KeyError: 'other'")


def test_a_driver_that_cannot_make_buckets_fails_and_is_closed() -> None:
    closed: list[str] = []

    class NoBuckets(MemoryDriver):
        async def create_bucket(self, name: str, options: BucketOptions) -> None:
            raise ObjectNotFoundError("not today")

        async def close(self) -> None:
            closed.append("closed")
            await super().close()

    async def never(h: Harness) -> None:
        raise AssertionError("it must not run")

    result = run_case(Case("K000", "made", never), (), NoBuckets)
    assert "not today" in result.reason
    assert closed


def test_stores_of_the_same_storage_and_of_another() -> None:
    async def compares(h: Harness) -> None:
        await h.put("k", b"body")
        same = await h.sibling_store()
        assert await same.get_bytes(h.bucket, "k") == b"body"
        other = await h.make_store(chunk_size=1000)
        assert await other.list_buckets() == []

    assert judged(compares).outcome == "passed"


def test_a_driver_without_a_second_client_makes_the_case_absent() -> None:
    class Alone(MemoryDriver):
        sibling = None  # type: ignore[assignment] # what a driver without it looks like

    async def wants(h: Harness) -> None:
        await h.sibling_store()

    result = run_case(Case("K000", "made", wants), (), Alone)
    assert result == Result("absent", "driver has no sibling")


def test_a_wrapped_driver_keeps_its_capabilities_and_its_errors_are_seen() -> None:
    class Wrapper(MemoryDriver):
        async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
            raise OSError("outside")

    async def looks(h: Harness) -> None:
        for name in CAPABILITIES:
            assert h.meets(name) == (unmet(name, MemoryDriver()) is None)
        with h.raises(OSError):
            await h.get("k")

    result = run_case(Case("K000", "made", looks), (), Wrapper)
    assert "get raised OSError" in result.reason


def test_every_need_named_by_a_case_is_known() -> None:
    driver = MemoryDriver()
    for cases in CASES.values():
        for one in cases:
            for need in one.needs:
                unmet(need, driver)  # a KeyError otherwise


def test_of_several_outcomes_the_worst_that_ran_counts() -> None:
    good, bad, gone = Result("passed"), Result("failed", "why"), Result("absent", "no way")
    assert roll_up([good, gone, bad]) == bad
    assert roll_up([gone, good]) == good
    assert roll_up([gone, gone]) == gone
    assert roll_up([]) == Result("absent", "not run")


def test_one_name_is_registered_once() -> None:
    async def body(h: Harness) -> None: ...

    try:
        case("K999", "twice")(body)
        with pytest.raises(ValueError, match="K999_twice"):
            case("K999", "twice")(body)
    finally:
        del CASES["K999"]


def test_parameters_have_printable_names() -> None:
    async def body(h: Harness, value: str) -> None: ...

    try:
        case("K999", "params", params=["é", "a\nb", "x" * 100, "[", ""])(body)
        names = [name for name, _ in CASES["K999"][0].nodes()]
    finally:
        del CASES["K999"]
    assert all(name.isascii() and name.isprintable() for name in names)
    assert len(set(names)) == 5


def test_a_failed_case_is_not_blamed_on_the_next_one() -> None:
    class Holder:
        """In a cycle with itself, so that only a collection frees it."""

        def __init__(self, reader: object) -> None:
            self.held = [self, reader]

    holders: list[weakref.ref[Holder]] = []

    async def forgets(h: Harness) -> None:
        await h.put("k", bytes(4_000_000))
        holder = Holder(await h.store.get(h.bucket, "k"))
        holders.append(weakref.ref(holder))
        raise AssertionError("with the reader open")

    async def fine(h: Harness) -> None:
        await h.put("k")

    result = judged(forgets)
    assert result.outcome == "failed"
    assert "with the reader open" in result.reason
    assert holders[0]() is None, "it is still held"
    assert judged(fine).outcome == "passed"


def test_drivers_are_let_go_after_a_case() -> None:
    made: list[weakref.ref[MemoryDriver]] = []

    def factory() -> MemoryDriver:
        driver = MemoryDriver()
        made.append(weakref.ref(driver))
        return driver

    async def fine(h: Harness) -> None:
        await h.put("k", bytes(1_000_000))

    assert run_case(Case("K000", "made", fine), (), factory).outcome == "passed"
    gc.collect()
    assert made[0]() is None
