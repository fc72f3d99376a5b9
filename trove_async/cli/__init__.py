"""The ``trove`` command. Needs the extra ``cli`` (typer and rich), loaded when it runs."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Entry point of the console script; leaves by SystemExit with the command's code."""
    try:
        from trove_async.cli.app import app
    except ModuleNotFoundError as exc:
        if exc.name not in ("typer", "rich"):
            raise
        from trove_async import MissingDependencyError

        missing = MissingDependencyError('the command needs: pip install "trove-async[cli]"')
        sys.stderr.write(f"trove: {missing}\n")
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app(prog_name="trove")
