"""Uploads in parts, staged by appending: one at a time, and in rising order completing is one
rename. A part that was sent again, or out of order, makes it a copy by the server.

    <state>/multipart/<bucket>/<id>/meta                      key, type, metadata
    <state>/multipart/<bucket>/<id>/data                      the bytes so far
    <state>/multipart/<bucket>/<id>/<number>-<offset>-<size>-<ms>-<etag>    one empty file per part

A part counts once its mark is there; of two with one number that which lies behind. What lies
behind all marks is overwritten by the next part. The mark
``done-<size>-<mtime>`` says which version the upload became, for whoever asks again because the
answer was lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from trove_async.driver import Chunks, PutOptions
from trove_async.driver.paths import PathTarget, bucket_path
from trove_async.driver.records import seal, unseal
from trove_async.drivers.sftp import wire
from trove_async.drivers.sftp.channel import Answer
from trove_async.drivers.sftp.copying import transfer
from trove_async.drivers.sftp.gathering import gathered
from trove_async.drivers.sftp.ground import Ground
from trove_async.drivers.sftp.link import Link, attributes
from trove_async.drivers.sftp.pool import LARGE
from trove_async.drivers.sftp.record import Identity, Record, identity_of, moment
from trove_async.drivers.sftp.staged import Staged
from trove_async.drivers.sftp.wire import Failure, Name
from trove_async.drivers.sftp.writes import Writes
from trove_async.errors import (
    CorruptMetadataError,
    InvalidPartError,
    PreconditionFailedError,
    UploadIntegrityError,
    UploadNotFoundError,
)
from trove_async.model import ObjectInfo, PartInfo, UploadInfo

__all__ = ["Uploads"]

_ID: Final = re.compile(rb"[0-9a-f]{32}")
_PART: Final = re.compile(rb"(\d{5})-(\d+)-(\d+)-(\d+)-([0-9a-f]{32})")
_DONE: Final = re.compile(rb"done-(\d+)-(\d+)")


class _Part(NamedTuple):
    info: PartInfo
    offset: int
    sent_at: float
    name: bytes

    @property
    def end(self) -> int:
        return self.offset + self.info.size


class _Held(NamedTuple):
    """What an upload holds."""

    folder: bytes
    fields: dict[str, Any]
    marks: list[_Part]
    """All, by where they lie."""
    done: Identity | None

    @property
    def parts(self) -> list[_Part]:
        """Those that count, by number."""
        newest = {part.info.number: part for part in self.marks}
        return [newest[number] for number in sorted(newest)]


class Uploads:
    """Of one opened root."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._busy: set[str] = set()

    # -- beginning and looking -----------------------------------------------------------------

    async def initiate(self, target: PathTarget, options: PutOptions) -> str:
        ground = self._ground
        upload_id = secrets.token_hex(16)
        home = ground.uploads + bucket_path(target.bucket)
        folder = home + b"/" + upload_id.encode()
        fields = {
            "o": target.key,
            "t": ground.clock(),
            "c": options.content_type,
            "m": dict(options.metadata),
            "g": dict(options.tags) if options.tags else None,
            "k": options.storage_class,
        }
        async with ground.pool.use() as link:
            await ground.check_bucket(link, target.bucket)
            await link.all_of([link.make_folder(home, 0o700), link.make_folder(folder, 0o700)])
            try:
                await ground.write_private(link, folder + b"/data", b"", None)
                await ground.write_private(link, folder + b"/meta", seal(fields))
            except BaseException:
                self._sweep_away(link, folder, [b"data", b"meta"])
                raise
        return upload_id

    def _sweep_away(self, link: Link, folder: bytes, names: Sequence[bytes]) -> None:
        """Without waiting; ``meta`` goes last, so that what is left is still an upload."""
        ordered = sorted(names, key=lambda name: name == b"meta")
        self._ground.pool.clean(link, *(folder + b"/" + name for name in ordered))
        if not link.is_lost:
            link.tell(wire.RMDIR, wire.path_request(folder))

    async def _held(self, link: Link, target: PathTarget, upload_id: str) -> _Held:
        """UploadNotFoundError also for an upload of another key."""
        unknown = UploadNotFoundError("no such upload", bucket=target.bucket, key=target.key)
        raw = upload_id.encode("ascii", "replace")
        if _ID.fullmatch(raw) is None:
            raise unknown
        folder = self._ground.uploads + bucket_path(target.bucket) + b"/" + raw
        names = await link.entries(folder)
        fields = None if names is None else await self._meta(link, folder)
        if names is None or fields is None:
            await self._ground.check_bucket(link, target.bucket)
            raise unknown
        if fields.get("o") != target.key:
            raise unknown
        parts, done = _marks(names)
        return _Held(folder, fields, parts, done)

    async def _meta(self, link: Link, folder: bytes) -> dict[str, Any] | None:
        data = await self._ground.read_private(link, folder + b"/meta")
        return None if data is None else unseal(data)

    async def list_parts(self, target: PathTarget, upload_id: str) -> list[PartInfo]:
        async with self._ground.pool.use() as link:
            held = await self._held(link, target, upload_id)
        return [part.info for part in held.parts]

    async def list_uploads(self, bucket: str, prefix: str) -> list[UploadInfo]:
        ground = self._ground
        home = ground.uploads + bucket_path(bucket)
        async with ground.pool.use() as link:
            await ground.check_bucket(link, bucket)
            names = [one.name for one in await link.entries(home) or () if _ID.fullmatch(one.name)]
            found: list[UploadInfo] = []
            for start in range(0, len(names), 16):
                some = names[start : start + 16]
                metas = await gathered([self._readable(link, home + b"/" + one) for one in some])
                found += [
                    UploadInfo(name.decode(), str(fields["o"]), moment(float(fields["t"])))
                    for name, fields in zip(some, metas, strict=True)
                    if fields is not None and str(fields["o"]).startswith(prefix)
                ]
        return sorted(found, key=lambda upload: (upload.key, upload.started_at))

    async def _readable(self, link: Link, folder: bytes) -> dict[str, Any] | None:
        try:
            return await self._meta(link, folder)
        except CorruptMetadataError:
            return None  # left by a crash, for the sweep

    # -- parts -----------------------------------------------------------------------------------

    async def upload_part(
        self, target: PathTarget, upload_id: str, number: int, body: Chunks
    ) -> PartInfo:
        if upload_id in self._busy:
            raise InvalidPartError(
                "parts come one at a time here", bucket=target.bucket, key=target.key
            )
        self._busy.add(upload_id)
        try:
            async with self._ground.pool.use(LARGE) as link:
                held = await self._held(link, target, upload_id)
                offset = max((part.end for part in held.marks), default=0)
                size = await self._append(link, held, offset, body)
                part = PartInfo(number, secrets.token_hex(16), size)
                now = int(self._ground.clock() * 1000)
                mark = f"{number:05}-{offset}-{size}-{now}-{part.etag}".encode("ascii")
                await self._ground.write_private(link, held.folder + b"/" + mark, b"")
                stale = [one.name for one in held.marks if one.info.number == number]
                link.forget(*(held.folder + b"/" + name for name in stale))
                return part
        except Failure as failure:
            if failure.code != wire.NO_SUCH_FILE:
                raise
            raise UploadNotFoundError("the upload was ended meanwhile") from failure
        finally:
            self._busy.discard(upload_id)

    async def _append(self, link: Link, held: _Held, offset: int, body: Chunks) -> int:
        ground = self._ground
        request = wire.open_file(held.folder + b"/data", wire.FOR_WRITING)
        (handle,) = await link.all_of([link.ask(wire.OPEN, request)])
        if not isinstance(handle, bytes):
            raise handle or Failure(wire.BAD_MESSAGE)
        writes = Writes(ground, link, handle, offset)
        try:
            async for chunk in body:
                await writes.add(chunk)
            await writes.end()
            asked = [link.ask(wire.FSETSTAT, wire.truncate(handle, writes.offset))]
            if ground.syncs:
                asked.append(link.fsync(handle))
            await ground.check(link, await link.all_of(asked))
        finally:
            writes.drop()
            link.let_go(handle)
        return writes.offset - offset

    # -- ends ------------------------------------------------------------------------------------

    async def complete(
        self, target: PathTarget, upload_id: str, parts: Sequence[PartInfo], options: PutOptions
    ) -> ObjectInfo:
        ground = self._ground
        create_only = options.if_none_match is not None
        async with ground.pool.use() as link:
            held = await self._held(link, target, upload_id)
            fields = held.fields
            metadata = {**fields["m"], **options.metadata}
            if options.late is not None:
                metadata.update(options.late())
            record = Record(str(fields["c"]), metadata, fields.get("g"), fields.get("k"))
            if held.done is not None and await self._is_done(link, target, held):
                self._take_away(link, held)
                return record.info(target.key, held.done)
            chosen = _check_parts(target, held.parts, parts)
            staged = await self._assembled(link, target, held, chosen)
            try:
                if create_only and not staged.is_new:
                    raise PreconditionFailedError("the object exists already")
                size = sum(part.info.size for part in chosen)
                await staged.claim(size, record)
                await staged.sealed(staged.seal())
                done = b"done-%d-%d" % staged.identity
                await ground.write_private(link, held.folder + b"/" + done, b"")
            except BaseException:
                staged.drop()
                raise
            await staged.publish(
                create_only=create_only, placed=lambda: self._take_away(link, held, done)
            )
            return record.info(target.key, staged.identity)

    async def _assembled(
        self, link: Link, target: PathTarget, held: _Held, parts: Sequence[_Part]
    ) -> Staged:
        """The staged file as it is, when the parts lie in it in order; else another one."""
        data = held.folder + b"/data"
        if _lie_in_order(parts):
            staged = Staged(self._ground, link, target, existing=data)
            await staged.begin(None)
            try:
                await self._cut(link, staged, parts[-1].end)
            except BaseException:
                staged.drop()
                raise
            return staged
        staged = Staged(self._ground, link, target)
        await staged.begin(None)
        source: Answer = None
        try:
            (source,) = await link.all_of([link.open(data)])
            if not isinstance(source, bytes):
                raise source or Failure(wire.BAD_MESSAGE)
            assert staged.handle is not None
            at = 0
            for part in parts:
                size = part.info.size
                await transfer(self._ground, link, source, part.offset, size, staged.handle, at)
                at += size
        except BaseException:
            staged.drop()
            raise
        finally:
            if isinstance(source, bytes):
                link.let_go(source)
        return staged

    async def _cut(self, link: Link, staged: Staged, size: int) -> None:
        """Takes away what lies behind the last part that was asked for."""
        assert staged.handle is not None
        there = attributes(await link.fstat(staged.handle))
        if there is None or there.size < size:
            raise UploadIntegrityError("the staged parts are not what was sent")
        if there.size > size:
            answer = await link.ask(wire.FSETSTAT, wire.truncate(staged.handle, size))
            await self._ground.check(link, [answer])

    async def _is_done(self, link: Link, target: PathTarget, held: _Held) -> bool:
        """Whether the rename took place of which the answer was lost."""
        there = await link.stat(self._ground.path(target))
        if there is not None and identity_of(there) == held.done:
            return True
        return await link.stat(held.folder + b"/data") is None

    def _take_away(self, link: Link, held: _Held, *more: bytes) -> None:
        done = [] if held.done is None else [b"done-%d-%d" % held.done]
        names = [b"data", b"meta", *(part.name for part in held.marks), *done, *more]
        self._sweep_away(link, held.folder, names)

    async def abort(self, target: PathTarget, upload_id: str) -> None:
        async with self._ground.pool.use() as link:
            held = await self._held(link, target, upload_id)
            await self._remove(link, held.folder)

    async def drop_bucket(self, link: Link, bucket: str) -> None:
        home = self._ground.uploads + bucket_path(bucket)
        for one in await link.entries(home) or ():
            await self._remove(link, home + b"/" + one.name)
        await link.remove_folder(home)

    async def _remove(self, link: Link, folder: bytes) -> None:
        """The first to go is what makes it an upload."""
        names = [one.name for one in await link.entries(folder) or ()]
        names.sort(key=lambda name: name != b"meta")
        asked = [link.remove(folder + b"/" + name) for name in names]
        await link.all_of([*asked, link.remove_folder(folder)])

    async def sweep(self, link: Link) -> None:
        """Removes uploads that got no part for longer than the configured time."""
        ground = self._ground
        limit = ground.clock() - ground.config.multipart_ttl.total_seconds()
        for home in await link.entries(ground.uploads[:-1]) or ():
            place = ground.uploads + home.name
            for one in await link.entries(place) or ():
                folder = place + b"/" + one.name
                is_old = one.attributes.is_folder and one.attributes.mtime <= limit
                if is_old and not await self._is_active(link, folder, limit):
                    await self._remove(link, folder)

    async def _is_active(self, link: Link, folder: bytes, since: float) -> bool:
        """By our own times: those of the server are in whole seconds."""
        fields = await self._readable(link, folder)
        marks, _ = _marks(await link.entries(folder) or ())
        times = [part.sent_at for part in marks]
        if fields is not None:
            times.append(float(fields["t"]))
        return max(times, default=0.0) > since


