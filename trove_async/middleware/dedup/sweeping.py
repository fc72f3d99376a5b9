"""What is counted against what is there: after crashes, and after the index was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from trove_async.errors import BlobNotFoundError, InvalidConfigError, ObjectChangedError
from trove_async.middleware.base import Middleware, Owned, Registration
from trove_async.middleware.dedup.blobs import Blobs
from trove_async.middleware.dedup.reference import (
    ENCODING,
    Reference,
    age_of,
    owner_prefix,
    owner_text,
    parse_owner,
)
from trove_async.model import CommonPrefix, ObjectInfo, Seconds, seconds

__all__ = ["RestoreReport", "Store", "SweepReport", "restored", "swept"]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


class Store(Protocol):
    """A `Trove` fits."""

    def registrations(self) -> list[Registration]: ...
    def bucket(self, name: str | None = None) -> _Named: ...
    async def owned(self, bucket: str | None, key: str) -> Sequence[Owned]: ...
    def list(
        self, bucket: str | None, *, prefix: str = ""
    ) -> AsyncIterator[ObjectInfo | CommonPrefix]: ...


@dataclass(slots=True)
class SweepReport:
    examined: int = 0
    """Owners of objects in this bucket that are counted."""
    young: int = 0
    """Of those, left without a look."""
    dropped: int = 0
    """Of those, without an object; with ``dry_run``: would have been dropped."""


@dataclass(slots=True)
class RestoreReport:
    objects: int = 0
    """References that are counted now, versions included."""
    missing: list[tuple[str, str]] = field(default_factory=list)
    """(key, digest): the content is not there."""


async def swept(
    blobs: Blobs,
    layer: Middleware,
    store: Store,
    bucket: str | None,
    grace: Seconds,
    *,
    dry_run: bool,
) -> SweepReport:
    _check_registered(layer, store)
    name = store.bucket(bucket).name
    limit = seconds(grace)
    if not limit >= 0:
        raise ValueError("grace must not be negative")
    now = datetime.now(UTC)
    report = SweepReport()
    async for owner, digest in blobs.owners(owner_prefix(name)):
        report.examined += 1
        parsed = parse_owner(owner, name)
        if parsed is None:
            continue  # somebody else's name
        id, key = parsed
        if age_of(id, now) < limit:
            report.young += 1
            continue
        if any(found.owner == id for found in await store.owned(name, key)):
            continue
        report.dropped += 1
        if not dry_run:
            await blobs.release(digest, owner=owner)
    return report


async def restored(
    blobs: Blobs, layer: Middleware, store: Store, bucket: str | None, prefix: str
) -> RestoreReport:
    _check_registered(layer, store)
    name = store.bucket(bucket).name
    report = RestoreReport()
    async for entry in store.list(name, prefix=prefix):
        if isinstance(entry, CommonPrefix) or entry.encodings == ():
            continue
        for found in await store.owned(name, entry.key):
            if found.encoding != ENCODING:
                continue
            try:
                digest = Reference.parse(await found.stored()).digest
            except ObjectChangedError:
                continue  # whoever replaced it has counted the new one
            try:
                await blobs.retain(digest, owner=owner_text(name, entry.key, found.owner))
            except BlobNotFoundError:
                report.missing.append((entry.key, digest))
            else:
                report.objects += 1
    return report


def _check_registered(layer: Middleware, store: Store) -> None:
    if all(registration.middleware is not layer for registration in store.registrations()):
        raise InvalidConfigError("this Dedup is not registered in the store")
