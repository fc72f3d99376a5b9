"""What every verb of the GCS driver stands on: opening, closing, loop and process."""

from __future__ import annotations

import asyncio
import os
from typing import Final
from urllib.parse import urlsplit

from trove_async._threads import settle
from trove_async.driver import Features
from trove_async.drivers.gcs.config import MOST_PARTS, GCSConfig, SignBlob
from trove_async.drivers.gcs.credentials import Tokens, account_of, key_of, signer_of, token_of
from trove_async.drivers.gcs.transport import Client, new_session
from trove_async.errors import (
    DriverClosedError,
    InvalidConfigError,
    PreconditionFailedError,
    TroveError,
    UnsupportedError,
    WrongLoopError,
)

__all__ = ["GCSBase", "Opened", "generation_of", "write_conditions"]

_FEATURES: Final = Features(
    listing_has_metadata=True,
    conditional=frozenset({"create", "match"}),
    max_parts=MOST_PARTS,
    max_metadata=8 * 1024,
    native=frozenset({"copy", "delete_many"}),
)


def generation_of(text: str) -> str | None:
    """Of an etag or a version id; None for what names no generation."""
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 63:
        return text
    return None


def write_conditions(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    """Parameters. https://cloud.google.com/storage/docs/request-preconditions"""
    if if_none_match is not None:
        if if_none_match != "*":
            raise UnsupportedError('GCS knows only if_none_match="*" for writes', backend="gcs")
        if if_match is not None:
            raise PreconditionFailedError("an object cannot both be there and not")
        return {"ifGenerationMatch": "0"}
    if if_match is None:
        return {}
    if if_match == "*":
        return {"ifGenerationNotMatch": "0"}
    generation = generation_of(if_match)
    if generation is None:
        raise PreconditionFailedError("no object has such an etag")
    return {"ifGenerationMatch": generation}


class Opened:
    """Everything that exists while the driver is open."""

    __slots__ = ("client", "loop", "pid", "project", "signer")

    def __init__(
        self, client: Client, project: str | None, signer: tuple[str, SignBlob] | None
    ) -> None:
        self.client = client
        self.project = project
        self.signer = signer
        self.loop = asyncio.get_running_loop()
        self.pid = os.getpid()

    def needed_project(self) -> str:
        if self.project is None:
            raise InvalidConfigError(
                "buckets are created and listed in a project: give project=", backend="gcs"
            )
        return self.project


class GCSBase:
    name: Final = "gcs"
    features: Final = _FEATURES

    def __init__(self, config: GCSConfig) -> None:
        self.config = config
        self._opened: Opened | None = None

    def __repr__(self) -> str:
        where = urlsplit(self.config.root).netloc
        return f"<{type(self).__name__} at {where}{'' if self._opened else ', not open'}>"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a driver is not pickled; open it again from its DSN")

    def is_open(self) -> bool:
        return self._opened is not None

    async def open(self) -> None:
        """Reads the credentials. A server that cannot be reached is noticed by the first
        verb."""
        if self.is_open():
            self._now()
            return
        config = self.config
        account = account_of(config)
        session = new_session(config)
        try:
            token = token_of(config, account, session)
            if token is not None:
                account = token.service_data
            key = await key_of(account)
            if token is not None and key is not None:
                token.service_data = {**token.service_data, "private_key": key}
            signer = signer_of(config, account, key)
            project = config.project or _project(account)
            client = Client(session, config.root, Tokens(token), config.read_timeout)
        except BaseException:
            await session.close()
            raise
        if self.is_open():  # somebody else was faster
            await session.close()
            return
        self._opened = Opened(client, project, signer)

    async def close(self) -> None:
        """Drops connections. What is under way says DriverClosedError."""
        opened, self._opened = self._opened, None
        if opened is not None:
            await settle(asyncio.ensure_future(opened.client.session.close()))

    async def ping(self) -> None:
        """UnavailableError and its kin when the server cannot be reached."""
        opened = self._now()
        project = opened.project or "none"
        try:
            await opened.client.json("GET", f"/storage/v1/b?project={project}&maxResults=1")
        except TroveError as exc:
            if exc.http_status not in (403, 400, 404, 501):  # it answers: all that was asked
                raise

    def _now(self) -> Opened:
        opened = self._opened
        if opened is None:
            raise DriverClosedError("the driver is not open", backend="gcs")
        if opened.pid != os.getpid():
            raise WrongLoopError("opened in another process, before a fork", backend="gcs")
        if asyncio.get_running_loop() is not opened.loop:
            raise WrongLoopError("opened in another event loop", backend="gcs")
        return opened


def _project(account: dict[str, object] | None) -> str | None:
    named = (account or {}).get("project_id") or os.environ.get("GOOGLE_CLOUD_PROJECT")
    return str(named) if named else None
