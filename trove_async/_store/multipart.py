"""The requests around the parts of an upload: tried again, finished for certain, given up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from trove_async._store.backend import Backend
from trove_async._store.record import TOKEN
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.options import HeadOptions, PutOptions
from trove_async.errors import (
    InvalidPartError,
    NotFoundError,
    PreconditionFailedError,
    TroveError,
    UploadNotFoundError,
)
from trove_async.model import MiB, ObjectInfo, PartInfo

__all__ = ["Diverged", "finish", "give_up", "part_length", "part_size_for", "retried"]

R = TypeVar("R")
_GROWTHS = 8


class Diverged(Exception):
    """The same source gives other bytes than those that its message fixed, or the backend has
    forgotten the upload: another message must be begun, from the source's first byte."""


def part_size_for(backend: Backend, wanted: int | None, chunk_size: int, size: int | None) -> int:
    """Inner bytes of the first parts."""
    features = backend.features
    length = max(wanted or chunk_size, features.min_part_size or 1)
    if size is not None and features.max_parts is not None:
        spread = size + size // 64 + MiB  # what does not compress grows a little
        length = max(length, -(-spread // max(1, features.max_parts - 1)))
    if features.max_part_size is not None:
        length = min(length, features.max_part_size)
    return length


def part_length(backend: Backend, first: int, number: int) -> int:
    """Inner bytes of part ``number``: it doubles seven times on the way to the backend's
    largest number, so that a body of unknown length has room."""
    features = backend.features
    length = first
    if features.max_parts is not None:
        length <<= min(_GROWTHS - 1, (number - 1) // max(1, features.max_parts // _GROWTHS))
    if features.max_part_size is not None and length > features.max_part_size:
        return first
    return length


async def retried(policy: RetryPolicy, once: Callable[[], Awaitable[R]]) -> R:
    """As every operation is: what may pass is tried again, with jitter, within a deadline."""
    started = time.monotonic()
    attempt = 0
    while True:
        attempt += 1
        try:
            return await once()
        except TroveError as exc:
            delay = policy.delay(attempt, getattr(exc, "retry_after", None))
            if (
                not exc.retryable
                or attempt >= policy.attempts
                or time.monotonic() + delay - started > policy.deadline
            ):
                raise
            await asyncio.sleep(delay)


async def finish(
    backend: Backend,
    bucket: str,
    key: str,
    upload_id: str,
    token: str,
    parts: Sequence[PartInfo],
    options: PutOptions,
    policy: RetryPolicy,
    timeouts: Timeouts,
) -> ObjectInfo:
    """Publishes the parts. A lost answer, also one that an earlier process waited for, is told
    by ``token`` in the object's metadata. Diverged where the parts are there no more.

    Not bounded in time: a backend may have to move every byte."""
    multipart = backend.need(backend.multipart, "uploads in parts")

    async def own() -> ObjectInfo | None:
        try:
            request = backend.driver.head(bucket, key, HeadOptions())
            info = await backend.limited(request, timeouts)
        except NotFoundError:
            return None
        return info if info.metadata.get(TOKEN) == token else None

    async def once() -> ObjectInfo:
        try:
            return await multipart.complete_multipart(bucket, key, upload_id, parts, options)
        except (UploadNotFoundError, PreconditionFailedError, InvalidPartError) as exc:
            if (info := await own()) is not None:
                return info
            if isinstance(exc, PreconditionFailedError):
                raise
            raise Diverged("the backend has forgotten the upload") from exc

    try:
        return await retried(policy, once)
    except TroveError as exc:
        exc.at(backend=backend.name, bucket=bucket, key=key)
        raise


async def give_up(
    backend: Backend, bucket: str, key: str, upload_id: str, timeouts: Timeouts
) -> None:
    """Aborts an upload of the backend; one that is gone is what was wanted."""
    multipart = backend.need(backend.multipart, "uploads in parts")
    try:
        await backend.limited(multipart.abort_multipart(bucket, key, upload_id), timeouts)
    except NotFoundError:
        return
