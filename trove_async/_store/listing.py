"""Listings: one backend's pages, or several backends' merged by key."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from trove_async._store.backend import Backend
from trove_async._store.record import read_record, seen_as, user_metadata
from trove_async._store.seam import Idle, bounded
from trove_async.driver.options import ListOptions
from trove_async.errors import (
    BucketNotFoundError,
    IntegrityError,
    InvalidTokenError,
    TroveError,
)
from trove_async.middleware.builtin import SMALLEST
from trove_async.model import ObjectInfo, ObjectPage

__all__ = ["Merge", "listed"]

_MOST_TOKEN = 64 * 1024


def listed(info: ObjectInfo, has_metadata: bool) -> ObjectInfo:
    """An entry as its caller sees it; never costs a request, and no object with a record that
    cannot be read hides the others."""
    if not has_metadata:
        return info
    try:
        record = read_record(info.metadata)
    except IntegrityError:
        return replace(info, metadata=user_metadata(info.metadata))
    if not record.is_written and info.stored_size >= SMALLEST:
        # It may be one of our formats that lost its record: nobody looked.
        return replace(info, metadata=user_metadata(info.metadata), encodings=None)
    plain = not record.encodings or record.size is None
    return seen_as(info, record, info.stored_size if plain else record.size or 0)


@dataclass(slots=True)
class _Entry:
    """One line of a listing."""

    text: str
    info: ObjectInfo | None
    """None: a common prefix."""


@dataclass(slots=True)
class _Feed:
    """One backend's part of a merged listing."""

    backend: Backend
    cursor: str | None = None
    """Asks for the page after the buffered one."""
    origin: str | None = None
    """Asked for the buffered page: where a token takes up again."""
    shown: str = ""
    """The last entry that came from here; of a backend with an order of its own, from the page
    that is buffered."""
    buffer: deque[_Entry] = field(default_factory=deque)
    is_restored: bool = False
    """The next page is the one whose entry `shown` is."""
    is_last: bool = False
    """No page follows the buffered one."""

    @property
    def is_done(self) -> bool:
        return self.is_last and not self.buffer


