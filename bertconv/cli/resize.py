"""`bertconv resize`."""

from __future__ import annotations

import json
from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import (
    destination,
    display_options,
    format_option,
    shard_option,
    source_options,
    writing_options,
)


@click.command(short_help="Another vocabulary: rows follow their tokens.")
@click.argument("src")
@destination
@click.option("--tokenizer", metavar="T", help="Folder or Hub id of the new tokenizer (it needs no weights), or its "
              "tokenizer.json or vocab.txt [default: SRC's own].")  # fmt: skip
@click.option(
    "--from-tokenizer", metavar="F", help="The tokenizer that the rows of SRC belong to [default: SRC's own]."
)
@click.option("--new", default="mean", show_default=True, metavar="WAY",
              help="Rows of tokens that SRC has not: mean, normal, zero, pieces, or copy:TOKEN.")  # fmt: skip
@click.option("--size", type=click.IntRange(1), metavar="N", help="Number of rows [default: what the tokens need, and "
              "no fewer than there are].")  # fmt: skip
@click.option("--pad-to", type=click.IntRange(1), default=1, metavar="N", help="Make the number of rows a multiple.")
@click.option("--shrink", is_flag=True, help="Let there be fewer rows than before.")
@click.option("--seed", type=int, default=0, show_default=True, help="For --new normal.")
@format_option("SRC")
@source_options
@shard_option
@writing_options
@display_options
def resize(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Give SRC the vocabulary of another tokenizer: every row goes where the text of its token goes.

    Word embeddings, decoder and bias follow, and the ids in config.json. DST has the tokenizer files of T. Rows are
    taken away only with --shrink.

    \b
    Examples:
      bertconv resize ./model out/ --tokenizer ./medical-tokenizer
      bertconv resize ./model out/ --tokenizer ./medical-tokenizer --new pieces --pad-to 64
      bertconv resize ./model out/ --pad-to 128            more rows, the same tokens
      bertconv resize ./model out/ --shrink --dry-run      what would go?
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.resize import resize_vocabulary

    with console.progress(shown=not (as_json or quiet)) as progress:
        done = resize_vocabulary(options.pop("src"), options.pop("dst"), progress=progress, **options)
    if as_json:
        # ASCII: a token may hold half a character, which only an escape can spell
        click.echo(json.dumps({"ok": done.report.ok, **done.to_json()}, indent=1))
        return
    console.show_report(done.report, as_json=False, quiet=quiet, verbose=verbose)
