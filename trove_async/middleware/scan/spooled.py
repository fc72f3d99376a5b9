"""For scanners that want a whole file at hand."""

from __future__ import annotations

import asyncio
import inspect
import os
import tempfile
from collections.abc import Awaitable, Callable
from typing import IO, Final, TypeVar

from trove_async._threads import io_pool, settle
from trove_async.driver.base import Bytes
from trove_async.errors import BackendError
from trove_async.middleware.base import Context
from trove_async.middleware.scan.scanner import Verdict

__all__ = ["Spooled"]

MiB: Final = 1024 * 1024
Examine = Callable[[IO[bytes], Context], Verdict | Awaitable[Verdict]]
T = TypeVar("T")


class Spooled:
    """A scanner made of ``examine(file, context) -> Verdict``, plain or async.

    ``file`` is binary, complete and at its start. A plain function runs in a worker thread;
    a cancelled put waits for its end. Bodies over ``memory`` bytes are held in a file of
    mode 0600 without a name in ``directory`` (the system's temporary one): *plaintext on
    disk*, which is not for stores that encrypt. A file that cannot be written is a
    BackendError.
    """

    def __init__(
        self,
        examine: Examine,
        *,
        memory: int = MiB,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        if memory < 1:
            raise ValueError("memory must be positive")
        self._examine = examine
        self._memory = memory
        self._directory = os.fspath(directory) if directory is not None else None

    async def session(self, context: Context) -> _Spool:
        return _Spool(self._examine, context, self._memory, self._directory)


class _Spool:
    __slots__ = ("_context", "_count", "_examine", "_file", "_memory")

    def __init__(
        self, examine: Examine, context: Context, memory: int, directory: str | None
    ) -> None:
        self._examine = examine
        self._context = context
        self._memory = memory
        self._count = 0
        # Without a name from the start (O_TMPFILE), or unlinked at once.
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 -- see aclose
            memory, dir=directory
        )

    async def feed(self, chunk: Bytes) -> None:
        self._count += len(chunk)
        try:
            if self._count <= self._memory:
                self._file.write(chunk)
            else:
                await _in_thread(lambda: self._file.write(chunk))
        except OSError as exc:
            raise _not_spooled() from exc

    async def finish(self) -> Verdict:
        try:
            self._file.seek(0)  # writes what is still buffered
        except OSError as exc:
            raise _not_spooled() from exc
        result: Verdict | Awaitable[Verdict]
        if inspect.iscoroutinefunction(self._examine):
            result = self._examine(self._file, self._context)
        else:
            result = await _in_thread(self._examined)
        return await result if inspect.isawaitable(result) else result

    def _examined(self) -> Verdict | Awaitable[Verdict]:
        return self._examine(self._file, self._context)

    async def aclose(self) -> None:
        if self._count <= self._memory:
            self._file.close()
        else:  # freeing a large file takes its time
            await _in_thread(self._file.close)


def _not_spooled() -> BackendError:
    return BackendError("the scan could not spool the body")


async def _in_thread(job: Callable[[], T]) -> T:
    """Waits for ``job`` also when cancelled: nobody closes the file under it."""
    return await settle(asyncio.get_running_loop().run_in_executor(io_pool(), job))
