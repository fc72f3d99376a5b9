"""Verbs over many keys or ranges at once, with bounded concurrency."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Sequence

from trove_async._names import check_key
from trove_async._store.backend import Backend
from trove_async._store.core import Core
from trove_async._store.reader import ObjectReader
from trove_async._together import side_by_side
from trove_async.driver.options import ByteRange, DeleteOptions, GetOptions
from trove_async.errors import (
    IntegrityError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectNotFoundError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.model import DeleteResult, ObjectInfo

__all__ = ["batch_delete", "read_ranges", "resolved"]

_GROUP = 1000  # keys of one call of the seam

Read = Callable[[str, str, GetOptions], Awaitable[ObjectReader]]
Native = Callable[[Sequence[ByteRange], str | None], Awaitable[list[bytes]]]
"""All ranges of the version with that etag in one request, where the backend has that."""


async def batch_delete(
    core: Core, place: Callable[[str, str], Backend], bucket: str, keys: Sequence[str]
) -> list[DeleteResult]:
    results: list[DeleteResult | None] = [None] * len(keys)
    groups: dict[str, list[int]] = {}
    for index, key in enumerate(keys):
        try:
            check_key(key)
        except InvalidKeyError as exc:
            results[index] = DeleteResult(key, exc)
            continue
        groups.setdefault(place(bucket, key).name, []).append(index)
    for name, indexes in groups.items():
        backend = core.backends[name]
        for start in range(0, len(indexes), _GROUP):
            part = indexes[start : start + _GROUP]
            found = await _delete_group(core, backend, bucket, [keys[i] for i in part])
            for index, result in zip(part, found, strict=True):
                results[index] = result
    return [result for result in results if result is not None]


async def _delete_group(
    core: Core, backend: Backend, bucket: str, keys: list[str]
) -> list[DeleteResult]:
    async def work(bucket: str, key: str, options: list[str]) -> list[DeleteResult]:
        if backend.batch is not None:
            return await backend.limited(backend.batch.delete_many(bucket, options), core.timeouts)

        async def one(key: str) -> DeleteResult:
            try:
                await backend.limited(
                    backend.writer.delete(bucket, key, DeleteOptions()), core.timeouts
                )
            except TroveError as exc:
                exc.at(bucket=bucket, key=key, backend=backend.name, operation="delete_many")
                return DeleteResult(key, exc)
            return DeleteResult(key)

        return await side_by_side(options, one)

    return await core.seam.run("delete_many", bucket, "", keys, work)


async def read_ranges(
    bucket: str,
    key: str,
    wanted: Sequence[ByteRange | None],
    coalesce: int,
    concurrency: int,
    read: Read,
    native: Native | None,
) -> list[bytes]:
    """The first range also tells size and version; the others are pinned to it."""
    first = wanted[0] or ByteRange(0)
    async with await read(bucket, key, GetOptions(first)) as reader:
        info = reader.info
        opening = await reader.read()
    bounds = [(item or ByteRange(0)).resolve(info.size) for item in wanted]
    spans = _merged(bounds[1:], coalesce)
    pin = info.etag or None
    parts: list[bytes]
    try:
        if native is not None and info.encodings == () and spans:
            parts = await native([ByteRange(start, stop) for start, stop in spans], pin)
        else:

            async def fetch(span: tuple[int, int]) -> bytes:
                options = GetOptions(ByteRange(*span), if_match=pin)
                async with await read(bucket, key, options) as part:
                    return await part.read()

            parts = await side_by_side(spans, fetch, concurrency)
    except PreconditionFailedError as exc:
        raise ObjectChangedError(
            "the object was replaced between its ranges", bucket=bucket, key=key
        ) from exc
    lows = [low for low, _ in spans]
    results = [opening]
    for start, stop in bounds[1:]:
        if start == stop:
            results.append(b"")
            continue
        index = bisect_right(lows, start) - 1
        low, data = lows[index], parts[index]
        results.append(data if len(data) == stop - start else data[start - low : stop - low])
    return results


def _merged(bounds: Sequence[tuple[int, int]], gap: int) -> list[tuple[int, int]]:
    """Spans that cover every range, those at most ``gap`` apart as one."""
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(bound for bound in bounds if bound[0] < bound[1]):
        if spans and start <= spans[-1][1] + gap:
            spans[-1] = (spans[-1][0], max(spans[-1][1], stop))
        else:
            spans.append((start, stop))
    return spans


async def resolved(
    head: Callable[[str, str], Awaitable[ObjectInfo]], bucket: str, objects: list[ObjectInfo]
) -> list[ObjectInfo]:
    """Entries of a listing completed by `head`; an object deleted meanwhile, or one whose record
    cannot be read, stays as listed."""

    async def one(info: ObjectInfo) -> ObjectInfo:
        if info.encodings == () or (info.encodings and info.size != info.stored_size):
            return info
        try:
            return await head(bucket, info.key)
        except (ObjectNotFoundError, IntegrityError):
            return info

    return await side_by_side(objects, one)
