"""Turns cases into pytest items. They run in event loops of their own, inside plain test
functions, so it does not matter which asyncio plugin the project has, or whether it has one."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import cast

import pytest

from trove_async.driver import Driver
from trove_async.middleware.base import Middleware
from trove_async.testing.case import Case, load_cases
from trove_async.testing.harness import BARE, Stack, run_case
from trove_async.testing.stacks import STACKS

__all__ = ["CaseModule", "cases_of_option"]

DriverFactory = Callable[[], Driver]
NODE = "trove_async.testing"
_USUAL = 60.0
"""Seconds of most cases; and those that a long one may take to open and close, beside its own."""


def named_object(path: str, option: str) -> object:
    """What ``package.module:name`` stands for; a usage error when there is no such thing."""
    module, _, name = path.partition(":")
    if not module or not name:
        raise pytest.UsageError(f"{option}: PKG.MOD:NAME is wanted, not {path!r}")
    try:
        found: object = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as exc:
        raise pytest.UsageError(f"{option}: {path!r} cannot be loaded: {exc}") from exc
    return found


def version_of(driver: Driver) -> str:
    """Its own ``version``, else that of the distribution it comes in."""
    own = getattr(driver, "version", None)
    return own if isinstance(own, str) else _packaged(type(driver).__module__.partition(".")[0])


@cache
def _packaged(top: str) -> str:
    for distribution in (*packages_distributions().get(top, ()), top):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


def _stack(request: pytest.FixtureRequest) -> Stack:
    name = request.config.getoption("--trove-stack")
    if name is None:
        try:
            layers = request.getfixturevalue("trove_stack")
        except pytest.FixtureLookupError:
            return BARE
        return layers if isinstance(layers, Stack) else Stack("trove_stack", lambda: [*layers])
    if name in STACKS:
        return STACKS[name]
    if ":" in name:
        make = cast("Callable[[], Sequence[Middleware]]", named_object(name, "--trove-stack"))
        return Stack(name.rpartition(":")[2], make)
    try:
        own = request.getfixturevalue("trove_stacks")
    except pytest.FixtureLookupError:
        own = {}
    if name not in own:
        known = ", ".join([*STACKS, *own])
        raise pytest.UsageError(f"--trove-stack: unknown stack {name!r} (known: {known})")
    return Stack(name, lambda: [*own[name]])


def _run(
    case: Case, args: tuple[object, ...], factory: DriverFactory, request: pytest.FixtureRequest
) -> None:
    made: list[Driver] = []

    def remembered() -> Driver:
        driver = factory()
        if not made:
            made.append(driver)
        return driver

    stack = _stack(request)
    result = run_case(case, args, remembered, stack)
    facts = {"trove_stack": stack.name}
    if made:
        facts |= {"trove_driver": made[0].name, "trove_version": version_of(made[0])}
    cast("pytest.Item", request.node).user_properties.extend(facts.items())
    if result.outcome == "absent":
        pytest.skip(result.reason)
    if result.outcome == "failed":
        if isinstance(result.error, pytest.skip.Exception):  # the factory's server is not here
            pytest.skip(str(result.error))
        if isinstance(result.error, Exception):
            raise result.error
        raise AssertionError(result.reason) from result.error


def _of_fixture(case: Case, args: tuple[object, ...]) -> Callable[..., None]:
    def check(trove_driver_factory: DriverFactory, request: pytest.FixtureRequest) -> None:
        _run(case, args, trove_driver_factory, request)

    check.__doc__ = case.function.__doc__
    return check


def _of_factory(
    case: Case, args: tuple[object, ...], factory: DriverFactory
) -> Callable[..., None]:
    def check(request: pytest.FixtureRequest) -> None:
        _run(case, args, factory, request)

    check.__doc__ = case.function.__doc__
    return check


class CaseModule(pytest.Module):
    """All cases, as the content of one file: a conftest.py, or none in particular."""

    factory: DriverFactory | None = None

    def _getobj(self) -> types.ModuleType:
        return types.ModuleType(NODE)

    def collect(self) -> Iterator[pytest.Function]:
        for cases in load_cases().values():
            for case in cases:
                for name, args in case.nodes():
                    check = (
                        _of_fixture(case, args)
                        if self.factory is None
                        else _of_factory(case, args, self.factory)
                    )
                    item = pytest.Function.from_parent(self, name=name, callobj=check)
                    is_long = case.timeout > _USUAL
                    if is_long and self.config.pluginmanager.hasplugin("timeout"):
                        # A limit of its own, which a project's must not undercut.
                        item.add_marker(pytest.mark.timeout(case.timeout + _USUAL))
                    item.user_properties += [("trove_case", case.id), ("trove_target", self.nodeid)]
                    yield item


def cases_of_option(session: pytest.Session, path: str) -> list[pytest.Function]:
    here = str(session.config.invocation_params.dir)
    if here not in sys.path:
        sys.path.append(here)  # as `python -m pytest` does; the author's module is found
    factory = named_object(path, "--trove-driver")
    if not callable(factory):
        raise pytest.UsageError(f"--trove-driver: {path!r} is not callable")
    module = CaseModule.from_parent(session, path=Path(__file__), nodeid=NODE)
    module.factory = cast("DriverFactory", factory)
    return [*module.collect()]
