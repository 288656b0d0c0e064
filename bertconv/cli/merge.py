"""`bertconv merge`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import WITH_OUTPUT, combining_options, display_options, numbers

_METHODS = ("slerp", "task-arithmetic", "ties", "dare")


@click.command(options_metavar=WITH_OUTPUT, short_help="Models that were trained from one base become one.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--method", type=click.Choice(_METHODS), required=True, help="How: see above.")
@click.option("--base", metavar="BASE", help="The model that the inputs were trained from (not for slerp).")
@click.option("--weights", callback=numbers, metavar="W,W,...", help="One for each input [default: 1].")
@click.option(
    "--density", type=float, metavar="PART", help="ties, dare: part of each task vector that is kept [default: 0.5]."
)
@click.option(
    "--lambda", "scale", type=float, metavar="FACTOR", help="What the merged task vector is multiplied by [default: 1]."
)
@click.option("--t", type=float, metavar="T", help="slerp: 0 is the first input, 1 the second [default: 0.5].")
@click.option("--seed", type=int, metavar="N", help="dare: of the random numbers [default: 0].")
@combining_options
@display_options
def merge(inputs: tuple[str, ...], *, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Merge models of one family, class and vocabulary that were trained from one base.

    A task vector is what an input has more than BASE, element by element.

    \b
    Methods:
      slerp            along the arc between two inputs, tensor by tensor
      task-arithmetic  BASE + lambda * the weighted sum of the task vectors
      ties             task vectors trimmed to their largest elements; of every
                       element the mean of those with the elected sign
      dare             task arithmetic with elements dropped at random, and the
                       others divided by the density

    \b
    Examples:
      bertconv merge --method ties --base bert-base-uncased a/ b/ c/ -o merged/
      bertconv merge --method slerp --t 0.3 a/ b/ -o between/
      bertconv merge --method dare --base base/ a/ b/ -o merged/ --density 0.2 --seed 7
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.merge import merge_checkpoints

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = merge_checkpoints(inputs, options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
