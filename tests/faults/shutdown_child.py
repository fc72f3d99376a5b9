"""A busy program that ends on SIGTERM and SIGINT as a good one does."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from tests.faults.world import opener, value
from trove_async._chunks import chunks_of
from trove_async.driver import DeleteOptions, GetOptions
from trove_async.drivers.local import LocalDriver


async def busy(root: Path) -> None:
    driver = opener(root)
    await driver.open()
    try:
        async with asyncio.TaskGroup() as group:
            for lane in range(4):
                group.create_task(forever(driver, lane))
            print("ready", flush=True)
    finally:
        await driver.close()


async def forever(driver: LocalDriver, lane: int) -> None:
    number = 0
    while True:
        number += 1
        there = value(lane * 1000 + number % 7, (900, 3_000_000)[number % 2])
        body = chunks_of(there.data, 300_000)
        try:
            await driver.put("bucket", f"k{lane}", body, there.options)
        finally:
            await body.aclose()
        raw = await driver.get("bucket", f"k{lane}", GetOptions())
        async for _ in raw.body:
            break
        await raw.body.aclose()
        if number % 5 == 0:
            await driver.delete("bucket", f"k{lane}", DeleteOptions())


async def main() -> None:
    task = asyncio.ensure_future(busy(Path(sys.argv[1])))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, left
    print("clean", flush=True)


if __name__ == "__main__":
    asyncio.run(main(), debug="debug" in sys.argv)
