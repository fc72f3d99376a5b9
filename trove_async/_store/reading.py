"""One read past the straight line: through layers, by range, of objects without a record."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from trove_async._chunks import Digest, OneChunk, collect, cut
from trove_async._names import content_type_of
from trove_async._store.backend import Backend
from trove_async._store.layouts import Known, Layouts, through
from trove_async._store.present import Shown, shown
from trove_async._store.reader import ObjectReader, check_small, check_whole, verified
from trove_async._store.record import Record, read_record, seen_as
from trove_async._store.source import Body, Stored, changed, fetch, pinned
from trove_async._supply import Supply
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import Bytes, Chunks, RawObject
from trove_async.driver.options import ByteRange, GetOptions
from trove_async.errors import (
    IntegrityError,
    InvalidRangeError,
    ObjectChangedError,
    PreconditionFailedError,
    TroveError,
)
from trove_async.middleware.base import Context, Layout, RangeSource
from trove_async.middleware.builtin import ENOUGH, MOST, SMALLEST, recognised
from trove_async.middleware.pipeline import Chain, Entry, Pipeline
from trove_async.model import ObjectInfo

__all__ = ["Reading", "size_of"]

_HEAD_EXTRA = 4096  # a first request is never smaller: round trips cost more than bytes
_NEAR = 64 * 1024
_AT_ONCE = 64 * 1024  # a body this small is taken through its layers while it is opened
_MOST_PEEKED = 1 << 20  # a presenter's look this far into a stream is served from the stream


async def _all_of(chain: Chain, size: int, digest: str | None) -> bytes:
    """The ``size`` logical bytes of a small object, checked; its levels are closed."""
    parts: list[Bytes] = []
    count = 0
    async for piece in chain.top:
        parts.append(piece)
        count += len(piece)
        if count > size:
            raise IntegrityError(f"the body goes on after the {size} bytes that were recorded")
    await chain.aclose()
    data = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
    check_small(data, size, digest)
    return data


class Shared(Protocol):
    @property
    def pipeline(self) -> Pipeline: ...
    @property
    def policy(self) -> RetryPolicy: ...
    @property
    def timeouts(self) -> Timeouts: ...
    @property
    def layouts(self) -> Layouts: ...


class Reading:
    """``options`` are the caller's; every request after the first is pinned to one version."""

    __slots__ = (
        "_backend",
        "_bucket",
        "_key",
        "_layouts",
        "_options",
        "_pipeline",
        "_present",
        "_shared",
    )

    def __init__(
        self,
        shared: Shared,
        backend: Backend,
        bucket: str,
        key: str,
        options: GetOptions,
        present: bool = True,
    ) -> None:
        self._present = present
        self._shared = shared
        self._pipeline = shared.pipeline
        self._layouts = shared.layouts
        self._backend = backend
        self._bucket = bucket
        self._key = key
        self._options = options

    # -- requests ----------------------------------------------------------------------------

    async def _fetch(self, options: GetOptions) -> RawObject:
        try:
            return await fetch(
                self._backend, self._bucket, self._key, options, self._shared.timeouts
            )
        except TroveError as exc:
            exc.at(backend=self._backend.name)
            raise

    async def _fetch_pinned(self, options: GetOptions) -> RawObject:
        """One more request of the same read: only this very version will do."""
        try:
            return await self._fetch(options)
        except PreconditionFailedError as exc:
            raise changed(self._bucket, self._key) from exc

    def _body(self, found: RawObject) -> Body:
        shared = self._shared
        version = self._options.version_id
        place = (self._backend, self._bucket, self._key)
        return Body(*place, found, version, shared.policy, shared.timeouts)

    def _bottom(self, found: RawObject) -> Chunks:
        """Bytes that are there already, and as many as promised, never have to be asked for
        again."""
        body = found.body
        if type(body) is OneChunk:
            data = body.whole(found.stop - found.start)
            if data is not None:
                return OneChunk(data)
        return self._body(found)

    def _stored(self, info: ObjectInfo) -> Stored:
        shared = self._shared
        version = self._options.version_id
        place = (self._backend, self._bucket, self._key)
        return Stored(*place, info, version, shared.policy, shared.timeouts)

    @property
    def _place(self) -> tuple[str, str, str]:
        return (self._backend.name, self._bucket, self._key)

    def _presenting(self, context: Context) -> list[Entry]:
        return self._pipeline.presenting(context) if self._present else []

    def _context(self, info: ObjectInfo, record: Record, size: int | None) -> Context:
        context = Context("get", self._bucket, self._key, info.content_type, info.metadata, size)
        context.applied = [*record.encodings]
        context.stored_size = info.stored_size
        context.hints = dict(record.hints)
        return context

    def is_watched(self, info: ObjectInfo, record: Record) -> bool:
        """Whether some layer without an encoding has to do with reading this object."""
        context = self._context(info, record, info.stored_size)
        return self._pipeline.is_watched(context, present=self._present)

    # -- whole objects -------------------------------------------------------------------------

    async def whole(self, found: RawObject, record: Record) -> ObjectReader:
        """``found`` answers a request without a range."""
        info = found.info
        chain = Chain(self._bottom(found))
        try:
            if not record.is_written and info.stored_size >= SMALLEST:
                record = await self._recognised_in_stream(chain, record)
            encodings = record.encodings
            size = record.size if encodings else info.stored_size
            if not encodings and record.size is not None and record.size != size:
                check_whole(size_of(info.stored_size), record.size, None)
            context = self._context(info, record, size)
            self._pipeline.admit(context, encodings)
            if encodings:
                transforms = self._pipeline.for_encodings(encodings, context)
                if size is None:
                    size = context.size = await self._logical_size(info, record)
                await self._pipeline.read(chain, transforms, (), context)
                if (
                    size <= _AT_ONCE
                    and type(chain.levels[0]) is OneChunk
                    and not self._pipeline.observing(context)
                    and not self._presenting(context)
                ):
                    data = await _all_of(chain, size, record.digest)
                    return ObjectReader(seen_as(info, record, size), None, data, size)
            if encodings or record.digest is not None:
                digest = Digest(record.digest.partition(":")[0] if record.digest else None)
                chain.push(verified(chain.top, digest, size, record.digest))
            assert size is not None
            seen = seen_as(info, record, size)
            observers = self._pipeline.observing(context)
            if observers:
                await self._pipeline.read(chain, (), observers, context)
            presenters = self._presenting(context)
            if presenters:
                return await self._presented(chain, presenters, context, seen, record, info)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        return ObjectReader(seen, chain, None, None if observers else size)

    async def _recognised_in_stream(self, chain: Chain, record: Record) -> Record:
        supply = Supply(chain.top)
        chain.push(supply)
        for size in (ENOUGH, MOST):
            head = await supply.head(size)
            found = recognised(head, is_all=supply.ended)
            if found is not None:
                return replace(record, encodings=found)
        return record

    async def _presented(
        self,
        chain: Chain,
        presenters: Sequence[Entry],
        context: Context,
        seen: ObjectInfo,
        record: Record,
        info: ObjectInfo,
    ) -> ObjectReader:
        supply = Supply(chain.top)
        chain.push(supply)

        async def elsewhere() -> RangeSource:
            known = await self._known(self._stored(info), record)
            return self._logical(known)

        layers = await shown(presenters, _Looks(supply, seen.size, elsewhere), context)
        for layer in layers:
            chain.push(layer.splice(chain.top, 0, layer.size))
        size = layers[-1].size if layers else seen.size
        return ObjectReader(replace(seen, size=size), chain, None, size)

    # -- ranges --------------------------------------------------------------------------------

    async def ranged(self) -> ObjectReader:
        options = self._options
        place = self._place
        known = self._layouts.get(place) if options.version_id is None else None
        if known is not None and _permits(options, known.info) and _asks(options, known.size):
            self._admit(known.info, known.record)
            try:  # one request, pinned to the version whose layout is known
                return await self._cut(self._stored(known.info), known)
            except ObjectChangedError:
                self._layouts.drop(place)
        guess = Context("get", self._bucket, self._key, content_type_of(self._key))
        expected = self._pipeline.expected_transforms(guess)
        looks = bool(self._presenting(guess))
        return await self._cold(expected, looks=looks)

    async def found_ranged(self, found: RawObject, record: Record) -> ObjectReader:
        """``found`` answers the caller's own range, and what it is of is not plain, or not
        known to be."""
        if not record.encodings and not record.is_written:
            record = await self._recognised_in(self._stored(found.info), record)
        if record.encodings:
            await found.body.aclose()
            return await self._layered(found.info, record)
        return await self._plain_range(found, record)

    async def _layered(self, info: ObjectInfo, record: Record) -> ObjectReader:
        """The caller's range of an object that has these layers for sure."""
        known = self._layouts.of_version(self._place, info.etag)
        if known is not None and self._options.version_id is None:
            self._admit(info, record)
            return await self._cut(self._stored(known.info), known)
        context = self._context(info, record, record.size)
        transforms = self._pipeline.for_encodings(record.encodings, context)
        pin = Reading(
            self._shared,
            self._backend,
            self._bucket,
            self._key,
            pinned(self._options, info.etag),
            self._present,
        )
        return await pin._cold(transforms, is_sure=True)

    async def _cold(
        self, expected: Sequence[Entry], *, looks: bool = False, is_sure: bool = False
    ) -> ObjectReader:
        """The first request brings the metadata and, where a layer is expected, the part of
        the object that its layout is read from."""
        options = self._options
        wanted = options.range
        assert wanted is not None
        fetched = self._fetch_pinned if is_sure else self._fetch
        first = wanted if not expected and not looks else _first_request(expected, wanted)
        try:
            found = await fetched(_with_range(options, first))
        except InvalidRangeError:
            if first is not wanted:
                raise
            # Past the end of the stored bytes; under a layer there may be more.
            first = _first_request(self._all_transforms(), wanted)
            found = await self._fetch(_with_range(options, first))
        info = found.info
        try:
            record = read_record(info.metadata)
            if first is wanted:
                if record.encodings or not record.is_written:
                    return await self.found_ranged(found, record)
                return await self._plain_range(found, record)
            stored = self._stored(info)
            await stored.keep(found)
        except BaseException:
            await found.body.aclose()
            raise
        if not record.is_written and not record.encodings:
            record = await self._recognised_in(stored, record)
        self._admit(info, record)
        return await self._cut(stored, await self._known(stored, record))

    def _admit(self, info: ObjectInfo, record: Record) -> None:
        if self._pipeline.guards:
            self._pipeline.admit(self._context(info, record, record.size), record.encodings)

    def _all_transforms(self) -> list[Entry]:
        return [entry for entries in self._pipeline.transforms.values() for entry in entries]

    async def _plain_range(self, found: RawObject, record: Record) -> ObjectReader:
        """The bytes of the caller's range are on their way already."""
        info = found.info
        context = self._context(info, record, info.stored_size)
        self._pipeline.admit(context, ())
        if self._presenting(context):
            await found.body.aclose()  # what it shows has other ranges
            return await self._cut(self._stored(info), Known(info, record, [], info.stored_size))
        chain = Chain(self._body(found))
        observers = self._pipeline.observing(context)
        try:
            await self._pipeline.read(chain, (), observers, context)
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        length = found.stop - found.start
        seen = seen_as(info, record, info.stored_size)
        return ObjectReader(seen, chain, None, None if observers else length)

    async def _recognised_in(self, stored: Stored, record: Record) -> Record:
        """What an object without a record is, by its first bytes; remembered by version."""
        info = stored.info
        if info.stored_size < SMALLEST:
            return record
        known = self._layouts.of_version(self._place, info.etag)
        if known is not None:
            return known.record
        for size in (ENOUGH, MOST):
            stop = min(size, info.stored_size)
            async with aclosing(stored.read(0, stop)) as chunks:
                head = await collect(chunks)
            names = recognised(head, is_all=stop == info.stored_size)
            if names is not None:
                record = replace(record, encodings=names)
                break
        if not record.encodings and self._options.version_id is None:
            self._layouts.put(self._place, Known(info, record, [], info.stored_size))
        return record

    async def _known(self, stored: Stored, record: Record) -> Known:
        """Opens the layouts, and remembers them. Without ``layouts`` but with encodings: some
        layer of the object cannot seek."""
        info = stored.info
        if not record.encodings:
            return Known(info, record, [], info.stored_size)
        context = self._context(info, record, record.size)
        transforms = self._pipeline.for_encodings(record.encodings, context)
        source: RangeSource = stored
        layouts: list[Layout] = []
        for entry in reversed(transforms):
            if entry.seekable is None:
                size = record.size
                if size is None:
                    size = await self._counted(info, record)
                return Known(info, record, [], size)
            layouts.append(await entry.seekable.layout(source, context))
            source = through(layouts, stored)
        known = Known(info, record, layouts, source.size)
        if self._options.version_id is None:
            self._layouts.put(self._place, known)
        return known

    def _logical(self, known: Known, stored: Stored | None = None) -> RangeSource:
        if known.record.encodings and not known.layouts:
            return _Streamed(self, known)
        return through(known.layouts, stored if stored is not None else self._stored(known.info))

    async def _cut(self, stored: Stored, known: Known) -> ObjectReader:
        wanted = self._options.range
        assert wanted is not None
        record = known.record
        context = self._context(known.info, record, known.size)
        source = self._logical(known, stored)
        layers: list[Shown] = []
        presenters = self._presenting(context)
        if presenters:
            layers = await shown(presenters, source, context)
        size = layers[-1].size if layers else known.size
        start, stop = wanted.resolve(size)
        bounds = [(start, stop)]
        for layer in reversed(layers):
            low, high = bounds[-1]
            bounds.append((layer.below(low), layer.below(high)) if low < high else (0, 0))
        chain = Chain(source.read(*bounds[-1]))
        try:
            first = await anext(chain.top, None)  # what cannot be read fails here
            if first is not None:
                chain.push(_rejoined(first, chain.top))
            observers = self._pipeline.observing(context)
            if observers:
                await self._pipeline.read(chain, (), observers, context)
            for layer, (low, high) in zip(layers, reversed(bounds[:-1]), strict=True):
                chain.push(layer.splice(chain.top, low, high))
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        seen = seen_as(known.info, record, size)
        return ObjectReader(seen, chain, None, None if observers else stop - start)

    async def from_start(self, known: Known, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        """A range under a layer that cannot seek: reads from the start and cuts."""
        async with aclosing(self._decoding(known.info, known.record)) as decoded:
            async for piece in cut(decoded, start, stop):
                yield piece

    async def _decoding(self, info: ObjectInfo, record: Record) -> AsyncGenerator[Bytes, None]:
        """The logical bytes of this version from their start, past no observer."""
        found = await self._fetch_pinned(_with_range(pinned(self._options, info.etag), None))
        context = self._context(info, record, record.size)
        chain = Chain(self._body(found))
        try:
            transforms = self._pipeline.for_encodings(record.encodings, context)
            await self._pipeline.read(chain, transforms, (), context)
            async for chunk in chain.top:
                yield chunk
        except BaseException as exc:
            await chain.abandon(exc)
            raise
        await chain.aclose()

    # -- sizes ---------------------------------------------------------------------------------

    async def measured(self, info: ObjectInfo, record: Record) -> tuple[Record, int]:
        """Encodings and logical size of an object whose metadata does not tell them."""
        known = self._layouts.of_version(self._place, info.etag)
        if known is not None and self._options.version_id is None:
            return known.record, known.size
        if not record.is_written:
            record = await self._recognised_in(self._stored(info), record)
            if not record.encodings:
                return record, info.stored_size
        return record, await self._logical_size(info, record)

    async def _logical_size(self, info: ObjectInfo, record: Record) -> int:
        return (await self._known(self._stored(info), record)).size

    async def _counted(self, info: ObjectInfo, record: Record) -> int:
        size = 0
        async with aclosing(self._decoding(info, record)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
        return size


class _Streamed:
    """The logical bytes of an object that cannot be sought in, as a source of ranges."""

    __slots__ = ("_known", "_reading")

    def __init__(self, reading: Reading, known: Known) -> None:
        self._reading = reading
        self._known = known

    @property
    def size(self) -> int:
        return self._known.size

    def read(self, start: int, stop: int) -> Chunks:
        if start >= stop:
            return OneChunk(b"")
        return self._reading.from_start(self._known, start, stop)


class _Looks:
    """A stream that has not been read, as a source of ranges: what stands near its start is
    looked up in it, the rest elsewhere."""

    __slots__ = ("_elsewhere", "_source", "_supply", "size")

    def __init__(
        self, supply: Supply, size: int, elsewhere: Callable[[], Awaitable[RangeSource]]
    ) -> None:
        self._supply = supply
        self._elsewhere = elsewhere
        self._source: RangeSource | None = None
        self.size = size

    def read(self, start: int, stop: int) -> Chunks:
        return self._read(start, stop)

    async def _read(self, start: int, stop: int) -> AsyncGenerator[Bytes, None]:
        if stop <= _MOST_PEEKED:
            if piece := (await self._supply.head(stop))[start:]:
                yield piece
            return
        if self._source is None:
            self._source = await self._elsewhere()
        async with aclosing(self._source.read(start, stop)) as chunks:
            async for chunk in chunks:
                yield chunk


def size_of(size: int) -> Digest:
    """A count without a digest, to be checked as one."""
    digest = Digest(None)
    digest.count = size
    return digest


def _with_range(options: GetOptions, wanted: ByteRange | None) -> GetOptions:
    return GetOptions(
        wanted,
        options.version_id,
        options.if_match,
        options.if_none_match,
        options.if_modified_since,
    )


def _first_request(transforms: Sequence[Entry], wanted: ByteRange) -> ByteRange:
    """A suffix when some layer keeps its table at the end, else the start; with what is
    ``wanted``, where that stands near the start."""
    seekable = [entry.seekable for entry in transforms if entry.seekable is not None]
    tail = sum(layer.tail for layer in seekable)
    head = sum(layer.head for layer in seekable)
    grain = sum(entry.grain for entry in transforms)
    if tail:
        return ByteRange(-(tail + grain + _HEAD_EXTRA))
    if wanted.start >= 0 and wanted.stop is not None and wanted.stop <= _NEAR:
        return ByteRange(0, head + max(_HEAD_EXTRA, wanted.stop + grain))
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
