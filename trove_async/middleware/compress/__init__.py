"""Compression: the seekable zstd format, written and read frame by frame.

`format` says what the bytes are and imports no library, so that anybody may recognise them;
`Compress` is imported when it is first named.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trove_async.middleware.compress.layer import Compress
    from trove_async.middleware.compress.skipping import SKIP_CONTENT_TYPES, SKIP_EXTENSIONS

_HOMES = {
    "Compress": "layer",
    "SKIP_CONTENT_TYPES": "skipping",
    "SKIP_EXTENSIONS": "skipping",
}

__all__ = ["SKIP_CONTENT_TYPES", "SKIP_EXTENSIONS", "Compress"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = found
    return found
