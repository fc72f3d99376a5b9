"""The store against a plain dict: random histories, and both always say the same."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import trove_async as trove
from tests.strategies import STACKS, bodies, metadata, wanted_of
from tests.strategies import slices as ranges
from trove_async import (
    CommonPrefix,
    Driver,
    InvalidRangeError,
    KeyConflictError,
    ObjectNotFoundError,
    PreconditionFailedError,
    Trove,
    lookup,
    parse_dsn,
)
from trove_async.drivers.memory import MemoryDriver

R = TypeVar("R")

# Few keys, so that histories meet: folders, look-alikes, characters that need care.
KEYS = ["a", "b", "a/b", "a/c", "a/.c", "ä", "ä/é", "x.log", "logs/y.log", "%2e", "A", "a b"]
names = st.sampled_from(KEYS)


@dataclass(frozen=True)
class Held:
    data: bytes
    metadata: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"


class StoreMachine(RuleBasedStateMachine):
    """Every rule does one thing to the store and to `model`, and compares the answers."""

    etags = Bundle("etags")
    steps = 0

    def make_driver(self) -> Driver:
        return MemoryDriver()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model: dict[str, Held] = {}
        self.current: dict[str, str] = {}
        self.flat = True
        self.store = self.run(self.opened())

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(work)

    async def opened(self) -> Trove:
        """Two backends, two layers on part of the keys: the machine must not notice."""
        store = await trove.open(
            self.make_driver(),
            backends={"logs": self.make_driver()},
            routes=[("*.log", "logs")],
            middleware=STACKS["xor"](),
        )
        store.use(STACKS["flip"]()[0], scope=trove.keys("a*"))
        await store.create_bucket("box")
        self.flat = store.driver.features.flat_keys
        return store

    def teardown(self) -> None:
        self.run(self.store.aclose())
        assert not asyncio.all_tasks(self.loop)
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        super().teardown()

    def kept(self, key: str, held: Held, etag: str) -> str:
        self.model[key] = held
        self.current[key] = etag
        return etag

    def conflicts(self, key: str) -> bool:
        """On backends with folders a key cannot be another one's folder."""
        if self.flat:
            return False
        return any(
            other.startswith(key + "/") or key.startswith(other + "/")
            for other in self.model
            if other != key and other.endswith(".log") == key.endswith(".log")
        )

    # -- writes ----------------------------------------------------------------------------

    @rule(target=etags, key=names, data=bodies(), labels=metadata, is_stream=st.booleans())
    def put(self, key: str, data: bytes, labels: dict[str, str], is_stream: bool) -> str:
        body: object = [data[i : i + 700] for i in range(0, len(data), 700)] if is_stream else data
        work = self.store.put("box", key, body, metadata=labels, content_type="x/y")
        if self.conflicts(key):
            with pytest.raises(KeyConflictError):
                self.run(work)
            return ""
        info = self.run(work)
        assert (info.key, info.size, dict(info.metadata)) == (key, len(data), labels)
        return self.kept(key, Held(data, labels, "x/y"), info.etag)

    @rule(target=etags, key=names, data=bodies())
    def put_new(self, key: str, data: bytes) -> str:
        work = self.store.put("box", key, data, if_none_match="*", content_type="x/z")
        if key in self.model:
            with pytest.raises(PreconditionFailedError):
                self.run(work)
            return self.current[key]
        if self.conflicts(key):
            with pytest.raises(KeyConflictError):
                self.run(work)
            return ""
        return self.kept(key, Held(data, {}, "x/z"), self.run(work).etag)

    @rule(target=etags, key=names, data=bodies(), etag=consumes(etags))
    def put_over(self, key: str, data: bytes, etag: str) -> str:
        etag = etag or "never"
        work = self.store.put("box", key, data, if_match=etag, content_type="x/w")
        if self.current.get(key) != etag:
            with pytest.raises((PreconditionFailedError, KeyConflictError)):
                self.run(work)
            return etag
        return self.kept(key, Held(data, {}, "x/w"), self.run(work).etag)

    @rule(key=names)
    def delete(self, key: str) -> None:
        self.run(self.store.delete("box", key))
        self.model.pop(key, None)
        self.current.pop(key, None)

    @rule(key=names, etag=etags)
    def delete_if(self, key: str, etag: str) -> None:
        etag = etag or "never"
        work = self.store.delete("box", key, if_match=etag)
        if self.current.get(key) != etag:
            with pytest.raises(PreconditionFailedError):
                self.run(work)
            return
        self.run(work)
        del self.model[key], self.current[key]

    @rule(keys=st.lists(names, max_size=4))
    def delete_many(self, keys: list[str]) -> None:
        results = self.run(self.store.delete_many("box", keys))
        assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
        for key in keys:
            self.model.pop(key, None)
            self.current.pop(key, None)

    @rule(
        target=etags,
        source=names,
        wanted=names,
        labels=st.none() | metadata,
        verb=st.sampled_from(["copy", "move"]),
        is_new=st.booleans(),
    )
    def transfer(
        self, source: str, wanted: str, labels: dict[str, str] | None, verb: str, is_new: bool
    ) -> str:
        condition = "*" if is_new else None
        work = getattr(self.store, verb)(
            "box", source, "box", wanted, metadata=labels, if_none_match=condition
        )
        if source not in self.model:
            with pytest.raises((ObjectNotFoundError, PreconditionFailedError)):
                self.run(work)
            return ""
        if is_new and wanted in self.model:
            with pytest.raises(PreconditionFailedError):
                self.run(work)
            return ""
        if self.conflicts(wanted):
            with pytest.raises(KeyConflictError):
                self.run(work)
            return ""
        info = self.run(work)
        held = self.model[source]
        if labels is not None:
            held = Held(held.data, labels, held.content_type)
        if verb == "move" and source != wanted:
            del self.model[source], self.current[source]
        assert (info.size, dict(info.metadata)) == (len(held.data), held.metadata)
        return self.kept(wanted, held, info.etag)

    # -- reads -----------------------------------------------------------------------------

    @rule(key=names)
    def get(self, key: str) -> None:
        held = self.model.get(key)
        if held is None:
            with pytest.raises(ObjectNotFoundError):
                self.run(self.store.get_bytes("box", key))
        else:
            assert self.run(self.store.get_bytes("box", key)) == held.data

    @rule(key=names, wanted=ranges())
    def get_range(self, key: str, wanted: slice) -> None:
        held = self.model.get(key)
        expected = None if held is None else wanted_of(held.data, wanted)
        if expected is None:
            with pytest.raises((ObjectNotFoundError, InvalidRangeError)):
                self.run(self.store.get_bytes("box", key, range=wanted))
        else:
            assert self.run(self.store.get_bytes("box", key, range=wanted)) == expected

    @rule(key=names)
    def head(self, key: str) -> None:
        held = self.model.get(key)
        assert self.run(self.store.exists("box", key)) == (held is not None)
        if held is not None:
            info = self.run(self.store.head("box", key))
            assert (info.size, dict(info.metadata), info.content_type, info.etag) == (
                len(held.data),
                held.metadata,
                held.content_type,
                self.current[key],
            )

    @rule(
        prefix=st.sampled_from(["", "a", "a/", "ä", "logs/"]),
        delimiter=st.sampled_from([None, "/"]),
        page_size=st.sampled_from([1, 2, 1000]),
    )
    def list(self, prefix: str, delimiter: str | None, page_size: int) -> None:
        expected = set()
        for key in self.model:
            if key.startswith(prefix):
                cut = key.find("/", len(prefix)) if delimiter else -1
                expected.add(key if cut < 0 else key[: cut + 1])

        async def listed() -> list[str]:
            entries = self.store.list(
                "box", prefix=prefix, delimiter=delimiter, page_size=page_size
            )
            return [e.prefix if isinstance(e, CommonPrefix) else e.key async for e in entries]

        assert self.run(listed()) == sorted(expected)

    @invariant()
    def counted(self) -> None:
        type(self).steps += 1


class LocalMachine(StoreMachine):
    steps = 0

    def make_driver(self) -> Driver:
        shm = Path("/dev/shm")
        base = shm if os.access(shm, os.W_OK) else None
        folder = tempfile.TemporaryDirectory(prefix="trove-model-", dir=base)
        self.folders = [*getattr(self, "folders", []), folder]
        dsn = parse_dsn(f"file://{folder.name}?durability=none")
        return lookup(dsn.scheme)(dsn)

    def teardown(self) -> None:
        super().teardown()
        for folder in self.folders:
            folder.cleanup()


def profile(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.mark.timeout(300)
def test_memory_is_a_dict() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(StoreMachine, settings=profile(500, 50))
    assert StoreMachine.steps >= 20_000
    print(f"{StoreMachine.steps} steps on memory")


@pytest.mark.timeout(300)
def test_local_is_a_dict() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(LocalMachine, settings=profile(200, 40))
    assert LocalMachine.steps >= 5_000
    print(f"{LocalMachine.steps} steps on local")
