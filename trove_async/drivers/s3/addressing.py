"""Where a bucket and a key are on the wire. Keys are encoded here, once."""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit

__all__ = ["Address", "Place", "key_path"]

_UNRESERVED: Final = "-_.~/"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def key_path(key: str) -> str:
    """UTF-8, percent-encoded but for unreserved characters and ``/``."""
    return quote(key, safe=_UNRESERVED)


class Place(NamedTuple):
    """One request target: ``origin + path`` is its URL, ``host`` its Host header."""

    origin: str
    host: str
    path: str


class Address:
    """The endpoint of one region."""

    def __init__(self, endpoint: str, *, path_style: bool) -> None:
        parts = urlsplit(endpoint)
        self._scheme = parts.scheme
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        is_usual = parts.port is None or parts.port == _DEFAULT_PORTS.get(parts.scheme)
        self._netloc = host if is_usual else f"{host}:{parts.port}"
        self._base = parts.path.rstrip("/")
        self._path_style = path_style
        self.endpoint = endpoint

    @property
    def is_secure(self) -> bool:
        return self._scheme == "https"

    @property
    def netloc(self) -> str:
        return self._netloc

    def of(self, bucket: str, key: str) -> Place:
        """A dot in a bucket's name would not match the certificate of a host name."""
        if self._path_style or ("." in bucket and self.is_secure):
            path = f"{self._base}/{bucket}" + (f"/{key_path(key)}" if key else "")
            return Place(f"{self._scheme}://{self._netloc}", self._netloc, path)
        host = f"{bucket}.{self._netloc}"
        return Place(f"{self._scheme}://{host}", host, f"{self._base}/{key_path(key)}")
