"""The reading of content that is stored in chunks: those a range needs, each against its name."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from itertools import islice
from typing import Final, TypeVar

from trove_async._threads import settle
from trove_async.cas.manifests import Manifest

__all__ = ["assembled"]

A = TypeVar("A")
B = TypeVar("B")

_PAGE: Final = 256
"""Chunks that are looked up together."""
_AHEAD: Final = 4
"""Chunks that are read at once."""


async def assembled(
    manifest: Manifest,
    start: int,
    stop: int,
    read: Callable[[Sequence[str]], Awaitable[Callable[[str], Awaitable[bytes]]]],
) -> AsyncGenerator[bytes, None]:
    """Bytes ``start`` up to, not including, ``stop``. ``read`` looks chunks up and gives what
    reads one of them, verified."""
    numbers = manifest.touching(start, stop)
    for first in range(numbers.start, numbers.stop, _PAGE):
        page = range(first, min(first + _PAGE, numbers.stop))
        names = [manifest.digest(number) for number in page]
        chunks = _ahead(names, await read(names), _AHEAD)
        async with aclosing(chunks):
            for number in page:
                data = await anext(chunks)
                begin, end = manifest.bounds(number)
                if begin < start or end > stop:
                    data = data[max(0, start - begin) : stop - begin]
                yield data


async def _ahead(
    items: Iterable[A], work: Callable[[A], Awaitable[B]], width: int
) -> AsyncGenerator[B, None]:
    """Results in order, ``width`` of them under way or waiting to be taken."""
    pending = iter(items)
    tasks: deque[asyncio.Future[B]] = deque()
    try:
        while True:
            for item in islice(pending, width - len(tasks)):
                tasks.append(asyncio.ensure_future(work(item)))
            if not tasks:
                return
            result = await tasks[0]
            tasks.popleft()
            yield result
    finally:
        for task in tasks:
            task.cancel()
        if tasks:  # none is left behind, whatever comes meanwhile
            await settle(asyncio.gather(*tasks, return_exceptions=True))
