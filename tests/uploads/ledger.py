"""A backend and a catalog that die at a chosen step, and keep account of every frame sealed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from trove_async import Chunks, ObjectInfo, PartInfo, PutOptions
from trove_async.catalog import MemoryCatalog
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware.encrypt.message import FINAL, parse_header

__all__ = ["Crash", "Ledger", "Mortal", "Steps", "sample"]


class Crash(BaseException):
    """The process has ended: nothing that comes after it takes effect."""


class Steps:
    """Counts the places where a process can die; dies at one of them."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.dead = False

    def arm(self, at: int | None) -> None:
        self.count, self.at, self.dead = 0, at, False

    def tick(self) -> None:
        if self.dead:
            raise Crash
        self.count += 1
        if self.count == self.at:
            self.dead = True
            raise Crash


class Ledger(MemoryDriver):
    """What was sealed under one place of one message is never sealed otherwise."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps
        self.frames: dict[tuple[str, int], bytes] = {}
        self.ids: dict[str, bytes] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.sent: Counter[tuple[str, int]] = Counter()
        self.sealed = True

    async def initiate_multipart(self, bucket: str, key: str, options: PutOptions) -> str:
        self.steps.tick()
        made = await super().initiate_multipart(bucket, key, options)
        self.steps.tick()
        return made

    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        self.steps.tick()
        seen = bytearray()

        async def watched() -> AsyncIterator[bytes]:
            try:
                async for chunk in body:
                    seen.extend(chunk)
                    self.steps.tick()
                    yield bytes(chunk)
            finally:
                if self.sealed:
                    self._enter(upload_id, number, bytes(seen))

        chunks: Any = watched()
        try:
            part = await super().upload_part(bucket, key, upload_id, number, chunks, size)
        finally:
            await chunks.aclose()
        assert size is None or part.size == size, "the size that was announced"
        self.sent[upload_id, number] += 1
        self.steps.tick()
        return part

    def _enter(self, upload_id: str, number: int, data: bytes) -> None:
        position = 0
        if number == 1:
            if not data:
                return
            header = parse_header(data)
            assert self.ids.setdefault(upload_id, header.message_id) == header.message_id
            assert [*self.ids.values()].count(header.message_id) == 1, "one message, two uploads"
            self.sizes[upload_id] = (header.frame_size, header.length)
            position = header.length
        frame, _ = self.sizes[upload_id]
        while position < len(data):
            is_final = data[position : position + 4] == FINAL
            start = position + 4 if is_final else position
            which = int.from_bytes(data[start : start + 4], "big")
            if is_final:
                length = int.from_bytes(data[start + 16 : start + 20], "big")
                stop = start + 20 + length + 16
            else:
                stop = position + 4 + 12 + frame + 16
            sealed = data[position:stop]
            assert len(sealed) == stop - position, "the sealer gives whole frames"
            known = self.frames.setdefault((upload_id, which), sealed)
            assert known == sealed, f"frame {which} was sealed twice, differently"
            position = stop

    async def complete_multipart(self, *args: Any) -> ObjectInfo:
        self.steps.tick()
        info = await super().complete_multipart(*args)
        self.steps.tick()
        return info

    async def abort_multipart(self, *args: Any) -> None:
        self.steps.tick()
        await super().abort_multipart(*args)
        self.steps.tick()


class Mortal(MemoryCatalog):
    """May die before and after each change."""

    def __init__(self, steps: Steps, **options: Any) -> None:
        super().__init__(**options)
        self._steps = steps


def _stepped(name: str) -> Callable[..., Any]:
    async def method(self: Mortal, *args: Any) -> Any:
        self._steps.tick()
        found = await getattr(super(Mortal, self), name)(*args)
        self._steps.tick()
        return found

    return method


for _name in ("create", "claim", "renew", "release", "begin", "keep_part", "delete"):
    setattr(Mortal, _name, _stepped(_name))


def sample(size: int, seed: int = 0) -> bytes:
    """Compresses to about a half."""
    chance = random.Random(seed)
    out = bytearray()
    while len(out) < size:
        out += chance.randbytes(900) + bytes(chance.randrange(1800))
    return bytes(out[:size])
