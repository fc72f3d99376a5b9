"""A long put of unknown length, and its read, in bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.servers.s3 import Server

SIZE = 200
MOST = 100.0
"""MiB. Five parts of 8 MiB at most, what aiohttp and the sockets hold, and the allocator's rest."""

_WORK = """
import asyncio, sys
from pathlib import Path
import trove_async as trove

MiB = 1024 * 1024

async def pieces():
    for number in range({size}):
        yield bytes([number % 251]) * MiB

def status(name):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])

async def main():
    async with trove.open({dsn!r}) as store:
        await store.create_bucket("memory")
        before = status("VmRSS")
        info = await store.put("memory", "k", pieces())
        assert info.size == {size} * MiB
        total = 0
        async with store.get("memory", "k") as reader:
            async for chunk in reader:
                total += len(chunk)
        assert total == {size} * MiB
        print((status("VmHWM") - before) / 1024)

asyncio.run(main())
"""


@pytest.mark.slow
def test_two_hundred_mebibytes_of_unknown_length(rclone: Server) -> None:
    code = _WORK.format(size=SIZE, dsn=rclone.dsn())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST, f"grew by {done.stdout.strip()} MiB"
