"""`bertconv shard` and `bertconv unshard`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import destination, display_options, source_options, writing_options

_PATHS = (click.argument("src"), destination)


@click.command(short_help="The same weights in files of a limited size.")
@_PATHS[0]
@_PATHS[1]
@click.option("--max-size", "--max-shard-size", "max_size", required=True, metavar="SIZE",
              help="Most bytes of tensors in one file, such as 500MB.")  # fmt: skip
@source_options
@writing_options
@display_options
def shard(**options: Any) -> None:
    """Write SRC into files of at most --max-size bytes of tensors each, with the index that names them.

    The format stays, and so does every number: the digest of the model is that of SRC. A tensor that is larger than the
    limit has a file of its own.

    \b
    Examples:
      bertconv shard bert-large-uncased out/ --max-size 500MB
      bertconv shard ./checkpoint out/ --max-size 200MB --dry-run
    """  # noqa: D301
    _run("shard_checkpoint", **options)


@click.command(short_help="The same weights in one file.")
@_PATHS[0]
@_PATHS[1]
@source_options
@writing_options
@display_options
def unshard(**options: Any) -> None:
    """Write all shards of SRC into one file.

    The format stays, and so does every number: the digest of the model is that of SRC.

    \b
    Examples:
      bertconv unshard ./sharded out/
      bertconv unshard org/name@main out/ --overwrite
    """  # noqa: D301
    _run("unshard_checkpoint", **options)


def _run(name: str, *, src: str, dst: str, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage import shard as verbs

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = getattr(verbs, name)(src, dst, progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
