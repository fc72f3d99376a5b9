"""moto, one request at a time: ``python -m tests.servers.moto_main PORT``.

Left alone, its threads race (an answer with one object's headers and another's body, or a 500),
and it keeps what came of a body that was cut. Here a body is read whole before anything happens,
and requests do not overlap, but for those to SQS, which wait for messages.
"""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, run_simple

Start = Callable[..., Any]


class Orderly:
    def __init__(self, app: Callable[[dict[str, Any], Start], Iterable[bytes]]) -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH")
        if length:
            body = environ["wsgi.input"].read(int(length))
            if len(body) != int(length):
                raise ConnectionError("the body was cut")
            environ["wsgi.input"] = io.BytesIO(body)
        if "/sqs/" in environ.get("HTTP_AUTHORIZATION", ""):
            return self._app(environ, start)
        with self._lock:
            answer = self._app(environ, start)
            try:
                return [b"".join(answer)]
            finally:
                close = getattr(answer, "close", None)
                if close is not None:
                    close()


class Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: object) -> None:
        """Nobody reads it."""


def main() -> None:
    app = Orderly(DomainDispatcherApplication(create_backend_app))
    run_simple("127.0.0.1", int(sys.argv[1]), app, threaded=True, request_handler=Quiet)


if __name__ == "__main__":
    main()