def _marks(names: Sequence[Name]) -> tuple[list[_Part], Identity | None]:
    """Parts by place, and what the upload became, or was about to."""
    parts: list[_Part] = []
    done: Identity | None = None
    for name, _ in names:
        if found := _PART.fullmatch(name):
            info = PartInfo(int(found[1]), found[5].decode(), int(found[3]))
            parts.append(_Part(info, int(found[2]), int(found[4]) / 1000, name))
        elif found := _DONE.fullmatch(name):
            this = Identity(int(found[1]), int(found[2]))
            done = this if done is None else max(done, this, key=lambda one: one.mtime)
    parts.sort(key=lambda part: (part.offset, part.end))
    return parts, done


def _check_parts(
    target: PathTarget, held: Sequence[_Part], asked: Sequence[PartInfo]
) -> list[_Part]:
    """The parts that are asked for; InvalidPartError when one is not there."""
    numbers = [part.number for part in asked]
    if not asked or numbers != sorted(set(numbers)):
        raise InvalidPartError(
            "parts in rising order, at least one", bucket=target.bucket, key=target.key
        )
    known = {part.info.number: part for part in held}
    chosen = []
    for part in asked:
        kept = known.get(part.number)
        if kept is None or kept.info.etag != part.etag:
            raise InvalidPartError(
                f"part {part.number} is not there", bucket=target.bucket, key=target.key
            )
        chosen.append(kept)
    return chosen


def _lie_in_order(parts: Sequence[_Part]) -> bool:
    offset = 0
    for part in parts:
        if part.offset != offset:
            return False
        offset = part.end
    return True
