"""`bertconv gc`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bertconv.cli import process

if TYPE_CHECKING:
    from bertconv.manage.gc import Leftovers


@click.command(short_help="Remove what killed runs left; find models that are twice.")
@click.argument("folder", type=click.Path(file_okay=False), metavar="DIR")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; change nothing.")
@click.option("--duplicates", is_flag=True, help="List folders that hold one model; nothing of them is removed.")
@click.option("--verify", is_flag=True, help="With --duplicates: read all weights, and believe no manifest.")
@click.option("--quiet", "-q", is_flag=True, help="Print problems and the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def gc(folder: str, *, dry_run: bool, duplicates: bool, verify: bool, quiet: bool, as_json: bool) -> None:
    """Remove what killed runs of bertconv left in DIR and below it: staged folders and locks, and nothing else.

    What another bertconv is writing is kept, and so is what another user owns. An earlier output that had lost its
    place is put back. The cache of the Hub is not looked into.
    DIR may be an address, as s3://bucket/models: what killed runs had begun there is removed, a new output that was
    whole is put in the place of the earlier one, and parts of files that were never finished are given up.
    Exit code 0: done; 1: something could not be looked at or removed.

    \b
    Examples:
      bertconv gc checkpoints/ --dry-run
      bertconv gc checkpoints/
      bertconv gc s3://bucket/models
      bertconv gc checkpoints/ --duplicates --dry-run
    """  # noqa: D301
    process.copies_only()
    from bertconv.manage.gc import collect_leftovers

    if verify and not duplicates:
        raise click.UsageError("--verify goes with --duplicates.")
    found = collect_leftovers(folder, dry_run=dry_run, duplicates=duplicates, verify=verify)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        _show(found, quiet=quiet)
    click.get_current_context().exit(0 if found.ok else 1)


def _show(found: Leftovers, *, quiet: bool) -> None:
    from bertconv.text import human_bytes, printable

    would = "would be " if found.dry_run else ""
    for one in () if quiet else found.found:
        does = f"kept: {one.why}" if one.action == "kept" else f"{would}{one.action}"
        click.echo(f"{printable(one.path)} ({human_bytes(one.nbytes)}) {does}")
    for digest, twins in () if quiet else found.twins.groups:
        click.echo(f"one model, {digest}:")
        for twin in twins:
            click.echo(f"  {printable(twin.path)}" + (" (as its manifest says)" if twin.claimed else ""))
    for problem in found.problems:
        click.secho(f"Problem: {problem}.", fg="yellow", err=True)
    removed = sum(one.action == "removed" for one in found.found)
    click.secho(f"{removed} {would}removed, {human_bytes(found.freed)}.", bold=True)
