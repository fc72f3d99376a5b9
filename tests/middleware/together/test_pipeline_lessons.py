"""Defects of the Go original and security cases that concern several layers at once, by id."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

import trove_async as trove
from tests.conformance.drivers import local_at
from tests.middleware.together.layers import RING, STACKS, small, usual
from trove_async import KiB
from trove_async.drivers.memory import MemoryDriver
from trove_async.middleware import Compress, Encrypt, Keyring, Scan
from trove_async.middleware.scan import Verdict

TEXT = b"the same words again and again, " * 3000
FORMATS = {
    "zst magic": b"\x28\xb5\x2f\xfd" + bytes(100),
    "our zst marker": b"\x5b\x2a\x4d\x18\x10\x00\x00\x00TROVE\x00Z1" + bytes(200),
    "our message": b"\x02\x04\x78" + bytes(300),
    "a sidecar": b'{"content_type": "x", "trovefmt": "1;zstd"}' * 5,
}


async def opened(*layers: trove.Middleware, driver: trove.Driver | None = None) -> trove.Trove:
    store = await trove.open(
        driver if driver is not None else MemoryDriver(), default_bucket="box", middleware=layers
    )
    if "box" not in [info.name for info in await store.list_buckets()]:
        await store.create_bucket("box")
    return store


async def stored(store: trove.Trove, key: str) -> bytes:
    async with store.get(None, key, raw=True) as reader:
        return await reader.read()


@pytest.mark.parametrize("order", ["compress first", "encrypt first"])
async def test_M1_S39_compression_comes_before_encryption_whatever_the_order(order: str) -> None:
    layers: list[trove.Middleware] = [Compress(), Encrypt(RING)]
    async with await opened(*(layers if order == "compress first" else layers[::-1])) as store:
        info = await store.put(None, "k", TEXT)
        assert info.encodings == ("zstd", "aws-esdk")
        assert info.stored_size < len(TEXT) // 10
        assert await store.get_bytes(None, "k") == TEXT


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("kind", FORMATS)
async def test_M2_S36_what_looks_like_a_format_comes_back_as_it_was_put(
    stack: str, kind: str
) -> None:
    body = FORMATS[kind]
    async with await opened(*STACKS[stack]()) as store, await opened() as plain:
        for place in (store, plain):
            for key in ("k", "archive.zst", "k.meta.json"):
                await place.put(None, key, body)
                assert await place.get_bytes(None, key) == body
                assert await place.get_bytes(None, key, range=slice(1, 90)) == body[1:90]
                assert (await place.head(None, key)).size == len(body)


async def test_M2_a_stored_object_of_ours_put_as_a_body_comes_back_as_that_body() -> None:
    async with await opened(*usual("zstd", "aes")) as store, await opened() as plain:
        await store.put(None, "k", TEXT)
        body = await stored(store, "k")
        for place in (store, plain):
            await place.put(None, "copy", body)
            assert await place.get_bytes(None, "copy") == body
            assert await place.get_bytes(None, "copy", range=slice(5, 50)) == body[5:50]


async def test_M4_a_new_key_and_other_layers_leave_old_objects_readable() -> None:
    driver = MemoryDriver()
    ring = Keyring.generate("old")
    store = await opened(Compress(), Encrypt(ring), driver=driver)
    await store.put(None, "k", TEXT)
    ring.rotate("new")
    await store.put(None, "k2", TEXT)
    store.remove("compress")
    await store.put(None, "k3", TEXT)
    for key in ("k", "k2", "k3"):
        assert await store.get_bytes(None, key) == TEXT
        assert await store.get_bytes(None, key, range=slice(100, 200)) == TEXT[100:200]
    await store.aclose()


async def test_M4_a_copy_into_a_secret_place_is_encrypted_and_out_of_it_is_not() -> None:
    secret = trove.Registration(Encrypt(RING), scope=trove.keys("secret/*"))
    async with trove.open("mem://", default_bucket="box", middleware=[secret]) as store:
        await store.create_bucket("box")
        await store.put(None, "public/a", TEXT)
        await store.copy(None, "public/a", None, "secret/a")
        assert TEXT[:32] not in await stored(store, "secret/a")
        await store.move(None, "secret/a", None, "public/b")
        assert await stored(store, "public/b") == TEXT


async def test_M5_S41_a_flipped_header_byte_is_an_error_never_a_crash() -> None:
    async with await opened(*small("aes")) as store:
        await store.put(None, "k", TEXT[:300])
        async with store.get(None, "k", raw=True) as reader:
            metadata, body = dict(reader.info.metadata), await reader.read()
        raw = await opened(driver=store.driver)
        for at in range(240):
            changed = bytearray(body)
            changed[at] ^= 1
            await raw.put(None, "k", bytes(changed), metadata=metadata, raw=True)
            with pytest.raises((trove.IntegrityError, trove.EncryptionKeyError)):
                await store.get_bytes(None, "k")


async def test_M6_S43_ciphertext_moved_to_another_key_is_not_that_keys_content() -> None:
    async with await opened(*small("bound")) as store:
        await store.put(None, "a", TEXT)
        async with store.get(None, "a", raw=True) as reader:
            metadata, body = dict(reader.info.metadata), await reader.read()
        attacker = await opened(driver=store.driver)
        await attacker.put(None, "b", body, metadata=metadata, raw=True)
        for wanted in (None, slice(0, 10)):
            with pytest.raises(trove.LocationMismatchError):
                await store.get_bytes(None, "b", range=wanted)
        await store.copy(None, "a", None, "c")
        assert await store.get_bytes(None, "c") == TEXT


@pytest.mark.parametrize("stack", STACKS)
async def test_M8_M9_sizes_are_logical_and_the_reader_gives_as_many_bytes(stack: str) -> None:
    async with await opened(*STACKS[stack]()) as store:
        put = await store.put(None, "k", TEXT)
        head = await store.head(None, "k")
        [listed] = [info async for info in store.list(None)]
        async with store.get(None, "k") as reader:
            assert reader.length == reader.info.size == len(await reader.read())
        assert isinstance(listed, trove.ObjectInfo)
        assert put.size == head.size == listed.size == len(TEXT)
        assert put.stored_size == head.stored_size == len(await stored(store, "k"))
        assert put.etag == head.etag == listed.etag


class Noting:
    """A scanner that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen = b""

    async def session(self, context: trove.Context) -> Noting:
        self.seen = b""
        return self

    async def feed(self, chunk: bytes | bytearray | memoryview) -> None:
        self.seen += bytes(chunk)

    async def finish(self) -> Verdict:
        return Verdict("a threat" if b"EVIL" in self.seen else None)

    async def aclose(self) -> None: ...


