"""What content-addressed storage tells its callers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from trove_async.errors import TroveError

__all__ = ["BlobInfo", "BlobState", "GCResult", "RebuildReport", "StoredBlob", "VerifyReport"]

BlobState = Literal["reserved", "live", "condemned", "deleting", "gone"]


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """Content that is there and referenced."""

    digest: str
    """``"<algorithm>:<hex>"`` of the content."""
    size: int
    """Bytes of the content."""
    deduplicated: bool
    """It was there before; its bytes were not written again."""


@dataclass(frozen=True, slots=True)
class BlobInfo:
    digest: str
    size: int
    stored_size: int
    """Bytes the backend holds, after compression and encryption; of content in chunks those of
    its manifest."""
    references: int
    pinned: bool
    state: BlobState
    """``live``, or ``condemned``: collected soon unless it is stored or pinned again."""
    damaged: bool = False
    """A read found other bytes, or none. The next `store` of the content writes it anew."""
    chunked: bool = False
    """Its chunks are content of their own, each under its digest."""


@dataclass(frozen=True, slots=True)
class GCResult:
    """What one run of `gc` did; with ``dry_run`` what it would do."""

    scanned: int
    """Blobs in the index."""
    condemned: int
    """Newly marked: unreferenced and unpinned for the grace period."""
    deleted: int
    """Objects deleted by this run: blobs, and what is left of broken writes."""
    freed_bytes: int
    """Stored bytes of the deleted."""
    errors: Sequence[TroveError]
    """What could not be deleted, each with its key, and why a sweep was refused."""


@dataclass(frozen=True, slots=True)
class VerifyReport:
    checked: int
    corrupt: list[str]
    """Digests of blobs whose bytes are not their content, or that no key here opens: the header
    of an encrypted one rotted, or the keys are not those it was written with."""
    missing: list[str]
    """Digests of blobs whose object is not there."""
    recounted: int = 0
    """Blobs whose count of references was wrong and, with ``repair``, is right now."""


@dataclass(frozen=True, slots=True)
class RebuildReport:
    found: int
    """Blobs in storage."""
    recovered: list[str]
    """Digests that the index did not know, or took for unwanted or unfinished; they are live
    and pinned now."""
