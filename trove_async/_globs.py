"""Glob patterns over keys: ``*`` is any run of characters, ``/`` included."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate

from trove_async.errors import InvalidConfigError

__all__ = ["glob"]

LONGEST = 1024


def glob(pattern: str) -> Callable[[str], object]:
    """A matcher of whole strings, case-sensitive, as `fnmatch.fnmatchcase`.

    `translate` wraps each star in an atomic group, so a match never backtracks over
    earlier stars (no exponential patterns)."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is a str, not {type(pattern).__name__}")
    if len(pattern) > LONGEST:
        raise InvalidConfigError(f"a pattern has at most {LONGEST} characters")
    return re.compile(translate(pattern)).match
