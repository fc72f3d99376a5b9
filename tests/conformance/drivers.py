"""Factories for ``--trove-driver``: each call gives an unopened driver on fresh storage."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from trove_async import Driver, lookup, parse_dsn
from trove_async.drivers.memory import MemoryDriver


def memory() -> Driver:
    return MemoryDriver()


@cache
def _base() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="trove-conformance-")  # goes with the process


def local_at(root: Path, durability: str) -> Driver:
    dsn = parse_dsn(f"file://{root}?durability={durability}")
    return lookup(dsn.scheme)(dsn)


def local() -> Driver:
    """As its users get it: durable."""
    return local_at(Path(tempfile.mkdtemp(dir=_base().name)), "full")


def local_fast() -> Driver:
    """The same code without fsync."""
    return local_at(Path(tempfile.mkdtemp(dir=_base().name)), "none")
