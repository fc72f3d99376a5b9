"""Whose requests these are: fixed keys, the AWS tools' own chain, or the user's provider."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple, Protocol

from aiobotocore.credentials import AioCredentials  # type: ignore[import-untyped]
from botocore.credentials import ReadOnlyCredentials  # type: ignore[import-untyped]

from trove_async.drivers.s3.config import CredentialProvider, S3Credentials
from trove_async.errors import TroveError, UnauthenticatedError

__all__ = ["Chain", "Fixed", "Keys", "Keyring", "Lent", "Provided"]

_AHEAD = 300.0  # seconds before their end at which credentials are asked for again


class Keys(NamedTuple):
    key: str
    secret: str
    token: str | None


class Keyring(Protocol):
    def ready(self) -> Keys | None:
        """What can be used at once; None: ask `current`."""
        ...

    async def current(self) -> Keys | None:
        """None: requests are not signed."""
        ...

    async def renewed(self, refused: Keys | None) -> bool:
        """After the server refused these: whether there are others now."""
        ...


class Fixed:
    """``None``: anonymous."""

    def __init__(self, keys: Keys | None) -> None:
        self._keys = keys

    def ready(self) -> Keys | None:
        return self._keys

    async def current(self) -> Keys | None:
        return self._keys

    async def renewed(self, refused: Keys | None) -> bool:
        return False


class Provided:
    """Asks the provider once for all who wait (single flight)."""

    def __init__(self, provider: CredentialProvider) -> None:
        self._provider = provider
        self._lock = asyncio.Lock()
        self._keys: Keys | None = None
        self._until = 0.0

    def ready(self) -> Keys | None:
        return self._keys if time.time() < self._until else None

    async def current(self) -> Keys | None:
        if (keys := self.ready()) is None:
            async with self._lock:
                if (keys := self.ready()) is None:
                    keys = await self._ask()
        return keys

    async def renewed(self, refused: Keys | None) -> bool:
        async with self._lock:
            if self._keys == refused:
                await self._ask()
        return self._keys != refused

    async def _ask(self) -> Keys:
        try:
            given = await self._provider()
        except TroveError:
            raise
        except Exception as exc:  # the user's code: whatever it raises, there are no credentials
            raise UnauthenticatedError("the credential provider failed") from exc
        if not isinstance(given, S3Credentials):
            raise TypeError("a credential provider gives S3Credentials")
        self._keys = Keys(given.key, given.secret, given.token)
        expires = given.expires_at
        self._until = float("inf") if expires is None else expires.timestamp() - _AHEAD
        if self._until <= time.time():  # short-lived: good until they really end
            self._until = 0.0 if expires is None else expires.timestamp()
        return self._keys


class Frozen(Protocol):
    access_key: str
    secret_key: str
    token: str | None


class Refreshing(Protocol):
    async def get_frozen_credentials(self) -> Frozen: ...


class Chain:
    """Credentials that the SDK found; it refreshes them itself, once for all who wait."""

    def __init__(self, found: Refreshing) -> None:
        self._found = found

    def ready(self) -> Keys | None:
        return None

    async def current(self) -> Keys | None:
        frozen = await self._found.get_frozen_credentials()
        return Keys(frozen.access_key, frozen.secret_key, frozen.token)

    async def renewed(self, refused: Keys | None) -> bool:
        return await self.current() != refused


class Lent(AioCredentials):  # type: ignore[misc]  # no types are shipped
    """A `Keyring` as the SDK wants its credentials."""

    def __init__(self, ring: Keyring) -> None:
        super().__init__("", "", method="trove")
        self._ring = ring

    async def get_frozen_credentials(self) -> ReadOnlyCredentials:
        keys = await self._ring.current()
        if keys is None:
            raise UnauthenticatedError("there are no credentials")
        return ReadOnlyCredentials(keys.key, keys.secret, keys.token)
