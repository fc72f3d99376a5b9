"""The way to the service: requests of ours through the pipeline of an SDK client, which signs
them, renews tokens and does the tracing. Retries belong to the store.

The client's ``_pipeline`` and nothing else of it is not public; the SDK's own batches and
generated operations go the same way.
"""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.storage.blob.aio import BlobServiceClient

from trove_async.driver.limiter import Limiter
from trove_async.drivers.azure.config import AzureConfig
from trove_async.drivers.azure.faults import Refusal, broken, error_of
from trove_async.drivers.azure.transport import Download, Payload, Session, bounded_read
from trove_async.drivers.azure.wire import Answer, Request
from trove_async.drivers.azure.xml import fields_of
from trove_async.errors import (
    InvalidConfigError,
    MissingDependencyError,
    ThrottledError,
    TroveError,
    UnavailableError,
)

__all__ = ["Connection"]

_BUFFER: Final = 512 * 1024  # bytes of a body that are read ahead of its consumer
_BLOCK: Final = 256 * 1024
_SMALL: Final = 64 * 1024  # bytes of a body that are joined
_MOST_ANSWER: Final = 64 * 1024 * 1024  # 5,000 entries of a listing with all their metadata
_HOST: Final = "blob.core.windows.net"
_CONDITIONS: Final = ("if-match", "if-none-match")
_SUCCESSES: Final = {
    "GET": (200, 206),
    "HEAD": (200,),
    "PUT": (201, 202, 204),
    "DELETE": (202,),
}
"""What somebody in between says in the service's place is often 200."""
_READS: Final = ("GET", "HEAD")


class Connection:
    """Everything of the SDK that one open driver uses."""

    def __init__(self, config: AzureConfig) -> None:
        self.limiter = Limiter()
        self._own_credential: Any = None
        self._session = _session(config)
        try:
            self.client = self._client(config)
        except ValueError as exc:
            raise InvalidConfigError("the SDK refuses the settings") from exc
        self.url: str = self.client.url.partition("?")[0].rstrip("/")
        """Of the account, without a slash at the end."""
        query = self.client.url.partition("?")[2]
        self.sas = query
        """The query that authorises every request, when that is a SAS."""
        self.host = urlsplit(self.url).netloc
        self._version: str = self.client.api_version
        self._pipeline: Any = self.client._pipeline

    def _client(self, config: AzureConfig) -> BlobServiceClient:
        transport = AioHttpTransport(
            session=Session(self._session, config.read_timeout),
            session_owner=False,
            connection_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            connection_data_block_size=_BLOCK,
        )
        settings: dict[str, Any] = {
            "transport": transport,
            "retry_total": 0,
            "permit_redirects": False,
        }
        text = config.effective_connection_string
        if text is not None:
            return BlobServiceClient.from_connection_string(text, **settings)
        endpoint = config.endpoint or f"https://{config.account}.{_HOST}"
        return BlobServiceClient(endpoint, credential=self._credential(config), **settings)

    def _credential(self, config: AzureConfig) -> Any:
        if config.key is not None:
            return {"account_name": config.account, "account_key": config.key}
        if config.sas is not None:
            return config.sas.lstrip("?")
        if config.credential is not None:
            return config.credential
        if config.anonymous:
            return None
        try:
            from azure.identity.aio import DefaultAzureCredential
        except ImportError as exc:
            raise MissingDependencyError(
                "without key, sas or credential azure-identity finds one: "
                "pip install azure-identity",
                backend="azure",
            ) from exc
        self._own_credential = DefaultAzureCredential()
        return self._own_credential

    async def close(self) -> None:
        try:
            if self._own_credential is not None:
                await self._own_credential.close()
        finally:
            await self._session.close()
            await asyncio.sleep(0)  # lets the transports go

    async def send(self, request: Request) -> Answer:
        """A success; TroveError for everything else. A connection that the server had closed
        is no failure yet, unless a condition could be met by our own first request."""
        limiter = self.limiter
        if limiter.distance:
            await limiter.turn()
        try:
            answer = await self._once(request)
        except UnavailableError as exc:
            if not _was_closed(exc) or not _may_repeat(request):
                raise
            answer = await self._once(request)
        if limiter.distance:
            limiter.succeeded()
        return answer

    async def _once(self, request: Request) -> Answer:
        query = request.query
        if self.sas:
            query = f"{query}&{self.sas}" if query else self.sas
        headers = request.headers
        headers["x-ms-version"] = self._version
        content: bytes | Payload | None = None
        if request.pieces is not None:
            headers.setdefault("Content-Type", "application/octet-stream")
            headers["Content-Length"] = str(request.size)
            if request.size > _SMALL:
                content = Payload(request.pieces, request.size)
            else:
                content = b"".join(request.pieces)
        elif request.method == "PUT":
            headers["Content-Length"] = "0"
        url = f"{self.url}{request.path or '/'}{'?' + query if query else ''}"
        try:
            sent = HttpRequest(request.method, url, headers=headers, content=content)
            response = (await self._pipeline.run(sent, stream=True)).http_response
            is_kept = False  # by the stream, which then gives it back
            try:
                status = response.status_code
                if not 200 <= status < 300:
                    await self._raise(request, response)
                if status not in _SUCCESSES[request.method]:
                    raise UnavailableError(
                        f"{status} is no answer of the service to {request.method}",
                        bucket=request.bucket or None,
                        key=request.key or None,
                    )
                if request.is_stream:
                    is_kept = True
                    return Answer(
                        status,
                        response.headers,
                        b"",
                        Download(response, request, self.host),
                    )
                body = b""
                if request.method == "GET":
                    body = await bounded_read(response, _MOST_ANSWER)
                return Answer(status, response.headers, body)
            finally:
                if not is_kept:
                    await response.close()
        except TroveError:
            raise
        except Exception as exc:
            raise broken(exc, self.host, request.bucket, request.key) from exc

    async def _raise(self, request: Request, response: AsyncHttpResponse) -> None:
        headers: Mapping[str, str] = response.headers
        fields: dict[str, str] = {}
        if request.method != "HEAD" and response.status_code != 304:
            fields = fields_of(await bounded_read(response, _MOST_ANSWER))
        refusal = Refusal(
            response.status_code,
            headers.get("x-ms-error-code") or fields.get("Code", ""),
            fields.get("Message", ""),
            headers.get("x-ms-request-id", ""),
        )
        refusal.wait = headers.get("retry-after")
        error = error_of(refusal, request.bucket, request.key)
        if isinstance(error, ThrottledError) or response.status_code == 503:
            self.limiter.throttled()
        raise error


def _session(config: AzureConfig) -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=config.connections, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        auto_decompress=False,  # stored bytes are stored bytes
        read_bufsize=_BUFFER,
        trust_env=bool(urllib.request.getproxies()),
    )
    # A condition that our own first request met must not be asked again in silence.
    session._retry_connection = False
    return session


def _was_closed(exc: UnavailableError) -> bool:
    seen: BaseException | None = exc
    while seen is not None:
        if isinstance(seen, aiohttp.ServerDisconnectedError | ConnectionResetError):
            return True
        seen = seen.__cause__
    return False


def _may_repeat(request: Request) -> bool:
    return request.method in _READS or not any(
        name.lower() in _CONDITIONS for name in request.headers
    )
