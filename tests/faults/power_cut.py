"""Real power cuts: ext4 on a loop device, shut down without a flush of its log, mounted again.

    python -m tests.faults.power_cut [--cuts N] [--control]

Needs root and loop devices. The journal of what was acknowledged is in memory, outside of the
file system that is cut. Every second cut is without the help of ``auto_da_alloc``. Prints JSON;
exit code 1 when anything acknowledged was lost or anything was torn, 3 when the machine cannot.
``--control`` runs a driver that does not sync: it must lose something, or the cuts are none.
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.load import Load
from tests.faults.world import Expected, Ledger, Value, found_at
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.local.config import Durability
from trove_async.errors import TroveError

SHUTDOWN: Final = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH: Final = 2
CANNOT: Final = 3


class CannotCut(Exception):
    """This machine has no loop devices, no ext4, or we are not root."""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotCut(f"{' '.join(command[:2])}: {done.stderr.strip()}")


class Disk:
    """A small ext4 in a file, which can lose its power."""

    def __init__(self, base: Path) -> None:
        if os.geteuid() != 0:
            raise CannotCut("only root may mount a loop device")
        if shutil.which("mkfs.ext4") is None:
            raise CannotCut("there is no mkfs.ext4")
        self._image = base / "image"
        self.mount_point = base / "disk"
        self.mount_point.mkdir()
        with self._image.open("wb") as file:
            file.truncate(64 << 20)
        _run("mkfs.ext4", "-q", "-F", str(self._image))

    @contextmanager
    def mounted(self, options: str) -> Iterator[Path]:
        _run("mount", "-o", f"loop,{options}", str(self._image), str(self.mount_point))
        try:
            yield self.mount_point
        finally:
            self._unmount()

    def _unmount(self) -> None:
        deadline = time.monotonic() + 5
        while True:
            try:
                return _run("umount", str(self.mount_point))
            except CannotCut as exc:
                if time.monotonic() > deadline:
                    _run("umount", "-l", str(self.mount_point))
                    raise RuntimeError("the driver still holds a descriptor") from exc
                time.sleep(0.05)

    def cut(self) -> None:
        fd = os.open(self.mount_point, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


async def load_until_cut(
    disk: Disk, ledger: Ledger, seed: int, durability: Durability
) -> tuple[int, int]:
    """Operations that were acknowledged before the power went, and those under way then."""
    chance = random.Random(seed)
    driver = LocalDriver(LocalConfig(disk.mount_point / "root", durability=durability))
    await driver.open()
    try:
        load = Load(driver, ledger, seed)
        if "bucket/" not in ledger.acked:
            await load.start()
        task = asyncio.ensure_future(load.run(lanes=3, steps=100_000))
        await asyncio.wait([task], timeout=chance.uniform(0.02, 0.4))
        if task.done():
            task.result()
            raise RuntimeError("the load ended by itself")
        done = load.done
        await asyncio.to_thread(disk.cut)
        try:
            await asyncio.wait_for(task, 30)
        except* (TroveError, AssertionError):
            pass  # the disk is gone: every operation fails now
    finally:
        await driver.close()
    return done, len(ledger.flights)


@dataclass(frozen=True)
class Cut:
    done: int
    flights: int
    found: dict[str, Value]
    wrong: str | None


def one_cut(disk: Disk, acked: dict[str, Value], seed: int, durability: Durability) -> Cut:
    ledger = Ledger(acked=dict(acked))
    options = "noauto_da_alloc" if seed % 2 else "auto_da_alloc"
    with disk.mounted(options):
        done, flights = asyncio.run(load_until_cut(disk, ledger, seed, durability))
    expected = ledger.now()
    with disk.mounted(options):
        return asyncio.run(_look(disk, expected, done, flights))


async def _look(disk: Disk, expected: Expected, done: int, flights: int) -> Cut:
    try:
        found = await found_at(disk.mount_point / "root", "auto", expected)
    except (AssertionError, TroveError) as exc:
        return Cut(done, flights, {}, f"{type(exc).__name__}: {exc}")
    return Cut(done, flights, found, None)


def run(cuts: int, durability: Durability) -> dict[str, int]:
    done = flights = wrong = 0
    with tempfile.TemporaryDirectory(prefix="trove-cuts-") as name:
        base = Path(name)
        disk = Disk(base)
        acked: dict[str, Value] = {}
        for seed in range(1, cuts + 1):
            cut = one_cut(disk, acked, seed, durability)
            done += cut.done
            flights += cut.flights
            acked = cut.found
            if cut.wrong is not None:
                wrong += 1
                print(f"cut {seed}: {cut.wrong}", file=sys.stderr, flush=True)
                shutil.rmtree(base)
                base.mkdir()
                disk = Disk(base)
    return {"cuts": cuts, "acknowledged": done, "under way": flights, "lost or torn": wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--control", action="store_true", help="without syncs: must lose")
    options = parser.parse_args()
    try:
        totals = run(options.cuts, "none" if options.control else "full")
    except CannotCut as exc:
        print(f"no power cuts here: {exc}", file=sys.stderr)
        return CANNOT
    print(json.dumps(totals))
    return 1 if totals["lost or torn"] else 0


if __name__ == "__main__":
    sys.exit(main())
