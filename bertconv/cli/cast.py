"""`bertconv cast`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import DTYPES, destination, display_options, shard_option, source_options, writing_options

_KEPT = ("norm", "bias", "embeddings", "head")


def _words(_context: click.Context, _parameter: click.Parameter, values: tuple[str, ...]) -> list[str]:
    """Names at commas; a regex may hold some."""
    found: list[str] = []
    for value in values:
        words = value.split(",")
        found += words if set(words) <= set(_KEPT) else [value]
    return found


def _completed(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    before, comma, last = begun.rpartition(",")
    return [f"{before}{comma}{name}" for name in _KEPT if name.startswith(last) and name not in before.split(",")]


@click.command(short_help="The same model in another element type, changes counted.")
@click.argument("src")
@destination
@click.option("--dtype", type=click.Choice(DTYPES[1:]), required=True, help="Element type of the output.")
@click.option("--keep", multiple=True, metavar="WHAT", callback=_words, shell_complete=_completed,
              help="Tensors that keep their type: norm (LayerNorm), bias, embeddings, head, at commas; or a regex of "
                   "neutral ids. Repeatable.")  # fmt: skip
@shard_option
@source_options
@writing_options
@display_options
def cast(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Cast the weights of SRC to --dtype, each number rounded once, to nearest even.

    A number that the type cannot hold is refused. The last line says how many numbers were rounded, and how many of
    these to zero; --json and --verbose say it of each tensor. The format stays.

    \b
    Examples:
      bertconv cast bert-base-uncased out/ --dtype bfloat16
      bertconv cast ./checkpoint out/ --dtype float16 --keep norm,bias
      bertconv cast ./checkpoint out/ --dtype float16 --keep '^layer\\.11\\.'
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.cast import cast_checkpoint

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = cast_checkpoint(options.pop("src"), options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
