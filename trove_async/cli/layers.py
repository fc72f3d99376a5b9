"""The layers a command line asks for: --compress, --encrypt-key, --allow-plain."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from trove_async import Middleware, everything
from trove_async.cli.address import UsageError

if TYPE_CHECKING:
    from trove_async.middleware import Keyring

__all__ = ["PASSPHRASE", "AllowPlain", "Compressed", "EncryptKey", "Layers", "keyring_at"]

PASSPHRASE = "TROVE_KEYRING_PASSPHRASE"

Compressed = Annotated[
    bool, typer.Option("--compress", help="Write with zstd. Reading needs no option.")
]
EncryptKey = Annotated[
    str | None,
    typer.Option(
        "--encrypt-key",
        metavar="KEYRING",
        envvar="TROVE_ENCRYPT_KEY",
        help="Encrypt and decrypt: a keyring file (trove keys generate), or env:NAME. The "
        f"passphrase of a sealed one is read from {PASSPHRASE}.",
    ),
]
AllowPlain = Annotated[
    bool,
    typer.Option("--allow-plain", help="With --encrypt-key: also read objects in the clear."),
]


@dataclass(frozen=True, slots=True)
class Layers:
    compress: bool = False
    encrypt_key: str | None = None
    allow_plain: bool = False

    def middleware(self) -> list[Middleware]:
        """Reads the keyring. UsageError or a TroveError when that cannot be done."""
        made: list[Middleware] = []
        if self.compress:
            from trove_async.middleware import Compress

            made.append(Compress())
        if self.encrypt_key is not None:
            from trove_async.middleware import Encrypt

            allowed = [everything()] if self.allow_plain else []
            made.append(Encrypt(keyring_at(self.encrypt_key), allow_plain=allowed))
        elif self.allow_plain:
            raise UsageError("--allow-plain goes with --encrypt-key")
        return made


def keyring_at(place: str) -> Keyring:
    """Of a file, or of the environment variable NAME of ``env:NAME``."""
    from trove_async.middleware import Keyring

    if place.startswith("env:"):
        return Keyring.from_env(place.removeprefix("env:"))
    return Keyring.from_file(place, passphrase=os.environ.get(PASSPHRASE))
