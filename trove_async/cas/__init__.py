"""Content-addressed storage: content named by its digest, stored once. `Trove.cas` opens it."""

from trove_async.cas.chunking import FastCDC
from trove_async.cas.records import (
    BlobInfo,
    GCResult,
    RebuildReport,
    StoredBlob,
    VerifyReport,
)
from trove_async.cas.store import CAS

__all__ = [
    "CAS",
    "BlobInfo",
    "FastCDC",
    "GCResult",
    "RebuildReport",
    "StoredBlob",
    "VerifyReport",
]
