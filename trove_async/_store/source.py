"""Stored bytes of one object version: read with pinned requests, resumed where they break."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from trove_async._chunks import OneChunk, collect
from trove_async._store.backend import Backend
from trove_async._store.seam import Idle, bounded, waited
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Bytes, Chunks, RawObject
from trove_async.driver.options import ByteRange, GetOptions
from trove_async.errors import (
    NotModifiedError,
    ObjectChangedError,
    PreconditionFailedError,
    TrailingDataError,
    TroveError,
    TruncatedError,
)
from trove_async.model import ObjectInfo

__all__ = ["Body", "Stored", "changed", "fetch", "pinned"]


async def fetch(
    backend: Backend, bucket: str, key: str, options: GetOptions, timeouts: Timeouts
) -> RawObject:
    """One request to the driver, bounded by the time limits."""
    if options.version_id is not None:
        versioning = backend.need(backend.versioning, "versions")
        request = versioning.get_version(bucket, key, options.version_id, options)
    else:
        request = backend.driver.get(bucket, key, options)
    if timeouts.read is None:
        return await request
    try:  # as `bounded`, without its frame: most small reads need not wait
        waiting = request.send(None)
    except StopIteration as stop:
        raw: RawObject = stop.value
        return raw
    return await waited(request, waiting, Idle(timeouts.read))


class Body:
    """Exactly the bytes ``start`` to ``stop`` that a request promised.

    A retryable error or a short body asks again for the rest, pinned to the same version
    (If-Match); progress renews the budget of tries. What cannot be completed raises.
    """

    __slots__ = (
        "_backend",
        "_body",
        "_bucket",
        "_deadline",
        "_idle",
        "_key",
        "_policy",
        "_position",
        "_stop",
        "_timeouts",
        "_tries",
        "_version",
        "info",
    )

    def __init__(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        raw: RawObject,
        version_id: str | None,
        policy: RetryPolicy,
        timeouts: Timeouts,
    ) -> None:
        self._backend = backend
        self._bucket = bucket
        self._key = key
        self._body: Chunks = raw.body
        self._position = raw.start
        self._stop = raw.stop
        self._version = version_id
        self._policy = policy
        self._timeouts = timeouts
        self._idle: Idle | None = None
        if timeouts.read is not None and type(raw.body) is not OneChunk:  # which never waits
            self._idle = Idle(timeouts.read)
        self._tries = 1
        self._deadline = 0.0
        self.info = raw.info

    def __aiter__(self) -> AsyncIterator[Bytes]:
        return self

    async def __anext__(self) -> Bytes:
        while True:
            try:
                if self._idle is None:
                    chunk = await self._body.__anext__()
                else:
                    chunk = await bounded(self._body.__anext__(), self._idle)
            except StopAsyncIteration:
                if self._position >= self._stop:
                    raise
                await self._again(
                    TruncatedError(
                        f"the body ended at byte {self._position}, before {self._stop}",
                        bucket=self._bucket,
                        key=self._key,
                        backend=self._backend.name,
                    )
                )
                continue
            except TroveError as exc:
                if not exc.retryable:
                    raise
                await self._again(exc)
                continue
            self._position += len(chunk)
            if self._position > self._stop:
                raise TrailingDataError(
                    f"the body goes on after byte {self._stop}", bucket=self._bucket, key=self._key
                )
            self._tries = 1
            return chunk

    async def _again(self, failed: TroveError) -> None:
        """Opens the rest of the body, or raises ``failed``."""
        if self._tries == 1:  # progress was made: the time counts from this failure
            self._deadline = time.monotonic() + self._policy.deadline
        while True:
            delay = self._policy.delay(self._tries, getattr(failed, "retry_after", None))
            if (
                self._tries >= self._policy.attempts
                or time.monotonic() + delay > self._deadline
                or not self.info.etag
            ):
                raise failed
            self._tries += 1
            await self._body.aclose()
            await asyncio.sleep(delay)
            options = GetOptions(
                ByteRange(self._position, self._stop), self._version, self.info.etag
            )
            try:
                raw = await fetch(self._backend, self._bucket, self._key, options, self._timeouts)
            except PreconditionFailedError as exc:
                raise changed(self._bucket, self._key) from exc
            except TroveError as exc:
                if not exc.retryable:
                    raise
                failed = exc
                continue
            self._body = raw.body
            if self._timeouts.read is not None:
                self._idle = Idle(self._timeouts.read)
            if raw.info.etag != self.info.etag or raw.start != self._position:
                raise changed(self._bucket, self._key)
            return

    async def aclose(self) -> None:
        await self._body.aclose()


def changed(bucket: str, key: str) -> ObjectChangedError:
    return ObjectChangedError("the object was replaced while it was read", bucket=bucket, key=key)


class Stored:
    """The stored bytes of one version as a RangeSource: what was fetched already is served
    from memory, the rest by one pinned request per read."""

    __slots__ = (
        "_backend",
        "_bucket",
        "_key",
        "_policy",
        "_timeouts",
        "_version",
        "_windows",
        "info",
    )

    def __init__(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        info: ObjectInfo,
        version_id: str | None,
        policy: RetryPolicy,
        timeouts: Timeouts,
    ) -> None:
        self._backend = backend
        self._bucket = bucket
        self._key = key
        self._version = version_id
        self._policy = policy
        self._timeouts = timeouts
        self._windows: list[tuple[int, bytes]] = []
        self.info = info

    @property
    def size(self) -> int:
        return self.info.stored_size

    async def keep(self, raw: RawObject) -> None:
        """Takes the (small) body of a request that was made for its metadata."""
        body = self._body(raw)
        async with aclosing(body):
            self._windows.append((raw.start, await collect(body)))

    def _body(self, raw: RawObject) -> Body:
        return Body(
            self._backend,
            self._bucket,
            self._key,
            raw,
            self._version,
            self._policy,
            self._timeouts,
        )

    def read(self, start: int, stop: int) -> Chunks:
        if start >= stop:
            return OneChunk(b"")
        for offset, data in self._windows:
            if offset <= start and stop <= offset + len(data):
                return OneChunk(data[start - offset : stop - offset])
        return self._fetched(start, stop)

    async def _fetched(self, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        options = GetOptions(ByteRange(start, stop), self._version, self.info.etag or None)
        try:
            raw = await fetch(self._backend, self._bucket, self._key, options, self._timeouts)
        except (PreconditionFailedError, NotModifiedError) as exc:
            raise changed(self._bucket, self._key) from exc
        body = self._body(raw)
        async with aclosing(body):
            if raw.info.etag != self.info.etag or (raw.start, raw.stop) != (start, stop):
                raise changed(self._bucket, self._key)
            async for chunk in body:
                yield chunk


def pinned(options: GetOptions, etag: str) -> GetOptions:
    return replace(options, if_match=etag, if_none_match=None, if_modified_since=None)
