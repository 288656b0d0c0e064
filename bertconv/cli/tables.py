"""`bertconv tables`: what maps to what, and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from bertconv.mapping.describe import Comparison, Spoken, TableRow
    from bertconv.mapping.dialects import Dialect
    from bertconv.mapping.table import Table

_FILE = click.option("--map", "path", type=click.Path(dir_okay=False, exists=True), metavar="FILE",
                     help="A table of your own instead of a built-in one.")  # fmt: skip
_SHOWN = 5
"""Most names that are shown of a list."""
_JSON = click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")


@click.group(short_help="What maps to what, and why.")
def tables() -> None:
    """Look at the mapping tables: which tensor has which name in which dialect.

    \b
    Examples:
      bertconv tables show bert
      bertconv tables show bert --head BertForMaskedLM --dialect pt
      bertconv tables dialects bert
      bertconv tables explain cls.predictions.decoder.weight
      bertconv tables ignore BertForMaskedLM
      bertconv tables check --map my_table.toml
    """  # noqa: D301


def _families(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from bertconv.families import families

    return sorted(name for name in families() if name.startswith(begun))


def _dialects(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """By the names of their formats, which people know from `--to`."""
    from bertconv.formats.output import formats

    return [name for name in formats() if name.startswith(begun)]


_FAMILY = click.argument("family", required=False, shell_complete=_families)


@tables.command()
@_FAMILY
@click.option("--head", metavar="CLASS", help="Only what this class owns.")
@click.option(
    "--dialect",
    "chosen",
    multiple=True,
    metavar="DIALECT",
    shell_complete=_dialects,
    help="Only names of this dialect or format; may be repeated.",
)
@_FILE
@_JSON
def show(family: str | None, head: str | None, chosen: tuple[str, ...], path: str | None, *, as_json: bool) -> None:
    """List every tensor of FAMILY (such as bert) in every dialect that it is spoken in, with its shape by axis name.

    One dialect is a table, several are a paragraph for each tensor.

    \b
    Examples:
      bertconv tables show bert
      bertconv tables show roberta --head RobertaForMaskedLM --dialect keras-hub
      bertconv tables show bert --dialect pt --dialect tf1
    """  # noqa: D301
    from bertconv.cli.console import table as print_table
    from bertconv.mapping.describe import dialect_of, table_rows
    from bertconv.mapping.dialects import load_dialects

    table = _table(family, path, head)
    dialects = [dialect_of(table, name) for name in dict.fromkeys(chosen)] or table.spoken(load_dialects())
    rows = table_rows(table, head, dialects)
    if as_json:
        click.echo(json.dumps([row.to_json() for row in rows], indent=1))
    elif len(dialects) == 1:
        places = [(row, row.places[dialects[0].name]) for row in rows]
        print_table(("Id", dialects[0].title, "Axes"), [
            (row.id, place.name if place else _NO_PLACE, place.axes if place else "") for row, place in places
        ])  # fmt: skip
    else:
        every = ", ".join(table.heads)
        click.echo("\n".join(line for row in rows for line in _paragraph(row, dialects, every)))


_NO_PLACE = "no place for it"


def _paragraph(row: TableRow, dialects: Sequence[Dialect], every: str) -> Iterator[str]:
    """One tensor in several dialects, one a line, so that names of any length can be read below each other."""
    wide = max(len(dialect.title) for dialect in dialects)
    yield row.id
    for dialect in dialects:
        place = row.places[dialect.name]
        yield f"  {dialect.title:{wide}}  {f'{place.name} [{place.axes}]' if place else _NO_PLACE}"
    yield f"  {'owned by':{wide}}  {'every class' if row.owned_by == every else row.owned_by}"


@tables.command()
@_FAMILY
@_FILE
@_JSON
def dialects(family: str | None, path: str | None, *, as_json: bool) -> None:
    """Say in which dialects FAMILY is spoken, which classes there are in each, and what it has no place for.

    Without FAMILY: which families are spoken in which dialect.

    \b
    Examples:
      bertconv tables dialects
      bertconv tables dialects electra
    """  # noqa: D301
    from bertconv.cli.console import table as print_table
    from bertconv.families import families
    from bertconv.mapping.describe import spoken_dialects
    from bertconv.mapping.dialects import load_dialects
    from bertconv.mapping.table import table_for

    every = load_dialects().by_name.values()
    if family or path:
        spoken = spoken_dialects(_table(family, path))
        found: Any = [one._asdict() for one in spoken]
        lines = [line for one in spoken for line in _facts(one)]
        click.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))
        return
    found = {name: [one.dialect for one in spoken_dialects(table_for(name))] for name in families()}
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        print_table(("Family", *(dialect.title for dialect in every)), [
            (name, *("yes" if dialect.name in own else "-" for dialect in every)) for name, own in found.items()
        ])  # fmt: skip


def _facts(spoken: Spoken) -> Iterator[str]:
    """A dialect's name, and what can be held in it."""
    formats = f"written as {', '.join(spoken.formats)}" if spoken.formats else "read, not written"
    yield f"{spoken.title} ({spoken.dialect}), {formats}"
    yield f"  classes    {', '.join(spoken.heads) if spoken.missing else 'all'}"
    for heading, found in (
        ("not there", spoken.missing), ("no place", spoken.lacks), ("always", spoken.always), ("copies", spoken.copies),
    ):  # fmt: skip
        if found:
            yield f"  {heading:9}  {', '.join(found)}"


