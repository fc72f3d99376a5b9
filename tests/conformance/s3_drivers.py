"""Factories of S3 drivers. Fresh storage is another server than that of the call before: three
of each kind take turns, and the cases' buckets have random names."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import cache
from itertools import cycle
from typing import Any, ClassVar, Self

from tests.servers.s3 import KEY, SECRET, Server, running_moto, running_rclone
from trove_async import Driver
from trove_async.drivers.s3 import S3Config, S3Driver

_TURNS = 3
_stack = ExitStack()
atexit.register(_stack.close)


class Tested(S3Driver):
    """With what only cases need: a second client, and a connection string."""

    dsn = ""

    def sibling(self) -> Self:
        other = type(self)(self.config)
        other.dsn = self.dsn
        return other


_MOTO = "moto looks at no signature and no expiry of a presigned request"


class Plain(Tested):
    """moto tells no event when a delete makes a marker, so versions and events are proved
    apart."""

    absent: ClassVar[dict[str, str]] = {
        "K070": "moto's web server drops headers with an underscore",
        "K209": "moto finds an upload by its id alone",
        "K219_presign_put_binds_type_and_size": _MOTO,
        "K220": _MOTO,
        "K222": _MOTO,
    }


_GHOST = "moto lists the prefix of keys whose newest version is a delete marker"


class Versioned(Plain):
    absent: ClassVar[dict[str, str]] = {**Plain.absent, "K028": _GHOST, "K152": _GHOST}
    watch: Any = None


class BySdk(Plain):
    absent: ClassVar[dict[str, str]] = {
        **Plain.absent,
        "K167": "the SDK parses a page of 1,000 keys on the loop, in 115 ms here",
    }


_TORN = "rclone shows a file while it is being overwritten"
_STREAMED = "rclone streams parts: each once, without a gap in their numbers"


class Folders(Tested):
    absent: ClassVar[dict[str, str]] = {
        "K017": "rclone loses sight of a folder's objects when a key of its name is refused",
        "K115": _TORN,
        "K159": _TORN,
        "K162": _TORN,
        "K165": _TORN,
        "K166": _TORN,
        "K181": _TORN,
        "K154": "rclone shows the folder that an unfinished upload will need",
        "K161": "rclone answers 500 when two puts make one folder at a time",
        "K198": _STREAMED,
        "K202": _STREAMED,
        "K204": _STREAMED,
        "K211_mp_part_number_out_of_bounds": _STREAMED,
    }


@cache
def _servers(running: Callable[[], AbstractContextManager[Server]]) -> Iterator[Server]:
    return cycle([_stack.enter_context(running()) for _ in range(_TURNS)])


def _driver(
    kind: type[Tested],
    running: Callable[[], AbstractContextManager[Server]],
    *,
    versioning: bool = False,
    direct: bool = True,
) -> Driver:
    server = next(_servers(running))
    driver = kind(
        S3Config(
            endpoint=server.endpoint,
            region="us-east-1",
            key=KEY,
            secret=SECRET,
            versioning=versioning,
            direct=direct,
        )
    )
    flags = {"versioning": str(versioning).lower(), "direct": str(direct).lower()}
    driver.dsn = server.dsn(**flags)
    return driver


def moto() -> Driver:
    return _driver(Plain, running_moto)


def moto_versioned() -> Driver:
    return _driver(Versioned, running_moto, versioning=True)


def moto_sdk() -> Driver:
    """Every request through aioboto3."""
    return _driver(BySdk, running_moto, direct=False)


def rclone() -> Driver:
    return _driver(Folders, running_rclone)


def rclone_sdk() -> Driver:
    return _driver(Folders, running_rclone, direct=False)
