"""Factories of GCS drivers on fake servers. Fresh storage is another project on another server
than that of the call before: names of buckets are everybody's."""

from __future__ import annotations

import atexit
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from itertools import cycle
from typing import Any, ClassVar, Self

from tests.servers.gcs import Server, running_fake
from trove_async import Driver
from trove_async.drivers.gcs import GCSConfig, GCSDriver

_TURNS = 3
_stack = ExitStack()
atexit.register(_stack.close)


class Tested(GCSDriver):
    """With what only cases need: a second client, and a connection string."""

    dsn = ""

    def sibling(self) -> Self:
        other = type(self)(self.config)
        other.dsn = self.dsn
        return other


class Versioned(Tested):
    absent: ClassVar[dict[str, str]] = {
        "K227": "GCS makes no other version live when the live one is deleted for good",
    }


@cache
def _servers() -> Iterator[Server]:
    return cycle([_stack.enter_context(running_fake()) for _ in range(_TURNS)])


def _driver(kind: type[Tested] = Tested, **settings: Any) -> Driver:
    place = next(_servers())
    project = f"project-{secrets.token_hex(4)}"
    driver = kind(
        GCSConfig(
            endpoint=place.endpoint,
            credentials=str(place.credentials),
            project=project,
            **settings,
        )
    )
    flags = {name: str(value).lower() for name, value in settings.items()}
    driver.dsn = place.dsn(project=project, **flags)
    return driver


def gcs() -> Driver:
    return _driver()


def gcs_versioned() -> Driver:
    return _driver(Versioned, versioning=True)


def gcs_json() -> Driver:
    """Without the XML API."""
    return _driver(xml_reads=False)
