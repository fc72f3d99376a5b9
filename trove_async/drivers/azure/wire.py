"""A request and its answer, as the verbs see them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from trove_async.driver import Bytes
from trove_async.driver.http import Stream

__all__ = ["Answer", "Request"]


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


@dataclass(slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    """Names in any case are found."""
    data: bytes = b""
    stream: Stream | None = None
