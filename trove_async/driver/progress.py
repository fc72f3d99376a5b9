"""How a driver tells that bytes move while it does not pull: a slow link is no silence."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

__all__ = ["TOLD", "moved"]

TOLD: ContextVar[Callable[[], None] | None] = ContextVar("trove_moved", default=None)
"""Who wants to know. Tasks that a driver starts for an operation inherit it."""


def moved() -> None:
    """A piece of a body has been taken by the network or the backend.

    The store ends an operation that makes no progress for `Timeouts.read`. A pull of the body is
    progress by itself; a driver that gathers large parts calls this for each piece of one that
    is sent. Needless elsewhere, and free of effect."""
    told = TOLD.get()
    if told is not None:
        told()
