"""Patterns over paths, part by part, as `pathlib` has them from Python 3.13 on.

``*``, ``?`` and ``[...]`` stay within a part and match hidden names too; a part ``**`` is any
number of directories, at the end also all that is in them. Case-sensitive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

from trove_async.errors import InvalidInputError

__all__ = ["Matcher", "head_of", "is_magic", "matcher", "split_pattern"]

LONGEST: Final = 1024
_MAGIC: Final = re.compile(r"[*?[]")


def split_pattern(pattern: str) -> tuple[list[str], bool]:
    """(parts, whether only directories are meant). Relative to where the search starts."""
    if not isinstance(pattern, str):
        raise TypeError(f"a pattern is a str, not {type(pattern).__name__}")
    if not pattern or len(pattern) > LONGEST or "\0" in pattern:
        raise InvalidInputError(f"a pattern has 1 to {LONGEST} characters, no NUL")
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == "..":
            raise InvalidInputError("'..' in a pattern")
        if part in ("", ".") or (part == "**" and parts and parts[-1] == "**"):
            continue
        parts.append(part)
    if not parts:
        raise InvalidInputError(f"nothing to match in the pattern {pattern!r}")
    return parts, pattern.endswith("/")


def is_magic(part: str) -> bool:
    return _MAGIC.search(part) is not None


def head_of(part: str) -> str:
    """What every match begins with."""
    found = _MAGIC.search(part)
    return part if found is None else part[: found.start()]


@lru_cache(maxsize=512)
def matcher(part: str) -> Callable[[str], object]:
    """Of one name. `translate` makes each star atomic: no pattern is exponential."""
    return re.compile(translate(part)).match


class Matcher:
    """Parts with ``**`` among them, against the parts of a path. All positions that may be
    reached are followed at once, so the time is bounded by parts times parts."""

    def __init__(self, parts: Sequence[str]) -> None:
        self._parts = [None if part == "**" else matcher(part) for part in parts]
        self._end = len(parts)

    def _closed(self, states: set[int]) -> set[int]:
        for state in [*states]:
            at = state
            while at < self._end and self._parts[at] is None:
                at += 1
                states.add(at)
        return states

    def __call__(self, names: Sequence[str], is_dir: bool) -> bool:
        states, before = self._closed({0}), set[int]()
        for name in names:
            reached = set[int]()
            for state in states:
                if state == self._end:
                    continue
                test = self._parts[state]
                if test is None:
                    reached.add(state)
                elif test(name):
                    reached.add(state + 1)
            states, before = self._closed(reached), states
        if self._end not in states:
            return False
        # "a/**" is the directory a, or anything below it; not a file a.
        return is_dir or self._parts[-1] is not None or self._end - 1 in before
