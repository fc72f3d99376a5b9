"""What a bucket, a key, a content type and metadata may look like, on every backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

from trove_async.errors import (
    InvalidBucketNameError,
    InvalidInputError,
    InvalidKeyError,
    InvalidMetadataError,
)

__all__ = [
    "MAX_METADATA",
    "check_bucket",
    "check_content_type",
    "check_key",
    "check_metadata",
    "check_tags",
    "check_word",
    "content_type_of",
]

MAX_KEY: Final = 1024
MAX_METADATA: Final = 2048
"""Bytes of all names and values of user metadata: what S3 accepts."""

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_ADDRESS = re.compile(r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", re.ASCII)
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_CONTENT_TYPE = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?:[ ]*;[ ]*{_TOKEN}=(?:{_TOKEN}|\"[ !#-\[\]-~]*\"))*", re.ASCII
)
_valid: set[str] = set()  # a service has few buckets and names them all the time
_METADATA_NAME = re.compile(r"[a-z0-9_.-]{1,128}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def check_bucket(name: str) -> str:
    """3 to 63 of ``a-z 0-9 . -``, alphanumeric at both ends, no ``..``, no IP address.

    The rules common to S3, GCS and (but for dots) Azure."""
    if type(name) is str and name in _valid:
        return name
    if not isinstance(name, str):
        raise TypeError(f"a bucket name is a str, not {type(name).__name__}")
    if _BUCKET.fullmatch(name) is None or ".." in name or _ADDRESS.fullmatch(name):
        raise InvalidBucketNameError("not a bucket name", bucket=name[:100])
    if len(_valid) < 1024:
        _valid.add(name)
    return name


def check_key(key: str) -> str:
    """1 to 1024 bytes of UTF-8, no NUL, no lone surrogate."""
    if type(key) is not str and not isinstance(key, str):
        raise TypeError(f"a key is a str, not {type(key).__name__}")
    if not key:
        raise InvalidKeyError("a key has at least one character", key=key)
    if len(key) > 256 or not key.isascii():
        try:
            length = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidKeyError("lone surrogate in a key") from None
        if length > MAX_KEY:
            raise InvalidKeyError(f"a key has at most {MAX_KEY} bytes", key=key[:100])
    if "\0" in key:
        raise InvalidKeyError("NUL in a key", key=key)
    return key


def check_content_type(text: str) -> str:
    """``type/subtype`` with parameters (RFC 9110, section 8.3.1), at most 255 characters."""
    if not isinstance(text, str):
        raise TypeError(f"a content type is a str, not {type(text).__name__}")
    if len(text) > 255 or _CONTENT_TYPE.fullmatch(text) is None:
        raise InvalidInputError("not a content type")
    return text


def check_word(text: str) -> str:
    """Storage class, region, etag, version: what some backends send in a header."""
    if not isinstance(text, str):
        raise TypeError(f"text is wanted, not {type(text).__name__}")
    if not text or len(text) > 1024 or _CONTROL.search(text) or _SURROGATE.search(text):
        raise InvalidInputError("empty, longer than 1024 or with control characters")
    return text


def check_metadata(metadata: Mapping[str, str], *, reserved: bool = False) -> dict[str, str]:
    """A copy with lower-case names.

    Names are case-insensitive: letters, digits, ``_ . -``. Values are text without control
    characters. Names that begin with ``trove`` are ours, unless ``reserved``.
    """
    checked: dict[str, str] = {}
    total = 0
    for name, value in metadata.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("metadata maps str to str")
        lower = name.lower()
        if _METADATA_NAME.fullmatch(lower) is None:
            raise InvalidMetadataError(f"not a metadata name: {name[:100]!r}")
        if lower in checked:
            raise InvalidMetadataError(f"metadata name {lower!r} is given twice")
        if _CONTROL.search(value):
            raise InvalidMetadataError(f"control character in metadata {lower!r}")
        if _SURROGATE.search(value):
            raise InvalidMetadataError(f"lone surrogate in metadata {lower!r}")
        if lower.startswith("trove"):
            if not reserved:
                raise InvalidMetadataError("metadata names that begin with 'trove' are reserved")
        else:
            total += len(lower) + len(value.encode())
        checked[lower] = value
    if total > MAX_METADATA:
        raise InvalidMetadataError(f"metadata has {total} bytes; at most {MAX_METADATA}")
    return checked


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """At most 10 tags, names of 1 to 128 and values of up to 256 characters (S3, Azure)."""
    if len(tags) > 10:
        raise InvalidMetadataError("at most 10 tags")
    for name, value in tags.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError("tags map str to str")
        if not 1 <= len(name) <= 128 or len(value) > 256:
            raise InvalidMetadataError("a tag has 1 to 128 characters, its value up to 256")
        if _CONTROL.search(name + value) or _SURROGATE.search(name + value):
            raise InvalidMetadataError("control character in a tag")
    return dict(tags)


@cache
def _by_suffix() -> dict[str, str]:
    """Python's own table, not this machine's /etc/mime.types: a key has one type everywhere.
    Made on first use, for it takes milliseconds."""
    from mimetypes import MimeTypes

    return {
        **MimeTypes(filenames=()).types_map[True],
        ".gz": "application/gzip",
        ".bz2": "application/x-bzip2",
        ".xz": "application/x-xz",
        ".zst": "application/zstd",
        ".br": "application/x-brotli",
        ".md": "text/markdown",
        ".webp": "image/webp",
        ".parquet": "application/vnd.apache.parquet",
        ".yaml": "application/yaml",
        ".yml": "application/yaml",
        ".toml": "application/toml",
        ".7z": "application/x-7z-compressed",
        ".rst": "text/x-rst",
        ".woff2": "font/woff2",
        ".woff": "font/woff",
    }


def content_type_of(key: str) -> str:
    """By the key's suffix, else ``application/octet-stream``."""
    dot = key.rfind(".")
    if dot < 0 or len(key) - dot > 16:
        return "application/octet-stream"
    return _by_suffix().get(key[dot:].lower(), "application/octet-stream")
