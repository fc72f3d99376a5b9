"""Writes: the caller's body through the layers to one driver call, published once or not at all."""

from __future__ import annotations

import os
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from trove_async._chunks import Body, Digest, OneChunk, Tap
from trove_async._store.backend import Backend
from trove_async._store.owned import Ownership
from trove_async._store.record import (
    DIGEST,
    FORMAT,
    LENGTH,
    TOKEN,
    read_record,
    seen_as,
    write_format,
)
from trove_async._store.seam import Idle, Pulled, sending, waited
from trove_async._supply import Supply
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
from trove_async.middleware.base import Context, Stage
from trove_async.middleware.pipeline import Chain, Entry, Pipeline
from trove_async.model import ObjectInfo

__all__ = ["Upload", "Writes"]

_AT_ONCE = 64 * 1024
"""A body this small is taken through its layers before the driver is called."""
_MOST_GROWN = 1 << 20
"""What layers make of it, unless they make more."""


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
        owned: Ownership,
    ) -> None:
        self._pipeline = pipeline
        self._owned = owned
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
        given = upload.body.size
        size = record.size if record.size is not None else given
        if given is not None and size != given:
            return None
        # A backend that told its metadata first may have published a part of the body.
        if size is not None and not record.encodings and info.stored_size != size:
            return None
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
            if key[-1] == "/" and body.size == 0 and not backend.features.flat_keys:
                entries = []  # a real folder: there is nothing that a layer could change
            if upload.raw:
                self._pipeline.admit_raw(context)
                self._owned.admit_raw(options.metadata)
            if entries:
                data = body.whole
                if self._pipeline.owning and not upload.raw:
                    layered = self._layered(backend, bucket, key, options, upload, context, entries)
                    return self._accounted(backend, context, layered)
                if data is not None and len(data) <= _AT_ONCE:
                    return self._layered_small(
                        backend, bucket, key, options, upload, context, entries, data
                    )
                return self._layered(backend, bucket, key, options, upload, context, entries)
        whole = body.whole
        if whole is not None and len(whole) <= self._inline:
            return self._small(backend, bucket, key, options, upload, whole)
        context = Context("put", bucket, key, options.content_type, options.metadata, options.size)
        context.stored_size = options.size
        return self._layered(backend, bucket, key, options, upload, context, entries)

    async def _accounted(
        self, backend: Backend, context: Context, layered: Coroutine[Any, Any, ObjectInfo]
    ) -> ObjectInfo:
        """Tells the layers how it ended, where what they wrote stands for something else."""
        try:
            info = await layered
        except BaseException as exc:
            await self._owned.ended(backend, context, exc)
            raise
        await self._owned.ended(backend, context, None)
        return info

    # -- bytes at hand: a straight line ------------------------------------------------------

    def _small(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        upload: Upload,
        data: bytes,
    ) -> Coroutine[Any, Any, ObjectInfo]:
        size = len(data)
        if options.size != size:
            _check_size(options.size, data)
        algorithm = self._algorithm
        digest = digest_of(algorithm, data) if algorithm is not None else None
        if upload.expected is not None:
            _check_expected(upload.expected, data, digest)
        user = options.metadata
        metadata: Mapping[str, str]
        if upload.raw:
            metadata = user
        else:
            metadata = {**user, FORMAT: "1", LENGTH: str(size)}
            if digest is not None:
                metadata[DIGEST] = digest
            if upload.token is not None:
                metadata[TOKEN] = upload.token
        return self._deliver(
            backend, bucket, key, options, upload.raw, data, metadata, size, digest, ()
        )

    async def _layered_small(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        upload: Upload,
        context: Context,
        entries: list[Entry],
        data: bytes,
    ) -> ObjectInfo:
        """As `_layered`, of so little that what the layers make of it is taken before the
        driver is asked: it is told everything at once."""
        digests: list[Digest] = []
        if entries[0].order[0] > Stage.OBSERVE:  # what the caller gave is what is counted
            _check_size(options.size, data)
            digest = context.digest = Digest.of(self._algorithm, data)
            if upload.expected is not None:
                _check_expected(upload.expected, data, digest.text)
        else:
            digests = self._digests(context, upload)
            digest = digests[0]
        chain = Chain(OneChunk(data))
        parts: list[bytes] = []
        size = 0
        try:
            chunks = await self._pipeline.write(
                chain, entries, context, digests, upload.expected, transform=not upload.raw
            )
            async for chunk in chunks:
                parts.append(chunk if type(chunk) is bytes else bytes(chunk))
                size += len(chunk)
                if size > _MOST_GROWN:
                    break
            if size > _MOST_GROWN:
                supply = Supply(chunks)
                supply.put_back([*parts])
                chain.push(supply)
                stored = await self._send(backend, bucket, key, options, upload, context, supply)
                info = _seen(stored, key, options, upload, context)
            else:
                metadata = _first_metadata(options, upload, context)
                if not upload.raw:
                    _last_metadata(context, metadata)
                info = await self._deliver(
                    backend,
                    bucket,
                    key,
                    options,
                    upload.raw,
                    parts[0] if len(parts) == 1 else b"".join(parts),
                    metadata,
                    digest.count,
                    digest.text,
                    tuple(context.applied),
                )
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        await chain.aclose()
        return info

    async def _deliver(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: PutOptions,
        raw: bool,
        data: bytes,
        metadata: Mapping[str, str],
        size: int,
        digest: str | None,
        encodings: tuple[str, ...],
    ) -> ObjectInfo:
        """``data`` and ``metadata`` are what is stored; ``size`` and ``digest`` are of the
        logical bytes."""
        sent = PutOptions(
            options.content_type,
            metadata,
            len(data),
            None,
            options.tags,
            options.storage_class,
            options.if_match,
            options.if_none_match,
            options.part_size,
            options.concurrency,
        )
        request = backend.writer.put(bucket, key, OneChunk(data), sent)
        try:
            if self._timeouts.read is None:
                info = await request
            elif len(data) > _AT_ONCE:
                info = await sending(request, Idle(self._timeouts.read))
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
        if raw:
            return info
        return ObjectInfo(
            key,
            size,
            info.stored_size,
            info.content_type,
            info.etag,
            info.last_modified,
            dict(options.metadata),
            digest,
            info.version_id,
            info.storage_class,
            encodings,
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
        digests = self._digests(context, upload)
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
        return _seen(info, key, options, upload, context)

    def _digests(self, context: Context, upload: Upload) -> list[Digest]:
        """The recorded one first; one more where another algorithm's is expected."""
        digest = Digest(self._algorithm)
        context.digest = digest
        if upload.expected is not None and upload.expected[0] != self._algorithm:
            return [digest, Digest(upload.expected[0])]
        return [digest]

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
        metadata = _first_metadata(options, upload, context)
        sent = PutOptions(
            options.content_type,
            metadata,
            context.stored_size,
            None if upload.raw else lambda: _last_metadata(context, {}),
            options.tags,
            options.storage_class,
            options.if_match,
            options.if_none_match,
            options.part_size,
            options.concurrency,
        )
        try:
            if self._timeouts.read is None:
                return await backend.writer.put(bucket, key, chunks, sent)
            idle = Idle(self._timeouts.read)
            return await sending(backend.writer.put(bucket, key, Pulled(chunks, idle), sent), idle)
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise


def _first_metadata(options: PutOptions, upload: Upload, context: Context) -> dict[str, str]:
    """What is known when every layer has decided."""
    metadata = dict(options.metadata)
    if not upload.raw:
        metadata[FORMAT] = write_format(context.applied, context.hints)
        if context.size is not None:
            metadata[LENGTH] = str(context.size)
        if upload.token is not None:
            metadata[TOKEN] = upload.token
    return metadata


def _last_metadata(context: Context, known: dict[str, str]) -> dict[str, str]:
    """``known`` with what is known when the body has ended."""
    digest = context.digest
    if digest is not None:
        known[LENGTH] = str(digest.count)
        text = digest.text
        if text is not None:
            known[DIGEST] = text
    for more in context.late:
        known.update(more())
    return known


def _seen(
    info: ObjectInfo, key: str, options: PutOptions, upload: Upload, context: Context
) -> ObjectInfo:
    """What the driver stored, as who has put it sees it."""
    if upload.raw:
        return info
    digest = context.digest
    assert digest is not None
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


def _check_size(declared: int | None, data: bytes) -> None:
    if declared is not None and declared != len(data):
        kind = TruncatedError if len(data) < declared else TrailingDataError
        raise kind(f"the body has {len(data)} bytes, {declared} were declared")


def _check_expected(expected: tuple[str, str], data: bytes, digest: str | None) -> None:
    algorithm, wanted = expected
    found = digest if digest and digest.startswith(algorithm + ":") else digest_of(algorithm, data)
    if found != f"{algorithm}:{wanted}":
        raise ChecksumMismatchError(f"expected {algorithm}:{wanted}, the body has {found}")
