"""The table of docs/errors.md, made from the code: ``python -m tests.docs.error_table``."""

from __future__ import annotations

from collections.abc import Iterator

from trove_async import errors
from trove_async.errors import TroveError

__all__ = ["rows", "table"]

_INDENT = "\u00a0" * 4  # spaces that a Markdown cell keeps
_HEAD = ("error", "HTTP", "retryable", "is also a")


def _own(cls: type[TroveError]) -> list[type[TroveError]]:
    found = [getattr(errors, name) for name in errors.__all__]
    return [kind for kind in found if cls in kind.__bases__]


def _tree(cls: type[TroveError], depth: int) -> Iterator[tuple[type[TroveError], int]]:
    yield cls, depth
    for kind in sorted(_own(cls), key=lambda kind: kind.__name__):
        yield from _tree(kind, depth + 1)


def rows() -> list[tuple[str, str, str, str]]:
    """Each error below what it is a kind of."""
    found = []
    for cls, depth in _tree(TroveError, 0):
        others = [base for base in cls.__bases__ if not issubclass(base, TroveError)]
        also = ", ".join(f"`{base.__name__}`" for base in others if base is not Exception)
        retry = "yes" if cls.retryable else ""
        found.append((f"{_INDENT * depth}`{cls.__name__}`", str(cls.http_status), retry, also))
    return found


def table() -> str:
    lines = [_HEAD, ("---",) * len(_HEAD), *rows()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    print(table(), end="")
