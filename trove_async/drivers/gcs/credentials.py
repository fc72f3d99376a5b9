"""Access tokens and signatures, both from gcloud-aio."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
from gcloud.aio.auth import Token
from gcloud.aio.storage import SCOPES, Blob

from trove_async.drivers.gcs.config import GCSConfig, SignBlob
from trove_async.errors import (
    InvalidConfigError,
    OperationTimeoutError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["Tokens", "account_of", "signer_of", "token_of"]

_EARLY: Final = 60.0  # seconds before its end that a token counts as gone
_TIMEOUT: Final = 10


def account_of(config: GCSConfig) -> dict[str, Any] | None:
    """What the key file says. The SDK would take an unreadable one for the machine's own
    account; here it is InvalidConfigError."""
    if config.credentials is None:
        return None
    try:
        account = json.loads(Path(config.credentials).read_bytes())
    except OSError as exc:
        raise InvalidConfigError(f"the key file cannot be read: {exc.strerror}") from exc
    except ValueError:
        raise InvalidConfigError("the key file is not JSON") from None  # its text is a secret
    if not isinstance(account, dict) or not isinstance(account.get("type"), str):
        raise InvalidConfigError("the key file is not one of Google's")
    return account


def token_of(
    config: GCSConfig, account: dict[str, Any] | None, session: aiohttp.ClientSession
) -> Token | None:
    if config.is_anonymous:
        return None
    source = None if account is None else io.StringIO(json.dumps(account))
    try:
        # The SDK's types name the session of its synchronous twin.
        return Token(service_file=source, session=session, scopes=[*SCOPES])  # type: ignore[arg-type]
    except OSError as exc:
        raise InvalidConfigError("GOOGLE_APPLICATION_CREDENTIALS cannot be read") from exc
    except (ValueError, KeyError) as exc:
        raise InvalidConfigError(f"credentials of an unknown kind: {exc}") from None


class Tokens:
    """The current token. One task at a time asks for the next; the SDK's own cache would retry
    on its own and leave tasks behind."""

    def __init__(self, token: Token | None) -> None:
        self._token = token
        self._value: str | None = None
        self._until = 0.0
        self._lock = asyncio.Lock()
        self.is_needed = token is not None

    def ready(self) -> str | None:
        """Without waiting; None when there is none or it is old."""
        return self._value if time.monotonic() < self._until else None

    async def current(self) -> str | None:
        """Asks for a new one if it must. UnauthenticatedError and its kin."""
        if self._token is None:
            return None
        async with self._lock:
            if (value := self.ready()) is not None:
                return value
            asked = time.monotonic()
            answer = await _refreshed(self._token)
            self._value = answer[0]
            self._until = asked + max(answer[1] * 0.9, answer[1] - _EARLY)
            return self._value

    def spoil(self, value: str) -> None:
        """The server does not take it any more."""
        if self._value == value:
            self._value, self._until = None, 0.0


async def _refreshed(token: Token) -> tuple[str, float]:
    try:
        answer = await token.refresh(timeout=_TIMEOUT)
    except aiohttp.ClientResponseError as exc:
        error: TroveError
        if exc.status == 429 or exc.status >= 500:
            error = UnavailableError(f"the token service answered {exc.status}", backend="gcs")
        else:
            error = UnauthenticatedError(
                f"the token service refuses these credentials: {exc.status}", backend="gcs"
            )
        raise error from None  # its repr holds the request
    except TimeoutError as exc:
        raise OperationTimeoutError("the token service does not answer", backend="gcs") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise UnavailableError("the token service cannot be reached", backend="gcs") from exc
    except (ValueError, KeyError, TypeError):
        raise UnauthenticatedError("these credentials give no token", backend="gcs") from None
    return answer.value, float(answer.expires_in)


def signer_of(
    config: GCSConfig, account: dict[str, Any] | None, token: Token | None
) -> tuple[str, SignBlob] | None:
    """(e-mail address of the service account, what signs for it); None when nothing can."""
    if config.signer is not None and config.signer_email is not None:
        return config.signer_email, config.signer
    if account is None and token is not None:
        account = token.service_data
    if account is None:
        return None
    email, key = account.get("client_email"), account.get("private_key")
    if not isinstance(email, str) or not isinstance(key, str):
        return None

    async def sign(text: bytes) -> bytes:
        try:
            return Blob.get_pem_signature(text.decode(), key)
        except ValueError:
            raise InvalidConfigError("the private key of the credentials is invalid") from None

    return email, sign
