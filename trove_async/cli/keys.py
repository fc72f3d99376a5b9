"""``trove keys``: make keyrings, rotate them, move objects to a new key."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

import trove_async as trove
from trove_async.cli import show
from trove_async.cli.address import UsageError, locate
from trove_async.cli.layers import PASSPHRASE, EncryptKey, Layers, keyring_at
from trove_async.cli.run import FAILED, OK, exit_code, reason

__all__ = ["app"]

app = typer.Typer(
    help=f"""Keyrings: files of named keys that encrypt the keys of objects.

A sealed keyring is opened with the passphrase in {PASSPHRASE}.""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[str, typer.Argument(metavar="FILE", help="The keyring.")]
Id = Annotated[str | None, typer.Option("--id", help="The new key's name; default: by date.")]
Seal = Annotated[bool, typer.Option("--seal", help=f"Encrypt the file with {PASSPHRASE}.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def _leave(work: Callable[[], None], *, debug: bool) -> None:
    async def done() -> int:
        work()
        return OK

    raise typer.Exit(exit_code(done, debug=debug))


def _passphrase(*, needed: bool) -> str | None:
    text = os.environ.get(PASSPHRASE) or None
    if needed and text is None:
        raise UsageError(f"--seal takes the passphrase from {PASSPHRASE}, which is not set")
    return text


@app.command("generate")
def generate(file: File, name: Id = None, seal: Seal = False, debug: Debug = False) -> None:
    """Make FILE (mode 0600) with one new key. An existing file is never replaced."""

    def work() -> None:
        from trove_async.middleware import Keyring

        passphrase = _passphrase(needed=seal) if seal else None
        keyring = Keyring.generate(name)
        keyring.to_file(file, passphrase=passphrase, replace=False)
        show.line(f"{file}: key {keyring.active} (active). Keep a copy: without it nothing")
        show.line("that is encrypted with it can ever be read again.")

    _leave(work, debug=debug)


@app.command("rotate")
def rotate(file: File, name: Id = None, debug: Debug = False) -> None:
    """Add a new key to FILE and encrypt with it from now on. Older keys still decrypt."""

    def work() -> None:
        from trove_async.middleware.encrypt.passphrase import is_sealed

        keyring = keyring_at(file)
        with open(file, "rb") as stored:
            sealed = is_sealed(stored.read())
        before = keyring.active
        after = keyring.rotate(name)
        keyring.to_file(file, passphrase=_passphrase(needed=sealed) if sealed else None)
        show.line(f"{file}: key {after} (active), {before} still decrypts")
        show.line("next: `trove keys rewrap STORE BUCKET` moves what is stored to the new key")

    _leave(work, debug=debug)


@app.command("ls")
def ls(file: File, debug: Debug = False) -> None:
    """Show the names and states of the keys, never the keys."""

    def work() -> None:
        for key_id, state in keyring_at(file).states.items():
            show.line(f"{state.value:>12}  {key_id}")

    _leave(work, debug=debug)
