"""Every check by name: ``nox -l``. With ``--no-venv`` the running environment is used."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "types", "tests", "conformance", "docs"]
nox.options.error_on_missing_interpreters = False

REPORTS = Path("build", "conformance")
STACKS = {
    "bare": None,
    "seekable": "tests.conformance.stacks:xor",
    "stream": "tests.conformance.stacks:flip",
    "both": "tests.conformance.stacks:both",
    "compress": "compress",
    "encrypt": "encrypt",
    "compress+encrypt": "compress+encrypt",
    "compress+bound": "compress+bound",
    "dedup": "dedup",
    "dedup+encrypt": "dedup+encrypt",
}
REMOTE = ("bare", "compress+encrypt")  # a run takes minutes, and the layers are proved on others
DRIVERS = {  # name -> factory, and the stacks it is run with
    "memory": ("tests.conformance.drivers:memory", tuple(STACKS)),
    "local": ("tests.conformance.drivers:local", tuple(STACKS)),
    "fsspec-memory": ("tests.conformance.fsspec_drivers:memory", REMOTE),
    "fsspec-local": ("tests.conformance.fsspec_drivers:local", REMOTE),
}
SERVERS = {
    "sftp": ("tests.conformance.sftp_drivers:sftp", REMOTE),
    "s3-moto": ("tests.conformance.s3_drivers:moto", REMOTE),
    "s3-moto-versioned": ("tests.conformance.s3_drivers:moto_versioned", ("bare",)),
    "s3-moto-sdk": ("tests.conformance.s3_drivers:moto_sdk", ("bare",)),
    "s3-rclone": ("tests.conformance.s3_drivers:rclone", REMOTE),
    "gcs": ("tests.conformance.gcs_drivers:gcs", REMOTE),
    "gcs-json": ("tests.conformance.gcs_drivers:gcs_json", ("bare",)),
    "gcs-versioned": ("tests.conformance.gcs_drivers:gcs_versioned", ("bare",)),
    "azure": ("tests.conformance.azure_drivers:azurite", REMOTE),
}


def python(session: nox.Session, *arguments: str) -> None:
    """The environment's own Python; without one, that which runs nox, whatever PATH says."""
    own = session.virtualenv.venv_backend != "none"
    session.run("python" if own else sys.executable, *arguments, external=not own)


def install(session: nox.Session, extra: str = "dev") -> None:
    if session.virtualenv.venv_backend != "none":
        session.install("--editable", f".[{extra}]")


@nox.session
def lint(session: nox.Session) -> None:
    install(session)
    python(session, "-m", "ruff", "check", ".")
    python(session, "-m", "ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    install(session)
    python(session, "-m", "mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """The normal suite; arguments go to pytest."""
    install(session)
    python(session, "-m", "pytest", "-q", "-n", "2", *session.posargs)


@nox.session(name="tests-on", python=["3.11", "3.12", "3.13", "3.14"])
def tests_on(session: nox.Session) -> None:
    """The normal suite on each Python that is installed."""
    install(session)
    python(session, "-m", "pytest", "-q", "-n", "2", *session.posargs)


def matrices(session: nox.Session, drivers: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    """Arguments go to pytest, but for names of ``drivers``: then only those."""
    install(session)
    REPORTS.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in session.posargs if name in drivers] or [*drivers]
    arguments = [argument for argument in session.posargs if argument not in drivers]
    failed = []
    for driver in chosen:
        factory, stacks = drivers[driver]
        for stack in stacks:
            transforms = STACKS[stack]
            try:
                python(
                    session,
                    *("-m", "pytest", "-q", "-n", "2"),
                    f"--trove-driver={factory}",
                    f"--trove-report={REPORTS / f'{driver}-{stack}.json'}",
                    *([] if transforms is None else [f"--trove-stack={transforms}"]),
                    *arguments,
                )
            except CommandFailed:
                failed.append(f"{driver} {stack}")  # the other matrices are still wanted
    if failed:
        session.error(f"failed: {', '.join(failed)}")


@nox.session
def conformance(session: nox.Session) -> None:
    """The plugin's cases against memory and local, bare and through every stack of layers; the
    matrices are written to build/conformance as JSON."""
    matrices(session, DRIVERS)


@nox.session(name="conformance-servers")
def conformance_servers(session: nox.Session) -> None:
    """The same against real servers, all or by name: ``-- sftp s3-rclone``. Minutes for each on
    two cores; a sample of each runs in the normal suite."""
    matrices(session, SERVERS)


@nox.session
def docs(session: nox.Session) -> None:
    """Every code block of the documentation runs."""
    install(session)
    python(session, "-m", "pytest", "-q", "tests/docs", *session.posargs)


@nox.session
def integrations(session: nox.Session) -> None:
    """pandas, polars, pyarrow, dask, zarr and duckdb through a compressed and encrypted store."""
    install(session, "integrations")
    python(session, "-m", "pytest", "-q", "tests/integrations", *session.posargs)


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
        python(session, f"benchmarks/{name}.py")


@nox.session
def faults(session: nox.Session) -> None:
    """Kills, failing system calls and power cuts. ``-- --quick`` takes a small part of each;
    what a machine cannot do is skipped with its reason printed."""
    install(session)
    arguments = list(session.posargs)
    marker = "not slow" if "--quick" in arguments else "slow or not slow"
    arguments = [argument for argument in arguments if argument != "--quick"]
    if shutil.which("strace") is None and marker != "not slow":
        session.warn("no strace here: its sweep will be skipped")
    chosen = ("-q", "-m", marker, "--timeout=1800", "tests/faults", "tests/uploads", *arguments)
    python(session, "-m", "pytest", *chosen)


@nox.session
def slow(session: nox.Session) -> None:
    """The long sweeps of all other rooms; arguments go to pytest: ``-- tests/stream``."""
    install(session)
    chosen = session.posargs or ["tests", "--ignore=tests/faults", "--ignore=tests/uploads"]
    python(session, "-m", "pytest", "-q", "-m", "slow", "--timeout=1800", *chosen)


@nox.session
def fuzz(session: nox.Session) -> None:
    """A million broken inputs for each reader of bytes that anybody may have made; arguments
    go to tests.fuzz.run: ``nox -s fuzz -- --count 10000 encrypted``."""
    install(session)
    python(session, "-m", "tests.fuzz.run", *session.posargs)
