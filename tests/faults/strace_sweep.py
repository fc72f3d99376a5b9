"""Kills and failing system calls by strace, at every file system call of an operation.

    python -m tests.faults.strace_sweep [--quick] [--operations NAME ...]

strace counts calls for each thread, so the driver has one worker here and only that one is
traced; the event loop makes no file system call of its own. A fault counts when the log says
that it was injected into a call on our files. Prints JSON; exit code 1 when an object was torn,
or acknowledged and lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.operations import WRITES, Operation, Template, driver_at
from tests.faults.world import found_at
from trove_async.drivers.local import base
from trove_async.drivers.local.fs import FS, MediumKind
from trove_async.errors import TroveError

TRACED: Final = (
    "openat,openat2,read,pread64,preadv2,write,writev,pwrite64,copy_file_range,fsync,fdatasync,"
    "rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,ftruncate,"
    "utimensat,fchmod,fchmodat,getxattr,fgetxattr,setxattr,fsetxattr,fremovexattr,"
    "newfstatat,fstat,statx,getdents64,fcntl,close"
)
NAMES: Final = (
    *("put_nested", "overwrite", "overwrite_large", "copy", "copy_over", "move_over"),
    *("initiate", "part", "complete", "delete", "delete_nested"),
)
QUICK: Final = ("overwrite", "copy_over", "complete", "delete")
FULL: Final = frozenset(
    {"openat", "writev", "copy_file_range", "fsync", "renameat", "mkdirat", "fsetxattr"}
)
"""What a full disk fails."""
LINE: Final = re.compile(r"(?:\d+ +)?(\w+)\((.*)")
PATIENCE: Final = 30.0


class AllByWorker(FS):
    def medium(self, device: int) -> MediumKind:
        return "slow"


@dataclass
class Totals:
    injected: Counter[str]
    missed: int = 0
    torn: int = 0
    lost: int = 0

    def report(self) -> dict[str, object]:
        return {
            "injected": sum(self.injected.values()),
            "by kind": dict(self.injected),
            "not hit": self.missed,
            "torn": self.torn,
            "acknowledged and lost": self.lost,
        }


class Child:
    """An operation in a fork that waits for its word, so that strace can be there first."""

    def __init__(self, root: Path, template: Template, operation: Operation) -> None:
        self._heard, say = os.pipe()
        listen, self._word = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._heard)
                os.close(self._word)
                asyncio.run(_live(root, template, operation, say, listen))
                os._exit(0)
            except BaseException:  # never back into the parent's code
                traceback.print_exc()
            finally:
                os._exit(1)
        os.close(say)
        os.close(listen)
        self.worker = int(os.read(self._heard, 100))

    def run(self) -> tuple[int, str]:
        """Its exit code, and what the operation said: nothing when it was killed."""
        os.write(self._word, b"go")
        said = b""
        while piece := os.read(self._heard, 1000):
            said += piece
        os.close(self._heard)
        os.close(self._word)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), said.decode()


async def _live(
    root: Path, template: Template, operation: Operation, say: int, listen: int
) -> None:
    base._DURABLE_WORKERS = 1  # type: ignore[misc]  # so that when=N means the N-th call of all
    driver = driver_at(root, template.place, AllByWorker())
    await driver.open()
    (worker,) = [t for t in threading.enumerate() if t.name.startswith("trove-io")]
    os.write(say, str(worker.native_id).encode())
    os.read(listen, 2)
    try:
        await operation.work(driver, template)
    except TroveError as exc:
        os.write(say, type(exc).__name__.encode())
    else:
        os.write(say, b"acknowledged")
    await driver.close()


def traced(
    scratch: Path, template: Template, operation: Operation, inject: str | None
) -> tuple[int, str, list[str]]:
    """Exit code, word and log lines of one run."""
    root, log = scratch / "root", scratch / "log"
    template.make(root)
    child = Child(root, template, operation)
    command = ["strace", "-qq", "-y", "-e", f"trace={TRACED}", "-o", str(log)]
    if inject is not None:
        command += ["-e", f"inject={inject}"]
    with subprocess.Popen([*command, "-p", str(child.worker)]) as tracer:
        status = Path(f"/proc/{child.pid}/task/{child.worker}/status")
        deadline = time.monotonic() + PATIENCE
        while "TracerPid:\t0\n" in status.read_text():
            if time.monotonic() > deadline or tracer.poll() is not None:
                os.kill(child.pid, 9)
                raise RuntimeError("strace does not attach")
            time.sleep(0.001)
        code, said = child.run()
        tracer.wait(PATIENCE)
    return code, said, log.read_text().splitlines()


def calls_of(scratch: Path, template: Template, operation: Operation) -> list[tuple[str, int]]:
    """Every call on our files as (name, which of that name), from a run without faults."""
    code, said, lines = traced(scratch, template, operation, None)
    assert (code, said) == (0, "acknowledged"), (code, said)
    shutil.rmtree(scratch / "root")
    counts: Counter[str] = Counter()
    calls = []
    for line in lines:
        found = LINE.match(line)
        if found is None:
            continue
        counts[found[1]] += 1
        if str(scratch) in found[2]:
            calls.append((found[1], counts[found[1]]))
    return calls


def one(
    scratch: Path, template: Template, operation: Operation, inject: str, totals: Totals
) -> None:
    code, said, lines = traced(scratch, template, operation, inject)
    kind = inject.split(":")[1]
    killed = code == -9
    hits = [line for line in lines if "(INJECTED)" in line and str(scratch) in line]
    if hits or (killed and kind == "signal=KILL"):
        totals.injected[kind] += 1
    else:
        totals.missed += 1
    acknowledged = said == "acknowledged"
    if code != 0 and not killed:
        raise RuntimeError(f"exit code {code}, said {said!r}, with {inject}")
    try:
        asyncio.run(template.check(scratch / "root", operation, done=acknowledged))
    except AssertionError as exc:
        print(f"{inject}: said {said!r}: {exc}", file=sys.stderr)
        if acknowledged:
            totals.lost += 1
        else:
            totals.torn += 1
    shutil.rmtree(scratch / "root")


def faults_of(calls: list[tuple[str, int]], quick: bool) -> list[str]:
    faults = []
    for name, nth in calls:
        faults.append(f"{name}:signal=KILL:when={nth}")
        if name != "close":  # strace would keep it from closing at all
            faults.append(f"{name}:error=EIO:when={nth}")
        if name in FULL:
            faults.append(f"{name}:error=ENOSPC:when={nth}")
    return faults[3 :: max(1, len(faults) // 6)] if quick else faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about twenty faults")
    parser.add_argument("--operations", nargs="*", choices=list(WRITES), default=None)
    options = parser.parse_args()
    names = options.operations or (QUICK if options.quick else NAMES)
    totals = Totals(Counter())
    with tempfile.TemporaryDirectory(prefix="trove-strace-") as name:
        scratch = Path(name)
        template = asyncio.run(Template.made(scratch / "template", "auto"))
        asyncio.run(found_at(scratch / "template"))
        for operation in names:
            before = sum(totals.injected.values())
            calls = calls_of(scratch, template, WRITES[operation])
            for fault in faults_of(calls, options.quick):
                one(scratch, template, WRITES[operation], fault, totals)
            done = sum(totals.injected.values()) - before
            print(f"{operation}: {len(calls)} calls, {done} faults", file=sys.stderr, flush=True)
    print(json.dumps(totals.report()))
    return 1 if totals.torn or totals.lost else 0


if __name__ == "__main__":
    sys.exit(main())
