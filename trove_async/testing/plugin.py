"""The pytest plugin (entry point ``trove_async``): proves a driver.

Either on the command line, with a factory that takes nothing and gives an unopened driver on
fresh storage; then the cases alone are run, unless paths are named as well:

    pytest --trove-driver=package.module:factory [--trove-report=PATH] [--trove-stack=NAME]

or, beside other tests, with a fixture in a conftest.py; the cases are collected with its folder:

    @pytest.fixture
    def trove_driver_factory(tmp_path):
        return lambda: MyDriver(tmp_path)

Transforms that all cases go through: ``--trove-stack=NAME`` (of this package, or of a fixture
``trove_stacks``: a dict of name -> list of middleware), ``--trove-stack=package.module:function``,
or a fixture ``trove_stack`` that gives the list itself.

This module is imported by every pytest run where the package is installed, so it imports
nothing until it is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from trove_async.testing.collecting import CaseModule
    from trove_async.testing.report import Matrix

__all__: list[str] = []

_MATRIX = pytest.StashKey["Matrix"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("trove", "conformance of trove_async drivers")
    group.addoption(
        "--trove-driver",
        metavar="PKG.MOD:FACTORY",
        help="run every conformance case against the drivers this factory makes",
    )
    group.addoption(
        "--trove-report", metavar="PATH", type=Path, help="write the outcomes there as JSON"
    )
    group.addoption(
        "--trove-stack",
        metavar="NAME",
        help="transforms to run the cases through: a known name, one of the fixture "
        "trove_stacks, or PKG.MOD:FUNCTION giving a list of middleware (default: bare)",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--trove-driver") is None:
        return
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = []  # the cases alone


def _matrix(config: pytest.Config) -> Matrix:
    from trove_async.testing.report import Matrix

    return config.stash.setdefault(_MATRIX, Matrix())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    target = config.getoption("--trove-driver")
    if target is not None:
        from trove_async.testing.collecting import cases_of_option

        items.extend(cases_of_option(session, target))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> CaseModule | None:
    if file_path.name != "conftest.py" or parent.config.getoption("--trove-driver") is not None:
        return None
    conftest = parent.config.pluginmanager.get_plugin(str(file_path))
    if getattr(conftest, "trove_driver_factory", None) is None:
        return None
    from trove_async.testing.collecting import CaseModule

    return CaseModule.from_parent(parent, path=file_path)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # with xdist: in the controller only
        session.config.pluginmanager.register(_Heard(session.config), "trove_async_outcomes")


class _Heard:
    """Takes the outcomes down, from this process or from workers."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if any(name == "trove_case" for name, _ in report.user_properties):
            _matrix(self._config).add(report)


def pytest_sessionfinish(session: pytest.Session) -> None:
    path: Path | None = session.config.getoption("--trove-report")
    if path is not None and not hasattr(session.config, "workerinput"):
        _matrix(session.config).write(path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    matrix = terminalreporter.config.stash.get(_MATRIX, None)
    if matrix is not None:
        for line in matrix.lines():
            terminalreporter.write_line(line)
