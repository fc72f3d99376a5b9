"""Which backend holds a key: functions first, then patterns, then the default."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from trove_async._globs import glob
from trove_async.errors import BackendNotFoundError

__all__ = ["DEFAULT", "Route", "RouteFunction", "Router"]

DEFAULT = "default"
"""Name of the backend given as the target of `open`."""

RouteFunction = Callable[[str, str], str | None]
"""(bucket, key) -> backend name; "" or None falls through to the next route."""
Route = tuple[str, str] | RouteFunction


class Router:
    __slots__ = ("_functions", "_names", "_patterns")

    def __init__(self, routes: Sequence[Route], names: Collection[str]) -> None:
        self._names = frozenset(names)
        self._functions: list[RouteFunction] = []
        self._patterns: list[tuple[Callable[[str], object], str]] = []
        for route in routes:
            if callable(route):
                self._functions.append(route)
                continue
            if not isinstance(route, tuple) or len(route) != 2:
                raise TypeError("a route is (pattern, backend) or a function of (bucket, key)")
            pattern, name = route
            self._known(name)
            self._patterns.append((glob(pattern), name))

    def __bool__(self) -> bool:
        return bool(self._functions or self._patterns)

    def _known(self, name: str) -> str:
        if name not in self._names:
            raise BackendNotFoundError(f"no backend named {name!r}")
        return name

    def resolve(self, bucket: str, key: str) -> str:
        for function in self._functions:
            if name := function(bucket, key):
                return self._known(name)
        for matches, name in self._patterns:
            if matches(key):
                return name
        return DEFAULT
