"""`bertconv diff`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process
from bertconv.cli.pairs import aspects_option, pair_options

if TYPE_CHECKING:
    from bertconv.manage.difference.records import Against, Change, Diff, Rows, TensorDiff


@click.command(short_help="What differs between two checkpoints, and by how much?")
@click.argument("a")
@click.argument("b")
@click.option(
    "--per",
    type=click.Choice(["layer", "tensor"]),
    default="layer",
    show_default=True,
    help="A row for each layer, or for each tensor.",
)
@click.option(
    "--against-base", metavar="C", help="A third checkpoint: how far did A and B go from it, and in the same direction?"
)
@aspects_option("are listed and do not count")
@pair_options
@click.option("--report", type=click.Path(dir_okay=False), metavar="FILE", help="Write an HTML page to look at.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def diff(a: str, b: str, *, per: str, report: str | None, as_json: bool, quiet: bool, **options: Any) -> None:
    """Say what differs between A and B: tensor by tensor, by how much, which rows of which tokens, which config keys.

    Both are a Hub id (ORG/NAME@REV), a folder or one file, in any format and of any class of one architecture. Tensors
    are aligned by what they are, and rows of word embeddings by their token where both tokenizers are there.
    Exit code 0: equal; 1: different; 3: not alignable.

    \b
    Examples:
      bertconv diff bert-base-uncased ./finetuned
      bertconv diff A B --per tensor
      bertconv diff A B --against-base bert-base-uncased
      bertconv diff A B --report diff.html
      bertconv diff A B --json | jq .verdict
      bertconv diff A B --ignore tokenizer,labels --quiet
    """  # noqa: D301
    if report:
        from bertconv.verify.report_files import check_replaceable

        check_replaceable(Path(report))
    process.copies_only()
    from bertconv.cli import console
    from bertconv.manage.diff import diff_checkpoints

    with console.progress(shown=not (quiet or as_json)) as progress:
        found = diff_checkpoints(a, b, progress=progress, **options)
    if report:
        from bertconv.manage.difference.page import diff_page
        from bertconv.verify.report_files import write_text

        write_text(Path(report), diff_page(found))
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
    else:
        if not quiet:
            _show(found, per)
        click.secho(found.verdict(), fg="green" if found.equal else "yellow", bold=True)
    if not found.equal:
        raise click.exceptions.Exit(1)


def _show(found: Diff, per: str) -> None:
    """The sides, the layers or tensors as a table, and what else differs."""
    from bertconv.cli.console import show_line

    for letter, side in (("A", found.a), ("B", found.b), *((("C", found.against.base),) if found.against else ())):
        click.echo(f"{letter} {side.given} ({side.head}, {side.dialect}, {side.container})")
    (_show_tensors if per == "tensor" else _show_layers)(found)
    for one in found.tensors:
        if one.rows is not None:
            _show_rows(one, one.rows)
    if found.against:
        _show_against(found.against)
    for line in _others(found):
        show_line(line, verbose=False)


def _others(found: Diff) -> Iterator[str]:
    """What differs beside the weights, and what is unusual."""
    for one in found.config:
        values = (json.dumps(value, ensure_ascii=False, default=str) for value in (one.a, one.b))
        yield f"Config: {one.key} is {' in A and '.join(values)} in B."
    for name, aspect in found.aspects.items():
        if aspect.state != "not compared":
            yield f"{name.capitalize()}: {aspect.sentence()}."
            yield from (f"  {line}." for line in aspect.lines())
    if found.left_out:
        yield f"No part of the class, and not compared: {', '.join(found.left_out)}."
    yield from (f"Note: {note}." for note in found.notes)


_NUMBERS = ("Differing", "Max abs", "Relative L2", "Cosine")


def _show_layers(found: Diff) -> None:
    from bertconv.cli.console import table

    rows = []
    for one in found.layers:
        alone = " and ".join(f"{amount} only in {side}" for amount, side in ((one.only_a, "A"), (one.only_b, "B"))
                             if amount)  # fmt: skip
        state = f"{one.changed} changed" if one.changed else "" if alone else "equal"
        rows.append((one.layer, str(one.tensors), ", ".join(filter(None, (state, alone))), *_numbers(one.change)))
    table(("Layer", "Tensors", "State", *_NUMBERS), rows)


def _show_tensors(found: Diff) -> None:
    from bertconv.cli.console import table

    rows = [
        (one.id, _shape(one), _types(one), one.state, *_numbers(one.change), ", ".join(one.remarks()))
        for one in found.tensors
    ]
    table(("Tensor", "Shape", "Type", "State", *_NUMBERS, "Remark"), rows)


def _numbers(change: Change | None) -> tuple[str, str, str, str]:
    if change is None:
        return "", "", "", ""
    cosine = "" if change.cosine is None else f"{change.cosine:.6f}"
    return f"{change.differing:,}", f"{change.max_difference:.3g}", f"{change.relative:.3g}", cosine


def _shape(one: TensorDiff) -> str:
    shapes = dict.fromkeys("x".join(map(str, shape)) for shape in (one.shape_a, one.shape_b) if shape is not None)
    return " -> ".join(shapes)


def _types(one: TensorDiff) -> str:
    return " -> ".join(dict.fromkeys(filter(None, (one.dtype_a, one.dtype_b))))


def _show_rows(one: TensorDiff, rows: Rows) -> None:
    from bertconv.cli.console import show_line

    how = "token" if rows.by == "token" else "number"
    show_line(f"Rows of {one.id} ({rows.rows_a:,} in A, {rows.rows_b:,} in B), by {how}: {rows.kept:,} kept, "
              f"{rows.moved:,} moved, {rows.new:,} new, {rows.dropped:,} dropped; {rows.changed:,} changed.",
              verbose=False)  # fmt: skip
    for kind, names in rows.names.items():
        amount = getattr(rows, kind)
        if names and (kind != "changed" or amount < rows.kept + rows.moved):
            show_line(f"  {kind}: {', '.join(names)}{', ...' if amount > len(names) else ''}", verbose=False)


def _show_against(against: Against) -> None:
    from bertconv.cli.console import show_line, table

    rows = [
        (one.layer, f"{one.relative_a:.3g}", f"{one.relative_b:.3g}", "" if one.cosine is None else f"{one.cosine:.3f}")
        for one in (*against.layers, against.whole)
    ]
    table(("From C", "A's change", "B's change", "Cosine"), rows)
    if against.left_out:
        show_line(f"Not held to C: {', '.join(against.left_out)}.", verbose=False)
