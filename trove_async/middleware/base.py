"""What a layer of the pipeline is.

A layer takes chunks and gives chunks. Its coroutine *decides* (it may look at the first
frame or read a key), the iterator it returns *works*. The store closes every level, so a
layer closes only what it opened itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Flag, IntEnum, auto
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from trove_async.driver.base import Bytes, Chunks
from trove_async.middleware.context import Context
from trove_async.middleware.scope import Scope, everything
from trove_async.model import ObjectRef

__all__ = [
    "Call",
    "Context",
    "Continuable",
    "Direction",
    "Edit",
    "Guard",
    "Interceptor",
    "Layout",
    "Middleware",
    "Owned",
    "Owning",
    "Presenter",
    "RangeSource",
    "ReadMiddleware",
    "Registration",
    "Relocating",
    "Sealer",
    "SeekableTransform",
    "Stage",
    "Telling",
    "Transform",
    "WriteMiddleware",
]

R = TypeVar("R")


class Direction(Flag):
    READ = auto()
    WRITE = auto()
    READ_WRITE = READ | WRITE


class Stage(IntEnum):
    """Where a layer stands between the user and the driver, whatever the order of
    registration: a scanner always sees plaintext, compression comes before encryption."""

    PRESENT = 0
    """Shapes what a reader sees; read-only, unrecorded."""
    OBSERVE = 1
    """Looks at the logical bytes and may refuse them."""
    DEDUP = 2
    COMPRESS = 3
    TRANSFORM = 4
    ENCRYPT = 5


class Middleware(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def direction(self) -> Direction: ...
    @property
    def stage(self) -> Stage: ...


@runtime_checkable
class WriteMiddleware(Middleware, Protocol):
    async def write(self, chunks: Chunks, context: Context) -> Chunks:
        """Returning ``chunks`` itself means "not applied", so nothing is recorded."""
        ...


@runtime_checkable
class ReadMiddleware(Middleware, Protocol):
    async def read(self, chunks: Chunks, context: Context) -> Chunks:
        """Opens: header and key errors come from this coroutine, not from the first chunk."""
        ...


@runtime_checkable
class Transform(WriteMiddleware, ReadMiddleware, Protocol):
    """Changes the bytes; chosen by scope on write, by the object's record on read."""

    @property
    def encoding(self) -> str:
        """Recorded with the object: ``a-z 0-9 . _ + -``."""
        ...


@runtime_checkable
class Telling(Transform, Protocol):
    """A transform that says how far it has come (`Context.covers`), so that an upload that
    stops knows how much of its source is with the backend."""

    @property
    def tells_covered(self) -> bool: ...


class RangeSource(Protocol):
    @property
    def size(self) -> int: ...

    def read(self, start: int, stop: int) -> Chunks:
        """Exactly these bytes, or raises."""
        ...


class Layout(Protocol):
    """Where things are inside one transformed object: pure state, no handle, so that it can
    be kept for the next range of the same object."""

    @property
    def size(self) -> int: ...

    def read(self, below: RangeSource, start: int, stop: int) -> Chunks: ...


@runtime_checkable
class SeekableTransform(Transform, Protocol):
    """May also have ``grain``: bytes it reads besides those that a range asks for, because it
    only knows whole frames. The first request is made larger by it where a layer above wants
    the end."""

    @property
    def head(self) -> int:
        """Bytes at the start that `layout` will want."""
        ...

    @property
    def tail(self) -> int:
        """Bytes at the end that `layout` will want."""
        ...

    async def layout(self, below: RangeSource, context: Context) -> Layout: ...


class Sealer(Protocol):
    """One message of a transform that must never give two outputs for one place."""

    @property
    def header(self) -> bytes:
        """By it the transform finds the message again; nothing in it is secret."""
        ...

    @property
    def grain(self) -> int:
        """Every part but the last has a multiple of this many inner bytes."""
        ...

    def sealed_size(self, size: int, start: int, *, is_last: bool) -> int:
        """Bytes that `seal` gives for ``size`` inner ones."""
        ...

    def seal(self, data: Bytes, start: int, *, is_last: bool) -> Chunks:
        """The stored bytes of the inner bytes from ``start`` on; the header comes first where
        ``start`` is 0. The same arguments give the same bytes; who calls takes care that one
        ``start`` is never sealed with others."""
        ...


