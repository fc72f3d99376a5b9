"""The put of content whose digest is known and whose bytes are in memory."""

from __future__ import annotations

from typing import Final

from trove_async.cas.index import BlobIndex
from trove_async.cas.place import Place
from trove_async.cas.records import StoredBlob

__all__ = ["LEASE", "RENEW", "stored_as"]

LEASE: Final = 24 * 3600 * 1_000_000
"""Microseconds after which what a writer left is collected. No writer waits for another one's
lease, so it may be long."""
RENEW: Final = 3600.0
"""Seconds between two renewals of an upload under way."""


async def stored_as(
    index: BlobIndex, place: Place, digest: str, data: bytes, owner: str
) -> StoredBlob:
    size = len(data)
    while True:
        claim = await index.claim(digest, owner, LEASE)
        if claim.is_shared:
            return StoredBlob(digest, size, True)
        key = place.key(digest, claim.gen)
        info = await place.publish(key, data, size, claim.now)
        if await index.commit(digest, claim.gen, owner, size, info.stored_size, None):
            return StoredBlob(digest, size, False)
