"""What is told, or compared, of a body that was sent."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from dataclasses import dataclass
from hashlib import md5, sha256

from trove_async._threads import cpu_pool
from trove_async.driver.supply import Part

__all__ = ["Sums", "WholeMD5", "md5_of"]


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


class WholeMD5:
    """Of a body in parts, in threads while they are sent; for servers whose etag it is."""

    def __init__(self) -> None:
        self._hasher = md5(usedforsecurity=False)
        self._waiting: deque[tuple[Part, asyncio.Future[None]]] = deque()
        self._known: dict[int, asyncio.Future[None]] = {}
        self._is_busy = False
        self._loop = asyncio.get_running_loop()

    def follow(self, number: int, part: Part) -> asyncio.Future[None]:
        """Parts in their order, each once or again; the end of its turn, until which the part
        is held."""
        known = self._known.get(number)
        if known is None:
            if number != len(self._known) + 1:
                raise ValueError("parts are hashed in their order")
            known = self._known[number] = self._loop.create_future()
            self._waiting.append((part, known))
            self._next()
        return known

    def hexdigest(self) -> str:
        """Of the parts whose turn is over."""
        return self._hasher.hexdigest()

    def _next(self) -> None:
        if self._waiting and not self._is_busy:
            self._is_busy = True
            part, known = self._waiting.popleft()
            job = self._loop.run_in_executor(cpu_pool(), self._update, part)
            job.add_done_callback(lambda job: self._over(job, known))

    def _over(self, job: asyncio.Future[None], known: asyncio.Future[None]) -> None:
        self._is_busy = False
        error = None if job.cancelled() else job.exception()
        if not known.done():
            if error is None:
                known.set_result(None)
            else:
                known.set_exception(error)
        self._next()

    def _update(self, part: Part) -> None:
        for piece in part.pieces:
            self._hasher.update(piece)
