"""The tables of docs/capabilities.md, made from the code: ``python -m tests.docs.capability_table``
writes the page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
from trove_async.driver.registry import driver_for

__all__ = ["DRIVERS", "PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "capabilities.md"
DRIVERS = {
    "memory": "mem://",
    "local": "file:///srv/trove",
    "s3": "s3://bucket?region=us-east-1",
    "gcs": "gs://bucket",
    "azure": "azblob://container?account=name&key=a2V5",
    "sftp": "sftp://user@host/srv/trove",
}
"""Name of each driver, and a connection string that makes one. None is opened."""

_PROTOCOLS: dict[type, str] = {
    MultipartDriver: "uploads in parts",
    RangeDriver: "many ranges in one call",
    PresignDriver: "presigned requests",
    VersioningDriver: "versions",
    NotificationDriver: "events of its own",
    LifecycleDriver: "lifecycle rules",
    ServerCopyDriver: "copy asked for by name",
    MoveDriver: "move",
    BatchDeleteDriver: "many deletes in one call",
    TaggingDriver: "tags",
}


def _bytes(count: int | None) -> str:
    if count is None:
        return ""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count % size == 0:
            return f"{count // size:,} {unit}"
    return f"{count:,} bytes"


def _yes(answer: bool) -> str:
    return "yes" if answer else ""


_FEATURES: dict[str, Callable[[Features], str]] = {
    "key `a` beside `a/b`": lambda f: _yes(f.flat_keys),
    "listings in key order": lambda f: _yes(f.ordered_listing),
    "listings equal `head`": lambda f: _yes(f.listing_has_metadata),
    "metadata known only at the end": lambda f: _yes(f.late_metadata),
    "create only": lambda f: _yes("create" in f.conditional),
    "replace only what is expected": lambda f: _yes("match" in f.conditional),
    "never missing while replaced": lambda f: _yes(f.atomic_overwrite),
    "names by case": lambda f: _yes(not f.case_insensitive),
    "writes show in listings at once": lambda f: _yes(not f.eventual),
    "copied by the backend": lambda f: _yes("copy" in f.native),
    "least bytes of a part": lambda f: _bytes(f.min_part_size),
    "most bytes of a part": lambda f: _bytes(f.max_part_size),
    "most parts": lambda f: "" if f.max_parts is None else f"{f.max_parts:,}",
    "parts in any order": lambda f: _yes(not f.parts_in_order),
    "most bytes of metadata": lambda f: _bytes(f.max_metadata),
}

_TEXT = """\
# What each backend can do

Made from the code by `python -m tests.docs.capability_table`; a test fails where it is out of
date. The columns are what drivers declare before they are opened. S3, Azure and SFTP look at their
server when they open and declare what was found then: `store.driver.features`. What a backend
cannot do is an `UnsupportedError` before any byte moves, and an empty field of a limit means that
there is none.

## Beyond the common verbs

{capabilities}
## How it behaves

{features}
Events: without its own ones, `watch(..., poll=seconds)` looks at the listing. S3 has them where
a bucket tells an SQS queue. Versions, tags and presigned requests of Azure depend on the account.
"""


def _table(rows: dict[str, list[str]]) -> str:
    head = ["", *DRIVERS]
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page() -> str:
    drivers: list[Driver] = [driver_for(dsn)[0] for dsn in DRIVERS.values()]
    capabilities = {
        name: [_yes(capability(driver, protocol) is not None) for driver in drivers]
        for protocol, name in _PROTOCOLS.items()
    }
    features = {
        name: [tell(driver.features) for driver in drivers] for name, tell in _FEATURES.items()
    }
    return _TEXT.format(capabilities=_table(capabilities), features=_table(features))


def protocols() -> set[type]:
    return {*_PROTOCOLS}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
