"""The manifest of content that is stored in chunks: which they are, in order.

It is JSON without spaces: ``v`` 1, ``chunking`` (how they were cut), ``size``, ``digest`` of the
whole content and, at last, ``chunks``, pairs of a digest in hex, by the algorithm of ``digest``,
and a size. The pairs are written and read one by one: as Python's lists and strings all of them
would take several times the memory of the text.
"""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from trove_async.cas.chunking import PARAMETERS
from trove_async.errors import CorruptMetadataError, UnsupportedError, UnsupportedFormatError

__all__ = ["LONGEST", "MOST", "Manifest"]

MOST: Final = 1 << 20
"""Chunks that content may have: about 256 GiB. Its manifest is a text of 80 MB then."""
LONGEST: Final = 100 * MOST
"""Bytes of a text that is looked at: a pair takes at most 90."""

_VERSION: Final = 1
_BYTES: Final = 32
_BEGIN: Final = b'"chunks":['
_PAIR: Final = re.compile(rb'\["([0-9a-f]{64})",([1-9][0-9]{0,17})\](,|\]\}\Z)')


class Manifest:
    """40 bytes in memory for each chunk, and about 150 more while the text is read or made."""

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
        head = {"v": _VERSION, "chunking": PARAMETERS, "size": self.size, "digest": digest}
        made = bytearray(json.dumps(head, separators=(",", ":"))[:-1].encode())
        made += b"," + _BEGIN
        for number in range(len(self)):
            start, stop = self.bounds(number)
            name = self._names[number * _BYTES : (number + 1) * _BYTES].hex()
            made += f'{"," if number else ""}["{name}",{stop - start}]'.encode()
        made += b"]}"
        return bytes(made)

    @classmethod
    def load(cls, data: bytes, digest: str) -> Manifest:
        """CorruptMetadataError for what is no manifest of the content ``digest``,
        UnsupportedFormatError for one of a later version."""
        head, _, pairs = data.partition(_BEGIN)
        try:
            body = json.loads(head + _BEGIN + b"]}" if pairs else data)
            version = body["v"]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise CorruptMetadataError(f"the manifest of {digest} cannot be read") from exc
        if type(version) is int and version > _VERSION:
            raise UnsupportedFormatError(f"the manifest of {digest} has version {version}")
        made = cls(digest.partition(":")[0])
        is_whole = made._fill(pairs)
        if not is_whole or (body.get("digest"), body.get("size")) != (digest, made.size):
            raise CorruptMetadataError(f"the manifest of {digest} is not one of it")
        return made

    def _fill(self, pairs: bytes) -> bool:
        """Whether they are pairs to their end."""
        position = 0
        while match := _PAIR.match(pairs, position):
            self.add(match[1].decode(), int(match[2]))
            position = match.end()
        return 0 < position == len(pairs)
