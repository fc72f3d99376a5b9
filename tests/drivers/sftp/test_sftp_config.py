"""Connection strings, settings, credentials: what is accepted, and what is never shown."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncssh
import pytest

import trove_async as trove
from tests.drivers.sftp.conftest import Opened
from tests.servers.sshd import Sshd
from trove_async import lookup, parse_dsn
from trove_async.drivers.sftp import SFTPConfig, SFTPDriver
from trove_async.drivers.sftp.config import config_of
from trove_async.errors import (
    InvalidConfigError,
    InvalidDSNError,
    TroveError,
    UnauthenticatedError,
)

SECRET = "canary-5ecret"


def test_a_connection_string_has_every_setting() -> None:
    text = (
        f"sftp://ana:{SECRET}@files.example:2222/srv/trove?key=/k&key_passphrase_env=PASS"
        "&known_hosts=/h&agent=false&connections=7&durability=none"
    )
    config = config_of(parse_dsn(text))
    assert (config.host, config.port, config.user, config.path) == (
        "files.example",
        2222,
        "ana",
        "/srv/trove",
    )
    assert (config.password, config.key, config.key_passphrase_env) == (SECRET, "/k", "PASS")
    assert (config.known_hosts, config.agent) == ("/h", False)
    assert (config.connections, config.durability) == (7, "none")
    plain = config_of(parse_dsn("sftp://files.example/srv"))
    assert (plain.port, plain.user, plain.agent, plain.durability) == (22, None, True, "full")
    assert config_of(parse_dsn("sftp://h/p?agent=/run/agent.sock")).agent == "/run/agent.sock"


@pytest.mark.parametrize(
    "text",
    [
        "sftp:///path",
        "sftp://host",
        "sftp://host/",
        "sftp://host/a/../b",
        "sftp://host/p?nonsense=1",
        "sftp://host/p?connections=0",
        "sftp://host/p?connections=many",
        "sftp://host/p?durability=some",
        "sftp://host/p?agent=perhaps",
        "sftp://host/p?key=",
        "sftp://host/p?key_passphrase_env=X",
    ],
)
def test_a_bad_connection_string_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(InvalidDSNError):
        lookup("sftp")(parse_dsn(text))


@pytest.mark.parametrize(
    "settings",
    [
        {"host": ""},
        {"path": "relative"},
        {"port": 0},
        {"connections": 0},
        {"durability": "half"},
        {"connect_timeout": 0.0},
        {"key_passphrase_env": "X"},
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidConfigError):
        SFTPConfig(**{"host": "h", "path": "/p", **settings})  # type: ignore[arg-type]  # wrong on purpose


def test_a_password_is_never_shown_and_never_pickled() -> None:
    config = SFTPConfig("h", "/p", password=SECRET)
    driver = SFTPDriver(config)
    for text in (repr(config), str(config), repr(driver), str(vars(driver))):
        assert SECRET not in text
    with pytest.raises(TypeError):
        pickle.dumps(config)
    assert driver.dsn is None, "a connection string would tell it"
    assert SFTPDriver(SFTPConfig("h", "/p/ü", user="a b")).dsn is not None


async def test_the_drivers_own_connection_string_opens_the_same_root(opened: Opened) -> None:
    async with opened() as store:
        driver = store.driver
        assert isinstance(driver, SFTPDriver) and driver.dsn is not None
        await store.put("box", "k", b"x")
        async with trove.open(driver.dsn) as other:
            assert await other.get_bytes("box", "k") == b"x"


async def test_a_server_that_accepts_no_credential_is_unauthenticated(sshd: Sshd) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    path = sshd.folder / "stranger"
    other.write_private_key(path)
    for params in ({"key": str(path)}, {"user": SECRET}):
        dsn = sshd.dsn(sshd.new_root(), **({"agent": "false"} | {"key": str(path)}))
        if "user" in params:
            dsn = dsn.replace("sftp://", f"sftp://x:{SECRET}@", 1).replace(f"@{sshd.user}@", "@")
        with pytest.raises(UnauthenticatedError) as raised:
            await trove.open(dsn)
        assert not raised.value.retryable
        assert SECRET not in str(raised.value) + repr(raised.value.__cause__)


async def test_a_key_with_a_passphrase_takes_it_from_the_named_variable(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    key = tmp_path / "locked"
    asyncssh.read_private_key(sshd.key).write_private_key(key, passphrase=SECRET)
    dsn = sshd.dsn(sshd.new_root(), agent="false", key=str(key), key_passphrase_env="TROVE_PASS")
    with pytest.raises(InvalidConfigError, match="TROVE_PASS"):
        await trove.open(dsn)
    monkeypatch.setenv("TROVE_PASS", "wrong")
    with pytest.raises(InvalidConfigError) as raised:
        await trove.open(dsn)
    assert "wrong" not in str(raised.value).replace("is wrong", "")
    monkeypatch.setenv("TROVE_PASS", SECRET)
    async with trove.open(dsn) as store:
        assert (await store.ping())["default"].ok


@pytest.mark.parametrize("name", ["key", "known_hosts"])
async def test_a_file_that_is_not_there_is_named(sshd: Sshd, name: str, tmp_path: Path) -> None:
    dsn = sshd.dsn(sshd.new_root(), **{"agent": "false", name: str(tmp_path / "nothing")})
    with pytest.raises(InvalidConfigError, match="nothing"):
        await trove.open(dsn)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of a real ssh-agent without keys."""
    if shutil.which("ssh-agent") is None:
        pytest.skip("no ssh-agent here: bash .ci/servers (or the package openssh-client)")
    path = tmp_path / "agent.sock"
    command = ["ssh-agent", "-D", "-a", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not path.exists():
            assert process.poll() is None
            time.sleep(0.005)
        yield path
    finally:
        process.kill()
        process.wait()


async def test_the_keys_of_an_agent_are_used(sshd: Sshd, agent: Path) -> None:
    async with asyncssh.connect_agent(str(agent)) as client:
        await client.add_keys([asyncssh.read_private_key(sshd.key)])
    host = f"sftp://{sshd.user}@{sshd.host}:{sshd.port}{sshd.new_root()}"
    async with trove.open(f"{host}?known_hosts={sshd.known_hosts}&agent={agent}") as store:
        assert (await store.ping())["default"].ok


# -- host keys ----------------------------------------------------------------------------------


async def test_a_changed_host_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    known = tmp_path / "known_hosts"
    known.write_text(f"[{sshd.host}]:{sshd.port} {stranger}")
    with pytest.raises(UnauthenticatedError, match="host key") as raised:
        await trove.open(sshd.dsn(sshd.new_root(), agent="false", known_hosts=str(known)))
    assert not raised.value.retryable


async def test_an_unknown_host_is_refused_also_without_a_file(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    root = sshd.new_root()
    with pytest.raises(UnauthenticatedError, match="host key"):
        await trove.open(sshd.dsn(root, agent="false", known_hosts=str(empty)))
    monkeypatch.setenv("HOME", str(tmp_path))  # where there is no ~/.ssh
    dsn = sshd.dsn(root, agent="false").replace("known_hosts", "connections", 1)
    dsn = dsn.replace(f"connections={sshd.known_hosts}", "connections=1")
    with pytest.raises(UnauthenticatedError, match="host key"):
        await trove.open(dsn)
    assert not root.exists()


def test_errors_pickle_and_copy() -> None:
    from trove_async.drivers.sftp.channel import Lost
    from trove_async.drivers.sftp.faults import translate
    from trove_async.drivers.sftp.wire import Failure

    for failure in (Failure(4, "x"), Lost("y", "silent")):
        again = pickle.loads(pickle.dumps(failure))
        assert (again.code, again.text) == (failure.code, failure.text)
        assert isinstance(copy.copy(translate(failure)), TroveError)


def test_a_missing_asyncssh_names_its_extra() -> None:
    code = (
        "import sys; sys.modules['asyncssh'] = None\n"
        "import trove_async\n"
        "try:\n"
        "    trove_async.lookup('sftp')\n"
        "except trove_async.MissingDependencyError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "trove-async[sftp]" in done.stdout


def test_importing_the_front_door_imports_no_asyncssh() -> None:
    code = "import sys, trove_async; print('asyncssh' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
