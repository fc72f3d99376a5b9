"""Keys, containers and metadata as Azure can hold them; all of it exact, or refused before any
byte moves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

from trove_async.errors import InvalidBucketNameError, InvalidKeyError, InvalidMetadataError

__all__ = [
    "META",
    "SESSION",
    "blob_path",
    "check_container",
    "is_session",
    "meta_headers",
    "plain_metadata",
    "quoted_path",
]

META: Final = "x-ms-meta-"
SESSION: Final = ".trove-upload~"
"""Beginning of the blobs that parts of unfinished uploads are kept in, 32 hex digits after it."""

_CONTAINER: Final = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*", re.ASCII)
_UNHOLDABLE: Final = re.compile("[\x00-\x1f\x7f\u0081\ufffe\uffff\\\\]")
_OWN: Final = re.compile(re.escape(SESSION) + "[0-9a-f]{32}", re.ASCII)
_MOST_SEGMENTS: Final = 254

# Metadata. Names are C# identifiers, values what survives as a header.
_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)
_ESCAPED_NAME: Final = "trovex__"
_ESCAPE: Final = re.compile(r"_([0-9a-f]{2})", re.ASCII)
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
_ESCAPED_VALUE: Final = "utf-8''"  # as in RFC 8187
_SAFE: Final = "!#$&()*+,/:;<=>?@[]^`{|}"
_MOST_METADATA: Final = 8192


@lru_cache(maxsize=1024)
def check_container(name: str) -> str:
    """Hyphens stand alone between letters and digits, and there are no dots."""
    if _CONTAINER.fullmatch(name) is None or not 3 <= len(name) <= 63:
        raise InvalidBucketNameError(
            "a container is named by letters, digits and single hyphens", bucket=name[:100]
        )
    return name


def is_session(key: str) -> bool:
    return key.startswith(SESSION) and _OWN.fullmatch(key) is not None


def quoted_path(key: str) -> str:
    """As it stands in a URL, encoded once."""
    return quote(key, safe="~/")


@lru_cache(maxsize=4096)
def blob_path(bucket: str, key: str, *, no_trailing_dots: bool) -> str:
    """``/container/blob`` of a URL. InvalidKeyError for a key that the service, or every HTTP
    client on the way to it, would turn into another one."""
    check_container(bucket)
    if _UNHOLDABLE.search(key) is not None:
        raise InvalidKeyError(
            "Azure holds no control characters, and a backslash as a slash",
            bucket=bucket,
            key=key,
        )
    if "." in key or key.count("/") >= _MOST_SEGMENTS:
        _check_segments(bucket, key, no_trailing_dots)
    return f"/{bucket}/{quote(key, safe='~/')}"


def _check_segments(bucket: str, key: str, no_trailing_dots: bool) -> None:
    segments = key.split("/")
    if len(segments) > _MOST_SEGMENTS:
        raise InvalidKeyError(f"Azure holds {_MOST_SEGMENTS} segments", bucket=bucket, key=key)
    if "." in segments or ".." in segments:
        raise InvalidKeyError("dot segments do not survive in a URL", bucket=bucket, key=key)
    if no_trailing_dots and any(segment.endswith(".") for segment in segments):
        raise InvalidKeyError("Azure drops a dot that ends a segment", bucket=bucket, key=key)
    if _OWN.fullmatch(key) is not None:
        raise InvalidKeyError("unfinished uploads are kept there", bucket=bucket, key=key)


def meta_headers(
    metadata: Mapping[str, str], headers: dict[str, str], *, marks_empty: bool = False
) -> None:
    """What is no C# identifier, or no plain header text, travels escaped. InvalidMetadataError
    for more than Azure holds. ``marks_empty``: an empty map is sent as one that says so, since
    a copy without metadata would keep the source's."""
    total = 0
    if not metadata and marks_empty:
        headers[META + _ESCAPED_NAME] = "none"
    for name, value in metadata.items():
        if _NAME.fullmatch(name) is None or name.startswith(_ESCAPED_NAME):
            name = _ESCAPED_NAME + "".join(map(_escaped, name))
        if _VALUE.fullmatch(value) is None or "  " in value or value.startswith(_ESCAPED_VALUE):
            value = _ESCAPED_VALUE + quote(value, safe=_SAFE)
        total += len(name) + len(value)
        headers[META + name] = value
    if total > _MOST_METADATA:
        raise InvalidMetadataError(
            f"Azure holds {_MOST_METADATA} bytes of metadata; escaped these are {total}"
        )


def _escaped(letter: str) -> str:
    return letter if letter.isascii() and letter.isalnum() else f"_{ord(letter):02x}"


def plain_metadata(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The map that `meta_headers` was given; foreign pairs as they are, names in lower case."""
    return dict(_plain(name.lower(), value) for name, value in pairs if name != _ESCAPED_NAME)


def _plain(name: str, value: str) -> tuple[str, str]:
    if name.startswith(_ESCAPED_NAME):
        name = _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name[len(_ESCAPED_NAME) :])
    if value.startswith(_ESCAPED_VALUE):
        with suppress(UnicodeDecodeError):  # not ours
            value = unquote(value[len(_ESCAPED_VALUE) :], errors="strict")
    return name, value
