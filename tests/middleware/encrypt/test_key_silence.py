"""S24: along every error path of an encrypted store, no key of any tier is told to anybody."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import logging
import pickle
import pprint
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.middleware.encrypt.leaks import assert_silent, everything_of, listening
from tests.middleware.encrypt.sealing import plain
from tests.middleware.encrypt.vault import A, B, put_raw, raw, vault
from trove_async import Trove, TroveError
from trove_async.middleware.encrypt import (
    Encrypt,
    Keyring,
    key_usage,
    layer,
    rebind,
    rewrap,
    rewrap_bucket,
    suite,
    verify_retired,
)
from trove_async.middleware.encrypt.envelope import METADATA_NAME
from trove_async.middleware.encrypt.message import parse_header

BODY = plain(140_000)


@pytest.fixture
def data_keys(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every data key made, and every message key derived, from now on."""
    made: list[bytes] = []
    real_random, real_derive = layer._random, suite.derive

    def random() -> bytes:
        made.append(real_random()[:32])
        return made[-1] + real_random()[32:]

    def derive(data_key: bytes, message_id: bytes) -> tuple[bytes, bytes]:
        key, commitment = real_derive(data_key, message_id)
        made.append(key)
        return key, commitment

    monkeypatch.setattr(layer, "_random", random)
    monkeypatch.setattr(layer, "derive", derive)
    return made


async def failures(store: Trove, key: str) -> list[BaseException]:
    """What each verb says of one object."""
    found: list[BaseException] = []
    verbs: list[Awaitable[object]] = [
        store.get_bytes(None, key),
        store.get_bytes(None, key, range=slice(70_000, 70_010)),
        store.get_ranges(None, key, [slice(0, 5), slice(-5, None)]),
        store.head(None, key),
        store.copy(None, key, None, "elsewhere"),
        rewrap(store, None, key, to="b"),
        rewrap(store, None, key, to="nothing"),
        rebind(store, None, key, bind="none"),
    ]
    for verb in verbs:
        try:
            await verb
        except TroveError as exc:
            found.append(exc)
    return found


def shown(thing: object) -> str:
    """All that printing, serialising and copying give away."""
    text = f"{thing!r} {thing} {pprint.pformat(thing)}"
    with suppress(TypeError):
        text += pprint.pformat(vars(thing))
    for slot in getattr(type(thing), "__slots__", ()):
        text += repr(getattr(thing, slot, None))
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        text += repr(dataclasses.asdict(thing))
    for way in (pickle.dumps, copy.copy):
        with suppress(TypeError, AttributeError, pickle.PicklingError):
            text += repr(way(thing))
    return text


@pytest.mark.parametrize("kind", ["memory", "local"])
async def test_S24_no_error_log_or_report_tells_a_key(
    tmp_path: Path, kind: str, data_keys: list[bytes]
) -> None:
    loop = asyncio.get_running_loop()
    keyring = Keyring({"a": A, "b": B}, active="a")
    encrypt = Encrypt(keyring, bind="key")
    told: list[str] = []
    seen: set[str] = set()
    with listening() as heard:
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0
        logging.getLogger("asyncio").setLevel(logging.DEBUG)
        try:
            async with vault(kind, tmp_path, encrypt) as store:
                await store.put(None, "good", BODY)
                good = await raw(store, "good")
                record = {**good.metadata, METADATA_NAME: "AAAA"}
                variants: dict[str, tuple[str, bytes, dict[str, str]]] = {
                    "whole": ("good", good.body, good.metadata),
                    "moved": ("moved", good.body, good.metadata),
                    "plain": ("good", b"in the clear", {"trovefmt": "1"}),
                    "cut": ("good", good.body[:100], good.metadata),
                    "record": ("good", good.body, record),
                }
                end = parse_header(good.body).length  # commitment and tag are its last 48 bytes
                for place in (50, 90, 130, end - 40, end - 1, end + 99, 70_000, -1):
                    flipped = bytearray(good.body)
                    flipped[place] ^= 1
                    variants[f"flip {place}"] = "good", bytes(flipped), good.metadata
                rings = [
                    keyring,
                    Keyring({"a": B, "b": A}, active="a"),
                    Keyring({"b": B}, active="b"),
                    _without(A),
                ]
                for ring in rings:
                    store.remove("encrypt")
                    store.use(Encrypt(ring, bind="key"))
                    for key, body, metadata in variants.values():
                        await put_raw(store, key, body, metadata)
                        for error in await failures(store, key):
                            told.append(everything_of(error))
                            seen.add(type(error).__name__)
                        reports: list[Any] = [
                            await rewrap_bucket(store, None),
                            await key_usage(store, None),
                            await verify_retired(store, None, "a"),
                        ]
                        told += map(shown, reports)
                    told += map(shown, (store.registrations()[0].middleware, store, ring))
        finally:
            loop.set_debug(False)
    assert {
        "DowngradeError",
        "EnvelopeError",
        "FrameAuthError",
        "HeaderAuthError",
        "KeyCommitmentError",
        "KeyNotFoundError",
        "KeyUnwrapError",
        "LocationMismatchError",
        "TruncatedError",
    } <= seen
    assert len(data_keys) >= 2
    assert_silent("".join(told), A, B, *data_keys)
    assert_silent(heard.getvalue(), A, B, *data_keys)


def _without(key: bytes) -> Keyring:
    ring = Keyring({"a": key, "b": B}, active="b")
    ring.destroy("a")
    return ring
