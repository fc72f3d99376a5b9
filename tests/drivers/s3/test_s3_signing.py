"""Our signatures are the SDK's, for every key, query and header."""

from __future__ import annotations

import time
import zlib
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, unquote, urlsplit

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from trove_async.driver.crc import crc_combined
from trove_async.drivers.s3.addressing import Address, key_path
from trove_async.drivers.s3.info import _meta_value, meta_headers
from trove_async.drivers.s3.signing import EMPTY, Signer, canonical_query

KEY, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = 1_795_000_000.0
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
visible = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]))
headers = st.dictionaries(
    st.sampled_from(["x-amz-meta-a", "x-amz-meta-b-c", "x-amz-tagging", "content-type"]),
    st.from_regex(r"[!-~]([ -~]{0,30}[!-~])?", fullmatch=True),
)


def oracle(kind: Any, request: AWSRequest, token: str | None, **more: object) -> Any:
    auth = kind(Credentials(KEY, SECRET, token), "s3", "eu-central-1", **more)
    then = datetime.fromtimestamp(NOW, UTC)
    with patch("botocore.auth.get_current_datetime", lambda: then.replace(tzinfo=None)):
        auth.add_auth(request)
    return request


@settings(max_examples=100)
@given(texts, st.dictionaries(texts, texts, max_size=4), headers, st.booleans(), st.booleans())
def test_headers_are_signed_as_the_sdk_signs_them(
    key: str, query: dict[str, str], sent: dict[str, str], has_token: bool, unsigned: bool
) -> None:
    token = "a-token/with+signs=" if has_token else None
    place = Address("https://s3.eu-central-1.amazonaws.com", path_style=True).of("bkt", key)
    text = canonical_query(query)
    url = place.origin + place.path + ("?" + text if text else "")
    theirs = AWSRequest("PUT", url, headers=sent)
    theirs.context["has_streaming_input"] = unsigned
    theirs.data = b""
    oracle(S3SigV4Auth, theirs, token)
    payload = theirs.headers["X-Amz-Content-SHA256"]
    ours = dict(sent)
    signer = Signer("eu-central-1")
    with patch.object(time, "time", lambda: NOW):
        signer.sign("PUT", place.path, text, place.host, ours, payload, KEY, SECRET, token)
    assert unsigned or payload == EMPTY
    assert ours["authorization"] == theirs.headers["Authorization"]
    assert ours["x-amz-date"] == theirs.headers["X-Amz-Date"]


@settings(max_examples=60)
@given(texts, st.integers(1, 604800), st.booleans(), st.booleans())
def test_presigned_queries_are_the_sdks(
    key: str, expires: int, has_token: bool, is_bound: bool
) -> None:
    token = "a-token/with+signs=" if has_token else None
    bound = {"content-type": "text/x; charset=utf-8", "content-length": "17"} if is_bound else {}
    query = {} if is_bound else {"response-content-type": "image/png"}
    place = Address("http://127.0.0.1:9000", path_style=True).of("bkt", key)
    url = place.origin + place.path + ("?" + canonical_query(query) if query else "")
    theirs = AWSRequest("GET", url, headers=bound)
    oracle(S3SigV4QueryAuth, theirs, token, expires=expires)
    with patch.object(time, "time", lambda: NOW):
        ours = Signer("eu-central-1").presign(
            "GET", place.path, query, place.host, bound, expires, KEY, SECRET, token
        )
    assert dict(parse_qsl(ours)) == dict(parse_qsl(urlsplit(theirs.url).query))


def test_a_new_day_and_another_secret_have_keys_of_their_own() -> None:
    signer = Signer("us-east-1")

    def signed(now: float, secret: str) -> str:
        sent: dict[str, str] = {}
        with patch.object(time, "time", lambda: now):
            signer.sign("GET", "/b/k", "", "h", sent, EMPTY, KEY, secret, None)
        return sent["authorization"]

    first = signed(NOW, SECRET)
    assert signed(NOW, SECRET) == first
    assert signed(NOW + 86_400, SECRET) != first and signed(NOW, "other") != first
    assert signed(NOW, SECRET) == first


@given(texts)
def test_a_key_is_encoded_once_and_reversibly(key: str) -> None:
    path = key_path(key)
    assert unquote(path) == key and path.isascii()
    assert not set(path) & set("?#+ \"<>\\^`{|}&:@=;,$!*'()[]")


@given(st.binary(max_size=200), st.binary(max_size=70_000))
def test_checksums_of_parts_combine(one: bytes, two: bytes) -> None:
    combined = crc_combined(zlib.crc32(one), zlib.crc32(two), len(two))
    assert combined == zlib.crc32(one + two)


@given(
    st.dictionaries(st.just("v"), st.text(st.characters(codec="utf-8", exclude_categories=["Cc"])))
)
def test_metadata_survives_a_header(metadata: dict[str, str]) -> None:
    sent: dict[str, str] = {}
    meta_headers(metadata, sent, 1 << 20)
    for name, value in sent.items():
        assert value.isascii() and value == value.strip() and value.isprintable()
        assert _meta_value(value) == metadata[name.removeprefix("x-amz-meta-")]
