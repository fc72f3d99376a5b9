"""Jobs at once, with bounded concurrency."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

__all__ = ["both", "side_by_side"]

A = TypeVar("A")
B = TypeVar("B")

_WIDTH = 16


async def side_by_side(
    items: Sequence[A], work: Callable[[A], Awaitable[B]], width: int = _WIDTH
) -> list[B]:
    """Results in the order of ``items``; the first error ends the others and is raised."""
    if len(items) < 2:
        return [await work(item) for item in items]
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
        first_error = errors.exceptions[0]
        raise first_error from first_error.__cause__
    return [results[index] for index in range(len(items))]


async def both(
    one: Callable[[], Coroutine[Any, Any, A]], other: Callable[[], Coroutine[Any, Any, B]]
) -> tuple[A, B]:
    """At the same time; the first error ends the other and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            first, second = group.create_task(one()), group.create_task(other())
    except BaseExceptionGroup as errors:
        first_error = errors.exceptions[0]
        raise first_error from first_error.__cause__
    return first.result(), second.result()
