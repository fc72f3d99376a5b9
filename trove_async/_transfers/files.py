"""Whole files to objects and back: resumable, with progress; the sessions behind that.

What works on them is loaded when it is first asked for.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Final

from trove_async._chunks import Body, as_body
from trove_async._names import check_key
from trove_async._store.services import Services
from trove_async.driver.base import Bytes, Chunks
from trove_async.errors import InvalidInputError, ObjectChangedError, TroveError
from trove_async.model import ObjectInfo

if TYPE_CHECKING:
    from trove_async._transfers.progress import OnProgress
    from trove_async._transfers.uploads import Uploads
    from trove_async.stream.session import PartRecord, Plan

__all__ = ["Files", "fingerprint_of"]

_CHUNK: Final = 1 << 20


class Files(Services):
    @property
    def uploads(self) -> Uploads:
        """The sessions of resumable uploads."""
        from trove_async._transfers.uploads import Uploads

        return Uploads(self)

    async def upload(
        self,
        bucket: str | None,
        key: str,
        path: str | os.PathLike[str],
        *,
        resumable: bool = False,
        on_progress: OnProgress | None = None,
        part_size: int | None = None,
        concurrency: int | None = None,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Stores a file. ``resumable``: whatever stops it, the same call goes on after the last
        part that was acknowledged, as long as the file has the same size, time of change and
        inode. What turns out to be another content all the same is ObjectChangedError, as is a
        file that changes meanwhile; ConflictError where another process is at it.

        ``on_progress`` is told now and then of the bytes read (``resumable``: acknowledged); it
        may be a coroutine function; what it raises is logged."""
        self._core.check()
        if resumable:
            size, fingerprint = _state_of(path)
            plan = self.uploads.planned(
                bucket,
                key,
                content_type=content_type,
                metadata=metadata,
                tags=tags,
                storage_class=storage_class,
                size=size,
                checksum=checksum,
                if_none_match=if_none_match,
                if_match=if_match,
                part_size=part_size,
                concurrency=concurrency,
                fingerprint=fingerprint,
            )

            async def work(bucket: str, key: str, plan: Plan) -> ObjectInfo:
                return await self._sent(plan, path, on_progress)

            return await self._core.seam.run(
                "upload", plan.bucket, plan.key, plan, work, replayable=False
            )
        from trove_async._transfers.progress import Counted, Reporter

        source = _body(path, self._core.chunk_size)
        reporter = Reporter(on_progress, source.size)

        def watched() -> Chunks:
            reporter.restart()  # a try that failed is read again
            return Counted(source.open(), reporter)

        try:
            info = await self.put(
                bucket,
                key,
                source if on_progress is None else Body(watched, source.size, None, True),
                content_type=content_type,
                metadata=metadata,
                tags=tags,
                storage_class=storage_class,
                checksum=checksum,
                if_none_match=if_none_match,
                if_match=if_match,
                part_size=part_size,
                concurrency=concurrency,
            )
            reporter.done(info.size)
        finally:
            await reporter.close()
        return info

    async def _sent(
        self, plan: Plan, path: str | os.PathLike[str], on_progress: OnProgress | None
    ) -> ObjectInfo:
        from trove_async._transfers.progress import Reporter

        session = await self.uploads.obtain(plan)
        reporter = Reporter(on_progress, plan.size, session.id)

        def acknowledged(part: PartRecord) -> None:
            reporter.reach(part.source)

        def source() -> Chunks:
            reporter.restart()
            # In small pieces: what is acknowledged is only compared, and the rest is cut anyway.
            body = _body(path, min(_CHUNK, self._core.chunk_size))
            return Unchanged(body.open(), path, plan.fingerprint or "")

        session.on_acknowledged = acknowledged
        try:
            info = await session.send(source)
            reporter.done(info.size)
            return info
        except ObjectChangedError as exc:
            try:
                await session.abort()  # nothing can go on with it
            except TroveError as failed:
                exc.add_note(f"the upload could not be aborted: {failed!r}")
            raise
        finally:
            try:
                await session.aclose()
            finally:
                await reporter.close()

    async def download(
        self,
        bucket: str | None,
        key: str,
        path: str | os.PathLike[str],
        *,
        resumable: bool = False,
        on_progress: OnProgress | None = None,
        concurrency: int | None = None,
    ) -> ObjectInfo:
        """Stores an object in a file, which appears whole: it is written under another name
        beside ``path`` and renamed over it (over a link too, which is not followed), once it has
        the recorded digest and is on disk.

        ``resumable``: what was written stays after a failure, and the same call goes on with it
        if its bytes and the object are still the same; else it begins again. ``concurrency``:
        ranges read at once, each of the store's chunk_size, held in memory; by default 4 where
        the backend is not on this machine."""
        from trove_async._transfers.download import Download
        from trove_async._transfers.progress import Reporter

        self._core.check()
        if concurrency is not None and concurrency < 1:
            raise ValueError("concurrency must be positive")
        bucket = self._bucket(bucket)
        check_key(key)
        reporter = Reporter(on_progress, None)
        backend = self._place(bucket, key)
        if concurrency is None:
            features = backend.features
            is_near = features.min_part_size is None and features.max_part_size is None
            concurrency = 1 if is_near else 4
        download = Download(
            self,
            bucket,
            key,
            os.path.abspath(os.fspath(path)),
            chunk_size=self._core.chunk_size,
            concurrency=concurrency,
            reporter=reporter,
        )
        try:
            return await download.run(resumable=resumable)
        finally:
            await reporter.close()


class Unchanged:
    """A file's bytes; where it is another one at their end, ObjectChangedError instead of the
    end."""

    __slots__ = ("_chunks", "_fingerprint", "_path")

    def __init__(self, chunks: Chunks, path: str | os.PathLike[str], fingerprint: str) -> None:
        self._chunks = chunks
        self._path = path
        self._fingerprint = fingerprint

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        try:
            return await self._chunks.__anext__()
        except StopAsyncIteration:
            try:
                now = fingerprint_of(self._path)
            except FileNotFoundError:
                now = ""
            if now != self._fingerprint:
                raise ObjectChangedError("the file was changed while it was uploaded") from None
            raise

    async def aclose(self) -> None:
        await self._chunks.aclose()


def _body(path: str | os.PathLike[str], chunk_size: int) -> Body:
    from pathlib import Path  # only files need it

    return as_body(Path(path), chunk_size)


def fingerprint_of(path: str | os.PathLike[str]) -> str:
    """Of a regular file: what of it changes when its content does. OSError; InvalidInputError
    for what can be read only once."""
    return _state_of(path)[1]


def _state_of(path: str | os.PathLike[str]) -> tuple[int, str]:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInputError("only a regular file can be uploaded resumably")
    state = f"{status.st_size}-{status.st_mtime_ns}-{status.st_dev:x}-{status.st_ino}"
    return status.st_size, f"file:{state}"
