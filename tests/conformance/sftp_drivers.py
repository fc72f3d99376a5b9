"""Factories for ``--trove-driver``: SFTP on a real sshd, each call a fresh root."""

from __future__ import annotations

import pytest

from tests.servers.sshd import missing, shared
from trove_async import Driver, lookup, parse_dsn


def sftp(**params: str) -> Driver:
    if reason := missing():
        pytest.skip(reason)
    server = shared()
    dsn = parse_dsn(server.dsn(server.new_root(), agent="false", **params))
    return lookup(dsn.scheme)(dsn)


def sftp_fast() -> Driver:
    """Without fsync."""
    return sftp(durability="none")
