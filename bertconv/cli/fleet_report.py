"""`bertconv fleet report`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bertconv.cli import process
from bertconv.cli.fleet_run import state_folder, state_option

if TYPE_CHECKING:
    from bertconv.fleet.report import FleetReport

_SHOWN = 5
"""Failures of one kind that are printed."""


@click.command(short_help="What became of a fleet: one page, or JSON.")
@click.argument("out", metavar="OUT")
@click.option("--output", "-o", metavar="PAGE", type=click.Path(dir_okay=False), help="Write an HTML page.")
@state_option
@click.option("--quiet", "-q", is_flag=True, help="Print the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def report(out: str, *, output: str | None, state: str | None, quiet: bool, as_json: bool) -> None:
    """Say what became of the fleet in OUT: totals, families, formats, failures with the command that repeats each.

    The page of -o is one file that asks the network for nothing. It also has the models that several sources hold, and
    how much was done when. The fleet may be running meanwhile.
    Exit code 0, whatever became of the items.

    \b
    Examples:
      bertconv fleet report out/
      bertconv fleet report out/ -o report.html
      bertconv fleet report out/ --json | jq '.kinds[].failures[].command'
    """  # noqa: D301
    process.copies_only()
    if output is not None:
        from bertconv.verify.report_files import check_replaceable

        check_replaceable(Path(output))
    from bertconv.fleet.report import fleet_report
    from bertconv.fleet.report_rows import rows_of

    found = fleet_report(out, rows_of(out, state_folder(out, state)))
    if output is not None:
        from bertconv.fleet.report_page import fleet_page
        from bertconv.verify.report_files import write_text

        write_text(Path(output), fleet_page(found))
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        _show(found, quiet=quiet)


def _show(found: FleetReport, *, quiet: bool) -> None:
    from bertconv.text import human_bytes, printable

    for kind in () if quiet else found.kinds:
        click.secho(printable(f"{kind.name} (exit code {kind.code}): {len(kind.failures):,}"), fg="red")
        for one in kind.failures[:_SHOWN]:
            click.echo(printable(f"  {one.src}: {one.message}"))
            click.echo(printable(f"    {one.command}"))
        if len(kind.failures) > _SHOWN:
            click.echo(f"  and {len(kind.failures) - _SHOWN:,} more (--json lists them)")
    if found.twins and not quiet:
        click.echo(
            f"Models that several sources hold: {len(found.twins):,}; one copy of each would save "
            f"{human_bytes(found.twice)} (--json and the page name them)."
        )
    click.secho(found.summary(), bold=True)
