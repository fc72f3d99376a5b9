"""Connections that break, servers that can do less, answers that do not come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

import trove_async as trove
from tests.drivers.sftp.conftest import Opened
from tests.servers.proxy import Proxy, reset, truncate
from tests.servers.sftp_relay import Relay
from tests.servers.sshd import Sshd
from trove_async import Features, RetryPolicy, Trove
from trove_async.drivers.sftp import SFTPDriver, wire
from trove_async.drivers.sftp.config import config_of
from trove_async.errors import (
    OperationTimeoutError,
    PreconditionFailedError,
    TroveError,
    UnavailableError,
    UnsupportedError,
)

MiB = 1024 * 1024
Relaying = Callable[..., AbstractAsyncContextManager[Relay]]
ONE_TRY = RetryPolicy(attempts=1)
POSIX_RENAME = b"posix-rename@openssh.com"
HARDLINK = b"hardlink@openssh.com"


def is_extended(message: bytes, name: bytes) -> bool:
    return message[0] == wire.EXTENDED and message[9 : 9 + len(name)] == name


async def pieces(count: int, at: dict[int, Callable[[], object]]) -> AsyncIterator[bytes]:
    """``count`` mebibytes; before piece n ``at[n]`` is called."""
    for number in range(count):
        if number in at:
            at[number]()
            await asyncio.sleep(0.05)  # so that the loss is noticed
        yield bytes([number]) * MiB


def files(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if not p.is_dir())


def staged(root: Path) -> list[str]:
    return files(root / ".trove" / "tmp")


# -- the server goes away -----------------------------------------------------------------------


async def test_a_put_whose_server_dies_is_a_typed_error_and_the_old_object_stays(
    start_sshd: Callable[..., Sshd],
) -> None:
    server = start_sshd()
    root = server.new_root()
    async with trove.open(server.dsn(root, agent="false"), retry=ONE_TRY) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"old", metadata={"is": "old"})
        with pytest.raises(UnavailableError) as raised:
            await store.put("box", "k", pieces(24, {8: server.kill_sessions}))
        assert raised.value.retryable and raised.value.__cause__ is not None
        assert await store.get_bytes("box", "k") == b"old", "and the driver has connected anew"
        assert (await store.head("box", "k")).metadata == {"is": "old"}
        assert not staged(root), "the next link takes away what the lost one left"


async def test_a_put_that_can_be_repeated_succeeds_all_the_same(
    start_sshd: Callable[..., Sshd], tmp_path: Path
) -> None:
    server = start_sshd()
    (tmp_path / "body").write_bytes(bytes(24 * MiB))
    async with trove.open(server.dsn(server.new_root(), agent="false")) as store:
        await store.create_bucket("box")
        put = asyncio.ensure_future(store.put("box", "k", tmp_path / "body"))
        await asyncio.sleep(0.02)
        server.kill_sessions()
        assert (await put).size == 24 * MiB
        assert len(await store.get_bytes("box", "k")) == 24 * MiB


async def test_a_read_goes_on_where_the_connection_broke(start_sshd: Callable[..., Sshd]) -> None:
    server = start_sshd()
    body = bytes(range(256)) * 4096 * 24
    async with trove.open(server.dsn(server.new_root(), agent="false")) as store:
        await store.create_bucket("box")
        await store.put("box", "k", body)
        got = bytearray()
        async with store.get("box", "k") as reader:
            async for chunk in reader:
                got += chunk
                if MiB < len(got) < 2 * MiB:
                    server.kill_sessions()
                    await asyncio.sleep(0.02)
        assert got == body


async def test_without_a_server_the_error_names_the_host_and_is_retryable(
    start_sshd: Callable[..., Sshd],
) -> None:
    server = start_sshd()
    async with trove.open(server.dsn(server.new_root(), agent="false"), retry=ONE_TRY) as store:
        await store.create_bucket("box")
        server.kill()
        for _ in range(2):
            with pytest.raises(UnavailableError):
                await store.put("box", "k", b"x")
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
            await store.get_bytes("box", "k")
        server.start()
        await store.put("box", "k", b"there again")
        assert await store.get_bytes("box", "k") == b"there again"


@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", ["reset up", "reset down", "truncate up"])
async def test_a_connection_that_breaks_anywhere_leaves_old_or_new(
    sshd: Sshd, tmp_path: Path, part: float, kind: str
) -> None:
    """At parts of what a whole put and get move, handshake included."""
    root = sshd.new_root()
    old, new = b"o" * 700_000, b"n" * 900_000
    how, direction = kind.split()
    total = len(new)  # goes up once, and down once
    async with Proxy(sshd.host, sshd.port, http=False) as proxy:
        known = tmp_path / "known_hosts"
        known.write_text(f"[{sshd.host}]:{proxy.port} {sshd.host_key}\n")
        dsn = sshd.dsn(root, agent="false", known_hosts=str(known), connections="1")
        dsn = dsn.replace(f":{sshd.port}/", f":{proxy.port}/")
        at = int(part * total)
        if how == "truncate":
            fault = truncate("up", at=at)
        else:
            fault = reset("up" if direction == "up" else "down", at=at)
        async with trove.open(sshd.dsn(root, agent="false")) as store:
            await store.create_bucket("box")
            await store.put("box", "k", old)
        proxy.add(fault)
        outcome: object = None
        try:
            async with trove.open(dsn, retry=ONE_TRY) as store:
                await store.put("box", "k", new)
                outcome = "put"
                assert await store.get_bytes("box", "k") == new
                outcome = "got"
        except UnavailableError:
            pass
        async with trove.open(dsn) as store:
            found = await store.get_bytes("box", "k")
        assert fault.hits == 1
        assert found == new if outcome is not None else found in (old, new)


# -- answers that are lost or late --------------------------------------------------------------


async def test_a_lost_answer_to_a_create_only_put_is_no_conflict_with_itself(
    relay: Relaying, tmp_path: Path
) -> None:
    async with relay() as server:

        def lose(request: bytes, reply: bytes) -> bytes | None:
            if not is_extended(request, HARDLINK):
                return reply
            server.on_reply = None
            server.cut()
            return None

        async with trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store:
            await store.create_bucket("box")
            server.on_reply = lose
            info = await store.put("box", "k", b"mine", if_none_match="*", metadata={"a": "b"})
            assert server.cuts == 1, "the answer was lost"
            found = await store.head("box", "k")
            assert (found.etag, found.metadata) == (info.etag, {"a": "b"})
            with pytest.raises(PreconditionFailedError):
                await store.put("box", "k", b"other", if_none_match="*")


@pytest.mark.parametrize("verb", ["put", "complete"])
@pytest.mark.parametrize("was_done", [True, False])
async def test_a_lost_answer_to_the_rename_is_found_out(
    relay: Relaying, tmp_path: Path, verb: str, was_done: bool
) -> None:
    async with relay() as server:

        def lose(request: bytes) -> bytes | None:
            if not is_extended(request, POSIX_RENAME):
                return request
            server.on_request = None
            if not was_done:
                server.cut()
                return None
            server.on_reply = lose_reply
            return request

        def lose_reply(request: bytes, reply: bytes) -> bytes | None:
            if is_extended(request, POSIX_RENAME):
                server.on_reply = None
                server.cut()
                return None
            return reply

        root = tmp_path / "root"
        async with trove.open(server.dsn(root), retry=ONE_TRY) as store:
            await store.create_bucket("box")
            if verb == "put":
                server.on_request = lose
                info = await store.put("box", "k", b"mine", metadata={"a": "b"})
            else:
                driver = store.driver
                assert isinstance(driver, SFTPDriver)
                options = trove.PutOptions("text/plain", {"a": "b"})
                upload = await driver.initiate_multipart("box", "k", options)
                part = await driver.upload_part("box", "k", upload, 1, _one(b"mine"), 4)
                server.on_request = lose
                info = await driver.complete_multipart(
                    "box", "k", upload, [part], trove.PutOptions()
                )
                assert await driver.list_uploads("box", "") == []
            assert server.cuts == 1
            found = await store.head("box", "k")
            assert (found.etag, found.metadata["a"]) == (info.etag, "b")
            assert await store.get_bytes("box", "k") == b"mine"
        assert not staged(root)


async def test_a_put_that_was_published_and_is_gone_again_is_no_error(
    relay: Relaying, tmp_path: Path
) -> None:
    """The answer to the rename is lost, and another client deletes before we can look."""
    async with relay() as server, trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store:
        await store.create_bucket("box")

        def lose(request: bytes, reply: bytes) -> bytes | None:
            if not is_extended(request, POSIX_RENAME):
                return reply
            server.on_reply = None
            (tmp_path / "root" / "box" / "k").unlink()
            server.cut()
            return None

        server.on_reply = lose
        assert (await store.put("box", "k", b"mine")).size == 4
        assert server.cuts == 1 and not await store.exists("box", "k")


async def _one(data: bytes) -> AsyncGenerator[bytes, None]:
    yield data


async def test_a_silent_server_is_given_up_and_another_connection_works(
    relay: Relaying, tmp_path: Path
) -> None:
    async with relay() as server:
        config = config_of(trove.parse_dsn(server.dsn(tmp_path / "root")))
        driver = SFTPDriver(replace(config, read_timeout=1.5))
        async with trove.open(driver, retry=ONE_TRY) as store:
            await store.create_bucket("box")
            await store.put("box", "k", b"x")
            server.on_request = lambda message: None
            with pytest.raises(OperationTimeoutError, match="said nothing"):
                await store.head("box", "k")
            server.on_request = None
            assert await store.get_bytes("box", "k") == b"x"


async def test_nonsense_from_the_server_is_a_typed_error(relay: Relaying, tmp_path: Path) -> None:
    async with relay() as server, trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store:
        await store.create_bucket("box")
        await store.put("box", "k", b"x" * 1000)
        for cut in (5, 6, 9, 13):
            server.on_reply = lambda request, reply, cut=cut: reply[:cut]
            with pytest.raises(TroveError):
                await store.get_bytes("box", "k")
            with pytest.raises(TroveError):
                await store.put("box", "k", b"y")
            server.on_reply = None
            assert await store.get_bytes("box", "k") == b"x" * 1000
        server.on_reply = lambda request, reply: b"\xff" * 20
        with pytest.raises(TroveError):
            await store.get_bytes("box", "k")
        server.on_reply = None
        assert await store.get_bytes("box", "k") == b"x" * 1000


async def test_short_reads_are_completed_and_an_early_end_is_an_error(
    relay: Relaying, tmp_path: Path
) -> None:
    """A server may give less than it was asked for (section 6.4 of the draft)."""
    body = bytes(range(256)) * 4000

    def short(request: bytes, reply: bytes) -> bytes:
        if reply[0] != wire.DATA or len(reply) < 50_000:
            return reply
        data = reply[9:40_009]
        return reply[:5] + len(data).to_bytes(4) + data

    async with relay() as server, trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store:
        await store.create_bucket("box")
        await store.put("box", "k", body)
        server.on_reply = short
        assert await store.get_bytes("box", "k") == body
        assert await store.get_ranges("box", "k", [slice(5, 300_000)]) == [body[5:300_000]]


# -- servers that can do less -------------------------------------------------------------------


async def keys(store: Trove) -> list[str]:
    return [o.key async for o in store.list("box") if isinstance(o, trove.ObjectInfo)]


async def everyday(store: Trove) -> None:
    """What must work on every server."""
    await store.create_bucket("box")
    await store.put("box", "a/k", b"one", metadata={"n": "1"})
    await store.put("box", "a/k", b"two", metadata={"n": "2"})
    assert await store.get_bytes("box", "a/k") == b"two"
    assert (await store.head("box", "a/k")).metadata == {"n": "2"}
    large = bytes(range(256)) * 4096 * 3
    await store.put("box", "large", large)
    copied = await store.copy("box", "large", "box", "copied", metadata={"is": "copy"})
    assert copied.metadata == {"is": "copy"}
    assert await store.get_bytes("box", "copied") == large
    await store.move("box", "copied", "box", "a/moved")
    assert await store.get_bytes("box", "a/moved", range=slice(-7, None)) == large[-7:]
    assert (await store.head("box", "a/moved")).metadata == {"is": "copy"}
    assert await keys(store) == ["a/k", "a/moved", "large"]
    await store.set_tags("box", "large", {"t": "v"})
    assert await store.get_tags("box", "large") == {"t": "v"}
    for key in ("a/k", "a/moved", "large"):
        await store.delete("box", key)
    await store.delete_bucket("box")


ALL = (
    POSIX_RENAME,
    HARDLINK,
    b"fsync@openssh.com",
    b"copy-data",
    b"limits@openssh.com",
    b"statvfs@openssh.com",
)
WITHOUT = {
    "everything there": (),
    "no fsync": (b"fsync@openssh.com",),
    "no copy-data": (b"copy-data",),
    "no limits": (b"limits@openssh.com",),
    "no hardlink": (HARDLINK,),
    "no posix-rename": (POSIX_RENAME,),
    "none at all": ALL,
}


@pytest.mark.parametrize("missing", WITHOUT.values(), ids=WITHOUT)
@pytest.mark.parametrize("version", ["AsyncSSH_test", "OpenSSH_9.2"])
async def test_a_server_that_can_do_less_does_the_same(
    relay: Relaying, tmp_path: Path, missing: tuple[bytes, ...], version: str
) -> None:
    root = tmp_path / "root"
    async with (
        relay(*missing, version=version) as server,
        trove.open(server.dsn(root), retry=ONE_TRY) as store,
    ):
        await everyday(store)
        features: Features = store.driver.features
        assert features.atomic_overwrite is (POSIX_RENAME not in missing)
        assert ("create" in features.conditional) is (HARDLINK not in missing)
        assert ("copy" in features.native) is (b"copy-data" not in missing)
    assert not staged(root)


async def test_without_hard_links_a_create_only_put_is_refused_before_any_byte_moves(
    relay: Relaying, tmp_path: Path
) -> None:
    async with relay(HARDLINK) as server, trove.open(server.dsn(tmp_path / "root")) as store:
        await store.create_bucket("box")
        before = server.requests
        with pytest.raises(UnsupportedError):
            await store.put("box", "k", b"x", if_none_match="*")
        with pytest.raises(UnsupportedError):
            await store.put("box", "k", b"x", if_match="some")
        assert server.requests == before


async def test_in_two_steps_a_refused_second_rename_puts_the_old_one_back(
    relay: Relaying, tmp_path: Path
) -> None:
    async with (
        relay(POSIX_RENAME) as server,
        trove.open(server.dsn(tmp_path / "root"), retry=ONE_TRY) as store,
    ):
        await store.create_bucket("box")
        await store.put("box", "k", b"old", metadata={"is": "old"})
        renames = 0

        def break_new(request: bytes) -> bytes:
            # The rename of the new file, once the old one is aside, names nothing.
            nonlocal renames
            if request[0] == wire.RENAME:
                renames += 1
                if renames == 3:
                    return request[:5] + wire.two_paths(b"/nowhere/a", b"/nowhere/b")
            return request

        server.on_request = break_new
        with pytest.raises(TroveError):
            await store.put("box", "k", b"new")
        server.on_request = None
        assert await store.get_bytes("box", "k") == b"old"
        assert (await store.head("box", "k")).metadata == {"is": "old"}


async def test_connections_stay_within_their_number(opened: Opened) -> None:
    async with opened(connections="3") as store:
        driver = store.driver
        assert isinstance(driver, SFTPDriver) and driver._opened is not None
        pool = driver._opened.pool
        await store.put("box", "k", b"x")
        assert pool.count == 1, "one is enough for one task"
        await asyncio.gather(*(store.put("box", f"k{n}", b"x") for n in range(200)))
        assert 1 < pool.count <= 3
        assert sum(link.load for link in pool._links) == 0
