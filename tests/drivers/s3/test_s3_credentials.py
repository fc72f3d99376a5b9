"""Whose requests these are, over time: asked once for all, renewed once, then an error."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.drivers.s3.conftest import opened
from tests.drivers.s3.place import pieces
from tests.servers import proxy as faults
from tests.servers.s3 import Server
from trove_async import UnauthenticatedError
from trove_async.drivers.s3 import S3Credentials

EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"
SKEWED = b"<Error><Code>RequestTimeTooSkewed</Code><Message>too far</Message></Error>"


class Provider:
    def __init__(self, lifetime: timedelta | None = None) -> None:
        self.calls = 0
        self.lifetime = lifetime

    async def __call__(self) -> S3Credentials:
        self.calls += 1
        await asyncio.sleep(0.01)
        until = None if self.lifetime is None else datetime.now(UTC) + self.lifetime
        return S3Credentials(f"AKIA{self.calls}", "very-secret", "token", until)


async def test_a_hundred_tasks_ask_once(moto: Server) -> None:
    provider = Provider(timedelta(hours=1))
    async with opened(moto, key=None, secret=None, provider=provider) as place:
        await place.beside.put(place.bucket, "k", b"body")
        await asyncio.gather(*(place.store.head(place.bucket, "k") for _ in range(100)))
        assert provider.calls == 1


async def test_refused_credentials_are_renewed_once_for_all(moto: Server) -> None:
    provider = Provider()
    async with opened(moto, key=None, secret=None, provider=provider) as place:
        await place.beside.put(place.bucket, "k", b"body")
        await place.store.head(place.bucket, "k")
        place.proxy.add(faults.status(400, when="GET", body=EXPIRED, times=10))
        results = await asyncio.gather(
            *(place.store.get_bytes(place.bucket, "k") for _ in range(10))
        )
        assert results == [b"body"] * 10 and provider.calls == 2


async def test_credentials_that_stay_refused_are_an_error_at_once(moto: Server) -> None:
    provider = Provider()
    async with opened(moto, key=None, secret=None, provider=provider) as place:
        place.proxy.add(faults.status(400, body=EXPIRED, times=None))
        place.proxy.requests.clear()
        with pytest.raises(UnauthenticatedError) as raised:
            await place.store.get_bytes(place.bucket, "k")
        assert len(place.proxy.requests) == 2, "asked more often than renewed"
        assert "very-secret" not in repr(raised.value) + repr(raised.value.__cause__)
        with pytest.raises(UnauthenticatedError):
            await place.store.get_tags(place.bucket, "k")


async def test_renewal_goes_on_in_the_middle_of_an_upload(moto: Server) -> None:
    provider = Provider()
    async with opened(moto, key=None, secret=None, provider=provider) as place:
        place.proxy.add(
            faults.status(400, when="partNumber=2", body=EXPIRED),
            faults.status(400, when="?uploadId=", body=EXPIRED),
        )
        await place.store.put(place.bucket, "k", pieces(12))
        assert len(await place.stored()) == 12 << 20 and provider.calls >= 2


async def test_a_wrong_clock_is_put_right_once(moto: Server) -> None:
    async with opened(moto) as place:
        await place.beside.put(place.bucket, "k", b"body")
        ahead = datetime.now(UTC) + timedelta(minutes=20)
        date = ahead.strftime("%a, %d %b %Y %H:%M:%S GMT")
        place.proxy.add(faults.status(403, when="GET", body=SKEWED, headers={"date": date}))
        assert await place.store.get_bytes(place.bucket, "k") == b"body"
        place.proxy.add(
            faults.status(403, when="GET", body=SKEWED, headers={"date": date}, times=None)
        )
        with pytest.raises(UnauthenticatedError):
            await place.store.get_bytes(place.bucket, "k")


async def test_a_provider_that_fails_is_no_credentials(moto: Server) -> None:
    async def broken() -> S3Credentials:
        raise OSError("vault is sealed")

    async with opened(moto, key=None, secret=None, provider=broken) as place:
        with pytest.raises(UnauthenticatedError) as raised:
            await place.store.get_bytes(place.bucket, "k")
        assert isinstance(raised.value.__cause__, OSError)


async def test_wrong_keys_are_refused_by_a_server_that_looks(rclone: Server) -> None:
    async with opened(rclone, secret="wrong" * 4) as place:
        for attempt in (
            place.store.get_bytes(place.bucket, "k"),
            place.store.put(place.bucket, "k", b"body"),
            place.store.list_page(place.bucket),
        ):
            with pytest.raises(UnauthenticatedError):
                await attempt