@tables.command()
@_FILE
@_JSON
def check(path: str | None, *, as_json: bool) -> None:
    """Run every static check on the built-in tables, or on a table of your own.

    A table of your own is also compared with the built-in one: which names differ, and in which dialects.
    """
    from bertconv.mapping.checks import check_table
    from bertconv.mapping.describe import beside_builtin
    from bertconv.mapping.dialects import load_dialects
    from bertconv.mapping.table import load_table
    from bertconv.table_files import table_names, tables_folder

    for file in [Path(path)] if path else [tables_folder() / f"{name}.toml" for name in table_names()]:
        loaded, dialects, name = load_table(file), load_dialects(), path or file.stem
        names = check_table(loaded, dialects)
        facts: dict[str, Any] = {"ok": True, "table": name, "heads": len(loaded.heads), "names": names}
        lines = [f"{name}: sound ({len(loaded.heads)} heads, {names} names in {len(dialects.by_name)} dialects)."]
        if path:
            found = beside_builtin(loaded)
            facts |= {
                "builtin": found.builtin, "shared": found.shared, "added": found.added, "lacking": found.lacking,
                "renamed": {dialect: [one._asdict() for one in ones] for dialect, ones in found.renamed.items()},
                "by_row": found.by_row,
            }  # fmt: skip
            lines += _compared(found)
        click.echo(json.dumps(facts) if as_json else "\n".join(lines))


@tables.command()
@click.argument("name")
@click.option("--family", metavar="MODEL_TYPE", help="Look in this family alone.")
@_FILE
@_JSON
def explain(name: str, family: str | None, path: str | None, *, as_json: bool) -> None:
    """Say which tensor NAME is, in whichever family and dialect, what it is called elsewhere, and who owns it."""
    from bertconv.mapping.describe import explain_name
    from bertconv.mapping.table import load_table
    from bertconv.table_files import table_names, tables_folder

    if family or path:
        tables = [_table(family, path)]
    else:
        tables = [load_table(tables_folder() / f"{stem}.toml") for stem in table_names()]
    found = explain_name(tables, name)
    wide = max(10, *map(len, found))
    lines = [f"{key:{wide}} {value}" for key, value in found.items()]
    click.echo(json.dumps(found, indent=1) if as_json else "\n".join(lines))


@tables.command()
@click.argument("head", metavar="CLASS")
@_FILE
@_JSON
def ignore(head: str, path: str | None, *, as_json: bool) -> None:
    """Print the two regex lists of CLASS: what may be left out of a source, and what may stay unfilled."""
    from bertconv.mapping.describe import ignore_lists_of

    lists = ignore_lists_of(_table(None, path, head), head)
    if as_json:
        click.echo(json.dumps(lists, indent=1))
        return
    for name, patterns in lists.items():
        click.echo("\n".join([f"{name}:", *(f"  {pattern}" for pattern in patterns)]))


def _compared(found: Comparison) -> Iterator[str]:
    """A table beside the built-in one, and where a spelling of one dialect alone belongs."""
    from bertconv.text import some

    yield f"Beside the built-in table {found.builtin}, twelve layers counted as one:"
    for dialect, renamed in found.renamed.items():
        yield f"  {dialect}: {len(renamed)} of {found.shared} names differ"
        yield from (f"    {one.id}: {one.own}, not {one.builtin}" for one in renamed[:_SHOWN])
        if len(renamed) > _SHOWN:
            yield f"    ... and {len(renamed) - _SHOWN} more (--json has them all)"
    for ids, words in ((found.added, f"not in {found.builtin}"), (found.lacking, f"only in {found.builtin}")):
        if ids:
            yield f"  {words}: {some(ids, _SHOWN)}"
    if found.by_row:
        yield (
            f"{len(found.by_row)} of TensorFlow's and other dialects' names differ because `name` in a row (or `at` of "
            "a group) was edited: it counts in every dialect. If only PyTorch's spelling is another one, put the row "
            'back as it was and write the spelling into [names.pt], as "layer.ffn_in" = "intermediate.dense_act"; then '
            "the other dialects keep the names that their programs know."
        )


def _table(family: str | None, path: str | None, head: str | None = None) -> Table:
    """The table that is meant: the file, the family's, or the one that has the class."""
    from bertconv.errors import RequestError
    from bertconv.families import families, family_of_class
    from bertconv.mapping.checks import open_table
    from bertconv.mapping.table import table_for

    if path:
        return open_table(Path(path), family)
    owner = family_of_class(head) if head else None
    if family is None and owner is None:
        known = ", ".join(sorted(families()))
        if head:
            raise RequestError(f"{head} is not a class of any table.", hint=f"The families are {known}.")
        raise RequestError("no family was named.", hint=f"Name one of {known}.")
    return table_for(family or (owner.model_type if owner else ""))