@runtime_checkable
class Continuable(Transform, Protocol):
    """A transform whose work can go on in another process, part by part."""

    async def begin(self, context: Context) -> Sealer:
        """As `write` decides: hints and sizes of the context are set."""
        ...

    async def continued(self, header: bytes, context: Context) -> Sealer:
        """The message that `begin` made elsewhere, with this header. IntegrityError when the
        context says otherwise than the message."""
        ...


@runtime_checkable
class Guard(Middleware, Protocol):
    """A transform that says which objects may be without it, where its scope matches."""

    def admit(self, context: Context, encodings: Sequence[str]) -> None:
        """Asked on every read but raw ones; raises DowngradeError. ``encodings``: those of the
        object."""
        ...

    def admit_raw(self, context: Context) -> None:
        """Asked on every raw put and copy; raises PolicyError."""
        ...


@runtime_checkable
class Relocating(Middleware, Protocol):
    """A transform whose objects know their place: a copy by the backend needs more than the
    stored bytes."""

    async def relocated(
        self, stored: RangeSource, source: Context, target: Context
    ) -> Mapping[str, str] | None:
        """Reserved metadata to set at the new place; None: nothing. The metadata of ``source``
        is the stored map."""
        ...


@runtime_checkable
class Owning(Transform, Protocol):
    """A transform whose objects stand for something kept elsewhere, which must be there for as
    long as they are. `write` names each object it makes by a new owner, a word without ``;``
    in the hint ``owner_hint``, and hears by `Context.ends` what became of it."""

    @property
    def owner_hint(self) -> str: ...

    def shares(self, source: Context, target: Context) -> bool:
        """Whether a copy of the stored bytes may stand at ``target``; else it is streamed."""
        ...

    async def copied(self, stored: bytes, source: Context, target: Context) -> str:
        """Before the backend copies or moves an object: the owner that the copy is named by.
        ``stored``: what `write` gave for it. ``target.ends`` tells what became of the copy."""
        ...

    async def released(self, stored: bytes, owner: str, context: Context) -> None:
        """The object with this owner is there no more, nor is any version of it."""
        ...


class Owned(Protocol):
    """An object, or a version of one, that an `Owning` layer has written."""

    @property
    def encoding(self) -> str: ...
    @property
    def owner(self) -> str: ...
    @property
    def version_id(self) -> str | None: ...

    async def stored(self) -> bytes:
        """What the layer's `write` gave for it. ObjectChangedError when it was replaced."""
        ...


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes inserted before the logical byte ``offset``."""

    offset: int
    data: bytes


@runtime_checkable
class Presenter(Middleware, Protocol):
    """Shapes what readers see by insertions alone, so that sizes and ranges stay exact."""

    async def edits(self, below: RangeSource, context: Context) -> Sequence[Edit]:
        """``below``: the logical bytes. In rising order of offset; empty: shown as it is."""
        ...


@dataclass(frozen=True, slots=True)
class Registration:
    """A layer, where it applies and when. Lower ``priority`` stands nearer the user within
    its stage, then the order of registration."""

    middleware: Middleware
    scope: Scope = field(default_factory=everything)
    direction: Direction | None = None
    """Narrows the layer's own direction. A transform is always undone on reads of objects
    that record it."""
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """One operation of the store. Change it with `dataclasses.replace` and pass it on."""

    operation: str
    bucket: str
    key: str
    options: Any
    """The driver's options record of this verb, with what the user asked."""
    target: ObjectRef | None = None
    """Of copy and move."""


class Interceptor(Protocol):
    """Wraps every operation: for get until the reader is closed (`ObjectReader.on_close`),
    for list each page. Retries happen inside ``proceed``."""

    async def intercept(self, call: Call[R], proceed: Callable[[Call[R]], Awaitable[R]]) -> R: ...
