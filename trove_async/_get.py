"""Reads: the fewest requests that give the bytes asked for, through the object's own layers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from trove_async._backend import Backend
from trove_async._chunks import Digest, OneChunk, cut
from trove_async._names import content_type_of
from trove_async._reader import ObjectReader, check_whole, verified
from trove_async._record import Record, read_record, seen_as
from trove_async._source import Body, Stored, changed, fetch, pinned
from trove_async.checksum import digest_of
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Bytes, Chunks, RawObject
from trove_async.driver.options import ByteRange, GetOptions
from trove_async.errors import (
    ChecksumMismatchError,
    InvalidRangeError,
    ObjectChangedError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.middleware.base import Context, Layout, RangeSource
from trove_async.middleware.pipeline import Chain, Entry, Pipeline
from trove_async.model import ObjectInfo

__all__ = ["Layouts", "Reads"]

_HEAD_EXTRA = 4096  # a first request is never smaller: round trips cost more than bytes


@dataclass(slots=True)
class _Known:
    """Where everything is in one version of an object."""

    info: ObjectInfo
    record: Record
    layouts: list[Layout]
    size: int


class _View:
    """A layout over the source below it: again a source, of the bytes one layer up."""

    __slots__ = ("_below", "_layout")

    def __init__(self, layout: Layout, below: RangeSource) -> None:
        self._layout = layout
        self._below = below

    @property
    def size(self) -> int:
        return self._layout.size

    def read(self, start: int, stop: int) -> Chunks:
        return self._layout.read(self._below, start, stop)


class Layouts:
    """The layouts of objects lately read by range, least recently used first out."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._known: OrderedDict[tuple[str, str, str], _Known] = OrderedDict()

    def get(self, place: tuple[str, str, str]) -> _Known | None:
        known = self._known.get(place)
        if known is not None:
            self._known.move_to_end(place)
        return known

    def put(self, place: tuple[str, str, str], known: _Known) -> None:
        self._known[place] = known
        self._known.move_to_end(place)
        if len(self._known) > self._most:
            self._known.popitem(last=False)

    def drop(self, place: tuple[str, str, str]) -> None:
        self._known.pop(place, None)

    def clear(self) -> None:
        self._known.clear()


