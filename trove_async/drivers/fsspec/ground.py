"""The file system below a driver: names, records, and the step that publishes.

Everything here blocks; a worker thread runs it, or the loop itself where the file system is this
process's memory. Private state is in ``<root>/.trove``.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import BinaryIO, Final, cast

from trove_async.driver.conditions import check_write
from trove_async.driver.paths import PathTarget, is_bucket
from trove_async.drivers.fsspec.identity import Identity, Record, foreign_info, identity_of
from trove_async.drivers.fsspec.sdk import (
    AbstractFileSystem,
    LocalFileSystem,
    MemoryFileSystem,
)
from trove_async.errors import (
    BucketExistsError,
    BucketNotEmptyError,
    BucketNotFoundError,
    KeyConflictError,
    ObjectChangedError,
    ObjectNotFoundError,
)
from trove_async.model import ObjectInfo

__all__ = ["Found", "Ground", "Names"]

_TRIES: Final = 5
_PIECE: Final = 1 << 20
_MARK: Final = b"a bucket\n"
Names = Iterator[tuple[str, Mapping[str, object]]]


class Found:
    """A file as it was at one moment."""

    __slots__ = ("identity", "info", "record")

    def __init__(self, key: str, identity: Identity, record: Record | None) -> None:
        self.identity = identity
        self.record = record
        self.info: ObjectInfo = (
            foreign_info(key, identity) if record is None else record.info(key, identity)
        )


class Ground:
    def __init__(self, fs: AbstractFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root.rstrip("/")
        self.in_memory = isinstance(fs, MemoryFileSystem)
        self.is_local = isinstance(fs, LocalFileSystem)
        self._lock = threading.RLock()
        """Of what changes names; bodies are never written under it."""
        self._made: set[str] = set()

    # -- names -----------------------------------------------------------------------------

    def path(self, target: PathTarget) -> str:
        return f"{self.root}/{target.path.decode()}"

    def bucket_path(self, bucket: str) -> str:
        return f"{self.root}/{bucket}"

    def _private(self, kind: str, name: str) -> str:
        folder = f"{self.root}/.trove/{kind}"
        return f"{folder}/{name}"

    def new_name(self) -> str:
        """For a file that nobody sees yet."""
        folder = f"{self.root}/.trove/tmp"
        self._make(folder)
        return f"{folder}/{uuid.uuid4().hex}"

    def _make(self, folder: str) -> None:
        if folder not in self._made:
            self.fs.makedirs(folder, exist_ok=True)
            self._made.add(folder)

    def record_path(self, target: PathTarget, identity: Identity) -> str:
        digest = hashlib.blake2b(target.path, digest_size=20).hexdigest()
        return self._private("meta", f"{digest[:2]}/{digest[2:]}~{identity.name}")

    # -- looking ---------------------------------------------------------------------------

    def stat(self, path: str) -> Mapping[str, object] | None:
        """What is there, links not followed; None: nothing, or what is no file or folder."""
        fs = self.fs
        if self.in_memory:  # its own `info` looks at every file there is
            stored = fs.store.get(path)
            if stored is not None:
                return {"type": "file", "size": stored.size, "created": stored.created}
            return {"type": "directory"} if path in fs.pseudo_dirs else None
        if len(getattr(fs, "dircache", ())):
            fs.invalidate_cache()
        try:
            found = cast("Mapping[str, object]", fs.info(path))
        except (FileNotFoundError, NotADirectoryError):
            return None
        if found.get("islink") or found.get("type") not in ("file", "directory"):
            return None
        return found

    def identity(self, path: str) -> Identity | None:
        found = self.stat(path)
        return identity_of(found) if found is not None and found["type"] == "file" else None

    def names(self, folder: str) -> Names:
        """(name, what is known of it) of the files and folders directly in one."""
        fs = self.fs
        if len(getattr(fs, "dircache", ())):
            fs.invalidate_cache()
        try:
            entries = fs.ls(folder, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            name = str(entry["name"]).rstrip("/").rpartition("/")[2]
            if entry.get("islink") or entry.get("type") not in ("file", "directory"):
                continue
            with suppress(UnicodeEncodeError):  # no key can say it
                name.encode()
                yield name, entry

    def check_bucket(self, bucket: str) -> None:
        if not self.is_bucket(bucket):
            raise BucketNotFoundError("no such bucket", bucket=bucket)

    def is_bucket(self, bucket: str) -> bool:
        found = self.stat(self.bucket_path(bucket))
        if found is not None:
            return found["type"] == "directory"
        if self.in_memory:  # a folder that nobody made is one by what is in it
            return bool(self.fs.isdir(self.bucket_path(bucket)))
        return self.stat(self._private("buckets", bucket)) is not None

    def look(self, target: PathTarget) -> Found:
        """File and record that belong together; ObjectNotFoundError, BucketNotFoundError."""
        path = self.path(target)
        for _ in range(_TRIES):
            identity = self.identity(path)
            if identity is None:
                self.check_bucket(target.bucket)
                raise ObjectNotFoundError("no such object", bucket=target.bucket, key=target.key)
            try:
                data = self.fs.cat_file(self.record_path(target, identity))
            except FileNotFoundError:
                # No record goes before its file: gone by now, so the file is as well.
                if self.identity(path) == identity:
                    return Found(target.key, identity, None)
                continue
            record = Record.decode(bytes(data), target.bucket, target.key)
            return Found(target.key, identity, record)
        raise ObjectChangedError(
            "replaced again and again while it was read", bucket=target.bucket, key=target.key
        )

    def open(self, target: PathTarget) -> tuple[Found, BinaryIO]:
        """With its file open. On local disk and in memory that file stays the one it was."""
        for _ in range(_TRIES):
            found = self.look(target)
            try:
                file = cast("BinaryIO", self.fs.open(self.path(target), "rb"))
            except FileNotFoundError:
                continue
            if self.identity(self.path(target)) == found.identity:
                return found, file
            file.close()
        raise ObjectChangedError(
            "replaced again and again while it was read", bucket=target.bucket, key=target.key
        )

    # -- publishing ------------------------------------------------------------------------

    def check_place(self, target: PathTarget) -> None:
        """Before any byte moves: the bucket is there, and no file stands in the way."""
        self.check_bucket(target.bucket)
        where = f"{self.root}/{target.bucket}"
        for part in target.key.split("/")[:-1]:
            where = f"{where}/{part}"
            found = self.stat(where)
            if found is None:
                break
            if found["type"] == "file":
                raise KeyConflictError(
                    "a part of the key is the name of an object",
                    bucket=target.bucket,
                    key=target.key,
                )
        found = self.stat(self.path(target))
        if found is not None and found["type"] == "directory" and not self._prune(target):
            raise KeyConflictError(
                "keys below have this one for a folder", bucket=target.bucket, key=target.key
            )

    def _prune(self, target: PathTarget) -> bool:
        """Takes away a folder in which there is no file."""
        path = self.path(target)
        if self.holds_file(path):
            return False
        self._remove_folders(path)
        return self.stat(path) is None

    def publish(
        self,
        staged: str,
        target: PathTarget,
        record: Record,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo:
        """One rename, with the record in place before it where the file system's rename keeps
        what identifies the file, as on local disk. Else the record follows at once."""
        path = self.path(target)
        with self._lock:
            self.check_place(target)
            before = self.identity(path)
            if if_match is not None or if_none_match is not None:
                check_write(if_match, if_none_match, None if before is None else before.etag)
            if self.is_local:
                _stamp(staged, path)
            expected = self.identity(staged)
            assert expected is not None
            early = self.record_path(target, expected)
            data = record.encode(target.bucket, target.key)
            if not self.in_memory:
                self._write_record(early, data)
            try:
                self._move(staged, path)
            except BaseException:
                self.forget(early)
                raise
            now = self.identity(path) or expected
            late = self.record_path(target, now)
            if self.in_memory or late != early:
                self._write_record(late, data)
                self.forget(early)
            if before is not None and before != now:
                self.forget(self.record_path(target, before))
        return record.info(target.key, now)

    def put_file(self, local: str, target: PathTarget, record: Record) -> ObjectInfo:
        """For object stores, whose put is seen whole or not at all; the record follows it."""
        path = self.path(target)
        before = self.identity(path)
        self.fs.put_file(local, path)
        now = self.identity(path)
        if now is None:
            raise ObjectChangedError("deleted by another while it was put")
        self._write_record(self.record_path(target, now), record.encode(target.bucket, target.key))
        if before is not None and before != now:
            self.forget(self.record_path(target, before))
        return record.info(target.key, now)

    def _write_record(self, path: str, data: bytes) -> None:
        """Seen whole or not at all where that can be: a record is only looked for once its file
        is there."""
        self._make(path.rpartition("/")[0])
        self.fs.pipe_file(path, data)

    def _move(self, source: str, path: str) -> None:
        folder = path.rpartition("/")[0]
        for attempt in range(_TRIES):
            self.fs.makedirs(folder, exist_ok=True)
            try:
                if self.is_local:
                    os.replace(source, path)
                else:
                    self._rename(source, path)
                return
            except FileNotFoundError:  # a delete beside took the empty folder
                if attempt == _TRIES - 1 or self.stat(source) is None:
                    raise

    def _rename(self, source: str, path: str) -> None:
        """Never by `mv` of the base class, which takes names for patterns."""
        fs = self.fs
        rename = getattr(fs, "mv_file", None)
        if rename is None and type(fs).mv is not AbstractFileSystem.mv and not fs.async_impl:
            rename = fs.mv
        if rename is not None:
            rename(source, path)
            return
        fs.cp_file(source, path)
        fs.rm_file(source)

    def forget(self, path: str) -> None:
        """A private file that nobody needs."""
        with suppress(OSError, NotImplementedError):
            self.fs.rm_file(path)

    # -- the rest --------------------------------------------------------------------------

    def stage_copy(self, source: PathTarget, expected: str | None) -> tuple[str, Found]:
        """A file of its own with the bytes of ``source``, and what that was."""
        for _ in range(_TRIES):
            found = self.look(source)
            if expected is not None and found.info.etag != expected:
                break
            staged = self.new_name()
            try:
                self._copy(self.path(source), staged)
                if self.identity(self.path(source)) == found.identity:
                    return staged, found
            except FileNotFoundError:
                pass  # gone meanwhile: `look` says so
            except BaseException:
                self.forget(staged)
                raise
            self.forget(staged)
        raise ObjectChangedError("the source changed", bucket=source.bucket, key=source.key)

    def _copy(self, source: str, staged: str) -> None:
        try:
            self.fs.cp_file(source, staged)
        except NotImplementedError:
            with self.fs.open(source, "rb") as reader, self.fs.open(staged, "wb") as writer:
                while piece := reader.read(_PIECE):
                    writer.write(piece)

    def delete(self, target: PathTarget, if_match: str | None) -> None:
        path = self.path(target)
        with self._lock:
            before = self.identity(path)
            if if_match is not None:
                self.check_bucket(target.bucket)
                check_write(if_match, None, None if before is None else before.etag)
            if before is None:
                self.check_bucket(target.bucket)
                return
            with suppress(FileNotFoundError):
                self.fs.rm_file(path)
            self.forget(self.record_path(target, before))
            # In memory a look into a folder looks at every file there is; empty ones do no harm.
            folders = [] if self.in_memory else target.key.split("/")[:-1]
            while folders:
                try:
                    self.fs.rmdir(f"{self.root}/{target.bucket}/{'/'.join(folders)}")
                except (OSError, NotImplementedError):
                    break  # not empty, or not a thing of its own
                folders.pop()

    def holds_file(self, folder: str) -> bool:
        below = []
        for name, entry in self.names(folder):
            if entry["type"] == "file":
                return True
            below.append(f"{folder}/{name}")
        return any(self.holds_file(one) for one in below)

    def _remove_folders(self, folder: str) -> None:
        for name, entry in [*self.names(folder)]:
            if entry["type"] == "directory":
                self._remove_folders(f"{folder}/{name}")
        with suppress(OSError, NotImplementedError):
            self.fs.rmdir(folder)

    def create_bucket(self, name: str) -> None:
        with self._lock:
            if self.is_bucket(name):
                raise BucketExistsError("the bucket exists already", bucket=name)
            try:
                self.fs.makedirs(self.bucket_path(name), exist_ok=False)
            except FileExistsError as exc:
                raise BucketExistsError("the bucket exists already", bucket=name) from exc
            if not self.is_bucket(name):  # no folder without a file in it
                self._write_record(self._private("buckets", name), _MARK)

    def delete_bucket(self, name: str) -> None:
        with self._lock:
            self.check_bucket(name)
            if self.holds_file(self.bucket_path(name)):
                raise BucketNotEmptyError("the bucket holds objects", bucket=name)
            self._remove_folders(self.bucket_path(name))
            self.forget(self._private("buckets", name))
            if self.is_bucket(name):
                raise BucketNotEmptyError("the bucket holds more than objects", bucket=name)

    def buckets(self) -> list[str]:
        found = {name for name, entry in self.names(self.root) if entry["type"] == "directory"}
        found |= {name for name, _ in self.names(f"{self.root}/.trove/buckets")}
        return sorted(name for name in found if is_bucket(name))

    def sweep(self, age: float) -> None:
        """Staged files that a killed process left, where the file system tells their age."""
        for name, entry in [*self.names(f"{self.root}/.trove/tmp")]:
            modified = identity_of(entry).modified.timestamp()
            if 0 < modified < time.time() - age:
                self.forget(f"{self.root}/.trove/tmp/{name}")


def _stamp(staged: str, path: str) -> None:
    """A time that the file replaced does not have: the clock of a disk is coarser than puts."""
    stamp = time.time_ns()
    with suppress(OSError):
        stamp = max(stamp, os.stat(path).st_mtime_ns + 2000)  # `info` tells it as a float
    os.utime(staged, ns=(stamp, stamp))
