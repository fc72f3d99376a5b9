"""aioboto3: credentials, endpoints, the control plane, and the hot requests when ours are
switched off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import aioboto3  # type: ignore[import-untyped]
import aiohttp
from aiobotocore.config import AioConfig  # type: ignore[import-untyped]
from botocore import UNSIGNED  # type: ignore[import-untyped]
from botocore.exceptions import (  # type: ignore[import-untyped]
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    ReadTimeoutError,
)
from botocore.loaders import Loader  # type: ignore[import-untyped]

from trove_async.driver.limiter import Limiter
from trove_async.drivers.s3.config import S3Config
from trove_async.drivers.s3.credentials import Chain, Fixed, Keyring, Keys, Lent, Provided
from trove_async.drivers.s3.faults import STALE_CREDENTIALS, Refusal, error_of
from trove_async.drivers.s3.listing import Listing, listed
from trove_async.drivers.s3.transport import let_go, translated
from trove_async.drivers.s3.wire import Answer, Request
from trove_async.errors import (
    InvalidConfigError,
    InvalidInputError,
    OperationTimeoutError,
    ThrottledError,
    TroveError,
    UnauthenticatedError,
)

__all__ = ["Connection", "Control", "SdkPlane", "connect", "is_by_path"]

_loader: Final = Loader()  # parsed service models, shared: a client then costs milliseconds
_HEADERS: Final = {
    "range": "Range",
    "if-match": "IfMatch",
    "if-none-match": "IfNoneMatch",
    "if-modified-since": "IfModifiedSince",
    "content-type": "ContentType",
    "x-amz-checksum-mode": "ChecksumMode",
    "x-amz-checksum-crc32": "ChecksumCRC32",
    "x-amz-storage-class": "StorageClass",
    "x-amz-tagging": "Tagging",
    "x-amz-server-side-encryption": "ServerSideEncryption",
    "x-amz-server-side-encryption-aws-kms-key-id": "SSEKMSKeyId",
}
_QUERY: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "versionId": ("VersionId", str),
    "uploadId": ("UploadId", str),
    "partNumber": ("PartNumber", int),
    "prefix": ("Prefix", str),
    "delimiter": ("Delimiter", str),
    "max-keys": ("MaxKeys", int),
    "start-after": ("StartAfter", str),
    "continuation-token": ("ContinuationToken", str),
}
_METHODS: Final = {
    "GetObject": "get_object",
    "HeadObject": "head_object",
    "PutObject": "put_object",
    "UploadPart": "upload_part",
    "DeleteObject": "delete_object",
    "ListObjectsV2": "list_objects_v2",
}
_META: Final = "x-amz-meta-"


def _no_expect(request: Any, **kwargs: object) -> None:
    """A server that refuses without a 100 would let aiohttp wait until its read timeout."""
    if "Expect" in request.headers:
        del request.headers["Expect"]


class Control:
    """An SDK client whose errors are ours. Each call is one request: retries belong to the
    store."""

    def __init__(self, client: Any, ring: Keyring, limiter: Limiter) -> None:
        self.client = client
        self._ring = ring
        self._limiter = limiter

    async def __call__(
        self, method: str, bucket: str | None = None, key: str | None = None, **params: object
    ) -> dict[str, Any]:
        """``bucket`` and ``key`` become Bucket and Key, and the place of an error."""
        if bucket is not None:
            params["Bucket"] = bucket
        if key is not None:
            params["Key"] = key
        call = getattr(self.client, method)
        if self._limiter.distance:
            await self._limiter.turn()
        is_renewed = False
        while True:
            keys = self._ring.ready()
            try:
                answer: dict[str, Any] = await call(**params)
            except ClientError as exc:
                refusal = _refusal(exc)
                if refusal.code in STALE_CREDENTIALS and not is_renewed:
                    is_renewed = True
                    if await self._ring.renewed(keys):
                        continue
                error = error_of(refusal, bucket, key)
                if isinstance(error, ThrottledError) or refusal.status == 503:
                    self._limiter.throttled()
                refusal.__cause__ = exc
                raise error from refusal
            except (BotoCoreError, aiohttp.ClientError, OSError, RuntimeError) as exc:
                raise self._broken(exc, bucket, key) from exc
            if self._limiter.distance:
                self._limiter.succeeded()
            return answer

    def _broken(self, exc: Exception, bucket: str | None, key: str | None) -> TroveError:
        if isinstance(exc, NoCredentialsError | PartialCredentialsError):
            return UnauthenticatedError("there are no credentials", bucket=bucket, key=key)
        if isinstance(exc, ParamValidationError):
            return InvalidInputError(str(exc)[:300], bucket=bucket, key=key)
        host = self.client.meta.endpoint_url
        if isinstance(exc, ReadTimeoutError | ConnectTimeoutError | TimeoutError):
            return OperationTimeoutError(f"{host} does not answer", bucket=bucket, key=key)
        return translated(exc, Request("HeadObject", bucket or "", key or ""), host)


def _refusal(exc: ClientError) -> Refusal:
    response: Any = exc.response
    said = response.get("Error", {})
    meta = response.get("ResponseMetadata", {})
    headers = meta.get("HTTPHeaders", {})
    code = str(said.get("Code", ""))
    refusal = Refusal(
        int(meta.get("HTTPStatusCode") or 500),
        "" if code.isdigit() else code,
        str(said.get("Message", "")),
        str(meta.get("RequestId", "")),
    )
    refusal.wait = headers.get("retry-after")
    refusal.date = headers.get("date")
    refusal.region = headers.get("x-amz-bucket-region") or said.get("Region")
    refusal.is_marker = headers.get("x-amz-delete-marker") == "true"
    refusal.condition = said.get("Condition")
    return refusal


class SdkPlane:
    """The hot requests through the SDK's client."""

    wants_digest = False

    def __init__(self, control: Control) -> None:
        self._control = control

    async def close(self) -> None:
        """The client belongs to who made it."""

    async def send(self, request: Request) -> Answer:
        answer = await self._call(request)
        meta = answer["ResponseMetadata"]
        headers: Mapping[str, str] = meta["HTTPHeaders"]
        status = int(meta["HTTPStatusCode"])
        if request.operation != "GetObject":
            return Answer(status, headers)
        return Answer(status, headers, b"", _Body(answer["Body"], request))

    async def list(self, request: Request) -> Listing:
        answer = await self._call(request)
        listing = Listing()
        for entry in answer.get("Contents", ()):
            listing.objects.append(
                listed(
                    entry["Key"],
                    entry["Size"],
                    entry.get("ETag", ""),
                    entry["LastModified"].strftime("%Y-%m-%dT%H:%M:%S"),
                    entry.get("StorageClass"),
                )
            )
        listing.prefixes.extend(entry["Prefix"] for entry in answer.get("CommonPrefixes", ()))
        if answer.get("IsTruncated"):
            listing.token = answer.get("NextContinuationToken")
        return listing

    async def _call(self, request: Request) -> dict[str, Any]:
        params: dict[str, object] = {}
        metadata: dict[str, str] = {}
        for name, value in request.headers.items():
            if name in _HEADERS:
                params[_HEADERS[name]] = value
            elif name.startswith(_META):
                metadata[name.removeprefix(_META)] = value
            else:
                raise InvalidInputError(f"the SDK has no parameter for {name}")
        for name, value in request.query.items():
            if name in _QUERY:
                target, convert = _QUERY[name]
                params[target] = convert(value)
        if request.operation in ("PutObject", "UploadPart"):
            params["Body"] = b"".join(request.pieces)
            if metadata:
                params["Metadata"] = metadata
        key = request.key or None
        return await self._control(_METHODS[request.operation], request.bucket, key, **params)


