"""Connection strings: ``scheme://[user:password@]host/path[?params]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn, TypeVar

from trove_async.errors import InvalidDSNError

__all__ = ["DSN", "parse_dsn"]

T = TypeVar("T")

# Also of drivers we do not know: hiding too much costs nothing.
_SECRET_NAME = re.compile(r"token|key|sas|connection_string|credential|secret|pass|auth|sig")
_SECRET_VALUE = re.compile(r"@|[?&;]\s*\w*(?:sig|key|token|secret|pass)\w*=", re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_MOST = 16 * 1024


@dataclass(frozen=True, slots=True, repr=False)
class DSN:
    """Parsed and percent-decoded. ``repr`` and ``str`` hide what could be a secret."""

    scheme: str
    user: str | None = None
    password: str | None = field(default=None)
    host: str = ""
    port: int | None = None
    path: str = ""
    params: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"DSN({str(self)!r})"

    def __str__(self) -> str:
        from urllib.parse import quote

        who = ""
        if self.user is not None:
            who = "***"  # a name may be a token
            who += ":***@" if self.password is not None else "@"
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port is not None else ""
        shown = "&".join(
            f"{quote(name)}={'***' if _is_secret(name, value) else quote(value, safe='/:')}"
            for name, value in self.params.items()
        )
        return f"{self.scheme}://{who}{host}{port}{quote(self.path)}{'?' + shown if shown else ''}"

    def reject(self, message: str) -> NoReturn:
        raise InvalidDSNError(f"{self.scheme}: {message}")

    def allow(self, *names: str) -> None:
        """InvalidDSNError for any parameter that is not one of ``names``."""
        unknown = sorted(set(self.params) - set(names))
        if unknown:
            known = ", ".join(names) or "none"
            self.reject(f"unknown parameter {', '.join(unknown)} (known: {known})")

    def choice(self, name: str, default: str, *values: str) -> str:
        value = self.params.get(name, default)
        if value not in values:
            self.reject(f"{name} is one of {', '.join(values)}")
        return value

    def number(self, name: str, default: T, *, least: int = 1, most: int = 1 << 50) -> int | T:
        text = self.params.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            self.reject(f"{name} must be a whole number")
        value = int(text)
        if not least <= value <= most:
            self.reject(f"{name} must be between {least} and {most}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        text = self.params.get(name)
        if text is None:
            return default
        if text.lower() in ("1", "true", "yes", "on"):
            return True
        if text.lower() in ("0", "false", "no", "off"):
            return False
        self.reject(f"{name} must be true or false")


def parse_dsn(text: str) -> DSN:
    """Raises `InvalidDSNError`; its message never repeats the text, which may hold a secret."""
    if not isinstance(text, str):
        raise TypeError(f"a DSN is a str, not {type(text).__name__}")
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator or not scheme or not _is_scheme(scheme):
        raise InvalidDSNError("a DSN begins with scheme://")
    if len(text) > _MOST:
        raise InvalidDSNError(f"a DSN has at most {_MOST} characters")
    _printable(scheme, text)
    rest, _, query = rest.partition("?")
    authority, slash, path = rest.partition("/")
    credentials, at, place = authority.rpartition("@")
    user = password = None
    if at:
        user, colon, secret = credentials.partition(":")
        user = _decode(scheme, user)
        password = _decode(scheme, secret) if colon else None
    host, port = _host_and_port(scheme, place)
    return DSN(
        scheme,
        user,
        password,
        _decode(scheme, host),
        port,
        _decode(scheme, slash + path),
        MappingProxyType(_params(scheme, query)),
    )


def _is_secret(name: str, value: str) -> bool:
    found = _SECRET_NAME.search(name.lower()) or _SECRET_VALUE.search(value)
    return found is not None


def _is_scheme(text: str) -> bool:
    return (
        text[0].isascii()
        and text[0].isalpha()
        and all(c.isascii() and (c.isalnum() or c in "+-._") for c in text)
    )


def _printable(scheme: str, text: str) -> str:
    """Also of decoded text: a NUL or a line break never reaches a path or a header."""
    if _UNPRINTABLE.search(text) is not None:
        raise InvalidDSNError(f"{scheme}: control characters in the DSN")
    return text


def _decode(scheme: str, text: str) -> str:
    if "%" not in text:
        return _printable(scheme, text)
    from urllib.parse import unquote  # 4 ms of import, which most DSNs do not need

    try:
        return _printable(scheme, unquote(text, errors="strict"))
    except UnicodeDecodeError:
        raise InvalidDSNError(f"{scheme}: percent-escapes are not UTF-8") from None


def _host_and_port(scheme: str, place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, bracket, tail = place[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise InvalidDSNError(f"{scheme}: bad IPv6 address")
        number = tail[1:] if tail else None
    else:
        host, colon, digits = place.partition(":")
        number = digits if colon else None
    if number is None:
        return host, None
    is_number = number.isascii() and number.isdigit() and len(number) <= 5
    if not is_number or not 0 < int(number) < 65536:
        raise InvalidDSNError(f"{scheme}: bad port")
    return host, int(number)


def _params(scheme: str, query: str) -> dict[str, str]:
    if not query:
        return {}
    from urllib.parse import parse_qsl

    try:
        pairs = parse_qsl(
            query, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=100
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidDSNError(f"{scheme}: the parameters cannot be read") from None
    params = dict(pairs)
    for name, value in pairs:
        _printable(scheme, name + value)
    if len(params) != len(pairs):
        raise InvalidDSNError(f"{scheme}: a parameter is given twice")
    return params
