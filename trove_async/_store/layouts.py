"""Where everything is inside objects lately read by range."""

from __future__ import annotations

import sys
from collections import OrderedDict
from dataclasses import dataclass

from trove_async._store.record import Record
from trove_async.driver.base import Chunks
from trove_async.middleware.base import Layout, RangeSource
from trove_async.model import MiB, ObjectInfo

__all__ = ["Known", "Layouts", "Place", "View", "through"]

Place = tuple[str, str, str]
"""Backend, bucket, key."""


@dataclass(slots=True)
class Known:
    """What was learnt of one version of an object."""

    info: ObjectInfo
    record: Record
    layouts: list[Layout]
    """From the driver to the user; empty for plain bytes."""
    size: int

    @property
    def bytes(self) -> int:
        """What its tables hold in memory, as far as they tell (`__sizeof__`)."""
        return sum(sys.getsizeof(layout) for layout in self.layouts)


class View:
    """A layout over the source below it: again a source, of the bytes one layer up."""

    __slots__ = ("_below", "_layout")

    def __init__(self, layout: Layout, below: RangeSource) -> None:
        self._layout = layout
        self._below = below

    @property
    def size(self) -> int:
        return self._layout.size

    def read(self, start: int, stop: int) -> Chunks:
        return self._layout.read(self._below, start, stop)


def through(layouts: list[Layout], stored: RangeSource) -> RangeSource:
    """The logical bytes of an object."""
    source = stored
    for layout in layouts:
        source = View(layout, source)
    return source


class Layouts:
    """Least recently used first out, bounded in objects and in bytes of their tables: an
    object of a terabyte has a megabyte of them."""

    def __init__(self, most: int = 1024, most_bytes: int = 64 * MiB) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._known: OrderedDict[Place, Known] = OrderedDict()

    def get(self, place: Place) -> Known | None:
        known = self._known.get(place)
        if known is not None:
            self._known.move_to_end(place)
        return known

    def of_version(self, place: Place, etag: str) -> Known | None:
        known = self._known.get(place)
        return known if known is not None and etag and known.info.etag == etag else None

    def put(self, place: Place, known: Known) -> None:
        self.drop(place)
        self._known[place] = known
        self._bytes += known.bytes
        while len(self._known) > self._most or self._bytes > self._most_bytes:
            _, dropped = self._known.popitem(last=False)
            self._bytes -= dropped.bytes

    def drop(self, place: Place) -> None:
        known = self._known.pop(place, None)
        if known is not None:
            self._bytes -= known.bytes

    def clear(self) -> None:
        self._known.clear()
        self._bytes = 0
