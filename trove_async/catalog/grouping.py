"""Many small changes in few transactions."""

from __future__ import annotations

import asyncio
import copy
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar

from trove_async._threads import settle

__all__ = ["Grouped"]

A = TypeVar("A")
R = TypeVar("R")

_MOST: Final = 256


class Grouped(Generic[A, R]):
    """All that is asked while one transaction runs goes into the next one: who comes alone
    waits for nobody, and who come together share the cost of making it durable."""

    def __init__(self, work: Callable[[Sequence[A]], Awaitable[Sequence[R | Exception]]]) -> None:
        self._work = work
        self._waiting: deque[tuple[A, asyncio.Future[R]]] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def run(self, asked: A) -> R:
        """What began ends, also when its caller is cancelled."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._drain())
        return await settle(future)

    async def _drain(self) -> None:
        while self._waiting:
            count = min(_MOST, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            try:
                answers = await self._work([asked for asked, _ in batch])
            except Exception as exc:  # passed on to each who asked
                for _, future in batch:
                    error = copy.copy(exc) if count > 1 else exc
                    error.__cause__, error.__context__ = exc.__cause__, None
                    future.set_exception(error)
                continue
            except BaseException:
                for _, future in batch:
                    future.cancel()
                raise
            for (_, future), answer in zip(batch, answers, strict=True):
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
