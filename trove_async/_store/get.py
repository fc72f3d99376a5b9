"""Reads: the fewest requests that give the bytes asked for, through the object's own layers."""

from __future__ import annotations

from trove_async._chunks import Digest, OneChunk
from trove_async._store.backend import Backend
from trove_async._store.layouts import Layouts
from trove_async._store.reader import ObjectReader, check_small, check_whole, verified
from trove_async._store.reading import Reading, size_of
from trove_async._store.record import Record, read_record, seen_as
from trove_async._store.source import Body, Stored, fetch
from trove_async.config import RetryPolicy, Timeouts
from trove_async.driver.base import RawObject
from trove_async.driver.options import GetOptions
from trove_async.errors import TroveError
from trove_async.middleware.builtin import SMALLEST
from trove_async.middleware.pipeline import Chain, Pipeline
from trove_async.model import ObjectInfo

__all__ = ["Reads"]


class Reads:
    """Everything reads need, shared by a store and its pinned handles. What is read plainly
    goes a straight line here; the rest is a `Reading`."""

    def __init__(self, pipeline: Pipeline, policy: RetryPolicy, timeouts: Timeouts) -> None:
        self.pipeline = pipeline
        self.policy = policy
        self.timeouts = timeouts
        self.layouts = Layouts()

    async def open(
        self,
        backend: Backend,
        bucket: str,
        key: str,
        options: GetOptions,
        raw: bool,
        *,
        present: bool = True,
    ) -> ObjectReader:
        """``present`` False: the object itself, not what readers are shown of it."""
        pipeline = self.pipeline
        is_ranged = options.range is not None
        if is_ranged and not raw and (pipeline.transforms or pipeline.presenters):
            return await Reading(self, backend, bucket, key, options, present).ranged()
        try:
            found = await fetch(backend, bucket, key, options, self.timeouts)
        except TroveError as exc:
            exc.at(backend=backend.name)
            raise
        try:
            if raw:
                chain = Chain(self._body(backend, bucket, key, found, options))
                return ObjectReader(found.info, chain, None, found.stop - found.start)
            record = read_record(found.info.metadata)
            is_plain = not record.encodings and (
                record.is_written or found.info.stored_size < SMALLEST
            )
            if is_plain and pipeline.reads_plainly:
                return self._plain(backend, bucket, key, found, record, options)
            reading = Reading(self, backend, bucket, key, options, present)
            if is_plain and not reading.is_watched(found.info, record):
                return self._plain(backend, bucket, key, found, record, options)
            if is_ranged:
                return await reading.found_ranged(found, record)
            return await reading.whole(found, record)
        except BaseException:
            await found.body.aclose()
            raise

    def stored(self, backend: Backend, bucket: str, key: str, info: ObjectInfo) -> Stored:
        """The stored bytes of this very version, by range."""
        return Stored(backend, bucket, key, info, None, self.policy, self.timeouts)

    def _body(
        self, backend: Backend, bucket: str, key: str, found: RawObject, options: GetOptions
    ) -> Body:
        return Body(backend, bucket, key, found, options.version_id, self.policy, self.timeouts)

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
        info = found.info
        size = info.stored_size
        is_whole = options.range is None
        if is_whole and record.size is not None and record.size != size:
            check_whole(size_of(size), record.size, None)
        seen = seen_as(info, record, size)
        body = found.body
        if type(body) is OneChunk:
            data = body.whole(found.stop - found.start)
            if data is not None:
                if is_whole and record.digest is not None:
                    check_small(data, None, record.digest)
                return ObjectReader(seen, None, data, len(data))
        chain = Chain(self._body(backend, bucket, key, found, options))
        if is_whole and record.digest is not None:
            digest = Digest(record.digest.partition(":")[0])
            chain.push(verified(chain.top, digest, size, record.digest))
        return ObjectReader(seen, chain, None, found.stop - found.start)

    async def seen(
        self, backend: Backend, bucket: str, key: str, info: ObjectInfo, version_id: str | None
    ) -> ObjectInfo:
        """What `head` answers. Looks into the object where its metadata does not tell."""
        record = read_record(info.metadata)
        size = record.size
        if not record.encodings and (record.is_written or info.stored_size < SMALLEST):
            size = info.stored_size
        elif size is None or not record.is_written:
            reading = Reading(self, backend, bucket, key, GetOptions(version_id=version_id))
            record, size = await reading.measured(info, record)
        return seen_as(info, record, size)
