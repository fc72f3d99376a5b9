"""N. Multipart uploads, asked of the driver itself: nothing shows before the end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from trove_async.driver import MultipartDriver, PutOptions
from trove_async.errors import (
    BucketNotFoundError,
    InvalidInputError,
    InvalidPartError,
    ObjectNotFoundError,
    UploadNotFoundError,
)
from trove_async.model import ObjectInfo, PartInfo
from trove_async.testing.case import case
from trove_async.testing.cases.b_bodies import noise
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness
from trove_async.testing.setups import files_of

NEEDS = ["multipart"]
UNKNOWN = "0123456789abcdef0123456789abcdef"
_OPTIONS = PutOptions()


class Parts:
    """One upload of one key."""

    def __init__(self, h: Harness, key: str = "k") -> None:
        able = h.capable(MultipartDriver)
        assert able is not None
        self.able = able
        self.h = h
        self.bucket = h.bucket
        self.key = key
        self.id = ""
        self.size = max(h.features.min_part_size or 0, 1000)
        """Bytes of a part that is not the last."""

    async def start(self, options: PutOptions = _OPTIONS) -> Parts:
        self.id = await self.able.initiate_multipart(self.bucket, self.key, options)
        assert isinstance(self.id, str) and self.id
        return self

    def body(self, number: int) -> bytes:
        return noise(self.size, number)

    async def send(self, number: int, body: bytes | None = None) -> PartInfo:
        data = self.body(number) if body is None else body
        source = Source(data, 40_000)
        part = await self.able.upload_part(
            self.bucket, self.key, self.id, number, source, len(data)
        )
        assert (part.number, part.size) == (number, len(data)), f"answered {part}"
        return part

    async def complete(self, *parts: PartInfo, options: PutOptions = _OPTIONS) -> ObjectInfo:
        return await self.able.complete_multipart(
            self.bucket, self.key, self.id, list(parts), options
        )

    async def abort(self) -> None:
        await self.able.abort_multipart(self.bucket, self.key, self.id)

    async def known(self) -> bool:
        return self.id in [u.upload_id for u in await self.able.list_uploads(self.bucket, "")]

    async def stored(self) -> bytes:
        return await self.h.store.get_bytes(self.bucket, self.key)


async def started(h: Harness, key: str = "k") -> Parts:
    return await Parts(h, key).start()


@case("K197", "mp_basic", needs=NEEDS, stacks=False)
async def mp_basic(h: Harness) -> None:
    up = await started(h, "a/b")
    parts = [await up.send(1), await up.send(2), await up.send(3, b"tail")]
    assert await up.able.list_parts(h.bucket, "a/b", up.id) == parts
    uploads = await up.able.list_uploads(h.bucket, "a/")
    assert [(u.upload_id, u.key) for u in uploads] == [(up.id, "a/b")]
    assert uploads[0].started_at.tzinfo is not None
    assert await up.able.list_uploads(h.bucket, "b") == []
    info = await up.complete(*parts)
    assert (info.key, info.size) == ("a/b", 2 * up.size + 4) and info.etag
    assert await up.stored() == up.body(1) + up.body(2) + b"tail"
    assert (await h.store.head(h.bucket, "a/b")).etag == info.etag
    assert not await up.known()


@case("K198", "mp_out_of_order_upload", needs=NEEDS, stacks=False)
async def mp_out_of_order_upload(h: Harness) -> None:
    if h.features.parts_in_order:
        h.drop("driver declares parts_in_order=True")
    up = await started(h)
    three, one, two = await up.send(3), await up.send(1), await up.send(2)
    assert await up.able.list_parts(h.bucket, "k", up.id) == [one, two, three]
    await up.complete(one, two, three)
    assert await up.stored() == up.body(1) + up.body(2) + up.body(3)


@case("K198", "mp_gaps_in_numbers", needs=NEEDS, stacks=False)
async def mp_gaps_in_numbers(h: Harness) -> None:
    if h.features.parts_in_order:
        h.drop("driver declares parts_in_order=True")
    up = await started(h)
    parts = [await up.send(number) for number in (2, 10, 9)]
    await up.complete(*sorted(parts, key=lambda part: part.number))
    assert await up.stored() == up.body(2) + up.body(9) + up.body(10)


@case("K199", "mp_out_of_order_complete_list", needs=NEEDS, stacks=False)
async def mp_out_of_order_complete_list(h: Harness) -> None:
    """Refused or sorted; never put together in the wrong order."""
    up = await started(h)
    one, two = await up.send(1), await up.send(2)
    try:
        await up.complete(two, one)
    except (InvalidPartError, InvalidInputError):
        assert not await h.store.exists(h.bucket, "k")
        await up.complete(one, two)
    assert await up.stored() == up.body(1) + up.body(2)
    again = await started(h, "twice")
    part = await again.send(1)
    with h.raises(InvalidPartError, InvalidInputError):
        await again.complete(part, part)
    assert not await h.store.exists(h.bucket, "twice")
    await again.abort()


@case("K200", "mp_missing_part", needs=NEEDS, stacks=False)
async def mp_missing_part(h: Harness) -> None:
    """The upload stays usable."""
    await h.put("k", b"old")
    up = await started(h)
    one, three = await up.send(1), await up.send(3)
    with h.raises(InvalidPartError):
        await up.complete(one, PartInfo(2, one.etag, one.size), three)
    assert await h.get("k") == b"old"
    assert await up.known()
    two = await up.send(2)
    await up.complete(one, two, three)
    assert await up.stored() == up.body(1) + up.body(2) + up.body(3)


@case("K201", "mp_wrong_part_etag", needs=NEEDS, stacks=False)
async def mp_wrong_part_etag(h: Harness) -> None:
    await h.put("k", b"old")
    up = await started(h)
    one, two = await up.send(1), await up.send(2)
    with h.raises(InvalidPartError):
        await up.complete(one, PartInfo(2, "0" * 32, two.size))
    with h.raises(InvalidPartError):
        await up.complete(PartInfo(1, two.etag, one.size), two)
    assert await h.get("k") == b"old"
    await up.abort()


@case("K202", "mp_reupload_part", needs=NEEDS, stacks=False)
async def mp_reupload_part(h: Harness) -> None:
    """The last one wins, whole, also when it is shorter; the first one's tag is stale."""
    up = await started(h)
    one = await up.send(1)
    stale = await up.send(2)
    two = await up.send(2, b"shorter")
    assert await up.able.list_parts(h.bucket, "k", up.id) == [one, two]
    if stale.etag != two.etag:
        with h.raises(InvalidPartError):
            await up.complete(one, stale)
    await up.complete(one, two)
    assert await up.stored() == up.body(1) + b"shorter"


