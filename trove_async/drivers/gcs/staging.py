"""The objects that an unfinished upload consists of.

A record, empty but for its options, has the upload's name; parts lie below it. Each says in its
metadata which key it belongs to, so that what a crash leaves can be listed and taken away by
anybody. The record goes first: whoever has sent a part and finds none takes the part away.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from trove_async.drivers.gcs.base import Opened
from trove_async.drivers.gcs.batching import Batches
from trove_async.drivers.gcs.info import STAGED, info_of, is_staged, json_path, time_of
from trove_async.errors import (
    BackendError,
    InvalidPartError,
    ObjectNotFoundError,
    TroveError,
    UploadNotFoundError,
)

__all__ = ["OWNER", "Staged", "Stages", "check_id", "check_parts", "name_of_part", "told_of"]

OWNER: Final = "troveupload"
"""In the metadata of everything staged: the key it is for."""
_ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_NUMBER: Final = re.compile(r"[0-9]{5}", re.ASCII)
_FIELDS: Final = "name,size,generation,metadata,crc32c,timeCreated"


@dataclass(frozen=True, slots=True)
class Staged:
    """One generation of one object."""

    name: str
    generation: str
    size: int
    crc: int | None
    owner: str | None
    created: datetime

    @property
    def upload_id(self) -> str:
        return self.name[len(STAGED) : len(STAGED) + 32]

    @property
    def number(self) -> int | None:
        """None for what is no part."""
        own = self.name[len(STAGED) + 33 :]
        return int(own) if _NUMBER.fullmatch(own) else None


def staged_of(resource: dict[str, Any]) -> Staged:
    info = info_of(resource)
    crc = None if info.checksum is None else int(info.checksum.partition(":")[2], 16)
    created = time_of(resource.get("timeCreated"))
    return Staged(info.key, info.etag, info.size, crc, info.metadata.get(OWNER), created)


def name_of_part(upload_id: str, number: int) -> str:
    return f"{STAGED}{upload_id}/{number:05d}"


def check_id(bucket: str, key: str, upload_id: str) -> None:
    if not isinstance(upload_id, str) or _ID.fullmatch(upload_id) is None:
        raise UploadNotFoundError("no such upload", bucket=bucket, key=key)


@contextmanager
def told_of(key: str) -> Generator[None, None, None]:
    """Errors about staged objects are errors about the key they are for."""
    try:
        yield
    except TroveError as exc:
        if exc.key is not None and is_staged(exc.key):
            exc.key = key
        raise


class Stages(Batches):
    async def _staged(
        self,
        opened: Opened,
        bucket: str,
        prefix: str,
        *,
        past: bool = False,
        delimiter: str | None = None,
        most: int | None = None,
    ) -> tuple[list[Staged], list[str]]:
        """(objects, groups) of unfinished uploads, in order; ``past``: also what a bucket with
        versions keeps of replaced ones. ``most``: no more than so many are looked at."""
        query = {
            "prefix": prefix,
            "fields": f"nextPageToken,prefixes,items({_FIELDS})",
            "versions": "true" if past else None,
            "delimiter": delimiter,
            "maxResults": None if most is None else str(most),
        }
        asked = {name: value for name, value in query.items() if value is not None}
        found: list[Staged] = []
        groups: list[str] = []
        while True:
            target = f"/storage/v1/b/{bucket}/o?{urlencode(asked)}"
            page = await opened.client.json("GET", target, bucket)
            try:
                found += [staged_of(item) for item in page.get("items", ())]
                groups += [str(group) for group in page.get("prefixes", ())]
            except (TypeError, AttributeError) as exc:
                raise BackendError("a listing of another form", bucket=bucket) from exc
            token = page.get("nextPageToken")
            if not token or most is not None:
                return [one for one in found if is_staged(one.name)], groups
            asked["pageToken"] = str(token)

    async def _held(
        self, opened: Opened, bucket: str, key: str, upload_id: str
    ) -> dict[int, Staged]:
        """The parts of an upload of just this key by their numbers; UploadNotFoundError."""
        check_id(bucket, key, upload_id)
        found, _ = await self._staged(opened, bucket, STAGED + upload_id)
        if not any(one.name == STAGED + upload_id and one.owner == key for one in found):
            raise UploadNotFoundError("no such upload", bucket=bucket, key=key)
        return {one.number: one for one in found if one.number is not None}

    async def _removed(self, opened: Opened, bucket: str, staged: Sequence[Staged]) -> None:
        """For good, also where versions are kept."""
        targets = [
            (one.name, f"{json_path(bucket, one.name)}?generation={one.generation}")
            for one in staged
        ]
        errors = await self._batched(opened, bucket, targets)
        for error in errors.values():
            raise error

    async def _swept(self, opened: Opened, bucket: str, upload_id: str) -> None:
        """Takes away all that there is of an upload."""
        name = STAGED + upload_id
        with suppress(ObjectNotFoundError):
            await opened.client.json("DELETE", json_path(bucket, name), bucket, name)
        await self._cleared(opened, bucket, name)  # looked for only now: no part comes after it

    async def _cleared(self, opened: Opened, bucket: str, prefix: str) -> bool:
        """Takes away what is staged under names beginning so; whether there was any."""
        found, _ = await self._staged(opened, bucket, prefix, past=True)
        await self._removed(opened, bucket, found)
        return bool(found)


def check_parts(
    bucket: str, key: str, parts: Sequence[tuple[int, str]], held: dict[int, Staged]
) -> list[Staged]:
    """Those staged for (number, etag) each. InvalidPartError unless they rise, all are there,
    and each is the one that is meant."""
    numbers = [number for number, _ in parts]
    if not parts or numbers != sorted(set(numbers)):
        raise InvalidPartError("parts in rising order, at least one", bucket=bucket, key=key)
    wanted: list[Staged] = []
    for number, etag in parts:
        found = held.get(number)
        if found is None or found.generation != etag:
            raise InvalidPartError(f"part {number} is not there", bucket=bucket, key=key)
        wanted.append(found)
    return wanted
