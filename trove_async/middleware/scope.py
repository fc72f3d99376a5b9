"""Where a layer applies. Scopes compose with ``&``, ``|`` and ``~`` and are asked anew for
every operation: nothing is remembered per key."""

from __future__ import annotations

from collections.abc import Callable

from trove_async._globs import glob
from trove_async.middleware.context import Context

__all__ = ["Scope", "buckets", "content_types", "everything", "keys", "when"]


class Scope:
    """A compiled predicate over the operation's context, and its text."""

    __slots__ = ("_text", "matches")

    def __init__(self, matches: Callable[[Context], object], text: str) -> None:
        self.matches = matches
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"<Scope {self._text}>"

    def __and__(self, other: Scope) -> Scope:
        left, right = self.matches, other.matches
        return Scope(lambda context: left(context) and right(context), f"({self} & {other})")

    def __or__(self, other: Scope) -> Scope:
        left, right = self.matches, other.matches
        return Scope(lambda context: left(context) or right(context), f"({self} | {other})")

    def __invert__(self) -> Scope:
        inner = self.matches
        return Scope(lambda context: not inner(context), f"~{self}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scope):
            return NotImplemented
        return self is other or (self._text == other._text and "when(" not in self._text)

    def __hash__(self) -> int:
        return hash(self._text)


_EVERYTHING = Scope(lambda context: True, "everything()")


def everything() -> Scope:
    return _EVERYTHING


def buckets(*names: str) -> Scope:
    wanted = frozenset(names)
    return Scope(lambda context: context.bucket in wanted, _call("buckets", names))


def keys(*patterns: str) -> Scope:
    """Glob patterns over the whole key; ``*`` also matches ``/``."""
    matchers = [glob(pattern) for pattern in patterns]
    return Scope(
        lambda context: any(match(context.key) for match in matchers), _call("keys", patterns)
    )


def content_types(*patterns: str) -> Scope:
    """Globs over ``type/subtype``, parameters left out: ``image/*``, ``application/json``."""
    matchers = [glob(pattern.lower()) for pattern in patterns]

    def matches(context: Context) -> bool:
        plain = context.content_type.partition(";")[0].strip().lower()
        return any(match(plain) for match in matchers)

    return Scope(matches, _call("content_types", patterns))


def when(predicate: Callable[[Context], bool], label: str = "...") -> Scope:
    """Any rule; asked for every operation, so it may depend on the caller (context variables)."""
    return Scope(predicate, f"when({label})")


def _call(name: str, arguments: tuple[str, ...]) -> str:
    return f"{name}({', '.join(map(repr, arguments))})"
