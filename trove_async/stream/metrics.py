"""How a stream is getting on: counts, speed over a moving window, progress now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

__all__ = ["Meter", "PoolMetrics", "Progress", "StreamMetrics"]

WINDOW: Final = 5.0
"""Seconds that `Meter.speed` looks back."""
INTERVAL: Final = 0.1
"""Seconds between two reports at least."""
PATIENCE: Final = 1.0
"""Seconds after which there is a report though the percentage has hardly moved."""


@dataclass(frozen=True, slots=True)
class Progress:
    stream_id: str
    bytes: int
    """Moved so far; of a download that was sought, the place it is at."""
    total: int | None
    percent: float | None
    """0 to 100, and 100 only at the end; None when the total is not known."""
    speed: float
    """Bytes per second over the last 5 seconds."""
    eta: float | None
    """Seconds that the rest takes at this speed; None when that cannot be told."""


@dataclass(frozen=True, slots=True)
class StreamMetrics:
    bytes_sent: int
    """Taken by the store (uploads)."""
    bytes_received: int
    """Given to the user (downloads)."""
    chunks: int
    dropped: int
    """Chunks given up by DROP."""
    throughput: float
    """Bytes per second since the start, both ways together."""
    elapsed: float
    """Seconds from start to end, or until now."""


@dataclass(frozen=True, slots=True)
class PoolMetrics:
    active_streams: int
    total_streams: int
    """Admitted so far."""
    total_bytes: int
    total_chunks: int
    failed_streams: int


class Meter:
    """Counts one direction of one stream."""

    __slots__ = ("_clock", "_percent", "_reported", "_samples", "chunks", "moved", "position")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._samples: deque[tuple[float, int]] = deque()
        self._reported = 0.0
        self._percent = 0.0
        self.chunks = 0
        self.moved = 0
        self.position = 0
        """As `moved`, but set back or forward by a seek."""

    def start(self) -> None:
        now = self._clock()
        self._reported = now
        self._samples.append((now, 0))

    def add(self, size: int) -> None:
        self.chunks += 1
        self.moved += size
        self.position += size
        now = self._clock()
        samples = self._samples
        if not samples or now - samples[-1][0] >= INTERVAL:
            samples.append((now, self.moved))
            while len(samples) > 2 and samples[1][0] <= now - WINDOW:
                samples.popleft()

    def speed(self) -> float:
        if not self._samples:
            return 0.0
        began, moved = self._samples[0]
        passed = self._clock() - began
        return (self.moved - moved) / passed if passed > 0 else 0.0

    def is_due(self, total: int | None) -> bool:
        """Whether it is time for a report; then it counts as made."""
        now = self._clock()
        passed = now - self._reported
        if passed < INTERVAL:
            return False
        percent = 100 * self.position / total if total else 0.0
        if passed < PATIENCE and total and percent - self._percent < 1:
            return False
        self._reported, self._percent = now, percent
        return True

    def progress(self, stream_id: str, total: int | None, *, is_done: bool) -> Progress:
        speed = self.speed()
        percent = eta = None
        if total is not None:
            percent = 100.0 if is_done else min(99.9, 100 * self.position / total if total else 0.0)
            left = max(0, total - self.position)
            eta = 0.0 if is_done else left / speed if speed > 0 else None
        return Progress(stream_id, self.position, total, percent, speed, eta)
