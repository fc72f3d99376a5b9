"""Unfinished uploads: one private folder each, with one file per part.

A part is named ``<number>-<etag>-<size>``, so that a part and what is known of it appear by
one rename. All of it runs in workers.
"""

from __future__ import annotations

import os
import re
import secrets
import time
import zlib
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

from trove_async.driver import PutOptions
from trove_async.driver.records import unseal
from trove_async.drivers.local.copying import PIECE, append_file
from trove_async.drivers.local.ground import Ground
from trove_async.drivers.local.locks import UPLOADS
from trove_async.drivers.local.meta import Record, moment
from trove_async.drivers.local.names import STRIPES, Target, bucket_path
from trove_async.drivers.local.room import DIRECTORY, clear
from trove_async.drivers.local.writer import Staged, check_now, new_etag, publish
from trove_async.errors import (
    CorruptMetadataError,
    InvalidPartError,
    ObjectNotFoundError,
    UploadNotFoundError,
)
from trove_async.model import PartInfo, UploadInfo

__all__ = ["Assembly", "Uploads"]

_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_PART: Final = re.compile(rb"([0-9]{1,5})-([0-9a-f]{24,40})-([0-9]{1,20})")
_HOME: Final = b"multipart"
_META: Final = b"meta"


class Uploads:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def initiate(self, target: Target, options: PutOptions) -> str:
        """Made whole in our room, then given its name."""
        ground, fs = self._ground, self._ground.fs
        ground.check_bucket(target.path.partition(b"/")[0])
        upload_id = secrets.token_hex(16)
        draft = ground.room.new_name()
        record = Record(
            0,
            time.time_ns(),
            upload_id,
            options.content_type,
            dict(options.metadata),
            options.tags,
            options.storage_class,
        )
        fs.mkdir(draft, 0o700, ground.room.fd)
        try:
            fd = fs.open(draft, DIRECTORY, at=ground.room.fd)
            try:
                meta = Staged(ground)
                try:
                    meta.write([record.encode(target.bucket, target.key)])
                    if ground.durable:
                        fs.fsync(meta.fd)
                    meta.rename_to(_META, fd)
                finally:
                    meta.end()
                if ground.durable:
                    fs.fsync(fd)
            finally:
                fs.close(fd)
            with self._home() as home:
                fs.rename(draft, ground.room.fd, upload_id.encode(), home)
                if ground.durable:
                    fs.fsync(home)
        except BaseException:
            with suppress(OSError):
                clear(fs, draft, ground.room.fd)
            raise
        return upload_id

    @contextmanager
    def _home(self) -> Generator[int, None, None]:
        fd = self._ground.fs.open(_HOME, DIRECTORY, at=self._ground.state)
        try:
            yield fd
        finally:
            self._ground.fs.close(fd)

    @contextmanager
    def opened(self, target: Target, upload_id: str) -> Generator[int, None, None]:
        """The folder of an upload of just this key; UploadNotFoundError."""
        ground = self._ground
        ground.check_bucket(target.path.partition(b"/")[0])
        missing = UploadNotFoundError("no such upload", bucket=target.bucket, key=target.key)
        if not isinstance(upload_id, str) or _ID.fullmatch(upload_id) is None:
            raise missing
        try:
            fd = ground.fs.open_beneath(
                ground.state, _HOME + b"/" + upload_id.encode(), os.O_RDONLY | os.O_DIRECTORY
            )
        except FileNotFoundError:
            raise missing from None
        try:
            fields = self._meta(upload_id)
            if fields is None or (fields.get("b"), fields.get("o")) != (target.bucket, target.key):
                raise missing
            yield fd
        finally:
            ground.fs.close(fd)

    def _meta(self, upload_id: str) -> dict[str, Any] | None:
        raw = self._ground.read_state(_HOME + b"/" + upload_id.encode() + b"/" + _META)
        return None if raw is None else unseal(raw)

    def _stripe(self, upload_id: str) -> int:
        return UPLOADS + zlib.crc32(upload_id.encode()) % STRIPES

    def check(self, target: Target, upload_id: str) -> None:
        with self.opened(target, upload_id):
            pass

    def add_part(self, target: Target, upload_id: str, number: int, staged: Staged) -> PartInfo:
        ground, fs = self._ground, self._ground.fs
        part = PartInfo(number, new_etag(), staged.size)
        name = f"{number}-{part.etag}-{part.size}".encode("ascii")
        if ground.durable:
            fs.fsync(staged.fd)
        with (
            ground.locks.hold(self._stripe(upload_id)),
            self.opened(target, upload_id) as folder,
        ):
            old = [n for n in self._names(folder) if n.startswith(b"%d-" % number)]
            try:
                staged.rename_to(name, folder)
            except FileNotFoundError:
                raise UploadNotFoundError("the upload was ended") from None
            if ground.durable:
                fs.fsync(folder)  # before the earlier one goes: of two the later counts
            for earlier in old:
                with suppress(FileNotFoundError):
                    fs.unlink(earlier, folder)
        return part

    def _names(self, folder: int) -> list[bytes]:
        names = (os.fsencode(entry.name) for entry in self._ground.fs.scandir(folder))
        return [name for name in names if _PART.fullmatch(name)]

    def parts(self, target: Target, upload_id: str) -> list[PartInfo]:
        with self.opened(target, upload_id) as folder:
            return [part for part, _ in self._parts(folder)]

    def _parts(self, folder: int) -> list[tuple[PartInfo, bytes]]:
        """By number; of two files of one number, left by a kill, the later counts."""
        fs = self._ground.fs
        newest: dict[int, tuple[int, PartInfo, bytes]] = {}
        for name in self._names(folder):
            found = _PART.fullmatch(name)
            assert found is not None
            part = PartInfo(int(found[1]), found[2].decode(), int(found[3]))
            try:
                status = fs.stat(name, folder)
            except FileNotFoundError:
                continue  # sent again meanwhile
            if status.st_size != part.size:
                raise CorruptMetadataError(f"part {part.number} has not the size it had")
            held = newest.get(part.number)
            if held is None or held[0] < status.st_mtime_ns:
                newest[part.number] = (status.st_mtime_ns, part, name)
        return [(part, name) for _, (_, part, name) in sorted(newest.items())]

    def abort(self, target: Target, upload_id: str) -> None:
        with (
            self._ground.locks.hold(self._stripe(upload_id)),
            self.opened(target, upload_id),
        ):
            self._take_away(upload_id)

    def _take_away(self, upload_id: str) -> None:
        """It is gone at once; its bytes follow, at the latest by the next sweep."""
        ground, fs = self._ground, self._ground.fs
        name = ground.room.new_name()
        with self._home() as home:
            try:
                fs.rename(upload_id.encode(), home, name, ground.room.fd)
            except FileNotFoundError:
                return
            try:
                if ground.durable:
                    fs.fsync(home)
            finally:
                with suppress(OSError):
                    clear(fs, name, ground.room.fd)

    def listed(self, bucket: str, prefix: str) -> list[UploadInfo]:
        self._ground.check_bucket(bucket_path(bucket))
        found = [
            UploadInfo(upload_id, str(fields["o"]), moment(int(fields["t"])))
            for upload_id, fields in self._all()
            if fields.get("b") == bucket and str(fields["o"]).startswith(prefix)
        ]
        return sorted(found, key=lambda upload: (upload.key, upload.started_at))

    def _all(self) -> list[tuple[str, dict[str, Any]]]:
        with self._home() as home:
            names = [entry.name for entry in self._ground.fs.scandir(home)]
        found = []
        for name in names:
            if _ID.fullmatch(name) is not None:
                with suppress(CorruptMetadataError):
                    fields = self._meta(name)
                    if fields is not None:
                        found.append((name, fields))
        return found

    def drop_bucket(self, bucket: str) -> None:
        for upload_id, fields in self._all():
            if fields.get("b") == bucket:
                with self._ground.locks.hold(self._stripe(upload_id)):
                    self._take_away(upload_id)

    def sweep(self) -> None:
        """Removes uploads that got no part for longer than the configured time."""
        ground, fs = self._ground, self._ground.fs
        limit = time.time_ns() - int(ground.config.multipart_ttl.total_seconds() * 1e9)
        with self._home() as home:
            names = [entry.name for entry in fs.scandir(home)]
            for name in names:
                try:
                    is_stale = fs.stat(name.encode(), home).st_mtime_ns < limit
                except FileNotFoundError:
                    continue
                if is_stale and _ID.fullmatch(name) is not None:
                    with ground.locks.hold(self._stripe(name)):
                        self._take_away(name)

    def publish(
        self, target: Target, upload_id: str, assembly: Assembly, options: PutOptions
    ) -> Record:
        """The end of `complete`: the object, then no upload any more."""
        ground = self._ground
        assert assembly.staged is not None
        with ground.locks.hold(self._stripe(upload_id)):
            with self.opened(target, upload_id):
                record = publish(
                    assembly.staged,
                    target,
                    assembly.record,
                    options.if_match,
                    options.if_none_match,
                )
            with suppress(OSError):  # the object stands; the upload goes with the sweep
                self._take_away(upload_id)
        return record


