"""An SFTP server that can do less than OpenSSH, or breaks: asyncssh speaks SSH, OpenSSH's own
`sftp-server` does the work, and what passes between them is looked at message by message."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, cast

import asyncssh

__all__ = ["BINARY", "Relay", "relaying"]

BINARY: Final = next(
    (
        path
        for path in ("/usr/lib/openssh/sftp-server", "/usr/libexec/sftp-server")
        if os.access(path, os.X_OK)
    ),
    "",
)
_VERSION, _STATUS, _EXTENDED = 2, 101, 200
Message = bytes
"""Kind, number and the rest, without the length before them."""


class Relay:
    """``hidden``: extensions that the server does not offer, and refuses."""

    host = "127.0.0.1"

    def __init__(self, folder: Path, hidden: set[bytes], version: str) -> None:
        self.folder = folder
        self.hidden = hidden
        self.version = version
        self.port = 0
        self.key = folder / "client_key"
        self.known_hosts = folder / "known_hosts"
        self.on_request: Callable[[Message], Message | None] | None = None
        """Sees each request; what it returns goes on instead, None: nothing does."""
        self.on_reply: Callable[[Message, Message], Message | None] | None = None
        """(request, reply), likewise."""
        self.sessions: list[_Session] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.requests = 0
        self.cuts = 0

    def dsn(self, root: Path, **params: str) -> str:
        shown = {
            "key": str(self.key),
            "known_hosts": str(self.known_hosts),
            "agent": "false",
            **params,
        }
        query = "&".join(f"{name}={value}" for name, value in shown.items())
        return f"sftp://tester@{self.host}:{self.port}{root}?{query}"

    def cut(self) -> None:
        """Ends all connections, as a network would."""
        self.cuts += 1
        for session in self.sessions:
            session.abort()
        self.sessions.clear()

    def is_hidden(self, message: Message) -> bool:
        if message[0] != _EXTENDED:
            return False
        size = int.from_bytes(message[5:9])
        return message[9 : 9 + size] in self.hidden

    def edited(self, message: Message) -> Message:
        kept = message[:5]
        at = 5
        while at < len(message):
            start = at
            pair = []
            for _ in range(2):
                size = int.from_bytes(message[at : at + 4])
                pair.append(message[at + 4 : at + 4 + size])
                at += 4 + size
            if pair[0] not in self.hidden:
                kept += message[start:at]
        return kept


class _Session(asyncssh.SSHServerSession[bytes]):
    """One `sftp` subsystem and the process that serves it."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._channel: asyncssh.SSHServerChannel[bytes] | None = None
        self._connection: asyncssh.SSHServerConnection | None = None
        self._came = asyncio.StreamReader()
        self._asked: dict[bytes, Message] = {}
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self._channel = chan
        self._connection = cast("asyncssh.SSHServerConnection", chan.get_connection())

    def subsystem_requested(self, subsystem: str) -> bool:
        return subsystem == "sftp"

    def session_started(self) -> None:
        self._relay.sessions.append(self)
        self._task = asyncio.ensure_future(self._serve())
        self._relay.tasks.add(self._task)
        self._task.add_done_callback(self._relay.tasks.discard)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self._came.feed_data(data)

    def eof_received(self) -> bool:
        self._came.feed_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._came.feed_eof()
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()

    def _send(self, message: Message) -> None:
        assert self._channel is not None
        with suppress(OSError):
            self._channel.write(struct.pack(">I", len(message)) + message)

    async def _serve(self) -> None:
        server = await asyncio.create_subprocess_exec(
            BINARY, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        pumps = [
            asyncio.ensure_future(self._up(server)),
            asyncio.ensure_future(self._down(server)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            with suppress(ProcessLookupError):
                server.kill()
            await asyncio.gather(*pumps, server.wait(), return_exceptions=True)
            if self._channel is not None:
                self._channel.close()

    async def _up(self, server: asyncio.subprocess.Process) -> None:
        relay = self._relay
        assert server.stdin is not None
        while True:
            message: Message | None = await _message(self._came)
            assert message is not None
            relay.requests += 1
            if relay.is_hidden(message):
                self._send(bytes([_STATUS]) + message[1:5] + struct.pack(">III", 8, 0, 0))
                continue
            if relay.on_request is not None:
                message = relay.on_request(message)
            if message is not None:
                self._asked[message[1:5]] = message
                server.stdin.write(struct.pack(">I", len(message)) + message)
                await server.stdin.drain()

    async def _down(self, server: asyncio.subprocess.Process) -> None:
        relay = self._relay
        assert server.stdout is not None
        while True:
            message: Message | None = await _message(server.stdout)
            assert message is not None
            if message[0] == _VERSION:
                message = relay.edited(message)
            elif relay.on_reply is not None:
                message = relay.on_reply(self._asked.pop(message[1:5], b"\0"), message)
            if message is not None:
                self._send(message)


class _Server(asyncssh.SSHServer):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def session_requested(self) -> _Session:
        return _Session(self._relay)


async def _message(reader: asyncio.StreamReader) -> Message:
    size = int.from_bytes(await reader.readexactly(4))
    return await reader.readexactly(size)


@asynccontextmanager
async def relaying(
    folder: Path, *hidden: bytes, version: str = "AsyncSSH_test"
) -> AsyncIterator[Relay]:
    """``version``: how the server names itself."""
    relay = Relay(folder, set(hidden), version)
    host = asyncssh.generate_private_key("ssh-ed25519")
    client = asyncssh.generate_private_key("ssh-ed25519")
    client.write_private_key(relay.key)
    relay.key.chmod(0o600)
    client.write_public_key(folder / "authorized_keys")
    server = await asyncssh.listen(
        relay.host,
        0,
        server_host_keys=[host],
        authorized_client_keys=str(folder / "authorized_keys"),
        server_factory=lambda: _Server(relay),
        encoding=None,
        server_version=version,
        reuse_address=True,
    )
    relay.port = server.get_port()
    public = host.export_public_key().decode().strip()
    relay.known_hosts.write_text(f"[{relay.host}]:{relay.port} {public}\n")
    try:
        yield relay
    finally:
        relay.cut()
        server.close()
        await server.wait_closed()
        while relay.tasks:
            await asyncio.wait(relay.tasks)