@case("K203", "mp_concurrent_parts", needs=NEEDS, stacks=False)
async def mp_concurrent_parts(h: Harness) -> None:
    if h.features.parts_in_order:
        h.drop("driver declares parts_in_order=True")
    up = await started(h)
    parts = await asyncio.gather(*(up.send(number) for number in range(1, 17)))
    await up.complete(*parts)
    assert await up.stored() == b"".join(up.body(number) for number in range(1, 17))


@case("K204", "mp_concurrent_same_part", needs=NEEDS, stacks=False)
async def mp_concurrent_same_part(h: Harness) -> None:
    """One of them whole, with its own tag; never a mixture."""
    if h.features.parts_in_order:
        h.drop("driver declares parts_in_order=True")
    up = await started(h)
    size = max(up.size, 200_000)

    async def send(letter: bytes) -> PartInfo:
        source = Source(letter * size, 30_000, delay=0)
        return await up.able.upload_part(h.bucket, "k", up.id, 1, source, size)

    sent = await asyncio.gather(*(send(letter) for letter in (b"a", b"b", b"c")))
    kept = await up.able.list_parts(h.bucket, "k", up.id)
    assert len(kept) == 1 and kept[0].etag in [part.etag for part in sent]
    await up.complete(kept[0])
    body = await up.stored()
    assert body in [letter * size for letter in (b"a", b"b", b"c")], "parts are mixed"
    letter = b"abc"[[part.etag for part in sent].index(kept[0].etag)]
    assert len({part.etag for part in sent}) == 1 or body[0] == letter, "a tag of another part"


@case("K205", "mp_abort_cleans", needs=NEEDS, stacks=False)
async def mp_abort_cleans(h: Harness) -> None:
    await h.put("k", b"old")
    first = await started(h)
    await first.send(1)
    await first.abort()
    files = files_of(h.driver)
    up = await started(h)
    one = await up.send(1)
    await up.send(2)
    await up.abort()
    assert not await up.known()
    assert await h.get("k") == b"old"
    assert files_of(h.driver) <= files, "parts stay on disk"
    for attempt in (
        lambda: up.send(3),
        lambda: up.complete(one),
        lambda: up.able.list_parts(h.bucket, "k", up.id),
    ):
        with h.raises(UploadNotFoundError):
            await attempt()
    assert await h.keys() == ["k"]


