"""Layers by name that every case can be run through."""

from __future__ import annotations

from typing import Final

from trove_async import Middleware
from trove_async.testing.harness import BARE, Stack

__all__ = ["STACKS"]

_KEYS = {"test": bytes(range(32))}  # the same for every store and process of a run: no secret


def _compress() -> list[Middleware]:
    from trove_async.middleware import Compress

    return [Compress(min_size=0, skip_extensions=(), skip_content_types=())]


def _encrypt() -> list[Middleware]:
    from trove_async.middleware import Encrypt, Keyring

    return [Encrypt(Keyring(_KEYS, active="test"))]


def _bound() -> list[Middleware]:
    from trove_async.middleware import Encrypt, Keyring

    return [Encrypt(Keyring(_KEYS, active="test"), bind="key", frame_size=4096)]


def _dedup() -> list[Middleware]:
    from trove_async.middleware import Dedup
    from trove_async.testing.contents import CaseContents

    return [Dedup(CaseContents())]


STACKS: Final[dict[str, Stack]] = {
    BARE.name: BARE,
    "compress": Stack("compress", _compress),
    "encrypt": Stack("encrypt", _encrypt),
    "compress+encrypt": Stack("compress+encrypt", lambda: [*_encrypt(), *_compress()]),
    "compress+bound": Stack("compress+bound", lambda: [*_bound(), *_compress()]),
    "dedup": Stack("dedup", _dedup, keeps_bodies=False),
    "dedup+encrypt": Stack("dedup+encrypt", lambda: [*_dedup(), *_encrypt()], keeps_bodies=False),
}
"""Name for ``--trove-stack`` -> how to make the layers, afresh for every store."""
