"""Mutants of a driver on files: what stays behind, and what a worker does after the end."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

from trove_async._chunks import OneChunk, collect
from trove_async.driver import Chunks, DeleteOptions, GetOptions, PutOptions, RawObject
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.errors import DriverClosedError
from trove_async.model import ObjectInfo, PartInfo
from trove_async.testing.mutants.mutant import Mutant

__all__ = ["FILES", "local"]


@cache
def _base() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="trove-mutants-")  # goes with the process


def local(kind: Callable[[LocalConfig], LocalDriver] = LocalDriver) -> Callable[[], LocalDriver]:
    """A factory of drivers of that kind, each on a folder of its own, without fsync."""

    def make() -> LocalDriver:
        return kind(LocalConfig(tempfile.mkdtemp(dir=_base().name), durability="none"))

    return make


def _root(driver: LocalDriver) -> Path:
    return Path(os.fspath(driver.config.root))


class LeavesTemporaryFiles(LocalDriver):
    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        try:
            return await super().put(bucket, key, body, options)
        except BaseException:
            name = tempfile.mkstemp(dir=_root(self) / ".trove")
            os.close(name[0])
            raise


class LeavesParts(LocalDriver):
    async def upload_part(
        self, bucket: str, key: str, upload_id: str, number: int, body: Chunks, size: int | None
    ) -> PartInfo:
        part = await super().upload_part(bucket, key, upload_id, number, body, size)
        (_root(self) / ".trove" / f"part-{upload_id}-{number}").touch()
        return part


class LeaksReaders(LocalDriver):
    """The descriptor of a reader that was left early stays open."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        found = await super().get(bucket, key, options)
        os.dup(0)
        return found


class WritesAfterCancel(LocalDriver):
    """Closes the descriptor while a worker may still write: the number is somebody else's by
    then, and so is the file the body ends up in."""

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        path = _root(self) / ".trove" / "staging"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        held: list[bytes] = []
        try:
            async for chunk in body:
                held.append(bytes(chunk))
                await asyncio.to_thread(os.write, fd, held[-1])
        finally:
            os.close(fd)
            path.unlink()
        return await super().put(bucket, key, OneChunk(b"".join(held)), options)


class FollowsLinks(LocalDriver):
    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        path = _root(self) / bucket / key
        if path.is_symlink() and path.exists():
            info = await super().put(bucket, "copy", OneChunk(path.read_bytes()), PutOptions())
            return RawObject(info, OneChunk(path.read_bytes()), 0, info.size)
        return await super().get(bucket, key, options)


class ForeignErrnos(LocalDriver):
    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        path = _root(self) / bucket / key
        if path.parent.exists():
            path.parent.stat()
            os.scandir(path.parent).close()
        await super().delete(bucket, key, options)


class BrokenSecondClient(LocalDriver):
    """Looks at the storage when it is opened, and never again."""

    async def get(self, bucket: str, key: str, options: GetOptions) -> RawObject:
        known: dict[tuple[str, str], tuple[ObjectInfo, bytes]] = vars(self).setdefault("known", {})
        if (bucket, key) in known and options == GetOptions():
            info, data = known[bucket, key]
            return RawObject(info, OneChunk(data), 0, len(data))
        found = await super().get(bucket, key, options)
        if options == GetOptions():
            data = await collect(found.body)
            await found.body.aclose()
            known[bucket, key] = (found.info, data)
            return RawObject(found.info, OneChunk(data), 0, len(data))
        return found

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        vars(self).setdefault("known", {}).pop((bucket, key), None)
        return await super().put(bucket, key, body, options)

    async def delete(self, bucket: str, key: str, options: DeleteOptions) -> None:
        vars(self).setdefault("known", {}).pop((bucket, key), None)
        await super().delete(bucket, key, options)


class LeavesAThread(LocalDriver):
    async def open(self) -> None:
        await super().open()
        self.stop = asyncio.Event()
        self.waiting = asyncio.create_task(self.stop.wait())


class DsnElsewhere(LocalDriver):
    @property
    def dsn(self) -> str:
        return f"file://{_root(self)}-elsewhere?durability=none"


class ClosesUnderReaders(LocalDriver):
    async def close(self) -> None:
        if self._opened is None:
            raise DriverClosedError("not open")
        await super().close()


FILES: Final = (
    Mutant("leaves temporary files", local(LeavesTemporaryFiles), ("K169", "K181")),
    Mutant("leaves parts", local(LeavesParts), ("K173", "K205")),
    Mutant("leaks readers", local(LeaksReaders), ("K170", "K181")),
    Mutant("writes after a cancel", local(WritesAfterCancel), ("K177",)),
    Mutant("follows links", local(FollowsLinks), ("K247",)),
    Mutant("foreign errors of the system", local(ForeignErrnos), ("K240",)),
    Mutant("caches across clients", local(BrokenSecondClient), ("K157", "K165")),
    Mutant("leaves a task at close", local(LeavesAThread), ("K182",)),
    Mutant("DSN of another place", local(DsnElsewhere), ("K191", "K195")),
    Mutant("close of what is closed fails", local(ClosesUnderReaders), ("K186",)),
)