class Merge:
    """A listing under way. Keys that route elsewhere are hidden, and no key is shown past the
    smallest unfinished cursor, so the merged order is right whatever the page sizes."""

    def __init__(
        self,
        backends: Sequence[Backend],
        bucket: str,
        options: ListOptions,
        owner: Callable[[str, str], str] | None,
        read_limit: float | None,
    ) -> None:
        self._bucket = bucket
        self._options = options
        self._owner = owner
        self._limit = read_limit
        self._missing = 0
        self._feeds = [_Feed(backend) for backend in backends]
        if options.cursor is not None:
            self._restore(options.cursor)

    @property
    def is_done(self) -> bool:
        return all(feed.is_done for feed in self._feeds)

    async def next_page(self, size: int) -> ObjectPage:
        """At most one request per backend."""
        await self._fill(size)
        objects: list[ObjectInfo] = []
        prefixes: list[str] = []
        if len(self._feeds) == 1:
            self._take(self._feeds[0], size, objects, prefixes)
        else:
            self._merge(size, objects, prefixes)
        return ObjectPage(objects, prefixes, None if self.is_done else self._token())

    def _take(self, feed: _Feed, size: int, objects: list[ObjectInfo], prefixes: list[str]) -> None:
        buffer = feed.buffer
        while buffer and len(objects) + len(prefixes) < size:
            entry = buffer.popleft()
            if entry.text == feed.shown:
                continue
            feed.shown = entry.text
            if entry.info is not None:
                objects.append(entry.info)
            else:
                prefixes.append(entry.text)

    def _merge(self, size: int, objects: list[ObjectInfo], prefixes: list[str]) -> None:
        while len(objects) + len(prefixes) < size:
            live = [feed for feed in self._feeds if not feed.is_done]
            if not live or any(not feed.buffer for feed in live):
                break
            first = min(feed.buffer[0].text for feed in live)
            taken: _Entry | None = None
            for feed in live:
                while feed.buffer and feed.buffer[0].text == first:
                    taken = taken or feed.buffer[0]
                    feed.buffer.popleft()
                    feed.shown = first
            if taken is not None and taken.info is not None:
                objects.append(taken.info)
            else:
                prefixes.append(first)

    async def _fill(self, size: int) -> None:
        hungry = [feed for feed in self._feeds if not feed.buffer and not feed.is_last]
        if len(hungry) == 1:
            await self._fetch(hungry[0], size)
        elif hungry:
            try:
                async with asyncio.TaskGroup() as group:
                    for feed in hungry:
                        group.create_task(self._fetch(feed, size))
            except BaseExceptionGroup as errors:
                error = errors.exceptions[0]
                raise error from error.__cause__

    async def _fetch(self, feed: _Feed, size: int) -> None:
        options = self._options
        request = feed.backend.driver.list(
            self._bucket,
            ListOptions(options.prefix, options.delimiter, options.start_after, feed.cursor, size),
        )
        try:
            if self._limit is None:
                page = await request
            else:
                page = await bounded(request, Idle(self._limit))
        except BucketNotFoundError as exc:
            exc.at(backend=feed.backend.name)
            self._missing += 1
            if self._missing == len(self._feeds):
                raise
            feed.is_last = True  # a backend added after the bucket was made has none of it
            return
        except TroveError as exc:
            exc.at(backend=feed.backend.name)
            raise
        is_ordered = feed.backend.features.ordered_listing
        if not is_ordered and not feed.is_restored:
            feed.shown = ""
        feed.is_restored = False
        feed.origin = feed.cursor
        feed.cursor = page.cursor
        feed.is_last = page.cursor is None
        has_metadata = feed.backend.features.listing_has_metadata
        owner, name = self._owner, feed.backend.name
        entries = [
            _Entry(info.key, listed(info, has_metadata))
            for info in page.objects
            if owner is None or owner(self._bucket, info.key) == name
        ]
        entries += [_Entry(prefix, None) for prefix in page.prefixes]
        if page.prefixes or not is_ordered:
            entries.sort(key=lambda entry: entry.text)
        last = feed.shown
        feed.buffer.extend(entry for entry in entries if not last or entry.text > last)

    # -- tokens ----------------------------------------------------------------------------

    def _token(self) -> str:
        """Where every backend stands. It is opaque and bound to this listing, but not trusted:
        the prefix always comes from the call."""
        state: dict[str, object] = {}
        for feed in self._feeds:
            if feed.buffer:
                state[feed.backend.name] = [feed.origin, feed.shown]
            elif not feed.is_last:
                is_ordered = feed.backend.features.ordered_listing
                state[feed.backend.name] = [feed.cursor, feed.shown if is_ordered else ""]
        import json  # a page with a next one is its only user here: 3 ms of import

        text = json.dumps([2, self._sign(), state], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _sign(self) -> str:
        import json

        options = self._options
        about = json.dumps([self._bucket, options.prefix, options.delimiter])
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def _restore(self, token: str) -> None:
        import json

        try:
            if len(token) > _MOST_TOKEN:
                raise ValueError
            text = base64.b64decode(
                token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
            )
            version, signed, state = json.loads(text)
            if version != 2 or signed != self._sign():
                raise ValueError
            for feed in self._feeds:
                saved = state.get(feed.backend.name)
                if saved is None:
                    feed.is_last = True
                    continue
                cursor, shown = saved
                if not isinstance(cursor, str | None) or not isinstance(shown, str):
                    raise ValueError
                ((cursor or "") + shown).encode()  # no lone surrogates
                feed.cursor, feed.shown, feed.is_restored = cursor, shown, True
        except (ValueError, TypeError, AttributeError, binascii.Error, RecursionError) as exc:
            raise InvalidTokenError("not a cursor of this listing", bucket=self._bucket) from exc
