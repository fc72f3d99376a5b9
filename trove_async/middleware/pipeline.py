"""Which layers an operation has, in what order, and the chain of open levels they make.

Writes go from the user to the driver in the order of (stage, priority, registration).
Reads undo the encodings that the *object* records, last one first; layers without an
encoding are chosen by scope on both ways.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from typing import cast

from trove_async._chunks import Digest, OneChunk, Tap
from trove_async.driver.base import Chunks
from trove_async.errors import InvalidConfigError, UnknownEncodingError
from trove_async.middleware.base import (
    Context,
    Direction,
    Guard,
    Middleware,
    Owning,
    Presenter,
    ReadMiddleware,
    Registration,
    SeekableTransform,
    Stage,
    Transform,
    WriteMiddleware,
)
from trove_async.middleware.builtin import builtin
from trove_async.middleware.scope import Scope

__all__ = ["Chain", "Entry", "Pipeline"]

_ENCODING = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}", re.ASCII)


class Entry:
    """A registration with everything resolved that an operation asks."""

    __slots__ = (
        "encoding",
        "grain",
        "guard",
        "matches",
        "middleware",
        "order",
        "owning",
        "presenter",
        "reader",
        "reads",
        "registration",
        "seekable",
        "writer",
        "writes",
    )

    def __init__(self, registration: Registration, number: int) -> None:
        layer = registration.middleware
        self.registration = registration
        self.middleware: Middleware = layer
        self.matches = registration.scope.matches
        self.order = (layer.stage, registration.priority, number)
        direction = layer.direction
        if registration.direction is not None:
            direction &= registration.direction
        if not direction:
            raise InvalidConfigError(f"{layer.name}: the direction override leaves nothing")
        self.writes = Direction.WRITE in direction
        self.reads = Direction.READ in direction
        self.encoding: str | None = getattr(layer, "encoding", None)
        self.seekable: SeekableTransform | None = None
        self.grain: int = getattr(layer, "grain", 0)
        if self.encoding is not None:
            if not isinstance(layer, Transform):
                raise TypeError(f"{layer.name} has an encoding, so it needs write and read")
            if _ENCODING.fullmatch(self.encoding) is None:
                raise InvalidConfigError(f"{layer.name}: not an encoding: {self.encoding!r}")
            if layer.stage < Stage.DEDUP:
                raise InvalidConfigError(f"{layer.name}: a transform stands at DEDUP or later")
            self.seekable = layer if isinstance(layer, SeekableTransform) else None
        self.guard: Guard | None = layer if isinstance(layer, Guard) else None
        self.owning: Owning | None = layer if isinstance(layer, Owning) else None
        self.presenter: Presenter | None = layer if isinstance(layer, Presenter) else None
        if self.presenter is not None and (layer.stage != Stage.PRESENT or self.writes):
            raise InvalidConfigError(f"{layer.name}: a presenter is for reads, at PRESENT")
        if self.writes and not isinstance(layer, WriteMiddleware):
            raise TypeError(f"{layer.name} is for writes but has no write method")
        if self.reads and self.presenter is None and not isinstance(layer, ReadMiddleware):
            raise TypeError(f"{layer.name} is for reads but has no read method")
        self.writer = cast(WriteMiddleware, layer)
        self.reader = cast(ReadMiddleware, layer)


class Chain:
    """The open levels of one operation. Closing it closes every level, the top one first,
    also when nothing was pulled."""

    __slots__ = ("levels",)

    def __init__(self, *levels: Chunks) -> None:
        self.levels: list[Chunks] = list(levels)

    @property
    def top(self) -> Chunks:
        return self.levels[-1]

    def push(self, chunks: Chunks) -> Chunks:
        if chunks is not self.levels[-1]:
            self.levels.append(chunks)
        return chunks

    async def aclose(self) -> None:
        """Goes on when a level fails to close; raises the first such error at the end."""
        first: BaseException | None = None
        while self.levels:
            level = self.levels.pop()
            if type(level) is OneChunk:  # bytes in memory: nothing to close
                continue
            try:
                await level.aclose()
            except BaseException as exc:
                first = first or exc
        if first is not None:
            raise first

    async def abandon(self, error: BaseException) -> None:
        """Closes every level because of ``error``, which stays the one that is raised; only a
        cancel that comes meanwhile goes before it."""
        try:
            await self.aclose()
        except BaseException as closing:
            if isinstance(closing, asyncio.CancelledError) and not isinstance(
                error, asyncio.CancelledError
            ):
                raise
            error.add_note(f"closing the body failed too: {closing!r}")


class Pipeline:
    """The registered layers of a store and of every handle pinned from it."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._number = 0
        self.writers: list[Entry] = []
        self.observers: list[Entry] = []
        """For reads, without an encoding, in order from the user to the driver."""
        self.presenters: list[Entry] = []
        """For reads, by insertions, in order from the user to the driver."""
        self.transforms: dict[str, list[Entry]] = {}
        self.guards: list[Entry] = []
        self.owning: dict[str, Owning] = {}
        """By encoding; the layers whose objects stand for something elsewhere."""
        self.writes_transforms = False
        self.reads_plainly = True
        """Nothing but what an object records stands between it and its reader."""
        self._read_through: list[Entry] = []
        self._builtins: dict[str, Entry] = {}

    # -- registration --------------------------------------------------------------------

    def use(
        self,
        middleware: Middleware | Registration,
        *,
        scope: Scope | None = None,
        direction: Direction | None = None,
        priority: int | None = None,
    ) -> Registration:
        if isinstance(middleware, Registration):
            registration = middleware
        else:
            for name in ("name", "direction", "stage"):
                if not hasattr(middleware, name):
                    raise TypeError(f"{type(middleware).__name__} is no middleware: no {name}")
            registration = Registration(middleware)
        if scope is not None:
            registration = replace(registration, scope=scope)
        if direction is not None:
            registration = replace(registration, direction=direction)
        if priority is not None:
            registration = replace(registration, priority=priority)
        self._number += 1
        entry = Entry(registration, self._number)
        self._entries = sorted([*self._entries, entry], key=lambda e: e.order)
        self._resolve()
        return registration

    def remove(self, name: str, *, scope: Scope | None = None) -> int:
        kept = [
            entry
            for entry in self._entries
            if entry.middleware.name != name
            or (scope is not None and entry.registration.scope != scope)
        ]
        removed = len(self._entries) - len(kept)
        self._entries = kept
        self._resolve()
        return removed

    def registrations(self) -> list[Registration]:
        return [entry.registration for entry in self._entries]

    def _resolve(self) -> None:
        """New lists each time, so that an operation under way keeps the ones it began with."""
        self.writers = [entry for entry in self._entries if entry.writes]
        readers = [e for e in self._entries if e.reads and e.encoding is None]
        self.observers = [entry for entry in readers if entry.presenter is None]
        self.presenters = [entry for entry in readers if entry.presenter is not None]
        self.guards = [entry for entry in self._entries if entry.guard is not None]
        self._read_through = [*readers, *(entry for entry in self.guards if entry not in readers)]
        self.reads_plainly = not self._read_through
        transforms: dict[str, list[Entry]] = {}
        for entry in self._entries:
            if entry.encoding is not None:
                transforms.setdefault(entry.encoding, []).append(entry)
        self.transforms = transforms
        self.owning = {e.encoding or "": e.owning for e in self._entries if e.owning is not None}
        self.writes_transforms = any(entry.encoding is not None for entry in self.writers)

    # -- writes --------------------------------------------------------------------------

    def admit_raw(self, context: Context) -> None:
        """Raises PolicyError where stored bytes may not be put as they are."""
        for entry in self.guards:
            if entry.guard is not None and entry.matches(context):
                entry.guard.admit_raw(context)

    def for_write(self, context: Context) -> list[Entry]:
        return [entry for entry in self.writers if entry.matches(context)]

    async def write(
        self,
        chain: Chain,
        entries: Iterable[Entry],
        context: Context,
        digests: list[Digest],
        expected: tuple[str, str] | None,
        *,
        transform: bool = True,
    ) -> Chunks:
        """Puts the layers onto ``chain``. When this returns every decision is made: the
        encodings in ``context.applied`` are complete. No ``digests``: the body is counted and
        checked already."""
        chunks = chain.top
        tapped = not digests
        for entry in entries:
            if entry.encoding is not None and not transform:
                continue
            if not tapped and entry.order[0] > Stage.OBSERVE:
                chunks = chain.push(self._tap(chunks, context, digests, expected))
                tapped = True
            before = context.stored_size
            written = await entry.writer.write(chunks, context)
            if written is not chunks:
                # Who had to look first gives the same bytes in another iterator.
                if entry.encoding is not None and not getattr(written, "is_same_bytes", False):
                    context.applied.append(entry.encoding)
                    if context.stored_size == before:
                        context.stored_size = None  # the layer did not say
                chunks = chain.push(written)
        if not tapped:
            chunks = chain.push(self._tap(chunks, context, digests, expected))
        return chunks

    def _tap(
        self,
        chunks: AsyncIterator[object],
        context: Context,
        digests: list[Digest],
        expected: tuple[str, str] | None,
    ) -> Chunks:
        return Tap(cast(Chunks, chunks), digests, size=context.size, expected=expected)

    # -- reads ---------------------------------------------------------------------------

    def for_encodings(self, encodings: Sequence[str], context: Context) -> list[Entry]:
        """The transforms of a record in write order; one whose scope matches is preferred
        among several with the same encoding, and an encoding that is recorded twice is undone
        by two of them, in their order."""
        found: list[Entry] = []
        for encoding in encodings:
            known = self.transforms.get(encoding) or self._built_in(encoding)
            if not known:
                raise UnknownEncodingError(
                    f"the object is encoded with {encoding!r}, which is not registered here"
                )
            choice = known
            if len(known) > 1:
                choice = [e for e in known if e.matches(context)] or known
                choice = [e for e in choice if e not in found] or choice
            found.append(choice[0])
        return found

    def _built_in(self, encoding: str) -> list[Entry]:
        """Our own formats are read by every store, with or without a layer that writes them."""
        entry = self._builtins.get(encoding)
        if entry is None:
            layer = builtin(encoding)
            if layer is None:
                return []
            entry = self._builtins[encoding] = Entry(Registration(layer), 0)
        return [entry]

    def admit(self, context: Context, encodings: Sequence[str]) -> None:
        """Raises DowngradeError where an object with these encodings may not be read."""
        for entry in self.guards:
            if entry.guard is not None and entry.matches(context):
                entry.guard.admit(context, encodings)

    def presenting(self, context: Context) -> list[Entry]:
        return [entry for entry in self.presenters if entry.matches(context)]

    def expected_transforms(self, context: Context) -> list[Entry]:
        """Those a write would apply now: a guess at what the object records."""
        if not self.writes_transforms:
            return []
        return [e for e in self.writers if e.encoding is not None and e.matches(context)]

    def observing(self, context: Context) -> list[Entry]:
        return [entry for entry in self.observers if entry.matches(context)]

    def is_watched(self, context: Context, *, present: bool) -> bool:
        """Whether any layer without an encoding, or any guard, has to do with this read."""
        return any(
            entry.matches(context)
            for entry in self._read_through
            if present or entry.presenter is None
        )

    async def read(
        self,
        chain: Chain,
        transforms: Sequence[Entry],
        observers: Sequence[Entry],
        context: Context,
    ) -> Chunks:
        """Opens the layers from the driver towards the user."""
        chunks = chain.top
        for entry in reversed(merged(transforms, observers)):
            chunks = chain.push(await entry.reader.read(chunks, context))
        return chunks


def merged(transforms: Sequence[Entry], observers: Sequence[Entry]) -> list[Entry]:
    """From the user to the driver: transforms as recorded, each observer by its own order."""
    waiting = list(observers)
    result: list[Entry] = []
    for transform in transforms:
        while waiting and waiting[0].order < transform.order:
            result.append(waiting.pop(0))
        result.append(transform)
    return result + waiting
