"""Cancels an operation at its first suspension, its second, and so on until it ends before.

    async def check(step: Step) -> None:
        assert await store.get_bytes("b", "k") in (OLD, NEW)

    points = await cancel_everywhere(lambda: store.put("b", "k", NEW), check=check)

A suspension is a moment when the event loop gets control: exactly where a cancel can be
felt. A sweep over all of them meets every place where a resource may be lost.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

__all__ = ["Step", "Timing", "cancel_at", "cancel_everywhere", "count_suspensions"]

T = TypeVar("T")
Timing = Literal["early", "late"]
"""``early``: what is waited for has not happened yet. ``late``: it has, and the cancel comes
before the task has gone on; the result is lost to whoever did not take care."""

_BOTH: Final[tuple[Timing, ...]] = ("early", "late")


@dataclass(frozen=True, slots=True)
class Step:
    """One run with a cancel in it, and how it ended."""

    number: int
    """Which suspension was cancelled, from 1."""
    timing: Timing
    again: int | None
    """Which suspension after that was cancelled as well; None: none."""
    cancelled: bool
    """The run ended with CancelledError."""
    error: BaseException | None
    """What it raised instead."""
    result: object
    """What it returned, if it went on as if nothing had been."""

    def __str__(self) -> str:
        where = f"cancelled at suspension {self.number} ({self.timing})"
        return where if self.again is None else f"{where} and again {self.again} later"


@types.coroutine
def _told(work: Coroutine[Any, Any, T], at: Callable[[int, Any], None]) -> Generator[Any, Any, T]:
    """Runs ``work``; tells of each suspension before it happens, with what is waited for."""
    number = 0
    error: BaseException | None = None
    sent: Any = None
    while True:
        try:
            waiting = work.send(sent) if error is None else work.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        error = None
        number += 1
        at(number, waiting)
        try:
            sent = yield waiting
        except GeneratorExit:
            work.close()
            raise
        except BaseException as exc:  # thrown into the work, where it belongs
            error = exc


async def _run(work: Coroutine[Any, Any, T], at: Callable[[int, Any], None]) -> T:
    return await _told(work, at)


async def count_suspensions(work: Coroutine[Any, Any, object]) -> int:
    """How often ``work`` gives control to the loop when nobody disturbs it."""
    most = 0

    def at(number: int, waiting: object) -> None:
        nonlocal most
        most = number

    await _run(work, at)
    return most


async def cancel_at(
    make: Callable[[], Coroutine[Any, Any, object]],
    number: int,
    timing: Timing = "early",
    again: int | None = None,
) -> Step | None:
    """Runs ``make()`` in a task of its own and cancels it at suspension ``number``, and at the
    ``again``-th one after. None when it ended before that many suspensions; an error that it
    raised without a cancel is raised here."""
    wanted = [number] if again is None else [number, number + again]
    delivered = 0
    task: asyncio.Task[object]

    def at(count: int, waiting: object) -> None:
        nonlocal delivered
        if count not in wanted:
            return
        delivered += 1
        if timing == "late" and isinstance(waiting, asyncio.Future) and not waiting.done():
            # Called before the task's own callback, which is added when the future arrives there.
            waiting.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()

    task = asyncio.create_task(_run(make(), at))
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait([task])
        raise
    error = None if task.cancelled() else task.exception()
    if delivered < len(wanted):
        if error is not None and delivered == 0:
            raise error
        return None
    result = None if task.cancelled() or error is not None else task.result()
    return Step(number, timing, again, task.cancelled(), error, result)


async def cancel_everywhere(
    make: Callable[[], Coroutine[Any, Any, object]],
    *,
    check: Callable[[Step], Awaitable[None]],
    before: Callable[[], Awaitable[object]] | None = None,
    timings: Sequence[Timing] = _BOTH,
    twice: bool = False,
    most: int = 1000,
) -> int:
    """Runs ``make()`` with a cancel at every suspension, and with ``twice`` with a second one at
    every suspension of the clean-up; ``check`` after each run, ``before`` before it.

    Returns how many suspensions there are. AssertionError when a run did not end cancelled, or
    when there are more than ``most`` suspensions."""
    points = 0
    for timing in timings:
        number = 0
        while True:
            number += 1
            assert number <= most, f"more than {most} suspensions"
            step = await _checked(make, number, timing, None, before, check)
            if step is None:
                break
            points = max(points, number)
            again = 0
            while twice:
                again += 1
                assert again <= most, f"more than {most} suspensions after a cancel"
                if await _checked(make, number, timing, again, before, check) is None:
                    break
    return points


async def _checked(
    make: Callable[[], Coroutine[Any, Any, object]],
    number: int,
    timing: Timing,
    again: int | None,
    before: Callable[[], Awaitable[object]] | None,
    check: Callable[[Step], Awaitable[None]],
) -> Step | None:
    if before is not None:
        await before()
    step = await cancel_at(make, number, timing, again)
    if step is not None:
        if step.error is not None:
            raise AssertionError(f"{step}: raised {step.error!r} instead") from step.error
        assert step.cancelled, f"{step}: the cancel was swallowed, {step.result!r} was returned"
        try:
            await check(step)
        except AssertionError as exc:
            raise AssertionError(f"{step}: {exc}") from exc
    return step
