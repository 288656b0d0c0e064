"""What a person sees: a progress bar over bytes (on a terminal only), the table of a report, its notes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import click

from bertconv.report import Report
from bertconv.text import human_bytes, printable

Progress = Callable[[str, int, int], None]


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
            amount = f"{done} of {total} runs" if step == "outputs" else f"{human_bytes(done)} of {human_bytes(total)}"
            bar.update(tasks[step], completed=done, amount=amount)

        yield update


def show_report(report: Report, *, as_json: bool, quiet: bool) -> None:
    """Print a report as asked for."""
    if as_json:
        click.echo(json.dumps({"ok": report.ok, **report.to_json()}, ensure_ascii=False, indent=1))
        return
    if quiet:
        return
    click.echo(printable(f"{report.head}, {_from(report)} -> {report.target['format']}"))
    table(("Key", "Status", "Details"), report.rows())
    for note in report.notes:
        click.echo(f"Note: {printable(note)}.")
    if report.not_carried:
        click.echo(printable(f"Not carried along: {', '.join(report.not_carried)}."))
    if not report.dry_run:
        files = [*report.target["files"], "config.json", "bertconv.json", *report.sidecars]
        click.echo(printable(f"Wrote {report.target['folder']}: {', '.join(files)}."))
    click.secho(report.summary(), bold=True)
    if report.parity:
        click.secho(report.parity["verdict"], fg="green", bold=True)


def table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Columns as wide as their widest cell, headed and ruled; no wrapping, so that a name can be copied or searched."""
    cells = [headings, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    lines = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    rule = "-+-".join("-" * width for width in widths)
    click.echo("\n".join([lines[0], rule, *lines[1:]]))


def _from(report: Report) -> str:
    source = report.source
    revision = f"@{source['revision'][:12]}" if source["revision"] else ""
    return f"{source['given']}{revision} ({source['dialect']} names, {source['container']})"
