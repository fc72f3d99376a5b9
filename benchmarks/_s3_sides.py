"""Clients of S3 behind one shape: what `s3.py` compares."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import Any, ClassVar, Protocol

import aioboto3
import boto3
import obstore
import opendal
import s3fs
from botocore.config import Config
from obstore.store import S3Store

import trove_async as trove

MiB = 1024 * 1024
PIECE = 1 * MiB
BLOCK = os.urandom(PIECE)
BUCKET = "bench"
KEY, SECRET, REGION = "AKIAAAAAAAAAAAAA", "secretsecretsecret", "us-east-1"
_SETTINGS = {
    "aws_access_key_id": KEY,
    "aws_secret_access_key": SECRET,
    "region_name": REGION,
}


async def source(size: int) -> AsyncIterator[bytes]:
    """The body of a streamed put, of a length nobody is told; the same for all. Each piece is a
    new one, as from a network, so that who holds on to them is seen."""
    for _ in range(size // PIECE):
        yield bytes(memoryview(BLOCK))


class Client(Protocol):
    """``stream`` and ``drain`` move one large body; ``list`` reads every key of a prefix."""

    name: ClassVar[str]
    kind: ClassVar[str]

    def __init__(self, endpoint: str) -> None: ...
    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def put(self, key: str, data: bytes) -> object: ...
    async def get(self, key: str) -> object: ...
    async def stream(self, key: str, size: int) -> object: ...
    async def drain(self, key: str) -> int: ...
    async def list(self, prefix: str) -> int: ...


class Ours:
    """BLAKE3 and CRC32 of every put, both checked on every whole get."""

    name: ClassVar[str] = "trove"
    kind: ClassVar[str] = "ours"

    def __init__(self, endpoint: str) -> None:
        self._dsn = f"s3://{KEY}:{SECRET}@{BUCKET}?endpoint={endpoint}&region={REGION}"

    async def open(self) -> None:
        self.store = await trove.open(self._dsn)
        with suppress(trove.BucketExistsError):
            await self.store.create_bucket(BUCKET)

    async def close(self) -> None:
        await self.store.aclose()

    async def put(self, key: str, data: bytes) -> object:
        return await self.store.put(BUCKET, key, data)

    async def get(self, key: str) -> object:
        return await self.store.get_bytes(BUCKET, key)

    async def stream(self, key: str, size: int) -> object:
        return await self.store.put(BUCKET, key, source(size))

    async def drain(self, key: str) -> int:
        async with self.store.get(BUCKET, key) as reader:
            return sum([len(chunk) async for chunk in reader])

    async def list(self, prefix: str) -> int:
        return len([info async for info in self.store.list(BUCKET, prefix=prefix)])


class Obstore:
    name: ClassVar[str] = "obstore"
    kind: ClassVar[str] = "peer"

    def __init__(self, endpoint: str) -> None:
        self._store = S3Store(
            BUCKET,
            endpoint=endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=REGION,
            client_options={"allow_http": True},
        )

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def put(self, key: str, data: bytes) -> object:
        return await obstore.put_async(self._store, key, data)

    async def get(self, key: str) -> object:
        found = await obstore.get_async(self._store, key)
        return await found.bytes_async()

    async def stream(self, key: str, size: int) -> object:
        return await obstore.put_async(self._store, key, source(size))

    async def drain(self, key: str) -> int:
        found = await obstore.get_async(self._store, key)
        return sum([len(chunk) async for chunk in found.stream(min_chunk_size=PIECE)])

    async def list(self, prefix: str) -> int:
        return sum([len(page) async for page in obstore.list(self._store, prefix)])


class Opendal:
    name: ClassVar[str] = "opendal"
    kind: ClassVar[str] = "peer"

    def __init__(self, endpoint: str) -> None:
        self._operator = opendal.AsyncOperator(
            "s3",
            bucket=BUCKET,
            endpoint=endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region=REGION,
        )

    async def open(self) -> None: ...
    async def close(self) -> None: ...

    async def put(self, key: str, data: bytes) -> object:
        return await self._operator.write(key, data)

    async def get(self, key: str) -> object:
        return await self._operator.read(key)

    async def stream(self, key: str, size: int) -> object:
        async with await self._operator.open(key, "wb", chunk=8 * MiB, concurrent=4) as file:
            async for piece in source(size):
                await file.write(piece)
        return None

    async def drain(self, key: str) -> int:
        total = 0
        async with await self._operator.open(key, "rb") as file:
            while piece := await file.read(PIECE):
                total += len(piece)
        return total

    async def list(self, prefix: str) -> int:
        return len([entry async for entry in await self._operator.list(prefix)])


class Aioboto3:
    """As its users have it; the body of a stream comes from a queue of one piece."""

    name: ClassVar[str] = "aioboto3"
    kind: ClassVar[str] = "peer"

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        session = aioboto3.Session(**_SETTINGS)
        config = Config(max_pool_connections=64, s3={"addressing_style": "path"})
        making = session.client("s3", endpoint_url=self._endpoint, config=config)
        self._client: Any = await self._stack.enter_async_context(making)

    async def close(self) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes) -> object:
        return await self._client.put_object(Bucket=BUCKET, Key=key, Body=data)

    async def get(self, key: str) -> object:
        found = await self._client.get_object(Bucket=BUCKET, Key=key)
        async with found["Body"] as body:
            return await body.read()

    async def stream(self, key: str, size: int) -> object:
        return await self._client.upload_fileobj(_Reader(size), BUCKET, key)

    async def drain(self, key: str) -> int:
        found = await self._client.get_object(Bucket=BUCKET, Key=key)
        return sum([len(piece) async for piece in found["Body"].iter_chunks(PIECE)])

    async def list(self, prefix: str) -> int:
        pages = self._client.get_paginator("list_objects_v2")
        return sum(
            [
                len(page.get("Contents", ()))
                async for page in pages.paginate(Bucket=BUCKET, Prefix=prefix)
            ]
        )


class _Reader:
    """A file of ``size`` bytes that can be read once."""

    def __init__(self, size: int) -> None:
        self._left = size

    async def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        self._left -= count
        whole, rest = divmod(count, PIECE)
        return BLOCK * whole + BLOCK[:rest]


class S3fs:
    name: ClassVar[str] = "s3fs"
    kind: ClassVar[str] = "peer"

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    async def open(self) -> None:
        self._fs = s3fs.S3FileSystem(
            key=KEY,
            secret=SECRET,
            endpoint_url=self._endpoint,
            client_kwargs={"region_name": REGION},
            asynchronous=True,
            use_listings_cache=False,
        )
        self._session = await self._fs.set_session()

    async def close(self) -> None:
        await self._session.close()

    async def put(self, key: str, data: bytes) -> object:
        return await self._fs._pipe_file(f"{BUCKET}/{key}", data)

    async def get(self, key: str) -> object:
        return await self._fs._cat_file(f"{BUCKET}/{key}")

    async def stream(self, key: str, size: int) -> object:
        """It has no streaming put: the whole body at once."""
        body = b"".join([piece async for piece in source(size)])
        return await self._fs._pipe_file(f"{BUCKET}/{key}", body)

    async def drain(self, key: str) -> int:
        return len(await self._fs._cat_file(f"{BUCKET}/{key}"))

    async def list(self, prefix: str) -> int:
        return len(await self._fs._find(f"{BUCKET}/{prefix}"))


class Boto3:
    """In threads."""

    name: ClassVar[str] = "boto3 in threads"
    kind: ClassVar[str] = "peer"

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._pool = ThreadPoolExecutor(16)

    async def open(self) -> None:
        config = Config(max_pool_connections=64, s3={"addressing_style": "path"})
        self._client: Any = boto3.client(
            "s3", endpoint_url=self._endpoint, config=config, **_SETTINGS
        )

    async def close(self) -> None:
        self._pool.shutdown()
        self._client.close()

    async def _run(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def put(self, key: str, data: bytes) -> object:
        return await self._run(lambda: self._client.put_object(Bucket=BUCKET, Key=key, Body=data))

    async def get(self, key: str) -> object:
        return await self._run(
            lambda: self._client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        )

    async def stream(self, key: str, size: int) -> object:
        return await self._run(lambda: self._client.upload_fileobj(_PlainReader(size), BUCKET, key))

    async def drain(self, key: str) -> int:
        def read() -> int:
            body = self._client.get_object(Bucket=BUCKET, Key=key)["Body"]
            return sum(len(piece) for piece in body.iter_chunks(PIECE))

        total: int = await self._run(read)
        return total

    async def list(self, prefix: str) -> int:
        def pages() -> int:
            found = self._client.get_paginator("list_objects_v2")
            return sum(
                len(page.get("Contents", ()))
                for page in found.paginate(Bucket=BUCKET, Prefix=prefix)
            )

        total: int = await self._run(pages)
        return total


class _PlainReader:
    def __init__(self, size: int) -> None:
        self._left = size

    def read(self, count: int = -1) -> bytes:
        count = self._left if count < 0 else min(count, self._left)
        self._left -= count
        whole, rest = divmod(count, PIECE)
        return BLOCK * whole + BLOCK[:rest]


ALL: list[type[Client]] = [Ours, Obstore, Opendal, Aioboto3, S3fs, Boto3]
