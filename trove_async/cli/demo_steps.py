"""The demo's steps on an open store. Each compares what the store gives with the source."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from trove_async import CommonPrefix, InvalidKeyError, Trove, TroveError
from trove_async.cli.demo_report import Report, Step
from trove_async.cli.files import Found
from trove_async.cli.run import reason

__all__ = ["Tour"]

BUCKET, COPIES = "demo", "demo-copies"
_SAMPLE = 200
_RANGES = 4  # per object of the sample
_SMALL = 1024 * 1024

T = TypeVar("T", Found, tuple[str, str, Found])


@dataclass(slots=True)
class Tour:
    """Every file of ``files`` has a UTF-8 name, which is its key."""

    store: Trove
    report: Report
    files: Sequence[Found]
    deadline: float | None
    """Of the import, as `time.monotonic`."""
    tasks: int = 16
    route: tuple[str, str] | None = None
    """The pattern and the backend that the store was opened with."""
    imported: list[Found] = field(default_factory=list)
    skipped: int = 0
    copied: list[tuple[str, Found]] = field(default_factory=list)

    async def run(self) -> None:
        await self.store.create_bucket(BUCKET)
        await self.store.create_bucket(COPIES)
        await self.bring_in()
        await self.list_all()
        await self.read_ranges()
        await self.overwrite()
        await self.copy()
        await self.verify()
        await self.clear()

    # -- the steps ---------------------------------------------------------------------------

    async def bring_in(self) -> None:
        done: list[Found] = []

        async def one(step: Step, file: Found) -> None:
            try:
                info = await self.store.put(BUCKET, _key(file), file.path)
            except InvalidKeyError:
                self.skipped += 1  # a name that the default backend cannot hold
                return
            except OSError as exc:
                if isinstance(exc, TroveError):
                    raise
                self.skipped += 1  # unreadable, or gone since it was found
                return
            done.append(file)
            self.report.advance(step, info.size)

        with self.report.step("import", len(self.files)) as step:
            await self._each(step, self.files, one, deadline=self.deadline)
            self.imported = sorted(done, key=lambda file: _key(file).encode())
            left = len(self.files) - len(done) - self.skipped
            notes = [f"{left:,} left out (time)"] if left else []
            notes += [f"{self.skipped:,} unreadable"] if self.skipped else []
            step.note = ", ".join(notes)

    async def list_all(self) -> None:
        """Once flat, once folder by folder, and once only what was routed away."""
        expected = [_key(file) for file in self.imported]
        with self.report.step("list", len(expected)) as step:
            flat = [key async for key in self._keys(self.store)]
            self.report.advance(step, 0, len(flat))
            if flat != expected:
                step.wrong(BUCKET, _difference(expected, flat))
        with self.report.step("list by /", len(expected)) as step:
            found, folders = await self._walk(step)
            step.note = f"{folders:,} folders"
            if sorted(found, key=str.encode) != expected:
                step.wrong(BUCKET, _difference(expected, found))
        if self.route is None:
            return
        pattern, backend = self.route
        expected = [key for key in expected if fnmatchcase(key, pattern)]
        with self.report.step("routed", len(expected)) as step:
            there = [key async for key in self._keys(self.store.backend(backend))]
            self.report.advance(step, 0, len(there))
            step.note = f"in backend {backend!r}"
            if there != expected:
                step.wrong(backend, _difference(expected, there))

    async def _keys(self, store: Trove) -> AsyncGenerator[str, None]:
        async with aclosing(store.list(BUCKET)) as entries:
            async for entry in entries:
                if not isinstance(entry, CommonPrefix):
                    yield entry.key

    async def _walk(self, step: Step) -> tuple[list[str], int]:
        found: list[str] = []
        folders = [""]
        for folder in folders:  # grows while it is walked
            listing = self.store.list(BUCKET, prefix=folder, delimiter="/")
            async with aclosing(listing) as entries:
                async for entry in entries:
                    if isinstance(entry, CommonPrefix):
                        folders.append(entry.prefix)
                    else:
                        found.append(entry.key)
                        self.report.advance(step, 0)
        return found, len(folders)

    async def read_ranges(self) -> None:
        dice = random.Random(2001)
        chosen = self._sample(lambda file: file.size > 0)

        async def one(step: Step, file: Found) -> None:
            ranges = [_slice(dice, file.size) for _ in range(_RANGES)]
            pieces = await self.store.get_ranges(BUCKET, _key(file), ranges)
            ranges.append(slice(-min(16, file.size), None))
            pieces.append(await self.store.get_bytes(BUCKET, _key(file), range=ranges[-1]))
            with file.path.open("rb") as source:
                wanted = [_cut(source.read, source.seek, part, file.size) for part in ranges]
            if pieces != wanted and not _changed(file):
                step.wrong(_key(file), "a range differs from the source")
            self.report.advance(step, sum(map(len, pieces)))

        with self.report.step("ranges", len(chosen)) as step:
            step.note = f"{len(chosen) * (_RANGES + 1):,} equal"
            await self._each(step, chosen, one)

    async def overwrite(self) -> None:
        """New bytes are seen at once; then the source is put back."""
        chosen = self._sample(lambda file: file.size <= _SMALL)

        async def one(step: Step, file: Found) -> None:
            key = _key(file)
            before = await self.store.head(BUCKET, key)
            body = b"overwritten: " + key.encode()
            info = await self.store.put(BUCKET, key, body, if_match=before.etag)
            if await self.store.get_bytes(BUCKET, key) != body or info.etag == before.etag:
                step.wrong(key, "the new bytes are not there")
            await self.store.put(BUCKET, key, file.path)
            self.report.advance(step, len(body) + file.size)

        with self.report.step("overwrite", len(chosen)) as step:
            await self._each(step, chosen, one)

    async def copy(self) -> None:
        """The new name ends in .copy, so what a pattern had routed crosses the backends."""
        chosen = self._sample(lambda file: True)

        async def one(step: Step, file: Found) -> None:
            target = f"{_key(file)}.copy"
            try:
                info = await self.store.copy(BUCKET, _key(file), COPIES, target)
            except InvalidKeyError:
                return  # the longer name does not fit
            self.copied.append((target, file))
            self.report.advance(step, info.size)

        with self.report.step("copy", len(chosen)) as step:
            await self._each(step, chosen, one)

    async def verify(self) -> None:
        """Every object, copies too: its bytes, its size and its recorded checksum."""
        everything = [(BUCKET, _key(file), file) for file in self.imported]
        everything += [(COPIES, key, file) for key, file in self.copied]
        changed = 0

        async def one(step: Step, item: tuple[str, str, Found]) -> None:
            nonlocal changed
            bucket, key, file = item
            wanted = await _digest_of(file)
            digest = hashlib.sha256()
            size = 0
            async with self.store.get(bucket, key) as reader:
                async for chunk in reader:
                    digest.update(chunk)
                    size += len(chunk)
                recorded = reader.info.checksum
            if _changed(file):
                changed += 1
            elif digest.hexdigest() != wanted or size != file.size:
                step.wrong(f"{bucket}/{key}", "the bytes differ from the source")
            elif recorded != f"sha256:{wanted}":
                step.wrong(f"{bucket}/{key}", f"the recorded checksum is {recorded}")
            self.report.advance(step, size)

        with self.report.step("verify", len(everything)) as step:
            await self._each(step, everything, one)
            step.note = f"{step.objects - changed:,} equal"
            if changed:
                step.note += f"; {changed:,} changed meanwhile"

    async def clear(self) -> None:
        with self.report.step("delete", len(self.imported) + len(self.copied)) as step:
            keys = {
                BUCKET: [_key(file) for file in self.imported],
                COPIES: [key for key, _ in self.copied],
            }
            for bucket, all_keys in keys.items():
                for start in range(0, len(all_keys), 500):
                    some = all_keys[start : start + 500]
                    for result in await self.store.delete_many(bucket, some):
                        if result.error is not None:
                            step.wrong(f"{bucket}/{result.key}", reason(result.error))
                        else:
                            self.report.advance(step, 0)
                await self.store.delete_bucket(bucket)

    # -- tools -------------------------------------------------------------------------------

    def _sample(self, fits: Callable[[Found], bool]) -> list[Found]:
        """Spread over all that was imported."""
        fitting = [file for file in self.imported if fits(file)]
        return fitting[:: max(1, len(fitting) // _SAMPLE)]

    async def _each(
        self,
        step: Step,
        items: Sequence[T],
        work: Callable[[Step, T], Awaitable[None]],
        *,
        deadline: float | None = None,
    ) -> None:
        """At most ``tasks`` at once. A store's error is a fault of the step, not its end."""
        slots = asyncio.Semaphore(self.tasks)

        async def one(item: T) -> None:
            try:
                await work(step, item)
            except TroveError as exc:
                step.wrong(_label(item), reason(exc))
            finally:
                slots.release()

        async with asyncio.TaskGroup() as group:
            for item in items:
                await slots.acquire()
                if deadline is not None and time.monotonic() > deadline:
                    return
                group.create_task(one(item))


