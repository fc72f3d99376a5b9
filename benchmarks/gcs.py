"""GCS: our CPU per request against the bare SDK (gcloud-aio-storage) on the tests' fake server.

python benchmarks/gcs.py [--quick]

The fake is a process of its own in Python, so rates are its rates: only the client's CPU column
says something. Ours makes and checks BLAKE3 and CRC32C, keeps metadata, compares what came; the
SDK's calls do none of that. ``driver`` is our driver without the store above it.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).parent.parent))

import aiohttp
from _harness import MiB, Report, Side, arguments, compete, in_tasks
from gcloud.aio.storage import Storage

import trove_async as trove
from tests.servers.gcs import Server, running_fake
from trove_async._chunks import OneChunk, collect
from trove_async.driver import GetOptions, HeadOptions, ListOptions, PutOptions
from trove_async.drivers.gcs import GCSDriver

KEYS = 200
TARGET = 1.15
BOUND = {
    "put": "aiohttp's request (most of it); our record, BLAKE3 and the multipart body",
    "get": "aiohttp's request; the SDK reads JSON media, ours the XML API with all headers",
    "head": "aiohttp's request and the JSON of the answer",
    "list": "JSON of 200 entries; ours asks for the fields that it shows only",
    "put large": "CRC32C, BLAKE3 and copies into the socket; the SDK holds it all in memory",
    "get large": "copies out of the socket, CRC32C and BLAKE3",
}
DATA = bytes(range(256)) * 4


class Client(Protocol):
    name: str
    kind: str

    async def put(self, key: str, data: bytes) -> object: ...
    async def get(self, key: str) -> bytes: ...
    async def head(self, key: str) -> object: ...
    async def list(self, key: str) -> object: ...


class Ours:
    name, kind = "trove_async", "ours"

    def __init__(self, store: trove.Trove, bucket: str) -> None:
        self.store = store.bucket(bucket)

    async def put(self, key: str, data: bytes) -> object:
        return await self.store.put(key, data)

    async def get(self, key: str) -> bytes:
        return await self.store.get_bytes(key)

    async def head(self, key: str) -> object:
        return await self.store.head(key)

    async def list(self, key: str) -> object:
        return await self.store.list_page(prefix="k")


class Below:
    name, kind = "driver", "note"

    def __init__(self, driver: GCSDriver, bucket: str) -> None:
        self.driver = driver
        self.bucket = bucket

    async def put(self, key: str, data: bytes) -> object:
        options = PutOptions(size=len(data))
        return await self.driver.put(self.bucket, key, OneChunk(data), options)

    async def get(self, key: str) -> bytes:
        raw = await self.driver.get(self.bucket, key, GetOptions())
        try:
            return await collect(raw.body)
        finally:
            await raw.body.aclose()

    async def head(self, key: str) -> object:
        return await self.driver.head(self.bucket, key, HeadOptions())

    async def list(self, key: str) -> object:
        return await self.driver.list(self.bucket, ListOptions(prefix="k"))


class Sdk:
    """``has_metadata``: with one metadata name, as ours stores more than that. Then the SDK
    sends metadata and body in one request, as we do."""

    kind = "peer"

    def __init__(self, storage: Storage, bucket: str) -> None:
        self.name = "gcloud-aio-storage"
        self.storage = storage
        self.bucket = bucket

    async def put(self, key: str, data: bytes) -> object:
        kind = "application/octet-stream"
        metadata = {"metadata": {"trovefmt": "1"}} if len(data) <= MiB else None
        return await self.storage.upload(
            self.bucket, key, data, content_type=kind, metadata=metadata, timeout=60
        )

    async def get(self, key: str) -> bytes:
        return await self.storage.download(self.bucket, key, timeout=60)

    async def head(self, key: str) -> object:
        return await self.storage.download_metadata(self.bucket, key)

    async def list(self, key: str) -> object:
        return await self.storage.list_objects(self.bucket, params={"prefix": "k"})


@asynccontextmanager
async def contestants(server: Server) -> AsyncIterator[list[Client]]:
    names = [f"bench-{name}-{secrets.token_hex(4)}" for name in ("ours", "driver", "sdk")]
    session: Any = aiohttp.ClientSession()
    async with session, trove.open(server.dsn()) as store:
        for name in names:
            await store.create_bucket(name)
        storage = Storage(
            service_file=str(server.credentials),
            session=session,
            api_root=server.endpoint,
            api_is_dev=False,
        )
        driver = store.driver
        assert isinstance(driver, GCSDriver)
        yield [Ours(store, names[0]), Below(driver, names[1]), Sdk(storage, names[2])]


def small(client: Client, verb: str) -> Callable[[int], Awaitable[object]]:
    async def step(number: int) -> None:
        key = f"k{number % KEYS:04}"
        if verb == "put":
            await client.put(key, DATA)
        elif verb == "get":
            assert await client.get(key) == DATA
        else:
            await getattr(client, verb)(key)

    return lambda count: in_tasks(16, count, step)


def judged(report: Report, question: str, sides: list[Side], verb: str) -> None:
    """The driver is what stands in the SDK's place; the store above it verifies, retries and
    times. By the least of the rounds: a busy neighbour only adds."""
    least = {side.kind: min(side.cpu) for side in sides}
    median = {side.kind: statistics.median(side.cpu) for side in sides}
    for kind, who in (("note", "driver"), ("ours", "store")):
        if kind not in least:
            continue
        ratio, middle = least[kind] / least["peer"], median[kind] / median["peer"]
        reached = f"{ratio:.2f} of the SDK's CPU (medians {middle:.2f})"
        report.judge(
            f"{question}, {who}", reached, f"at most {TARGET:g}", ratio <= TARGET, BOUND[verb]
        )


async def main_async(quick: bool) -> bool:
    rounds = 3 if quick else 7
    report = Report("GCS (the tests' fake server)")
    with running_fake() as server:
        async with contestants(server) as clients:
            for verb, count in (("put", 600), ("get", 600), ("head", 600)):
                sides = [Side(c.name, small(c, verb), c.kind) for c in clients]
                await compete(sides, count // 3 if quick else count, rounds, warm=KEYS)
                question = f"1 KiB {verb}, 16 tasks"
                report.table(question, sides)
                judged(report, question, sides, verb)
            sides = [Side(c.name, small(c, "list"), c.kind) for c in clients]
            await compete(sides, 20, rounds, warm=2)
            report.table(f"list {KEYS} entries", sides)
            judged(report, f"list {KEYS} entries", sides, "list")
            size = (16 if quick else 128) * MiB
            body = secrets.token_bytes(MiB) * (size // MiB)
            for verb in ("put", "get"):
                sides = [large(c, verb, body) for c in clients]
                await compete(sides, 1, rounds, warm=1)
                question = f"{size // MiB} MiB {verb}"
                report.table(question, sides, size)
                judged(report, question, sides, f"{verb} large")
    met = report.finish()
    if not quick:
        report.save()
    return met


def large(client: Client, verb: str, body: bytes) -> Side:
    async def run(count: int) -> None:
        for _ in range(count):
            if verb == "put":
                await client.put("large", body)
            else:
                assert len(await client.get("large")) == len(body)

    return Side(client.name, run, client.kind)


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    raise SystemExit(0 if asyncio.run(main_async(options.quick)) else 1)


if __name__ == "__main__":
    main()
