"""CPU time of one request: the driver, and a store on it, beside the bare SDK, on azurite.

    python benchmarks/azure.py [requests]

Client CPU per 1,000 requests of 1 KiB, one at a time, the best of several turns taken in
alternation. Asked for: the driver costs less than 15 % more than the SDK.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.remove(str(Path(__file__).parent))  # this file must not stand for the SDK's package
sys.path.insert(0, str(Path(__file__).parent.parent))

from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient

from tests.servers.azurite import ACCOUNT, KEY, running_azurite
from trove_async import Trove
from trove_async._chunks import OneChunk
from trove_async.driver import DeleteOptions, GetOptions, HeadOptions, ListOptions, PutOptions
from trove_async.drivers.azure import AzureConfig, AzureDriver

BODY = b"x" * 1024
METADATA = {"trovefmt": "1", "trovelen": "1024"}
TURNS = 5
Work = Callable[[], Awaitable[object]]


async def cpu(work: Work, count: int) -> float:
    """Milliseconds of this process per request."""
    started = time.process_time()
    for _ in range(count):
        await work()
    return (time.process_time() - started) / count * 1e3


async def compare(endpoint: str, count: int) -> dict[str, dict[str, float]]:
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
        best: dict[str, dict[str, float]] = {}
        for verb, makers in ways.items():
            best[verb] = dict.fromkeys(makers, float("inf"))
            for _ in range(TURNS):
                for name, work in makers.items():
                    gc.collect()
                    found = await cpu(work, max(1, count // (10 if verb == "list 101" else 1)))
                    best[verb][name] = min(best[verb][name], found)
        await driver.delete(bucket, "k", DeleteOptions())
        await store.delete_bucket(bucket, force=True)
    return best


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 300
    with running_azurite() as server:
        best = asyncio.run(compare(server.endpoint, count))
    print(f"{'':10} {'SDK ms':>8} {'driver ms':>10} {'ratio':>6} {'store ms':>9} {'ratio':>6}")
    for verb, found in best.items():
        sdk, driver, store = found["sdk"], found["driver"], found["store"]
        ratios = f"{driver:10.3f} {driver / sdk:6.2f} {store:9.3f} {store / sdk:6.2f}"
        print(f"{verb:10} {sdk:8.3f} {ratios}")


if __name__ == "__main__":
    main()
