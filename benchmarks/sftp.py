"""SFTP against plain asyncssh and sshfs on a real sshd over tmpfs: 1 KiB with 1 and 64 tasks,
256 MiB between files.

python benchmarks/sftp.py [--quick]

Neither peer publishes by a rename or keeps metadata; nobody fsyncs. Needs sshd (`bash
.ci/servers`) and ``pip install asyncssh sshfs``.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent.parent))

import asyncssh
from _harness import MiB, Report, Side, arguments, compete, in_tasks
from sshfs import SSHFileSystem

import trove_async as trove
from tests.servers.sshd import Sshd, missing, running

KEYS = 500
TARGETS = {"put small": 3.0, "get small": 1.0, "put large": 1.2, "get large": 1.2}
BOUND = {
    "put small": "8 requests a put (look, open, claim, write, stamp, close, rename, old record), "
    "each about 7 µs of asyncssh and kernel and 6 µs of ours; a quarter is the store above",
    "get small": "6 requests a get (look, open, record, state, read, close) in three exchanges",
    "put large": "OpenSSH takes 32 KiB packets: asyncssh frames and enciphers 8,192 of them; then "
    "sshd's own deciphering on the other core",
    "get large": "sshd's enciphering and sftp-server's reads; ours asks for packets of 220 KiB",
}


class Remote(Protocol):
    name: str
    kind: str

    async def put(self, key: str, data: bytes) -> object: ...
    async def get(self, key: str) -> bytes: ...
    async def upload(self, key: str, path: Path) -> object: ...
    async def download(self, key: str, path: Path) -> object: ...


class Ours:
    name, kind = "trove_async", "ours"

    def __init__(self, store: trove.Trove) -> None:
        self.store = store

    async def put(self, key: str, data: bytes) -> object:
        return await self.store.put("bench", key, data)

    async def get(self, key: str) -> bytes:
        return await self.store.get_bytes("bench", key)

    async def upload(self, key: str, path: Path) -> object:
        return await self.store.put("bench", key, path)

    async def download(self, key: str, path: Path) -> None:
        async with self.store.get("bench", key) as reader:
            with open(path, "wb", buffering=0) as file:  # noqa: ASYNC230 -- tmpfs, and as asyncssh does
                async for chunk in reader:
                    file.write(chunk)


class Plain:
    name, kind = "asyncssh", "peer"

    def __init__(self, client: asyncssh.SFTPClient, root: str) -> None:
        self.client = client
        self.root = root

    async def put(self, key: str, data: bytes) -> None:
        async with self.client.open(f"{self.root}/{key}", "wb") as file:
            await file.write(data)

    async def get(self, key: str) -> bytes:
        async with self.client.open(f"{self.root}/{key}", "rb") as file:
            data: bytes = await file.read()
            return data

    async def upload(self, key: str, path: Path) -> None:
        await self.client.put(str(path), f"{self.root}/{key}")

    async def download(self, key: str, path: Path) -> None:
        await self.client.get(f"{self.root}/{key}", str(path))


class Sshfs:
    """In fsspec's own loop and thread, as it works; its coroutines are called directly."""

    name, kind = "sshfs", "peer"

    def __init__(self, fs: SSHFileSystem, root: str) -> None:
        self.fs = fs
        self.root = root

    async def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.fs.loop))

    async def put(self, key: str, data: bytes) -> None:
        await self._run(self.fs._pipe_file(f"{self.root}/{key}", data))

    async def get(self, key: str) -> bytes:
        data: bytes = await self._run(self.fs._cat_file(f"{self.root}/{key}"))
        return data

    async def upload(self, key: str, path: Path) -> None:
        await self._run(self.fs._put_file(str(path), f"{self.root}/{key}"))

    async def download(self, key: str, path: Path) -> None:
        await self._run(self.fs._get_file(f"{self.root}/{key}", str(path)))


@asynccontextmanager
async def contestants(server: Sshd) -> AsyncIterator[list[Remote]]:
    roots = [server.folder / name for name in ("plain", "sshfs")]
    access = {
        "username": server.user,
        "client_keys": [str(server.key)],
        "known_hosts": str(server.known_hosts),
    }
    dsn = server.dsn(server.folder / "ours", agent="false", durability="none")
    async with (
        trove.open(dsn) as store,
        asyncssh.connect(server.host, server.port, config=None, **access) as connection,
        connection.start_sftp_client() as client,
    ):
        await store.create_bucket("bench")
        for root in roots:
            await client.makedirs(str(root))
        fs = await asyncio.to_thread(
            SSHFileSystem, server.host, port=server.port, skip_instance_cache=True, **access
        )
        yield [Ours(store), Plain(client, str(roots[0])), Sshfs(fs, str(roots[1]))]
        with contextlib.suppress(Exception):
            stack = fs._stack.aclose()
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(stack, fs.loop))


def small(remote: Remote, verb: str, tasks: int) -> Callable[[int], Awaitable[object]]:
    data = bytes(range(256)) * 4

    async def step(number: int) -> None:
        key = f"k{number % KEYS:04}"
        if verb == "put":
            await remote.put(key, data)
        else:
            found = await remote.get(key)
            assert found == data, f"{remote.name} gave other bytes"

    return lambda count: in_tasks(tasks, count, step)


async def main_async(quick: bool) -> bool:
    rounds = 2 if quick else 5
    report = Report("SFTP (OpenSSH sshd on tmpfs)")
    with running() as server:
        async with contestants(server) as remotes:
            for tasks, count in ((1, 200), (64, 1500)):
                for verb in ("put", "get"):
                    sides = [Side(r.name, small(r, verb, tasks), r.kind) for r in remotes]
                    await compete(sides, count // 4 if quick else count, rounds, warm=KEYS)
                    question = f"1 KiB {verb}, {tasks} task{'s' if tasks > 1 else ''}"
                    report.table(question, sides)
                    if tasks > 1:
                        kind = f"{verb} small"
                        report.versus(question, sides, TARGETS[kind], BOUND[kind])
            size = (32 if quick else 256) * MiB
            origin, copy = server.folder / "origin", server.folder / "copy"
            with open(origin, "wb") as file:  # noqa: ASYNC230 -- before anything runs
                block = bytes(range(256)) * 4096
                for _ in range(size // len(block)):
                    file.write(block)
            for verb in ("put", "get"):
                sides = [large(r, verb, origin, copy) for r in remotes]
                await compete(sides, 1, rounds)
                question = f"{size // MiB} MiB {verb}"
                report.table(question, sides, size)
                report.versus(question, sides, TARGETS[f"{verb} large"], BOUND[f"{verb} large"])
                assert copy.exists() is (verb == "get")
    met = report.finish()
    if not quick:
        report.save()
    return met


def large(remote: Remote, verb: str, origin: Path, copy: Path) -> Side:
    async def run(count: int) -> None:
        for _ in range(count):
            if verb == "put":
                await remote.upload("large", origin)
            else:
                await remote.download("large", copy)
                assert copy.stat().st_size == origin.stat().st_size

    return Side(remote.name, run, remote.kind)


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    if reason := missing():
        raise SystemExit(reason)
    raise SystemExit(0 if asyncio.run(main_async(options.quick)) else 1)


if __name__ == "__main__":
    main()
