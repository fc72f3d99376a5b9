"""``trove cas``: content by its digest."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

import trove_async as trove
from trove_async.cli import show
from trove_async.cli.address import byte_range
from trove_async.cli.files import stdin_chunks, writing
from trove_async.cli.layers import AllowPlain, Compressed, EncryptKey, Layers
from trove_async.cli.run import FAILED, OK, exit_code, reason

__all__ = ["app"]

app = typer.Typer(
    help="""Content stored once, under the name of its digest.

Its index is beside the objects of a local store; for a store that several hosts reach,
--catalog names one that all of them use.""",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="A DSN or a trove.toml.")]
Digest = Annotated[str, typer.Argument(metavar="DIGEST", help="sha256:... or blake3:...")]
Bucket = Annotated[str, typer.Option("--bucket", "-b", help="Where the content is.")]
Catalog = Annotated[
    str | None,
    typer.Option("--catalog", metavar="URL", help="sqlite:///path or postgresql://..."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]


def _on(
    store: str,
    bucket: str,
    catalog: str | None,
    work: Callable[[trove.CAS], Awaitable[int]],
    *,
    debug: bool,
    layers: Layers | None = None,
    algorithm: str = "sha256",
    chunking: Literal["fastcdc"] | None = None,
) -> None:
    async def opened() -> int:
        middleware = [] if layers is None else layers.middleware()
        async with trove.open(store, catalog=catalog, middleware=middleware) as handle:
            return await work(handle.cas(bucket, algorithm=algorithm, chunking=chunking))

    raise typer.Exit(exit_code(opened, debug=debug))


@app.command("put")
def put(
    store: Store,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="- is standard input.")],
    owner: Annotated[
        str | None, typer.Option("--owner", help="Who refers to it; the same owner counts once.")
    ] = None,
    algorithm: Annotated[str, typer.Option(help="sha256 or blake3.")] = "sha256",
    chunking: Annotated[
        Literal["fastcdc"] | None,
        typer.Option(help="Store what large files have in common once; not where it is encrypted."),
    ] = None,
    bucket: Bucket = "cas",
    compress: Compressed = False,
    encrypt_key: EncryptKey = None,
    catalog: Catalog = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Store files and print their digests."""

    async def work(cas: trove.CAS) -> int:
        failed = False
        for name in files:
            try:
                body = stdin_chunks() if name == "-" else Path(name)
                stored = await cas.store(body, owner=owner)
            except (trove.TroveError, OSError) as exc:
                failed = True
                show.complain(f"{name}: {reason(exc)}")
                continue
            if as_json:
                show.json_line({**asdict(stored), "file": name})
            else:
                show.line(f"{stored.digest}  {name}")
        return FAILED if failed else OK

    layers = Layers(compress, encrypt_key)
    _on(
        store,
        bucket,
        catalog,
        work,
        debug=debug,
        layers=layers,
        algorithm=algorithm,
        chunking=chunking,
    )


@app.command("get")
def get(
    store: Store,
    digest: Digest,
    target: Annotated[str, typer.Argument(metavar="[TARGET]", help="- is standard output.")] = "-",
    part: Annotated[
        str | None, typer.Option("--range", help="As in HTTP: 0-99, 500-, -500.")
    ] = None,
    bucket: Bucket = "cas",
    encrypt_key: EncryptKey = None,
    allow_plain: AllowPlain = False,
    catalog: Catalog = None,
    debug: Debug = False,
) -> None:
    """Fetch content, checked against its digest (but for --range)."""

    async def work(cas: trove.CAS) -> int:
        async with cas.retrieve(digest, range=byte_range(part)) as reader:
            if target != "-":
                with writing(Path(target)) as file:
                    async for chunk in reader:
                        file.write(chunk)
                return OK
            sys.stdout.flush()
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                # a write to a full pipe blocks in the kernel; only an exception ends it
                signal.signal(signal.SIGINT, signal.default_int_handler)
            async for chunk in reader:
                rest = memoryview(chunk)
                while rest:
                    rest = rest[os.write(sys.stdout.fileno(), rest) :]
        return OK

    _on(store, bucket, catalog, work, debug=debug, layers=Layers(False, encrypt_key, allow_plain))


