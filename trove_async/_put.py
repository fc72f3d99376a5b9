"""Writes: the caller's body through the layers to one driver call, published once or not at all."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from trove_async._backend import Backend
from trove_async._chunks import Body, Digest, OneChunk, Tap
from trove_async._record import (
    DIGEST,
    FORMAT,
    LENGTH,
    TOKEN,
    read_record,
    seen_as,
    write_format,
)
from trove_async._seam import Idle, Pulled, bounded, waited
from trove_async.checksum import INLINE_LIMIT, digest_of
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Chunks
from trove_async.driver.options import HeadOptions, PutOptions
from trove_async.errors import (
    ChecksumMismatchError,
    PreconditionFailedError,
    TrailingDataError,
    TroveError,
    TruncatedError,
)
from trove_async.middleware.base import Context
from trove_async.middleware.pipeline import Chain, Entry, Pipeline
from trove_async.model import ObjectInfo

__all__ = ["Upload", "Writes"]


@dataclass(slots=True)
class Upload:
    """One put, over all its tries."""

    body: Body
    expected: tuple[str, str] | None
    raw: bool = False
    token: str | None = None
    """Set once a conditional put may have succeeded without our knowing."""
    in_doubt: bool = False


class Writes:
    def __init__(
        self,
        pipeline: Pipeline,
        algorithm: str | None,
        policy: RetryPolicy,
        timeouts: Timeouts,
    ) -> None:
        self._pipeline = pipeline
        self._algorithm = algorithm
        self._inline = INLINE_LIMIT.get(algorithm or "", 1 << 62)
        self._policy = policy
        self._timeouts = timeouts

    def put(
        self, backend: Backend, bucket: str, key: str, options: PutOptions, upload: Upload
    ) -> Coroutine[Any, Any, ObjectInfo]:
        """One try. ``options.metadata`` is the user's; the record is added here.

        A plain function, as `_write`: a frame less for each small put."""
        if options.if_match is None and options.if_none_match is None:
            return self._write(backend, bucket, key, options, upload)
        return self._conditional(backend, bucket, key, options, upload)

    async def _conditional(
        self, backend: Backend, bucket: str, key: str, options: PutOptions, upload: Upload
    ) -> ObjectInfo:
        if upload.token is None:
            upload.token = os.urandom(8).hex()
        try:
            return await self._write(backend, bucket, key, options, upload)
        except PreconditionFailedError:
            if upload.in_doubt and (info := await self._own(backend, bucket, key, upload)):
                return info
            raise
        except TroveError as exc:
            upload.in_doubt |= exc.retryable
            raise

    async def _own(
        self, backend: Backend, bucket: str, key: str, upload: Upload
    ) -> ObjectInfo | None:
        """The object there now, if an earlier try of this very put made it."""
        try:
            request = backend.driver.head(bucket, key, HeadOptions())
            info = await backend.limited(request, self._timeouts)
        except TroveError:
            return None
        if info.metadata.get(TOKEN) != upload.token:
            return None
        record = read_record(info.metadata)
        size = record.size if record.size is not None else upload.body.size
        return seen_as(info, record, info.stored_size if size is None else size)

    def _write(
        self, backend: Backend, bucket: str, key: str, options: PutOptions, upload: Upload
    ) -> Coroutine[Any, Any, ObjectInfo]:
        body = upload.body
        entries: list[Entry] = []
        if self._pipeline.writers or upload.raw:  # a guard may be there for reads alone
            context = Context(
                "put", bucket, key, options.content_type, options.metadata, options.size
            )
            context.stored_size = options.size
            entries = self._pipeline.for_write(context)
            if upload.raw:
                self._pipeline.admit_raw(context)
            if entries:
                return self._layered(backend, bucket, key, options, upload, context, entries)
        whole = body.whole
        if whole is not None and len(whole) <= self._inline:
            return self._small(backend, bucket, key, options, upload, whole)
        context = Context("put", bucket, key, options.content_type, options.metadata, options.size)
        context.stored_size = options.size
        return self._layered(backend, bucket, key, options, upload, context, entries)

    # -- bytes at hand, no layer: a straight line --------------------------------------------

    async def _small(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        upload: Upload,
        data: bytes,
    ) -> ObjectInfo:
        size = len(data)
        if options.size is not None and options.size != size:
            kind = TruncatedError if size < options.size else TrailingDataError
            raise kind(f"the body has {size} bytes, {options.size} were declared")
        algorithm = self._algorithm
        digest = digest_of(algorithm, data) if algorithm is not None else None
        if upload.expected is not None:
            _check_expected(upload.expected, data, digest)
        user = options.metadata
        if upload.raw:
            metadata = user
        else:
            metadata = {**user, FORMAT: "1", LENGTH: str(size)}
            if digest is not None:
                metadata[DIGEST] = digest
            if upload.token is not None:
                metadata[TOKEN] = upload.token
        sent = PutOptions(
            options.content_type,
            metadata,
            size,
            None,
            options.tags,
            options.storage_class,
            options.if_match,
            options.if_none_match,
            options.part_size,
            options.concurrency,
        )
        request = backend.driver.put(bucket, key, OneChunk(data), sent)
        try:
            if self._timeouts.read is None:
                info = await request
            else:
                try:  # as `bounded`, without its frame
                    waiting = request.send(None)
                except StopIteration as stop:
                    info = stop.value
                else:
                    info = await waited(request, waiting, Idle(self._timeouts.read))
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise
        if upload.raw:
            return info
        return ObjectInfo(
            key,
            size,
            info.stored_size,
            info.content_type,
            info.etag,
            info.last_modified,
            dict(user),
            digest,
            info.version_id,
            info.storage_class,
            (),
        )

    # -- everything else -----------------------------------------------------------------------

    async def _layered(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        upload: Upload,
        context: Context,
        entries: list[Entry],
    ) -> ObjectInfo:
        digest = Digest(self._algorithm)
        context.digest = digest
        digests = [digest]
        if upload.expected is not None and upload.expected[0] != self._algorithm:
            digests.append(Digest(upload.expected[0]))
        upload.body.is_open = True
        chain = Chain(upload.body.open())
        try:
            if entries:
                chunks = await self._pipeline.write(
                    chain,
                    entries,
                    context,
                    digests,
                    upload.expected,
                    transform=not upload.raw,
                )
            else:
                chunks = chain.push(
                    Tap(chain.top, digests, size=options.size, expected=upload.expected)
                )
            info = await self._send(backend, bucket, key, options, upload, context, chunks)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        await chain.aclose()
        if upload.raw:
            return info
        return ObjectInfo(
            key,
            digest.count,
            info.stored_size,
            info.content_type,
            info.etag,
            info.last_modified,
            dict(options.metadata),
            digest.text,
            info.version_id,
            info.storage_class,
            tuple(context.applied),
        )

    async def _send(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        upload: Upload,
        context: Context,
        chunks: Chunks,
    ) -> ObjectInfo:
        digest = context.digest

        def late() -> Mapping[str, str]:
            known: dict[str, str] = {}
            if digest is not None:
                known[LENGTH] = str(digest.count)
                if digest.text is not None:
                    known[DIGEST] = digest.text
            for more in context.late:
                known.update(more())
            return known

        metadata = dict(options.metadata)
        if not upload.raw:
            metadata[FORMAT] = write_format(context.applied, context.hints)
            if context.size is not None:
                metadata[LENGTH] = str(context.size)
            if upload.token is not None:
                metadata[TOKEN] = upload.token
        sent = PutOptions(
            options.content_type,
            metadata,
            context.stored_size,
            None if upload.raw else late,
            options.tags,
            options.storage_class,
            options.if_match,
            options.if_none_match,
            options.part_size,
            options.concurrency,
        )
        try:
            if self._timeouts.read is None:
                return await backend.driver.put(bucket, key, chunks, sent)
            idle = Idle(self._timeouts.read)
            return await bounded(backend.driver.put(bucket, key, Pulled(chunks, idle), sent), idle)
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise


def _check_expected(expected: tuple[str, str], data: bytes, digest: str | None) -> None:
    algorithm, wanted = expected
    found = digest if digest and digest.startswith(algorithm + ":") else digest_of(algorithm, data)
    if found != f"{algorithm}:{wanted}":
        raise ChecksumMismatchError(f"expected {algorithm}:{wanted}, the body has {found}")
