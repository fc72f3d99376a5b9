"""Mutants of listings and of buckets."""

from __future__ import annotations

import builtins
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

from trove_async.driver import BucketOptions, Chunks, ListOptions, PutOptions
from trove_async.drivers.memory import MemoryDriver
from trove_async.errors import BucketExistsError
from trove_async.model import BucketInfo, DeleteResult, ObjectInfo, ObjectPage
from trove_async.testing.mutants.mutant import Mutant

__all__ = ["LISTINGS"]


class Unordered(MemoryDriver):
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        by_utf16 = sorted(page.objects, key=lambda info: info.key.encode("utf-16-be"))
        return ObjectPage(by_utf16, page.prefixes, page.cursor)


class LosesTheLastOfAPage(MemoryDriver):
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        if page.cursor is None:
            return page
        return ObjectPage(page.objects[:-1], page.prefixes, page.cursor)


class RepeatsAcrossPages(MemoryDriver):
    """The first of a page is the last of the one before."""

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        if options.cursor is None or options.cursor[0] != "k":
            return page
        again = self._bucket(bucket).objects.get(options.cursor[1:])
        objects = [*([again.info] if again is not None else []), *page.objects]
        return ObjectPage(objects[: options.page_size + 1], page.prefixes, page.cursor)


class StartsAtInsteadOfAfter(MemoryDriver):
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        after = options.start_after
        if after and options.cursor is None and after in self._bucket(bucket).objects:
            options = replace(options, start_after=after[:-1] + chr(ord(after[-1]) - 1) + "\uffff")
        return await super().list(bucket, options)


class GlobbingPrefix(MemoryDriver):
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, replace(options, prefix=""))
        found = [i for i in page.objects if fnmatchcase(i.key, options.prefix + "*")]
        return ObjectPage(found, page.prefixes, page.cursor)


class PrefixIsAFolder(MemoryDriver):
    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        folder = options.prefix.rstrip("/") + "/" if options.prefix else ""
        found = [i for i in page.objects if i.key.startswith(folder)]
        return ObjectPage(found, page.prefixes, page.cursor)


class ListsWhatWasThere(MemoryDriver):
    """Listings lag by one change, and nothing says so."""

    def __init__(self) -> None:
        super().__init__()
        self._before: dict[str, tuple[int, ObjectPage]] = {}

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        if options != ListOptions():
            return page
        count, old = self._before.get(bucket, (self._state.count, page))
        self._before[bucket] = (self._state.count, page)
        return page if count == self._state.count else old


class DeletesFullBuckets(MemoryDriver):
    async def delete_bucket(self, name: str) -> None:
        self._bucket(name).objects.clear()
        await super().delete_bucket(name)


class DuplicateBucketIsEmptied(MemoryDriver):
    async def create_bucket(self, name: str, options: BucketOptions) -> None:
        try:
            await super().create_bucket(name, options)
        except BucketExistsError:
            del self._state.buckets[name]
            await super().create_bucket(name, options)


class BucketsKeepTheirPast(MemoryDriver):
    """A bucket made again has what the deleted one held."""

    def __init__(self) -> None:
        super().__init__()
        self._ghosts: dict[str, dict[str, ObjectInfo]] = {}

    async def put(self, bucket: str, key: str, body: Chunks, options: PutOptions) -> ObjectInfo:
        info = await super().put(bucket, key, body, options)
        self._ghosts.setdefault(bucket, {})[key] = info
        return info

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        if not page.objects and options.page_size > 1:
            return ObjectPage([*self._ghosts.get(bucket, {}).values()])
        return page


class ShowsBucketsOfOneLetterLess(MemoryDriver):
    """Buckets are told apart by a prefix."""

    async def list(self, bucket: str, options: ListOptions) -> ObjectPage:
        page = await super().list(bucket, options)
        for name, place in self._state.buckets.items():
            if name != bucket and name.startswith(bucket):
                page.objects.extend(stored.info for stored in place.objects.values())
        return page


class UnsortedBuckets(MemoryDriver):
    async def list_buckets(self) -> builtins.list[BucketInfo]:
        return [BucketInfo(name) for name in [*self._state.buckets][:1]]


class BatchStopsAtMissing(MemoryDriver):
    async def delete_many(self, bucket: str, keys: object) -> builtins.list[DeleteResult]:
        assert isinstance(keys, builtins.list | tuple)
        results: builtins.list[DeleteResult] = []
        is_stopped = False
        for key in keys:
            is_stopped = is_stopped or key not in self._bucket(bucket).objects
            if not is_stopped:
                self._remove(self._bucket(bucket), key)
            results.append(DeleteResult(key))
        return results


LISTINGS: Final = (
    Mutant("listing in UTF-16 order", Unordered, ("K084",)),
    Mutant("loses the last of a page", LosesTheLastOfAPage, ("K143", "K144")),
    Mutant("repeats across pages", RepeatsAcrossPages, ("K143",)),
    Mutant("starts at instead of after", StartsAtInsteadOfAfter, ("K145",)),
    Mutant("globbing prefix", GlobbingPrefix, ("K088",)),
    Mutant("prefix is a folder", PrefixIsAFolder, ("K086",)),
    Mutant("lists what was there", ListsWhatWasThere, ("K152",)),
    Mutant("deletes full buckets", DeletesFullBuckets, ("K133",)),
    Mutant("duplicate bucket is emptied", DuplicateBucketIsEmptied, ("K135",)),
    Mutant("buckets keep their past", BucketsKeepTheirPast, ("K140",)),
    Mutant("buckets told apart by prefix", ShowsBucketsOfOneLetterLess, ("K141",)),
    Mutant("shows one bucket", UnsortedBuckets, ("K138",)),
    Mutant("batch stops at a missing key", BatchStopsAtMissing, ("K130",)),
)
