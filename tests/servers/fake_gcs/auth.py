"""Who is asking: access tokens of service accounts, and V4 signed URLs.

https://developers.google.com/identity/protocols/oauth2/service-account
https://cloud.google.com/storage/docs/authentication/canonical-requests
"""

from __future__ import annotations

import hashlib
import secrets
import time
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import jwt
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.servers.fake_gcs.errors import ApiError, bad

__all__ = ["Auth"]

_LONGEST = 7 * 24 * 3600
_SKEW = 15 * 60


def _denied(message: str, status: int = 403, reason: str = "forbidden") -> ApiError:
    return ApiError(status, reason, message)


class Auth:
    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPublicKey] = {}
        """E-mail address of a service account -> its key."""
        self.tokens: set[str] = set()
        self.grants = 0
        self.public: set[str] = set()
        """Buckets that anybody may read."""

    def register(self, email: str, pem: str) -> None:
        key = serialization.load_pem_public_key(pem.encode())
        assert isinstance(key, rsa.RSAPublicKey)
        self.keys[email] = key

    async def grant(self, request: web.Request) -> web.Response:
        form = await request.post()
        assertion = str(form.get("assertion", ""))
        try:
            email = jwt.decode(assertion, options={"verify_signature": False})["iss"]
            jwt.decode(
                assertion, self.keys[email], algorithms=["RS256"], options={"verify_aud": False}
            )
        except (jwt.InvalidTokenError, KeyError):
            return web.json_response(
                {"error": "invalid_grant", "error_description": "Invalid JWT Signature."},
                status=400,
            )
        token = f"ya29.{secrets.token_urlsafe(24)}"
        self.tokens.add(token)
        self.grants += 1
        return web.json_response(
            {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}
        )

    def check(self, request: web.Request, bucket: str | None = None) -> None:
        """401 without a token that was granted here."""
        header = request.headers.get("Authorization")
        if header is None:
            if bucket in self.public and request.method in ("GET", "HEAD"):
                return
            raise _denied(
                "Anonymous caller does not have storage access to the Google Cloud Storage "
                "resource.",
                401,
                "required",
            )
        if header.removeprefix("Bearer ") not in self.tokens:
            raise _denied("Invalid Credentials", 401, "authError")

    def check_signature(self, request: web.Request) -> None:
        """Of the very request that came."""
        path, _, raw = request.raw_path.partition("?")
        query = [
            (unquote(pair.partition("=")[0]), unquote(pair.partition("=")[2]))
            for pair in raw.split("&")
            if pair
        ]
        given = dict(query)
        try:
            if given["X-Goog-Algorithm"] != "GOOG4-RSA-SHA256":
                raise bad("Invalid algorithm")
            email, date, location, service, kind = given["X-Goog-Credential"].rsplit("/", 4)
            moment = datetime.strptime(given["X-Goog-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            lasts = int(given["X-Goog-Expires"])
            signature = bytes.fromhex(given["X-Goog-Signature"])
            signed = given["X-Goog-SignedHeaders"].split(";")
        except (KeyError, ValueError):
            raise bad("A parameter of the signed URL is missing or malformed") from None
        if (service, kind) != ("storage", "goog4_request") or date != f"{moment:%Y%m%d}":
            raise bad("Invalid credential scope")
        if not 0 < lasts <= _LONGEST:
            raise bad("Invalid expiration")
        now = time.time()
        if now > moment.timestamp() + lasts:
            raise bad("The provided token has expired.", "expired")
        if moment.timestamp() > now + _SKEW:
            raise _denied("Request has not yet started.")
        if "host" not in signed or any(
            name.lower().startswith("x-goog-") and name.lower() not in signed
            for name in request.headers
        ):
            raise _denied("A header that must be signed is not.", 403, "signature")
        canonical = "\n".join(
            [
                request.method,
                quote(unquote(path), safe="/~-._"),
                "&".join(
                    f"{quote(name, safe='~-._')}={quote(value, safe='~-._')}"
                    for name, value in sorted(query)
                    if name != "X-Goog-Signature"
                ),
                *(f"{name}:{_value(request, name)}" for name in signed),
                "",
                ";".join(signed),
                request.headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD"),
            ]
        )
        to_sign = "\n".join(
            [
                "GOOG4-RSA-SHA256",
                given["X-Goog-Date"],
                f"{date}/{location}/{service}/{kind}",
                hashlib.sha256(canonical.encode()).hexdigest(),
            ]
        )
        key = self.keys.get(email)
        if key is None:
            raise _denied("Unknown service account", 403, "signature")
        try:
            key.verify(signature, to_sign.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise _denied(
                "The request signature we calculated does not match the signature you provided.",
                403,
                "signature",
            ) from None


def _value(request: web.Request, name: str) -> str:
    """Of all headers of that name, with single spaces."""
    return ",".join(" ".join(value.split()) for value in request.headers.getall(name, [""]))