class Reads:
    """Everything reads need, shared by a store and its pinned handles."""

    def __init__(self, pipeline: Pipeline, policy: RetryPolicy, timeouts: Timeouts) -> None:
        self._pipeline = pipeline
        self._policy = policy
        self._timeouts = timeouts
        self.layouts = Layouts()

    async def open(
        self, backend: Backend, bucket: str, key: str, options: GetOptions, raw: bool
    ) -> ObjectReader:
        pipeline = self._pipeline
        if raw:
            return self._raw(
                backend, bucket, key, await self._fetch(backend, bucket, key, options), options
            )
        if options.range is not None and pipeline.transforms:
            return await self._ranged(backend, bucket, key, options)
        try:
            found = await fetch(backend, bucket, key, options, self._timeouts)
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise
        try:
            record = read_record(found.info.metadata)
            if not record.encodings and not pipeline.observers:
                return self._plain(backend, bucket, key, found, record, options)
            if record.encodings:
                if options.range is not None:
                    await found.body.aclose()
                    pin = pinned(options, found.info.etag)
                    return await self._cold(backend, bucket, key, pin, None)
                return await self._decoded(backend, bucket, key, found, record, options)
            return await self._observed(backend, bucket, key, found, record, options)
        except BaseException:
            await found.body.aclose()
            raise

    async def _fetch(
        self, backend: Backend, bucket: str, key: str, options: GetOptions
    ) -> RawObject:
        try:
            return await fetch(backend, bucket, key, options, self._timeouts)
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise

    async def _fetch_pinned(
        self, backend: Backend, bucket: str, key: str, options: GetOptions
    ) -> RawObject:
        """One more request of the same read: only this very version will do."""
        try:
            return await self._fetch(backend, bucket, key, options)
        except PreconditionFailedError as exc:
            raise changed(bucket, key) from exc

    def _body(
        self, backend: Backend, bucket: str, key: str, found: RawObject, options: GetOptions
    ) -> Body:
        return Body(backend, bucket, key, found, options.version_id, self._policy, self._timeouts)

    def _raw(
        self, backend: Backend, bucket: str, key: str, found: RawObject, options: GetOptions
    ) -> ObjectReader:
        body = self._body(backend, bucket, key, found, options)
        return ObjectReader(found.info, Chain(body), None, found.stop - found.start)

    # -- whole objects and plain ranges ----------------------------------------------------

    def _plain(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        found: RawObject,
        record: Record,
        options: GetOptions,
    ) -> ObjectReader:
        """No layer at all; small bodies are there already, and are checked here."""
        seen = self._seen_plain(found.info, record, options)
        body = found.body
        if type(body) is OneChunk:
            data = body.whole(found.stop - found.start)
            if data is not None:
                if options.range is None and record.digest is not None:
                    _verify_small(data, record)
                return ObjectReader(seen, None, data, len(data))
        chain = self._verified(backend, bucket, key, found, record, options)
        return ObjectReader(seen, chain, None, found.stop - found.start)

    async def _observed(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        found: RawObject,
        record: Record,
        options: GetOptions,
    ) -> ObjectReader:
        """A plain body past those observers whose scope matches."""
        info = found.info
        seen = self._seen_plain(info, record, options)
        context = Context("get", bucket, key, info.content_type, seen.metadata, seen.size)
        context.stored_size = seen.size
        observers = self._pipeline.observing(context)
        if not observers:
            return self._plain(backend, bucket, key, found, record, options)
        chain = self._verified(backend, bucket, key, found, record, options)
        return await self._presented(chain, observers, context, seen)

    def _seen_plain(self, info: ObjectInfo, record: Record, options: GetOptions) -> ObjectInfo:
        size = info.stored_size
        if options.range is None and record.size is not None and record.size != size:
            check_whole(_counted(size), record.size, None)
        return seen_as(info, record, size)

    def _verified(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        found: RawObject,
        record: Record,
        options: GetOptions,
    ) -> Chain:
        chain = Chain(self._body(backend, bucket, key, found, options))
        if options.range is None and record.digest is not None:
            digest = Digest(record.digest.partition(":")[0])
            size = found.info.stored_size
            chain.push(verified(chain.top, digest, size, record.digest))
        return chain

    async def _presented(
        self,
        chain: Chain,
        observers: Sequence[Entry],
        context: Context,
        seen: ObjectInfo,
    ) -> ObjectReader:
        try:
            await self._pipeline.read(chain, (), observers, context)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        return ObjectReader(seen, chain, None, None)

    async def _decoded(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        found: RawObject,
        record: Record,
        options: GetOptions,
    ) -> ObjectReader:
        """A whole object through the layers it records."""
        info = found.info
        context = self._context(bucket, key, info, record)
        transforms = self._pipeline.for_encodings(record.encodings, context)
        size = record.size
        if size is None:
            size = await self._logical_size(backend, bucket, key, info, record, options)
        chain = Chain(self._body(backend, bucket, key, found, options))
        try:
            await self._pipeline.read(chain, transforms, (), context)
            digest = Digest(record.digest.partition(":")[0] if record.digest else None)
            chain.push(verified(chain.top, digest, size, record.digest))
            observers = self._pipeline.observing(context)
            if observers:
                await self._pipeline.read(chain, (), observers, context)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        return ObjectReader(seen_as(info, record, size), chain, None, size)

    def _context(self, bucket: str, key: str, info: ObjectInfo, record: Record) -> Context:
        context = Context("get", bucket, key, info.content_type, info.metadata, record.size)
        context.applied = [*record.encodings]
        context.stored_size = info.stored_size
        context.hints = dict(record.hints)
        return context

    # -- ranges through layers -------------------------------------------------------------

    async def _ranged(
        self, backend: Backend, bucket: str, key: str, options: GetOptions
    ) -> ObjectReader:
        place = (backend.name, bucket, key)
        known = self.layouts.get(place) if options.version_id is None else None
        if known is not None and _permits(options, known.info) and _asks(options, known.size):
            try:
                return await self._warm(backend, bucket, key, options, known)
            except ObjectChangedError:
                self.layouts.drop(place)
        wanted = Context("get", bucket, key, content_type_of(key))
        expected = self._pipeline.expected_transforms(wanted)
        return await self._cold(backend, bucket, key, options, expected)

    async def _warm(
        self, backend: Backend, bucket: str, key: str, options: GetOptions, known: _Known
    ) -> ObjectReader:
        """One request, pinned to the version whose layout is known."""
        stored = self._stored(backend, bucket, key, known.info, options)
        return await self._cut(bucket, key, stored, known, options)

    async def _cold(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: GetOptions,
        expected: Sequence[Entry] | None,
    ) -> ObjectReader:
        """The first request brings the metadata and, where a layer is expected, the part of
        the object that its layout is read from. ``expected`` None: it is encoded for sure."""
        assert options.range is not None
        fetch = self._fetch if expected is not None else self._fetch_pinned
        if expected is not None and not expected:
            first = options.range
        else:
            first = _first_request(expected or self._all_transforms())
        try:
            found = await fetch(backend, bucket, key, _with_range(options, first))
        except InvalidRangeError:
            if first is not options.range:
                raise
            # Past the end of the stored bytes; under a layer there may be more.
            first = _first_request(self._all_transforms())
            found = await self._fetch(backend, bucket, key, _with_range(options, first))
        info = found.info
        try:
            record = read_record(info.metadata)
            if not record.encodings and first is options.range:
                return await self._observed(backend, bucket, key, found, record, options)
            if record.encodings and first is options.range:
                await found.body.aclose()
                pin = pinned(options, info.etag)
                return await self._cold(backend, bucket, key, pin, None)
            stored = self._stored(backend, bucket, key, info, options)
            await stored.keep(found)
        except BaseException:
            await found.body.aclose()
            raise
        if not record.encodings:
            known = _Known(info, record, [], info.stored_size)
            return await self._cut(bucket, key, stored, known, options)
        opened = await self._layouts(bucket, key, stored, record)
        if opened is None:
            return await self._streamed(backend, bucket, key, record, options, info)
        if options.version_id is None:
            self.layouts.put((backend.name, bucket, key), opened)
        return await self._cut(bucket, key, stored, opened, options)

    def _all_transforms(self) -> list[Entry]:
        return [entry for entries in self._pipeline.transforms.values() for entry in entries]

    def _stored(
        self, backend: Backend, bucket: str, key: str, info: ObjectInfo, options: GetOptions
    ) -> Stored:
        return Stored(backend, bucket, key, info, options.version_id, self._policy, self._timeouts)

    async def _layouts(
        self, bucket: str, key: str, stored: Stored, record: Record
    ) -> _Known | None:
        """None when a layer of the object cannot seek."""
        context = self._context(bucket, key, stored.info, record)
        transforms = self._pipeline.for_encodings(record.encodings, context)
        source: RangeSource = stored
        layouts: list[Layout] = []
        for entry in reversed(transforms):
            if entry.seekable is None:
                return None
            layout = await entry.seekable.layout(source, context)
            layouts.append(layout)
            source = _View(layout, source)
        return _Known(stored.info, record, layouts, source.size)

    async def _cut(
        self, bucket: str, key: str, stored: Stored, known: _Known, options: GetOptions
    ) -> ObjectReader:
        assert options.range is not None
        start, stop = options.range.resolve(known.size)
        source: RangeSource = stored
        for layout in known.layouts:
            source = _View(layout, source)
        chain = Chain(source.read(start, stop))
        try:
            first = await anext(chain.top, None)
            if first is not None:
                chain.push(_rejoined(first, chain.top))
            seen = seen_as(known.info, known.record, known.size)
            observers: Sequence[Entry] = ()
            if self._pipeline.observers:
                context = self._context(bucket, key, known.info, known.record)
                observers = self._pipeline.observing(context)
            if observers:
                await self._pipeline.read(chain, (), observers, context)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        return ObjectReader(seen, chain, None, None if observers else stop - start)

    async def _streamed(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        record: Record,
        options: GetOptions,
        info: ObjectInfo,
    ) -> ObjectReader:
        """A range under a layer that cannot seek: reads from the start and cuts."""
        assert options.range is not None
        size = record.size
        if size is None:
            size = await self._logical_size(backend, bucket, key, info, record, options)
        start, stop = options.range.resolve(size)
        found = await self._fetch_pinned(
            backend, bucket, key, _with_range(pinned(options, info.etag), None)
        )
        context = self._context(bucket, key, info, record)
        chain = Chain(self._body(backend, bucket, key, found, options))
        try:
            transforms = self._pipeline.for_encodings(record.encodings, context)
            await self._pipeline.read(chain, transforms, (), context)
            chain.push(cut(chain.top, start, stop))
            observers = self._pipeline.observing(context)
            if observers:
                await self._pipeline.read(chain, (), observers, context)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        return ObjectReader(
            seen_as(info, record, size), chain, None, None if observers else stop - start
        )

    # -- sizes -----------------------------------------------------------------------------

    async def seen(
        self, backend: Backend, bucket: str, key: str, info: ObjectInfo, version_id: str | None
    ) -> ObjectInfo:
        """What `head` answers: opens the layouts when the logical size was not recorded."""
        record = read_record(info.metadata)
        size = record.size
        if not record.encodings:
            size = info.stored_size
        elif size is None:
            options = GetOptions(version_id=version_id)
            size = await self._logical_size(backend, bucket, key, info, record, options)
        return seen_as(info, record, size)

    async def _logical_size(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        info: ObjectInfo,
        record: Record,
        options: GetOptions,
    ) -> int:
        stored = self._stored(backend, bucket, key, info, options)
        known = await self._layouts(bucket, key, stored, record)
        if known is not None:
            return known.size
        found = await self._fetch_pinned(
            backend, bucket, key, _with_range(pinned(options, info.etag), None)
        )
        context = self._context(bucket, key, info, record)
        chain = Chain(self._body(backend, bucket, key, found, options))
        try:
            transforms = self._pipeline.for_encodings(record.encodings, context)
            await self._pipeline.read(chain, transforms, (), context)
            size = 0
            async for chunk in chain.top:
                size += len(chunk)
        finally:
            await chain.aclose()
        return size


