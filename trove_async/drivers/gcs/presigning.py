"""V4 signed URLs.

https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, urlsplit

from trove_async.drivers.gcs.base import GCSBase
from trove_async.drivers.gcs.info import check_key
from trove_async.errors import InvalidInputError, UnauthenticatedError, UnsupportedError
from trove_async.model import PresignedRequest

__all__ = ["Presigns", "canonical"]

_MOST_EXPIRES: Final = 7 * 24 * 3600
_ALGORITHM: Final = "GOOG4-RSA-SHA256"


def _escaped(text: str) -> str:
    return quote(text, safe="")


def canonical(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> tuple[str, str]:
    """(canonical request, query as it is sent). Names of headers are in lower case."""
    names = sorted(headers)
    text = "&".join(f"{_escaped(name)}={_escaped(query[name])}" for name in sorted(query))
    lines = [method, path, text]
    lines += [f"{name}:{' '.join(headers[name].split())}" for name in names]
    lines += ["", ";".join(names), "UNSIGNED-PAYLOAD"]
    return "\n".join(lines), text


class Presigns(GCSBase):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """``headers``: response-content-type and response-content-disposition."""
        for name in headers:
            if name not in ("response-content-type", "response-content-disposition"):
                raise UnsupportedError(f"GCS cannot bind {name} to a read", backend="gcs")
        return await self._presigned("GET", bucket, key, expires, headers, {})

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """``headers``: content-type and content-length; both are part of the signature, the
        length as a range that holds only itself."""
        bound: dict[str, str] = {}
        for name, value in headers.items():
            if name == "content-type":
                bound[name] = value
            elif name == "content-length":
                bound["x-goog-content-length-range"] = f"{value},{value}"
            else:
                raise UnsupportedError(f"GCS cannot bind {name} to a put", backend="gcs")
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
        check_key(bucket, key)
        if not 0 < expires <= _MOST_EXPIRES:
            raise InvalidInputError(f"expires is between 0 and {_MOST_EXPIRES} seconds")
        if opened.signer is None:
            raise UnauthenticatedError("nothing here can sign", backend="gcs")
        if any(part in (".", "..") for part in key.split("/")):
            raise InvalidInputError("HTTP clients change a path with dot segments", key=key)
        email, sign = opened.signer
        now = datetime.now(UTC)
        stamp, seconds = now.strftime("%Y%m%dT%H%M%SZ"), max(1, int(expires))
        scope = f"{stamp[:8]}/auto/storage/goog4_request"
        signed = {**headers, "host": urlsplit(opened.client.root).netloc}
        path = f"/{bucket}/{quote(key, safe='/~')}"
        request, text = canonical(
            method,
            path,
            {
                **query,
                "X-Goog-Algorithm": _ALGORITHM,
                "X-Goog-Credential": f"{email}/{scope}",
                "X-Goog-Date": stamp,
                "X-Goog-Expires": str(seconds),
                "X-Goog-SignedHeaders": ";".join(sorted(signed)),
            },
            signed,
        )
        digest = hashlib.sha256(request.encode()).hexdigest()
        signature = await sign("\n".join([_ALGORITHM, stamp, scope, digest]).encode())
        url = f"{opened.client.root}{path}?{text}&X-Goog-Signature={signature.hex()}"
        until = now.replace(microsecond=0) + timedelta(seconds=seconds)
        return PresignedRequest(method, url, headers, until)
