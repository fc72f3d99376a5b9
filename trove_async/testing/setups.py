"""What several groups of cases set up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Unpack

from trove_async import Trove
from trove_async.driver import Driver, MultipartDriver, capability, parse_dsn
from trove_async.testing.faults import Fault, FaultyDriver
from trove_async.testing.faulty import faulty
from trove_async.testing.harness import Harness, StoreOptions

__all__ = ["Place", "faulty_place", "files_of", "folder_of", "place_of"]


@dataclass(frozen=True, slots=True)
class Place:
    """A store, the driver below it, and a bucket of its own."""

    store: Trove
    driver: Driver
    bucket: str

    async def get(self, key: str) -> bytes:
        return await self.store.get_bytes(self.bucket, key)

    async def uploads(self) -> list[str]:
        """Ids of unfinished uploads."""
        able = capability(self.driver, MultipartDriver)
        if able is None:
            return []
        return [upload.upload_id for upload in await able.list_uploads(self.bucket, "")]


async def faulty_place(
    h: Harness, *faults: Fault, yields: bool = False, **options: Unpack[StoreOptions]
) -> tuple[Place, FaultyDriver]:
    """Over a driver of the factory on storage of its own, behind ``faults``. They are in force
    when the bucket has been made."""
    driver = faulty(h.new_driver(), yields=yields)
    h.watched(driver)
    store = await h.open_store(driver, **options)
    bucket = await h.new_bucket(store, driver)
    driver.calls.clear()
    driver.add(*faults)
    h.on_close(driver.faults.clear)
    return Place(store, driver, bucket), driver


async def place_of(h: Harness, kind: str) -> Place:
    """``plain``: the case's own. ``stepped``: one that gives control to the loop around every
    call, so that a cancel can be felt there also when the driver never waits."""
    if kind == "plain":
        return Place(h.store, h.driver, h.bucket)
    return (await faulty_place(h, yields=True))[0]


def folder_of(driver: object) -> str | None:
    """Where a driver with a ``file`` or ``local`` connection string keeps its objects."""
    seen: object | None = driver
    while seen is not None:
        text = getattr(seen, "dsn", None)
        if isinstance(text, str):
            dsn = parse_dsn(text)
            return dsn.path if dsn.scheme in ("file", "local") else None
        seen = getattr(seen, "inner", None)
    return None


def files_of(driver: object) -> set[str]:
    """Every file below that folder, hidden and temporary ones too; empty without one."""
    root = folder_of(driver)
    if root is None:
        return set()
    return {
        os.path.relpath(os.path.join(where, name), root)
        for where, _, names in os.walk(root)
        for name in names
    }
