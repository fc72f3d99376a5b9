"""Changes of a bucket: our own at once and in order, those of others as the kernel tells them.

The kernel's events only say where to look; what is told is what is found there, compared with
the etags told before. So a change of our own is not told twice, and of several changes that
others make within a few milliseconds the last one is told.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Final, Self

from watchfiles._rust_notify import RustNotify

from trove_async._threads import settle
from trove_async.driver import ListOptions, WatchOptions
from trove_async.driver.events import EventQueue
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.listing import Lister
from trove_async.errors import TroveError
from trove_async.model import EventType, ObjectEvent, ObjectInfo

__all__ = ["Watch"]

_log = logging.getLogger("trove_async.local")
_STEP: Final = 10  # milliseconds without a change that end a group of them
_GROUP: Final = 100  # milliseconds a group lasts at most
Changes = dict[str, tuple[str | None, ObjectInfo | None]]


class Watch:
    """An async iterator of events. It holds the etag of every key below the prefix."""

    def __init__(
        self, ground: Ground, lister: Lister, bucket: str, root: str, options: WatchOptions
    ) -> None:
        self._lister = lister
        self._ground = ground
        self.bucket = bucket
        self._root = root
        self._options = options
        self._queue = EventQueue(bucket, options.buffer)
        self._known: dict[str, str] = {}
        self._stop = threading.Event()
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._notify: RustNotify | None = None
        self._thread: threading.Thread | None = None
        self.on_close: Callable[[Watch], None] | None = None

    # -- beginning -------------------------------------------------------------------------

    def prepare(self) -> None:
        """In a worker: sets the watch up, then learns what is there."""
        path = f"{self._root}/{self.bucket}"
        self._ground.check_bucket(self.bucket.encode("ascii"))
        notify = RustNotify([path], False, False, 300, True, True)
        try:
            for info in self._listed(self._options.prefix):
                self._known[info.key] = info.etag
        except BaseException:
            notify.close()
            raise
        self._notify = notify

    def start(self) -> None:
        self._thread = threading.Thread(target=self._follow, name="trove-watch", daemon=True)
        self._thread.start()

    def discard(self) -> None:
        """Of a watch that was prepared and never started."""
        notify, self._notify = self._notify, None
        if notify is not None:
            notify.close()

    # -- the thread ------------------------------------------------------------------------

    def _follow(self) -> None:
        notify = self._notify
        assert notify is not None
        try:
            while True:
                raw = notify.watch(_GROUP, _STEP, 0, self._stop)
                if not isinstance(raw, set):
                    break
                changes = self._read(raw)
                if changes:
                    self._post(partial(self._tell, changes))
        except (OSError, RuntimeError, TroveError) as exc:
            _log.warning("the watch of bucket %s ended: %s", self.bucket, exc)
        finally:
            notify.close()
            self._post(self._finish)

    def _post(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(callback)

    def _read(self, raw: set[tuple[int, str]]) -> Changes:
        """What is now at each of the places that changed, and which etag was told before.

        What the driver tells by itself in between is newer, and then counts."""
        start = len(f"{self._root}/{self.bucket}/")
        places = sorted({path[start:] for _, path in raw} - {""})
        found: Changes = {}
        for place in places:
            if not self._look(place, found):
                self._look_below(place, found)
        return found

    def _look(self, key: str, found: Changes) -> bool:
        """Whether ``key`` is or was an object, so that it is no folder."""
        before = self._known.get(key)
        info: ObjectInfo | None = None
        with suppress(OSError, TroveError):
            info = self._lister.info(self.bucket, key)
        if key.startswith(self._options.prefix) and (info is not None or before is not None):
            found[key] = (before, info)
        return info is not None or before is not None

    def _look_below(self, folder: str, found: Changes) -> None:
        """A folder that came or went as a whole: the kernel says nothing of what is in it."""
        within = folder + "/"
        for key in list(self._known):
            if key.startswith(within) and key not in found:
                self._look(key, found)
        wanted = max(within, self._options.prefix, key=len)
        if not wanted.startswith(within) or not wanted.startswith(self._options.prefix):
            return
        with suppress(OSError, TroveError):
            for info in self._listed(wanted):
                found.setdefault(info.key, (self._known.get(info.key), info))

    def _listed(self, prefix: str) -> Iterator[ObjectInfo]:
        cursor: str | None = None
        while not self._stop.is_set():
            options = ListOptions(prefix, cursor=cursor, page_size=1000)
            page = self._lister.page(self.bucket, options)
            yield from page.objects
            cursor = page.cursor
            if cursor is None:
                return

    # -- on the loop -----------------------------------------------------------------------

    def _tell(self, changes: Changes) -> None:
        for key, (before, info) in changes.items():
            if self._known.get(key) != before:
                continue
            if info is not None:
                self.changed(key, info)
            else:
                self.deleted(key)

    def changed(self, key: str, info: ObjectInfo) -> None:
        """Also called by the driver for its own writes."""
        before = self._known.get(key)
        if before == info.etag or not key.startswith(self._options.prefix):
            return
        self._known[key] = info.etag
        self._push("object.created" if before is None else "object.updated", key, info)

    def deleted(self, key: str) -> None:
        if self._known.pop(key, None) is not None:
            self._push("object.deleted", key, None)

    def _push(self, kind: EventType, key: str, info: ObjectInfo | None) -> None:
        if self._options.events is None or kind in self._options.events:
            self._queue.push(kind, key, info)

    # -- the consumer ----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ObjectEvent:
        return await self._queue.__anext__()

    def stop(self) -> None:
        """Ends it; the events queued so far can still be read."""
        self._stop.set()
        self._queue.close()
        if self.on_close is not None:
            self.on_close(self)
            self.on_close = None

    async def aclose(self) -> None:
        """Returns when the thread has ended; a second close waits for the same."""
        self.stop()
        await self._queue.aclose()
        await settle(self._ended)
        if self._thread is not None:
            self._thread.join()  # it has said its last word

    def _finish(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)
        self.stop()
