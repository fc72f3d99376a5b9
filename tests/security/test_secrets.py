"""S20, S22 to S26: a secret in a connection string, a body or an environment is told to nobody."""

from __future__ import annotations

import ast
import asyncio
import base64
import copy
import dataclasses
import io
import logging
import os
import pickle
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pytest

import trove_async
from tests.security.verbs import BY_BUCKET, BY_KEY
from trove_async import DSN, Driver, Trove, TroveError, parse_dsn
from trove_async.drivers.local import LocalConfig, LocalDriver
from trove_async.drivers.memory import MemoryDriver

CANARY: Final = "c4n4ry/S3cr+t=="
PACKAGE: Final = Path(trove_async.__file__).parent


def forms(secret: str) -> set[str]:
    """Every writing in which it could slip out; parts of half its length too."""
    half = len(secret) // 2 + 1
    plain = {secret, quote(secret), quote(secret, safe=""), secret[:half], secret[-half:]}
    encoded = {base64.b64encode(secret.encode()).decode().rstrip("=")}
    return plain | encoded | {repr(form)[1:-1] for form in plain}


FORMS: Final = forms(CANARY)


def assert_clean(text: str, where: str) -> None:
    for form in FORMS:
        assert form not in text, f"the secret is in {where}: {text[:300]}"


def everything_of(error: BaseException) -> str:
    """What a program could print of an error, its causes included."""
    out = io.StringIO()
    traceback.print_exception(error, file=out)
    seen: BaseException | None = error
    while seen is not None:
        out.write(f"{seen} {seen!r} {seen.args!r} {vars(seen)!r} {getattr(seen, '__notes__', '')}")
        if isinstance(seen, TroveError):
            out.write(repr(pickle.dumps(seen)) + repr(copy.copy(seen)))
        seen = seen.__cause__ or seen.__context__
    return out.getvalue()


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """All log records at DEBUG and all warnings."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield out
        out.write("".join(str(warning.message) for warning in caught))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


SECRET: Final = quote(CANARY, safe="")
DSNS: Final = (
    f"file://user:{SECRET}@/tmp/x",
    *(f"mem://user:{SECRET}@name", f"mem://name?token={SECRET}", f"file:///tmp/x?key={SECRET}"),
    *(f"nosuch://user:{SECRET}@host/x", f"nosuch://host?sas={SECRET}&secret={SECRET}"),
    *(f"s3x://KEY:{SECRET}@bucket?endpoint=http://169.254.169.254", f"://user:{SECRET}@x"),
    *(f"file://user:{SECRET}@[::1", f"file://user:{SECRET}@host:99999/x", f"user:{SECRET}@host"),
    *(f"file:///tmp/x?token={SECRET}&token={SECRET}", f"file:///tmp/x?{SECRET}=%zz&a"),
    *(f"file://user:{SECRET}\n@host/x", f"mem://x?connection_string=AccountKey%3D{SECRET}"),
)


@pytest.mark.parametrize("text", DSNS)
async def test_S24_S25_no_error_of_opening_tells_the_secret(text: str) -> None:
    with listening() as heard:
        with pytest.raises((TroveError, TypeError, ValueError)) as caught:
            async with trove_async.open(text):
                pass
        assert_clean(everything_of(caught.value), "the error")
        try:
            dsn = parse_dsn(text)
        except TroveError:
            pass
        else:
            assert_clean(f"{dsn} {dsn!r} {[dsn]} {dsn!s:>5}", "the DSN printed")
    assert_clean(heard.getvalue(), "the log")


@pytest.mark.parametrize("text", DSNS)
async def test_S24_a_configuration_file_tells_no_secret(text: str, tmp_path: Path) -> None:
    path = tmp_path / "trove.toml"
    quoted = text.replace("\n", "\\n")
    for lines in (
        f'default = "a"\n[stores.a]\nurl = "{quoted}"\n',
        f'default = "a"\n[stores.a]\nurl = "mem://"\n[stores.b]\nurl = "{quoted}"\n',
        f'default = "b"\n[stores.a]\nurl = "{quoted}"\n',
        f'[stores.a]\nurl = "{quoted}"\nextra = "{quoted}"\n',
        f'[stores.a]\nurl = "{quoted}\n',
        '[stores.a]\nurl = "nosuch://x:${CANARY_SECRET}@h"\n',
    ):
        path.write_text(lines)
        with listening() as heard, pytest.MonkeyPatch.context() as patch:
            patch.setenv("CANARY_SECRET", CANARY)
            with pytest.raises((TroveError, ValueError)) as caught:
                async with trove_async.open(path):
                    pass
            assert_clean(everything_of(caught.value), "the error")
        assert_clean(heard.getvalue(), "the log")


class Account(MemoryDriver):
    """A driver with a password, as a cloud's would have; its backend is out of order."""

    def __init__(self, dsn: DSN) -> None:
        super().__init__()
        self.account = dsn

    async def ping(self) -> None:
        raise trove_async.UnauthenticatedError("the account is refused", backend="account")


IMPOSSIBLE: Final = (("missing", "k"), ("bucket", "missing"), ("bucket", "a\0"), ("..", "k"))


