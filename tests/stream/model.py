"""Hypothesis machines: a user, a consumer and those who end the stream, in every order."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import trove_async as trove
from tests.stream.gate import Gate, turns
from trove_async import Backpressure, Chunk, Stream, StreamDirection, StreamError, StreamState

__all__ = ["DownloadMachine", "UploadMachine"]

S = StreamState
ENDS = ("complete", "fail", "cancel", "aclose", "leave")
CONTENT = bytes(range(251)) * 4


class Machine(RuleBasedStateMachine):
    steps: ClassVar[int] = 0
    """Rules run by all machines of this process."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.told: list[str] = []
        self.store = self.run(self._opened())
        self.stream: Stream

    async def _opened(self) -> trove.Trove:
        store = await trove.open("mem://", pool=trove.PoolConfig(idle_timeout=None))
        await store.create_bucket("box")
        return store

    def run(self, coro: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(coro)

    def spin(self, count: int) -> None:
        type(self).steps += 1
        self.run(turns(count))

    def task(self, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return self.loop.create_task(coro)

    def hooks(self) -> dict[str, Any]:
        return {
            "on_complete": lambda info: self.told.append("complete"),
            "on_error": lambda error: self.told.append("error"),
        }

    def check_end(self) -> None:
        stream = self.stream
        assert stream.state.is_terminal
        expected = {S.COMPLETED: ["complete"], S.FAILED: ["error"], S.CANCELLED: []}
        assert self.told == expected[stream.state], "told exactly once how it ended"
        assert self.store.pool.active_count == 0
        metrics = self.store.pool.metrics()
        assert metrics.total_streams == 1
        assert metrics.failed_streams == (stream.state is S.FAILED)

    def teardown(self) -> None:
        try:
            self.finish()
            self.run(self.store.aclose())
            left = asyncio.all_tasks(self.loop)
            assert not left, f"left behind: {left}"
        finally:
            self.loop.close()

    @abstractmethod
    def finish(self) -> None: ...


class UploadMachine(Machine):
    """What is legal next may depend on a worker thread (the spool), so rules look at run time:
    a precondition that did would confuse hypothesis."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = Gate()
        self.store.use(self.gate)
        self.number = 0
        self.writes: list[tuple[bytes, asyncio.Task[Any]]] = []
        self.ends: list[tuple[str, asyncio.Task[Any]]] = []
        self.lost: dict[int, bytes] = {}
        self.acknowledged: list[int] = []

    def _chunk(self, chunk: Chunk) -> None:
        if chunk.dropped:
            assert chunk.index not in self.lost
            self.lost[chunk.index] = bytes(chunk.data)
        else:
            self.acknowledged.append(chunk.index)

    @initialize(
        policy=st.sampled_from(Backpressure), queue=st.integers(1, 3), size=st.integers(3, 9)
    )
    def open(self, policy: Backpressure, queue: int, size: int) -> None:
        self.policy = policy
        self.size = size

        async def started() -> Stream:
            stream = await self.store.stream(
                "box",
                "k",
                StreamDirection.UPLOAD,
                backpressure=policy,
                queue_size=queue,
                chunk_size=size,
                on_chunk=self._chunk,
                buffer_memory=2 * size,
                buffer_limit=8 * size,
                **self.hooks(),
            )
            await stream.start()
            opened: Stream = stream
            return opened

        self.stream = self.run(started())

    @rule(length=st.integers(1, 20), turns=st.integers(0, 3))
    def write(self, length: int, turns: int) -> None:
        """Every write begins with its own number, so that any loss or swap shows."""
        self.number += 1
        data = (b"%d:" % self.number + b"." * length)[: max(length, 5)]
        self.writes.append((data, self.task(self.stream.write(data))))
        self.spin(turns)

    @rule(lengths=st.lists(st.integers(5, 40), min_size=2, max_size=5), turns=st.integers(0, 3))
    def write_many(self, lengths: list[int], turns: int) -> None:
        for length in lengths:
            self.write(length, 0)
        self.spin(turns)

    @rule(count=st.integers(1, 4), turns=st.integers(0, 4))
    def take(self, count: int, turns: int) -> None:
        self.gate.let(count)
        self.spin(turns)

    @rule(turns=st.integers(0, 2))
    def pause(self, turns: int) -> None:
        self._toggle("pause", S.ACTIVE, S.PAUSED)
        self.spin(turns)

    @rule(turns=st.integers(0, 2))
    def resume(self, turns: int) -> None:
        self._toggle("resume", S.PAUSED, S.ACTIVE)
        self.spin(turns)

    def _toggle(self, call: str, before: StreamState, after: StreamState) -> None:
        state = self.stream.state
        try:
            self.run(getattr(self.stream, call)())
        except trove.StreamStateError:
            assert state is not before or self.stream.state is not before
        else:
            assert state is before
            assert self.stream.state is after or self.stream.state.is_terminal

    @precondition(lambda self: len(self.ends) < 4 and self.number > 6)
    @rule(ends=st.lists(st.sampled_from(ENDS), min_size=1, max_size=4), turns=st.integers(0, 5))
    def end(self, ends: list[str], turns: int) -> None:
        """All in the same turn of the loop."""
        for name in ends:
            stream = self.stream
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "complete": stream.complete,
                "fail": lambda: self.stream.fail(OSError("of the test")),
                "cancel": stream.cancel,
                "aclose": stream.aclose,
                "leave": lambda: self.stream.__aexit__(KeyError, KeyError(), None),
            }
            self.ends.append((name, self.task(calls[name]())))
        self.spin(turns)

    @rule(turns=st.integers(0, 2))
    def cancel_a_write(self, turns: int) -> None:
        if self.writes:
            self.writes[-1][1].cancel()
        self.spin(turns)

    @rule(turns=st.integers(0, 2))
    def cancel_an_end(self, turns: int) -> None:
        if self.ends:
            self.ends[-1][1].cancel()
        self.spin(turns)

    @rule()
    def fail_the_consumer(self) -> None:
        if self.number % 7 == 6:
            self.gate.fail(OSError("disk"))
        self.spin(1)

    def finish(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.gate.open()
        self.run(self._all_over())
        self.check_end()
        self._check_bytes()
        for name, task in self.ends:
            error = None if task.cancelled() else task.exception()
            if name == "complete":
                assert error is None or isinstance(error, OSError | StreamError), repr(error)
            elif name != "leave":
                assert error is None, f"{name}: {error!r}"

    async def _all_over(self) -> None:
        stream = self.stream
        if stream.state is S.PAUSED:
            await stream.resume()
        await asyncio.gather(*(task for _, task in self.writes), return_exceptions=True)
        if not stream.state.is_terminal and stream.state is not S.COMPLETING:
            self.ends.append(("complete", self.task(stream.complete())))
        await asyncio.gather(*(task for _, task in self.ends), return_exceptions=True)
        await stream.aclose()
        await turns()

    def _check_bytes(self) -> None:
        exists = self.run(self.store.exists("box", "k"))
        assert exists == (self.stream.state is S.COMPLETED)
        if not exists:
            return
        accepted = [
            data for data, task in self.writes if not task.cancelled() and not task.exception()
        ]
        pieces = [
            data[at : at + self.size] for data in accepted for at in range(0, len(data), self.size)
        ]
        if self.policy is Backpressure.DROP:
            assert self.stream.dropped == len(self.lost)
            assert self.stream.info is not None
            assert getattr(self.stream.info, "dropped", None) == len(self.lost)
            for index, data in self.lost.items():
                assert pieces[index] == data
        else:
            assert not self.lost
        kept = [piece for index, piece in enumerate(pieces) if index not in self.lost]
        assert self.run(self.store.get_bytes("box", "k")) == b"".join(kept)
        assert self.acknowledged == [i for i in range(len(pieces)) if i not in self.lost]
        metrics = self.stream.metrics()
        assert metrics.bytes_sent == sum(map(len, kept))
        assert metrics.chunks == len(kept)


class DownloadMachine(Machine):
    def __init__(self) -> None:
        super().__init__()
        self.run(self.store.put("box", "k", CONTENT))
        self.taking: asyncio.Task[Any] | None = None
        self.at = 0
        self.is_dropping = False

    @initialize(
        policy=st.sampled_from(Backpressure),
        queue=st.integers(1, 3),
        size=st.integers(7, 300),
        start=st.integers(0, 900),
    )
    def open(self, policy: Backpressure, queue: int, size: int, start: int) -> None:
        self.is_dropping = policy is Backpressure.DROP
        self.at = start

        async def started() -> Stream:
            stream = await self.store.stream(
                "box",
                "k",
                StreamDirection.DOWNLOAD,
                backpressure=policy,
                queue_size=queue,
                chunk_size=size,
                range=slice(start, None),
                **self.hooks(),
            )
            await stream.start()
            opened: Stream = stream
            return opened

        self.start = start
        self.stream = self.run(started())

    @rule(turns=st.integers(0, 4))
    def take(self, turns: int) -> None:
        self._look()
        if self.taking is None:
            self.taking = self.task(self._next())
        self.spin(turns)
        self._look()

    async def _next(self) -> Chunk | None:
        return await anext(self.stream, None)

    def _look(self) -> None:
        """At what the last `take` gave."""
        task = self.taking
        if task is None or not task.done():
            return
        self.taking = None
        if task.cancelled():
            return
        if task.exception() is not None:
            assert self.stream.state in (S.CANCELLED, S.FAILED), repr(task.exception())
            return
        chunk = task.result()
        if chunk is None:
            assert self.at == len(CONTENT) or self.is_dropping
            return
        assert chunk.offset == self.at or (self.is_dropping and chunk.offset > self.at)
        assert chunk.data == CONTENT[chunk.offset : chunk.offset + len(chunk.data)]
        self.at = chunk.offset + len(chunk.data)
        assert chunk.final == (self.at == len(CONTENT))
        assert self.stream.offset == self.at

    @rule(turns=st.integers(0, 2))
    def cancel_a_take(self, turns: int) -> None:
        if self.taking is not None:
            self.taking.cancel()
        self.spin(turns)
        self._look()

    @rule(to=st.integers(0, len(CONTENT)))
    def seek(self, to: int) -> None:
        self._look()
        if self.taking is not None or self.stream.state not in (S.ACTIVE, S.PAUSED):
            return
        if to < self.start:
            to = self.start
        self.run(self.stream.seek(to))
        self.at = to
        self.spin(0)

    @rule(call=st.sampled_from(["pause", "resume"]))
    def toggle(self, call: str) -> None:
        wanted = S.ACTIVE if call == "pause" else S.PAUSED
        if self.stream.state is wanted:
            self.run(getattr(self.stream, call)())
        self.spin(1)

    @rule(end=st.sampled_from(["cancel", "fail", "aclose"]), really=st.integers(0, 5))
    def end(self, end: str, really: int) -> None:
        if really == 0 and self.at > 500:
            self.run(getattr(self.stream, end)())
        self.spin(1)

    def finish(self) -> None:
        if not hasattr(self, "stream"):
            return
        if self.stream.state is S.PAUSED:
            self.run(self.stream.resume())
        while not self.stream.state.is_terminal or self.taking is not None:
            if self.taking is None:
                self.taking = self.task(self._next())
            self.run(_waited(self.taking))
            self._look()
        self.run(self.stream.aclose())
        self.run(turns())
        if self.stream.state is S.COMPLETED:
            assert self.at == len(CONTENT)
        self.check_end()


async def _waited(task: asyncio.Task[Any]) -> None:
    await asyncio.wait([task])
