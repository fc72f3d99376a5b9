"""What a scanner is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from trove_async.driver.base import Bytes
from trove_async.middleware.base import Context

__all__ = ["CLEAN", "ScanSession", "Scanner", "Verdict"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scanner says of one whole body. It has to be said: a scanner that gives none,
    by mistake or by an error, has not passed the body."""

    threat: str | None
    """What was found, in the scanner's own words; None: nothing was."""


CLEAN: Final = Verdict(None)


class ScanSession(Protocol):
    """The scan of one body. Any error from here fails the put."""

    async def feed(self, chunk: Bytes) -> None:
        """The next bytes, never empty and never changed afterwards, so they may be kept.

        A scanner that has seen enough to refuse may raise ContentBlockedError, with its
        ``threat``, here already."""
        ...

    async def finish(self) -> Verdict:
        """The body is complete; nothing of it is published before this returns."""
        ...

    async def aclose(self) -> None:
        """Lets go of everything, whether or not the scan was finished, and once it was."""
        ...


@runtime_checkable
class Scanner(Protocol):
    async def session(self, context: Context) -> ScanSession:
        """For one try of one put: a repeated put is scanned again."""
        ...
