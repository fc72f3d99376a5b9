"""A scanner in this process that notes what it is asked."""

from __future__ import annotations

import asyncio
from typing import Literal, cast

from trove_async import Context
from trove_async.driver.base import Bytes
from trove_async.errors import ContentBlockedError
from trove_async.middleware.scan import CLEAN, Verdict

Step = Literal["session", "feed", "finish", "close"]


class Toy:
    """Finds ``b"virus"``; raises ``error`` at ``fail``; suspends at every step."""

    def __init__(
        self,
        fail: Step | None = None,
        error: BaseException | None = None,
        *,
        early: bool = False,
        verdict: object = None,
    ) -> None:
        self.fail = fail
        self.error = error
        self.early = early
        self.verdict = verdict
        self.sessions: list[ToySession] = []
        self.contexts: list[Context] = []

    async def session(self, context: Context) -> ToySession:
        self.contexts.append(context)
        await self.step("session")
        self.sessions.append(ToySession(self))
        return self.sessions[-1]

    async def step(self, name: Step) -> None:
        await asyncio.sleep(0)
        if name == self.fail and self.error is not None:
            raise self.error

    @property
    def seen(self) -> bytes:
        assert len(self.sessions) == 1
        return self.sessions[0].seen

    @property
    def closings(self) -> list[int]:
        return [session.closed for session in self.sessions]


class ToySession:
    def __init__(self, toy: Toy) -> None:
        self.toy = toy
        self.chunks: list[Bytes] = []
        self.finished = 0
        self.closed = 0

    @property
    def seen(self) -> bytes:
        return b"".join(bytes(chunk) for chunk in self.chunks)

    async def feed(self, chunk: Bytes) -> None:
        assert len(chunk), "a chunk is never empty"
        assert not self.closed and not self.finished
        self.chunks.append(chunk)
        await self.toy.step("feed")
        if self.toy.early and b"virus" in bytes(chunk):
            error = ContentBlockedError("seen early")
            error.threat = "Early"
            raise error

    async def finish(self) -> Verdict:
        assert not self.closed
        self.finished += 1
        await self.toy.step("finish")
        if self.toy.verdict is not None:
            return cast(Verdict, self.toy.verdict)
        return Verdict("Toy.Virus") if b"virus" in self.seen else CLEAN

    async def aclose(self) -> None:
        self.closed += 1
        await self.toy.step("close")
