"""The formats that every store reads, and how they are told by their first bytes."""

from __future__ import annotations

from typing import Final

from trove_async.errors import KeyNotFoundError
from trove_async.middleware.base import Context, Transform

__all__ = ["ENOUGH", "MOST", "SMALLEST", "builtin", "recognised"]

ENOUGH: Final = 4096
"""Bytes of an object's start that nearly always tell."""
MOST: Final = 16 * 1024
"""Bytes that tell for sure: no header of ours is longer."""
SMALLEST: Final = 100
"""Bytes that no object of our formats is shorter than."""
_ZSTD: Final = b"\x5b\x2a\x4d\x18\x10\x00\x00\x00TROVE\x00Z1"
_MESSAGE: Final = b"\x02\x04\x78"


class _NoKeys:
    async def wrapping_key(self, context: Context) -> tuple[str, bytes]:
        raise KeyNotFoundError("no keyring is registered here")

    async def unwrapping_key(self, key_id: str, context: Context) -> bytes:
        raise KeyNotFoundError(f"no keyring is registered here; the object needs key {key_id!r}")


def builtin(encoding: str) -> Transform | None:
    """Reads what a store of ours wrote; imported only when such an object is met."""
    if encoding == "zstd":
        from trove_async.middleware.compress import Compress

        return Compress()
    if encoding == "aws-esdk":
        from trove_async.middleware.encrypt import Encrypt

        return Encrypt(_NoKeys(), require_encrypted=False)
    return None


def recognised(head: bytes, *, is_all: bool) -> tuple[str, ...] | None:
    """Encodings of an object without a record that begins with ``head``, in write order; empty
    for plain bytes, None when more of it must be seen. ``is_all``: there is no more."""
    if head.startswith(_ZSTD):
        return ("zstd",)
    if not head.startswith(_MESSAGE):
        return ()
    from trove_async.middleware.encrypt.message import MoreBytes, recognise

    try:
        found = recognise(head)
    except MoreBytes:
        return () if is_all or len(head) >= MOST else None
    return () if found is None else found.encodings
