"""N. Several uploads, resumed, abandoned and failing ones."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import timedelta
from typing import cast

from trove_async.driver import Driver, MultipartDriver, PutOptions
from trove_async.errors import PreconditionFailedError, TroveError, UploadNotFoundError
from trove_async.testing.case import Deliberate, case
from trove_async.testing.cases.n_multipart import NEEDS, Parts, started
from trove_async.testing.faults import Source
from trove_async.testing.harness import Harness
from trove_async.testing.setups import files_of


@case("K212", "mp_two_uploads_same_key", needs=NEEDS, stacks=False)
async def mp_two_uploads_same_key(h: Harness) -> None:
    """Interleaved; the last complete wins, whole."""
    one, two = await started(h), await started(h)
    assert one.id != two.id
    a1, b1 = await one.send(1), await two.send(1, one.body(7))
    b2, a2 = await two.send(2), await one.send(2, one.body(8))
    await two.complete(b1, b2)
    assert await h.get("k") == one.body(7) + one.body(2)
    await one.complete(a1, a2)
    assert await h.get("k") == one.body(1) + one.body(8)
    assert await one.able.list_uploads(h.bucket, "") == []


@case("K213", "mp_invisible_until_complete", needs=NEEDS, stacks=False, params=["new", "old"])
async def mp_invisible_until_complete(h: Harness, what: str) -> None:
    if what == "old":
        await h.put("k", b"old", metadata={"n": "old"})

    async def unseen() -> None:
        if what == "old":
            assert await h.get("k") == b"old"
            assert dict((await h.store.head(h.bucket, "k")).metadata) == {"n": "old"}
            assert await h.keys() == ["k"]
        else:
            assert not await h.store.exists(h.bucket, "k")
            assert await h.keys() == []

    up = await Parts(h).start(PutOptions(metadata={"n": "new"}))
    await unseen()
    parts = [await up.send(1), await up.send(2)]
    await unseen()
    await up.complete(*parts)
    assert await h.get("k") == up.body(1) + up.body(2)


@case("K214", "mp_metadata_and_type_kept", needs=NEEDS, stacks=False)
async def mp_metadata_and_type_kept(h: Harness) -> None:
    up = await Parts(h).start(PutOptions(content_type="text/x", metadata={"a": "1", "b": "é"}))
    await up.complete(await up.send(1))
    info = await h.store.head(h.bucket, "k")
    assert (info.content_type, dict(info.metadata)) == ("text/x", {"a": "1", "b": "é"})


@case("K214", "mp_conditions_hold_at_the_end", needs=[*NEEDS, "conditional:create"], stacks=False)
async def mp_conditions_hold_at_the_end(h: Harness) -> None:
    """Somebody else puts while the upload is under way: a create-only complete is refused."""
    up = await started(h)
    part = await up.send(1)
    await h.put("k", b"other")
    with h.raises(PreconditionFailedError):
        await up.complete(part, options=PutOptions(if_none_match="*"))
    assert await h.get("k") == b"other"
    if await up.known():
        await up.abort()


@case("K215", "mp_resume_new_process", needs=[*NEEDS, "sibling"], stacks=False)
async def mp_resume_new_process(h: Harness) -> None:
    """A second client finds the upload and its parts, and finishes it."""
    up = await started(h)
    await up.send(1)
    await up.send(2)
    other = h.sibling()
    await other.open()
    assert isinstance(other, MultipartDriver)
    uploads = await other.list_uploads(h.bucket, "k")
    assert [upload.upload_id for upload in uploads] == [up.id]
    parts = await other.list_parts(h.bucket, "k", up.id)
    assert [part.number for part in parts] == [1, 2]
    body = up.body(3)
    parts.append(await other.upload_part(h.bucket, "k", up.id, 3, Source(body), len(body)))
    await other.complete_multipart(h.bucket, "k", up.id, parts, PutOptions())
    assert await h.get("k") == up.body(1) + up.body(2) + body


@case("K216", "mp_gc_of_stale_uploads", needs=[*NEEDS, "sibling"], stacks=False)
async def mp_gc_of_stale_uploads(h: Harness) -> None:
    """What is older than the driver's ``config.multipart_ttl`` goes when it is opened."""
    config = getattr(h.driver, "config", None)
    if not dataclasses.is_dataclass(config) or not hasattr(config, "multipart_ttl"):
        h.drop("driver has no config.multipart_ttl")
    assert not isinstance(config, type)
    stale = await started(h, "stale")
    await stale.send(1)
    await asyncio.sleep(1.2)
    running = await started(h, "running")
    part = await running.send(1)
    short = dataclasses.replace(config, multipart_ttl=timedelta(seconds=1))
    make = cast("Callable[[object], Driver]", type(h.driver))  # as drivers with a config are
    cleaner = h.watched(make(short))
    await cleaner.open()
    assert not await stale.known(), "a stale upload is kept"
    with h.raises(UploadNotFoundError):
        await stale.send(2)
    assert await running.known(), "a running upload was taken away"
    await running.complete(part)
    assert await running.stored() == running.body(1)


@case("K217", "mp_abort_while_parts_in_flight", needs=NEEDS, stacks=False)
async def mp_abort_while_parts_in_flight(h: Harness) -> None:
    """The parts fail or are thrown away; nothing of them stays."""
    first = await started(h)
    await first.send(1)
    await first.abort()
    files = files_of(h.driver)
    up = await started(h)
    gate = asyncio.Event()
    body = up.body(1) * 3

    async def send(number: int) -> None:
        source = Source(body, len(body) // 3, gate=gate)
        await up.able.upload_part(h.bucket, "k", up.id, number, source, len(body))

    sending = [asyncio.create_task(send(number)) for number in (1, 2, 3)]
    await asyncio.sleep(0.02)
    await up.abort()
    gate.set()
    await asyncio.wait(sending)
    for task in sending:
        error = task.exception()
        assert error is None or isinstance(error, TroveError), repr(error)
    with h.raises(UploadNotFoundError):
        await up.able.list_parts(h.bucket, "k", up.id)
    assert not await up.known()
    assert files_of(h.driver) <= files, "an orphan part is left"


@case("K217", "mp_broken_part", needs=NEEDS, stacks=False)
async def mp_broken_part(h: Harness) -> None:
    """A part whose body breaks is not there; an earlier one of its number still is."""
    up = await started(h)
    one = await up.send(1)
    for number in (1, 2):
        source = Source(up.body(5), max(1, up.size // 3), error=Deliberate("body"), fail_at=2)
        with h.raises(Deliberate):
            await up.able.upload_part(h.bucket, "k", up.id, number, source, up.size)
        assert source.closed == 0, "a driver never closes the body"
    assert await up.able.list_parts(h.bucket, "k", up.id) == [one]
    await up.complete(one)
    assert await up.stored() == up.body(1)
