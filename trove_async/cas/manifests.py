"""The manifest of content that is stored in chunks: which they are, in order.

It is JSON: ``v`` 1, ``chunking`` (how they were cut), ``size``, ``digest`` of the whole content
and ``chunks``, pairs of a digest in hex, by the algorithm of ``digest``, and a size.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left, bisect_right
from typing import Any, Final

from trove_async.cas.chunking import PARAMETERS
from trove_async.errors import CorruptMetadataError, UnsupportedError, UnsupportedFormatError

__all__ = ["MOST", "Manifest"]

MOST: Final = 1 << 20
"""Chunks that content may have: about 256 GiB. Its manifest has 80 MB then, held in memory."""

_VERSION: Final = 1
_BYTES: Final = 32


class Manifest:
    """36 bytes in memory for each chunk, and those of the JSON while that is read or made."""

    def __init__(self, algorithm: str) -> None:
        self._algorithm = algorithm
        self._names = bytearray()
        self._ends = array("Q")

    @property
    def size(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, digest: str, size: int) -> None:
        """UnsupportedError for one too many."""
        if len(self) == MOST:
            raise UnsupportedError(f"content of more than {MOST} chunks: store it without chunking")
        self._names += bytes.fromhex(digest.rpartition(":")[2])
        self._ends.append(self.size + size)

    def digest(self, number: int) -> str:
        name = self._names[number * _BYTES : (number + 1) * _BYTES]
        return f"{self._algorithm}:{name.hex()}"

    def bounds(self, number: int) -> tuple[int, int]:
        return self._ends[number - 1] if number else 0, self._ends[number]

    def touching(self, start: int, stop: int) -> range:
        """Numbers of the chunks that hold bytes ``start`` up to, not including, ``stop``."""
        if start >= stop:
            return range(0)
        return range(bisect_right(self._ends, start), bisect_left(self._ends, stop) + 1)

    # -- at rest -----------------------------------------------------------------------------

    def dump(self, digest: str) -> bytes:
        """``digest``: of the whole content."""
        chunks = []
        for number in range(len(self)):
            start, stop = self.bounds(number)
            chunks.append([self.digest(number).partition(":")[2], stop - start])
        body = {
            "v": _VERSION,
            "chunking": PARAMETERS,
            "size": self.size,
            "digest": digest,
            "chunks": chunks,
        }
        return json.dumps(body, separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes, digest: str) -> Manifest:
        """CorruptMetadataError for what is no manifest of the content ``digest``,
        UnsupportedFormatError for one of a later version."""
        try:
            body = json.loads(data)
            version = body["v"]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise CorruptMetadataError(f"the manifest of {digest} cannot be read") from exc
        if type(version) is int and version > _VERSION:
            raise UnsupportedFormatError(f"the manifest of {digest} has version {version}")
        made = cls(digest.partition(":")[0])
        try:
            made._fill(body)
            is_right = body["digest"] == digest and body["size"] == made.size
        except (ValueError, TypeError, KeyError, OverflowError) as exc:
            raise CorruptMetadataError(f"the manifest of {digest} cannot be read") from exc
        if not is_right:
            raise CorruptMetadataError(f"the manifest of {digest} is not one of it")
        return made

    def _fill(self, body: dict[str, Any]) -> None:
        for name, size in body["chunks"]:
            if len(name) != 2 * _BYTES or type(size) is not int or size < 1:
                raise ValueError("not a chunk")
            self.add(name, size)