def _key(file: Found) -> str:
    return file.relative or ""


def _label(item: Found | tuple[str, str, Found]) -> str:
    return _key(item) if isinstance(item, Found) else "/".join(map(str, item[:2]))


def _slice(dice: random.Random, size: int) -> slice:
    start = dice.randrange(size)
    return slice(start, min(size, start + dice.randint(1, 64 * 1024)))


def _cut(read: Callable[[int], bytes], seek: Callable[[int], int], part: slice, size: int) -> bytes:
    start, stop, _ = part.indices(size)
    seek(start)
    return read(stop - start)


def _changed(file: Found) -> bool:
    """Whether somebody wrote to the source since it was found."""
    try:
        about = file.path.lstat()
    except OSError:
        return True
    return (about.st_size, about.st_mtime_ns) != (file.size, file.modified)


def _digest(file: Found) -> str | None:
    try:
        with file.path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest()
    except OSError:
        return None


async def _digest_of(file: Found) -> str | None:
    return _digest(file) if file.size < _SMALL else await asyncio.to_thread(_digest, file)


def _difference(expected: Sequence[str], found: Sequence[str]) -> str:
    missing = len(set(expected) - set(found))
    extra = len(set(found) - set(expected))
    return f"{missing} keys missing, {extra} too many" if missing or extra else "not in key order"
