"""One hot request and its answer, whichever way it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from trove_async.driver.base import Bytes
from trove_async.driver.http import Stream
from trove_async.drivers.s3.listing import Listing

__all__ = ["Answer", "Operation", "Plane", "Request"]

Operation = Literal[
    "GetObject", "HeadObject", "PutObject", "UploadPart", "DeleteObject", "ListObjectsV2"
]


@dataclass(slots=True)
class Request:
    operation: Operation
    bucket: str
    key: str = ""
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case, and on the wire as they are."""
    pieces: Sequence[Bytes] = ()
    size: int = 0
    """Bytes of all pieces."""
    digest: str | None = None
    """Their SHA-256 in hex, when somebody has computed it."""


@dataclass(slots=True)
class Answer:
    """A success; everything else is raised."""

    status: int
    headers: Mapping[str, str]
    """Looked up by names in lower case."""
    data: bytes = b""
    stream: Stream | None = None
    """Of GetObject; whoever gets the answer closes it."""


class Plane(Protocol):
    @property
    def wants_digest(self) -> bool:
        """Whether it signs ``Request.digest``."""
        ...

    async def send(self, request: Request) -> Answer: ...
    async def list(self, request: Request) -> Listing: ...
    async def close(self) -> None: ...
