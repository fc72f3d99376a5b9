"""Every check by name: ``nox -l``. With ``--no-venv`` the running environment is used."""

from __future__ import annotations

import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "conformance", "docs"]
nox.options.error_on_missing_interpreters = False

REPORTS = Path("build", "conformance")
DRIVERS = ("memory", "local")
STACKS = {"bare": None, "transformed": "tests.conformance.stacks:both"}


def install(session: nox.Session, extra: str = "dev") -> None:
    if session.virtualenv.venv_backend != "none":
        session.install("--editable", f".[{extra}]")


@nox.session
def lint(session: nox.Session) -> None:
    install(session)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    install(session)
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The normal suite; arguments go to pytest."""
    install(session)
    session.run("python", "-m", "pytest", "-q", "-n", "2", *session.posargs)


@nox.session(name="tests-on", python=["3.11", "3.12", "3.13", "3.14"])
def tests_on(session: nox.Session) -> None:
    """The normal suite on each Python that is installed."""
    install(session)
    session.run("python", "-m", "pytest", "-q", "-n", "2", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """The plugin's cases against each driver, bare and through transforms; the matrices are
    written to build/conformance as JSON."""
    install(session)
    REPORTS.mkdir(parents=True, exist_ok=True)
    for driver in DRIVERS:
        for stack, transforms in STACKS.items():
            session.run(
                *("python", "-m", "pytest", "-q", "-n", "2"),
                f"--trove-driver=tests.conformance.drivers:{driver}",
                f"--trove-report={REPORTS / f'{driver}-{stack}.json'}",
                *([] if transforms is None else [f"--trove-stack={transforms}"]),
                *session.posargs,
            )


@nox.session
def docs(session: nox.Session) -> None:
    """Every code block of the documentation runs."""
    install(session)
    session.run("python", "-m", "pytest", "-q", "tests/docs", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Every benchmark, or those named: ``nox -s bench -- local memory``."""
    install(session, "bench")
    chosen = session.posargs or [
        file.stem
        for file in sorted(Path("benchmarks").glob("*.py"))
        if "def main(" in file.read_text(encoding="utf-8")
    ]
    for name in chosen:
        session.run("python", f"benchmarks/{name}.py")


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, failing system calls and power cuts. ``-- --quick`` takes the part without strace
    and loop devices; what a machine cannot do is skipped with its reason printed."""
    install(session)
    arguments = list(session.posargs)
    marker = "not slow" if "--quick" in arguments else "slow or not slow"
    arguments = [argument for argument in arguments if argument != "--quick"]
    if shutil.which("strace") is None and marker != "not slow":
        session.warn("no strace here: its sweep will be skipped")
    session.run(
        "python", "-m", "pytest", "-q", "-m", marker, "--timeout=1800", "tests/faults", *arguments
    )
