"""`bertconv fleet status`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bertconv.cli.fleet_run import state_folder, state_option

if TYPE_CHECKING:
    from bertconv.fleet.status import Status


@click.command(short_help="What became of the items so far.")
@click.argument("out", metavar="OUT")
@click.option("--list", "list_", type=click.Path(dir_okay=False, exists=True), metavar="LIST",
              help="Also count what no ledger knows of this list, by the manifests of the outputs.")  # fmt: skip
@state_option
@click.option("--quiet", "-q", is_flag=True, help="Print the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def status(out: str, list_: str | None, *, state: str | None, quiet: bool, as_json: bool) -> None:
    """Say what became of the items whose outputs go to OUT, while they run or afterwards.

    Where the ledger is lost, the manifests of the outputs tell what is done.
    Exit code 0: nothing has failed so far; 1: something has.

    \b
    Examples:
      bertconv fleet status out/
      bertconv fleet status out/ --list list.jsonl
      bertconv fleet status out/ --json | jq '.failures[].src'
    """  # noqa: D301
    from bertconv.fleet.items import placed, read_items
    from bertconv.fleet.status import status_of

    items = None if list_ is None else placed(read_items(Path(list_)), out)
    found = status_of(out, state_folder(out, state), items)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        _show(found, quiet=quiet)
    click.get_current_context().exit(1 if found.failures else 0)


def _show(found: Status, *, quiet: bool) -> None:
    from bertconv.cli.console import table
    from bertconv.fleet.outcome import what_is_wrong
    from bertconv.text import human_bytes, printable, public

    if not quiet:
        if rows := [
            (
                row.state,
                f"{row.code}",
                row.kind,
                *map(printable, (public(row.src), what_is_wrong(public(row.src), row).split("\n")[0])),
            )
            for row in found.failures
        ]:
            table(("State", "Code", "Kind", "Source", "What is wrong"), rows)
        if found.from_manifests:
            click.echo("There is no ledger: this is what the manifests of the outputs say.")
    counts = ", ".join(f"{number:,} {state}" for state, number in found.counts.items())
    rate = f", {found.rate:.1f} items/s in the last run" if found.rate else ""
    click.secho(f"{len(found.rows):,} items: {counts}; {human_bytes(found.nbytes)}{rate}.", bold=True)
