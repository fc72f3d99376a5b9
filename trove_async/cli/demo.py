"""``trove demo``: a real folder through a real store, every byte compared."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import trove_async as trove
from trove_async.cli.address import UsageError
from trove_async.cli.demo_report import Report
from trove_async.cli.demo_steps import Tour
from trove_async.cli.files import Found, files_below
from trove_async.cli.run import FAILED, OK, exit_code

__all__ = ["Demo", "Scan", "demonstrate", "pattern_for", "scan"]

_MEMORY = "memory"
_MOST_BYTES = 512 * 1024 * 1024  # without --all
_MOST_ROUTED = 64 * 1024 * 1024  # what may go into memory
_MOST_FAULTS = 10  # shown


@dataclass(frozen=True, slots=True)
class Demo:
    folder: str | None
    """None: the standard library of the running Python."""
    seconds: float | None
    """None: import everything."""
    tasks: int


def demonstrate(demo: Demo, *, debug: bool) -> int:
    """The exit code. The temporary folder is gone afterwards, whatever happened."""
    workplace = Path(tempfile.mkdtemp(prefix="trove-demo-"))
    try:
        return exit_code(lambda: _tour(demo, workplace), debug=debug)
    finally:
        _remove(workplace)


def _remove(workplace: Path) -> None:
    """Not to be stopped by an impatient second Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        shutil.rmtree(workplace)
    finally:
        signal.signal(signal.SIGINT, before)


async def _tour(demo: Demo, workplace: Path) -> int:
    report = Report()
    root = _root(demo)
    started = time.monotonic()
    scanned = await scan(demo, root)
    files = scanned.files
    if not files:
        raise UsageError(f"no files to import in {str(root)!r}")
    pattern = pattern_for(files)
    report.say(f"source: {root} ({len(files):,} files)")
    if scanned.left or scanned.stopped:
        more = "the rest" if scanned.stopped else f"{scanned.left:,} files"
        report.say(f"left out: {more}, to stay quick; --all takes everything")
    report.say(f"store: file://{workplace}?durability=none (no fsync: it is thrown away)")
    if pattern is not None:
        report.say(f"route: {pattern} -> backend {_MEMORY!r} (mem://)")
    async with trove.open(
        f"file://{quote(os.fspath(workplace))}?durability=none",
        backends={_MEMORY: "mem://"},
        routes=[] if pattern is None else [(pattern, _MEMORY)],
        checksum="sha256",
    ) as store:
        tour = Tour(
            store,
            report,
            files,
            deadline=None if demo.seconds is None else started + demo.seconds * 0.4,
            tasks=demo.tasks,
            routed_to=None if pattern is None else _MEMORY,
            skipped=scanned.unusable,
        )
        await tour.run()
    report.table()
    for fault in report.faults[:_MOST_FAULTS]:
        report.say(f"WRONG {fault}")
    return FAILED if report.faults else OK


def _root(demo: Demo) -> Path:
    if demo.folder is None:
        return Path(sysconfig.get_path("stdlib"))
    root = Path(demo.folder)
    if not root.is_dir():
        raise UsageError(f"{demo.folder!r} is not a folder")
    return root


@dataclass(slots=True)
class Scan:
    files: list[Found] = field(default_factory=list)
    unusable: int = 0
    """Names that are not UTF-8, so no keys."""
    left: int = 0
    """Left out because of their size."""
    stopped: bool = False
    """The folder was not walked to its end."""


async def scan(demo: Demo, root: Path) -> Scan:
    """Bounded in time and bytes unless all is wanted; gives way to signals now and then."""
    skip = ("site-packages", "__pycache__") if demo.folder is None else ()
    until = None if demo.seconds is None else time.monotonic() + demo.seconds / 5
    result = Scan()
    total = 0
    for number, found in enumerate(files_below(root, skip=skip), start=1):
        if found.relative is None:
            result.unusable += 1
        elif until is not None and total + found.size > _MOST_BYTES:
            result.left += 1
        else:
            total += found.size
            result.files.append(found)
        if number % 256 == 0:
            await asyncio.sleep(0)
            if until is not None and time.monotonic() > until:
                result.stopped = True
                break
    return result


def pattern_for(files: Sequence[Found]) -> str | None:
    """The commonest kind of file that is less than half of them and fits into memory."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for file in files:
        suffix = file.path.suffix
        if suffix.isascii() and suffix[1:].isalnum():
            counts[suffix] += 1
            sizes[suffix] += file.size
    for suffix, count in counts.most_common():
        if count * 2 < len(files) and sizes[suffix] <= _MOST_ROUTED:
            return f"*{suffix}"
    return None
