"""The hot requests, signed and sent by ourselves: a third of the SDK's CPU time."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Final, NoReturn

import aiohttp

from trove_async.driver.limiter import Limiter
from trove_async.drivers.s3.addressing import Address
from trove_async.drivers.s3.config import S3Config
from trove_async.drivers.s3.credentials import Keyring, Keys
from trove_async.drivers.s3.faults import STALE_CREDENTIALS, Refusal, error_of
from trove_async.drivers.s3.listing import Listing, fields_of, read_listing
from trove_async.drivers.s3.signing import EMPTY, UNSIGNED, Signer, canonical_query
from trove_async.drivers.s3.transport import Download, Http, Response, bounded_read, translated
from trove_async.drivers.s3.wire import Answer, Request
from trove_async.errors import ThrottledError

__all__ = ["Direct"]

_METHODS: Final = {
    "GetObject": "GET",
    "HeadObject": "HEAD",
    "PutObject": "PUT",
    "UploadPart": "PUT",
    "DeleteObject": "DELETE",
    "ListObjectsV2": "GET",
}
_CONDITIONS: Final = ("if-match", "if-none-match")
_MOST_ERROR: Final = 64 * 1024
_MOST_LISTING: Final = 64 * 1024 * 1024
_SKEW_MATTERS: Final = 60.0


class Direct:
    def __init__(
        self,
        http: Http,
        config: S3Config,
        address_of: Callable[[str], Address],
        region: str,
        ring: Keyring,
        limiter: Limiter,
    ) -> None:
        self._http = http
        self._config = config
        self._address_of = address_of
        self._addresses = {region: address_of(region)}
        self._signers = {region: Signer(region)}
        self._region = region
        self._regions: dict[str, str] = {}  # of buckets that live elsewhere
        self._ring = ring
        self._limiter = limiter
        wanted = config.sign_payload
        is_secure = self._addresses[region].is_secure
        self.wants_digest = not is_secure if wanted is None else wanted
        """Whether the body's SHA-256 is signed."""

    async def close(self) -> None:
        await self._http.close()

    async def send(self, request: Request) -> Answer:
        """A success; TroveError for everything else. What can be put right at once (expired
        credentials, a wrong clock, another region, a connection the server had closed) is
        asked again, once each."""
        limiter = self._limiter
        if limiter.distance:
            await limiter.turn()
        tried: set[str] = set()
        while True:
            region = self._regions.get(request.bucket, self._region)
            keys = self._ring.ready() or await self._ring.current()
            try:
                answer = await self._once(request, region, keys)
            except Refusal as refusal:
                remedy = await self._remedy(request, refusal, region, keys)
                if remedy is None or remedy in tried:
                    self._refused(request, refusal)
                tried.add(remedy)
            except (aiohttp.ClientError, OSError, RuntimeError) as exc:
                broken = isinstance(exc, aiohttp.ServerDisconnectedError | ConnectionResetError)
                if broken and "connection" not in tried and self._may_repeat(request):
                    tried.add("connection")
                    continue
                raise translated(exc, request, self._addresses[region].netloc) from exc
            else:
                if limiter.distance:
                    limiter.succeeded()
                return answer

    async def list(self, request: Request) -> Listing:
        return read_listing((await self.send(request)).data)

    def _may_repeat(self, request: Request) -> bool:
        """A condition could be met by our own first request: only the store knows."""
        return not any(name in request.headers for name in _CONDITIONS) or (
            request.operation in ("GetObject", "HeadObject")
        )

    def _refused(self, request: Request, refusal: Refusal) -> NoReturn:
        error = error_of(refusal, request.bucket, request.key)
        if isinstance(error, ThrottledError) or refusal.status == 503:
            self._limiter.throttled()
        raise error

    async def _remedy(
        self, request: Request, refusal: Refusal, region: str, keys: Keys | None
    ) -> str | None:
        code = refusal.code
        if code == "RequestTimeTooSkewed" or (code == "RequestExpired" and refusal.date):
            signer = self._signers[region]
            theirs = _seconds(refusal.date)
            if theirs is not None and abs(theirs - signer.now()) > _SKEW_MATTERS:
                signer.skew += theirs - signer.now()
                return "clock"
        elif code in STALE_CREDENTIALS:
            if await self._ring.renewed(keys):
                return "credentials"
        elif refusal.region and refusal.region != region and self._config.endpoint is None:
            # The host is always one of the SDK's own partition, never what the answer names.
            self._regions[request.bucket] = refusal.region
            if refusal.region not in self._signers:
                self._signers[refusal.region] = Signer(refusal.region)
                self._addresses[refusal.region] = self._address_of(refusal.region)
            return "region"
        return None

    async def _once(self, request: Request, region: str, keys: Keys | None) -> Answer:
        operation = request.operation
        method = _METHODS[operation]
        place = self._addresses[region].of(request.bucket, request.key)
        query = canonical_query(request.query) if request.query else ""
        headers = request.headers
        pieces, size = request.pieces, request.size
        payload = EMPTY
        if method == "PUT":
            payload = request.digest or (self._digest(request) if self.wants_digest else UNSIGNED)
            headers["content-length"] = str(size)
        if keys is not None:
            self._signers[region].sign(
                method, place.path, query, place.host, headers, payload, *keys
            )
        target = f"{place.path}?{query}" if query else place.path
        response = await self._http.request(
            method, place.origin, target, place.host, headers, pieces, size
        )
        is_kept = False  # by the stream, which then gives it back
        try:
            status = response.status
            if not 200 <= status < 300:
                await self._raise(response)
            if operation == "GetObject":
                is_kept = True
                return Answer(status, response.headers, b"", Download(response, request))
            most = _MOST_LISTING if operation == "ListObjectsV2" else _MOST_ERROR
            body = b"" if method == "HEAD" else await bounded_read(response, most)
            return Answer(status, response.headers, body)
        finally:
            if not is_kept:
                response.release()

    def _digest(self, request: Request) -> str:
        hasher = sha256()
        for piece in request.pieces:
            hasher.update(piece)
        return hasher.hexdigest()

    async def _raise(self, response: Response) -> NoReturn:
        body = b""
        if response.method != "HEAD" and response.status != 304:
            body = await bounded_read(response, _MOST_ERROR)
        headers = response.headers
        fields = fields_of(body)
        refusal = Refusal(
            response.status,
            fields.get("Code", ""),
            fields.get("Message", ""),
            headers.get("x-amz-request-id") or fields.get("RequestId", ""),
        )
        refusal.wait = headers.get("retry-after")
        refusal.date = headers.get("date")
        refusal.region = headers.get("x-amz-bucket-region") or fields.get("Region")
        refusal.is_marker = headers.get("x-amz-delete-marker") == "true"
        if fields.get("Condition"):
            refusal.condition = fields["Condition"]
        raise refusal


def _seconds(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError):
        return None