class Assembly:
    """The parts of one upload on their way into one staged file; the parts stay usable."""

    def __init__(
        self,
        ground: Ground,
        uploads: Uploads,
        target: Target,
        upload_id: str,
        parts: Sequence[PartInfo],
    ) -> None:
        self._ground = ground
        self._uploads = uploads
        self._target = target
        self._upload_id = upload_id
        self._parts = parts
        self._left: list[tuple[bytes, int]] = []
        self.staged: Staged | None = None
        self.record = Record(0, 0, "", "", {})

    def begin(self, options: PutOptions) -> bool:
        """Checks everything that can be checked, then copies a first piece."""
        target = self._target
        with self._uploads.opened(target, self._upload_id) as folder:
            held = {part.number: (part, name) for part, name in self._uploads._parts(folder)}
        for part in self._parts:
            kept, name = held.get(part.number, (None, b""))
            if kept is None or kept.etag != part.etag:
                raise InvalidPartError(
                    f"part {part.number} is not there", bucket=target.bucket, key=target.key
                )
            self._left.append((name, kept.size))
        if options.if_match is not None or options.if_none_match is not None:
            with suppress(ObjectNotFoundError):
                check_now(self._ground, target, options.if_match, options.if_none_match)
        fields = self._uploads._meta(self._upload_id)
        if fields is None:
            raise UploadNotFoundError("the upload was ended")
        metadata: dict[str, str] = {**fields["m"], **options.metadata}
        self.record = Record(
            0, 0, new_etag(), str(fields["c"]), metadata, fields.get("g"), fields.get("k")
        )
        self.staged = Staged(self._ground)
        return self.more()

    def more(self) -> bool:
        """Appends about one piece; whether all parts are in."""
        assert self.staged is not None
        room = PIECE
        fs = self._ground.fs
        while self._left and room > 0:
            name, size = self._left[0]
            path = _HOME + b"/" + self._upload_id.encode() + b"/" + name
            try:
                fd = fs.open_beneath(self._ground.state, path, os.O_RDONLY)
            except FileNotFoundError:
                raise InvalidPartError("a part was replaced while it was put in") from None
            try:
                done = self._within
                count = min(room, size - done)
                append_file(self.staged, fd, done, count)
            finally:
                fs.close(fd)
            self._within += count
            room -= max(count, 1)
            if self._within >= size:
                self._left.pop(0)
                self._within = 0
        return not self._left

    _within = 0

    def end(self) -> None:
        if self.staged is not None:
            self.staged.end()
