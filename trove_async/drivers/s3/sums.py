"""What is told, or compared, of a body that was sent."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from hashlib import md5, sha256

from trove_async.driver.supply import Part

__all__ = ["Sums", "md5_of"]


@dataclass(slots=True)
class Sums:
    size: int = 0
    crc: int = 0
    sha256: str | None = None

    @classmethod
    def of(cls, part: Part, *, with_sha256: bool) -> Sums:
        sums = cls(part.size)
        hasher = sha256() if with_sha256 else None
        for piece in part.pieces:
            sums.crc = zlib.crc32(piece, sums.crc)
            if hasher is not None:
                hasher.update(piece)
        if hasher is not None:
            sums.sha256 = hasher.hexdigest()
        return sums


def md5_of(part: Part) -> str:
    hasher = md5(usedforsecurity=False)
    for piece in part.pieces:
        hasher.update(piece)
    return hasher.hexdigest()
