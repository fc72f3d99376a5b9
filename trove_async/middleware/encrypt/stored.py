"""Looking at the encrypted objects of a bucket: their headers, records and key ids, no body."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Protocol, TypeVar

from trove_async._threads import settle
from trove_async.errors import (
    InvalidConfigError,
    ObjectChangedError,
    PreconditionFailedError,
    TruncatedError,
    UnsupportedFormatError,
)
from trove_async.middleware.base import Registration
from trove_async.middleware.context import Context
from trove_async.middleware.encrypt.envelope import METADATA_NAME, Edk, RewrapRecord, key_id_of
from trove_async.middleware.encrypt.layer import Encrypt
from trove_async.middleware.encrypt.message import (
    ENCODING,
    MOST_HEADER,
    Header,
    MoreBytes,
    parse_header,
    recognise,
)
from trove_async.model import CommonPrefix, ObjectInfo

__all__ = ["Store", "StoredMessage", "layer_of", "look", "walk"]

T = TypeVar("T")

_FORMAT = "trovefmt"
_FIRST_LOOK = 4096
"""Bytes; a header with one key has about 200."""


class Reader(Protocol):
    info: ObjectInfo

    async def read(self, n: int = -1, /) -> bytes: ...


class Named(Protocol):
    @property
    def name(self) -> str: ...


class Store(Protocol):
    """What is needed of a store: `trove_async.Trove` is one."""

    def bucket(self, name: str | None = None) -> Named:
        """The default one, or its refusal, without a name."""
        ...

    def registrations(self) -> list[Registration]: ...

    def get(
        self,
        bucket: str,
        key: str,
        *,
        range: slice | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> AbstractAsyncContextManager[Reader, bool | None]: ...

    async def copy(
        self,
        src_bucket: str,
        src_key: str,
        dst_bucket: str,
        dst_key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> ObjectInfo: ...

    def list(
        self, bucket: str, *, prefix: str = "", start_after: str | None = None
    ) -> AsyncGenerator[ObjectInfo | CommonPrefix, None]: ...


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One encrypted object as it is stored."""

    info: ObjectInfo
    header: Header
    record: RewrapRecord | None
    context: Context
    """Its metadata is the stored map."""
    is_nested: bool
    """The plaintext is a message too, whose keys cannot be seen from here."""

    @property
    def body_ids(self) -> list[str]:
        """Keys named in the body, in their order; those of other providers left out."""
        ids = (key_id_of(Edk(*entry)) for entry in self.header.keys)
        return [key_id for key_id in ids if key_id is not None]

    @property
    def needed_ids(self) -> set[str]:
        """Keys that readers look for: the record's, and without one those of the body."""
        return set(self.body_ids) if self.record is None else {self.record.key_id}


async def look(store: Store, bucket: str, key: str) -> StoredMessage | None:
    """One small request; None for an object that is not encrypted. The IntegrityErrors of a
    header or record that cannot be read."""
    info, head = await _start(store, bucket, key, _FIRST_LOOK, None)
    encodings = _encodings(info)
    if encodings is not None and ENCODING not in encodings:
        return None
    try:
        header = _header(head, encodings)
    except MoreBytes:
        if len(head) < info.stored_size:
            info, head = await _start(store, bucket, key, MOST_HEADER, info.etag)
        try:
            header = _header(head, encodings)
        except MoreBytes as exc:
            if encodings is None:
                return None  # foreign bytes that only begin like a message
            raise TruncatedError("the object ends inside its header", key=key) from exc
    if header is None:
        return None
    text = info.metadata.get(METADATA_NAME)
    record = None if text is None else RewrapRecord.decode(text)
    context = Context("rewrap", bucket, key, info.content_type, info.metadata)
    context.stored_size = info.stored_size
    context.applied = [*(encodings or (*header.inner, ENCODING))]
    is_nested = context.applied.count(ENCODING) > 1
    return StoredMessage(info, header, record, context, is_nested)


async def _start(
    store: Store, bucket: str, key: str, size: int, etag: str | None
) -> tuple[ObjectInfo, bytes]:
    opening = store.get(bucket, key, raw=True, range=slice(0, size), if_match=etag)
    try:
        async with opening as reader:
            return reader.info, await reader.read()
    except PreconditionFailedError as exc:
        raise ObjectChangedError("the object was replaced", bucket=bucket, key=key) from exc


def _header(head: bytes, encodings: tuple[str, ...] | None) -> Header | None:
    """None: not encrypted. `MoreBytes`: it goes on."""
    if encodings is None:  # no record: the body tells
        found = recognise(head)
        return None if found is None else found.header
    if encodings[-1] != ENCODING:
        raise UnsupportedFormatError(
            f"the object is encrypted inside {encodings[-1]!r}, so its header cannot be seen"
        )
    return parse_header(head)


def _encodings(info: ObjectInfo) -> tuple[str, ...] | None:
    """What the object's record says, in write order; None: it has none."""
    text = info.metadata.get(_FORMAT)
    if text is None:
        return None
    version, *fields = text.split(";")
    if version != "1":
        raise UnsupportedFormatError("written by a later version of this package")
    return tuple(fields[0].split(",")) if fields and "=" not in fields[0] else ()


def layer_of(store: Store, context: Context) -> Encrypt:
    """The encryption registered for the object, as reads choose it: one whose scope matches,
    else any; the outer one of an object that is encrypted twice."""
    layers: list[Encrypt] = []
    matching: list[Encrypt] = []
    for registration in store.registrations():
        if isinstance(registration.middleware, Encrypt):
            layers.append(registration.middleware)
            if registration.scope.matches(context):
                matching.append(registration.middleware)
    choice = matching or layers
    if not choice:
        raise InvalidConfigError("no Encrypt layer is registered with the store: there are no keys")
    return choice[min(context.applied.count(ENCODING), len(choice)) - 1]


async def walk(
    store: Store,
    bucket: str,
    prefix: str,
    start_after: str | None,
    concurrency: int,
    work: Callable[[str], Awaitable[T]],
) -> AsyncGenerator[tuple[str, T], None]:
    """Each key and what ``work`` made of it, in the order of keys, ``concurrency`` at a time.
    However it ends, no work is left running. Close it."""
    if concurrency < 1:
        raise ValueError("concurrency must be positive")
    window: deque[tuple[str, asyncio.Future[T]]] = deque()
    try:
        async with aclosing(store.list(bucket, prefix=prefix, start_after=start_after)) as entries:
            async for entry in entries:
                if isinstance(entry, CommonPrefix):
                    continue
                if len(window) == concurrency:
                    yield window[0][0], await window[0][1]
                    window.popleft()
                window.append((entry.key, asyncio.ensure_future(work(entry.key))))
        while window:
            yield window[0][0], await window[0][1]
            window.popleft()
    finally:
        await _end([future for _, future in window])


async def _end(futures: Sequence[asyncio.Future[T]]) -> None:
    for future in futures:
        future.cancel()
    if futures:
        await settle(asyncio.gather(*futures, return_exceptions=True))
