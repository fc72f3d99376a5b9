"""Servers that hash a whole object to name its etag are asked for it once, not at every put."""

from __future__ import annotations

import secrets
from hashlib import md5
from typing import Any

import trove_async as trove
from tests.servers.proxy import Proxy
from tests.servers.s3 import rclone

__all__ = ["rclone"]

MiB = 1024 * 1024


async def test_the_etag_of_a_long_put_is_known_without_asking(rclone: Any) -> None:
    async with Proxy("127.0.0.1", rclone.port) as proxy:
        dsn = rclone.dsn().replace(f":{rclone.port}", f":{proxy.port}")
        async with trove.open(dsn) as store:
            bucket = f"trove-{secrets.token_hex(6)}"
            await store.create_bucket(bucket)
            for number in range(3):
                pieces = [secrets.token_bytes(MiB) for _ in range(18)]

                async def body(pieces: list[bytes] = pieces) -> Any:
                    for piece in pieces:
                        yield piece

                proxy.requests.clear()
                info = await store.put(bucket, f"k{number}", body())
                heads = [line for line in proxy.requests if line.startswith("HEAD")]
                assert len(heads) == (1 if number == 0 else 0)
                assert info.etag == md5(b"".join(pieces)).hexdigest()
                found = await store.head(bucket, f"k{number}")
                assert (found.etag, found.size) == (info.etag, info.size)
            await store.delete_bucket(bucket, force=True)
