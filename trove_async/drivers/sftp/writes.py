"""Bytes into an open file, with a window of them on their way."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from trove_async.driver import Bytes
from trove_async.driver.progress import moved
from trove_async.drivers.sftp.channel import Answer
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link

__all__ = ["WINDOW", "Writes"]

WINDOW: Final = 4 * 1024 * 1024
"""Bytes on their way to the server that it has not acknowledged."""


class Writes:
    """Bytes into an open file, with a window of unacknowledged ones."""

    def __init__(self, ground: Ground, link: Link, handle: bytes, offset: int = 0) -> None:
        self._ground = ground
        self._link = link
        self._handle = handle
        self._held: list[bytes] = []
        self._length = 0
        self._asked: deque[tuple[asyncio.Future[Answer], int]] = deque()
        self._unacknowledged = 0
        self.offset = offset

    async def add(self, chunk: Bytes) -> None:
        """Takes ``chunk``, which may change as soon as this returns."""
        size = self._link.max_write
        view = memoryview(chunk)
        if self._length:
            head = view[: size - self._length]
            self._hold(head)
            view = view[len(head) :]
            if self._length < size:
                return
            await self._send_held()
        is_lent = False
        while len(view) >= size:
            await self._send(view[:size])
            view = view[size:]
            is_lent = True
        if is_lent:
            self._link.channel.flush()  # a copy is made, and the chunk is free
        if len(view):
            self._hold(view)

    def _hold(self, view: memoryview) -> None:
        self._held.append(bytes(view))
        self._length += len(view)

    async def _send_held(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        self._length = 0
        if data:
            await self._send(data)

    async def _send(self, data: bytes | memoryview) -> None:
        while self._asked and self._unacknowledged + len(data) > WINDOW:
            await self._acknowledge()
        self._asked.append((self._link.write(self._handle, self.offset, data), len(data)))
        self._unacknowledged += len(data)
        self.offset += len(data)

    async def _acknowledge(self) -> None:
        asked, size = self._asked.popleft()
        answer = await asked
        self._unacknowledged -= size
        moved()
        if answer is not None:
            await self._ground.check(self._link, [answer])

    async def end(self) -> None:
        """Sends what is held, and waits for all acknowledgements."""
        await self._send_held()
        while self._asked:
            await self._acknowledge()

    def drop(self) -> None:
        for asked, _ in self._asked:
            asked.cancel()
        self._asked.clear()
        self._held.clear()
