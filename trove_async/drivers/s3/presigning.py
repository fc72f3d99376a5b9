"""Presigned requests: signed here, without asking the server."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from trove_async.drivers.s3.base import S3Base
from trove_async.drivers.s3.signing import Signer
from trove_async.errors import InvalidInputError, UnauthenticatedError, UnsupportedError
from trove_async.model import PresignedRequest

__all__ = ["Presigns"]

_MOST_EXPIRES = 7 * 24 * 3600


class Presigns(S3Base):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """``headers``: response-content-type and response-content-disposition."""
        for name in headers:
            if name not in ("response-content-type", "response-content-disposition"):
                raise UnsupportedError(f"S3 cannot bind {name} to a read", backend="s3")
        return await self._presigned("GET", bucket, key, expires, headers, {})

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """``headers``: content-type, content-length, and ``checksum`` of SHA-256. They are part
        of the signature: another body length or type does not match it."""
        bound: dict[str, str] = {}
        for name, value in headers.items():
            if name in ("content-type", "content-length"):
                bound[name] = value
            elif name == "checksum" and value.startswith("sha256:"):
                digest = bytes.fromhex(value.removeprefix("sha256:"))
                bound["x-amz-checksum-sha256"] = base64.b64encode(digest).decode()
            else:
                raise UnsupportedError(f"S3 cannot bind {name} to a put", backend="s3")
        return await self._presigned("PUT", bucket, key, expires, {}, bound)

    async def _presigned(
        self,
        method: str,
        bucket: str,
        key: str,
        expires: float,
        query: Mapping[str, str],
        headers: dict[str, str],
    ) -> PresignedRequest:
        opened = self._now()
        opened.server.check_key(key)
        if not 0 < expires <= _MOST_EXPIRES:
            raise InvalidInputError(f"expires is between 0 and {_MOST_EXPIRES} seconds")
        ring = opened.connection.ring
        keys = ring.ready() or await ring.current()
        if keys is None:
            raise UnauthenticatedError("an anonymous client cannot sign")
        if any(part in (".", "..") for part in key.split("/")):
            raise InvalidInputError("HTTP clients change a path with dot segments", key=key)
        place = opened.address.of(bucket, key)
        seconds = max(1, int(expires))
        signed = Signer(opened.connection.region).presign(
            method, place.path, query, place.host, headers, seconds, *keys
        )
        until = datetime.fromtimestamp(time.time() + seconds, UTC)
        url = f"{place.origin}{place.path}?{signed}"
        return PresignedRequest(method, url, headers, until)
