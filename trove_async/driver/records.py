"""Small private records of a driver: a CRC-32 in hex, a space, and JSON."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

from trove_async.errors import CorruptMetadataError

__all__ = ["seal", "unseal"]

_scan: Final[Callable[[str, int], tuple[Any, int]]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # not in the stubs
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def seal(fields: Mapping[str, object]) -> bytes:
    data = _encode(fields).encode()
    return b"%08x %b" % (zlib.crc32(data), data)


def unseal(data: bytes) -> dict[str, Any]:
    """CorruptMetadataError unless it is, to the bit, what `seal` gave."""
    if data[8:9] != b" " or data[:8] != b"%08x" % zlib.crc32(memoryview(data)[9:]):
        raise CorruptMetadataError("a record of the store is damaged")
    try:
        text = data[9:].decode()
        fields, end = _scan(text, 0)  # what json.loads does, without looking for encodings
        if end != len(text):
            raise ValueError("more than one value")
    except (ValueError, RecursionError, StopIteration) as exc:  # a valid sum over nonsense
        raise CorruptMetadataError("a record of the store is not JSON") from exc
    if not isinstance(fields, dict):
        raise CorruptMetadataError("a record of the store is not a map")
    return fields
