"""From a connection string to a file system and the folder in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Final

from trove_async.driver import DSN
from trove_async.drivers.fsspec.sdk import AbstractFileSystem, get_filesystem_class

__all__ = ["PREFIX", "Connect", "is_object_store", "plan"]

PREFIX: Final = "fsspec+"
OWN: Final = ("publish",)
_OBJECT_STORES: Final = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "obs", "oci", "r2"}
)
Connect = Callable[[], AbstractFileSystem]


def is_object_store(fs: AbstractFileSystem) -> bool:
    """Whose put is seen whole or not at all, and whose rename is a copy and a delete."""
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol
    return not _OBJECT_STORES.isdisjoint(protocols)


def plan(dsn: DSN) -> tuple[Connect, str]:
    """(makes the file system; the path of the root in it). InvalidDSNError."""
    protocol = dsn.scheme.removeprefix(PREFIX)
    try:
        kind = get_filesystem_class(protocol)
    except (ValueError, ImportError) as exc:
        dsn.reject(f"fsspec has no {protocol!r} here ({type(exc).__name__}: {exc})")
    known = _parameters(kind)
    host = f"[{dsn.host}]" if ":" in dsn.host else dsn.host
    port = f":{dsn.port}" if dsn.port is not None else ""
    url = f"{protocol}://{host}{port}{dsn.path}"
    options: dict[str, object] = dict(kind._get_kwargs_from_urls(url))
    options.pop("path", None)
    for value, names in (
        (dsn.user, ("username", "user", "key")),
        (dsn.password, ("password", "secret")),
    ):
        if value is None:
            continue
        name = next((name for name in names if name in known), None)
        if name is None:
            dsn.reject(f"{protocol} takes no user or password in its address")
        options[name] = value
    given = {name: value for name, value in dsn.params.items() if name not in OWN}
    unknown = sorted(set(given) - known)
    if unknown:
        dsn.reject(f"unknown parameter {', '.join(unknown)} (known: {', '.join(sorted(known))})")
    options |= {name: _value(text) for name, text in given.items()}
    if "kwargs" in known:  # handed on to the base class
        options |= {"use_listings_cache": False, "skip_instance_cache": True}

    @cache  # a driver that is opened again finds what it had
    def connect() -> AbstractFileSystem:
        return kind(**options)

    return connect, str(kind._strip_protocol(url))


def _parameters(kind: type[AbstractFileSystem]) -> set[str]:
    """Of every constructor it goes through; a bare ``**kwargs`` counts as "kwargs"."""
    found: set[str] = set()
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            found |= set(inspect.signature(vars(base)["__init__"]).parameters)
    return found - {"self", "args", "storage_options"}


def _value(text: str) -> object:
    """``true``, ``false`` and whole numbers are meant as such."""
    lower = text.lower()
    if lower in ("true", "false"):
        return lower == "true"
    return int(text) if text.isascii() and text.isdigit() else text
