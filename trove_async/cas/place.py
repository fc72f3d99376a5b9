"""Where blobs are: the store that holds them, as `CAS` needs it, and their keys in its bucket."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

from trove_async.errors import (
    BucketExistsError,
    BucketNotFoundError,
    InvalidInputError,
    ObjectNotFoundError,
    PreconditionFailedError,
    UnsupportedError,
)
from trove_async.model import DeleteResult, ObjectInfo, ObjectPage

if TYPE_CHECKING:
    from trove_async._chunks import AsyncBytes
    from trove_async._opening import Opening
    from trove_async._store.reader import ObjectReader

__all__ = [
    "ALGORITHMS",
    "PREFIX",
    "STAMP",
    "Assemble",
    "BlobStore",
    "Place",
    "Prove",
    "check_digest",
]

ALGORITHMS: Final = ("sha256", "blake3")
"""What may name content; all else finds accidents only."""
PREFIX: Final = "cas/"
TMP: Final = "cas/tmp/"
STAMP: Final = "casbegan"
"""Metadata of every blob: when its writer began, by the clock of the index."""

_DIGEST: Final = re.compile(r"(sha256|blake3):[0-9a-f]{64}")
_KEY: Final = re.compile(r"cas/(sha256|blake3)/([0-9a-f]{2})/([0-9a-f]{64})~(\d{1,9})(\.chunks)?")


class BlobStore(Protocol):
    """The verbs of a store that blobs go through, layers and routes included."""

    async def put(
        self,
        bucket: str | None,
        key: str,
        body: object,
        *,
        metadata: Mapping[str, str] | None = None,
        checksum: str | None = None,
        if_none_match: str | None = None,
    ) -> ObjectInfo: ...

    def get(
        self, bucket: str | None, key: str, *, range: slice | None = None
    ) -> Opening[ObjectReader]: ...

    async def head(self, bucket: str | None, key: str) -> ObjectInfo: ...

    async def move(
        self,
        src_bucket: str | None,
        src_key: str,
        dst_bucket: str | None,
        dst_key: str,
        *,
        if_none_match: str | None = None,
    ) -> ObjectInfo: ...

    async def delete(self, bucket: str | None, key: str) -> None: ...

    async def delete_many(self, bucket: str | None, keys: Sequence[str]) -> list[DeleteResult]: ...

    async def list_page(
        self, bucket: str | None, *, prefix: str = "", cursor: str | None = None
    ) -> ObjectPage: ...

    async def create_bucket(self, name: str) -> None: ...


class Prove(Protocol):
    """Makes of an open reader one that gives its last byte only if the whole has ``digest``."""

    def __call__(
        self,
        reader: ObjectReader,
        digest: str,
        on_corrupt: Callable[[], Awaitable[None]],
    ) -> ObjectReader: ...


class Assemble(Protocol):
    """A reader of a range of content: ``open`` gives bytes from its first argument up to, not
    including, its second. InvalidRangeError."""

    def __call__(
        self, info: ObjectInfo, range: slice | None, open: Callable[[int, int], AsyncBytes]
    ) -> ObjectReader: ...


def check_digest(digest: str) -> str:
    """In lower case. InvalidInputError for all but the digests that name content."""
    if not isinstance(digest, str):
        raise TypeError(f"a digest is a str, not {type(digest).__name__}")
    lower = digest.lower()
    if _DIGEST.fullmatch(lower) is None:
        raise InvalidInputError(f"not sha256:<hex> or blake3:<hex>: {digest[:100]!r}")
    return lower


class Place:
    """One bucket. It is made when something is first to be written there."""

    def __init__(self, store: BlobStore, bucket: str) -> None:
        self.store = store
        self.bucket = bucket
        self._is_there = False
        self._condition: str | None = "*"

    @staticmethod
    def key(digest: str, gen: int, *, is_manifest: bool = False) -> str:
        """``is_manifest``: what is there names the chunks of the content. The name says so, so
        that no content can pass for a manifest, nor a manifest for content."""
        algorithm, _, value = digest.partition(":")
        return f"cas/{algorithm}/{value[:2]}/{value}~{gen}{'.chunks' if is_manifest else ''}"

    @staticmethod
    def tmp_key(upload: str) -> str:
        return TMP + upload

    @staticmethod
    def blob_of(key: str) -> tuple[str, int, bool] | None:
        """(digest, generation, whether it is a manifest) of a blob's key; None for every other
        key."""
        match = _KEY.fullmatch(key)
        if match is None or not match[3].startswith(match[2]):
            return None
        return f"{match[1]}:{match[3]}", int(match[4]), match[5] is not None

    async def publish(
        self, key: str, body: object, size: int, stamp: int, checksum: str | None = None
    ) -> ObjectInfo:
        """Step 4 of a put: writes a body that can be read again, create-only. One that is there
        already was written by a writer of the same content."""
        try:
            return await self._put(key, body, stamp, checksum, self._condition)
        except PreconditionFailedError:
            with suppress(ObjectNotFoundError):  # a collector has deleted it just now
                info = await self.store.head(self.bucket, key)
                if info.size == size:
                    return info
        # Whatever that is, nothing refers to it: the generation is reserved for this content.
        return await self._put(key, body, stamp, checksum, None)

    async def write_tmp(self, key: str, body: object, stamp: int) -> ObjectInfo:
        """Step 2: what is there before its name is known."""
        await self.ready()
        return await self.store.put(self.bucket, key, body, metadata={STAMP: str(stamp)})

    async def promote(self, source: str, key: str, size: int) -> ObjectInfo:
        """Step 4: gives what is at ``source`` its name, create-only; there is nothing at
        ``source`` then."""
        try:
            return await self._move(source, key, self._condition)
        except UnsupportedError:
            if self._condition is None:
                raise
            self._condition = None
            return await self._move(source, key, None)
        except PreconditionFailedError:
            info = await self.store.head(self.bucket, key)
        if info.size != size:
            return await self._move(source, key, None)
        await self.store.delete(self.bucket, source)
        return info

    async def _move(self, source: str, key: str, condition: str | None) -> ObjectInfo:
        return await self.store.move(self.bucket, source, self.bucket, key, if_none_match=condition)

    async def _put(
        self, key: str, body: object, stamp: int, checksum: str | None, condition: str | None
    ) -> ObjectInfo:
        metadata = {STAMP: str(stamp)}

        async def put() -> ObjectInfo:
            return await self.store.put(
                self.bucket,
                key,
                body,
                metadata=metadata,
                checksum=checksum,
                if_none_match=condition,
            )

        try:
            return await put()
        except BucketNotFoundError:
            self._is_there = False
            await self.ready()
        except UnsupportedError:
            if condition is None:
                raise
            condition = self._condition = None  # a backend that has no create-only put
        return await put()

    async def ready(self) -> None:
        """Makes the bucket, where it is not there."""
        if self._is_there:
            return
        try:
            await self.store.head(self.bucket, TMP + "-")
        except BucketNotFoundError:
            with suppress(BucketExistsError):  # another writer was first
                await self.store.create_bucket(self.bucket)
        except ObjectNotFoundError:
            pass
        self._is_there = True

    async def delete_many(self, keys: Sequence[str]) -> list[DeleteResult]:
        try:
            return await self.store.delete_many(self.bucket, keys)
        except BucketNotFoundError:
            return [DeleteResult(key) for key in keys]
