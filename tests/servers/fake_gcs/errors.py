"""Errors as Google's JSON and XML APIs write them.

https://cloud.google.com/storage/docs/json_api/v1/status-codes
https://cloud.google.com/storage/docs/xml-api/reference-status
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from aiohttp import web

__all__ = [
    "ApiError",
    "bad",
    "json_error",
    "no_bucket",
    "no_object",
    "not_modified",
    "precondition",
    "xml_error",
]

_XML_CODES = {
    "notFound": "NoSuchKey",
    "bucketNotFound": "NoSuchBucket",
    "conditionNotMet": "PreconditionFailed",
    "required": "AccessDenied",
    "forbidden": "AccessDenied",
    "authError": "AuthenticationRequired",
    "signature": "SignatureDoesNotMatch",
    "expired": "ExpiredToken",
    "requestedRangeNotSatisfiable": "InvalidRange",
    "invalid": "InvalidArgument",
    "tooLarge": "EntityTooLarge",
    "tooSmall": "EntityTooSmall",
    "badDigest": "BadDigest",
}


class ApiError(Exception):
    def __init__(
        self, status: int, reason: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, reason, message)
        self.status = status
        self.reason = reason
        self.message = message
        self.headers = dict(headers or {})


def bad(message: str, reason: str = "invalid") -> ApiError:
    return ApiError(400, reason, message)


def no_bucket() -> ApiError:
    return ApiError(404, "bucketNotFound", "The specified bucket does not exist.")


def no_object(bucket: str, name: str) -> ApiError:
    return ApiError(404, "notFound", f"No such object: {bucket}/{name}")


def precondition() -> ApiError:
    return ApiError(
        412, "conditionNotMet", "At least one of the pre-conditions you specified did not hold."
    )


def not_modified() -> ApiError:
    return ApiError(304, "notModified", "Not Modified")


def json_error(error: ApiError) -> web.Response:
    if error.status == 304:
        return web.Response(status=304)
    reason = "notFound" if error.reason == "bucketNotFound" else error.reason
    document = {
        "error": {
            "code": error.status,
            "message": error.message,
            "errors": [{"message": error.message, "domain": "global", "reason": reason}],
        }
    }
    return web.Response(
        status=error.status,
        text=json.dumps(document),
        content_type="application/json",
        headers=error.headers,
    )


def xml_error(error: ApiError) -> web.Response:
    if error.status == 304:
        return web.Response(status=304)
    code = _XML_CODES.get(error.reason, error.reason)
    text = (
        f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{escape(code)}</Code>"
        f"<Message>{escape(error.message)}</Message></Error>"
    )
    return web.Response(
        status=error.status, text=text, content_type="application/xml", headers=error.headers
    )
