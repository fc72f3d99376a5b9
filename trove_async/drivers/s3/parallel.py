"""Parts of one upload on their way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from hashlib import md5
from typing import Any, Final, TypeVar

from trove_async.drivers.s3.config import MOST_PART, MOST_PARTS
from trove_async.drivers.s3.finishing import finished
from trove_async.drivers.s3.supply import Part, Sums, Supply, crc_combined
from trove_async.drivers.s3.writing import base64_crc, check_size, tried
from trove_async.errors import InvalidInputError

__all__ = ["Parallel", "etag_of", "size_of_part"]

T = TypeVar("T")
Send = Callable[[int, Part], Coroutine[Any, Any, tuple[str, Sums]]]
_STEP: Final = 1000  # parts after which they double: 5 TiB fit whatever the first size was


def size_of_part(number: int, first: int) -> int:
    """So that a body of unknown length fits into 10,000 parts."""
    return min(first << ((number - 1) // _STEP), MOST_PART)


class Parallel:
    """Only `run` pulls the body; its tasks send what was pulled, and are over when it ends."""

    def __init__(self, send: Send, concurrency: int) -> None:
        self._send = send
        self._concurrency = concurrency
        self._sent: dict[int, tuple[str, Sums, int]] = {}
        self.size = 0

    async def run(self, supply: Supply, first: Part, declared: int | None, part_size: int) -> None:
        """Returns when every part is there; raises the first error when none is on its way
        any more."""
        running: set[asyncio.Task[None]] = set()
        number, part = 1, first
        try:
            while True:
                while len(running) >= self._concurrency:
                    running = await _some(running)
                self.size += part.size
                running.add(asyncio.create_task(self._one(number, part)))
                if part.is_last:
                    break
                number += 1
                if number > MOST_PARTS:
                    raise InvalidInputError("the body does not fit into 10,000 parts")
                # A known length needs no growth: its parts were made to fit.
                wanted = part_size if declared is not None else size_of_part(number, part_size)
                part = await supply.take(wanted)
            del part
            check_size(self.size, declared)
            while running:
                running = await _some(running)
        finally:
            for task in running:
                task.cancel()
            if running:
                await finished(asyncio.gather(*running, return_exceptions=True), grace=5.0)

    async def _one(self, number: int, part: Part) -> None:
        etag, sums = await tried(lambda: self._send(number, part))
        self._sent[number] = etag, sums, part.size

    @property
    def crc(self) -> str:
        """Of the whole body, as S3 writes it."""
        crc = 0
        for number in sorted(self._sent):
            _, sums, size = self._sent[number]
            crc = crc_combined(crc, sums.crc, size)
        return base64_crc(crc)

    def listed(self, with_crc: bool) -> list[dict[str, Any]]:
        """As CompleteMultipartUpload wants them."""
        return [
            {
                "PartNumber": number,
                "ETag": f'"{etag}"',
                **({"ChecksumCRC32": base64_crc(sums.crc)} if with_crc else {}),
            }
            for number, (etag, sums, _) in sorted(self._sent.items())
        ]


async def _some(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those still running when at least one has ended; its error."""
    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    try:
        for task in done:
            task.result()
    except BaseException:
        for task in running:
            task.cancel()
        if running:
            await finished(asyncio.gather(*running, return_exceptions=True), grace=5.0)
        raise
    return running


def etag_of(listed: list[dict[str, Any]]) -> str | None:
    """What S3 calls an object of these parts, when their etags are MD5s."""
    hasher = md5(usedforsecurity=False)
    try:
        for part in listed:
            hasher.update(bytes.fromhex(part["ETag"].strip('"')))
    except ValueError:
        return None
    return f"{hasher.hexdigest()}-{len(listed)}"