@app.command("ls")
def ls(
    store: Store,
    bucket: Bucket = "cas",
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    catalog: Catalog = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List content by digest: references, size, state."""

    async def work(cas: trove.CAS) -> int:
        async with aclosing(cas.list(limit=limit)) as found:
            async for info in found:
                if as_json:
                    show.json_line(asdict(info))
                    continue
                marks = ["chunked"] * info.chunked + ["pinned"] * info.pinned
                marks += ["damaged"] * info.damaged
                words = " ".join([info.state, *marks])
                size = show.size_text(info.size)
                show.line(f"{info.digest}  {info.references:>6}  {size:>10}  {words}")
        return OK

    _on(store, bucket, catalog, work, debug=debug)


@app.command("gc")
def gc(
    store: Store,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done.")] = False,
    grace: Annotated[
        float, typer.Option(min=0, help="Hours without a reference before it is condemned.")
    ] = 24.0,
    settle: Annotated[
        float, typer.Option(min=0, help="Hours between that and its deletion.")
    ] = 1.0,
    orphan_after: Annotated[
        float, typer.Option(min=0, help="Hours between two runs that see a stray object.")
    ] = 24.0,
    force: Annotated[
        bool, typer.Option("--force", help="Also where the index seems older than the storage.")
    ] = False,
    bucket: Bucket = "cas",
    catalog: Catalog = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Delete what nobody refers to."""

    async def work(cas: trove.CAS) -> int:
        result = await cas.gc(
            grace=grace * 3600,
            settle=settle * 3600,
            orphan_after=orphan_after * 3600,
            dry_run=dry_run,
            force=force,
        )
        if as_json:
            errors = [reason(error) for error in result.errors]
            show.json_line({**asdict(result), "errors": errors, "dry_run": dry_run})
        else:
            would = "would be " if dry_run else ""
            show.line(
                f"{result.scanned} known, {result.condemned} {would}condemned, {result.deleted} "
                f"{would}deleted ({show.size_text(result.freed_bytes)})"
            )
            for error in result.errors:
                show.complain(reason(error))
        return FAILED if result.errors else OK

    _on(store, bucket, catalog, work, debug=debug)


@app.command("verify")
def verify(
    store: Store,
    digest: Annotated[str | None, typer.Argument(metavar="[DIGEST]", help="Only this one.")] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Count references again too.")] = False,
    bucket: Bucket = "cas",
    encrypt_key: EncryptKey = None,
    allow_plain: AllowPlain = False,
    catalog: Catalog = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Read everything against its digest."""

    async def work(cas: trove.CAS) -> int:
        report = await cas.verify(digest, repair=repair)
        if as_json:
            show.json_line(asdict(report))
        else:
            for word, names in (("corrupt", report.corrupt), ("missing", report.missing)):
                for name in names:
                    show.line(f"{word} {name}")
            show.line(f"{report.checked} checked")
        return FAILED if report.corrupt or report.missing else OK

    _on(store, bucket, catalog, work, debug=debug, layers=Layers(False, encrypt_key, allow_plain))


@app.command("pin")
def pin(
    store: Store,
    digest: Digest,
    ttl: Annotated[
        float | None, typer.Option(help="Hours; without it until it is unpinned.")
    ] = None,
    why: Annotated[str, typer.Option("--reason", help="For whoever wonders later.")] = "",
    bucket: Bucket = "cas",
    catalog: Catalog = None,
    debug: Debug = False,
) -> None:
    """Keep content, referenced or not; prints the pin."""

    async def work(cas: trove.CAS) -> int:
        show.line(await cas.pin(digest, ttl=None if ttl is None else ttl * 3600, reason=why))
        return OK

    _on(store, bucket, catalog, work, debug=debug)


@app.command("unpin")
def unpin(
    store: Store,
    what: Annotated[str, typer.Argument(metavar="PIN|DIGEST")],
    bucket: Bucket = "cas",
    catalog: Catalog = None,
    debug: Debug = False,
) -> None:
    """Drop a pin, or all of a digest."""

    async def work(cas: trove.CAS) -> int:
        show.line(f"{await cas.unpin(what)} dropped")
        return OK

    _on(store, bucket, catalog, work, debug=debug)


@app.command("release")
def release(
    store: Store,
    digest: Digest,
    owner: Annotated[
        str | None, typer.Option("--owner", help="Else one reference without an owner.")
    ] = None,
    bucket: Bucket = "cas",
    catalog: Catalog = None,
    debug: Debug = False,
) -> None:
    """Drop a reference."""

    async def work(cas: trove.CAS) -> int:
        await cas.release(digest, owner=owner)
        return OK

    _on(store, bucket, catalog, work, debug=debug)


@app.command("rebuild")
def rebuild(
    store: Store,
    bucket: Bucket = "cas",
    catalog: Catalog = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make the index know what is in storage, after it was lost."""

    async def work(cas: trove.CAS) -> int:
        report = await cas.rebuild()
        if as_json:
            show.json_line(asdict(report))
        else:
            show.line(f"{report.found} found, {len(report.recovered)} recovered and pinned")
        return OK

    _on(store, bucket, catalog, work, debug=debug)
