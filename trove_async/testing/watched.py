"""Notes every error that comes out of a driver, without wrapping the driver.

A wrapper would hide attributes and capabilities; so the methods of the one instance are
replaced by noting ones.
"""

from __future__ import annotations

import functools
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from trove_async.driver import Driver
from trove_async.testing.needs import CAPABILITIES

__all__ = ["ErrorLog", "unwatch", "watch_errors"]

P = ParamSpec("P")
T = TypeVar("T")

_VERBS = sorted(
    {
        name
        for protocol in (Driver, *CAPABILITIES.values())
        for name, member in vars(protocol).items()
        if inspect.iscoroutinefunction(member)
    }
)


class ErrorLog:
    """What drivers were asked and what they raised during one case.

    Errors are noted by class and text: keeping them would keep alive all that their
    tracebacks hold."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.seen: list[tuple[str, type[BaseException], str]] = []


def _noting(
    name: str, method: Callable[P, Awaitable[T]], log: ErrorLog
) -> Callable[P, Awaitable[T]]:
    @functools.wraps(method)
    async def noted(*args: P.args, **kwargs: P.kwargs) -> T:
        log.calls[name] += 1
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            log.seen.append((name, type(error), str(error)))
            raise

    return noted


def watch_errors(driver: object, log: ErrorLog) -> None:
    """Once per driver; one that allows no attributes is left as it is."""
    if not hasattr(driver, "__dict__") or "_noting" in vars(driver):
        return
    vars(driver)["_noting"] = log
    for name in _VERBS:
        method = getattr(driver, name, None)
        if method is not None and inspect.iscoroutinefunction(method):
            vars(driver)[name] = _noting(name, method, log)


def unwatch(driver: object) -> None:
    """Gives a driver its own methods back, and so breaks the cycle that would keep it alive."""
    if vars(driver).pop("_noting", None) is not None:
        for name in _VERBS:
            vars(driver).pop(name, None)
