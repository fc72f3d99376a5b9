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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import trove_async as trove
from trove_async.cli.address import UsageError
from trove_async.cli.demo_report import Report
from trove_async.cli.demo_steps import Tour
from trove_async.cli.files import Found, files_below
from trove_async.cli.run import FAILED, OK, exit_code
from trove_async.cli.show import size_text

__all__ = ["Demo", "Scan", "demonstrate", "pattern_for", "scan", "verdict"]

_MEMORY = "memory"
_MOST_BYTES = 512 * 1024 * 1024  # without --all
_MOST_ROUTED = 64 * 1024 * 1024  # what may go into memory
_ENOUGH = 2000  # files
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
    started = time.monotonic()
    scanned = await scan(demo)
    files = scanned.files
    if not files:
        raise UsageError(f"no files to import in {demo.folder!r}")
    pattern = pattern_for(files)
    route = None if pattern is None else (pattern, _MEMORY)
    source = " and ".join(map(str, scanned.roots))
    report.say(f"source: {source} ({len(files):,} files, {size_text(scanned.bytes)})")
    if scanned.left or scanned.stopped:
        more = "the rest" if scanned.stopped else f"{scanned.left:,} files"
        report.say(f"left out: {more}, to stay quick; --all takes everything")
    report.say(f"store: file://{workplace}?durability=none (no fsync: it is thrown away)")
    if route is not None:
        report.say(f"route: {pattern} -> backend {_MEMORY!r} (mem://)")
    async with trove.open(
        f"file://{quote(os.fspath(workplace))}?durability=none",
        backends={_MEMORY: "mem://"},
        routes=[] if route is None else [route],
        checksum="sha256",
    ) as store:
        tour = Tour(
            store,
            report,
            files,
            deadline=None if demo.seconds is None else started + demo.seconds * 0.4,
            tasks=demo.tasks,
            route=route,
            skipped=scanned.unusable,
        )
        await tour.run()
    from trove_async.cli.demo_sealed import sealed_tour

    place = f"file://{quote(os.fspath(workplace))}/sealed?durability=none"
    dsn = trove.parse_dsn(place)
    await sealed_tour(trove.lookup(dsn.scheme)(dsn), report, tour.imported)
    return verdict(report)


def verdict(report: Report) -> int:
    """Prints the table, and what was wrong; gives the exit code."""
    report.table()
    for fault in report.faults[:_MOST_FAULTS]:
        report.say(f"WRONG {fault}")
    return FAILED if report.faults else OK


@dataclass(slots=True)
class Scan:
    roots: list[Path] = field(default_factory=list)
    files: list[Found] = field(default_factory=list)
    bytes: int = 0
    unusable: int = 0
    """Names that are not UTF-8, so no keys."""
    left: int = 0
    """Left out because of their size."""
    stopped: bool = False
    """The folder was not walked to its end."""


async def scan(demo: Demo) -> Scan:
    """Bounded in time and bytes unless all is wanted; gives way to signals now and then."""
    until = None if demo.seconds is None else time.monotonic() + demo.seconds / 5
    result = Scan()
    for number, found in enumerate(_candidates(demo, result), start=1):
        if found.relative is None:
            result.unusable += 1
        elif until is not None and result.bytes + found.size > _MOST_BYTES:
            result.left += 1
        else:
            result.bytes += found.size
            result.files.append(found)
        if number % 256 == 0:
            await asyncio.sleep(0)
            if until is not None and time.monotonic() > until:
                result.stopped = True
                break
    return result


def _candidates(demo: Demo, so_far: Scan) -> Iterator[Found]:
    """Below the given folder; or the standard library, and where a distribution has cut that
    down, the installed packages too."""
    if demo.folder is not None:
        root = Path(demo.folder)
        if not root.is_dir():
            raise UsageError(f"{demo.folder!r} is not a folder")
        so_far.roots.append(root)
        yield from files_below(root)
        return
    for under, kind in (("stdlib/", "stdlib"), ("packages/", "purelib")):
        if len(so_far.files) < _ENOUGH:
            root = Path(sysconfig.get_path(kind))
            so_far.roots.append(root)
            yield from files_below(root, under=under, skip=("site-packages", "__pycache__"))


def pattern_for(files: Sequence[Found]) -> str | None:
    """A pattern of less than half of the files that fits into memory: the commonest kind, else
    the largest folder, else a first letter. None where there is none, as for a single file."""
    for part_of in (_kind, _folder, _letter):
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for file in files:
            pattern = part_of(file.relative or "")
            if pattern is not None:
                counts[pattern] += 1
                sizes[pattern] += file.size
        for pattern, count in counts.most_common():
            if count * 2 < len(files) and sizes[pattern] <= _MOST_ROUTED:
                return pattern
    return None


def _kind(key: str) -> str | None:
    suffix = Path(key).suffix
    return f"*{suffix}" if _is_plain(suffix[1:]) else None


def _folder(key: str) -> str | None:
    folder, slash, _ = key.partition("/")
    return f"{folder}/*" if slash and _is_plain(folder) else None


def _letter(key: str) -> str | None:
    return f"{key[0]}*" if _is_plain(key[:1]) else None


def _is_plain(text: str) -> bool:
    """Without what a pattern would take for its own."""
    return text.isascii() and text.replace("-", "a").replace("_", "a").isalnum()
