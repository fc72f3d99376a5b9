"""ADAPTIVE against BLOCK before a jittery consumer, in a loop whose time is computed: the
result is the same on every machine.

The model: a chunk costs the consumer 1 ms, and its bytes come at a rate that changes every
second in turn: 40 MB/s, then 2 MB/s (a client on a radio link). A chunk moves wholly at the
rate at which it began. The object is always faster.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from _harness import Report
from _plot import Line, svg

from trove_async import Backpressure, MiB, StreamDirection
from trove_async.stream.inbound import Inbound
from trove_async.stream.settings import StreamOptions
from trove_async.stream.transfer import Transfer

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.stream.clock import in_clockwork

PER_CHUNK, PHASE, FAST, SLOW = 0.001, 1.0, 40e6, 2e6
SIZE = 512 * MiB
Samples = list[tuple[float, float]]


class Object:
    """512 MiB that are there at once, in pieces of 1 MiB."""

    def __init__(self) -> None:
        self.length = SIZE

    @property
    def info(self):  # type: ignore[no-untyped-def]  # nothing asks for more than its size
        return self

    @property
    def size(self) -> int:
        return SIZE

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece = bytes(MiB)
        for _ in range(SIZE // MiB):
            yield piece

    async def aclose(self) -> None: ...


async def _moved(policy: Backpressure) -> tuple[float, float, float, Samples]:
    """Seconds, bytes waiting on average over time and at most, samples of it."""
    loop = asyncio.get_running_loop()
    transfer = Transfer(
        "str_model",
        StreamDirection.DOWNLOAD,
        "box",
        "k",
        StreamOptions(backpressure=policy, queue_size=16),
        stream_timeout=None,
        idle_timeout=None,
        on_end=lambda transfer: None,
    )

    async def open(range: slice | None, etag: str | None) -> Object:
        return Object()

    inbound = Inbound(transfer, open, None, None)  # type: ignore[arg-type]  # the object above
    transfer.halves.append(inbound)
    transfer.begin()
    began, area, most, samples = loop.time(), 0.0, 0.0, []
    while (chunk := await inbound.next()) is not None:
        now = loop.time()
        rate = FAST if int(now / PHASE) % 2 == 0 else SLOW
        for _ in range(40):
            await asyncio.sleep(0)  # the producer fills the queue
        waiting = float(sum(len(item.data) for item in inbound._channel.items))
        took = PER_CHUNK + len(chunk.data) / rate
        samples.append((now - began, waiting))
        area += waiting * took
        most = max(most, waiting)
        await asyncio.sleep(took)
    passed = loop.time() - began
    await transfer.ended()
    return passed, area / passed, most, samples


def jittery(report: Report, plot: Path | None) -> None:
    found = {p: in_clockwork(_moved(p)) for p in (Backpressure.BLOCK, Backpressure.ADAPTIVE)}
    report.say("### ADAPTIVE against BLOCK, 512 MiB to a consumer of 40 and 2 MB/s in turn")
    report.say()
    report.say("| policy | seconds | MB/s | MiB waiting, mean | at most |")
    report.say("|---|---|---|---|---|")
    for policy, (took, mean, most, _) in found.items():
        report.say(
            f"| {policy.value} | {took:.1f} | {SIZE / took / 1e6:.0f} | {mean / MiB:.1f} "
            f"| {most / MiB:.1f} |"
        )
    report.say()
    block, adaptive = found[Backpressure.BLOCK], found[Backpressure.ADAPTIVE]
    less, faster = block[1] / adaptive[1], block[0] / adaptive[0]
    reached = f"{less:.1f} times less waiting in memory, {faster:.2f} times the throughput"
    met = max(less, faster) > 1
    report.judge("ADAPTIVE before a jittery consumer", reached, "better in one", met, "the model")
    if plot is not None:
        lines = [
            Line("BLOCK", block[3], "#c0392b"),
            Line("ADAPTIVE", adaptive[3], "#2471a3"),
        ]
        title = "bytes waiting in the queue"
        plot.write_text(svg(title, lines, lambda value: f"{value / MiB:.0f} MiB"))
