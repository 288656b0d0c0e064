"""`bertconv extract`, `attach` and `layers`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import (
    WITH_OUTPUT,
    common_source_options,
    destination,
    display_options,
    family_options,
    format_option,
    hub_options,
    output_option,
    shard_option,
    source_options,
    writing_options,
)


@click.command(short_help="One class's tensors of a checkpoint that has more, or its head.")
@click.argument("src")
@destination
@click.option("--class", "--head", "head", metavar="CLASS", help="Model class to extract, such as BertModel.")
@click.option("--part", type=click.Choice(["head"]), help="Everything that is not of the backbone, on its own.")
@shard_option
@common_source_options
@writing_options
@display_options
def extract(**options: Any) -> None:
    """Write the tensors of one class of SRC as a model of its own, or its head alone.

    A head is a folder of its tensors (a pooler among them), its config, and the digest of the backbone that it was
    trained with; `bertconv attach` puts it on one. With --class, --part head takes the head of that class.

    \b
    Examples:
      bertconv extract bert-base-uncased body/ --class BertModel
      bertconv extract ./classifier head/ --part head
    """  # noqa: D301
    from bertconv.manage.extract import extract_checkpoint

    _run(partial(extract_checkpoint, options.pop("src")), **options)


@click.command(options_metavar=WITH_OUTPUT, short_help="One checkpoint's backbone with another's head.")
@click.argument("backbone")
@click.argument("head")
@output_option
@click.option("--force", is_flag=True, help="Also on another backbone or vocabulary than HEAD was trained with.")
@format_option("BACKBONE")
@shard_option
@family_options("both")
@hub_options
@writing_options
@display_options
def attach(*, backbone: str, head: str, **options: Any) -> None:
    """Write a model of the backbone of BACKBONE and the head of HEAD.

    HEAD is a folder that `bertconv extract --part head` wrote, which remembers its backbone, or a whole checkpoint.
    Labels and task are HEAD's, tokenizer and everything else BACKBONE's.

    \b
    Examples:
      bertconv attach bert-base-uncased head/ -o out/
      bertconv attach ./pretrained-further ./classifier -o out/
    """  # noqa: D301
    from bertconv.manage.attach import attach_head

    _run(partial(attach_head, backbone, head), **options)


@click.command(short_help="A student of some of a model's layers.")
@click.argument("src")
@destination
@click.option(
    "--keep",
    required=True,
    metavar="NUMBERS",
    help="Layers in the order of the student, the first one 0, negative ones from the end: 0,2,4 or 0-5,-1.",
)
@shard_option
@source_options
@writing_options
@display_options
def layers(**options: Any) -> None:
    """Write the layers --keep of SRC as a model of its own, numbered anew; everything else goes over as it is.

    \b
    Examples:
      bertconv layers bert-base-uncased student/ --keep 0,2,4,7,9,11
      bertconv layers ./checkpoint student/ --keep 0-5
    """  # noqa: D301
    from bertconv.manage.layers import keep_layers

    _run(partial(keep_layers, options.pop("src")), **options)


def _run(verb: Any, *, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    process.copies_only()
    from bertconv.cli import console

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = verb(options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
