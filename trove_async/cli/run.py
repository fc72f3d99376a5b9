"""From a coroutine to an exit code: 0 done, 1 failed or partly, 2 usage, 130 interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from trove_async import (
    BucketNotFoundError,
    InvalidBucketNameError,
    InvalidConfigError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidMetadataError,
    TroveError,
)
from trove_async.cli.address import UsageError
from trove_async.cli.show import complain

__all__ = ["FAILED", "INTERRUPTED", "OK", "USAGE", "each", "exit_code", "reason"]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

T = TypeVar("T")

_USAGE = (
    UsageError,
    InvalidBucketNameError,
    InvalidConfigError,
    InvalidDSNError,
    InvalidKeyError,
    InvalidMetadataError,
)


def exit_code(work: Callable[[], Awaitable[int]], *, debug: bool = False) -> int:
    """Runs it to the end. An error is one line on stderr; with ``debug`` its traceback."""
    stopped: list[int] = []
    try:
        with asyncio.Runner() as runner:
            code = runner.run(_stoppable(work, stopped))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        complain("interrupted")
        return INTERRUPTED
    except asyncio.CancelledError:
        if not stopped:
            raise
        complain(f"stopped by {signal.Signals(stopped[0]).name}")
        return 128 + stopped[0]
    except BrokenPipeError:
        # whoever read our output has enough; the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (UsageError, TroveError, OSError, ExceptionGroup) as exc:
        if debug:
            raise
        error = _leaf(exc)
        complain(reason(error))
        return USAGE if isinstance(error, _USAGE) else FAILED


async def _stoppable(work: Callable[[], Awaitable[int]], stopped: list[int]) -> int:
    """SIGTERM and SIGHUP unwind like a cancel, so that nothing half-made is left."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def stop(number: int) -> None:
        stopped.append(number)
        if task is not None:
            task.cancel()

    both = (signal.SIGTERM, signal.SIGHUP)
    numbers = [n for n in both if signal.getsignal(n) is signal.SIG_DFL]  # nohup ignores one
    # NotImplementedError: loops without signals; ValueError, RuntimeError: not the main thread
    with suppress(NotImplementedError, RuntimeError, ValueError):
        for number in numbers:
            loop.add_signal_handler(number, stop, number)
    try:
        return await work()
    finally:
        with suppress(NotImplementedError, RuntimeError, ValueError):
            for number in numbers:
                loop.remove_signal_handler(number)


def _leaf(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, OSError) and not isinstance(error, TroveError):
        where = f": {error.filename!r}" if error.filename else ""
        return f"{error.strerror or type(error).__name__}{where}"
    text = str(error) or type(error).__name__
    return f"{text} (`trove mb` makes one)" if isinstance(error, BucketNotFoundError) else text


async def each(
    items: AsyncIterable[T],
    work: Callable[[T], Awaitable[None]],
    *,
    name: Callable[[T], str],
    limit: int = 16,
) -> int:
    """Works on all items, ``limit`` at once. What fails is reported by ``name`` and does not
    stop the others. Gives how many failed."""
    failed = 0
    slots = asyncio.Semaphore(limit)

    async def one(item: T) -> None:
        nonlocal failed
        try:
            await work(item)
        except (TroveError, OSError) as exc:
            if isinstance(exc, BrokenPipeError):
                raise
            failed += 1
            complain(f"{name(item)}: {reason(exc)}")
        finally:
            slots.release()

    async with asyncio.TaskGroup() as group:
        async for item in items:
            await slots.acquire()
            group.create_task(one(item))
    return failed
