"""Keyrings to test with."""

from __future__ import annotations

import base64

from trove_async.middleware import Context
from trove_async.middleware.encrypt.keyring import Keyring, ScryptCost

A = bytes(range(100, 132))
B = bytes(range(180, 212))
C = bytes.fromhex("c0ffee") + bytes(range(29))
HERE = Context("get", "bucket", "key")
CHEAP = ScryptCost(n=2)
TEXT = base64.b64encode(A).decode()


def same(one: Keyring, other: Keyring) -> bool:
    return one.to_bytes() == other.to_bytes()


def full() -> Keyring:
    keyring = Keyring({"alt": A, "kek-b": B, "weg": C, "schlüssel": C}, active="kek-b")
    keyring.retire("alt")
    keyring.destroy("weg")
    return keyring
