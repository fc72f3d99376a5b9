"""CPU time of one request: the driver, and a store on it, beside the bare SDK, on azurite.

python benchmarks/azure.py [--quick]

Requests of 1 KiB, one at a time. Azurite is a process of its own, so rates are its rates: only
the client's CPU says something. Ours makes and checks BLAKE3 and the MD5 of what it sends; the
SDK does not. ``driver`` is our driver without the store above it.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
from _harness import Report, Side, arguments, compete, in_tasks

sys.path.remove(str(Path(__file__).parent))  # this file must not stand for the SDK's package

from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from tests.servers.azurite import ACCOUNT, KEY, running_azurite
from trove_async import Trove
from trove_async._chunks import OneChunk
from trove_async.driver import DeleteOptions, GetOptions, HeadOptions, ListOptions, PutOptions
from trove_async.drivers.azure import AzureConfig, AzureDriver

BODY = b"x" * 1024
METADATA = {"trovefmt": "1", "trovelen": "1024"}
TARGET = 1.15
BOUND = "aiohttp's request; the SDK's own policies, of which ours needs few"
Work = Callable[[], Awaitable[object]]


def side(name: str, work: Work, kind: str) -> Side:
    async def step(number: int) -> None:
        await work()

    return Side(name, lambda count: in_tasks(1, count, step), kind)


async def compare(report: Report, endpoint: str, count: int, rounds: int) -> None:
    bucket = f"bench-{secrets.token_hex(4)}"
    driver = AzureDriver(AzureConfig(account=ACCOUNT, key=KEY, endpoint=endpoint))
    credential = {"account_name": ACCOUNT, "account_key": KEY}
    async with (
        BlobServiceClient(endpoint, credential=credential, retry_total=0) as sdk,
        Trove(driver) as store,
    ):
        await store.create_bucket(bucket)
        container = sdk.get_container_client(bucket)
        settings = ContentSettings(content_type="application/octet-stream")

        async def sdk_put() -> None:
            blob = container.get_blob_client("k")
            await blob.upload_blob(
                BODY, overwrite=True, metadata=METADATA, content_settings=settings
            )

        async def sdk_get() -> None:
            assert await (await container.get_blob_client("k").download_blob()).readall() == BODY

        async def sdk_list() -> None:
            assert len([b async for b in container.list_blobs(include=["metadata"])]) == 101

        async def put() -> None:
            options = PutOptions(metadata=METADATA, size=len(BODY))
            await driver.put(bucket, "k", OneChunk(BODY), options)

        async def get() -> None:
            raw = await driver.get(bucket, "k", GetOptions())
            assert b"".join([chunk async for chunk in raw.body]) == BODY
            await raw.body.aclose()

        async def listed() -> None:
            assert len((await driver.list(bucket, ListOptions())).objects) == 101

        async def store_listed() -> None:
            assert len([info async for info in store.list(bucket)]) == 101

        for number in range(100):
            await store.put(bucket, f"n{number:03}", b"")
        ways: dict[str, dict[str, Work]] = {
            "put": {
                "sdk": sdk_put,
                "driver": put,
                "store": lambda: store.put(bucket, "k", BODY),
            },
            "get": {
                "sdk": sdk_get,
                "driver": get,
                "store": lambda: store.get_bytes(bucket, "k"),
            },
            "head": {
                "sdk": lambda: container.get_blob_client("k").get_blob_properties(),
                "driver": lambda: driver.head(bucket, "k", HeadOptions()),
                "store": lambda: store.head(bucket, "k"),
            },
            "list 101": {"sdk": sdk_list, "driver": listed, "store": store_listed},
        }
        for verb, makers in ways.items():
            sides = [
                side("trove", makers["store"], "ours"),
                side("driver", makers["driver"], "note"),
                side("azure-storage-blob", makers["sdk"], "peer"),
            ]
            await compete(sides, max(1, count // (10 if verb == "list 101" else 1)), rounds)
            report.table(verb, sides)
            for who, taken in (("driver", sides[1]), ("store", sides[0])):
                ratio = statistics.median(taken.cpu) / statistics.median(sides[2].cpu)
                report.judge(
                    f"{verb}, {who}",
                    f"{ratio:.2f} of the SDK's CPU",
                    f"at most {TARGET:g}",
                    ratio <= TARGET,
                    BOUND,
                )
        await driver.delete(bucket, "k", DeleteOptions())
        await store.delete_bucket(bucket, force=True)


def main() -> None:
    options = arguments(__doc__ or "").parse_args()
    report = Report("Azure (azurite)")
    count, rounds = (60, 3) if options.quick else (300, 7)
    with running_azurite() as server:
        asyncio.run(compare(report, server.endpoint, count, rounds))
    met = report.finish()
    if not options.quick:
        report.save()
    raise SystemExit(0 if met else 1)


if __name__ == "__main__":
    main()
