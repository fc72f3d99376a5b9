"""Every operation that writes, each from the same small store, with what it may leave."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from tests.faults.world import BUCKET, Expected, Place, State, Value, found_at, put, value
from trove_async._chunks import OneChunk, chunks_of
from trove_async.driver import (
    BucketOptions,
    ByteRange,
    CopyOptions,
    DeleteOptions,
    GetOptions,
    HeadOptions,
    ListOptions,
    PutOptions,
)
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.local.fs import FS
from trove_async.model import ObjectRef, PartInfo
from trove_async.testing.crashfs import Image, materialise, scan

PIECES: Final = (b"first part " * 50, b"second part " * 60)


@dataclass
class Template:
    """A small store on disk, to be made again as often as it is needed."""

    place: Place
    image: Image = field(default_factory=dict)
    acked: dict[str, Value] = field(default_factory=dict)
    upload: str = ""
    parts: list[PartInfo] = field(default_factory=list)

    @classmethod
    async def made(cls, root: Path, place: Place) -> Template:
        template = cls(place)
        driver = driver_at(root, place, FS())
        await driver.open()
        for name in ("bucket", "other"):
            await driver.create_bucket(name, BucketOptions())
            template.acked[f"{name}/"] = BUCKET
        for number, name in enumerate(("bucket/k", "bucket/d/x", "bucket/d/y", "bucket/a/b/c")):
            template.acked[name] = value(number + 1, 700, team="red")
            await put(driver, name, template.acked[name])
        options = replace(UPLOADED.options)
        template.upload = await driver.initiate_multipart("bucket", "up", options)
        for number, piece in enumerate(PIECES, 1):
            template.parts.append(
                await driver.upload_part(
                    "bucket", "up", template.upload, number, OneChunk(piece), None
                )
            )
        await driver.close()
        template.image = scan(root)
        return template

    def make(self, root: Path) -> None:
        materialise(self.image, root)

    def expected(self, operation: Operation, done: bool) -> Expected:
        keys = {key for state in operation.states for key in state}
        before: State = {key: self.acked.get(key) for key in keys}
        if done:
            flight: tuple[State, ...] = ({**before, **operation.states[0]},)
        else:
            flight = (before, *({**before, **state} for state in operation.states))
        parts = () if operation.ends_upload else (("up", self.upload, frozenset({1, 2})),)
        return Expected(self.acked, (flight,), parts)

    async def check(self, root: Path, operation: Operation, *, done: bool) -> None:
        """Old or new, as a fresh driver sees it; nothing but new if it was acknowledged."""
        await found_at(root, self.place, self.expected(operation, done))


def driver_at(root: Path, place: Place, fs: FS) -> LocalDriver:
    return LocalDriver(LocalConfig(root, metadata=place), fs)


Work = Callable[[LocalDriver, Template], Awaitable[object]]


@dataclass(frozen=True)
class Operation:
    work: Work
    states: tuple[State, ...] = ({},)
    """The state when it is done, then others it may leave when it is broken off."""
    ends_upload: bool = False


UPLOADED: Final = replace(value(90, 0, t="u"), data=b"".join(PIECES))
NEW: Final = value(10, 900, t="n")
LARGE: Final = value(11, 2_300_000)
TAGGED: Final = replace(value(1, 700), tags=(("t", "again"),))
OLD: Final = value(1, 700, team="red")
COPIED: Final = replace(OLD, metadata=(("copied", "yes"),))


def _put(name: str, there: Value = NEW) -> Operation:
    async def work(driver: LocalDriver, template: Template) -> None:
        await put(driver, name, there)

    return Operation(work, ({name: there},))


async def _large(driver: LocalDriver, template: Template) -> None:
    body = chunks_of(LARGE.data, 400_000)
    try:
        await driver.put("bucket", "k", body, LARGE.options)
    finally:
        await body.aclose()


async def _create_only(driver: LocalDriver, template: Template) -> None:
    options = replace(NEW.options, if_none_match="*")
    await driver.put("bucket", "new", OneChunk(NEW.data), options)


async def _match(driver: LocalDriver, template: Template) -> None:
    etag = (await driver.head("bucket", "k", HeadOptions())).etag
    await driver.put("bucket", "k", OneChunk(NEW.data), replace(NEW.options, if_match=etag))


def _copy(target: str, changed: bool = False) -> Operation:
    async def work(driver: LocalDriver, template: Template) -> None:
        options = CopyOptions(metadata=dict(COPIED.metadata) if changed else None)
        goal = ObjectRef(*target.split("/", 1))
        await driver.copy(ObjectRef("bucket", "k"), goal, options)

    return Operation(work, ({target: COPIED if changed else OLD},))


def _move(target: str, changed: bool = False) -> Operation:
    async def work(driver: LocalDriver, template: Template) -> None:
        options = CopyOptions(metadata=dict(COPIED.metadata) if changed else None)
        goal = ObjectRef(*target.split("/", 1))
        await driver.move(ObjectRef("bucket", "k"), goal, options)

    there = COPIED if changed else OLD
    return Operation(work, ({target: there, "bucket/k": None}, {target: there}))


def _delete(name: str) -> Operation:
    async def work(driver: LocalDriver, template: Template) -> None:
        bucket, key = name.split("/", 1)
        await driver.delete(bucket, key, DeleteOptions())

    return Operation(work, ({name: None},))


async def _delete_many(driver: LocalDriver, template: Template) -> None:
    for result in await driver.delete_many("bucket", ["k", "d/x"]):
        if result.error is not None:
            raise result.error


async def _retag(driver: LocalDriver, template: Template) -> None:
    await driver.set_tags("bucket", "k", dict(TAGGED.tags))


async def _initiate(driver: LocalDriver, template: Template) -> None:
    await driver.initiate_multipart("bucket", "more", NEW.options)


async def _part(driver: LocalDriver, template: Template) -> None:
    await driver.upload_part("bucket", "up", template.upload, 3, OneChunk(b"third"), 5)


async def _part_again(driver: LocalDriver, template: Template) -> None:
    await driver.upload_part("bucket", "up", template.upload, 1, OneChunk(b"other"), 5)


async def _complete(driver: LocalDriver, template: Template) -> None:
    await driver.complete_multipart("bucket", "up", template.upload, template.parts, PutOptions())


async def _abort(driver: LocalDriver, template: Template) -> None:
    await driver.abort_multipart("bucket", "up", template.upload)


async def _create_bucket(driver: LocalDriver, template: Template) -> None:
    await driver.create_bucket("third", BucketOptions())


async def _delete_bucket(driver: LocalDriver, template: Template) -> None:
    await driver.delete_bucket("other")


WRITES: Final[dict[str, Operation]] = {
    "put": _put("bucket/new"),
    "put_nested": _put("bucket/p/q/new"),
    "overwrite": _put("bucket/k"),
    "overwrite_large": Operation(_large, ({"bucket/k": LARGE},)),
    "create_only": Operation(_create_only, ({"bucket/new": NEW},)),
    "if_match": Operation(_match, ({"bucket/k": NEW},)),
    "copy": _copy("bucket/e/copy"),
    "copy_over": _copy("bucket/d/x"),
    "copy_onto_itself": _copy("bucket/k", changed=True),
    "move": _move("bucket/e/moved"),
    "move_over": _move("bucket/d/x"),
    "move_changed": _move("other/moved", changed=True),
    "delete": _delete("bucket/k"),
    "delete_nested": _delete("bucket/a/b/c"),
    "delete_many": Operation(
        _delete_many,
        ({"bucket/k": None, "bucket/d/x": None}, {"bucket/k": None}, {"bucket/d/x": None}),
    ),
    "retag": Operation(_retag, ({"bucket/k": TAGGED},)),
    "initiate": Operation(_initiate),
    "part": Operation(_part),
    "part_again": Operation(_part_again),
    "complete": Operation(_complete, ({"bucket/up": UPLOADED},), ends_upload=True),
    "abort": Operation(_abort, ends_upload=True),
    "create_bucket": Operation(_create_bucket, ({"third/": BUCKET},)),
    "delete_bucket": Operation(_delete_bucket, ({"other/": None},)),
}


async def _get(driver: LocalDriver, template: Template) -> None:
    raw = await driver.get("bucket", "k", GetOptions())
    await raw.body.aclose()


async def _head(driver: LocalDriver, template: Template) -> None:
    await driver.head("bucket", "k", HeadOptions())


async def _ranges(driver: LocalDriver, template: Template) -> None:
    await driver.get_ranges("bucket", "k", [ByteRange(0, 9), ByteRange(-9)], GetOptions())


async def _list(driver: LocalDriver, template: Template) -> None:
    await driver.list("bucket", ListOptions())


async def _list_buckets(driver: LocalDriver, template: Template) -> None:
    await driver.list_buckets()


async def _list_parts(driver: LocalDriver, template: Template) -> None:
    await driver.list_parts("bucket", "up", template.upload)


async def _list_uploads(driver: LocalDriver, template: Template) -> None:
    await driver.list_uploads("bucket", "")


async def _ping(driver: LocalDriver, template: Template) -> None:
    await driver.ping()


READS: Final[dict[str, Operation]] = {
    "get": Operation(_get),
    "head": Operation(_head),
    "get_ranges": Operation(_ranges),
    "list": Operation(_list),
    "list_buckets": Operation(_list_buckets),
    "list_parts": Operation(_list_parts),
    "list_uploads": Operation(_list_uploads),
    "ping": Operation(_ping),
}
