"""Kills an operation before each of its file system calls, and looks at what is left.

Run as a process of its own: it forks for every kill, which only a process without threads may
do. Prints one line of JSON for each operation.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Collection
from pathlib import Path

from tests.faults.operations import WRITES, Operation, Template, driver_at
from tests.faults.world import Place, found_at, scratch_base
from trove_async.testing.crashfs import materialise, scan
from trove_async.testing.faultfs import Fault, FaultFS, dies, dies_within

DIED = 77


def in_child(work: Callable[[], None]) -> int:
    """Runs it in a fork; its exit code, 0 when it came to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # the child must never come back into the parent's loop
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def attempt(
    root: Path,
    template: Template,
    operation: Operation,
    at: int,
    fault: Fault,
    only: Collection[str] = (),
) -> int:
    async def run() -> None:
        fs = FaultFS("slow")
        driver = driver_at(root, template.place, fs)
        await driver.open()
        fs.arm(fault, at=at, only=only)
        await operation.work(driver, template)
        fs.disarm()
        await driver.close()

    return in_child(lambda: asyncio.run(run()))


def sweep(scratch: Path, template: Template, operation: Operation, fault: Fault) -> int:
    """How many kills there were; the last attempt is the one that ends by itself."""
    for at in itertools.count(1):
        root = scratch / f"kill-{at}"
        template.make(root)
        code = attempt(root, template, operation, at, fault)
        assert code in (0, DIED), f"exit code {code} at call {at}"
        try:
            asyncio.run(template.check(root, operation, done=code == 0))
        except BaseException as exc:
            exc.add_note(f"killed at call {at}: {sorted(scan(root))}")
            raise
        shutil.rmtree(root)
        if code == 0:
            return at - 1
    raise AssertionError


def sweep_recovery(scratch: Path, template: Template) -> int:
    """F59: what a kill left is recovered by a driver that is itself killed, at each call, twice
    at the same one; then recovery is run to its end."""
    kills = 0
    for name in ("overwrite_large", "complete", "move_over"):
        root = scratch / "left"
        template.make(root)
        assert attempt(root, template, WRITES[name], 1, dies(DIED), {"rename"}) == DIED
        _grow_old(root)
        left = scan(root)
        shutil.rmtree(root)
        expected = template.expected(WRITES[name], done=False)
        for at_open in itertools.count(1):
            materialise(left, root)
            codes = [_killed_open(root, template.place, at_open) for _ in range(2)]
            asyncio.run(found_at(root, template.place, expected))
            shutil.rmtree(root)
            kills += codes.count(DIED)
            if DIED not in codes:
                break
    return kills


def _grow_old(root: Path) -> None:
    """An upload that is long dead beside the live one, and rooms of several dead."""
    uploads = root / ".trove" / "multipart"
    stale = uploads / ("0" * 32)
    shutil.copytree(next(path for path in uploads.iterdir()), stale)
    long_ago = time.time() - 30 * 86_400
    os.utime(stale, (long_ago, long_ago))
    room = root / ".trove" / "tmp" / "1-0000000000000000"
    room.mkdir()
    (room / "lock").touch()
    (root / ".trove" / "tmp" / "2-0000000000000000").mkdir()
    unlocked = root / ".trove" / "tmp" / "3-0000000000000000"  # a power cut took the lock
    unlocked.mkdir()
    (unlocked / "1").write_bytes(b"staged")


def _killed_open(root: Path, place: Place, at: int) -> int:
    async def run() -> None:
        fs = FaultFS("slow")
        fs.arm(dies(DIED), at=at)
        driver = driver_at(root, place, fs)
        await driver.open()
        fs.disarm()
        await driver.close()

    return in_child(lambda: asyncio.run(run()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("place", choices=["auto", "xattr", "sidecar"])
    parser.add_argument("operations", nargs="*", default=[*WRITES, "recovery"])
    options = parser.parse_args()
    place: Place = options.place
    base = Path(tempfile.mkdtemp(prefix="trove-kills-", dir=scratch_base()))
    try:
        template = asyncio.run(Template.made(base / "template", place))
        for name in options.operations:
            if name == "recovery":
                kills = sweep_recovery(base, template)
                print(json.dumps({"operation": name, "kills": kills}), flush=True)
                continue
            kills = sweep(base, template, WRITES[name], dies(DIED))
            kills += sweep(base, template, WRITES[name], dies_within(DIED))
            print(json.dumps({"operation": name, "kills": kills}), flush=True)
    finally:
        shutil.rmtree(base)


if __name__ == "__main__":
    main()
