"""Work in threads: all of it comes back, once, and a cancel never leaves a job behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest

from trove_async import DriverClosedError, WrongLoopError
from trove_async._threads import Hop, cpu_pool, io_pool, settle


def alive(name: str) -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(name)]


@pytest.fixture
async def hop() -> AsyncIterator[Hop]:
    made = Hop(3, "hop-test")
    yield made
    await made.close()
    assert alive("hop-test") == []


async def test_a_job_runs_in_a_worker_and_gives_its_result(hop: Hop) -> None:
    assert await hop.run(lambda: 7) == 7
    name = await hop.run(lambda: threading.current_thread().name)
    assert name.startswith("hop-test-")


async def test_the_error_of_a_job_is_raised_where_it_is_awaited(hop: Hop) -> None:
    error = KeyError("in the job")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        await hop.run(fail)
    assert caught.value is error
    assert await hop.run(lambda: 1) == 1


async def test_a_job_that_raises_stop_iteration_is_no_end_of_anything(hop: Hop) -> None:
    def fail() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await hop.run(fail)


@pytest.mark.parametrize("at_once", [False, True])
async def test_every_job_comes_back_once_with_its_own_result(hop: Hop, at_once: bool) -> None:
    ran: list[int] = []

    def job(number: int) -> int:
        ran.append(number)
        return number * 2

    async def client(base: int) -> None:
        for number in range(base, base + 100):
            assert await hop.run(partial(job, number), at_once=at_once) == number * 2
            if random.random() < 0.1:
                await asyncio.sleep(0)

    await asyncio.gather(*(client(100 * turn) for turn in range(40)))
    assert sorted(ran) == list(range(4000))


async def test_slow_jobs_run_side_by_side(hop: Hop) -> None:
    barrier = threading.Barrier(3, timeout=20)
    await asyncio.gather(*(hop.run(barrier.wait) for _ in range(3)))
    assert not barrier.broken


async def test_a_cancel_waits_for_the_end_of_the_job_and_its_result_is_there(hop: Hop) -> None:
    started, go = threading.Event(), threading.Event()
    results: list[object] = []

    def job() -> str:
        started.set()
        assert go.wait(20)
        return "a descriptor"

    async def owner() -> None:
        running = hop.run(job)
        try:
            await running
        except asyncio.CancelledError:
            results.append(running.result())
            raise

    task = asyncio.create_task(owner())
    while not started.is_set():  # noqa: ASYNC110 -- a thread sets it
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.sleep(0.02)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert results == ["a descriptor"]


async def test_a_timeout_around_a_job_is_one_and_comes_after_its_end(hop: Hop) -> None:
    ended: list[int] = []

    def job() -> None:
        time.sleep(0.1)
        ended.append(1)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await hop.run(job)
    assert ended == [1]


async def test_jobs_that_began_before_the_close_end_and_come_back() -> None:
    hop = Hop(2, "hop-test")

    def slow(number: int) -> int:
        time.sleep(0.01)
        return number

    jobs = [hop.run(partial(slow, number)) for number in range(10)]
    await hop.close()
    assert [await job for job in jobs] == list(range(10))
    assert alive("hop-test") == []
    with pytest.raises(DriverClosedError):
        hop.run(lambda: 1)
    await hop.close()


async def test_a_cancelled_close_still_ends_the_threads() -> None:
    hop = Hop(2, "hop-test")
    job = hop.run(lambda: time.sleep(0.1))
    await asyncio.sleep(0)
    closing = asyncio.create_task(hop.close())
    await asyncio.sleep(0.01)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await hop.close()
    await job
    assert alive("hop-test") == []


async def test_two_closes_at_once_both_wait_for_the_end() -> None:
    hop = Hop(2, "hop-test")
    job = hop.run(lambda: time.sleep(0.05))
    await asyncio.gather(hop.close(), hop.close())
    assert job.done()
    assert alive("hop-test") == []


async def test_opening_and_closing_many_leaves_no_thread() -> None:
    before = threading.active_count()
    for turn in range(20):
        hop = Hop(3, "hop-test")
        if turn % 2:
            await hop.run(lambda: None)
        await hop.close()
        assert alive("hop-test") == []
    # the loop's own executor joins them; its few workers live as long as the loop
    assert threading.active_count() <= before + 40


def test_a_job_asked_from_another_loop_is_refused() -> None:
    async def make() -> Hop:
        return Hop(1, "hop-test")

    async def use(hop: Hop) -> None:
        with pytest.raises(WrongLoopError):
            hop.run(lambda: 1)

    first = asyncio.new_event_loop()
    try:
        hop = first.run_until_complete(make())
        asyncio.run(use(hop))
        first.run_until_complete(hop.close())
    finally:
        first.run_until_complete(first.shutdown_default_executor())
        first.close()
    assert alive("hop-test") == []


async def test_an_idle_worker_keeps_nothing_of_its_last_job_alive(hop: Hop) -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    job = hop.run(partial(id, thing))
    await job
    del thing, job
    for _ in range(100):
        gc.collect()
        if gone() is None:
            break
        await asyncio.sleep(0.01)
    assert gone() is None


# -- settle --------------------------------------------------------------------------------------


async def test_settling_gives_the_result_or_the_error() -> None:
    loop = asyncio.get_running_loop()
    good: asyncio.Future[int] = loop.create_future()
    loop.call_later(0.01, good.set_result, 5)
    assert await settle(good) == 5
    bad: asyncio.Future[int] = loop.create_future()
    bad.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        await settle(bad)


@pytest.mark.parametrize("error", [None, KeyError("x")])
async def test_settling_outlasts_cancels_and_then_passes_one_on(
    error: Exception | None,
) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[int] = loop.create_future()
    task = asyncio.create_task(settle(future))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    if error is None:
        future.set_result(1)
    else:
        future.set_exception(error)
    with pytest.raises(asyncio.CancelledError):
        await task
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del future
        gc.collect()  # an error nobody retrieved would be reported now


async def test_settling_a_cancelled_future_is_cancelled() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settle(future)


# -- pools ---------------------------------------------------------------------------------------


@pytest.fixture
def forked() -> Iterator[None]:
    if not hasattr(os, "fork"):
        pytest.skip("this system does not fork")
    yield


def test_the_pools_are_made_once() -> None:
    assert cpu_pool() is cpu_pool()
    assert io_pool() is io_pool()
    assert cpu_pool() is not io_pool()


@pytest.mark.usefixtures("forked")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_pools_of_its_own() -> None:
    assert io_pool().submit(lambda: 1).result(20) == 1
    child = os.fork()
    if child == 0:
        answer = 1
        try:
            answer = 0 if io_pool().submit(lambda: 7).result(20) == 7 else 2
        finally:
            os._exit(answer)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert io_pool().submit(lambda: 2).result(20) == 2
