"""Factories for ``--trove-driver``: the driver over fsspec's own file systems, on fresh roots."""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path

from tests.conformance.drivers import _base
from trove_async import Driver, lookup, parse_dsn


def over(text: str) -> Driver:
    dsn = parse_dsn(text)
    return lookup(dsn.scheme)(dsn)


def memory() -> Driver:
    """With a store of its own: in the one that all share, what other cases left is looked at."""
    return over(f"fsspec+memory://{uuid.uuid4().hex}?global_store=false")


def local() -> Driver:
    return local_at(Path(tempfile.mkdtemp(dir=_base().name)))


def local_at(root: Path) -> Driver:
    return over(f"fsspec+file://{root}")
