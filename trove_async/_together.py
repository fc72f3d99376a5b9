"""Many small jobs at once, with bounded concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

__all__ = ["side_by_side"]

A = TypeVar("A")
B = TypeVar("B")

_WIDTH = 16


async def side_by_side(
    items: Sequence[A], work: Callable[[A], Awaitable[B]], width: int = _WIDTH
) -> list[B]:
    """Results in the order of ``items``; the first error ends the others and is raised."""
    results: dict[int, B] = {}
    pending = iter(enumerate(items))

    async def worker() -> None:
        for index, item in pending:
            results[index] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(width, len(items))):
                group.create_task(worker())
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [results[index] for index in range(len(items))]
