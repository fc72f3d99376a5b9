"""A thing that is opened by `await` or by `async with`, as its user likes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

__all__ = ["Opening"]

T = TypeVar("T", bound=AbstractAsyncContextManager[Any])


class Opening(Generic[T]):
    """``await`` it for the open thing, or enter it and have it closed.

    Nothing happens before, so an unused Opening costs and warns nothing. Leaving the block
    delegates to the thing's own ``__aexit__``, which sees the exception.
    """

    __slots__ = ("_opened", "_start")

    def __init__(self, start: Callable[[], Awaitable[T]]) -> None:
        self._start = start
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, Any, T]:
        return self._start().__await__()

    async def __aenter__(self) -> T:
        opened = await self._start()
        self._opened = opened
        entered: T = await opened.__aenter__()
        return entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        opened, self._opened = self._opened, None
        if opened is None:
            return None
        return await opened.__aexit__(kind, error, traceback)
