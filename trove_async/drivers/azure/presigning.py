"""Presigned requests: service SAS by the account key, or by a user delegation key that a token
credential is given by the service."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from azure.core.exceptions import AzureError
from azure.storage.blob import generate_blob_sas

from trove_async.drivers.azure.base import AzureBase, Opened
from trove_async.drivers.azure.faults import broken
from trove_async.errors import InvalidInputError, UnauthenticatedError, UnsupportedError
from trove_async.model import PresignedRequest

__all__ = ["Presigns"]

_MOST_EXPIRES: Final = 7 * 24 * 3600
_READ: Final = {
    "response-content-type": "content_type",
    "response-content-disposition": "content_disposition",
}
_BLOCK_BLOB: Final = {"x-ms-blob-type": "BlockBlob"}


class Presigns(AzureBase):
    async def presign_get(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """``headers``: response-content-type and response-content-disposition."""
        for name in headers:
            if name not in _READ:
                raise UnsupportedError(f"a SAS cannot bind {name} to a read", backend="azure")
        overrides = {_READ[name]: value for name, value in headers.items()}
        return await self._presigned("GET", bucket, key, expires, "r", overrides, {})

    async def presign_put(
        self, bucket: str, key: str, expires: float, headers: Mapping[str, str]
    ) -> PresignedRequest:
        """A SAS binds neither content type nor length nor checksum: UnsupportedError. Good for
        one key, any number of times until it expires."""
        for name in headers:
            raise UnsupportedError(f"a SAS cannot bind {name} to a put", backend="azure")
        return await self._presigned("PUT", bucket, key, expires, "cw", {}, _BLOCK_BLOB)

    async def _presigned(
        self,
        method: str,
        bucket: str,
        key: str,
        expires: float,
        permission: str,
        overrides: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> PresignedRequest:
        opened = self._now()
        path = opened.blob(method, bucket, key).path
        if not 0 < expires <= _MOST_EXPIRES:
            raise InvalidInputError(f"expires is between 0 and {_MOST_EXPIRES} seconds")
        until = datetime.fromtimestamp(math.ceil(time.time() + expires), UTC)  # whole seconds
        connection = opened.connection
        is_secure = connection.url.startswith("https:")
        query = generate_blob_sas(
            connection.client.account_name or "",
            bucket,
            key,
            **await self._signing_key(opened, until),
            permission=permission,
            expiry=until,
            protocol="https" if is_secure else None,
            content_type=overrides.get("content_type"),
            content_disposition=overrides.get("content_disposition"),
        )
        return PresignedRequest(method, f"{connection.url}{path}?{query}", dict(headers), until)

    async def _signing_key(self, opened: Opened, until: datetime) -> dict[str, Any]:
        client = opened.connection.client
        credential: Any = client.credential
        if (key := getattr(credential, "account_key", None)) is not None:
            return {"account_key": key}
        if not hasattr(credential, "get_token"):
            raise UnauthenticatedError("signing needs the account key or a token credential")
        start = datetime.fromtimestamp(time.time() - 300, UTC)
        try:
            return {"user_delegation_key": await client.get_user_delegation_key(start, until)}
        except (AzureError, OSError, RuntimeError) as exc:
            raise broken(exc, opened.connection.host, None, None) from exc