class _Body:
    """The SDK's streaming body; no more of the SDK than `read`, which all versions have."""

    def __init__(self, body: Any, request: Request) -> None:
        self._body = body
        self._request = request
        self._loop = asyncio.get_running_loop()

    def __del__(self) -> None:
        if self._body is not None:
            let_go(self._loop, self._body.close)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._body is None:
            raise StopAsyncIteration
        try:
            chunk: bytes = await self._body.read(256 * 1024)
        except ReadTimeoutError as exc:
            await self.aclose()
            raise OperationTimeoutError("the body does not go on") from exc
        except (BotoCoreError, aiohttp.ClientError, OSError, RuntimeError) as exc:
            await self.aclose()
            raise translated(exc, self._request, "S3") from exc
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


class Connection:
    """Everything of the SDK that one open driver uses."""

    def __init__(self, config: S3Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self.limiter = Limiter()
        self.ring: Keyring = Fixed(None)
        self.region = ""
        self.endpoint = ""
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._making = asyncio.Lock()
        self._is_closed = False

    async def open(self) -> Control:
        config = self._config
        try:
            self._session = aioboto3.Session(profile_name=config.profile, region_name=config.region)
            core = self._session._session
            core.register_component("data_loader", _loader)
            await self._find_credentials(core)
            control = Control(await self.client("s3"), self.ring, self.limiter)
        except ProfileNotFound as exc:
            raise InvalidConfigError("there is no such profile") from exc
        except (BotoCoreError, ValueError) as exc:
            if isinstance(exc, TroveError):
                raise
            raise InvalidConfigError(f"the SDK refuses the settings: {type(exc).__name__}") from exc
        events = control.client.meta.events
        for operation in ("PutObject", "UploadPart"):
            events.register(f"before-sign.s3.{operation}", _no_expect)
        self.region = control.client.meta.region_name
        if self.region in ("aws-global", ""):
            self.region = "us-east-1"
        self.endpoint = control.client.meta.endpoint_url
        return control

    async def _find_credentials(self, core: Any) -> None:
        config = self._config
        if config.anonymous:
            self.ring = Fixed(None)
            return
        if config.key is not None:
            assert config.secret is not None
            self.ring = Fixed(Keys(config.key, config.secret, config.token))
        elif config.provider is not None:
            self.ring = Provided(config.provider)
        else:
            found = await core.get_credentials()
            self.ring = Fixed(None) if found is None else Chain(found)
            if found is None:
                self.ring = _Nobody()
            return
        core._credentials = Lent(self.ring)  # the one way in that all SDK versions have

    async def shared_client(self, service: str) -> Any:
        """One per service, made when it is first needed."""
        async with self._making:
            if service not in self._clients:
                self._clients[service] = await self.client(service)
        return self._clients[service]

    async def client(self, service: str) -> Any:
        """Closed with the connection."""
        config = self._config
        settings = AioConfig(
            signature_version=UNSIGNED if config.anonymous else None,
            connect_timeout=config.connect_timeout,
            read_timeout=config.read_timeout,
            max_pool_connections=config.connections,
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={
                "addressing_style": "path" if is_by_path(config) else "auto",
                "use_accelerate_endpoint": config.accelerated,
            },
            request_checksum_calculation=config.checksum,
            response_checksum_validation="when_required",
            parameter_validation=True,
        )
        making = self._session.client(
            service,
            region_name=config.region or self._session.region_name or "us-east-1",
            endpoint_url=config.endpoint,
            config=settings,
            verify=_verify(config),
        )
        client = await self._stack.enter_async_context(making)
        client.meta.events.register("before-send", self._check)
        return client

    def _check(self, **kwargs: object) -> None:
        """An SDK client that is closed would connect anew, and nobody would end that."""
        if self._is_closed:
            raise RuntimeError("the client is closed")

    async def close(self) -> None:
        self._is_closed = True
        await self._stack.aclose()
        await asyncio.sleep(0)  # lets the transports go


def _verify(config: S3Config) -> bool | None:
    """Certificates are always checked; where there is no TLS, loading them is left out."""
    return False if (config.endpoint or "").startswith("http://") else None


def is_by_path(config: S3Config) -> bool:
    return config.endpoint is not None if config.path_style is None else config.path_style


class _Nobody(Fixed):
    """Nothing was found, and anonymous requests were not asked for."""

    def __init__(self) -> None:
        super().__init__(None)

    async def current(self) -> Keys | None:
        raise UnauthenticatedError(
            "no credentials were found: give key and secret, a profile, a provider, or anonymous"
        )


async def connect(config: S3Config) -> tuple[Connection, Control]:
    connection = Connection(config)
    try:
        return connection, await connection.open()
    except BaseException:
        await connection.close()
        raise
