"""From storage options to an opened store."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Literal, TypeAlias, TypedDict, cast

import trove_async as trove
from trove_async import (
    Driver,
    Interceptor,
    InvalidConfigError,
    Middleware,
    PoolConfig,
    Registration,
    RetryPolicy,
    RouteFunction,
    Timeouts,
    Trove,
)
from trove_async.catalog import Catalog
from trove_async.config import load_config

__all__ = ["Layers", "Opener", "OpenOptions"]

Layers: TypeAlias = (
    Sequence[Middleware | Registration] | Callable[[], Sequence[Middleware | Registration]] | str
)
"""Layers; or a function that makes them, itself or as ``"package.module:function"``. Only the
function can be pickled where layers hold keys, and each process then reads its own."""


class OpenOptions(TypedDict, total=False):
    """Those of `trove_async.open` with their meanings there."""

    backends: Mapping[str, str | Driver]
    routes: Sequence[tuple[str, str] | RouteFunction]
    interceptors: Sequence[Interceptor]
    default_bucket: str | None
    checksum: Literal["blake3", "sha256", "xxh3"] | None
    chunk_size: int
    pool: PoolConfig
    pools: Mapping[str, PoolConfig]
    retry: RetryPolicy
    timeouts: Timeouts
    catalog: str | Catalog | None


class Opener:
    """Checks what can be checked at once; the rest when the store is opened."""

    def __init__(
        self,
        target: str | os.PathLike[str] | Driver | None,
        config: str | os.PathLike[str] | None,
        store: str | None,
        middleware: Layers,
        options: OpenOptions,
    ) -> None:
        unknown = sorted(set(options) - OpenOptions.__optional_keys__)
        if unknown:
            raise TypeError(f"trove:// has no option {', '.join(unknown)}")
        if (target is None) == (config is None):
            raise InvalidConfigError("trove:// needs target=, or config= and store=")
        if store is not None and config is None:
            raise InvalidConfigError("store= names one of the stores of a config=")
        self._target = target
        self._config = config
        self._store = store
        self._middleware = middleware
        self._options = options

    async def __call__(self) -> Trove:
        options: OpenOptions = {**self._options}
        target = self._target
        if self._config is not None:
            target = os.fspath(self._config)
            if self._store is not None:
                settings = load_config(target)
                target = settings.url(self._store)
                if settings.pool is not None:
                    options.setdefault("pool", settings.pool)
                options["pools"] = {**settings.pools, **options.get("pools", {})}
        assert target is not None
        return await trove.open(target, middleware=_layers(self._middleware), **options)


def _layers(given: Layers) -> Sequence[Middleware | Registration]:
    if isinstance(given, str):
        module, colon, name = given.partition(":")
        if not colon or not module or not name:
            raise InvalidConfigError(f"middleware is named package.module:function, not {given!r}")
        try:
            given = cast("Layers", getattr(import_module(module), name))
        except (ImportError, AttributeError) as exc:
            raise InvalidConfigError(f"middleware {module}:{name} cannot be loaded") from exc
    made = given() if callable(given) else given
    return cast("Sequence[Middleware | Registration]", made)
