"""What drivers share: parts of a body on their way at once, sums of parts, bodies over HTTP."""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from trove_async.driver import ByteRange
from trove_async.driver.crc import CRC32C, crc_combined
from trove_async.driver.finishing import dropped, finished
from trove_async.driver.http import (
    Body,
    Crc,
    check_span,
    content_range,
    length_of,
    range_header,
)
from trove_async.driver.parallel import Parallel, growing
from trove_async.driver.supply import Part, Supply
from trove_async.errors import (
    BackendError,
    ChecksumMismatchError,
    InvalidInputError,
    PermissionDeniedError,
    TruncatedError,
    UnavailableError,
    UploadNotFoundError,
)
from trove_async.testing.faults import Source

DATA = os.urandom(10_001)


class Sender:
    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.got: dict[int, bytes] = {}
        self.fail: Callable[[int], BaseException | None] = lambda number: None

    async def __call__(self, number: int, part: Part) -> int:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(0.001)
            if (error := self.fail(number)) is not None:
                raise error
            self.got[number] = b"".join(part.pieces)
        finally:
            self.under_way -= 1
        return part.size


def _thousand(number: int) -> int:
    return 1000


async def test_parts_go_at_once_and_none_is_mixed_up() -> None:
    sender = Sender()
    parallel = Parallel(sender, 3, 100)
    await parallel.run(Supply(Source(DATA, 77)), len(DATA), _thousand)
    assert b"".join(sender.got[number] for number in sorted(sender.got)) == DATA
    assert (parallel.size, sender.most, sender.under_way) == (len(DATA), 3, 0)
    assert parallel.sent == {number: len(part) for number, part in sender.got.items()}


async def test_one_that_fails_for_good_ends_all_and_one_that_may_pass_is_sent_again() -> None:
    sender = Sender()
    left = 2

    def sometimes(number: int) -> BaseException | None:
        nonlocal left
        if number == 2 and left:
            left -= 1
            return UnavailableError("later")
        return None

    sender.fail = sometimes
    await Parallel(sender, 3, 100).run(Supply(Source(DATA, 500)), None, _thousand)
    assert len(sender.got) == 11
    sender.fail = lambda number: PermissionDeniedError(f"part {number}") if number > 2 else None
    source = Source(DATA, 500)
    with pytest.raises(PermissionDeniedError, match="part"):
        await Parallel(sender, 3, 100).run(Supply(source), None, _thousand)
    assert (sender.under_way, source.closed) == (0, 0)


async def test_a_cancel_and_a_body_that_breaks_leave_no_task() -> None:
    sender = Sender()
    gate = asyncio.Event()
    source = Source(DATA, 500, gate=gate, gate_at=7)
    running = asyncio.create_task(Parallel(sender, 3, 100).run(Supply(source), None, _thousand))
    await source.waiting.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert sender.under_way == 0
    broken = Source(DATA, 500, error=ValueError("body"), fail_at=9)
    with pytest.raises(ValueError, match="body"):
        await Parallel(sender, 3, 100).run(Supply(broken), None, _thousand)
    assert sender.under_way == 0 and len(asyncio.all_tasks()) == 1


async def test_too_many_parts_and_another_length_are_told() -> None:
    for declared, most, kind in ((None, 10, InvalidInputError), (10_002, 11, TruncatedError)):
        sender = Sender()
        with pytest.raises(kind):
            await Parallel(sender, 2, most).run(Supply(Source(DATA)), declared, _thousand)
        assert sender.under_way == 0
    assert [growing(n, 4, step=2, most=20) for n in range(1, 8)] == [4, 4, 8, 8, 16, 16, 20]


async def test_what_is_looked_at_is_taken_next() -> None:
    supply = Supply(Source(DATA, 77))
    seen = await supply.peek(1000)
    assert await supply.peek(1) is seen and await supply.take(1) is seen
    assert (await supply.take(5)).pieces == [DATA[1000:1005]]


async def test_what_is_dropped_is_waited_for_and_what_cannot_be_is_noted() -> None:
    gone = UploadNotFoundError("there is none")
    denied = PermissionDeniedError("not yours")

    async def abort(error: Exception) -> None:
        raise error

    for error, noted in ((gone, []), (denied, ["it could not be aborted: not yours"])):
        reason = ValueError()
        await dropped(lambda e=error: abort(e), "it", reason)  # type: ignore[misc]
        assert getattr(reason, "__notes__", []) == noted
    with pytest.raises(TimeoutError):
        await finished(asyncio.ensure_future(asyncio.sleep(60)), grace=1, limit=0.01)
    reason = ValueError()
    await dropped(lambda: asyncio.sleep(60), "it", reason, limit=0.01)
    assert reason.__notes__ == ["it could not be aborted: no answer in time"]


def test_the_checksum_of_a_whole_from_those_of_its_parts() -> None:
    import google_crc32c

    for cut in (0, 1, 5000, len(DATA)):
        one, two = DATA[:cut], DATA[cut:]
        assert crc_combined(zlib.crc32(one), zlib.crc32(two), len(two)) == zlib.crc32(DATA)
        sums = google_crc32c.value(one), google_crc32c.value(two)
        assert crc_combined(*sums, len(two), CRC32C) == google_crc32c.value(DATA)


@pytest.mark.parametrize(
    "expected",
    [None, f"crc32:{zlib.crc32(DATA[10:9010]):08x}", "crc32:0"],
    ids=["nothing", "right", "wrong"],  # the same in every worker, the bytes are not
)
async def test_a_body_gives_what_was_asked_for_and_is_compared_before_its_end(
    expected: str | None,
) -> None:
    def body(stream: Any) -> Body:
        return Body(stream, 10, 9000, expected, lambda: Crc("crc32", zlib.crc32), "b", "k")

    source = Source(DATA, 77)
    if expected == "crc32:0":
        with pytest.raises(ChecksumMismatchError):
            [chunk async for chunk in body(source)]
    else:
        assert b"".join([chunk async for chunk in body(source)]) == DATA[10:9010]
    assert source.closed >= 1
    with pytest.raises(UnavailableError, match="too early"):
        [chunk async for chunk in body(Source(DATA[:500]))]


def test_headers_of_ranges_are_written_and_read() -> None:
    texts = [range_header(ByteRange(*span)) for span in ((3, None), (3, 5), (-4, None))]
    assert texts == ["bytes=3-", "bytes=3-4", "bytes=-4"]
    assert content_range("bytes 3-4/9") == (3, 5, 9) == check_span(3, 5, 9)
    for text in ("bytes 3-4/*", "bytes */9", "", "items 1-2/3", "bytes 3-4/" + "9" * 20):
        with pytest.raises(BackendError):
            content_range(text)
    for span in ((5, 5, 9), (3, 10, 9), (5, 3, 9)):
        with pytest.raises(BackendError):
            check_span(*span)
    assert length_of({"b": "7"}, "a", "b") == 7
    for value in ("", "-1", "1.5", "٣", "9" * 20):
        with pytest.raises(BackendError):
            length_of({"a": value}, "a")
