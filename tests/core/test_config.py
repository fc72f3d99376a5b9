"""Settings: what they mean, what they refuse; and the file that names stores and routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import trove_async as trove
from trove_async import InvalidConfigError, InvalidDSNError, RetryPolicy, Timeouts
from trove_async.config import load_config

FULL = """
default = "primary"

[stores.primary]
url = "mem://"

[stores.archive]
url = "mem://"

[[routes]]
match = "logs/**"
store = "archive"

[[routes]]
match = "logs/keep/*"
store = "primary"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "trove.toml"


async def test_the_file_names_stores_and_routes(toml: Path) -> None:
    toml.write_text(FULL)
    async with trove.open(toml) as store:
        assert list(await store.ping()) == ["default", "archive"]
        await store.create_bucket("box")
        await store.put("box", "logs/a/b", b"far")
        await store.put("box", "data", b"near")
        archive, primary = store.backend("archive"), store.backend("default")
        assert await archive.get_bytes("box", "logs/a/b") == b"far"
        assert await primary.get_bytes("box", "data") == b"near"
        assert not await primary.exists("box", "logs/a/b")
        assert [info.key async for info in store.list("box") if isinstance(info, trove.ObjectInfo)]


async def test_what_the_caller_gives_comes_before_the_file(toml: Path) -> None:
    toml.write_text(FULL)
    async with trove.open(
        toml, backends={"mine": "mem://"}, routes=[("logs/**", "mine")], default_bucket="box"
    ) as store:
        await store.create_bucket("box")
        await store.put(None, "logs/a", b"x")
        assert await store.backend("mine").exists("box", "logs/a")
        assert not await store.backend("archive").exists("box", "logs/a")


def test_a_single_store_is_the_default(toml: Path) -> None:
    toml.write_text('[stores.only]\nurl = "mem://x"\n')
    config = load_config(toml)
    assert (config.target, config.backends, config.routes) == ("mem://x", {}, ())


def test_names_in_braces_come_from_the_environment(
    toml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARCHIVE_KEYS", "AKID:hunter2")
    toml.write_text('[stores.a]\nurl = "s3://${ARCHIVE_KEYS}@archive?note=$PATH${ARCHIVE_KEYS}"\n')
    config = load_config(toml)
    assert config.target == "s3://AKID:hunter2@archive?note=$PATHAKID:hunter2"
    assert "hunter2" not in repr(config)
    monkeypatch.delenv("ARCHIVE_KEYS")
    with pytest.raises(InvalidConfigError, match="ARCHIVE_KEYS"):
        load_config(toml)


STORE = '[stores.a]\nurl = "mem://"\n'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "stores = 1",
        "[stores]\n",
        "[stores]\na = 1\n",
        "[stores.a]\n",
        "[stores.a]\nurl = 1\n",
        '[stores.a]\nurl = ""\n',
        '[stores.a]\nurl = "mem://"\nsize = 1\n',
        "surprise = 1\n" + STORE,
        'default = "b"\n' + STORE,
        "default = 1\n" + STORE,
        STORE + '[stores.b]\nurl = "mem://"\n',
        'default = "a"\n' + STORE + '[stores.default]\nurl = "mem://"\n',
        "routes = 1\n" + STORE,
        "routes = [1]\n" + STORE,
        '[[routes]]\nmatch = "x"\n' + STORE,
        '[[routes]]\nstore = "a"\n' + STORE,
        '[[routes]]\nmatch = "x"\nstore = "b"\n' + STORE,
        '[[routes]]\nmatch = "x"\nstore = "a"\nwhy = 1\n' + STORE,
        STORE + "a = = 1",
    ],
)
def test_a_wrong_file_is_refused(toml: Path, text: str) -> None:
    toml.write_text(text)
    with pytest.raises(InvalidConfigError):
        load_config(toml)


def test_a_file_that_cannot_be_read_is_refused(toml: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidConfigError, match=r"trove\.toml"):
        load_config(toml)
    with pytest.raises(InvalidConfigError):
        load_config(tmp_path)
    toml.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidConfigError):
        load_config(toml)


async def test_a_wrong_connection_string_in_the_file_is_not_repeated(toml: Path) -> None:
    toml.write_text('[stores.a]\nurl = "nosuch://me:hunter2@x"\n')
    with pytest.raises(InvalidDSNError) as caught:
        await trove.open(toml)
    assert "hunter2" not in str(caught.value)


def test_S13_the_file_is_data_only(toml: Path, tmp_path: Path) -> None:
    toml.write_text("[stores.a]\nurl = \"mem://${__import__('os').system('touch x')}\"\n")
    assert load_config(toml).target.startswith("mem://${__import__")


# -- settings ------------------------------------------------------------------------------------


def test_the_defaults_are_those_promised() -> None:
    policy, timeouts = RetryPolicy(), Timeouts()
    assert (policy.attempts, policy.base, policy.maximum, policy.deadline) == (4, 0.1, 10.0, 60.0)
    assert (timeouts.connect, timeouts.read, timeouts.total) == (10.0, 60.0, None)


@pytest.mark.parametrize(
    "wrong",
    [{"attempts": 0}, {"attempts": -1}, {"base": -1.0}, {"maximum": -0.1}, {"deadline": -1.0}],
)
def test_a_retry_policy_refuses_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("name", ["connect", "read", "total"])
@pytest.mark.parametrize("value", [0, -1.0])
def test_a_timeout_is_positive_or_none(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        Timeouts(**{name: value})
    assert getattr(Timeouts(**{name: None}), name) is None


def test_delays_grow_to_the_maximum_with_full_jitter() -> None:
    policy = RetryPolicy(base=0.1, maximum=1.0)
    for attempt, ceiling in ((1, 0.1), (2, 0.2), (3, 0.4), (4, 0.8), (5, 1.0), (5000, 1.0)):
        delays = [policy.delay(attempt) for _ in range(200)]
        assert 0 <= min(delays) < ceiling / 2 < max(delays) <= ceiling
    assert policy.delay(1, 0.7) == 0.7
    assert policy.delay(1, 60.0) == 1.0
    assert policy.delay(1, -5.0) == 0.0


def test_settings_cannot_be_changed_under_a_running_store() -> None:
    with pytest.raises(AttributeError):
        RetryPolicy().base = 1.0  # type: ignore[misc]  # that is the test
    with pytest.raises(AttributeError):
        Timeouts().read = 1.0  # type: ignore[misc]  # that is the test
