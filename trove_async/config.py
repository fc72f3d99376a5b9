"""Settings of a store. Each has an effect; what has none does not exist."""

from __future__ import annotations

import random
from dataclasses import dataclass

__all__ = ["RetryPolicy", "Timeouts"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often an idempotent operation with a replayable body is tried again.

    Delays grow exponentially with full jitter (AWS Architecture Blog, "Exponential
    Backoff and Jitter"); a backend's Retry-After is honoured up to `maximum`.
    """

    attempts: int = 4
    """Tries in all; 1 turns retrying off."""
    base: float = 0.1
    """Upper bound of the first delay, seconds; doubles each time."""
    maximum: float = 10.0
    """Seconds no single delay exceeds."""
    deadline: float = 60.0
    """Seconds after the start of the call when no new try begins."""

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ValueError("attempts must be at least 1")
        if self.base < 0 or self.maximum < 0 or self.deadline < 0:
            raise ValueError("base, maximum and deadline must not be negative")

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failed try number ``attempt`` (from 1)."""
        if retry_after is not None:
            return min(max(retry_after, 0.0), self.maximum)
        ceiling = min(self.maximum, self.base * 2.0 ** min(attempt - 1, 30))
        return random.uniform(0, ceiling)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; ``None`` is no limit."""

    connect: float | None = 10.0
    """To open a driver and each of its connections."""
    read: float | None = 60.0
    """Without progress: no answer, no byte. Server-side copies are bounded by `total` only."""
    total: float | None = None
    """For a whole operation, the body included."""

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"timeout {name} must be positive or None")
