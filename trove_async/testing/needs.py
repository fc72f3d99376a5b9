"""What a case may need, checked against what a driver declares."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from trove_async.driver import (
    BatchDeleteDriver,
    Driver,
    Features,
    LifecycleDriver,
    MoveDriver,
    MultipartDriver,
    NotificationDriver,
    PresignDriver,
    RangeDriver,
    ServerCopyDriver,
    TaggingDriver,
    VersioningDriver,
    capability,
)

__all__ = ["CAPABILITIES", "unmet"]

CAPABILITIES: Final[MappingProxyType[str, type]] = MappingProxyType(
    {
        "multipart": MultipartDriver,
        "ranges": RangeDriver,
        "presign": PresignDriver,
        "versioning": VersioningDriver,
        "watch": NotificationDriver,
        "lifecycle": LifecycleDriver,
        "server_copy": ServerCopyDriver,
        "move": MoveDriver,
        "batch_delete": BatchDeleteDriver,
        "tagging": TaggingDriver,
    }
)
"""Name in ``needs`` -> protocol."""

_FEATURES: Final[dict[str, tuple[Callable[[Features], bool], str]]] = {
    "flat_keys": (lambda f: f.flat_keys, "declares flat_keys=False"),
    "ordered_listing": (lambda f: f.ordered_listing, "declares ordered_listing=False"),
    "listing_has_metadata": (
        lambda f: f.listing_has_metadata,
        "declares listing_has_metadata=False",
    ),
    "late_metadata": (lambda f: f.late_metadata, "declares late_metadata=False"),
    "case_sensitive": (lambda f: not f.case_insensitive, "declares case_insensitive=True"),
    "consistent": (lambda f: not f.eventual, "declares eventual=True"),
    "not_ready": (lambda f: not f.ready, "declares ready=True"),
    "max_metadata": (lambda f: f.max_metadata is not None, "declares no max_metadata"),
    "conditional:create": (
        lambda f: "create" in f.conditional,
        'does not declare conditional "create"',
    ),
    "conditional:match": (
        lambda f: "match" in f.conditional,
        'does not declare conditional "match"',
    ),
}


def unmet(need: str, driver: Driver) -> str | None:
    """Why ``driver`` (opened) does not meet ``need``, or None when it does.

    Beside the names above, attributes a driver may have: ``sibling`` (a method that gives a
    second client of the same storage), ``dsn`` (a connection string that a child process can
    open); ``on_storage``, which an attribute ``in_memory = True`` denies; and
    ``keeps_versions``, which an attribute of that name denies when it is False."""
    protocol = CAPABILITIES.get(need)
    if protocol is not None:
        found = capability(driver, protocol) is not None
        return None if found else f"driver does not declare {protocol.__name__}"
    if need == "on_storage":
        held = getattr(driver, "in_memory", False)
        return "driver keeps objects in this process's memory" if held else None
    if need == "keeps_versions":
        keeps = getattr(driver, "keeps_versions", True)
        return None if keeps else "fresh buckets of this driver keep no versions"
    if need in ("sibling", "dsn"):
        found = getattr(driver, need, None) is not None
        return None if found else f"driver has no {need}"
    holds, reason = _FEATURES[need]
    return None if holds(driver.features) else f"driver {reason}"
