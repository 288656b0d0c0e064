"""`bertconv doctor`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process
from bertconv.cli.options import detail_options, source_options

if TYPE_CHECKING:
    from bertconv.manage.doctor import Diagnosis, Finding

_COLOURS = {"error": "red", "warning": "yellow", "note": None}


@click.command(short_help="What is wrong with a checkpoint, and what repairs it.")
@click.argument("src")
@source_options
@click.option("--deep", is_flag=True, help="Read the weights too: NaN, zeros, untrained rows, copies that differ.")
@click.option(
    "--for",
    "programs",
    multiple=True,
    metavar="PROGRAM",
    help="Only what concerns this program; repeatable: transformers-5, transformers-4-torch, "
    "transformers-4-tensorflow, kerashub, bertconv, others [default: all].",
)
@detail_options("Print notes with their commands too, and names in full.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def doctor(src: str, *, quiet: bool, verbose: bool, as_json: bool, **options: Any) -> None:
    """Say what is wrong with SRC, what other programs will make of it, and the command that repairs it.

    Nothing is written; only headers, the config and the tokenizer are read, unless --deep is given. An error is what
    goes wrong in silence or everywhere; a warning fails loudly or may be meant so; a note is good to know.
    Exit code 0: notes at most; 1: errors or warnings.

    \b
    Examples:
      bertconv doctor ./checkpoint
      bertconv doctor ./checkpoint --deep
      bertconv doctor bert-base-uncased --for transformers-5
      bertconv doctor ./checkpoint --json | jq '.findings[].command'
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli.console import note_revision, progress
    from bertconv.manage.doctor import diagnose

    with progress(shown=options["deep"] and not (quiet or as_json)) as shown:
        found = diagnose(src, progress=shown, **options)
    if not quiet:
        note_revision(options["revision"], found)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        _show(found, quiet=quiet, verbose=verbose)
    click.get_current_context().exit(0 if found.healthy else 1)


def _show(found: Diagnosis, *, quiet: bool, verbose: bool) -> None:
    from bertconv.text import printable

    is_a = found.inspection
    if not quiet:
        kind = is_a.head or " or ".join(is_a.alternatives) or "no known class"
        types = ", ".join(is_a.dtypes)
        size = f"{is_a.parameters:,} parameters"
        click.echo(f"{printable(is_a.given)}: {kind}, {is_a.container}, {types}, {size}")
    told: set[str] = set()
    for finding in found.findings:
        is_note = finding.severity == "note"
        if quiet and is_note:
            continue
        click.secho(f"{finding.severity:8}", fg=_COLOURS[finding.severity], nl=False)
        click.echo(f"{finding.id}: {printable(finding.message)}")
        if verbose or not (quiet or is_note):
            _details(finding, told)
    counts = ", ".join(
        f"{number} {severity}{'s' if number > 1 else ''}"
        for severity in ("error", "warning", "note")
        if (number := found.count(severity))
    )
    said = counts or "nothing found"
    rest = "" if found.deep else "; the weights were not read (--deep)"
    click.secho(f"{'Healthy' if found.healthy else 'Not healthy'}: {said}{rest}.", bold=True)


def _details(finding: Finding, told: set[str]) -> None:
    click.echo(f"        concerns {', '.join(finding.programs)}")
    if finding.command:
        click.echo(f"        $ {finding.command}" + (" (as above)" if finding.command in told else ""))
        told.add(finding.command)
    if finding.advice:
        click.echo(f"        {finding.advice}")
