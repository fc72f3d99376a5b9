"""Access tokens from gcloud-aio, and signatures with the key of the same service account."""

from __future__ import annotations

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any, Final

import aiohttp
from gcloud.aio.auth import Token
from gcloud.aio.storage import SCOPES
from jwt.algorithms import RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from trove_async._threads import cpu_pool, settle
from trove_async.drivers.gcs.config import GCSConfig, SignBlob
from trove_async.errors import (
    InvalidConfigError,
    OperationTimeoutError,
    TroveError,
    UnauthenticatedError,
    UnavailableError,
)

__all__ = ["Tokens", "account_of", "key_of", "signer_of", "token_of"]

_EARLY: Final = 60.0  # seconds before its end that a token counts as gone
_TIMEOUT: Final = 10
_RSA: Final = RSAAlgorithm(RSAAlgorithm.SHA256)  # PKCS #1 v1.5: what tokens and URLs are signed by


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


async def key_of(account: dict[str, Any] | None) -> Any:
    """The private key of a service account, parsed once: that takes 40 ms, which the SDK would
    spend on the event loop for each token and each signature. None without one."""
    pem = (account or {}).get("private_key")
    if not isinstance(pem, str):
        return None
    parsing = asyncio.get_running_loop().run_in_executor(cpu_pool(), _RSA.prepare_key, pem)
    try:
        return await settle(parsing)
    except (ValueError, TypeError, InvalidKeyError):
        raise InvalidConfigError("the private key of the credentials is invalid") from None


def signer_of(
    config: GCSConfig, account: dict[str, Any] | None, key: Any
) -> tuple[str, SignBlob] | None:
    """(e-mail address of the service account, what signs for it); None when nothing can."""
    if config.signer is not None and config.signer_email is not None:
        return config.signer_email, config.signer
    email = (account or {}).get("client_email")
    if key is None or not isinstance(email, str):
        return None

    async def sign(text: bytes) -> bytes:
        return _RSA.sign(text, key)

    return email, sign
