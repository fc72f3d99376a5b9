"""A file system that knows what a power cut would leave of it.

`CrashFS` works on real files and keeps, beside them, what has been synced: bytes, mtime and
attributes of each file, entries of each folder. `states` then builds trees that a cut at this
moment may leave. Of what was not synced

- a file may have its old or its new bytes, or as many zeros, or the first half of them, and
  its old or new attributes and mtime, each on its own;
- of the entries that were made, renamed or removed any may be lost, but for what is true of
  every file system in use: a rename is one step, a change of a name comes after earlier ones
  of that name, a folder is removed after all in it, and nothing is in a folder that is not.

A sync of a file says nothing of its entry, and that of a folder nothing of the folder's own.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trove_async.drivers.local.fs import FS, MediumKind

__all__ = ["CrashFS", "Image", "materialise", "scan"]


@dataclass(frozen=True, slots=True)
class _Content:
    data: bytes
    attributes: tuple[tuple[str, bytes], ...]
    mtime: int


_EMPTY: Final = _Content(b"", (), 0)

Image = dict[bytes, _Content | None]
"""Path below the root -> what the file holds; None for a folder, which comes before what is
in it."""


class _Node:
    """A file, with what it holds and what of that is safe; or a folder, with its entries."""

    __slots__ = ("durable", "entries", "is_folder", "now", "synced")

    def __init__(self, is_folder: bool) -> None:
        self.is_folder = is_folder
        self.entries: dict[bytes, _Node] = {}
        self.durable: dict[bytes, _Node] = {}
        self.now = self.synced = _EMPTY


_Change = tuple[_Node, bytes, _Node | None]


class _Step:
    """Entries that change together, and the steps that must come before."""

    __slots__ = ("changes", "needs")

    def __init__(self, changes: Sequence[_Change], before: Sequence[_Step]) -> None:
        self.changes = changes
        names = {(folder, name) for folder, name, _ in changes}
        folders = {folder for folder, _, _ in changes}
        removed = {folder.entries.get(name) for folder, name, child in changes if child is None}
        self.needs = [
            step
            for step in before
            if any(
                (folder, name) in names or folder in removed or child in folders
                for folder, name, child in step.changes
            )
        ]


class CrashFS(FS):
    """``on_change`` is called after every change, with the file system standing still."""

    def __init__(self, root: Path, medium: MediumKind | None = None, *, seed: int = 0) -> None:
        """All that is below ``root`` now is safe."""
        self._path = os.fsencode(root)
        self._medium = medium
        self._guard = threading.RLock()
        self._root = _Node(is_folder=True)
        self._open: dict[int, _Node] = {}
        self._pending: list[_Step] = []
        self._random = random.Random(seed)
        self.on_change: Callable[[], None] | None = None
        for path, content in scan(root).items():
            folder, leaf = self._find(None, path)
            node = folder.entries[leaf] = folder.durable[leaf] = _Node(content is None)
            node.now = node.synced = content or _EMPTY

    def medium(self, device: int) -> MediumKind:
        return self._medium if self._medium is not None else super().medium(device)

    # -- the model -------------------------------------------------------------------------

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _base(self, at: int | None) -> _Node:
        return self._root if at is None else self._open[at]

    def _find(self, at: int | None, path: bytes) -> tuple[_Node, bytes]:
        """The folder and the name in it that a path means."""
        node = self._base(at)
        *folders, leaf = path.split(b"/")
        for name in folders:
            node = node.entries[name]
        return node, leaf

    def _node(self, at: int | None, path: bytes) -> _Node:
        if at is None or path == b".":
            return self._base(at)
        folder, leaf = self._find(at, path)
        return folder.entries[leaf]

    def _step(self, *changes: _Change) -> None:
        self._pending.append(_Step(changes, self._pending))
        for folder, name, child in changes:
            if child is None:
                folder.entries.pop(name)
            else:
                folder.entries[name] = child

    def _settle(self, step: _Step) -> None:
        for folder, name, child in step.changes:
            if child is None:
                folder.durable.pop(name, None)
            else:
                folder.durable[name] = child

    def _look(self, fd: int) -> None:
        """Takes down what a file holds now."""
        readable = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(readable)
            self._open[fd].now = _Content(
                os.pread(readable, status.st_size, 0) if status.st_size else b"",
                tuple((n, os.getxattr(readable, n)) for n in sorted(os.listxattr(readable))),
                status.st_mtime_ns,
            )
        finally:
            os.close(readable)
        self._changed()

    # -- calls -----------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int = 0o600, *, at: int | None = None) -> int:
        with self._guard:
            fd = super().open(path, flags, mode, at=at)
            if at is None and path != self._path:
                return fd
            if at is not None and flags & os.O_CREAT:
                folder, leaf = self._find(at, path)
                if leaf not in folder.entries:
                    self._step((folder, leaf, _Node(is_folder=False)))
                    self._changed()
            self._open[fd] = self._node(at, path)
            return fd

    def open_beneath(self, at: int, path: bytes, flags: int, *, cached: bool = False) -> int:
        with self._guard:
            fd = super().open_beneath(at, path, flags, cached=cached)
            self._open[fd] = self._node(at, path)
            return fd

    def close(self, fd: int) -> None:
        with self._guard:
            self._open.pop(fd, None)
            super().close(fd)

    def writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        with self._guard:
            count = super().writev(fd, buffers)
            self._look(fd)
            return count

    def copy_file_range(self, source: int, target: int, size: int, offset: int) -> int:
        with self._guard:
            count = super().copy_file_range(source, target, size, offset)
            self._look(target)
            return count

    def utime(self, fd: int, nanoseconds: int) -> None:
        with self._guard:
            super().utime(fd, nanoseconds)
            self._look(fd)

    def setxattr(self, fd: int, name: str, value: bytes) -> None:
        with self._guard:
            super().setxattr(fd, name, value)
            self._look(fd)

    def removexattr(self, fd: int, name: str) -> None:
        with self._guard:
            super().removexattr(fd, name)
            self._look(fd)

    def fsync(self, fd: int) -> None:
        with self._guard:
            super().fsync(fd)
            node = self._open[fd]
            if not node.is_folder:
                node.synced = node.now
            else:
                self._sync_folder(node)
            self._changed()

    def _sync_folder(self, node: _Node) -> None:
        due = [s for s in self._pending if any(folder is node for folder, _, _ in s.changes)]
        forced: set[_Step] = set()
        while due:
            step = due.pop()
            if step in forced:
                continue
            forced.add(step)
            held = {(folder, name) for folder, name, _ in step.changes}
            gone = [f.durable.get(n) for f, n, child in step.changes if child is None]
            due += [
                need
                for need in step.needs
                if any((f, n) in held or f in gone for f, n, _ in need.changes)
            ]  # but not what made the folder itself: that is its parent's to keep
        for step in self._pending:
            if step in forced:
                self._settle(step)
        self._pending = [step for step in self._pending if step not in forced]
        for step in self._pending:
            step.needs = [need for need in step.needs if need not in forced]

    def rename(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        with self._guard:
            super().rename(source, source_at, target, target_at)
            self._renamed(source, source_at, target, target_at)

    def rename_new(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        with self._guard:
            super().rename_new(source, source_at, target, target_at)
            self._renamed(source, source_at, target, target_at)

    def _renamed(self, source: bytes, source_at: int, target: bytes, target_at: int) -> None:
        origin, name = self._find(source_at, source)
        goal, leaf = self._find(target_at, target)
        self._step((origin, name, None), (goal, leaf, origin.entries[name]))
        self._changed()

    def unlink(self, path: bytes, at: int) -> None:
        with self._guard:
            super().unlink(path, at)
            self._gone(at, path)

    def rmdir(self, path: bytes, at: int) -> None:
        with self._guard:
            super().rmdir(path, at)
            self._gone(at, path)

    def _gone(self, at: int, path: bytes) -> None:
        folder, leaf = self._find(at, path)
        self._step((folder, leaf, None))
        self._changed()

    def mkdir(self, path: bytes, mode: int, at: int | None = None) -> None:
        with self._guard:
            super().mkdir(path, mode, at)
            if at is not None:
                folder, leaf = self._find(at, path)
                self._step((folder, leaf, _Node(is_folder=True)))
                self._changed()

    # -- what a cut may leave --------------------------------------------------------------

    def states(self, most: int) -> Iterator[Image]:
        """At most so many trees that a cut at this moment may leave: first that where nothing
        unsynced is left and that where everything is, then some chosen by lot."""
        with self._guard:
            yield self._image(frozenset(), lambda node: node.synced)
            yield self._image(frozenset(self._pending), lambda node: node.now)
            for _ in range(most - 2):
                yield self._image(self._some(), self._any_content)

    def _some(self) -> frozenset[_Step]:
        chance = self._random.choice((0.2, 0.5, 0.8, 1.0))
        kept: set[_Step] = set()
        for step in self._pending:
            if all(need in kept for need in step.needs) and self._random.random() < chance:
                kept.add(step)
        return frozenset(kept)

    def _any_content(self, node: _Node) -> _Content:
        old, new = node.synced, node.now
        if old is new:
            return new
        pick = self._random.choice
        datas = [old.data, new.data]
        if old.data != new.data:
            datas += [bytes(len(new.data)), new.data[: len(new.data) // 2]]
        return _Content(
            pick(datas),
            pick((old.attributes, new.attributes)),
            pick((old.mtime, new.mtime)),
        )

    def _image(self, kept: frozenset[_Step], content: Callable[[_Node], _Content]) -> Image:
        changed: dict[_Node, dict[bytes, _Node | None]] = {}
        for step in self._pending:
            if step in kept:
                for folder, name, child in step.changes:
                    changed.setdefault(folder, {})[name] = child
        image: Image = {}
        self._add(self._root, b"", changed, content, image)
        return image

    def _add(
        self,
        folder: _Node,
        path: bytes,
        changed: dict[_Node, dict[bytes, _Node | None]],
        content: Callable[[_Node], _Content],
        image: Image,
    ) -> None:
        entries: dict[bytes, _Node | None] = {**folder.durable, **changed.get(folder, {})}
        for name, node in sorted(entries.items()):
            if node is None:
                continue
            if node.is_folder:
                image[path + name] = None
                self._add(node, path + name + b"/", changed, content, image)
            else:
                image[path + name] = content(node)


def materialise(image: Image, root: Path) -> None:
    """Makes the tree below ``root``, which must not be there."""
    base = os.fsencode(root)
    os.mkdir(base, 0o700)
    for name, content in image.items():
        path = base + b"/" + name
        if content is None:
            os.mkdir(path, 0o755)
            continue
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            if content.data:
                os.write(fd, content.data)
            for attribute, value in content.attributes:
                os.setxattr(fd, attribute, value)
            os.utime(fd, ns=(content.mtime, content.mtime))
        finally:
            os.close(fd)


def scan(root: Path) -> Image:
    """The image of a tree of plain files, to be made again by `materialise`."""
    base = os.fsencode(root)
    image: Image = {}
    for path, folders, files in os.walk(base):
        below = path[len(base) + 1 :]
        prefix = below + b"/" if below else b""
        image.update((prefix + name, None) for name in folders)
        for name in files:
            held = os.path.join(path, name)
            with open(held, "rb") as file:
                image[prefix + name] = _Content(
                    file.read(),
                    tuple((n, os.getxattr(held, n)) for n in sorted(os.listxattr(held))),
                    os.stat(held).st_mtime_ns,
                )
    return image
