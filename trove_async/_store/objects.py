"""The verbs on objects: put, get, head, delete, list, copy, move. No byte is touched here."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from trove_async._chunks import as_body
from trove_async._names import (
    check_content_type,
    check_key,
    check_metadata,
    check_tags,
    check_word,
    content_type_of,
)
from trove_async._opening import Opening
from trove_async._store.batch import batch_delete, read_ranges, resolved
from trove_async._store.handle import Handle
from trove_async._store.listing import Merge
from trove_async._store.put import Upload
from trove_async._store.reader import ObjectReader
from trove_async._store.requests import byte_range, check_listing
from trove_async.checksum import parse_digest
from trove_async.driver.options import (
    ByteRange,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
)
from trove_async.errors import ObjectNotFoundError
from trove_async.model import (
    CommonPrefix,
    DeleteResult,
    MiB,
    ObjectInfo,
    ObjectPage,
    ObjectRef,
)

__all__ = ["Objects"]

Verb = Literal["copy", "move", "verbatim"]
_PLAIN_GET = GetOptions()
_HEAD = HeadOptions()
_NOTHING = (None,) * 5


class Objects(Handle):
    async def put(
        self,
        bucket: str | None,
        key: str,
        body: object,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        storage_class: str | None = None,
        size: int | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        raw: bool = False,
        part_size: int | None = None,
        concurrency: int | None = None,
    ) -> ObjectInfo:
        """Stores ``body``, replacing what was there, or changes nothing.

        ``body``: bytes-like, a path, a binary file, an (async) iterable of bytes-like, anything
        with ``read(n)``, an ObjectReader. An iterator is closed exactly once, a file never.
        ``checksum``: ``"<algorithm>:<hex>"`` the logical bytes must have. ``if_none_match="*"``:
        create only. ``raw``: bytes and metadata are stored verbatim. ``part_size`` and
        ``concurrency`` are for backends that send a body in parts.
        """
        core = self._core
        core.check()
        source = as_body(body, core.chunk_size)
        try:
            bucket = self._bucket(bucket)
            check_key(key)
            if size is not None and size < 0:
                raise ValueError("size must not be negative")
            if if_none_match is not None and if_none_match != "*":
                raise ValueError('if_none_match of a put is "*" (create only)')
            if part_size is not None and part_size < 1:
                raise ValueError("part_size must be positive")
            if concurrency is not None and concurrency < 1:
                raise ValueError("concurrency must be positive")
            expected = parse_digest(checksum) if checksum is not None else None
            options = PutOptions(
                content_type_of(key) if content_type is None else check_content_type(content_type),
                check_metadata(metadata, reserved=raw) if metadata else {},
                source.size if size is None else size,
                None,
                check_tags(tags) if tags else None,
                storage_class if storage_class is None else check_word(storage_class),
                if_match if if_match is None else check_word(if_match),
                if_none_match,
                part_size,
                concurrency,
            )
            upload = Upload(source, expected, raw)

            def work(bucket: str, key: str, options: PutOptions) -> Coroutine[Any, Any, ObjectInfo]:
                backend = self._place(bucket, key)
                if options.if_match is not None or options.if_none_match is not None:
                    backend.need_conditions(options.if_match, options.if_none_match)
                if options.tags:
                    backend.need(backend.tagging, "tags")
                return core.writes.put(backend, bucket, key, options, upload)

            return await core.seam.run(
                "put",
                bucket,
                key,
                options,
                work,
                # A raw put carries no token by which a condition would know its own success.
                replayable=source.replayable
                and not (raw and (if_match is not None or if_none_match is not None)),
            )
        except BaseException as exc:
            await source.refuse(exc)
            raise

    def get(
        self,
        bucket: str | None,
        key: str,
        *,
        range: slice | None = None,
        version_id: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
        if_modified_since: datetime | None = None,
        raw: bool = False,
    ) -> Opening[ObjectReader]:
        """Opens an object for one reading; ``async with store.get(...) as reader``.

        A whole read is checked against the recorded digest before its last byte is handed
        out. ``range``: ``slice(a, b)``, ``slice(a, None)`` or ``slice(-n, None)``.
        """

        async def start() -> ObjectReader:
            self._core.check()
            if if_modified_since is not None and if_modified_since.tzinfo is None:
                raise ValueError("if_modified_since needs a time zone")
            asked = (range, version_id, if_match, if_none_match, if_modified_since)
            options = _PLAIN_GET if asked == _NOTHING else GetOptions(byte_range(range), *asked[1:])
            return await self._open(self._bucket(bucket), check_key(key), options, raw)

        return Opening(start)

    async def _open(self, bucket: str, key: str, options: GetOptions, raw: bool) -> ObjectReader:
        reads = self._core.reads

        def work(bucket: str, key: str, options: GetOptions) -> Coroutine[Any, Any, ObjectReader]:
            return reads.open(self._place(bucket, key), bucket, key, options, raw)

        total = self._core.timeouts.total
        if total is None:
            return await self._core.seam.run("get", bucket, key, options, work)
        started = asyncio.get_running_loop().time()
        reader = await self._core.seam.run("get", bucket, key, options, work)
        reader.limit(started + total, total)
        return reader

    async def get_bytes(
        self,
        bucket: str | None,
        key: str,
        *,
        range: slice | None = None,
        version_id: str | None = None,
    ) -> bytes:
        """The whole object, or range, in memory."""
        self._core.check()
        options = (
            _PLAIN_GET
            if range is None and version_id is None
            else GetOptions(byte_range(range), version_id)
        )
        reader = await self._open(self._bucket(bucket), check_key(key), options, False)
        if (data := reader.at_once()) is not None:
            return data
        try:
            return await reader.read()
        finally:
            await reader.aclose()

    async def get_ranges(
        self,
        bucket: str | None,
        key: str,
        ranges: Sequence[slice],
        *,
        coalesce: int = MiB,
        concurrency: int = 10,
    ) -> builtins.list[bytes]:
        """Many ranges of one version of an object, in the order asked.

        Ranges at most ``coalesce`` bytes apart are fetched as one."""
        self._core.check()
        bucket = self._bucket(bucket)
        check_key(key)
        if coalesce < 0 or concurrency < 1:
            raise ValueError("coalesce must not be negative, concurrency must be positive")
        wanted = [byte_range(item) for item in ranges]
        if not wanted:
            await self.head(bucket, key)
            return []

        async def read(bucket: str, key: str, options: GetOptions) -> ObjectReader:
            return await self._open(bucket, key, options, False)

        async def fetch(spans: Sequence[ByteRange], etag: str | None) -> builtins.list[bytes]:
            async def work(bucket: str, key: str, options: GetOptions) -> builtins.list[bytes]:
                backend = self._place(bucket, key)
                ranges = backend.need(backend.ranges, "ranges")
                request = ranges.get_ranges(bucket, key, spans, options)
                return await backend.limited(request, self._core.timeouts)

            pin = GetOptions(if_match=etag)
            return await self._core.seam.run("get_ranges", bucket, key, pin, work)

        # What stands between an object and its readers must see every range.
        is_plain = self._core.pipeline.reads_plainly
        native = fetch if is_plain and self._place(bucket, key).ranges is not None else None
        return await read_ranges(bucket, key, wanted, coalesce, concurrency, read, native)

    async def head(
        self, bucket: str | None, key: str, *, version_id: str | None = None
    ) -> ObjectInfo:
        core = self._core
        core.check()
        bucket = self._bucket(bucket)
        check_key(key)

        async def work(bucket: str, key: str, options: HeadOptions) -> ObjectInfo:
            backend = self._place(bucket, key)
            if options.version_id is not None:
                backend.need(backend.versioning, "versions")
            info = await backend.limited(backend.driver.head(bucket, key, options), core.timeouts)
            return await core.reads.seen(backend, bucket, key, info, options.version_id)

        options = _HEAD if version_id is None else HeadOptions(version_id)
        return await core.seam.run("head", bucket, key, options, work)

    async def exists(self, bucket: str | None, key: str) -> bool:
        """False only for a missing key: a missing bucket or an unreachable backend raises."""
        try:
            await self.head(bucket, key)
        except ObjectNotFoundError:
            return False
        return True

    async def delete(
        self,
        bucket: str | None,
        key: str,
        *,
        version_id: str | None = None,
        if_match: str | None = None,
    ) -> None:
        """A missing key is no error."""
        core = self._core
        core.check()
        bucket = self._bucket(bucket)
        check_key(key)

        async def work(bucket: str, key: str, options: DeleteOptions) -> None:
            backend = self._place(bucket, key)
            if options.if_match is not None:
                backend.need_conditions(options.if_match, None)
            if options.version_id is not None:
                versioning = backend.need(backend.versioning, "versions")
                request = versioning.delete_version(bucket, key, options.version_id)
            else:
                request = backend.writer.delete(bucket, key, options)
            await backend.limited(request, core.timeouts)

        await core.seam.run(
            "delete",
            bucket,
            key,
            DeleteOptions(version_id, if_match),
            work,
            # A repeated one could find gone what its own first try deleted.
            replayable=version_id is None and if_match is None,
        )

    async def delete_many(
        self, bucket: str | None, keys: Sequence[str]
    ) -> builtins.list[DeleteResult]:
        """One result per given key, in their order; a missing key is no error."""
        self._core.check()
        if isinstance(keys, str):
            raise TypeError("delete_many takes a sequence of keys, not one str")
        return await batch_delete(self._core, self._place, self._bucket(bucket), keys)

    # -- listings ----------------------------------------------------------------------------

    async def list(
        self,
        bucket: str | None,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        start_after: str | None = None,
        limit: int | None = None,
        page_size: int = 1000,
        resolve: bool = False,
    ) -> AsyncGenerator[ObjectInfo | CommonPrefix, None]:
        """Objects, and with ``delimiter`` common prefixes, in the order of their UTF-8 bytes.

        Pages are fetched as they are needed. ``resolve`` completes entries of backends whose
        listings carry no metadata, at a request per object.
        """
        options = check_listing(prefix, delimiter, start_after, page_size, None)
        if limit is not None and limit < 0:
            raise ValueError("limit must not be negative")
        merge = self._merge(bucket, options)
        left = limit
        while left is None or left > 0:
            size = page_size if left is None else min(page_size, left)
            page = await self._page(merge, self._bucket(bucket), options, size)
            objects = (
                await resolved(self.head, self._bucket(bucket), page.objects)
                if resolve
                else page.objects
            )
            entries: builtins.list[ObjectInfo | CommonPrefix] = [*objects]
            if page.prefixes:
                entries += [CommonPrefix(text) for text in page.prefixes]
                entries.sort(key=lambda e: e.prefix if isinstance(e, CommonPrefix) else e.key)
            for entry in entries:
                yield entry
            if page.cursor is None:
                return
            await asyncio.sleep(0)  # a driver that never waits must not hold the loop
            if left is not None:
                left -= len(entries)

    async def list_page(
        self,
        bucket: str | None,
        *,
        prefix: str = "",
        delimiter: str | None = None,
        start_after: str | None = None,
        page_size: int = 1000,
        cursor: str | None = None,
    ) -> ObjectPage:
        """One page; give its ``cursor`` back for the next. It may be empty and have one."""
        options = check_listing(prefix, delimiter, start_after, page_size, cursor)
        merge = self._merge(bucket, options)
        return await self._page(merge, self._bucket(bucket), options, page_size)

    def _merge(self, bucket: str | None, options: ListOptions) -> Merge:
        core = self._core
        core.check()
        routed = self._pinned is None and bool(core.router)
        backends = [*core.backends.values()] if routed else [self._place("", "")]
        return Merge(
            backends,
            self._bucket(bucket),
            options,
            core.router.resolve if routed else None,
            core.timeouts.read,
        )

    async def _page(self, merge: Merge, bucket: str, options: ListOptions, size: int) -> ObjectPage:
        async def work(bucket: str, key: str, options: ListOptions) -> ObjectPage:
            return await merge.next_page(size)

        return await self._core.seam.run("list", bucket, "", options, work)

    # -- copies ------------------------------------------------------------------------------

    async def copy(
        self,
        src_bucket: str | None,
        src_key: str,
        dst_bucket: str | None,
        dst_key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
        if_match: str | None = None,
        raw: bool = False,
    ) -> ObjectInfo:
        """Body, type and metadata; ``metadata`` replaces the user's, all of it.

        By the backend itself where it holds both sides and the layers of the target are those
        the object went through, else streamed through the pipeline. ``if_match``: the etag the
        source must have, else ObjectChangedError. ``raw``: stored bytes as they are, and
        ``metadata`` is the whole stored map, names that begin with ``trove`` included."""
        self._core.check()
        options = self._copy_options(metadata, content_type, if_none_match, if_match, raw=raw)
        verb: Verb = "verbatim" if raw else "copy"
        return await self._transfer(verb, src_bucket, src_key, dst_bucket, dst_key, options)

    async def move(
        self,
        src_bucket: str | None,
        src_key: str,
        dst_bucket: str | None,
        dst_key: str,
        *,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """Across backends both objects are there for a moment, never neither."""
        self._core.check()
        options = self._copy_options(metadata, content_type, if_none_match, None)
        return await self._transfer("move", src_bucket, src_key, dst_bucket, dst_key, options)

    def _copy_options(
        self,
        metadata: Mapping[str, str] | None,
        content_type: str | None,
        if_none_match: str | None,
        if_match: str | None,
        *,
        raw: bool = False,
    ) -> CopyOptions:
        if if_none_match is not None and if_none_match != "*":
            raise ValueError('if_none_match of a copy is "*" (create only)')
        return CopyOptions(
            None if metadata is None else check_metadata(metadata, reserved=raw),
            None if content_type is None else check_content_type(content_type),
            if_none_match,
            None if if_match is None else check_word(if_match),
        )

    async def _transfer(
        self,
        verb: Verb,
        src_bucket: str | None,
        src_key: str,
        dst_bucket: str | None,
        dst_key: str,
        options: CopyOptions,
    ) -> ObjectInfo:
        core = self._core
        target = ObjectRef(self._bucket(dst_bucket), check_key(dst_key))
        copies = core.copies
        transfer = {"copy": copies.copy, "move": copies.move, "verbatim": copies.verbatim}[verb]

        async def work(bucket: str, key: str, options: CopyOptions) -> ObjectInfo:
            return await transfer(
                self._place(bucket, key),
                ObjectRef(bucket, key),
                self._place(target.bucket, target.key),
                target,
                options,
            )

        return await core.seam.run(
            "move" if verb == "move" else "copy",
            self._bucket(src_bucket),
            check_key(src_key),
            options,
            work,
            # A repeated move could find its source gone by its own first try.
            # A repeated metadata-only copy could find its source changed by its own first try.
            replayable=verb != "move"
            and options.if_none_match is None
            and options.source_if_match is None,
            target=target,
        )
