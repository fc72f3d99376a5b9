"""Objects to files, files to objects, objects to objects."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from trove_async import ObjectInfo, Progress, Trove, UnsupportedError
from trove_async.cli import show
from trove_async.cli.address import Place, UsageError, locate
from trove_async.cli.files import Folder, files_below, free_name, stdin_chunks, writing
from trove_async.cli.progress import Bars
from trove_async.cli.run import FAILED, OK, each
from trove_async.cli.verbs import below, cat

__all__ = ["PutSettings", "Report", "copy", "get", "put"]

_NO_BARS = Bars()
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Report:
    """How each finished object is told."""

    quiet: bool
    as_json: bool

    def done(self, verb: str, place: Place, info: ObjectInfo, file: str | None = None) -> None:
        if self.as_json:
            record = {"done": verb, **show.object_record(place.bucket, info)}
            show.json_line(record if file is None else {**record, "file": file})
        elif not self.quiet:
            where = f" -> {file}" if file is not None else ""
            show.line(f"{verb} {place.bucket}/{info.key}{where} ({show.size_text(info.size)})")


@dataclass(frozen=True, slots=True)
class PutSettings:
    content_type: str | None
    metadata: Mapping[str, str]
    if_none_match: Literal["*"] | None
    if_match: str | None
    resume: bool = True


_WORTH = 16 * 1024 * 1024
"""Bytes of a file from which it is sent in parts that are remembered."""


async def put(
    store: Trove,
    path: str,
    sources: Sequence[str],
    *,
    bucket: str | None,
    recursive: bool,
    settings: PutSettings,
    report: Report,
    shown: Bars = _NO_BARS,
) -> int:
    place = locate(store, path, bucket)
    if not place.bucket:
        raise UsageError("PATH begins with a bucket")
    several = len(sources) > 1 or recursive
    if several and place.key and not place.key.endswith("/"):
        raise UsageError("several files go below a PATH that ends in '/'")
    if "-" in sources and (not place.key or place.key.endswith("/")):
        raise UsageError("standard input has no name; give the whole key")
    skipped: list[str] = []

    async def planned() -> AsyncGenerator[tuple[Path | None, Place], None]:
        for source in sources:
            for file, relative in _chosen(source, recursive=recursive):
                if relative is None:
                    skipped.append(str(file))
                    show.complain(f"{file}: the name is not UTF-8")
                    continue
                named = bool(place.key) and not place.key.endswith("/")
                key = place.key if named else place.key + relative
                yield file, Place(place.bucket, key)

    async def one(item: tuple[Path | None, Place]) -> None:
        file, target = item
        if file is None:
            info = await store.put(
                target.bucket,
                target.key,
                stdin_chunks(),
                content_type=settings.content_type,
                metadata=settings.metadata,
                if_none_match=settings.if_none_match,
                if_match=settings.if_match,
            )
        else:
            info = await send(target, file)
        report.done("put", target, info, None if file is None else str(file))

    async def send(target: Place, file: Path) -> ObjectInfo:
        status = file.stat()
        worth = stat.S_ISREG(status.st_mode) and status.st_size >= _WORTH
        with shown.file(str(target)) as on_progress:
            try:
                return await upload(target, file, settings.resume and worth, on_progress)
            except UnsupportedError:
                if not (settings.resume and worth):
                    raise
            # Not a store that takes parts: then in one go.
            return await upload(target, file, False, on_progress)

    async def upload(
        target: Place, file: Path, resumable: bool, hook: OnProgress | None
    ) -> ObjectInfo:
        return await store.upload(
            target.bucket,
            target.key,
            file,
            resumable=resumable,
            on_progress=hook,
            content_type=settings.content_type,
            metadata=settings.metadata,
            if_none_match=settings.if_none_match,
            if_match=settings.if_match,
        )

    async with aclosing(planned()) as items:
        failed = await each(items, one, name=lambda item: str(item[1]))
    return FAILED if failed or skipped else OK


def _chosen(source: str, *, recursive: bool) -> list[tuple[Path | None, str | None]]:
    """The files that one argument means, with the names their keys end in."""
    if source == "-":
        return [(None, "")]
    file = Path(source)
    if not file.is_dir():
        return [(file, file.name)]
    if not recursive:
        raise UsageError(f"{source!r} is a folder; add --recursive")
    return [(found.path, found.relative) for found in files_below(file)]


async def get(
    store: Trove,
    path: str,
    target: str | None,
    *,
    bucket: str | None,
    recursive: bool,
    report: Report,
    shown: Bars = _NO_BARS,
    resume: bool = True,
) -> int:
    if recursive:
        if target is None:
            raise UsageError("a recursive get needs the folder to write to")
        return await _get_below(store, path, Path(target), bucket=bucket, report=report)
    if target == "-":
        return await cat(store, path, bucket=bucket, part=None)
    place = locate(store, path, bucket).object()
    if target is None or Path(target).is_dir():
        name = place.key.rpartition("/")[2]
        free_name(Path(target or "."), name)
        file = Path(target or ".", name)
        told = str(file)
    else:
        told = target
        file = Path(os.path.realpath(target))  # links are followed, as cp does
        if file.exists() and not file.is_file():  # a device or a pipe is written as it is
            report.done("get", place, await _fetch(store, place, writing(file)), target)
            return OK
    with shown.file(str(place)) as on_progress:
        info = await store.download(
            place.bucket, place.key, file, resumable=resume, on_progress=on_progress
        )
    report.done("get", place, info, told)
    return OK


async def _fetch(store: Trove, place: Place, file: AbstractContextManager[BinaryIO]) -> ObjectInfo:
    """Writes without a thread: the page cache takes it, and a cancel finds no write under way."""
    async with store.get(place.bucket, place.key) as reader:
        with file as stream:
            async for chunk in reader:
                stream.write(chunk)
        return reader.info


async def _get_below(
    store: Trove, path: str, target: Path, *, bucket: str | None, report: Report
) -> int:
    place = locate(store, path, bucket).folder()
    if not place.bucket:
        raise UsageError("a recursive get needs at least a bucket")
    folder = Folder(target)

    async def one(info: ObjectInfo) -> None:
        relative = info.key[len(place.key) :]
        source = Place(place.bucket, info.key)
        if not relative or (relative.endswith("/") and info.size == 0):
            if relative:  # the mark of an empty folder
                folder.make(relative[:-1])
            return
        found = await _fetch(store, source, folder.writing(relative))
        report.done("get", source, found, str(target / relative))

    try:
        async with aclosing(below(store, place)) as entries:
            failed = await each(entries, one, name=lambda info: f"{place.bucket}/{info.key}")
    finally:
        folder.close()
    return FAILED if failed else OK


async def copy(
    store: Trove,
    source: str,
    target: str,
    *,
    other: Trove | None,
    bucket: str | None,
    recursive: bool,
    report: Report,
) -> int:
    """Within a store by its own means; to another one the bytes and metadata are streamed."""
    start = locate(store, source, bucket)
    end = locate(other or store, target, bucket)
    if not end.bucket:
        raise UsageError("the target begins with a bucket")
    if recursive:
        start, end = start.folder(), end.folder()
        if not start.bucket:
            raise UsageError("a recursive cp needs at least a bucket")
        if other is None and start.bucket == end.bucket and end.key.startswith(start.key):
            raise UsageError("the target lies within the source")
    else:
        start = start.object()
        if not end.key or end.key.endswith("/"):
            end = Place(end.bucket, end.key + start.key.rpartition("/")[2])
        end = end.object()

    async def one(key: str) -> None:
        here = Place(start.bucket, key)
        there = Place(end.bucket, end.key + key[len(start.key) :]) if recursive else end
        if other is None:
            info = await store.copy(here.bucket, here.key, there.bucket, there.key)
        else:
            info = await _stream(store, here, other, there)
        report.done("cp", there, info)

    if not recursive:
        await one(start.key)
        return OK

    async def keys() -> AsyncGenerator[str, None]:
        async with aclosing(below(store, start)) as entries:
            async for info in entries:
                yield info.key

    async with aclosing(keys()) as found:
        failed = await each(found, one, name=lambda key: f"{start.bucket}/{key}")
    return FAILED if failed else OK


async def _stream(store: Trove, here: Place, other: Trove, there: Place) -> ObjectInfo:
    async with store.get(here.bucket, here.key) as reader:
        info = reader.info
        return await other.put(
            there.bucket,
            there.key,
            reader,
            content_type=info.content_type,
            metadata=info.metadata,
            size=info.size,
        )
