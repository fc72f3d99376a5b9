"""Buckets over several backends: they are created, deleted and listed on every one."""

from __future__ import annotations

from collections.abc import Sequence

from trove_async._store.backend import Backend
from trove_async._together import side_by_side
from trove_async.config import Timeouts
from trove_async.driver.options import BucketOptions, DeleteOptions, ListOptions
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
)
from trove_async.model import BucketInfo

__all__ = ["create", "delete", "empty", "listed"]

_AT_ONCE = 16  # deletes of a backend that takes one key a call
_TRIES = 3  # to empty a bucket that others still write to


async def create(
    backends: Sequence[Backend], name: str, options: BucketOptions, limits: Timeouts
) -> None:
    """Where some backends have it already the others get it; BucketExistsError when all have."""
    made: list[Backend] = []
    exists: BucketExistsError | None = None
    for backend in backends:
        try:
            await backend.limited(backend.driver.create_bucket(name, options), limits)
        except BucketExistsError as exc:
            exists = exc
        except BaseException:
            for other in made:
                await other.limited(other.driver.delete_bucket(name), limits)
            raise
        else:
            made.append(backend)
    if not made and exists is not None:
        raise exists


async def delete(backends: Sequence[Backend], name: str, limits: Timeouts, *, force: bool) -> None:
    """All or none: what a backend refuses is put back on the others."""
    if force:
        for backend in backends:
            await empty(backend, name, limits)
    having: list[Backend] = []
    missing: BucketNotFoundError | None = None
    for backend in backends:
        try:
            request = backend.driver.list(name, ListOptions(page_size=1))
            page = await backend.limited(request, limits)
        except BucketNotFoundError as exc:
            missing = exc
            continue
        if page.objects:
            raise BucketNotEmptyError("the bucket holds objects", bucket=name, backend=backend.name)
        having.append(backend)
    if not having and missing is not None:
        raise missing
    gone: list[Backend] = []
    for backend in having:
        try:
            await backend.limited(backend.driver.delete_bucket(name), limits)
        except BaseException:
            for other in gone:
                await other.limited(other.driver.create_bucket(name, BucketOptions()), limits)
            raise
        gone.append(backend)


async def empty(backend: Backend, name: str, limits: Timeouts) -> None:
    """Deletes every object, also those that route elsewhere."""

    async def gone(key: str) -> None:
        await backend.limited(backend.writer.delete(name, key, DeleteOptions()), limits)

    for _ in range(_TRIES):
        found = False
        cursor: str | None = None
        while True:
            try:
                request = backend.driver.list(name, ListOptions(cursor=cursor))
                page = await backend.limited(request, limits)
            except BucketNotFoundError:
                return
            keys = [info.key for info in page.objects]
            found = found or bool(keys)
            if backend.batch is not None and keys:
                batch = backend.batch.delete_many(name, keys)
                for result in await backend.limited(batch, limits):
                    if result.error is not None:
                        raise result.error
            else:
                await side_by_side(keys, gone, _AT_ONCE)
            cursor = page.cursor
            if cursor is None:
                break
        if not found:
            return


async def listed(backends: Sequence[Backend], limits: Timeouts) -> list[BucketInfo]:
    """Each name once, sorted, with the earliest time any backend tells."""
    known: dict[str, BucketInfo] = {}
    for backend in backends:
        for info in await backend.limited(backend.driver.list_buckets(), limits):
            other = known.get(info.name)
            if (
                other is None
                or other.created_at is None
                or (info.created_at is not None and info.created_at < other.created_at)
            ):
                known[info.name] = info
    return [known[name] for name in sorted(known)]
