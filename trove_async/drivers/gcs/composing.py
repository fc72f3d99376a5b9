"""Objects put together of others inside the service, 32 at a time.

https://cloud.google.com/storage/docs/json_api/v1/objects/compose
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from trove_async._threads import settle
from trove_async._together import side_by_side
from trove_async.driver import HeadOptions
from trove_async.driver.crc import CRC32C, crc_combined
from trove_async.driver.finishing import tried
from trove_async.drivers.gcs.base import Opened
from trove_async.drivers.gcs.config import MOST_SOURCES
from trove_async.drivers.gcs.copying import Copies
from trove_async.drivers.gcs.info import FIELDS, STAGED, base64_crc, json_path
from trove_async.drivers.gcs.staging import OWNER, Staged, Stages, staged_of, told_of
from trove_async.drivers.gcs.writing import compared
from trove_async.errors import (
    InvalidPartError,
    ObjectNotFoundError,
    OperationTimeoutError,
    PreconditionFailedError,
    ThrottledError,
    TroveError,
    UnavailableError,
)
from trove_async.model import ObjectInfo, ObjectRef

__all__ = ["Composes", "Whole"]

_TRIES: Final = 4
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Whole:
    """What is to be there in the end."""

    upload_id: str
    resource: dict[str, Any]
    metadata: Mapping[str, str]
    conditions: Mapping[str, str]


def crc_of_all(parts: Sequence[Staged]) -> int | None:
    """Of all one after the other; None where the server does not say it of each."""
    crc = 0
    for part in parts:
        if part.crc is None:
            return None
        crc = crc_combined(crc, part.crc, part.size, CRC32C)
    return crc


class Composes(Copies, Stages):
    async def _assembled(
        self, opened: Opened, bucket: str, key: str, parts: Sequence[Staged], whole: Whole
    ) -> ObjectInfo:
        """The object of these parts, seen at once. What was composed on the way is taken away
        when it cannot be, and the parts stay usable; else all that is staged goes."""
        token = f"{STAGED}{whole.upload_id}/~{secrets.token_hex(8)}"
        try:
            with told_of(key):
                last = await self._narrowed(opened, bucket, key, parts, token)
                info = await self._published(opened, bucket, key, parts, last, whole, token)
        except BaseException as exc:
            if len(parts) > MOST_SOURCES or "storageClass" in whole.resource:
                clearing = self._tidied(lambda: self._cleared(opened, bucket, token))
                await settle(asyncio.ensure_future(clearing))
            if isinstance(exc, ObjectNotFoundError):
                await self._held(opened, bucket, key, whole.upload_id)
                raise InvalidPartError(
                    "a part was replaced meanwhile", bucket=bucket, key=key
                ) from exc
            raise
        await self._tidied(lambda: self._swept(opened, bucket, whole.upload_id))
        return info

    async def _tidied(self, work: Callable[[], Awaitable[object]]) -> None:
        """What stays is listed as an unfinished upload: no reason to fail."""
        with suppress(TroveError):
            await tried(work)

    async def _narrowed(
        self, opened: Opened, bucket: str, key: str, parts: Sequence[Staged], token: str
    ) -> Sequence[Staged]:
        """Few enough for one call."""
        if len(parts) <= MOST_SOURCES:
            return parts
        groups = [(at, parts[at : at + MOST_SOURCES]) for at in range(0, len(parts), MOST_SOURCES)]
        made: dict[int, Staged] = {}

        async def one(group: tuple[int, Sequence[Staged]]) -> None:
            at, sources = group
            resource = {"contentType": "application/octet-stream", "metadata": {OWNER: key}}
            made[at] = staged_of(
                await tried(
                    lambda: self._composed(
                        opened, bucket, key, f"{token}-{at:05d}", sources, resource, {}
                    )
                )
            )

        await side_by_side(groups, one, self.config.concurrency)
        return [made[at] for at, _ in groups]

    async def _composed(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        name: str,
        sources: Sequence[Staged],
        resource: Mapping[str, Any],
        conditions: Mapping[str, str],
    ) -> dict[str, Any]:
        """The resource of the new object ``name``; errors are about ``key``."""
        document = json.dumps(
            {
                "sourceObjects": [
                    {"name": one.name, "generation": one.generation} for one in sources
                ],
                "destination": resource,
            }
        ).encode()
        query = urlencode({"fields": FIELDS, **conditions})
        return await opened.client.json(
            "POST",
            f"{json_path(bucket, name)}/compose?{query}",
            bucket,
            key,
            headers={"content-type": "application/json; charset=UTF-8"},
            pieces=[document],
            size=len(document),
        )

    async def _published(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        parts: Sequence[Staged],
        last: Sequence[Staged],
        whole: Whole,
        token: str,
    ) -> ObjectInfo:
        size, crc = sum(part.size for part in parts), crc_of_all(parts)
        publish = await self._publisher(opened, bucket, key, last, whole, token)
        is_in_doubt = False
        for attempt in range(1, _TRIES + 1):
            try:
                answer = await publish()
                return compared(
                    answer,
                    bucket,
                    key,
                    size,
                    None if crc is None else base64_crc(crc),
                    whole.metadata,
                )
            except PreconditionFailedError:
                # Not ours to report when an answer before this one was lost.
                if is_in_doubt and (info := await self._own(bucket, key, size, crc, whole)):
                    return info
                raise
            except (UnavailableError, OperationTimeoutError, ThrottledError):
                if attempt == _TRIES:
                    if info := await self._own(bucket, key, size, crc, whole):
                        return info
                    raise
                is_in_doubt = True
            await asyncio.sleep(_PAUSE * attempt)
        raise AssertionError("every way out of the loop is above")

    async def _publisher(
        self,
        opened: Opened,
        bucket: str,
        key: str,
        last: Sequence[Staged],
        whole: Whole,
        token: str,
    ) -> Callable[[], Awaitable[dict[str, Any]]]:
        """A composed object has the storage class of its parts, which is the bucket's own; for
        another one it is composed aside and moved there by a rewrite."""
        if "storageClass" not in whole.resource:
            return lambda: self._composed(
                opened, bucket, key, key, last, whole.resource, whole.conditions
            )
        aside = {"contentType": "application/octet-stream", "metadata": {OWNER: key}}
        name = f"{token}-all"
        made = staged_of(
            await tried(lambda: self._composed(opened, bucket, key, name, last, aside, {}))
        )
        query = {**whole.conditions, "sourceGeneration": made.generation}
        source, target = ObjectRef(bucket, name), ObjectRef(bucket, key)
        return lambda: self._rewritten(opened, source, target, query, whole.resource)

    async def _own(
        self, bucket: str, key: str, size: int, crc: int | None, whole: Whole
    ) -> ObjectInfo | None:
        """The object there now, if this upload made it: by size, checksum and metadata."""
        try:
            info = await self.head(bucket, key, HeadOptions())
        except TroveError:
            return None
        checksum = None if crc is None else f"crc32c:{crc:08x}"
        is_same = (
            info.size == size
            and info.checksum == checksum
            and info.metadata == {name.lower(): value for name, value in whole.metadata.items()}
        )
        return info if is_same else None