def _counted(size: int) -> Digest:
    digest = Digest(None)
    digest.count = size
    return digest


def _verify_small(data: bytes, record: Record) -> None:
    assert record.digest is not None
    found = digest_of(record.digest[: record.digest.index(":")], data)
    if found != record.digest:
        raise ChecksumMismatchError(f"the body has {found}, {record.digest} was recorded")


def _with_range(options: GetOptions, wanted: ByteRange | None) -> GetOptions:
    return GetOptions(
        wanted,
        options.version_id,
        options.if_match,
        options.if_none_match,
        options.if_modified_since,
    )


def _first_request(transforms: Sequence[Entry]) -> ByteRange:
    """A suffix when some layer keeps its table at the end, else the start."""
    seekable = [entry.seekable for entry in transforms if entry.seekable is not None]
    tail = sum(layer.tail for layer in seekable)
    head = sum(layer.head for layer in seekable)
    if tail:
        return ByteRange(-(tail + _HEAD_EXTRA))
    return ByteRange(0, head + _HEAD_EXTRA)


def _asks(options: GetOptions, size: int) -> bool:
    """Whether the range has bytes in an object of ``size``. Only then does a pinned request
    tell whether the object is still the one that is known."""
    assert options.range is not None
    try:
        start, stop = options.range.resolve(size)
    except InvalidRangeError:
        return False
    return start < stop


def _permits(options: GetOptions, info: ObjectInfo) -> bool:
    """Whether a known version can answer: a condition on another one needs a fresh look."""
    return (
        options.if_match in (None, info.etag)
        and options.if_none_match is None
        and options.if_modified_since is None
    )


async def _rejoined(first: Bytes, rest: Chunks) -> AsyncGenerator[Bytes, None]:
    async with aclosing(rest):
        yield first
        async for chunk in rest:
            yield chunk
