"""One database: its engine, its transactions, its schema brought up to date."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from sqlalchemy import event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from trove_async._threads import settle
from trove_async.catalog.schema import MIGRATIONS
from trove_async.errors import (
    BackendError,
    InvalidConfigError,
    MissingDependencyError,
    TroveError,
    UnavailableError,
    UnsupportedFormatError,
)

__all__ = ["Database", "TakenMeanwhile"]

T = TypeVar("T")

_PATIENCE: Final = 30.0
"""Seconds SQLite waits for the writer of another process."""
_MIGRATING: Final = 0x74726F7665  # "trove": the key of PostgreSQL's advisory lock


_TRIES: Final = 50


class TakenMeanwhile(Exception):
    """Another transaction has inserted the row."""


def _is_in_the_way(error: DBAPIError) -> bool:
    """PostgreSQL chose this transaction to end a deadlock, or could not serialize it."""
    return getattr(error.orig, "sqlstate", None) in ("40P01", "40001")


class Database:
    """Opened on first use. Work that began ends, also when its caller is cancelled: so that a
    connection is never left in the middle."""

    def __init__(self, url: str | URL) -> None:
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise InvalidConfigError("catalog: not the URL of a database") from None
        backend = parsed.drivername.partition("+")[0]
        self.is_sqlite = backend == "sqlite"
        self._url = parsed.set(
            drivername="sqlite+aiosqlite" if self.is_sqlite else "postgresql+asyncpg"
        )
        if self.is_sqlite and not parsed.database:
            raise InvalidConfigError("catalog: sqlite:///path needs a path")
        self._engine: AsyncEngine | None = None
        self._writer: Writer | None = None
        self._opening: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Database {self._url.render_as_string(hide_password=True)}>"

    @property
    def folder(self) -> str | None:
        if not self.is_sqlite:
            return None
        return os.path.dirname(os.path.abspath(self._url.database or ""))

    async def open(self) -> None:
        if self._engine is not None:
            return
        if self._opening is None:
            self._opening = asyncio.create_task(self._open())
        try:
            await settle(self._opening)
        finally:
            if self._opening is not None and self._opening.done():
                self._opening = None

    async def _open(self) -> None:
        if self.is_sqlite:
            _make_private(self._url.database or "")
        engine = _engine(self._url, self.is_sqlite)
        try:
            with _translated():
                await _migrate(engine, self.is_sqlite)
        except BaseException:
            await engine.dispose()
            raise
        self._engine = engine

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        writer, self._writer = self._writer, None
        try:
            if writer is not None:
                await settle(asyncio.ensure_future(writer.close()))
        finally:
            if engine is not None:
                await settle(asyncio.ensure_future(engine.dispose()))

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        async def run(engine: AsyncEngine) -> T:
            async with engine.connect() as connection:
                auto = await connection.execution_options(isolation_level="AUTOCOMMIT")
                return await work(auto)

        return await self._run(run)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """One transaction; durable when this returns. It is done again where another one was in
        its way, so ``work`` begins anew each time."""

        async def run(engine: AsyncEngine) -> T:
            tries = _TRIES
            while True:
                try:
                    async with engine.begin() as connection:
                        return await work(connection)
                except TakenMeanwhile as exc:
                    tries -= 1
                    if not tries:
                        raise UnavailableError("other writers of the catalog are first") from exc
                except DBAPIError as exc:
                    tries -= 1
                    if not tries or not _is_in_the_way(exc):
                        raise

        return await self._run(run)

    async def visit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs ``work`` in the one writer thread of an SQLite file; it makes its own
        transactions. For what is asked often: one hop for any number of statements."""
        await self.open()
        if self._writer is None:
            self._writer = Writer(self._url.database or "")
        with _translated():
            return await settle(self._writer.run(work))

    async def _run(self, job: Callable[[AsyncEngine], Awaitable[T]]) -> T:
        await self.open()
        engine = self._engine
        assert engine is not None

        async def run() -> T:
            with _translated():
                return await job(engine)

        return await settle(asyncio.ensure_future(run()))


