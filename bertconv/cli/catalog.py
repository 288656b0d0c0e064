"""`bertconv catalog`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process

if TYPE_CHECKING:
    from bertconv.catalog import Catalog, Entry, Problem, Refreshed

_SHORT = 12
"""Digits of a digest in the table."""


@click.command(short_help="Which outputs lie in a folder or a bucket? By digest, class, labels, parent.")
@click.argument("places", nargs=-1, metavar="[DIR|URL]...")
@click.option("--digest", default="", metavar="DIGEST", help="Outputs with this model: 8 of its digits or more.")
@click.option("--backbone", default="", metavar="DIGEST", help="Outputs with this backbone, likewise.")
@click.option("--family", default="", metavar="NAME", help="Outputs of this model type.")
@click.option("--head", default="", metavar="CLASS", help="Outputs of this model class.")
@click.option("--label", "labels", multiple=True, metavar="NAME", help="Outputs that know this label; repeatable.")
@click.option("--only-labels", is_flag=True, help="With --label: outputs that know these labels and no others.")
@click.option("--parent", default="", metavar="DIGEST|NAME",
              help="Outputs made from this: a digest, a Hub id (also with @COMMIT) or a folder's name.")  # fmt: skip
@click.option("--ancestors", default="", metavar="DIGEST", help="What this model was made from, and that, and so on.")
@click.option(
    "--descendants", default="", metavar="DIGEST", help="What was made of this model, and of that, and so on."
)
@click.option("--duplicates", is_flag=True, help="Of all that fits the rest, the models that are there several times.")
@click.option("--db", "database", metavar="FILE|URL",
              help="Keep the tables in SQLite's FILE or in postgresql://...: only what is new is read.")  # fmt: skip
@click.option("--forget", is_flag=True, help="With --db: take what lies in DIR off record, and look at nothing.")
@click.option("--sql", is_flag=True, help="Print the statements that make the tables, and do nothing else.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
@click.option("--quiet", "-q", is_flag=True, help="Print the places alone, one a line; no note and no problem.")
def catalog(
    places: tuple[str, ...], *, database: str | None, forget: bool, sql: bool, as_json: bool, quiet: bool, **query: Any
) -> None:
    """List the outputs of bertconv in each DIR or below each URL, by what their bertconv.json says of them.

    Only bertconv.json is read, and the config beside it where the model has labels; one that was changed since it was
    written is named as a problem, and not believed. With --db and no DIR, what is on record is asked, and nothing is
    looked at.
    Exit code 0: something was found; 1: nothing; others as of every command.

    \b
    Examples:
      bertconv catalog runs/
      bertconv catalog runs/ --digest 8e46ab12
      bertconv catalog runs/ archive/ --family bert --label spam --label ham --only-labels
      bertconv catalog runs/ --parent google-bert/bert-base-uncased --json
      bertconv catalog runs/ --duplicates
      bertconv catalog s3://bucket/models --db models.db
      bertconv catalog --db models.db --descendants 8e46ab12
      bertconv catalog runs/ --db postgresql://writer@server/models
    """  # noqa: D301
    process.copies_only()
    from bertconv.catalog import Catalog

    _check(places, database, query, forget=forget, sql=sql)
    if sql:
        click.echo(Catalog.schema(postgresql="://" in (database or "")), nl=False)
        return
    with Catalog(database) as tables:
        if forget:
            _forget(tables, places, as_json=as_json, quiet=quiet)
            return
        refreshed = [_refresh(tables, place, shown=not (as_json or quiet)) for place in places]
        within = [one.root for one in refreshed]
        found = tables.find(**query, within=within)
        problems = tables.problems(within)
        amount = tables.count(within)
    if as_json:
        click.echo(json.dumps(_facts(found, problems, refreshed), ensure_ascii=False, indent=1))
    elif quiet:
        click.echo("".join(f"{_printable(one.place)}\n" for one in found), nl=False)
    else:
        _show(found, problems, refreshed, amount, by_model=query["duplicates"])
    if not found:
        raise click.exceptions.Exit(1)


def _check(places: tuple[str, ...], database: str | None, query: dict[str, Any], *, forget: bool, sql: bool) -> None:
    if not places and database is None and not sql:
        raise click.UsageError("Give a DIR or a URL to look into, or --db with what is on record.")
    if forget and (database is None or not places):
        raise click.UsageError("--forget goes with --db and a DIR.")
    if forget and any(query.values()):
        raise click.UsageError("--forget asks for nothing: give it no other option.")
    if query["only_labels"] and not query["labels"]:
        raise click.UsageError("--only-labels goes with --label.")
    if query["ancestors"] and query["descendants"]:
        raise click.UsageError("--ancestors and --descendants exclude each other.")


def _refresh(tables: Catalog, place: str, *, shown: bool) -> Refreshed:
    from bertconv.cli.console import progress

    with progress(shown=shown) as bar:
        return tables.refresh(place, progress=bar)


def _forget(tables: Catalog, places: tuple[str, ...], *, as_json: bool, quiet: bool) -> None:
    removed = sum(tables.forget(place) for place in places)
    if as_json:
        click.echo(json.dumps({"ok": True, "removed": removed}))
    elif not quiet:
        click.secho(f"{removed:,} taken off record.", bold=True)


def _facts(found: tuple[Entry, ...], problems: tuple[Problem, ...], refreshed: list[Refreshed]) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "ok": bool(found),
        "found": [one.to_json() for one in found],
        "problems": [asdict(one) for one in problems],
        "places": [asdict(one) for one in refreshed],
    }


def _show(
    found: tuple[Entry, ...],
    problems: tuple[Problem, ...],
    refreshed: list[Refreshed],
    amount: int,
    *,
    by_model: bool,
) -> None:
    from bertconv.cli.console import table

    if by_model:
        _show_models(found)
    elif found:
        headings = ("Digest", "Family", "Class", "Format", "Made by", "Verified", "Place")
        table(headings, (tuple(map(_printable, _cells(one))) for one in found))
    for note in (note for one in refreshed for note in one.notes):
        click.echo(f"Note: {_printable(note)}.", err=True)
    for one in problems:
        click.secho(f"Problem: {_printable(one.place)}: {_printable(one.problem)}.", fg="yellow", err=True)
    click.secho(f"{len(found):,} found of {amount:,} outputs{_read(refreshed)}.", bold=True)


def _read(refreshed: list[Refreshed]) -> str:
    if not refreshed:
        return " on record; nothing was looked at"
    read, removed = sum(one.read for one in refreshed), sum(one.removed for one in refreshed)
    return f", {read:,} read" + (f", {removed:,} gone" if removed else "")


def _cells(one: Entry) -> tuple[str, ...]:
    kind = f"{one.head} ({one.part})" if one.part else one.head
    return one.digest.rpartition(":")[2][:_SHORT], one.family, kind, one.format, one.verb, one.verified, one.place


def _show_models(found: tuple[Entry, ...]) -> None:
    """The places of each model, and what they take."""
    from itertools import groupby

    from bertconv.text import human_bytes

    for digest, entries in groupby(found, key=lambda one: one.digest):
        click.echo(f"one model, {_printable(digest)}:")
        for one in entries:
            click.echo(f"  {_printable(one.place)} ({_printable(one.format)}, {human_bytes(one.nbytes)})")


def _printable(text: str) -> str:
    from bertconv.text import printable

    return printable(text)
