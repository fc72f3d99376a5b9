"""Connects a stream with its pool, its session and the store: loaded with the first store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trove_async._names import check_key
from trove_async._store.streaming import DEFAULT, Streaming
from trove_async.checksum import parse_digest
from trove_async.driver.base import Chunks
from trove_async.errors import (
    BackpressureError,
    InvalidInputError,
    ObjectNotFoundError,
    UnsupportedError,
)
from trove_async.ids import new_stream_id
from trove_async.middleware.base import Stage
from trove_async.model import ObjectInfo, seconds
from trove_async.stream.arguments import StreamArguments
from trove_async.stream.inbound import Inbound, Reader
from trove_async.stream.outbound import Outbound
from trove_async.stream.pool import Pool
from trove_async.stream.session import Session
from trove_async.stream.settings import (
    Backpressure,
    PoolConfig,
    StreamDirection,
    StreamOptions,
)
from trove_async.stream.stream import Stream
from trove_async.stream.transfer import Transfer

__all__ = ["make_pools"]

_PUT: Final = (
    "content_type",
    "metadata",
    "tags",
    "storage_class",
    "size",
    "checksum",
    "if_none_match",
    "if_match",
    "raw",
    "part_size",
    "concurrency",
)
_RESUME: Final = ("resumable", "session", "fingerprint")
_GET: Final = ("range", "if_match", "raw", "resumable")
"""A download is always resumable: it can be sought, and broken bodies are gone on with."""


class Connector:
    __slots__ = ("_core", "_store")

    def __init__(self, store: Streaming) -> None:
        self._store = store
        self._core = store._core

    async def connect(
        self,
        pool: Pool,
        direction: StreamDirection,
        bucket: str | None,
        key: str,
        arguments: StreamArguments,
    ) -> Stream:
        self._core.check()
        name, key = self._store._bucket(bucket), check_key(key)
        direction = StreamDirection(direction)
        options = self._options(pool, direction, arguments)
        timeout = arguments.get("acquire_timeout")
        await pool.admit(None if timeout is None else seconds(timeout))
        try:
            session = await self._session(direction, name, key, arguments)
        except BaseException:
            pool.leave()
            raise
        transfer = Transfer(
            new_stream_id(),
            direction,
            name,
            key,
            options,
            stream_timeout=pool.config.stream_timeout,
            idle_timeout=pool.config.idle_timeout,
            on_end=pool.ended,
        )
        inbound = outbound = None
        if direction is not StreamDirection.UPLOAD:
            inbound = self._inbound(transfer, arguments, pool)
            transfer.halves.append(inbound)
        if direction is not StreamDirection.DOWNLOAD:
            outbound = self._outbound(transfer, arguments, session, pool)
            transfer.halves.append(outbound)
        pool.add(transfer)
        return Stream(transfer, inbound, outbound, pool.buffers(options.chunk_size))

    def _options(
        self, pool: Pool, direction: StreamDirection, given: StreamArguments
    ) -> StreamOptions:
        """Raises for what is unknown, contradicts itself or would have no effect."""
        unknown = sorted(given.keys() - StreamArguments.__annotations__.keys())
        if unknown:
            raise TypeError(f"unknown stream option {', '.join(unknown)}")
        if direction is StreamDirection.DOWNLOAD:
            useless = {*_PUT, *_RESUME, "total_size"} - {*_GET}
        else:
            useless = {"range"} if direction is StreamDirection.UPLOAD else {*_RESUME}
        idle = sorted(name for name in useless & given.keys() if given.get(name) is not None)
        if idle:
            raise TypeError(f"{', '.join(idle)}: no option of a {direction.value}")
        config = pool.config
        backpressure = Backpressure(given.get("backpressure") or config.backpressure)
        checksum = given.get("checksum")
        if checksum is not None:
            parse_digest(checksum)
        if backpressure is Backpressure.DROP:
            if given.get("resumable") or given.get("session") is not None:
                raise BackpressureError("a stream that drops chunks cannot be resumed")
            if checksum is not None:
                raise BackpressureError("a stream that drops chunks has no expected checksum")
        picked: dict[str, Any] = {
            name: given[name]
            for name in ("queue_size", "buffer_memory", "buffer_limit", "total_size")
            if name in given
        }
        size = given.get("size")
        if size is not None and picked.get("total_size") is None:
            picked["total_size"] = size
        sizes = (given.get("chunk_size"), config.chunk_size, self._core.chunk_size)
        return StreamOptions(
            chunk_size=next(size for size in sizes if size is not None),
            backpressure=backpressure,
            spool=not self._encrypts(),
            on_progress=given.get("on_progress"),
            on_chunk=given.get("on_chunk"),
            on_complete=given.get("on_complete"),
            on_error=given.get("on_error"),
            **picked,
        )

    def _encrypts(self) -> bool:
        """Then no plaintext goes into a file, whatever the scopes say."""
        return any(r.middleware.stage is Stage.ENCRYPT for r in self._core.pipeline.registrations())

    def _inbound(self, transfer: Transfer, given: StreamArguments, pool: Pool) -> Inbound:
        bucket, key = transfer.bucket, transfer.key
        is_download = transfer.direction is StreamDirection.DOWNLOAD
        if_match = given.get("if_match") if is_download else None
        raw = bool(given.get("raw"))

        async def open(range: slice | None, etag: str | None) -> Reader | None:
            wanted = etag if etag is not None else if_match
            try:
                return await self._store.get(bucket, key, range=range, if_match=wanted, raw=raw)
            except ObjectNotFoundError:
                if is_download or etag is not None:
                    raise
                return None  # what is to be written has no predecessor

        return Inbound(transfer, open, given.get("range"), pool.limits())

    def _outbound(
        self, transfer: Transfer, given: StreamArguments, session: Session | None, pool: Pool
    ) -> Outbound:
        bucket, key = transfer.bucket, transfer.key
        put: dict[str, Any] = {name: given[name] for name in _PUT if name in given}

        async def sink(body: Chunks) -> ObjectInfo:
            return await self._store.put(bucket, key, body, **put)

        return Outbound(transfer, sink, session, pool.limits())

    async def _session(
        self, direction: StreamDirection, bucket: str, key: str, given: StreamArguments
    ) -> Session | None:
        if direction is not StreamDirection.UPLOAD:
            return None
        id = given.get("session")
        if id is None and not given.get("resumable"):
            return None
        if given.get("raw"):
            raise UnsupportedError("a raw upload cannot be resumed")
        uploads = self._store.uploads
        if id is None:
            put: dict[str, Any] = {
                name: given[name] for name in _PUT if name in given and name != "raw"
            }
            plan = uploads.planned(bucket, key, fingerprint=given.get("fingerprint"), **put)
            return await uploads.obtain(plan)
        session = await uploads.resume(id)
        if (session.bucket, session.key) != (bucket, key):
            await session.aclose()
            raise InvalidInputError(f"the session {id} is of another object")
        return session


def make_pools(
    store: Streaming, config: PoolConfig, named: Mapping[str, PoolConfig]
) -> dict[str, Pool]:
    if DEFAULT in named:
        raise ValueError(f"the pool {DEFAULT!r} is configured by pool=")
    connect = Connector(store).connect
    configs = {DEFAULT: config, **named}
    return {name: Pool(name, given, connect) for name, given in configs.items()}
