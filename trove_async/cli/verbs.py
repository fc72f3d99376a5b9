"""What the commands on one object or one listing do. Each gives its exit code."""

from __future__ import annotations

import builtins
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from trove_async import CommonPrefix, ObjectInfo, Trove
from trove_async.cli import show
from trove_async.cli.address import Place, UsageError, byte_range, locate
from trove_async.cli.run import FAILED, OK, reason

__all__ = ["below", "cat", "delete_bucket", "list_entries", "make_bucket", "remove", "stat"]

_BATCH = 1000


async def list_entries(
    store: Trove,
    path: str,
    *,
    bucket: str | None,
    recursive: bool,
    long: bool,
    as_json: bool,
    limit: int | None,
) -> int:
    place = locate(store, path, bucket)
    if not place.bucket:
        return await _list_buckets(store, as_json=as_json)
    delimiter = None if recursive else "/"
    listing = store.list(place.bucket, prefix=place.key, delimiter=delimiter, limit=limit)
    async with aclosing(listing) as entries:
        async for entry in entries:
            if as_json:
                show.json_line(show.object_record(place.bucket, entry))
            else:
                show.line(_row(entry, long=long))
    return OK


def _row(entry: ObjectInfo | CommonPrefix, *, long: bool) -> str:
    if isinstance(entry, CommonPrefix):
        return f"{'-':>12}  {'-':20}  {entry.prefix}" if long else entry.prefix
    if not long:
        return entry.key
    return f"{entry.size:>12}  {entry.last_modified:%Y-%m-%dT%H:%M:%SZ}  {entry.key}"


async def _list_buckets(store: Trove, *, as_json: bool) -> int:
    for info in await store.list_buckets():
        if as_json:
            show.json_line(show.bucket_record(info))
        else:
            show.line(f"{info.name}/")
    return OK


async def stat(store: Trove, path: str, *, bucket: str | None, as_json: bool) -> int:
    place = locate(store, path, bucket).object()
    info = await store.head(place.bucket, place.key)
    record = show.object_record(place.bucket, info)
    if as_json:
        show.json_line(record)
        return OK
    metadata = record.pop("metadata")
    record["layers"] = _layers(info)
    del record["encodings"]
    for name, value in record.items():
        if value is not None:
            show.line(f"{name.replace('_', ' '):>14}: {value}")
    if isinstance(metadata, dict):
        for name, value in metadata.items():
            show.line(f"{'metadata':>14}: {name}={value}")
    return OK


def _layers(info: ObjectInfo) -> str | None:
    """From the user to the driver."""
    if info.encodings is None:
        return None
    if not info.encodings:
        return "none"
    share = f", {100 * info.stored_size / info.size:.1f} % of its size" if info.size else ""
    return f"{' -> '.join(info.encodings)} ({info.stored_size:,} bytes stored{share})"


async def cat(store: Trove, path: str, *, bucket: str | None, part: str | None) -> int:
    wanted = byte_range(part)
    place = locate(store, path, bucket).object()
    sys.stdout.flush()
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        # a write to a full pipe blocks in the kernel; only an exception ends it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    async with store.get(place.bucket, place.key, range=wanted) as reader:
        async for chunk in reader:
            _write_all(sys.stdout.fileno(), chunk)
    return OK


def _write_all(target: int, chunk: bytes | bytearray | memoryview) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[os.write(target, rest) :]


async def below(store: Trove, place: Place) -> AsyncGenerator[ObjectInfo, None]:
    """Every object under a folder-like prefix."""
    async with aclosing(store.list(place.bucket, prefix=place.key)) as entries:
        async for entry in entries:
            if isinstance(entry, ObjectInfo):
                yield entry


async def remove(
    store: Trove,
    paths: Sequence[str],
    *,
    bucket: str | None,
    recursive: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Keys that are not there count as removed, as everywhere in the store."""
    places = [locate(store, path, bucket) for path in paths]
    if not recursive:
        places = [place.object() for place in places]
    elif any(not place.bucket for place in places):
        raise UsageError("a recursive rm needs at least a bucket")
    failed = 0
    for place in places:
        if not recursive:
            failed += await _remove_keys(store, place, [place.key], quiet=quiet, as_json=as_json)
            continue
        keys: builtins.list[str] = []
        async with aclosing(below(store, place.folder())) as entries:
            async for info in entries:
                keys.append(info.key)  # noqa: PERF401 -- an async comprehension hides the aclosing
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            failed += await _remove_keys(store, place, batch, quiet=quiet, as_json=as_json)
    return FAILED if failed else OK


async def _remove_keys(
    store: Trove, place: Place, keys: Sequence[str], *, quiet: bool, as_json: bool
) -> int:
    failed = 0
    for result in await store.delete_many(place.bucket, keys):
        if result.error is not None:
            failed += 1
            show.complain(f"{place.bucket}/{result.key}: {reason(result.error)}")
        elif as_json:
            show.json_line({"removed": True, "bucket": place.bucket, "key": result.key})
        elif not quiet:
            show.line(f"removed {place.bucket}/{result.key}")
    return failed


async def make_bucket(store: Trove, name: str) -> int:
    await store.create_bucket(name)
    return OK


async def delete_bucket(store: Trove, name: str, *, force: bool) -> int:
    await store.delete_bucket(name, force=force)
    return OK