@case("K206", "mp_abort_twice_and_after_complete", needs=NEEDS, stacks=False)
async def mp_abort_twice_and_after_complete(h: Harness) -> None:
    up = await started(h)
    await up.abort()
    with suppress(UploadNotFoundError):
        await up.abort()
    done = await started(h)
    await done.complete(await done.send(1))
    with suppress(UploadNotFoundError):
        await done.abort()
    assert await done.stored() == done.body(1), "the abort harmed the object"


@case("K207", "mp_complete_twice", needs=NEEDS, stacks=False)
async def mp_complete_twice(h: Harness) -> None:
    up = await started(h)
    part = await up.send(1)
    info = await up.complete(part)
    try:
        again = await up.complete(part)
    except UploadNotFoundError:
        pass
    else:
        assert (again.size, again.key) == (info.size, info.key)
    assert await up.stored() == up.body(1)


@case("K208", "mp_unknown_upload_id", needs=NEEDS, stacks=False, params=[UNKNOWN, "x", "../up", ""])
async def mp_unknown_upload_id(h: Harness, upload_id: str) -> None:
    await h.put("k", b"old")
    up = Parts(h)
    up.id = upload_id
    for attempt in (
        lambda: up.send(1),
        lambda: up.complete(PartInfo(1, "0" * 32, 1)),
        up.abort,
        lambda: up.able.list_parts(h.bucket, "k", up.id),
    ):
        with h.raises(UploadNotFoundError):
            await attempt()
    assert await h.get("k") == b"old"


@case("K208", "mp_missing_bucket", needs=NEEDS, stacks=False)
async def mp_missing_bucket(h: Harness) -> None:
    up = Parts(h)
    with h.raises(BucketNotFoundError):
        await up.able.initiate_multipart("trove-there-is-none", "k", PutOptions())
    with h.raises(BucketNotFoundError):
        await up.able.list_uploads("trove-there-is-none", "")


@case("K209", "mp_upload_id_of_other_key", needs=NEEDS, stacks=False)
async def mp_upload_id_of_other_key(h: Harness) -> None:
    """An id opens one key of one bucket."""
    await h.put("victim", b"old")
    bucket = await h.new_bucket()
    up = await started(h, "k")
    part = await up.send(1)
    for where, key in ((h.bucket, "victim"), (h.bucket, "k2"), (bucket, "k")):
        other = Parts(h, key)
        other.id, other.bucket = up.id, where
        for attempt in (lambda o=other: o.send(1), lambda o=other: o.complete(part), other.abort):
            with h.raises(UploadNotFoundError, InvalidInputError, InvalidPartError):
                await attempt()
    assert await h.get("victim") == b"old"
    assert await h.keys() == ["victim"]
    assert await h.store.exists(bucket, "k") is False
    await up.complete(part)
    assert await up.stored() == up.body(1)


@case("K210", "mp_zero_parts", needs=NEEDS, stacks=False)
async def mp_zero_parts(h: Harness) -> None:
    """A typed error, or an empty object."""
    up = await started(h)
    try:
        await up.complete()
    except (InvalidPartError, InvalidInputError):
        with h.raises(ObjectNotFoundError):
            await up.stored()
        await up.abort()
        return
    assert await up.stored() == b""


@case("K211", "mp_part_too_small", needs=NEEDS, stacks=False)
async def mp_part_too_small(h: Harness) -> None:
    if h.features.min_part_size is None:
        h.drop("driver declares no min_part_size")
    up = await started(h)
    with h.raises(InvalidPartError, InvalidInputError):
        await up.complete(await up.send(1, b"tiny"), await up.send(2, b"tiny"))
    assert not await h.store.exists(h.bucket, "k")
    await up.abort()


@case("K211", "mp_part_number_out_of_bounds", needs=NEEDS, stacks=False)
async def mp_part_number_out_of_bounds(h: Harness) -> None:
    up = await started(h)
    most = h.features.max_parts
    for number in (0, -1) if most is None else (0, -1, most + 1):
        with h.raises(InvalidPartError, InvalidInputError):
            await up.send(number)
    assert await up.able.list_parts(h.bucket, "k", up.id) == []
    part = await up.send(most or 1)
    await up.complete(part)
    assert await up.stored() == up.body(most or 1)
