"""F08 to F14 in process: every call of every operation fails once, in every way a disk has."""

from __future__ import annotations

import errno
import itertools
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Final

import pytest

from tests.faults.operations import READS, WRITES, Operation, Template, driver_at
from tests.faults.world import Place, descriptors, temporary
from trove_async.errors import (
    BackendError,
    PermissionDeniedError,
    StorageFullError,
    TroveError,
    UnavailableError,
)
from trove_async.testing.faultfs import (
    CHANGES,
    Fault,
    FaultFS,
    fails,
    fails_after,
    interrupted,
    short,
)

TYPES: Final[dict[int, type[TroveError]]] = {
    errno.EIO: BackendError,
    errno.ENOSPC: StorageFullError,
    errno.EDQUOT: StorageFullError,
    errno.EMFILE: UnavailableError,
    errno.ENFILE: UnavailableError,
    errno.EROFS: PermissionDeniedError,
    errno.EACCES: PermissionDeniedError,
}
CLEANING: Final = frozenset({"unlink", "rmdir", "open", "scandir", "close"})
"""Calls that also clean up: when one of them fails, a temporary file may wait for the close."""


async def until_it_succeeds(
    scratch: Path,
    template: Template,
    operation: Operation,
    fault: Fault,
    *,
    wanted: type[TroveError] = TroveError,
    only: Collection[str] = (),
    lax: bool = False,
) -> tuple[int, int]:
    """Fails the 1st call, then the 2nd, until none is left to fail; how many there were, and
    how many of them the operation said an error for. ``lax``: temporary files may wait for
    the close."""
    failed = 0
    for at in itertools.count(1):
        root = scratch / f"root-{at}"
        template.make(root)
        fs = FaultFS("slow")
        driver = driver_at(root, template.place, fs)
        await driver.open()
        before = descriptors()
        fs.arm(fault, at=at, only=only)
        error: TroveError | None = None
        try:
            await operation.work(driver, template)
        except TroveError as exc:
            error = exc
        struck = fs.struck
        fs.disarm()
        assert descriptors() == before, f"call {at}, {struck}: a descriptor leaks"
        assert not fs.stale, f"call {at}, {struck}: a closed descriptor was used"
        if not lax and not CLEANING.intersection(struck):
            assert temporary(root) == [], f"call {at}, {struck}: a temporary file stays"
        await driver.close()
        assert not fs.open_now
        if error is not None:
            failed += 1
            assert struck, f"it fails without a fault: {error!r}"
            assert isinstance(error, wanted), f"call {at}, {struck}: {error!r}"
            assert str(root) not in f"{error!r}{error}"
        try:
            await template.check(root, operation, done=error is None)
        except AssertionError as exc:
            exc.add_note(f"call {at}, {struck}, {error!r}")
            raise
        shutil.rmtree(root)
        if not struck:
            return at - 1, failed
    raise AssertionError


@pytest.fixture(params=["auto", "sidecar"])
async def template(request: pytest.FixtureRequest, scratch: Path) -> Template:
    place: Place = request.param
    return await Template.made(scratch / "template", place)


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_F09_each_call_fails_with_EIO(scratch: Path, template: Template, name: str) -> None:
    operation = {**WRITES, **READS}[name]
    hit, failed = await until_it_succeeds(
        scratch, template, operation, fails(errno.EIO), wanted=BackendError
    )
    assert hit >= 3 and failed >= 2


@pytest.mark.parametrize("name", WRITES)
async def test_F09_each_change_is_done_but_its_reply_lost(
    scratch: Path, template: Template, name: str
) -> None:
    hit, _ = await until_it_succeeds(
        scratch, template, WRITES[name], fails_after(errno.EIO), only=CHANGES - {"open"}, lax=True
    )
    assert hit >= 1


@pytest.mark.parametrize("number", [n for n in TYPES if n != errno.EIO], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", ["put_nested", "overwrite_large", "copy", "part", "complete"])
async def test_F10_F11_F12_a_full_disk_a_quota_no_descriptors_no_permission(
    scratch: Path, template: Template, name: str, number: int
) -> None:
    """Not the attribute that is too large for its file system (see E2BIG), which falls back."""
    only = CHANGES - {"setxattr"} if number == errno.ENOSPC else CHANGES | {"open_beneath"}
    hit, failed = await until_it_succeeds(
        scratch, template, WRITES[name], fails(number), wanted=TYPES[number], only=only
    )
    assert hit >= 5 and failed >= 4


@pytest.mark.parametrize("name", WRITES)
async def test_F08_a_failed_fsync_is_not_acknowledged(
    scratch: Path, template: Template, name: str
) -> None:
    """Nor tried again on the same file, where the kernel may say that all is well now."""
    hit, failed = await until_it_succeeds(
        scratch, template, WRITES[name], fails(errno.EIO), only={"fsync"}
    )
    assert failed == hit or name in ("abort", "complete")


@pytest.mark.parametrize("fault", [short, interrupted], ids=["short", "EINTR"])
@pytest.mark.parametrize("name", ["overwrite", "overwrite_large", "copy", "complete", "part"])
async def test_F13_short_and_interrupted_calls_give_the_exact_body(
    scratch: Path, template: Template, name: str, fault: Fault
) -> None:
    """Every write and copy is short to the end; every second one is interrupted."""
    root = scratch / "root"
    template.make(root)
    fs = FaultFS("slow")
    driver = driver_at(root, template.place, fs)
    await driver.open()
    moves = {"writev", "copy_file_range", "pread"}
    if fault is short:
        fs.arm(fault, times=None, only=moves)
    else:
        seen = itertools.count()
        fs.arm(
            lambda name, real, arguments: (
                interrupted(name, real, arguments) if next(seen) % 2 == 0 else real()
            ),
            times=None,
            only=moves - {"pread"},
        )
    await WRITES[name].work(driver, template)
    assert len(fs.struck) >= 2
    fs.disarm()
    await driver.close()
    await template.check(root, WRITES[name], done=True)


@pytest.mark.parametrize("number", TYPES, ids=errno.errorcode.get)
async def test_F09_a_failing_open_of_the_driver_leaves_nothing(
    scratch: Path, template: Template, number: int
) -> None:
    for at in itertools.count(1):
        root = scratch / f"root-{at}"
        template.make(root)
        fs = FaultFS("slow")
        fs.arm(fails(number), at=at)
        driver = driver_at(root, template.place, fs)
        before = descriptors()
        try:
            await driver.open()
        except TroveError:
            assert fs.struck
            assert descriptors() == before
            assert not fs.open_now
            await driver.close()
            fs.disarm()
            await driver.open()  # the same driver, once the fault is gone
        struck = bool(fs.struck)
        fs.disarm()
        await driver.close()
        assert descriptors() == before
        await template.check(root, Operation(READS["head"].work), done=True)
        shutil.rmtree(root)
        if not struck and at > 20:
            return
