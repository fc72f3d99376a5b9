"""What must be remembered beside the bytes: upload sessions, and the index of
content-addressed storage.

``memory://`` lasts as long as the process; ``sqlite:///path`` is a file that the processes of
one machine share; ``postgresql://...`` is for many machines. Importing this loads neither
SQLAlchemy nor a database driver.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

from trove_async.catalog.clock import utc_now
from trove_async.errors import InvalidConfigError
from trove_async.stream.session import SessionCatalog

if TYPE_CHECKING:
    from trove_async.catalog.memory import MemoryCatalog
    from trove_async.catalog.sql import SQLCatalog

__all__ = ["Catalog", "MemoryCatalog", "SQLCatalog", "open_catalog", "utc_now"]

Catalog: TypeAlias = SessionCatalog

_shared: dict[str, MemoryCatalog] = {}


def open_catalog(url: str, *, clock: Callable[[], datetime] = utc_now) -> Catalog:
    """The catalog a URL names, not yet open. InvalidConfigError, which shows no password.

    ``memory://`` is a new one each time, ``memory://name`` is shared in the process."""
    scheme, separator, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if separator and kind == "memory":
        from trove_async.catalog.memory import MemoryCatalog

        made = MemoryCatalog(clock=clock)
        return _shared.setdefault(rest, made) if rest else made
    if separator and kind in ("sqlite", "postgresql", "postgres"):
        from trove_async.catalog.sql import SQLCatalog

        return SQLCatalog(url, clock=clock)
    raise InvalidConfigError(
        f"catalog: {scheme if separator else 'that'!r} is none of sqlite:///path, "
        "postgresql://..., memory://"
    )


def __getattr__(name: str) -> object:
    if name == "MemoryCatalog":
        from trove_async.catalog.memory import MemoryCatalog

        return MemoryCatalog
    if name == "SQLCatalog":
        from trove_async.catalog.sql import SQLCatalog

        return SQLCatalog
    raise AttributeError(name)