@pytest.mark.parametrize("first", [True, False])
async def test_M11_S49_a_scanner_sees_the_bytes_that_were_put_whatever_the_order(
    first: bool,
) -> None:
    scanner = Noting()
    layers: list[trove.Middleware] = [
        Scan(scanner, max_size=64 * 1024 * KiB),
        *usual("zstd", "aes"),
    ]
    large = TEXT * 300  # over any default limit that would let it pass unscanned
    async with await opened(*(layers if first else layers[::-1])) as store:
        for body in (b"", TEXT, large):
            await store.put(None, "k.zip", body)  # no name is trusted
            assert scanner.seen == body
        with pytest.raises(trove.ContentBlockedError) as caught:
            await store.put(None, "k.zip", large + b"EVIL")
        assert caught.value.threat == "a threat"
        assert await store.get_bytes(None, "k.zip") == large


async def test_M14_S35_an_object_that_unpacks_to_much_more_is_refused_in_bounded_memory() -> None:
    """Each layer's own tests have the bombs; here one comes through the store's front."""
    layer = Compress(max_logical_size=64 * KiB)
    async with await opened(Compress()) as store:
        await store.put(None, "k", bytes(1024 * KiB))
        bounded = await opened(layer, driver=store.driver)
        for wanted in (None, slice(0, 10)):
            with pytest.raises(trove.DecompressionLimitError):
                await bounded.get_bytes(None, "k", range=wanted)


