"""Large bodies flow: what is under way between loop and worker, and what becomes of it."""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.drivers.local.helpers_local import MiB, Pieces, large, put, read
from trove_async.driver import BucketOptions, GetOptions, PutOptions
from trove_async.drivers.local import LocalDriver
from trove_async.drivers.local.config import LocalConfig
from trove_async.drivers.local.fs import FS
from trove_async.errors import BucketNotFoundError, TroveError


class Gate(FS):
    """Writes and reads wait for `open`, and fail from a certain one on."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.calls = 0
        self.fail_at = 1 << 30

    def _pass(self) -> None:
        assert self.gate.wait(20)
        self.calls += 1
        if self.calls >= self.fail_at:
            raise OSError(errno.EIO, "broken")

    def writev(self, fd: int, buffers: Sequence[bytes | bytearray | memoryview]) -> int:
        self._pass()
        return super().writev(fd, buffers)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._pass()
        return super().pread(fd, size, offset)


async def opened(root: Path, fs: FS) -> LocalDriver:
    driver = LocalDriver(LocalConfig(root=root, durability="none"), fs)
    await driver.open()
    await driver.create_bucket("bucket", BucketOptions())
    return driver


def leftovers(root: Path) -> list[str]:
    return [
        p.name for p in (root / ".trove" / "tmp").rglob("*") if p.is_file() and p.name != "lock"
    ]


async def test_a_body_is_pulled_on_while_its_start_is_written_but_not_without_end(
    tmp_path: Path,
) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    pieces = Pieces(*[large(MiB)[:MiB]] * 40)
    fs.gate.clear()
    task = asyncio.create_task(driver.put("bucket", "key", pieces, PutOptions()))
    pulled = -1
    while pulled != pieces.pulled or not pulled:
        pulled = pieces.pulled
        await asyncio.sleep(0.1)
    assert 2 <= pulled <= 10
    fs.gate.set()
    info = await task
    assert info.size == 40 * MiB
    assert await read(driver, "key") == large(MiB)[:MiB] * 40
    await driver.close()


@pytest.mark.parametrize("number", [1, 3, 12])
async def test_a_write_that_fails_ends_the_put_and_leaves_nothing(
    tmp_path: Path, number: int
) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    fs.calls, fs.fail_at = 0, number
    pieces = Pieces(*[large(MiB)] * 60)
    with pytest.raises(TroveError) as caught:
        await driver.put("bucket", "key", pieces, PutOptions())
    assert isinstance(caught.value.__cause__, OSError)
    assert pieces.pulled < 40
    assert leftovers(tmp_path) == []
    fs.fail_at = 1 << 30
    assert (await put(driver, "key", b"later")).size == 5
    await driver.close()


async def test_a_missing_bucket_is_said_before_the_whole_body_is_pulled(tmp_path: Path) -> None:
    driver = await opened(tmp_path, FS())
    pieces = Pieces(*[large(MiB)] * 60)
    with pytest.raises(BucketNotFoundError):
        await driver.put("nothing", "key", pieces, PutOptions())
    assert pieces.pulled < 40
    assert leftovers(tmp_path) == []
    await driver.close()


async def test_a_cancel_while_the_file_is_behind_leaves_nothing(tmp_path: Path) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    fs.gate.clear()
    task = asyncio.create_task(
        driver.put("bucket", "key", Pieces(*[large(MiB)] * 40), PutOptions())
    )
    for _ in range(200):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0.05)
    fs.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert leftovers(tmp_path) == []
    await driver.close()


async def test_a_read_runs_ahead_but_not_without_end(tmp_path: Path) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    await put(driver, "key", large(20 * MiB))
    found = await driver.get("bucket", "key", GetOptions())
    fs.calls = 0
    first = await anext(found.body)
    await asyncio.sleep(0.2)
    assert 2 <= fs.calls <= 6
    rest = [bytes(chunk) async for chunk in found.body]
    assert bytes(first) + b"".join(rest) == large(20 * MiB)
    await found.body.aclose()
    await driver.close()


async def test_a_read_that_fails_gives_what_was_read_before_it(tmp_path: Path) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    await put(driver, "key", large(8 * MiB))
    found = await driver.get("bucket", "key", GetOptions())
    fs.calls, fs.fail_at = 0, 4
    taken = b""
    with pytest.raises(TroveError):
        async for chunk in found.body:
            taken += chunk
    assert taken == large(8 * MiB)[: 3 * MiB]
    with pytest.raises(TroveError):  # and says so again
        await anext(found.body)
    await found.body.aclose()
    await driver.close()


async def test_a_cancelled_read_can_be_closed_while_the_worker_is_in_it(tmp_path: Path) -> None:
    fs = Gate()
    driver = await opened(tmp_path, fs)
    await put(driver, "key", large(8 * MiB))
    found = await driver.get("bucket", "key", GetOptions())
    fs.gate.clear()
    task = asyncio.ensure_future(anext(found.body))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    closing = asyncio.ensure_future(found.body.aclose())
    await asyncio.sleep(0.05)
    assert not closing.done()  # the descriptor is not closed under the read
    fs.gate.set()
    await closing
    with pytest.raises(StopAsyncIteration):
        await anext(found.body)
    await driver.close()


async def test_puts_side_by_side_all_arrive(tmp_path: Path) -> None:
    driver = await opened(tmp_path, FS())
    bodies = {f"k{n}": large(100_000 + n, seed=n + 1)[: 100_000 + n] for n in range(64)}
    await asyncio.gather(*(put(driver, key, data) for key, data in bodies.items()))
    for key, data in bodies.items():
        assert await read(driver, key) == data
    await driver.close()
