"""Deduplication of ordinary puts: equal content is kept once, objects are references to it."""

from trove_async.middleware.dedup.blobs import Blobs, StoredContent
from trove_async.middleware.dedup.layer import Dedup, by_bucket, one_space
from trove_async.middleware.dedup.sweeping import RestoreReport, SweepReport

__all__ = [
    "Blobs",
    "Dedup",
    "RestoreReport",
    "StoredContent",
    "SweepReport",
    "by_bucket",
    "one_space",
]