async def every_error(store: Trove) -> list[BaseException]:
    """What each verb says of a missing bucket, a missing key and impossible names."""
    errors: list[BaseException] = []
    for verb in (*BY_KEY.values(), *BY_BUCKET.values()):
        for bucket, key in (
            ("missing", "k"),
            ("bucket", "missing"),
            ("bucket", "a\0"),
            ("..", "k"),
        ):
            try:
                async with asyncio.timeout(0.05):
                    await verb(store, bucket, key)
            except (TroveError, ValueError, TimeoutError) as exc:
                errors.append(exc)
    return errors


async def test_S24_no_verb_tells_the_secret_of_its_driver() -> None:
    dsn = parse_dsn(f"account://KEY:{SECRET}@host/bucket?token={SECRET}")
    assert dsn.password == CANARY
    driver: Driver = Account(dsn)
    with listening() as heard:
        async with trove_async.open(driver, backends={"second": Account(dsn)}) as store:
            await store.create_bucket("bucket")
            errors = await every_error(store)
            health = await store.ping()
            assert not health["default"].ok
            shown = "".join(str(h.error) for h in health.values())
            shown += f"{store!r} {store} {driver!r} {store.bucket('bucket')!r} {health!r}"
            shown += f"{store.backend('second')!r} {store.registrations()!r}"
        with pytest.raises(TroveError) as caught:
            await store.head("bucket", "k")
        errors.append(caught.value)
    assert len(errors) > 60
    assert_clean(shown, "a repr")
    for error in errors:
        assert_clean(everything_of(error), "an error")
    assert_clean(heard.getvalue(), "the log")


async def test_S24_the_DSN_hides_from_printers_that_look_inside() -> None:
    dsn = parse_dsn(f"account://KEY:{SECRET}@host/bucket?token={SECRET}")
    for text in (repr(dsn), str(dsn), f"{dsn}", repr([dsn]), "%s" % (dsn,), ascii(dsn)):  # noqa: UP031 -- one of the ways
        assert_clean(text, "a printed DSN")
    assert dsn.password == CANARY  # asked for by name: that is its use
    with pytest.raises(dataclasses.FrozenInstanceError):
        dsn.password = "x"  # type: ignore[misc]  # that is what is tested


async def test_S24_no_error_of_the_local_driver_tells_body_or_place(tmp_path: Path) -> None:
    root = tmp_path / CANARY.replace("/", "-")
    body = CANARY.encode() * 10
    with listening() as heard:
        driver = LocalDriver(LocalConfig(root, durability="none"))
        async with trove_async.open(driver) as store:
            await store.create_bucket("bucket")
            await store.put("bucket", "k", body, metadata={"token": CANARY})
            errors = await every_error(store)
            await store.create_bucket("bucket")  # one of the verbs removed it
            await store.put("bucket", "k", body)
            for options in ({"size": 3}, {"size": 10**6}, {"checksum": "sha256:" + "0" * 64}):
                with pytest.raises(TroveError) as caught:
                    await store.put("bucket", "k", body, **options)
                errors.append(caught.value)
            (root / "bucket" / "folder").mkdir()
            os.setxattr(root / "bucket" / "k", "user.trove", body)
            with pytest.raises(TroveError) as caught:
                await store.get_bytes("bucket", "k")
            errors.append(caught.value)
    for error in errors:
        text = f"{error} {error!r} {error.args!r}"
        assert_clean(text, "an error")
        assert str(root) not in text
    assert_clean(heard.getvalue(), "the log")


@pytest.mark.parametrize("text", [d for d in DSNS if "\n" not in d])
def test_S24_the_command_line_tells_no_secret(text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-m", "trove_async.cli", "ls", text],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode not in (0, None)
    assert_clean(done.stdout + done.stderr, "what the command prints")


def sources(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        paths = PACKAGE.glob("*.py") if not folder else (PACKAGE / folder).rglob("*.py")
        for path in paths:
            yield path, ast.parse(path.read_text("utf-8"))


def imported(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_S20_S23_the_core_and_the_local_drivers_open_no_connection() -> None:
    """So there is no address to forge; drivers that do have their own tests."""
    network = {"socket", "ssl", "http", "aiohttp", "httpx", "requests", "urllib3", "ftplib"}
    for path, tree in sources("", "driver", "drivers/memory", "drivers/local"):
        assert not imported(tree) & network, path


def test_S22_nobody_turns_the_checking_of_certificates_off() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text("utf-8")
        for sign in ("CERT_NONE", "verify=False", "check_hostname = False", "_create_unverified"):
            assert sign not in text, path


def test_S26_the_package_starts_no_process() -> None:
    """None, so none that inherits credentials from the environment."""
    for path, tree in sources("", "driver", "drivers", "middleware", "cli"):
        assert not imported(tree) & {"subprocess", "multiprocessing", "pty"}, path
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                assert node.attr not in (
                    *("system", "popen", "fork", "posix_spawn", "execv", "execvp"),
                    *("create_subprocess_exec", "create_subprocess_shell", "ProcessPoolExecutor"),
                ), path
