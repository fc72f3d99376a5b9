"""Keeps a failed comparison of two large bodies from taking minutes to explain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from _pytest.assertion import util

__all__ = ["short_comparisons"]


@contextmanager
def short_comparisons() -> Iterator[None]:
    """Inside, a failed ``==`` shows both sides cut short, and no diff.

    pytest makes the whole diff before it truncates it, and where the variable CI is set it
    does not truncate: two unequal megabytes then hold a run for longer than its time limit.
    There is no public switch for one test; without this private one the diff is just slow."""
    kept = getattr(util, "_reprcompare", None)
    util._reprcompare = None
    try:
        yield
    finally:
        util._reprcompare = kept
