"""The life of one stream: which call is legal when, who wins a race, and how it ends.

Every decision is made in a plain function, without an await between looking and changing;
what must be waited for comes after it. `Stream` is the user's handle on this: it may be
dropped, and then this is still here to be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from trove_async._threads import settle
from trove_async.errors import (
    OperationTimeoutError,
    StreamClosedError,
    StreamError,
    StreamNotActiveError,
    StreamStateError,
    TroveError,
)
from trove_async.model import ObjectInfo
from trove_async.stream.aside import log, over, tell
from trove_async.stream.metrics import Meter, StreamMetrics
from trove_async.stream.settings import StreamDirection, StreamOptions, StreamState

__all__ = ["Half", "Transfer"]

S = StreamState
V = TypeVar("V")


class Half(Protocol):
    """One direction of a stream."""

    @property
    def meter(self) -> Meter: ...
    @property
    def total(self) -> int | None: ...
    async def run(self) -> ObjectInfo | None:
        """Moves the bytes, in a task of its own. The info ends the stream as completed."""
        ...

    def break_off(self, error: BaseException) -> None:
        """Wakes whoever waits for the other side, with ``error``."""
        ...

    async def close(self) -> None: ...


class Transfer:
    def __init__(
        self,
        id: str,
        direction: StreamDirection,
        bucket: str,
        key: str,
        options: StreamOptions,
        *,
        stream_timeout: float | None,
        idle_timeout: float | None,
        on_end: Callable[[Transfer], None],
    ) -> None:
        """``on_end`` is called once, when it has ended and holds nothing any more."""
        self.id = id
        self.direction = direction
        self.bucket = bucket
        self.key = key
        self.options = options
        self.state = S.IDLE
        self.error: BaseException | None = None
        self.info: ObjectInfo | None = None
        self.dropped = 0
        self.dropped_bytes = 0
        self.halves: list[Half] = []
        self.flowing = asyncio.Event()
        """Not set while paused."""
        self.flowing.set()
        self.loop = asyncio.get_running_loop()
        self.cleaned: asyncio.Future[None] = self.loop.create_future()
        """Done when nothing of it is left but hooks that may still run."""
        self._movers: dict[asyncio.Task[None], Half] = {}
        self._ending: asyncio.Task[None] | None = None
        self._verdict: tuple[StreamState, BaseException | None] | None = None
        self._is_own_failure = False
        self._is_told = False
        self._on_end = on_end
        self._started: float | None = None
        self._ended: float | None = None
        self._touched = self.loop.time()
        self._idle_timeout = idle_timeout
        self._stream_timeout = stream_timeout
        self._timers: dict[str, asyncio.TimerHandle] = {}
        if idle_timeout is not None:
            self._timers["idle"] = self.loop.call_later(idle_timeout, self._look_idle)

    # -- what is legal ------------------------------------------------------------------------

    @property
    def is_live(self) -> bool:
        return not self.state.is_terminal

    def where(self) -> dict[str, str]:
        return {"bucket": self.bucket, "key": self.key, "operation": "stream"}

    def illegal(self, call: str) -> StreamStateError:
        error = StreamStateError(f"{call} of a stream that is {self.state.value}", **self.where())
        error.__cause__ = self.error
        return error

    def closed(self) -> StreamClosedError:
        error = StreamClosedError(f"the stream is {self.state.value}", **self.where())
        error.__cause__ = self.error
        return error

    def check_active(self, call: str) -> None:
        """Raises unless ACTIVE or PAUSED."""
        if self.state.is_terminal:
            raise self.closed()
        if self.state is not S.ACTIVE and self.state is not S.PAUSED:
            raise StreamNotActiveError(
                f"{call} of a stream that is {self.state.value}", **self.where()
            )

    # -- decisions: plain functions -----------------------------------------------------------

    def begin(self) -> None:
        if self.state is not S.IDLE:
            raise self.illegal("start")
        self.state = S.ACTIVE
        self._started = self._touched = self.loop.time()
        if self._stream_timeout is not None:
            self._timers["all"] = self.loop.call_later(
                self._stream_timeout, self._expire, "not done within", self._stream_timeout
            )
        for half in self.halves:
            half.meter.start()
            self.carry(half)

    def carry(self, half: Half) -> None:
        task = self.loop.create_task(self._carry(half), name=f"trove-{self.id}")
        self._movers[task] = half
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[None]) -> None:
        """A task that was cancelled before its first step has not told of its end."""
        if self._movers.pop(task, None) is not None and self.is_live:
            self._end(*(self._verdict or (S.CANCELLED, None)), own=self._is_own_failure)

    def pause(self) -> None:
        if self.state is not S.ACTIVE:
            raise self.illegal("pause")
        self.state = S.PAUSED
        self.flowing.clear()

    def resume(self) -> None:
        if self.state is not S.PAUSED:
            raise self.illegal("resume")
        self.state = S.ACTIVE
        self.touch()
        self.flowing.set()

    def finish_up(self) -> None:
        """From now on nothing is added; what was accepted goes its way."""
        if self.state is S.FAILED and self._is_own_failure and not self._is_told:
            self._is_told = True
            assert self.error is not None
            raise self.error
        if self.state is not S.ACTIVE and self.state is not S.PAUSED:
            raise self.illegal("complete")
        self.state = S.COMPLETING
        self.touch()
        self.flowing.set()

    def stop(
        self, state: StreamState, error: BaseException | None = None, *, own: bool = False
    ) -> bool:
        """The first of those who want to end it wins. While it is completing, the object may be
        there already: then the verdict is on what the driver answers."""
        if self.state.is_terminal or self._verdict is not None:
            return False
        if self.state is not S.COMPLETING:
            return self._end(state, error, own=own)
        self._verdict = (state, error)
        self._is_own_failure = own
        for task in self._movers:
            task.cancel()
        return True

    def completed(self, info: ObjectInfo | None) -> None:
        """Of a download: its last chunk has been given."""
        if not self.state.is_terminal and self._verdict is None:
            self._end(S.COMPLETED, None, info=info)

    def _end(
        self,
        state: StreamState,
        error: BaseException | None,
        *,
        own: bool = False,
        info: ObjectInfo | None = None,
        by: asyncio.Task[None] | None = None,
    ) -> bool:
        """The one place where a stream becomes terminal."""
        self.state, self.error = state, error
        self.info = info or self.info
        self._is_own_failure = own
        self._ended = self.loop.time()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.flowing.set()
        if state is not S.COMPLETED or self.direction is not StreamDirection.DOWNLOAD:
            broken = error if own and error is not None else self.closed()
            for half in self.halves:
                half.break_off(broken)
        if by is None:
            self._ending = self.loop.create_task(self._clean_up(), name=f"trove-end-{self.id}")
        else:
            self._ending = by
        return True

    # -- time ---------------------------------------------------------------------------------

    def touch(self) -> None:
        self._touched = self.loop.time()

    def _look_idle(self) -> None:
        """Only looks when the time may be up: a chunk costs no timer."""
        limit = self._idle_timeout
        assert limit is not None
        now = self.loop.time()
        if self.state is S.PAUSED:
            self._touched = now
        left = self._touched + limit - now
        if left <= 0:
            self._expire("idle for", limit)
        else:
            self._timers["idle"] = self.loop.call_later(left, self._look_idle)

    def _expire(self, what: str, limit: float) -> None:
        message = f"the stream is {what} {limit:g} s"
        self.stop(S.FAILED, OperationTimeoutError(message, **self.where()), own=True)

    # -- tasks --------------------------------------------------------------------------------

    async def _carry(self, half: Half) -> None:
        me = asyncio.current_task()
        assert me is not None
        try:
            info = await half.run()
        except BaseException as exc:
            ended = self._fell(me, exc)
            if ended:
                await self._clean_up()
            if not isinstance(exc, Exception):
                raise
            return
        finally:
            if self._ending is not me:
                self._movers.pop(me, None)
        if info is not None and not self.state.is_terminal:
            if self._verdict is not None:
                log.info("stream %s was stopped too late: its object is published", self.id)
            self._end(S.COMPLETED, None, info=info, by=me)
            await self._clean_up()

    def _fell(self, me: asyncio.Task[None], exc: BaseException) -> bool:
        """Whether this end of a mover is the end of the stream."""
        if self.state.is_terminal or me not in self._movers:  # a seek took its place
            return False
        if self._verdict is not None and isinstance(exc, asyncio.CancelledError):
            state, error = self._verdict
            return self._end(state, error, own=self._is_own_failure, by=me)
        if isinstance(exc, asyncio.CancelledError):
            return self._end(S.CANCELLED, None, by=me)
        if isinstance(exc, TroveError):
            exc.at(bucket=self.bucket, key=self.key)
        return self._end(S.FAILED, exc, own=True, by=me)

    async def superseded(self, half: Half) -> None:
        """Ends the mover of a half and waits for it, whatever happens."""
        for task in [task for task, owner in self._movers.items() if owner is half]:
            del self._movers[task]
            task.cancel()
            await over(task)

    async def _clean_up(self) -> None:
        me = asyncio.current_task()
        interrupted: asyncio.CancelledError | None = None
        try:
            others = [task for task in self._movers if task is not me]
            if self.state is not S.COMPLETED or self.direction is StreamDirection.BIDI:
                for task in others:
                    task.cancel()
            for job in (*map(over, others), *(half.close() for half in self.halves)):
                try:
                    await settle(asyncio.ensure_future(job))
                except asyncio.CancelledError as exc:
                    interrupted = exc
                except OSError as exc:
                    log.warning("closing stream %s: %r", self.id, exc)
        finally:
            self._movers.clear()
            self._on_end(self)
            if not self.cleaned.done():
                self.cleaned.set_result(None)
        if interrupted is not None:
            raise interrupted
        await self._tell_the_end()

    async def _tell_the_end(self) -> None:
        options = self.options
        if self.state is S.COMPLETED:
            if options.on_progress is not None:
                half = self.halves[-1]
                await self.tell(
                    options.on_progress, half.meter.progress(self.id, half.total, is_done=True)
                )
            if options.on_complete is not None and self.info is not None:
                await self.tell(options.on_complete, self.info)
        elif self.state is S.FAILED and options.on_error is not None:
            await self.tell(options.on_error, self.error or StreamError("failed", **self.where()))

    async def tell(self, hook: Callable[[V], Awaitable[None] | None], value: V) -> None:
        await tell(self.id, hook, value)

    async def report(self, half: Half) -> None:
        hook = self.options.on_progress
        if hook is not None and self.is_live and half.meter.is_due(half.total):
            await self.tell(hook, half.meter.progress(self.id, half.total, is_done=False))

    # -- waiting ------------------------------------------------------------------------------

    async def ended(self) -> None:
        """Until it holds nothing and its hooks have run. A cancel waits for the first and
        ends the second. Called by one of its own hooks, it returns at once."""
        me = asyncio.current_task()
        if me in self._movers or me is self._ending:
            return
        await settle(self.cleaned)
        ending = self._ending
        if ending is None or ending.done():
            return
        try:
            await asyncio.wait([ending])
        except asyncio.CancelledError:
            ending.cancel()
            await over(ending)
            raise

    async def outcome(self) -> ObjectInfo:
        """Waits for the end. A cancel cancels the stream."""
        try:
            await asyncio.wait([self.cleaned])
        except asyncio.CancelledError:
            self.stop(S.CANCELLED)
            await self.ended()
            raise
        await self.ended()
        return self.result()

    def result(self) -> ObjectInfo:
        if self.state is S.COMPLETED and self.info is not None:
            return self.info
        if self._is_own_failure and self.error is not None:
            self._is_told = True
            raise self.error
        raise self.closed()

    def failure(self) -> BaseException | None:
        """What a block that is left without an exception must raise: nobody was told yet."""
        if self.state is S.FAILED and self._is_own_failure and not self._is_told:
            self._is_told = True
            return self.error
        return None

    def told(self, error: BaseException) -> None:
        """``error`` has reached the user."""
        if error is self.error:
            self._is_told = True

    # -- numbers ------------------------------------------------------------------------------

    def metrics(self, sent: int, received: int, chunks: int) -> StreamMetrics:
        end = self._ended if self._ended is not None else self.loop.time()
        elapsed = end - self._started if self._started is not None else 0.0
        throughput = (sent + received) / elapsed if elapsed > 0 else 0.0
        return StreamMetrics(sent, received, chunks, self.dropped, throughput, elapsed)
