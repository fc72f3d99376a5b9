"""Blocks: their ids, and many of them on their way at once."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

from trove_async.drivers.azure.base import Opened, tried
from trove_async.drivers.azure.config import MOST_PART, MOST_PARTS
from trove_async.drivers.azure.supply import Part, Supply, digest_of
from trove_async.errors import (
    InvalidInputError,
    TrailingDataError,
    TruncatedError,
    UploadIntegrityError,
)

__all__ = ["BlockId", "Parallel", "check_size", "finished", "send_block", "size_of_part"]

T = TypeVar("T")
_LENGTH: Final = 46
"""Bytes, as in the ids of the SDK: all ids of one blob are equally long, left-overs too."""
_STEP: Final = 5000  # blocks after which they double
_GRACE: Final = 5.0


@dataclass(frozen=True, slots=True)
class BlockId:
    """Whose block it is, which, when it was sent, and its MD5: all that is known of a block
    that is not committed yet is its id and size."""

    token: bytes
    """16 bytes of the upload."""
    number: int
    stamp: int
    digest: bytes

    @classmethod
    def of(cls, token: bytes, number: int, digest: bytes) -> Self:
        return cls(token, number, time.time_ns(), digest)

    def pack(self) -> bytes:
        fixed = self.token + self.number.to_bytes(4, "big") + self.stamp.to_bytes(8, "big")
        return (fixed + self.digest).ljust(_LENGTH, b"\0")

    @classmethod
    def read(cls, text: str, token: bytes) -> Self | None:
        """None for a block of somebody else."""
        try:
            raw = b64decode(text, validate=True)
        except ValueError:
            return None
        if len(raw) != _LENGTH or raw[:16] != token:
            return None
        number, stamp = int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:28], "big")
        return cls(token, number, stamp, raw[28:44])


async def send_block(
    opened: Opened, bucket: str, key: str, token: bytes, number: int, part: Part
) -> BlockId:
    """The service compares the MD5 before it takes the block, and so do we afterwards."""
    block = BlockId.of(token, number, await digest_of(part))
    name = quote(b64encode(block.pack()), safe="")
    request = opened.upload(bucket, key, f"comp=block&blockid={name}")
    request.pieces, request.size = part.pieces, part.size
    md5 = b64encode(block.digest).decode()
    request.headers["Content-MD5"] = md5
    said = (await opened.send(request)).headers.get("Content-MD5")
    if said is not None and said != md5:
        raise UploadIntegrityError("the service got other bytes than were sent")
    return block


def size_of_part(number: int, first: int) -> int:
    """So that a body of unknown length fits into 50,000 blocks."""
    return min(first << ((number - 1) // _STEP), MOST_PART)


class Parallel:
    """Only `run` pulls the body; its tasks send what was pulled, and are over when it ends."""

    def __init__(
        self, send: Callable[[int, Part], Coroutine[Any, Any, BlockId]], concurrency: int
    ) -> None:
        self._send = send
        self._concurrency = concurrency
        self._sent: dict[int, BlockId] = {}
        self.size = 0

    async def run(self, supply: Supply, declared: int | None, part_size: int) -> None:
        """Returns when every block is there; raises the first error when none is on its way
        any more."""
        running: set[asyncio.Task[None]] = set()
        number, is_last = 0, False
        try:
            while not is_last:
                number += 1
                if number > MOST_PARTS:
                    raise InvalidInputError("the body does not fit into 50,000 blocks")
                while len(running) >= self._concurrency:
                    running = await _some(running)
                # A known length needs no growth: its blocks were made to fit.
                wanted = part_size if declared is not None else size_of_part(number, part_size)
                part = await supply.take(wanted)
                self.size += part.size
                is_last = part.is_last
                running.add(asyncio.create_task(self._one(number, part)))
                del part
            check_size(self.size, declared)
            while running:
                running = await _some(running)
        finally:
            await _ended(running)

    async def _one(self, number: int, part: Part) -> None:
        self._sent[number] = await tried(lambda: self._send(number, part))

    @property
    def ids(self) -> list[bytes]:
        return [self._sent[number].pack() for number in sorted(self._sent)]


def check_size(size: int, declared: int | None) -> None:
    if declared is not None and size != declared:
        kind = TruncatedError if size < declared else TrailingDataError
        raise kind(f"the body has {size} bytes, {declared} were declared")


async def _ended(running: set[asyncio.Task[None]]) -> None:
    for task in running:
        task.cancel()
    if running:
        await finished(asyncio.gather(*running, return_exceptions=True), grace=_GRACE)


async def _some(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Those still running when at least one has ended; its error."""
    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    try:
        for task in done:
            task.result()
    except BaseException:
        await _ended(running)
        raise
    return running


async def finished(future: asyncio.Future[T], *, grace: float) -> T:
    """Its result. A cancel of the caller waits up to ``grace`` seconds for the end, then
    cancels it too, and is raised when it is over."""
    loop = asyncio.get_running_loop()
    interrupted: asyncio.CancelledError | None = None
    deadline: float | None = None
    while not future.done():
        left = None if deadline is None else max(0.0, deadline - loop.time())
        try:
            await asyncio.wait([future], timeout=left)
        except asyncio.CancelledError as exc:
            if interrupted is None:
                deadline = loop.time() + grace
            interrupted = exc
        if deadline is not None and loop.time() >= deadline and not future.done():
            future.cancel()
            deadline = None  # what is cancelled ends soon
    if interrupted is not None:
        if not future.cancelled():
            future.exception()  # retrieved: the cancel wins
        raise interrupted
    return future.result()
