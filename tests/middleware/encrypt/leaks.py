"""Looking for key bytes where none may be."""

from __future__ import annotations

import base64
import copy
import io
import logging
import pickle
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from trove_async import TroveError


def forms(key: bytes) -> set[str]:
    """Every writing in which a key could slip out, and the halves of each."""
    texts = {
        key.hex(),
        key.hex(" "),
        base64.b64encode(key).decode().rstrip("="),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
        key.decode("latin-1"),
        repr(key)[2:-1],
        str(list(key))[1:-1],
        str(int.from_bytes(key, "big")),
    }
    return {part for text in texts for part in (text[: len(text) // 2], text[len(text) // 2 :])}


def assert_silent(text: str, *keys: bytes) -> None:
    for key in keys:
        for form in forms(key):
            assert form.lower() not in text.lower(), f"key bytes are told: {text[:300]}"


def everything_of(error: BaseException) -> str:
    """What a program could print of an error, with its causes and contexts, suppressed ones too."""
    out = io.StringIO()
    traceback.print_exception(error, file=out)
    waiting: list[BaseException | None] = [error]
    while waiting:
        seen = waiting.pop()
        if seen is None:
            continue
        out.write(f"{seen} {seen!r} {seen.args!r} {vars(seen)!r} {getattr(seen, '__notes__', '')}")
        for name in ("doc", "object", "msg", "strerror"):
            out.write(repr(getattr(seen, name, "")))
        if isinstance(seen, TroveError):
            out.write(repr(pickle.dumps(seen)) + repr(copy.copy(seen)))
        waiting += seen.__cause__, seen.__context__
    return out.getvalue()


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """All log records at DEBUG and all warnings."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield out
        out.write("".join(str(warning.message) for warning in caught))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
