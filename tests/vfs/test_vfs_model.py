"""The same operations on a file system of ours and on a real folder, by a state machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

import trove_async as trove
from tests.vfs.conftest import keyring, target_of
from trove_async.middleware import Compress, Encrypt
from trove_async.vfs import FileSystem

T = TypeVar("T")
NAMES = st.sampled_from(["a", "a-", "b", ".h", "a.txt", "ä"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
BODIES = st.binary(max_size=4) | st.just(b"x" * 2_000)
SAME = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError)


def kind_of(error: OSError | ValueError) -> str:
    """What a caller of either would catch."""
    for kind in SAME:
        if isinstance(error, kind):
            return kind.__name__
    return "other"


class Files(RuleBasedStateMachine):
    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="vfs-model-"))
        self.real = self.root / "real"
        self.real.mkdir()
        self.loop = asyncio.new_event_loop()
        layers: list[trove.Middleware] = []
        if self.kind.endswith("_sealed"):
            layers = [Compress(), Encrypt(keyring())]
        target = target_of(self.kind, self.root / "ours")

        async def start() -> trove.Trove:
            store = await trove.open(target, middleware=layers)
            await store.create_bucket("box")
            return store

        self.store = self.loop.run_until_complete(start())
        self.fs: FileSystem = self.store.vfs("box")

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.aclose())
        self.loop.close()
        shutil.rmtree(self.root)

    def both(self, real: Callable[[], object], ours: Callable[[], Awaitable[object]]) -> None:
        """Both do it, or both fail alike."""
        wanted = got = "done"
        failure = None
        try:
            real()
        except OSError as exc:
            wanted = kind_of(exc)
        try:
            self.loop.run_until_complete(self._run(ours))
        except (OSError, ValueError) as exc:
            got, failure = kind_of(exc), exc
        assert got == wanted, failure

    async def _run(self, ours: Callable[[], Awaitable[T]]) -> T:
        return await ours()

    def at(self, path: str) -> Path:
        return self.real / path

    def parents(self, path: str) -> None:
        """A real folder needs its parents by name; ours keeps what is made by name."""
        above = path.rpartition("/")[0]
        if not above or self.at(above).exists():
            return

        async def make() -> None:
            parts = above.split("/")
            for count in range(1, len(parts) + 1):
                if not await self.fs.exists("/".join(parts[:count])):
                    await self.fs.mkdir("/".join(parts[:count]))

        self.both(lambda: self.at(above).mkdir(parents=True), make)

    @rule(path=PATHS, body=BODIES)
    def write(self, path: str, body: bytes) -> None:
        self.parents(path)
        self.both(lambda: self.at(path).write_bytes(body), lambda: self.fs.write_bytes(path, body))

    @rule(path=PATHS, body=BODIES, mode=st.sampled_from(["wb", "xb", "ab"]))
    def write_open(self, path: str, body: bytes, mode: str) -> None:
        self.parents(path)

        def real() -> None:
            with self.at(path).open(mode) as file:
                file.write(body)

        async def ours() -> None:
            async with self.fs.open(path, mode) as file:
                await file.write(body)  # type: ignore[arg-type]  # of bytes by its mode

        self.both(real, ours)

    @rule(path=PATHS)
    def mkdir(self, path: str) -> None:
        self.parents(path)
        self.both(lambda: self.at(path).mkdir(), lambda: self.fs.mkdir(path))

    @rule(path=PATHS)
    def unlink(self, path: str) -> None:
        def real() -> None:
            if self.at(path).is_dir():
                raise IsADirectoryError  # which Linux says, and POSIX leaves open
            self.at(path).unlink()

        self.both(real, lambda: self.fs.remove(path))

    @rule(path=PATHS)
    def rmdir(self, path: str) -> None:
        self.both(lambda: self.at(path).rmdir(), lambda: self.fs.rmdir(path))

    @rule(path=PATHS)
    def remove_all(self, path: str) -> None:
        def real() -> None:
            if self.at(path).is_dir():
                shutil.rmtree(self.at(path))
            else:
                try:
                    self.at(path).unlink()
                except (FileNotFoundError, NotADirectoryError):
                    return

        self.both(real, lambda: self.fs.remove_all(path))

    @rule(source=PATHS, goal=PATHS)
    def rename(self, source: str, goal: str) -> None:
        self.parents(goal)
        if not self.at(source).exists() and not self.at(goal).parent.is_dir():
            return  # two things are wrong: which is told is open
        if source.startswith(goal + "/"):
            return  # onto a folder, and it is not empty: systems differ in which they tell
        self.both(
            lambda: self.at(source).rename(self.at(goal)), lambda: self.fs.rename(source, goal)
        )

    @rule(path=PATHS)
    def read(self, path: str) -> None:
        self.both(lambda: self.at(path).read_bytes(), lambda: self.fs.read_bytes(path))
        if self.at(path).is_file():
            got = self.loop.run_until_complete(self.fs.read_bytes(path))
            assert got == self.at(path).read_bytes()

    @rule(path=PATHS)
    def list_one(self, path: str) -> None:
        async def ours() -> list[tuple[str, bool]]:
            return [(info.name, info.is_dir) async for info in self.fs.iterdir(path)]

        self.both(lambda: os.listdir(self.at(path)), ours)
        if self.at(path).is_dir():
            wanted = sorted((entry.name, entry.is_dir()) for entry in os.scandir(self.at(path)))
            assert sorted(self.loop.run_until_complete(ours())) == wanted

    @rule(
        pattern=st.lists(
            st.sampled_from(["*", "a*", "?", "**", "a", "[ab]", "*.txt", ".*"]),
            min_size=1,
            max_size=3,
        ).map("/".join)
    )
    def glob(self, pattern: str) -> None:
        if pattern.endswith("**"):
            return  # Python changed what it means in 3.13

        async def ours() -> list[str]:
            return [info.path async for info in self.fs.glob(pattern)]

        wanted = {path.relative_to(self.real).as_posix() for path in self.real.glob(pattern)}
        got = self.loop.run_until_complete(ours())
        assert len(got) == len(set(got))
        assert set(got) == wanted

    @invariant()
    def the_trees_are_alike(self) -> None:
        async def ours() -> list[tuple[str, list[str], list[str]]]:
            return [(path, sorted(d), sorted(f)) async for path, d, f in self.fs.walk()]

        wanted = [
            ("" if path == str(self.real) else os.path.relpath(path, self.real), folders, files)
            for path, folders, files in os.walk(self.real)
        ]
        got = self.loop.run_until_complete(ours())
        assert sorted(got) == sorted((path, sorted(d), sorted(f)) for path, d, f in wanted)


class LocalFiles(Files):
    kind = "local"


class SealedFiles(Files):
    kind = "local_sealed"


@pytest.mark.parametrize("machine", [Files, LocalFiles, SealedFiles])
def test_it_does_what_a_real_folder_does(machine: type[Files]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=8,
            stateful_step_count=20,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],  # to shrink takes longer than a test may
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.parametrize("machine", [Files, LocalFiles, SealedFiles])
def test_it_does_what_a_real_folder_does_for_long(machine: type[Files]) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=300,
            stateful_step_count=40,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],  # to shrink takes longer than a test may
            suppress_health_check=list(HealthCheck),
        ),
    )
