"""``trove uploads``: what is left of uploads that were stopped."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

import trove_async as trove
from trove_async.cli import show
from trove_async.cli.run import FAILED, OK, exit_code, reason

__all__ = ["CatalogOption", "app", "catalog_for"]

app = typer.Typer(
    help="""Unfinished uploads that the same `trove put` goes on with.

They are remembered beside the objects of a local store, and for other stores in
$XDG_STATE_HOME/trove-async (~/.local/state/trove-async), unless --catalog names a place.""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="A DSN or a trove.toml.")]
CatalogOption = Annotated[
    str | None,
    typer.Option("--catalog", metavar="URL", help="sqlite:///path or postgresql://..."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]

_BESIDE = {"file", "local", "mem"}


def catalog_for(store: str, given: str | None) -> str | None:
    """Where this store's uploads are remembered; None: beside its objects."""
    if given is not None or store.partition("://")[0] in _BESIDE:
        return given
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return f"sqlite:///{Path(home, 'trove-async', 'catalog.sqlite')}"


def _on(
    store: str,
    catalog: str | None,
    work: Callable[[trove.Trove], Awaitable[int]],
    *,
    debug: bool,
) -> None:
    async def opened() -> int:
        async with trove.open(store, catalog=catalog_for(store, catalog)) as handle:
            return await work(handle)

    raise typer.Exit(exit_code(opened, debug=debug))


@app.command("ls")
def ls(
    store: Store,
    bucket: Annotated[str | None, typer.Option("--bucket", "-b", help="Of this one only.")] = None,
    catalog: CatalogOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    debug: Debug = False,
) -> None:
    """List them, the oldest first: id, bytes acknowledged, end, BUCKET/KEY."""

    async def work(handle: trove.Trove) -> int:
        async for session in handle.uploads.list(bucket):
            stored = sum(part.size for part in session.parts)
            if as_json:
                show.json_line(
                    {
                        "id": session.id,
                        "bucket": session.bucket,
                        "key": session.key,
                        "size": session.size,
                        "parts": len(session.parts),
                        "stored_size": stored,
                        "created_at": session.created_at.isoformat(),
                        "expires_at": session.expires_at.isoformat(),
                    }
                )
            else:
                ends = session.expires_at.strftime("%Y-%m-%d %H:%M")
                size = show.size_text(stored)
                show.line(f"{session.id}  {size:>10}  {ends}  {session.bucket}/{session.key}")
        return OK

    _on(store, catalog, work, debug=debug)


@app.command("abort")
def abort(
    store: Store,
    ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    catalog: CatalogOption = None,
    debug: Debug = False,
) -> None:
    """Give them up, with all that the store keeps of them."""

    async def work(handle: trove.Trove) -> int:
        failed = False
        for id in ids:
            try:
                await handle.uploads.abort(id)
            except trove.TroveError as exc:
                failed = True
                show.complain(f"{id}: {reason(exc)}")
        return FAILED if failed else OK

    _on(store, catalog, work, debug=debug)


@app.command("sweep")
def sweep(store: Store, catalog: CatalogOption = None, debug: Debug = False) -> None:
    """Give up those whose time has ended (two days after they began)."""

    async def work(handle: trove.Trove) -> int:
        show.line(f"{await handle.uploads.sweep()} swept")
        return OK

    _on(store, catalog, work, debug=debug)
