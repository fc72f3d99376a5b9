"""Our driver beside the SDK on one bucket, and on the emulator that can be installed."""

from __future__ import annotations

import aiohttp

from tests.drivers.gcs.place import Place
from tests.servers.gcs import Server
from tests.servers.test_fake_gcs import emulator, sdk
from trove_async import Trove
from trove_async.drivers.gcs import GCSConfig, GCSDriver
from trove_async.model import MiB

NAMES = ("a/b", "ü %2F?#", "a+b")


async def test_the_sdk_reads_what_we_write_and_we_read_what_it_writes(
    place: Place, gcs: Server
) -> None:
    long = bytes(range(256)) * (12 * 1024)
    async with aiohttp.ClientSession() as session:
        storage = sdk(session, gcs)
        for name in NAMES:
            for body in (b"", b"body", long):
                await place.store.put(
                    place.bucket, name, body, content_type="text/x", metadata={"a": "é"}
                )
                assert await storage.download(place.bucket, name) == body
                found = await storage.download_metadata(place.bucket, name)
                assert found["contentType"] == "text/x" and found["metadata"]["a"] == "é"
                metadata = {"metadata": {"b": "漢"}}
                await storage.upload(
                    place.bucket, name, body, content_type="text/y", metadata=metadata
                )
                async with place.store.get(place.bucket, name) as reader:
                    assert await reader.read() == body
                    assert reader.info.content_type == "text/y"
                    assert dict(reader.info.metadata) == {"b": "漢"}


async def test_the_driver_works_with_the_emulator() -> None:
    """As far as that goes: no empty bodies in one request, pages, conditions and versions."""
    with emulator() as root:
        driver = GCSDriver(GCSConfig(endpoint=root, project="p", xml_reads=False, part_size=MiB))
        async with Trove(driver, default_bucket="bucket") as store:
            await store.create_bucket("bucket")
            bucket = store.bucket()
            for name in NAMES:
                await bucket.put(name, b"body", metadata={"a": "é"})
                async with bucket.get(name) as reader:
                    assert await reader.read() == b"body"
                    assert dict(reader.info.metadata) == {"a": "é"}
            long = bytes(range(256)) * (10 * 1024)
            await bucket.put("long", long)
            assert await bucket.get_bytes("long") == long
            assert await bucket.get_bytes("long", range=slice(256, 260)) == long[:4]
            longer = long * 2
            await bucket.put("long", longer, concurrency=2)  # composed
            assert await bucket.get_bytes("long") == longer
            assert await driver.list_uploads("bucket", "") == []
            await bucket.copy("long", "copied")
            page = await bucket.list_page()
            assert [info.key for info in page.objects] == sorted([*NAMES, "long", "copied"])
            await bucket.delete("long")
            assert not await bucket.exists("long")
