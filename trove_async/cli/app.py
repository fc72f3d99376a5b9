"""The commands and their options; the work is in the modules beside it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Literal, cast

import typer

import trove_async as trove
from trove_async.cli import transfer, verbs, vfs
from trove_async.cli.address import UsageError, metadata_of
from trove_async.cli.cas import app as cas
from trove_async.cli.keys import app as keys
from trove_async.cli.layers import AllowPlain, Compressed, EncryptKey, Layers
from trove_async.cli.progress import bars
from trove_async.cli.run import OK, exit_code
from trove_async.cli.uploads import CatalogOption, catalog_for
from trove_async.cli.uploads import app as uploads

__all__ = ["app"]

app = typer.Typer(
    name="trove",
    help="""Objects on any store.

STORE is a DSN (file:///var/data, s3://bucket, mem://name) or a trove.toml.
PATH is BUCKET/KEY; it is KEY alone where the DSN names a bucket or --bucket does.

Exit codes: 0 done, 1 failed or only partly done, 2 usage, 130 interrupted.""",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Store = Annotated[str, typer.Argument(metavar="STORE", help="A DSN or a trove.toml.")]
Path_ = Annotated[str, typer.Argument(metavar="PATH", help="BUCKET/KEY.")]
BucketOption = Annotated[
    str | None, typer.Option("--bucket", "-b", help="Take PATH as a key in this bucket.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing of what went well.")]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume/--no-resume",
        help="Go on where the same command was stopped before (large files).",
    ),
]
Recursive = Annotated[bool, typer.Option("--recursive", "-r", help="Everything below PATH.")]


_PLAIN = Layers()


def _on(
    store: str,
    work: Callable[[trove.Trove], Awaitable[int]],
    *,
    debug: bool,
    layers: Layers = _PLAIN,
    catalog: str | None = None,
) -> None:
    """Opens the store, works, closes it, and leaves with the exit code."""

    async def opened() -> int:
        async with trove.open(store, middleware=layers.middleware(), catalog=catalog) as handle:
            return await work(handle)

    raise typer.Exit(exit_code(opened, debug=debug))


app.add_typer(keys, name="keys")
app.add_typer(uploads, name="uploads")
app.add_typer(cas, name="cas")


@app.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"trove-async {installed('trove-async')}")
        raise typer.Exit(OK)


@app.command("ls")
def ls(
    store: Store,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="BUCKET or BUCKET/PREFIX.")] = "",
    bucket: BucketOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-R", "-r", help="Not only one level.")
    ] = False,
    long: Annotated[bool, typer.Option("--long", "-l", help="With sizes and times (UTC).")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many entries.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List buckets, or the keys that begin with PATH, in key order."""
    _on(
        store,
        lambda handle: verbs.list_entries(
            handle,
            path,
            bucket=bucket,
            recursive=recursive,
            long=long,
            as_json=as_json,
            limit=limit,
        ),
        debug=debug,
    )


@app.command("stat")
def stat(
    store: Store,
    path: Path_,
    bucket: BucketOption = None,
    encrypt_key: EncryptKey = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what is known of an object, and the layers it went through."""
    _on(
        store,
        lambda handle: verbs.stat(handle, path, bucket=bucket, as_json=as_json),
        debug=debug,
        layers=Layers(encrypt_key=encrypt_key),
    )


@app.command("cat")
def cat(
    store: Store,
    path: Path_,
    part: Annotated[
        str | None,
        typer.Option("--range", help="As in HTTP, both ends included: 0-99, 500-, -500."),
    ] = None,
    bucket: BucketOption = None,
    encrypt_key: EncryptKey = None,
    allow_plain: AllowPlain = False,
    debug: Debug = False,
) -> None:
    """Write an object, or a range of it, to standard output."""
    _on(
        store,
        lambda handle: verbs.cat(handle, path, bucket=bucket, part=part),
        debug=debug,
        layers=Layers(False, encrypt_key, allow_plain),
    )


@app.command("put")
def put(
    store: Store,
    path: Path_,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="- is standard input.")],
    bucket: BucketOption = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="Folders, with all below them.")
    ] = False,
    content_type: Annotated[str | None, typer.Option(help="Else by the key's name.")] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", "-m", metavar="NAME=VALUE")
    ] = None,
    create_only: Annotated[
        bool, typer.Option("--create-only", help="Fail where the object exists.")
    ] = False,
    if_match: Annotated[
        str | None, typer.Option(metavar="ETAG", help="Replace this version only.")
    ] = None,
    compress: Compressed = False,
    encrypt_key: EncryptKey = None,
    resume: Resume = True,
    catalog: CatalogOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Store files. A PATH that ends in / (or is a bucket) gets the file's name appended."""

    async def work(handle: trove.Trove) -> int:
        only: Literal["*"] | None = "*" if create_only else None
        settings = transfer.PutSettings(
            content_type, metadata_of(metadata or []), only, if_match, resume
        )
        with bars(quiet=quiet or as_json) as shown:
            return await transfer.put(
                handle,
                path,
                files,
                bucket=bucket,
                recursive=recursive,
                settings=settings,
                report=transfer.Report(quiet, as_json),
                shown=shown,
            )

    _on(
        store,
        work,
        debug=debug,
        layers=Layers(compress, encrypt_key),
        catalog=catalog_for(store, catalog),
    )


@app.command("get")
def get(
    store: Store,
    path: Path_,
    target: Annotated[
        str | None, typer.Argument(metavar="[TARGET]", help="A file, a folder, or - for stdout.")
    ] = None,
    bucket: BucketOption = None,
    recursive: Recursive = False,
    encrypt_key: EncryptKey = None,
    allow_plain: AllowPlain = False,
    resume: Resume = True,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fetch objects into files, each whole or not at all, never outside TARGET.

    With --recursive, keys that have no safe place below TARGET (such as ../../x) are refused,
    listed, and make the exit code 1."""

    async def work(handle: trove.Trove) -> int:
        with bars(quiet=quiet or as_json) as shown:
            return await transfer.get(
                handle,
                path,
                target,
                bucket=bucket,
                recursive=recursive,
                report=transfer.Report(quiet, as_json),
                shown=shown,
                resume=resume,
            )

    _on(store, work, debug=debug, layers=Layers(False, encrypt_key, allow_plain))


@app.command("rm")
def rm(
    store: Store,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...")],
    bucket: BucketOption = None,
    recursive: Recursive = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Remove objects. One that is not there is no error."""
    _on(
        store,
        lambda handle: verbs.remove(
            handle, paths, bucket=bucket, recursive=recursive, quiet=quiet, as_json=as_json
        ),
        debug=debug,
    )


@app.command("cp")
def cp(
    store: Store,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="BUCKET/KEY.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="BUCKET/KEY or BUCKET/FOLDER/.")],
    to: Annotated[str | None, typer.Option("--to", metavar="STORE", help="Another store.")] = None,
    bucket: BucketOption = None,
    recursive: Recursive = False,
    compress: Compressed = False,
    encrypt_key: EncryptKey = None,
    allow_plain: AllowPlain = False,
    quiet: Quiet = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Copy objects within a store, or to another one with --to."""
    report = transfer.Report(quiet, as_json)
    layers = Layers(compress, encrypt_key, allow_plain)

    async def work(handle: trove.Trove) -> int:
        async def copy(other: trove.Trove | None) -> int:
            return await transfer.copy(
                handle,
                source,
                target,
                other=other,
                bucket=bucket,
                recursive=recursive,
                report=report,
            )

        if to is None:
            return await copy(None)
        async with trove.open(to, middleware=layers.middleware()) as other:
            return await copy(other)

    _on(store, work, debug=debug, layers=layers)


Depth = Annotated[int | None, typer.Option("--depth", "-L", min=1, help="At most so many levels.")]
Folder = Annotated[str, typer.Argument(metavar="PATH", help="BUCKET or BUCKET/DIRECTORY.")]


@app.command("tree")
def tree(
    store: Store,
    path: Folder = "",
    bucket: BucketOption = None,
    depth: Depth = None,
    only_dirs: Annotated[bool, typer.Option("--dirs", "-d", help="No files.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show a directory and all below it."""
    _on(
        store,
        lambda handle: vfs.tree(
            handle, path, bucket=bucket, depth=depth, only_dirs=only_dirs, as_json=as_json
        ),
        debug=debug,
    )


@app.command("du")
def du(
    store: Store,
    path: Folder = "",
    bucket: BucketOption = None,
    depth: Annotated[
        int | None,
        typer.Option("--depth", "-L", min=0, help="Show so many levels; 0 is the total alone."),
    ] = None,
    exact: Annotated[bool, typer.Option("--bytes", help="Sizes in bytes.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the sizes of directories, each with all below it, the innermost first.

    They are those of the listing: on S3 and SFTP the stored sizes."""
    _on(
        store,
        lambda handle: vfs.disk_usage(
            handle, path, bucket=bucket, depth=depth, exact=exact, as_json=as_json
        ),
        debug=debug,
    )


@app.command("find")
def find(
    store: Store,
    path: Annotated[
        str,
        typer.Argument(
            metavar="PATH", help="BUCKET, BUCKET/DIRECTORY, or a pattern: BUCKET/**/*.jpg."
        ),
    ] = "",
    bucket: BucketOption = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="PATTERN", help="Of the last part.")
    ] = None,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="f|d", help="Files or directories.")
    ] = None,
    min_size: Annotated[int | None, typer.Option(min=0, help="Bytes.")] = None,
    max_size: Annotated[int | None, typer.Option(min=0, help="Bytes.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find files and directories. In patterns * stays within a name, ** is any depth."""

    async def work(handle: trove.Trove) -> int:
        if kind is not None and kind not in ("f", "d"):
            raise UsageError("--type is f or d")
        wanted = vfs.Wanted(name, cast('Literal["f", "d"] | None', kind), min_size, max_size)
        return await vfs.find(handle, path, bucket=bucket, wanted=wanted, as_json=as_json)

    _on(store, work, debug=debug)


@app.command("mb")
def mb(
    store: Store,
    name: Annotated[str, typer.Argument(metavar="BUCKET")],
    debug: Debug = False,
) -> None:
    """Make a bucket."""
    _on(store, lambda handle: verbs.make_bucket(handle, name), debug=debug)


@app.command("rb")
def rb(
    store: Store,
    name: Annotated[str, typer.Argument(metavar="BUCKET")],
    force: Annotated[bool, typer.Option("--force", help="With all its objects.")] = False,
    debug: Debug = False,
) -> None:
    """Remove an empty bucket."""
    _on(store, lambda handle: verbs.delete_bucket(handle, name, force=force), debug=debug)


@app.command("demo")
def demo(
    folder: Annotated[
        str | None,
        typer.Argument(metavar="[DIR]", help="A real folder; default: Python's standard library."),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="Import for at most a part of this time.")
    ] = 15.0,
    everything: Annotated[
        bool, typer.Option("--all", help="Import all of DIR, however long it takes.")
    ] = False,
    tasks: Annotated[int, typer.Option(min=1, max=256, help="Operations at once.")] = 16,
    debug: Debug = False,
) -> None:
    """Put a real folder into a store in a temporary folder, use it, check every byte.

    DIR is only read. The exit code is 1 when anything did not come back as it was."""
    from trove_async.cli.demo import Demo, demonstrate

    settings = Demo(folder, None if everything else seconds, tasks)
    raise typer.Exit(demonstrate(settings, debug=debug))
