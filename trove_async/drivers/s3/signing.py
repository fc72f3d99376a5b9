"""AWS Signature Version 4 for S3: in a header, or in the query of a presigned request.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Final
from urllib.parse import quote

__all__ = ["EMPTY", "UNSIGNED", "Signer", "canonical_query"]

EMPTY: Final = sha256(b"").hexdigest()
UNSIGNED: Final = "UNSIGNED-PAYLOAD"
_ALGORITHM: Final = "AWS4-HMAC-SHA256"


def canonical_query(query: Mapping[str, str]) -> str:
    """Sorted and encoded; sent exactly so, too."""
    if not query:
        return ""
    pairs = sorted((quote(n, safe="-_.~"), quote(v, safe="-_.~")) for n, v in query.items())
    return "&".join([f"{name}={value}" for name, value in pairs])


class Signer:
    """Signs for one region. ``skew``: seconds the server's clock is ahead of ours."""

    __slots__ = ("_day", "_key", "_keys_of", "_region", "_scope", "_second", "_stamp", "skew")

    def __init__(self, region: str) -> None:
        self._region = region
        self.skew = 0.0
        self._second = -1
        self._stamp = ""
        self._day = ""
        self._scope = ""
        self._keys_of: tuple[str, str] | None = None
        self._key = b""

    def now(self) -> float:
        return time.time() + self.skew

    def _clock(self) -> str:
        """The time as the server wants it, made once a second; sets the day's scope."""
        second = int(self.now())
        if second != self._second:
            self._stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._second = second
            if self._stamp[:8] != self._day:
                self._day = self._stamp[:8]
                self._scope = f"{self._day}/{self._region}/s3/aws4_request"
                self._keys_of = None
        return self._stamp

    def _signing_key(self, secret: str) -> bytes:
        """Derived once a day for each secret."""
        wanted = (self._day, secret)
        if self._keys_of != wanted:
            key = b"AWS4" + secret.encode()
            for part in (self._day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._keys_of = key, wanted
        return self._key

    def sign(
        self,
        method: str,
        path: str,
        query: str,
        host: str,
        headers: dict[str, str],
        payload: str,
        key: str,
        secret: str,
        token: str | None,
    ) -> None:
        """Adds what authenticates the request to ``headers``, whose names are lower case.

        ``path`` and ``query`` are encoded already; ``payload`` is the hash of the body or
        `UNSIGNED`."""
        stamp = self._clock()
        headers["x-amz-content-sha256"] = payload
        headers["x-amz-date"] = stamp
        if token is not None:
            headers["x-amz-security-token"] = token
        signed = [("host", host)]
        for item in headers.items():
            name = item[0]
            if name[:6] == "x-amz-" or name == "content-type" or name == "content-md5":
                signed.append(item)
        signed.sort()
        names = ";".join([name for name, _ in signed])
        lines = "".join([f"{name}:{' '.join(value.split())}\n" for name, value in signed])
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{payload}"
        signature = self._signature(stamp, request, secret)
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={key}/{self._scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )

    def _signature(self, stamp: str, request: str, secret: str) -> str:
        hashed = sha256(request.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{stamp}\n{self._scope}\n{hashed}"
        return hmac.digest(self._signing_key(secret), text.encode(), "sha256").hex()

    def presign(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        host: str,
        headers: Mapping[str, str],
        expires: int,
        key: str,
        secret: str,
        token: str | None,
    ) -> str:
        """The whole query of a request that anyone may send with exactly these headers for
        ``expires`` seconds."""
        stamp = self._clock()
        signed = sorted([("host", host), *headers.items()])
        names = ";".join(name for name, _ in signed)
        everything = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{key}/{self._scope}",
            "X-Amz-Date": stamp,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": names,
        }
        if token is not None:
            everything["X-Amz-Security-Token"] = token
        text = canonical_query(everything)
        lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in signed)
        request = f"{method}\n{path}\n{text}\n{lines}\n{names}\n{UNSIGNED}"
        return f"{text}&X-Amz-Signature={self._signature(stamp, request, secret)}"
