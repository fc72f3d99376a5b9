"""Rules of listings that every driver with its own key order shares."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from trove_async.driver.options import ListOptions
from trove_async.errors import InvalidTokenError

__all__ = ["after_prefix", "least_key", "page_of", "read_cursor", "write_cursor"]


def after_prefix(prefix: str) -> str | None:
    """The least string greater than everything that begins with ``prefix``; None: there is none.

    Code points order like the UTF-8 bytes they encode to."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            following = 0xE000 if last == 0xD7FF else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def write_cursor(last: str, *, is_prefix: bool) -> str:
    return ("p" if is_prefix else "k") + last


def read_cursor(cursor: str) -> tuple[str, bool]:
    """(last entry shown, whether that was a prefix); InvalidTokenError for anything else."""
    if cursor[:1] not in ("k", "p") or len(cursor) < 2:
        raise InvalidTokenError("not a cursor of this backend")
    return cursor[1:], cursor[0] == "p"


def least_key(options: ListOptions) -> str | None:
    """The least key that the page may show; None: there is none."""
    low = options.prefix
    if options.start_after is not None:
        low = max(low, options.start_after + "\0")
    if options.cursor is not None:
        last, is_prefix = read_cursor(options.cursor)
        bound = after_prefix(last) if is_prefix else last + "\0"
        if bound is None:
            return None
        low = max(low, bound)
    return low


def page_of(keys: Sequence[str], options: ListOptions) -> tuple[list[str], list[str], str | None]:
    """(keys, prefixes, cursor) of one page out of all ``keys`` in order; O(page log n)."""
    prefix, delimiter = options.prefix, options.delimiter
    least = least_key(options)
    low = len(keys) if least is None else bisect_left(keys, least)
    found: list[str] = []
    groups: list[str] = []
    marker: str | None = None
    while low < len(keys) and keys[low].startswith(prefix):
        if len(found) + len(groups) >= options.page_size:
            return found, groups, marker
        key = keys[low]
        cut = key.find(delimiter, len(prefix)) if delimiter else -1
        if cut < 0 or delimiter is None:
            found.append(key)
            marker = write_cursor(key, is_prefix=False)
            low += 1
            continue
        group = key[: cut + len(delimiter)]
        groups.append(group)
        marker = write_cursor(group, is_prefix=True)
        bound = after_prefix(group)
        low = len(keys) if bound is None else bisect_left(keys, bound, low)
    return found, groups, None
