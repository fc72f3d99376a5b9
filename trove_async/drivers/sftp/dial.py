"""How a connection comes about: credentials, host key, ciphers, and the limits in time."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any, Final

from trove_async._threads import io_pool, settle
from trove_async.drivers.sftp.channel import Channel
from trove_async.drivers.sftp.config import SFTPConfig
from trove_async.drivers.sftp.faults import connecting
from trove_async.drivers.sftp.link import Link
from trove_async.drivers.sftp.sdk import asyncssh
from trove_async.errors import BackendError, InvalidConfigError, TroveError

__all__ = ["Credentials", "connect", "load_credentials"]

_CIPHERS: Final = (
    # With hardware for AES the first takes half of the time of ChaCha20 (measured).
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)
_PACKET: Final = 220 * 1024
"""Bytes of one SSH packet to us: each costs the same, however long. OpenSSH's limit is 256 KiB."""
_WINDOW: Final = 16 * 1024 * 1024

Credentials = dict[str, Any]
"""Arguments of asyncssh.connect. Never shown."""


async def load_credentials(config: SFTPConfig) -> Credentials:
    """Reads the key in a worker: deriving its passphrase takes a while. InvalidConfigError."""
    loop = asyncio.get_running_loop()
    return await settle(loop.run_in_executor(io_pool(), _load, config))


def _load(config: SFTPConfig) -> Credentials:
    found: Credentials = {"agent_path": None, "agent_forwarding": False}
    if isinstance(config.agent, str):
        found["agent_path"] = config.agent
    elif config.agent:
        found["agent_path"] = os.environ.get("SSH_AUTH_SOCK") or None
    if config.user is not None:
        found["username"] = config.user
    if config.password is not None:
        found["password"] = config.password
    if config.key is not None:
        found["client_keys"] = [_read_key(config)]
    elif config.password is not None:
        found["client_keys"] = None
        found["agent_path"] = config.agent if isinstance(config.agent, str) else None
    if config.known_hosts is not None:
        path = os.fspath(config.known_hosts)
        if not os.access(path, os.R_OK):
            raise InvalidConfigError(f"the file of known hosts, {path}, cannot be read")
        found["known_hosts"] = path
    return found


def _read_key(config: SFTPConfig) -> asyncssh.SSHKey:
    assert config.key is not None
    path = os.fspath(config.key)
    passphrase = None
    if config.key_passphrase_env is not None:
        passphrase = os.environ.get(config.key_passphrase_env)
        if passphrase is None:
            raise InvalidConfigError(
                f"key_passphrase_env: the variable {config.key_passphrase_env} is not set"
            )
    try:
        return asyncssh.read_private_key(path, passphrase)
    except OSError as exc:
        raise InvalidConfigError(f"the key {path} cannot be read") from exc
    except (asyncssh.KeyEncryptionError, asyncssh.KeyImportError, ValueError) as exc:
        kind = "passphrase" if isinstance(exc, asyncssh.KeyEncryptionError) else "content"
        raise InvalidConfigError(f"the key {path} cannot be used: its {kind} is wrong") from None


async def connect(config: SFTPConfig, credentials: Credentials) -> Link:
    """An open link. A cancel leaves nothing of it behind."""
    task = asyncio.ensure_future(_connect(config, credentials))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        with suppress(asyncio.CancelledError, TroveError):
            link = await settle(task)
            link.abort()
        if task.done() and not task.cancelled() and task.exception() is None:
            task.result().abort()
        raise


async def _connect(config: SFTPConfig, credentials: Credentials) -> Link:
    connection: asyncssh.SSHClientConnection | None = None
    done = False
    try:
        async with asyncio.timeout(config.connect_timeout):
            connection = await asyncssh.connect(
                config.host,
                config.port,
                config=None,  # the settings are ours, whatever ~/.ssh/config says
                encryption_algs=_CIPHERS,
                compression_algs=["none"],
                keepalive_interval=max(1, round(config.read_timeout / 4)),
                keepalive_count_max=3,
                **credentials,
            )
            channel = Channel(config.read_timeout)
            await connection.create_session(
                lambda: channel,
                subsystem="sftp",
                encoding=None,
                window=_WINDOW,
                max_pktsize=_PACKET,
            )
            version, extensions = await channel.hello()
            if version < 3:
                raise BackendError(f"{config.host} speaks version {version} of SFTP, not 3")
            link = Link(connection, channel, extensions)
            if hasattr(socket, "TCP_CORK"):
                channel.cork = connection.get_extra_info("socket")
            await link.measure()
            done = True
            return link
    except Exception as exc:
        typed = connecting(exc, config.host)
        if typed is None:
            raise
        typed.at(backend="sftp", operation="connect")
        if typed is exc:
            raise
        raise typed from exc
    finally:
        if not done and connection is not None:
            connection.abort()
