"""Where a store remembers what it must beside the bytes: what it was told, else the place that
goes with its driver, opened on first use."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from trove_async.driver.base import Driver
from trove_async.driver.capabilities import capability
from trove_async.errors import InvalidConfigError

if TYPE_CHECKING:
    from trove_async.catalog import Catalog

__all__ = ["Remembering"]


@runtime_checkable
class _OnDisk(Protocol):
    @property
    def catalog_path(self) -> str: ...


@runtime_checkable
class _InMemory(Protocol):
    @property
    def beside(self) -> MutableMapping[str, object]: ...


class Remembering:
    def __init__(self, given: str | Catalog | None, driver: Driver) -> None:
        self._given = given
        self._driver = driver
        self._catalog: Catalog | None = None
        if isinstance(given, str):
            from trove_async.catalog import open_catalog

            self._catalog = open_catalog(given)  # so that a wrong one is told at once

    @property
    def is_given(self) -> bool:
        """Named by who opened the store."""
        return self._given is not None

    @property
    def has_own(self) -> bool:
        """The driver has a place beside its objects, which all who use them share."""
        driver = self._driver
        return capability(driver, _OnDisk) is not None or capability(driver, _InMemory) is not None

    async def catalog(self) -> Catalog:
        """InvalidConfigError where none was given and the driver has no place for one."""
        if self._catalog is None:
            self._catalog = self._found()
        await self._catalog.open()
        return self._catalog

    def _found(self) -> Catalog:
        if self._given is not None and not isinstance(self._given, str):
            return self._given
        on_disk = capability(self._driver, _OnDisk)
        if on_disk is not None:
            from trove_async.catalog import SQLCatalog

            return SQLCatalog.at(on_disk.catalog_path)
        in_memory = capability(self._driver, _InMemory)
        if in_memory is not None:
            from trove_async.catalog import MemoryCatalog

            found = in_memory.beside.setdefault("catalog", MemoryCatalog())
            assert isinstance(found, MemoryCatalog)
            return found
        raise InvalidConfigError(
            f"{self._driver.name} has no place for a catalog of its own: open the store with "
            'catalog="sqlite:///path" or catalog="postgresql://..."'
        )

    async def close(self) -> None:
        if self._catalog is not None and self._catalog is not self._given:
            await self._catalog.close()
