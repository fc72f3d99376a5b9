"""Which driver serves which scheme. Modules load on first use of their scheme."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from trove_async.driver.base import Driver
from trove_async.driver.dsn import DSN, parse_dsn
from trove_async.errors import InvalidDSNError

__all__ = ["DriverFactory", "driver_for", "lookup", "register", "schemes"]

DriverFactory = Callable[[DSN], Driver]

_BUILT_IN = {
    "mem": ("trove_async.drivers.memory", "MemoryDriver"),
    "file": ("trove_async.drivers.local", "LocalDriver"),
    "local": ("trove_async.drivers.local", "LocalDriver"),
    "sftp": ("trove_async.drivers.sftp", "SFTPDriver"),
    "s3": ("trove_async.drivers.s3", "S3Driver"),
    "azblob": ("trove_async.drivers.azure", "AzureDriver"),
    "azure": ("trove_async.drivers.azure", "AzureDriver"),
    "gs": ("trove_async.drivers.gcs", "GCSDriver"),
    "gcs": ("trove_async.drivers.gcs", "GCSDriver"),
}
_OVER_FSSPEC = "fsspec+"
"""``fsspec+<protocol>``: anything fsspec speaks to."""
_GROUP = "trove_async.drivers"
_registered: dict[str, DriverFactory] = {}


def register(scheme: str, factory: DriverFactory) -> None:
    """ValueError when the scheme is taken, also by a driver of this package."""
    scheme = scheme.lower()
    if scheme in _registered or scheme in _BUILT_IN:
        raise ValueError(f"scheme {scheme!r} is registered already")
    _registered[scheme] = factory


def lookup(scheme: str) -> DriverFactory:
    """The factory of a scheme: registered, built in, or named by an entry point of group
    ``trove_async.drivers`` (loaded only now). InvalidDSNError when there is none."""
    scheme = scheme.lower()
    if scheme in _registered:
        return _registered[scheme]
    if scheme in _BUILT_IN or scheme.startswith(_OVER_FSSPEC):
        module, name = _BUILT_IN.get(scheme, ("trove_async.drivers.fsspec", "FsspecDriver"))
        factory: DriverFactory = getattr(import_module(module), name).from_dsn
        return factory
    from importlib.metadata import entry_points  # slow to import, and most never need it

    named = {str(point.value): point for point in entry_points(group=_GROUP, name=scheme)}
    if len(named) > 1:
        raise InvalidDSNError(f"two packages claim scheme {scheme!r}: {', '.join(sorted(named))}")
    for point in named.values():
        loaded = point.load()
        factory = getattr(loaded, "from_dsn", loaded)
        return factory
    known = ", ".join([*schemes(), f"{_OVER_FSSPEC}<protocol>"])
    raise InvalidDSNError(f"unknown scheme {scheme!r}; known: {known}")


def schemes() -> list[str]:
    """All that `lookup` would find, sorted, but for ``fsspec+<protocol>``; loads nothing."""
    from importlib.metadata import entry_points

    points = {point.name for point in entry_points(group=_GROUP)}
    return sorted({*_BUILT_IN, *_registered, *points})


def driver_for(text: str) -> tuple[Driver, DSN]:
    """An unopened driver for a connection string."""
    dsn = parse_dsn(text)
    return lookup(dsn.scheme)(dsn), dsn
