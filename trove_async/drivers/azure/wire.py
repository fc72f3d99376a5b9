"""A request and its answer, as the verbs see them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from trove_async.driver import Bytes

__all__ = ["Answer", "Request", "Stream"]


@dataclass(slots=True)
class Request:
    method: str
    path: str
    """Quoted, below the endpoint; empty for the account."""
    bucket: str = ""
    key: str = ""
    query: str = ""
    """Quoted."""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Sequence[Bytes] | None = None
    """The body, `size` bytes of it; None: a request without one."""
    size: int = 0
    is_stream: bool = False
    """Whether the answer's body is handed over unread."""


class Stream(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def __anext__(self) -> bytes: ...
    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in any case are found."""
    data: bytes = b""
    stream: Stream | None = None
