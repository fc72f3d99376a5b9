"""How a command line names an object: STORE, then PATH."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trove_async import InvalidBucketNameError, Trove

__all__ = ["Place", "UsageError", "byte_range", "locate", "metadata_of"]


class UsageError(Exception):
    """The command line cannot be meant; exit code 2."""


@dataclass(frozen=True, slots=True)
class Place:
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}"

    def folder(self) -> Place:
        """What a recursive command means: the keys below, never those that merely begin so."""
        if not self.key or self.key.endswith("/"):
            return self
        return Place(self.bucket, f"{self.key}/")

    def object(self) -> Place:
        """Itself, when it names one object."""
        if not self.bucket or not self.key:
            raise UsageError(f"{str(self)!r} names no object; give BUCKET/KEY")
        return self


def locate(store: Trove, path: str, bucket: str | None) -> Place:
    """BUCKET/KEY; or KEY alone when ``bucket`` is given or the store's DSN names one."""
    if bucket is None:
        try:
            bucket = store.bucket(None).name
        except InvalidBucketNameError:
            name, _, key = path.partition("/")
            return Place(name, key)
    return Place(bucket, path)


def byte_range(text: str | None) -> slice | None:
    """As in HTTP, both ends included: ``0-99``, ``500-``, ``-500``."""
    if text is None:
        return None
    first, dash, last = text.partition("-")
    numbers = [part for part in (first, last) if part]
    if not dash or not numbers or not all(p.isascii() and p.isdigit() for p in numbers):
        raise UsageError("a range is FIRST-LAST, FIRST- or -COUNT, as 0-99")
    if not first:
        return slice(-int(last), None) if int(last) else slice(0, 0)
    if not last:
        return slice(int(first), None)
    if int(last) < int(first):
        raise UsageError("the range ends before it starts")
    return slice(int(first), int(last) + 1)


def metadata_of(pairs: Sequence[str]) -> dict[str, str]:
    """``["owner=ana"]`` as a mapping."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"metadata is NAME=VALUE, not {pair!r}")
        found[name] = value
    return found
