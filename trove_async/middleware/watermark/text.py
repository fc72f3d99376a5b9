"""What a watermark's text may be, whatever the format."""

from __future__ import annotations

import re

from trove_async.errors import InvalidInputError

__all__ = ["encoded"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def encoded(text: str, most: int) -> bytes:
    """``text`` in UTF-8. Raises InvalidInputError beyond ``most`` bytes, for control characters
    but tab and line feed (PNG forbids NUL, and the others hide what a viewer shows), and for
    half a surrogate pair. The message never holds the text."""
    if len(text) > most:
        raise InvalidInputError(
            f"a watermark of {len(text)} characters; this format holds {most} bytes"
        )
    if found := _CONTROL.search(text):
        raise InvalidInputError(
            f"a watermark holds the control character U+{ord(found[0]):04X} at {found.start()}"
        )
    try:
        data = text.encode()
    except UnicodeEncodeError as exc:
        raise InvalidInputError(f"a watermark is not Unicode text at {exc.start}") from exc
    if len(data) > most:
        raise InvalidInputError(f"a watermark of {len(data)} bytes; this format holds {most} bytes")
    return data
