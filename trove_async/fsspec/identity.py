"""When two sets of options mean the same file system.

fsspec keeps its instances by the text of their options. The text of a layer does not tell its
keys, so two stores that differ only in their keyrings would share one instance; here a thing
that is no plain value counts by its identity.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from trove_async import PoolConfig, RetryPolicy, Timeouts
from trove_async.fsspec.sdk import AsyncFileSystem

__all__ = ["Identified", "Same", "plain"]

_VALUES = (str, bytes, int, float, bool, type(None), Enum, RetryPolicy, Timeouts, PoolConfig)


class Same:
    """Stands for a value while the options are compared. Its text is read for that."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __repr__(self) -> str:
        return _told(self.value)


def plain(value: object) -> object:
    return value.value if isinstance(value, Same) else value


def _told(value: object) -> str:
    if isinstance(value, _VALUES):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_told(k)}: {_told(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_told(item) for item in value)}]"
    # The instance holds it, so nothing else can have this address while it is remembered.
    return f"<{type(value).__qualname__} at {id(value):#x}>"


class Identified(type(AsyncFileSystem)):  # type: ignore[misc]  # the library has no types
    def __call__(cls, *args: object, **options: object) -> object:
        given = [arg if isinstance(arg, _VALUES) else Same(arg) for arg in args]
        named = {
            name: value if isinstance(value, _VALUES) else Same(value)
            for name, value in options.items()
        }
        made = super().__call__(*given, **named)
        # What is pickled and shown is what was given.
        made.storage_args = tuple(plain(arg) for arg in made.storage_args)
        made.storage_options = {name: plain(v) for name, v in made.storage_options.items()}
        return made