class Writer:
    """One connection in one thread."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="trove-catalog")
        self._connection: sqlite3.Connection | None = None

    def run(self, work: Callable[[sqlite3.Connection], T]) -> asyncio.Future[T]:
        def job() -> T:
            if self._connection is None:
                self._connection = self._connected()
            return work(self._connection)

        return asyncio.get_running_loop().run_in_executor(self._thread, job)

    def _connected(self) -> sqlite3.Connection:
        """Durable in every transaction, or not used at all."""
        connection = sqlite3.connect(self._path, timeout=_PATIENCE, isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection

    async def close(self) -> None:
        def end() -> None:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

        await asyncio.get_running_loop().run_in_executor(self._thread, end)
        self._thread.shutdown()  # it has nothing left to do


class _translated:
    """The errors of the database as ours; none of them shows a password."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TroveError):
            return
        if isinstance(error, OperationalError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        ):
            raise UnavailableError(f"the catalog does not answer: {error.orig}") from error
        if isinstance(error, sqlite3.OperationalError):
            raise UnavailableError(f"the catalog does not answer: {error}") from error
        if isinstance(error, SQLAlchemyError | sqlite3.Error):
            raise BackendError(f"the catalog failed: {type(error).__name__}") from error
        if type(error).__module__.startswith("asyncpg"):  # of a connection that is not made
            if type(error).__name__ in ("CannotConnectNowError", "TooManyConnectionsError"):
                raise UnavailableError("the catalog takes no connection now") from error
            raise BackendError(f"the catalog refused: {type(error).__name__}") from error
        if isinstance(error, OSError):  # no server there
            raise UnavailableError(f"the catalog is not reached: {error.strerror}") from error


def _engine(url: URL, is_sqlite: bool) -> AsyncEngine:
    try:
        if not is_sqlite:
            return create_async_engine(url, pool_size=4, pool_pre_ping=True)
        engine = create_async_engine(url, pool_size=4, connect_args={"timeout": _PATIENCE})
    except ImportError as exc:
        raise MissingDependencyError('pip install "trove-async[sql]"') from exc

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, record: object) -> None:
        connection.isolation_level = None  # transactions begin where we say, not at the first DML
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")  # what was acknowledged survives a power cut
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        # A read that turns into a write fails at once when another process wrote meanwhile;
        # who takes the writer's place first waits for it instead.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _make_private(path: str) -> None:
    """Folder 0700 and file 0600 where they are not there yet."""
    if path == ":memory:":
        raise InvalidConfigError("catalog: memory:// is the catalog in memory")
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise InvalidConfigError(f"catalog: {path}: {exc.strerror}") from exc
    if not is_file:
        raise InvalidConfigError(f"catalog: {path} is no file")


async def _migrate(engine: AsyncEngine, is_sqlite: bool) -> None:
    """Every step that is missing, in one transaction; of many processes one does it."""
    async with engine.begin() as connection:
        if not is_sqlite:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_MIGRATING})"))
        await connection.execute(
            text("CREATE TABLE IF NOT EXISTS trove_catalog (version INTEGER NOT NULL)")
        )
        found = (await connection.execute(text("SELECT version FROM trove_catalog"))).scalar()
        if found is None:
            found = 0
            await connection.execute(text("INSERT INTO trove_catalog (version) VALUES (0)"))
        if found > len(MIGRATIONS):
            raise UnsupportedFormatError(
                f"the catalog has version {found}, this package knows up to {len(MIGRATIONS)}"
            )
        for statements in MIGRATIONS[found:]:
            for statement in statements:
                await connection.execute(text(statement))
        if found < len(MIGRATIONS):
            await connection.execute(
                text("UPDATE trove_catalog SET version = :version"), {"version": len(MIGRATIONS)}
            )
