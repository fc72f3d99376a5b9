"""Settings of a store. Each has an effect; what has none does not exist."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from trove_async.errors import InvalidConfigError
from trove_async.model import Seconds, seconds
from trove_async.stream.settings import Backpressure, PoolConfig

__all__ = ["PoolConfig", "RetryPolicy", "StoreConfig", "Timeouts", "load_config"]


@dataclass(frozen=True, slots=True, init=False)
class RetryPolicy:
    """How often an idempotent operation with a replayable body is tried again.

    Delays grow exponentially with full jitter (AWS Architecture Blog, "Exponential
    Backoff and Jitter"); a backend's Retry-After is honoured up to `maximum`.
    """

    attempts: int = 4
    """Tries in all; 1 turns retrying off."""
    base: float = 0.1
    """Upper bound of the first delay, seconds; doubles each time."""
    maximum: float = 10.0
    """Seconds no single delay exceeds."""
    deadline: float = 60.0
    """Seconds after the first failure when no new try begins. Progress of a body that is read
    starts them anew."""

    def __init__(
        self,
        attempts: int = 4,
        base: Seconds = 0.1,
        maximum: Seconds = 10.0,
        deadline: Seconds = 60.0,
    ) -> None:
        if attempts < 1:
            raise ValueError("attempts must be at least 1")
        object.__setattr__(self, "attempts", attempts)
        for name, given in (("base", base), ("maximum", maximum), ("deadline", deadline)):
            value = seconds(given)
            if not value >= 0:  # nor NaN
                raise ValueError(f"{name} must not be negative")
            object.__setattr__(self, name, value)

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after failed try number ``attempt`` (from 1)."""
        if retry_after is not None:
            return min(self.maximum, max(0.0, retry_after))  # in this order NaN is 0
        ceiling = min(self.maximum, self.base * 2.0 ** min(attempt - 1, 30))
        import random  # only who retries needs it: 1.5 ms of import

        return random.uniform(0, ceiling)


@dataclass(frozen=True, slots=True, init=False)
class Timeouts:
    """Seconds; ``None`` is no limit."""

    connect: float | None = 10.0
    """To open a driver and each of its connections."""
    read: float | None = 60.0
    """Without progress: no answer, no byte. Server-side copies are bounded by `total` only."""
    total: float | None = None
    """For a whole operation, the body included."""

    def __init__(
        self,
        connect: Seconds | None = 10.0,
        read: Seconds | None = 60.0,
        total: Seconds | None = None,
    ) -> None:
        for name, given in (("connect", connect), ("read", read), ("total", total)):
            value = None if given is None else seconds(given)
            if value is not None and not value > 0:  # nor NaN
                raise ValueError(f"timeout {name} must be positive or None")
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """What a ``trove.toml`` says. ``repr`` hides the DSNs, which may hold secrets."""

    target: str
    backends: Mapping[str, str]
    routes: tuple[tuple[str, str], ...]
    pool: PoolConfig | None = None
    pools: Mapping[str, PoolConfig] = field(default_factory=dict)
    default: str = "default"
    """The name of the store that is ``target``."""

    def url(self, name: str) -> str:
        """The DSN of one store; InvalidConfigError when there is none of that name."""
        if name == self.default:
            return self.target
        if name not in self.backends:
            known = ", ".join(sorted({self.default, *self.backends}))
            raise InvalidConfigError(f"no store named {name!r} (there are: {known})")
        return self.backends[name]

    def __repr__(self) -> str:
        return f"StoreConfig(backends={sorted(self.backends)}, routes={len(self.routes)})"


def load_config(path: str | os.PathLike[str]) -> StoreConfig:
    """Reads a ``trove.toml``. Unknown keys are InvalidConfigError.

    default = "primary"
    [stores.primary]
    url = "file:///var/data/trove"
    [stores.archive]
    url = "s3://${ARCHIVE_KEYS}@archive"     # ${NAME}: from the environment
    [[routes]]
    match = "logs/**"
    store = "archive"
    [pool]                                   # of streams that name none
    max_streams = 32
    [pools.bulk]
    max_bandwidth = 10_000_000
    """
    import tomllib

    try:
        with open(path, "rb") as file:
            data = tomllib.load(file)
    except OSError as exc:
        raise InvalidConfigError(f"cannot read {os.fspath(path)!r}: {exc.strerror}") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise InvalidConfigError(f"{os.fspath(path)!r} is no TOML: {exc}") from exc
    _only(data, "the file", "default", "stores", "routes", "pool", "pools")
    stores = data.get("stores")
    if not isinstance(stores, dict) or not stores:
        raise InvalidConfigError("no [stores.NAME] in the file")
    urls: dict[str, str] = {}
    for name, table in stores.items():
        _only(table, f"stores.{name}", "url")
        urls[name] = _expanded(_text(table, "url", f"stores.{name}"))
    default = data.get("default", next(iter(urls)) if len(urls) == 1 else None)
    if not isinstance(default, str) or default not in urls:
        raise InvalidConfigError("default must name one of the stores")
    if "default" in urls and default != "default":
        raise InvalidConfigError("a store named 'default' is the default one")
    routes = []
    listed = data.get("routes", [])
    if not isinstance(listed, list):
        raise InvalidConfigError("routes are written as [[routes]]")
    for number, route in enumerate(listed, 1):
        where = f"route {number}"
        _only(route, where, "match", "store")
        store = _text(route, "store", where)
        if store not in urls:
            raise InvalidConfigError(f"{where}: no store named {store!r}")
        name = "default" if store == default else store
        routes.append((_text(route, "match", where).replace("**", "*"), name))
    backends = {name: url for name, url in urls.items() if name != default}
    pool = _pool(data["pool"], "pool") if "pool" in data else None
    named = data.get("pools", {})
    if not isinstance(named, dict):
        raise InvalidConfigError("pools are written as [pools.NAME]")
    pools = {name: _pool(table, f"pools.{name}") for name, table in named.items()}
    return StoreConfig(urls[default], backends, tuple(routes), pool, pools, default)


def _pool(table: object, where: str) -> PoolConfig:
    _only(table, where, *PoolConfig.__annotations__)
    assert isinstance(table, dict)
    settings = dict(table)
    try:
        if "backpressure" in settings:
            settings["backpressure"] = Backpressure(settings["backpressure"])
        return PoolConfig(**settings)
    except (TypeError, ValueError) as exc:
        raise InvalidConfigError(f"{where}: {exc}") from exc


def _only(table: object, where: str, *known: str) -> None:
    if not isinstance(table, dict):
        raise InvalidConfigError(f"{where} is no table")
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise InvalidConfigError(f"{where}: unknown key {', '.join(unknown)}")


def _text(table: Mapping[str, object], name: str, where: str) -> str:
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise InvalidConfigError(f"{where}: {name} must be text")
    return value


def _expanded(text: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise InvalidConfigError(f"the environment has no {match[1]}")
        return found

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", value, text)
