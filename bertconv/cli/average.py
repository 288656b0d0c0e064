"""`bertconv average`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import WITH_OUTPUT, combining_options, display_options, numbers


def _last(context: click.Context, parameter: click.Parameter, value: str | None) -> int | str | None:
    if value is None or value == "all":
        return value
    if not value.isascii() or not value.isdigit() or int(value) < 1:
        raise click.BadParameter(f"{value!r} is neither a number of 1 or more nor 'all'.", context, parameter)
    return int(value)


@click.command(options_metavar=WITH_OUTPUT, short_help="The mean of several checkpoints of one model.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("--weights", callback=numbers, metavar="W,W,...", help="One for each input [default: all equal].")
@click.option(
    "--ema",
    type=float,
    metavar="RATE",
    help="Exponential moving average instead: later inputs count more; 0.9 keeps 90 % at each.",
)
@click.option(
    "--last",
    callback=_last,
    metavar="N",
    help="INPUT is the folder of a training run: take its last N checkpoint-STEP folders, or 'all'.",
)
@combining_options
@display_options
def average(inputs: tuple[str, ...], *, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    """Write the weighted mean of several checkpoints of one model, element by element.

    INPUT is a Hub id, a folder or one file, in any format; one folder of a training run stands for the checkpoint-STEP
    folders in it, in the order of their steps. Sums are taken in float64 and rounded once; what is equal in all inputs
    stays as it is, bit for bit. Inputs of another class, size or vocabulary are refused.

    \b
    Examples:
      bertconv average run/checkpoint-500 run/checkpoint-1000 -o averaged/
      bertconv average --last 3 run/ -o averaged/
      bertconv average --ema 0.9 run/ -o averaged/
      bertconv average a/ b/ c/ -o soup/ --weights 2,1,1 --heads first
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.average import average_checkpoints

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = average_checkpoints(inputs, options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
