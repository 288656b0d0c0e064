"""`bertconv history`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process

if TYPE_CHECKING:
    from bertconv.manage.history import Graph

_COLOURS = {"proven": "green", "changed": "red"}


@click.command(short_help="What was a model made of, as far as can be told?")
@click.argument("folder", metavar="DIR")
@click.option("--in", "search", multiple=True, type=click.Path(file_okay=False), metavar="DIR",
              help="Look for parents in this folder and below it; repeatable.")  # fmt: skip
@click.option(
    "--verify", is_flag=True, help="Hash the weights of all that is found; also finds parents without a record."
)
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
@click.option("--dot", "as_dot", is_flag=True, help="The graph in the language of Graphviz.")
@click.option(
    "--html", "page", type=click.Path(dir_okay=False), metavar="FILE", help="Write a page with a picture of it."
)
@click.option(
    "--quiet", "-q", is_flag=True, help="Print the last line only: how many models, and what is known of them."
)
def history(folder: str, *, as_json: bool, as_dot: bool, page: str | None, quiet: bool, **options: Any) -> None:
    """Show what the model in DIR, an output of bertconv, was made of, and what that was made of.

    bertconv.json names the parents of an output by the digests of their weights. A parent is "claimed" where only that
    says so, "recorded" where a folder of --in has a bertconv.json with that digest, and "proven" where the weights
    there were hashed just now and have it.
    Exit code 1: with --verify, weights are not those that their bertconv.json is about.

    \b
    Examples:
      bertconv history averaged/
      bertconv history averaged/ --in runs/ --in base/ --verify
      bertconv history averaged/ --in runs/ --html history.html
      bertconv history averaged/ --dot | dot -Tsvg > history.svg
    """  # noqa: D301
    process.copies_only()
    if as_json and as_dot:
        raise click.UsageError("--json and --dot exclude each other.")
    if page is not None:
        from bertconv.verify.report_files import check_replaceable

        check_replaceable(Path(page))
    from bertconv.cli.console import progress
    from bertconv.manage.history import lineage

    with progress(shown=not (quiet or as_json or as_dot)) as bar:
        graph = lineage(folder, progress=bar, **options)
    if page is not None:
        from bertconv.manage.history.page import history_page
        from bertconv.verify.report_files import write_text

        write_text(Path(page), history_page(graph))
    _show(graph, as_json=as_json, as_dot=as_dot, quiet=quiet)
    if not graph.ok:
        raise click.exceptions.Exit(1)


def _show(graph: Graph, *, as_json: bool, as_dot: bool, quiet: bool) -> None:
    from bertconv.manage.history.text import dot, tree
    from bertconv.text import printable

    if as_json:
        click.echo(json.dumps(graph.to_json(), ensure_ascii=False, indent=1))
        return
    if as_dot:
        click.echo(dot(graph), nl=False)
        return
    if not quiet:
        for line, state in tree(graph):
            click.secho(line, fg=_COLOURS.get(state))
        for note in graph.notes:
            click.echo(printable(f"Note: {note}."))
    click.secho(f"{graph.summary()}.", bold=True)
