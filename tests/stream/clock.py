"""An event loop whose time passes only when everybody sleeps: minutes cost nothing, and what
is measured is exact."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Clockwork", "in_clockwork"]

R = TypeVar("R")


class _Jumping(selectors.DefaultSelector):
    """Never waits: it lets the clock jump to the next timer instead."""

    jump = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.jump += timeout
        return ready


class Clockwork(asyncio.SelectorEventLoop):
    """For what needs neither threads nor sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.jump


def in_clockwork(coro: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner(loop_factory=Clockwork) as runner:
        result = runner.run(coro)
        left = asyncio.all_tasks(runner.get_loop())
        assert not left, f"tasks left behind: {left}"
        return result
