"""`bertconv merge-adapter`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import (
    WITH_OUTPUT,
    display_options,
    family_options,
    format_option,
    hub_options,
    output_option,
    shard_option,
    writing_options,
)


@click.command("merge-adapter", options_metavar=WITH_OUTPUT, short_help="A LoRA adapter merged into its base.")
@click.argument("base")
@click.argument("adapter")
@output_option
@format_option("BASE")
@click.option("--head", "--class", "head", metavar="CLASS",
              help="Model class [default: the base's, or that of the adapter's task].")  # fmt: skip
@shard_option
@family_options("BASE")
@hub_options
@writing_options
@display_options
def merge_adapter(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Merge a LoRA adapter, as peft saves it, into the checkpoint that it was trained on.

    BASE is a Hub id, a folder or one file, in any format; ADAPTER a folder or Hub id with adapter_config.json. Every
    tensor of the adapter must find its module, every module that its config names its matrices, and every weight must
    change; else nothing is written (exit code 3). Adapters of another formula than W + scale * B A, such as DoRA, are
    refused (6).

    \b
    Examples:
      bertconv merge-adapter bert-base-uncased my-adapter/ -o merged/
      bertconv merge-adapter tf-checkpoint/ org/adapter -o merged/ --to pt
      bertconv merge-adapter base/ adapter/ -o merged/ --dry-run
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.adapter import merge_adapter as merge

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = merge(options.pop("base"), options.pop("adapter"), options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
