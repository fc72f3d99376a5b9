"""F14, F46, F47, K177: a cancel waits for the worker, which then touches nobody else's file."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.faults.operations import WRITES, Template, driver_at
from tests.faults.world import descriptors, temporary, value
from trove_async._chunks import chunks_of
from trove_async.driver import GetOptions
from trove_async.errors import TroveError
from trove_async.testing.faultfs import FaultFS, fails, slow


class Gate:
    """Holds a call back until it is let go, and says when it has come."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self, name: str, real: Callable[[], Any], arguments: tuple[Any, ...]) -> Any:
        self.reached.set()
        assert self.go.wait(30)
        return real()


@pytest.fixture
async def template(scratch: Path) -> Template:
    return await Template.made(scratch / "template", "auto")


STUCK = [
    (name, call)
    for name in ("overwrite_large", "put", "copy", "part", "complete")
    for call in ("open", "writev", "copy_file_range", "fsync", "rename", "setxattr", "close")
    if not (name in ("copy", "complete") and call == "writev")
    and not (name not in ("copy", "complete") and call == "copy_file_range")
    and not (name == "part" and call == "setxattr")
]


async def stands(gate: Gate, task: asyncio.Future[Any]) -> None:
    """Until a worker stands at the gate."""
    reached = asyncio.ensure_future(asyncio.to_thread(gate.reached.wait, 30))
    await asyncio.wait([reached, task], return_when=asyncio.FIRST_COMPLETED)
    assert gate.reached.is_set(), "it ended without the call"
    await reached


@pytest.mark.parametrize(("name", "call"), STUCK)
async def test_K177_a_cancel_in_a_stuck_call_ends_after_it_and_reuses_no_descriptor(
    scratch: Path, template: Template, name: str, call: str
) -> None:
    root = scratch / "root"
    template.make(root)
    fs, gate = FaultFS("slow"), Gate()
    driver = driver_at(root, "auto", fs)
    await driver.open()
    before = descriptors()
    fs.arm(gate, only={call})
    task = asyncio.ensure_future(WRITES[name].work(driver, template))
    await stands(gate, task)
    ticks = 0
    task.cancel()
    for _ in range(5):
        await asyncio.sleep(0)
        ticks += 1
    assert ticks == 5 and not task.done(), "the task left a worker behind"
    victim = os.open(scratch / "victim", os.O_RDWR | os.O_CREAT)
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.fstat(victim).st_size == 0, "somebody else's file was written"
    os.close(victim)
    fs.disarm()
    assert descriptors() == before
    assert not fs.stale
    assert temporary(root) == []
    await driver.close()
    assert not fs.open_now
    await template.check(root, WRITES[name], done=False)


async def test_F14_a_slow_disk_does_not_hold_the_loop(scratch: Path, template: Template) -> None:
    root = scratch / "root"
    template.make(root)
    fs = FaultFS("slow")
    driver = driver_at(root, "auto", fs)
    await driver.open()
    fs.arm(slow(0.05), times=None)
    task = asyncio.ensure_future(WRITES["overwrite"].work(driver, template))
    longest = 0.0
    while not task.done():
        start = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - start)
    await task
    calls = len(fs.struck)
    fs.disarm()
    await driver.close()
    assert calls >= 10
    assert longest < 0.05 * calls / 2, "the loop stood still for most of the put"


async def test_F47_a_cancel_wins_over_an_error_of_the_clean_up(
    scratch: Path, template: Template
) -> None:
    root = scratch / "root"
    template.make(root)
    fs = FaultFS("slow")
    driver = driver_at(root, "auto", fs)
    await driver.open()
    gate = Gate()
    fs.arm(gate, only={"writev"})
    body = chunks_of(value(1, 3_000_000).data, 400_000)
    put = driver.put("bucket", "k", body, value(1).options)
    task = asyncio.ensure_future(put)
    await stands(gate, task)
    task.cancel()
    fs.arm(fails(errno.EIO), only={"unlink"})
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await body.aclose()
    assert fs.struck == ["unlink"]
    fs.disarm()
    await driver.close()
    await template.check(root, WRITES["overwrite_large"], done=False)


async def test_F14_a_cancelled_read_waits_for_its_worker(scratch: Path, template: Template) -> None:
    root = scratch / "root"
    template.make(root)
    fs = FaultFS("slow")
    driver = driver_at(root, "auto", fs)
    await driver.open()
    await WRITES["overwrite_large"].work(driver, template)
    before = descriptors()
    raw = await driver.get("bucket", "k", GetOptions())
    gate = Gate()
    fs.arm(gate, only={"pread"})

    async def read() -> None:
        try:
            async for _ in raw.body:
                pass
        finally:
            await raw.body.aclose()

    task = asyncio.ensure_future(read())
    await stands(gate, task)
    task.cancel()
    await asyncio.sleep(0.02)
    gate.go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    fs.disarm()
    assert descriptors() == before
    assert not fs.stale
    await driver.close()


async def test_F49_one_worker_is_enough(
    scratch: Path, template: Template, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No job waits for another: fifty tasks end although one thread does all their work."""
    monkeypatch.setattr("trove_async.drivers.local.base._DURABLE_WORKERS", 1)
    root = scratch / "root"
    template.make(root)
    driver = driver_at(root, "auto", FaultFS("slow"))
    await driver.open()

    async def mixed(name: str) -> None:
        with suppress(TroveError):  # they race for the same keys: a source may be gone
            await WRITES[name].work(driver, template)

    names = [name for name in WRITES if name not in ("abort", "complete")] * 3
    await asyncio.wait_for(asyncio.gather(*map(mixed, names)), 60)
    await driver.close()
