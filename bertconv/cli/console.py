"""What a person sees: a progress bar over bytes (on a terminal only), the table of a report, its notes, the verdict."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bertconv.progress import Progress
from bertconv.text import brief, human_bytes, printable

if TYPE_CHECKING:
    from bertconv.manage.doctor import Diagnosis
    from bertconv.manage.hash import Digest
    from bertconv.report import Report


_COUNTED = {"outputs": "runs", "models": "models", "folders": "folders", "manifests": "manifests"}
"""Steps that are not counted in bytes."""


@contextmanager
def progress(*, shown: bool) -> Iterator[Progress | None]:
    """A bar for each step, over its bytes or over the runs of the models, on a terminal only."""
    if not shown or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:9}"), BarColumn(), TextColumn("{task.fields[amount]}"), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks = {}

        def update(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total, amount="")
            unit = _COUNTED.get(step)
            amount = f"{done} of {total} {unit}" if unit else f"{human_bytes(done)} of {human_bytes(total)}"
            bar.update(tasks[step], completed=done, amount=amount)

        yield update


def show_report(report: Report, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Print a report as asked for.

    Args:
        report: the outcome.
        as_json: everything, for scripts.
        quiet: the last lines only.
        verbose: one row a tensor, and notes in full. Without it layers are folded; where nobody sits at a terminal, the
            tensors that were simply loaded or all computed in one way are counted, so that a log has in few lines what
            deserves a look.
    """
    if as_json:
        click.echo(json.dumps({"ok": report.ok, **report.to_json()}, ensure_ascii=False, indent=1))
        return
    if not quiet:
        click.echo(printable(f"{report.head}, {_from(report)} -> {report.target['format']}"))
        for parent in report.parents if len(report.parents) > 1 else ():
            digest = parent.digest.removeprefix("sha256:")[:12]
            click.echo(printable(f"  {parent.role} {_at(parent.given, parent.commit)} {digest}".rstrip()))
        _show_tensors(report, verbose=verbose)
        if functions := report.functions():
            show_line(f"Function: {functions}.", verbose=verbose)
        for note in report.notes:
            show_line(f"Note: {note}.", verbose=verbose)
        if report.not_carried:
            show_line(f"Not carried along: {', '.join(report.not_carried)}.", verbose=verbose)
        if not report.dry_run:
            show_line(f"Wrote {report.target['folder']}: {', '.join(_written(report))}.", verbose=verbose)
    click.secho(report.summary(), bold=True)
    if report.omitted:
        click.secho(f"Warning: the source computes with what was left out: {brief(report.omitted)}.", fg="yellow")
    if report.parity:
        click.secho(report.parity["verdict"], fg="yellow" if report.omitted else "green", bold=True)


def note_revision(asked: str | None, found: Diagnosis | Digest) -> None:
    """A line on standard error for a `--revision` beside a path, of a command whose report has no place for it."""
    if asked is not None and found.revision is None:
        from bertconv.source.local import revision_note

        click.echo(printable(f"Note: {found.given}: {revision_note(asked)}."), err=True)


def _show_tensors(report: Report, *, verbose: bool) -> None:
    counted = ""
    if not (verbose or sys.stdout.isatty()):
        ways = {(one.state, one.details) for one in report.tensors}
        alone = ways.pop() if len(ways) == 1 else ("", "")
        counted, how = ("computed", f": {alone[1]}") if alone[0] == "computed" else ("loaded", "")
        amount = sum(one.state == counted for one in report.tensors)
        click.echo(f"{amount} of {len(report.tensors)} tensors {counted}{how} (--verbose lists them)")
        report = _without_many_alike(report)
    if rows := list(report.rows(but=counted, every=verbose)):
        table(("Key", "Status", "Details"), rows)


def _without_many_alike(report: Report) -> Report:
    """Print the number of tensors left out for one reason, where there are many; the report without them."""
    amounts = Counter((one.state, one.details) for one in report.left_out if one.state in ("unused", "ignored"))
    many = {reason for reason, amount in amounts.items() if amount > _MANY}
    for state, details in sorted(many):
        click.echo(f"{amounts[state, details]} tensors left out, {state}: {printable(details)} (--verbose lists them)")
    few = tuple(one for one in report.left_out if (one.state, one.details) not in many)
    return replace(report, left_out=few)


_MANY = 10
"""Tensors left out for one reason that a log lists; of more it has the number."""


def show_line(text: str, *, verbose: bool) -> None:
    """Print a note; of a long one, with many names, only the beginning unless everything is asked for."""
    if len(text) > _LONG and not verbose:
        text = f"{text[:_LONG].rpartition(' ')[0]} ... (--verbose shows all of it)"
    click.echo(printable(text))


_LONG = 400
"""Characters of a note that are printed unless all are asked for: five lines of a terminal."""


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell, headed and ruled; no wrapping, so that a name can be copied or searched."""
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rule = "-+-".join("-" * width for width in widths)
    click.echo("\n".join([lines[0], rule, *lines[1:]]))


def _from(report: Report) -> str:
    from bertconv.mapping.dialects import title_of

    source = report.source
    place = _at(source["given"], source["revision"])
    return f"{place} ({title_of(source['dialect']) or source['dialect']} names, {source['container']})"


def _written(report: Report) -> list[str]:
    """The files of an output: weights, config, manifest, what goes along, and what else its programs look for."""
    folder = Path(report.target["folder"])
    named = [*report.target["files"], "config.json", "bertconv.json", *report.sidecars]
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return [*named, *(name for name in found if name not in named)]


def _at(given: str, commit: str | None) -> str:
    return f"{given}@{commit[:12]}" if commit else given
