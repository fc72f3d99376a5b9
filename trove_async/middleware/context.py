"""What the layers of one operation know of it, and tell each other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from trove_async._chunks import Digest

__all__ = ["Context"]


class Context:
    """What layers of one operation know and tell each other. New for every operation."""

    __slots__ = (
        "applied",
        "bucket",
        "content_type",
        "covers",
        "digest",
        "ends",
        "hints",
        "key",
        "late",
        "metadata",
        "operation",
        "size",
        "stored_size",
    )

    def __init__(
        self,
        operation: str,
        bucket: str,
        key: str,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        size: int | None = None,
    ) -> None:
        self.operation = operation
        self.bucket = bucket
        self.key = key
        self.content_type = content_type
        self.metadata: Mapping[str, str] = {} if metadata is None else metadata
        self.size = size
        """Logical bytes, or None when not known."""
        self.applied: list[str] = []
        """Encodings so far, in write order; on a read those recorded."""
        self.stored_size: int | None = None
        """On a write: bytes the layers so far will give, when they can tell. On a read: bytes
        the backend holds."""
        self.hints: dict[str, str] = {}
        """Recorded beside the encodings; known before the body."""
        self.late: list[Callable[[], Mapping[str, str]]] = []
        """More metadata, asked for when the body has ended."""
        self.digest: Digest | None = None
        """On a write: running digest of the logical bytes, complete when the body has ended."""
        self.covers: Callable[[int], None] | None = None
        """On a write in parts: a transform that has `tells_covered` calls it before it gives a
        chunk, with how many bytes of its input are wholly in what it has given then."""
        self.ends: list[Callable[[bool | None], Awaitable[None]]] = []
        """On a write and on a copy by the backend: asked once, when the driver has finished,
        cancelled or not. True: the object was published; False: it was not and will not be;
        None: nobody can tell."""
