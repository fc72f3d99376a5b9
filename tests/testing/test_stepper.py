"""The stepper finds every suspension, and what a cancel there would break."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import suppress

import pytest

from trove_async.testing.stepper import Step, cancel_at, cancel_everywhere, count_suspensions


async def three_waits() -> str:
    await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
    return "done"


async def nothing(step: Step) -> None:
    return


async def test_suspensions_are_counted() -> None:
    async def none() -> None:
        return

    assert await count_suspensions(none()) == 0
    assert await count_suspensions(three_waits()) == 3


async def test_every_suspension_is_cancelled_once_early_and_once_late() -> None:
    steps: list[tuple[str, int]] = []

    async def check(step: Step) -> None:
        assert step.cancelled and step.again is None
        steps.append((step.timing, step.number))

    assert await cancel_everywhere(three_waits, check=check) == 3
    assert steps == [(timing, number) for timing in ("early", "late") for number in (1, 2, 3)]


async def test_a_late_cancel_loses_the_result_of_what_was_awaited() -> None:
    """Early the job does not run at all; late it has run, and nobody has its result."""
    opened: list[int] = []

    async def opening() -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()

        def finish() -> None:
            if not future.cancelled():
                opened.append(1)
                future.set_result(1)

        loop.call_soon(finish)
        await future
        opened.pop()

    await cancel_at(opening, 1, "early")
    await asyncio.sleep(0)
    assert opened == []
    step = await cancel_at(opening, 1, "late")
    assert step is not None and step.cancelled
    assert opened == [1]


async def test_a_swallowed_cancel_is_told() -> None:
    async def deaf() -> str:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
        return "as if nothing had been"

    with pytest.raises(AssertionError, match=r"suspension 1 \(early\): the cancel was swallowed"):
        await cancel_everywhere(deaf, check=nothing)


async def test_an_error_in_place_of_the_cancel_is_told() -> None:
    async def failing() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            raise OSError("from the clean-up")

    with pytest.raises(AssertionError, match="raised OSError"):
        await cancel_everywhere(failing, check=nothing)


async def test_an_error_without_a_cancel_is_raised_as_it_is() -> None:
    async def failing() -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError):
        await cancel_everywhere(failing, check=nothing)


async def test_the_second_cancel_meets_the_clean_up() -> None:
    interrupted = 0

    async def cleaning() -> None:
        nonlocal interrupted
        try:
            await asyncio.sleep(0)
        finally:
            try:
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                interrupted += 1
                raise

    assert await cancel_everywhere(cleaning, check=nothing, timings=["early"], twice=True) == 3
    # Twice by a second cancel; suspensions 2 and 3 are in the clean-up themselves, and each is
    # run once alone and once to see that no suspension follows.
    assert interrupted == 2 + 2 * 2
    with pytest.raises(AssertionError, match="again 1 later"):
        await cancel_everywhere(cleaning, check=_fails_when_twice, twice=True)


async def _fails_when_twice(step: Step) -> None:
    assert step.again is None


async def test_a_failing_check_says_where() -> None:
    async def check(step: Step) -> None:
        assert step.number < 2, "torn"

    with pytest.raises(AssertionError, match=r"cancelled at suspension 2 \(early\): torn"):
        await cancel_everywhere(three_waits, check=check)


async def test_before_is_called_before_every_run() -> None:
    runs = 0

    async def before() -> None:
        nonlocal runs
        runs += 1

    await cancel_everywhere(three_waits, check=nothing, before=before)
    assert runs == 2 * (3 + 1)  # the last of each timing ends uncancelled


async def test_endless_work_is_given_up() -> None:
    async def endless() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0)

    with pytest.raises(AssertionError, match="more than 20 suspensions"):
        await cancel_everywhere(endless, check=nothing, most=20)


async def test_a_cancel_of_the_sweep_itself_ends_the_work() -> None:
    running = asyncio.Event()
    ended = asyncio.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()

    sweep = asyncio.create_task(cancel_at(work, 2))
    await running.wait()
    sweep.cancel()
    await asyncio.wait([sweep])
    assert sweep.cancelled() and ended.is_set()