@pytest.mark.parametrize("extra", [b"\0", TEXT[:50], b"\x28\xb5\x2f\xfd"])
@pytest.mark.parametrize("stack", ["zstd", "aes", "zstd+aes"])
async def test_S37_bytes_after_the_end_are_refused(stack: str, extra: bytes) -> None:
    async with await opened(*STACKS[stack]()) as store:
        await store.put(None, "k", TEXT)
        async with store.get(None, "k", raw=True) as reader:
            metadata, body = dict(reader.info.metadata), await reader.read()
        attacker = await opened(driver=store.driver)
        await attacker.put(None, "k", body + extra, metadata=metadata, raw=True)
        with pytest.raises(trove.IntegrityError):
            await store.get_bytes(None, "k")
        with pytest.raises(trove.IntegrityError):
            await store.get_bytes(None, "k", range=slice(-10, None))


async def test_S40_the_uploaders_content_type_decides_about_compression_not_about_encryption() -> (
    None
):
    async with await opened(*usual("zstd", "aes")) as store:
        info = await store.put(None, "k", TEXT, content_type="image/png")
        assert info.encodings == ("aws-esdk",)


async def test_S44_an_object_without_its_mark_or_its_record_is_refused() -> None:
    async with await opened(*usual("aes")) as store:
        await store.put(None, "k", TEXT)
        attacker = await opened(driver=store.driver)
        await attacker.put(None, "k", b"forged")
        with pytest.raises(trove.DowngradeError):
            await store.get_bytes(None, "k")
        await attacker.put(None, "k", b"forged", metadata={"trovefmt": "1"}, raw=True)
        with pytest.raises(trove.DowngradeError):
            await store.get_bytes(None, "k")
        await attacker.put(None, "k", b"\x02\x04\x78" + bytes(500), raw=True)
        with pytest.raises(trove.IntegrityError):
            await store.get_bytes(None, "k")
        with pytest.raises(trove.IntegrityError):
            await store.get_bytes(None, "k", range=slice(0, 5))


async def test_S46_the_commitment_is_compared_in_constant_time_and_errors_tell_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The tags are compared by the cipher itself; the commitment is ours to compare."""
    compared: list[int] = []
    real = hmac.compare_digest

    def noting(left: bytes, right: bytes) -> bool:
        compared.append(len(left))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", noting)  # the module that `suite` asks
    async with await opened(*usual("aes")) as store:
        await store.put(None, "k", TEXT)
        compared.clear()
        await store.get_bytes(None, "k")
        assert compared == [32]
        wrong = Keyring({"k": bytes(range(1, 33))}, active="k")
        other = await opened(Encrypt(wrong), driver=store.driver)
        with pytest.raises(trove.EncryptionKeyError) as caught:
            await other.get_bytes(None, "k")
        text = f"{caught.value!r} {caught.value} {vars(caught.value)}"
        for secret in (bytes(range(32)), bytes(range(1, 33))):
            assert secret.hex() not in text and repr(secret)[2:-1] not in text


CANARY = b"canary-7f3a9c-the-plaintext"


def _files_with(root: Path, canary: bytes) -> list[str]:
    return [str(path) for path in root.rglob("*") if path.is_file() and canary in path.read_bytes()]


async def test_S48_no_plaintext_reaches_the_disk_also_when_puts_fail_or_are_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    root = tmp_path / "root"
    root.mkdir()
    gate = asyncio.Event()

    async def body(fails: bool) -> AsyncGenerator[bytes, None]:
        for _ in range(6):
            yield CANARY * 40_000
        gate.set()
        if fails:
            raise ValueError("the source broke")
        await asyncio.sleep(60)

    async with await opened(*usual("aes"), driver=local_at(root, "none")) as store:
        await store.put(None, "whole", CANARY * 100_000)
        with pytest.raises(ValueError, match="the source broke"):
            await store.put(None, "failed", body(True))
        gate.clear()
        task = asyncio.create_task(store.put(None, "cancelled", body(False)))
        await gate.wait()
        assert _files_with(tmp_path, CANARY) == []  # while it is under way
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not await store.exists(None, "failed")
        assert not await store.exists(None, "cancelled")
        assert await store.get_bytes(None, "whole") == CANARY * 100_000
    assert _files_with(tmp_path, CANARY) == []
    assert [path for path in root.rglob("*") if path.is_file() and "stag" in str(path)] == []
    await asyncio.sleep(0)
    plain = local_at(root, "none")
    async with await opened(driver=plain) as store:
        await store.put(None, "seen", CANARY)
    assert len(_files_with(root, CANARY)) == 1, "the search itself must be able to find it"
    assert os.listdir(scratch) == []
