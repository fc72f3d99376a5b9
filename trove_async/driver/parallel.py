"""Parts of one body on their way at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final, Generic, TypeVar

from trove_async.driver.finishing import finished, tried
from trove_async.driver.supply import Part, Supply, check_size
from trove_async.errors import InvalidInputError

__all__ = ["Parallel", "growing"]

T = TypeVar("T")
_GRACE: Final = 5.0


def growing(number: int, first: int, *, step: int, most: int) -> int:
    """Size of part ``number``: doubled after each ``step`` parts, so that a body of unknown
    length fits into the parts there may be."""
    return min(first << ((number - 1) // step), most)


class Parallel(Generic[T]):
    """Only `run` pulls the body; its tasks send what was pulled, and are over when it ends."""

    def __init__(
        self,
        send: Callable[[int, Part], Coroutine[Any, Any, T]],
        concurrency: int,
        most_parts: int,
    ) -> None:
        self._send = send
        self._concurrency = concurrency
        self._most_parts = most_parts
        self.sent: dict[int, T] = {}
        """What `send` gave, by number of the part; in no order."""
        self.size = 0

    async def run(
        self, supply: Supply, declared: int | None, size_of: Callable[[int], int]
    ) -> None:
        """Returns when every part is there; raises the first error when none is on its way
        any more. ``size_of``: bytes of a part by its number, from 1."""
        running: set[asyncio.Task[None]] = set()
        number, is_last = 0, False
        try:
            while not is_last:
                number += 1
                if number > self._most_parts:
                    raise InvalidInputError(
                        f"the body does not fit into {self._most_parts:,} parts"
                    )
                while len(running) >= self._concurrency:
                    running = await _some(running)
                part = await supply.take(size_of(number))
                self.size += part.size
                is_last = part.is_last
                running.add(asyncio.create_task(self._one(number, part)))
                del part  # not held while the others go
            check_size(self.size, declared)
            while running:
                running = await _some(running)
        finally:
            await _ended(running)

    async def _one(self, number: int, part: Part) -> None:
        self.sent[number] = await tried(lambda: self._send(number, part))


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
