"""One resumable upload: parts one after the other, each sent again from where the server has it.

https://cloud.google.com/storage/docs/performing-resumable-uploads
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from trove_async.driver.supply import Part, rest_of
from trove_async.drivers.gcs.info import base64_crc
from trove_async.drivers.gcs.transport import Client
from trove_async.errors import (
    BackendError,
    NotFoundError,
    OperationTimeoutError,
    ThrottledError,
    TroveError,
    UnavailableError,
)

__all__ = ["Resumable"]

_TRIES: Final = 5
_PAUSE: Final = 0.1
_CLEAN_UP: Final = 15.0  # seconds
_RANGE: Final = re.compile(r"bytes=0-(\d{1,19})")


class Resumable:
    def __init__(self, client: Client, target: str, bucket: str, key: str) -> None:
        self._client = client
        self._target = target
        """Path and query of the session; a secret."""
        self._where = bucket, key
        self.offset = 0
        """Bytes that the server has."""

    @classmethod
    async def begin(
        cls,
        client: Client,
        bucket: str,
        key: str,
        query: Mapping[str, str],
        resource: Mapping[str, Any],
    ) -> Resumable:
        document = json.dumps(resource).encode()
        target = f"/upload/storage/v1/b/{bucket}/o?" + urlencode(
            {"uploadType": "resumable", "name": key, **query}
        )
        headers = {
            "content-type": "application/json; charset=UTF-8",
            "x-upload-content-type": str(resource.get("contentType")),
        }
        response = await client.open(
            "POST", target, bucket, key, headers=headers, pieces=[document], size=len(document)
        )
        location = response.headers.get("location", "")
        await client.read(response, bucket, key)
        parts, own = urlsplit(location), urlsplit(client.root)
        if (parts.scheme, parts.netloc) != (own.scheme, own.netloc) or not parts.query:
            raise BackendError("the upload would go to another host", bucket=bucket, key=key)
        return cls(client, f"{parts.path}?{parts.query}", bucket, key)

    async def send(self, part: Part, crc: int) -> dict[str, Any] | None:
        """The resource once the last part is there, else None. ``crc``: of everything up to
        the end of this part. Only what the server lacks is sent again."""
        start, stop = self.offset, self.offset + part.size
        total = str(stop) if part.is_last else "*"
        failures = 0
        while True:
            lacking = stop - self.offset
            headers = {
                "content-range": f"bytes {self.offset}-{stop - 1}/{total}"
                if lacking
                else f"bytes */{total}"
            }
            if part.is_last:
                headers["x-goog-hash"] = f"crc32c={base64_crc(crc)}"
            pieces = rest_of(part.pieces, self.offset - start)
            before = self.offset
            try:
                found = await self._put(headers, pieces, lacking)
            except (UnavailableError, OperationTimeoutError, ThrottledError) as exc:
                failures += 1
                if failures == _TRIES:
                    raise
                wait = getattr(exc, "retry_after", None)
                await asyncio.sleep(min(wait or _PAUSE * 2**failures, 5.0))
                found = await self._asked(stop if part.is_last else None)
            if found is not None:
                if not part.is_last:
                    raise BackendError("the upload ended too early")
                return found
            if self.offset < start or self.offset > stop:
                raise UnavailableError("the server has lost a part of the upload")
            if self.offset == stop and not part.is_last:
                return None
            if self.offset > before:
                failures = 0
                continue
            failures += 1
            if failures == _TRIES:
                raise UnavailableError("the server takes no more of the upload")

    async def _asked(self, total: int | None) -> dict[str, Any] | None:
        """How far it is. One more failure here is the caller's next try: nothing has moved."""
        known = "*" if total is None else str(total)
        try:
            return await self._put({"content-range": f"bytes */{known}"}, [], 0)
        except (UnavailableError, OperationTimeoutError, ThrottledError):
            return None

    async def _put(
        self, headers: dict[str, str], pieces: list[bytes | memoryview], size: int
    ) -> dict[str, Any] | None:
        client = self._client
        try:
            response = await client.open(
                "PUT", self._target, *self._where, headers=headers, pieces=pieces, size=size
            )
        except NotFoundError as exc:
            raise BackendError("the upload is gone", bucket=self._where[0]) from exc
        if response.status != 308:
            return await client.document(response, *self._where)
        persisted = _RANGE.fullmatch(response.headers.get("range", ""))
        await client.read(response, *self._where)
        self.offset = 0 if persisted is None else int(persisted[1]) + 1
        return None

    async def cancel(self, reason: BaseException | None) -> None:
        """Nothing of it is left on the server; what could not be done is noted on ``reason``.
        https://cloud.google.com/storage/docs/performing-resumable-uploads#cancel-upload"""
        try:
            async with asyncio.timeout(_CLEAN_UP):
                for attempt in range(1, _TRIES + 1):
                    problem = await self._dropped()
                    if problem is None:
                        return
                    if not problem.retryable:
                        break
                    await asyncio.sleep(_PAUSE * attempt)
        except TimeoutError:
            problem = None
        if reason is not None:
            reason.add_note(f"the upload could not be cancelled: {problem or 'no answer'}")

    async def _dropped(self) -> TroveError | None:
        try:
            response = await self._client.open("DELETE", self._target, *self._where)
            await self._client.read(response, *self._where)
        except NotFoundError:
            return None
        except TroveError as exc:
            return None if getattr(exc.__cause__, "status", 0) == 499 else exc
        return None
