"""``trove keys``: make keyrings, rotate them, move objects to a new key."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

import trove_async as trove
from trove_async.cli import show
from trove_async.cli.address import Place, UsageError, locate
from trove_async.cli.layers import PASSPHRASE, EncryptKey, Layers, keyring_at
from trove_async.cli.run import FAILED, OK, exit_code, reason

if TYPE_CHECKING:
    from trove_async.middleware import Keyring

__all__ = ["app"]

_MOST_SHOWN = 10

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
        show.line(f"next, for what is stored: trove keys rewrap STORE BUCKET --encrypt-key {file}")

    _leave(work, debug=debug)


@app.command("ls")
def ls(file: File, debug: Debug = False) -> None:
    """Show the names and states of the keys, never the keys."""

    def work() -> None:
        for key_id, state in keyring_at(file).states.items():
            show.line(f"{state.value:>12}  {key_id}")

    _leave(work, debug=debug)


@app.command("rewrap")
def rewrap(
    store: Annotated[str, typer.Argument(metavar="STORE", help="A DSN or a trove.toml.")],
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="BUCKET or BUCKET/PREFIX.")] = "",
    bucket: Annotated[str | None, typer.Option("--bucket", "-b")] = None,
    encrypt_key: EncryptKey = None,
    to: Annotated[str | None, typer.Option(metavar="ID", help="Default: the active key.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Then prove that no object needs another key.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object at the end.")] = False,
    debug: Debug = False,
) -> None:
    """Move what is stored to the active key of the keyring. Bodies are not touched.

    What is done is skipped, so a run that broke is finished by running it again. With --verify
    the exit code is 1 while any object under PATH still needs one of the other keys."""

    async def opened() -> int:
        if encrypt_key is None:
            raise UsageError("rewrap needs --encrypt-key")
        keyring = keyring_at(encrypt_key)
        layers = Layers(encrypt_key=encrypt_key, allow_plain=True)
        async with trove.open(store, middleware=layers.middleware()) as handle:
            place = locate(handle, path, bucket)
            if not place.bucket:
                raise UsageError("rewrap needs a bucket")
            return await _rewrapped(handle, place, keyring, to, verify=verify, as_json=as_json)

    raise typer.Exit(exit_code(opened, debug=debug))


async def _rewrapped(
    store: trove.Trove,
    place: Place,
    keyring: Keyring,
    to: str | None,
    *,
    verify: bool,
    as_json: bool,
) -> int:
    from trove_async.middleware.encrypt import rewrap_bucket, verify_retired

    report = await rewrap_bucket(store, place.bucket, prefix=place.key, to=to)
    for key, error in report.failed:
        show.complain(f"{place.bucket}/{key}: {reason(error)}")
    record: dict[str, object] = {
        "rewrapped": report.rewrapped,
        "skipped": report.skipped,
        "plain": report.plain,
        "failed": len(report.failed),
    }
    wanted = keyring.active if to is None else to
    needed: dict[str, int] = {}
    if verify:
        for key_id in (name for name in keyring if name != wanted and name in keyring):
            found = await verify_retired(store, place.bucket, key_id, prefix=place.key)
            needed[key_id] = len(found.dependent)
            for key, error in found.dependent[:_MOST_SHOWN]:
                show.complain(f"{place.bucket}/{key} needs {key_id}: {reason(error)}")
        record["needed"] = needed
    if as_json:
        show.json_line(record)
    else:
        show.line(
            f"{report.rewrapped:,} rewrapped to {wanted}, {report.skipped:,} were already, "
            f"{report.plain:,} are not encrypted, {len(report.failed):,} failed"
        )
        for key_id, count in needed.items():
            show.line(f"{key_id}: {f'{count:,} objects need it' if count else 'no longer needed'}")
    return FAILED if report.failed or any(needed.values()) else OK
