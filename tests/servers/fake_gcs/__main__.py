"""``python -m tests.servers.fake_gcs [port [bytes per rewrite call]]``"""

from __future__ import annotations

import asyncio
import signal
import sys

from tests.servers.fake_gcs.app import serve


async def main() -> None:
    port, step = (int(text) for text in (*sys.argv[1:], "0", str(8 << 20))[:2])
    task = asyncio.ensure_future(serve(port, step))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return


asyncio.run(main())
