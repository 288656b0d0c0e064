"""`bertconv verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bertconv.cli import process
from bertconv.cli.options import detail_options, hub_options
from bertconv.cli.pairs import aspects_option, listed

if TYPE_CHECKING:
    from bertconv.verify.parity import Measurement, Parity

DTYPES = ("float64", "float32", "bfloat16", "float16")
"""Those of `bertconv.verify.outputs`, which imports numpy; a test holds the two together."""


def _json_file(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """The name of a JSON file: `--json A B` would else write it over A."""
    if value is not None and value != "-" and not value.endswith(".json"):
        raise click.BadParameter(f"{value!r} does not end in .json; put a bare --json last, or write --json=-.")
    return value


def _dtypes(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return listed(value, DTYPES)


@click.command(short_help="Are two checkpoints the same model? Is an output unchanged?")
@click.argument("a")
@click.argument("b", required=False)
@click.option(
    "--level",
    type=click.Choice(["auto", "weights", "outputs", "gradients"]),
    default="auto",
    show_default=True,
    envvar="BERTCONV_VERIFY_LEVEL",
    show_envvar=True,
    help="weights: bit for bit, no framework, fast. outputs: both sides run on the same inputs. gradients: these too. "
    "auto: outputs where the frameworks and the memory for it are there.",
)
@click.option(
    "--dtype",
    "dtypes",
    default="float64,float32",
    show_default=True,
    callback=_dtypes,
    metavar="TYPES",
    help="Element types to compute in, with commas; float64 is always among them.",
)
@click.option(
    "--max-error",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Largest absolute difference of an output, in place of bertconv's own rule.",
)
@click.option(
    "--max-hidden-error",
    type=click.FloatRange(min=0),
    metavar="X",
    help="The same for hidden states and attentions [default: --max-error].",
)
@click.option(
    "--oracle",
    type=click.Choice(["reference", "transformers"]),
    default="reference",
    show_default=True,
    help="Who computes PyTorch's side: bertconv's own forward pass, or transformers.",
)
@click.option("--saved-model", is_flag=True, help="Run the SavedModel beside B as well.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the random inputs.")
@aspects_option("are reported and do not count")
@click.option(
    "--head", "--class", "head", metavar="CLASS", help="Model class as which both are compared [default: B's]."
)
@click.option("--config-a", type=click.Path(dir_okay=False, exists=True), help="Config for A instead of its own.")
@click.option("--config-b", type=click.Path(dir_okay=False, exists=True), help="Config for B instead of its own.")
@click.option(
    "--family", metavar="MODEL_TYPE", help="Family of both, such as roberta, where their configs do not say it."
)
@click.option(
    "--map",
    "table",
    type=click.Path(dir_okay=False, exists=True),
    metavar="FILE",
    help="A mapping table of your own (see `bertconv tables`); then weights are compared.",
)
@hub_options
@click.option("--report", type=click.Path(dir_okay=False), metavar="FILE", help="Write an HTML page to look at.")
@click.option(
    "--json",
    "json_file",
    is_flag=False,
    flag_value="-",
    metavar="[FILE]",
    callback=_json_file,
    help="Everything as JSON, to FILE or, without one or with -, to the output; without one it stands last.",
)
@click.option("--junit", type=click.Path(dir_okay=False), metavar="FILE", help="Write JUnit XML.")
@detail_options("Print every tensor and every place on a line, and notes in full.")
def verify(a: str, b: str | None, **options: Any) -> None:
    """Say whether A and B are the same model: weights bit for bit, then what they compute, each in its own framework.

    A is the original and B what is held to it; both are a Hub id, a folder or one file, in any format. Both are run in
    float64, where they must agree to 1e-10, and in float32, where B may be as far from the float64 truth as A itself.
    Names of labels, tokenizer files and modules of sentence-transformers are held to each other too: a prediction is
    what users compare.
    Exit code 0: the same; 1: not the same.

    With A alone, an output of bertconv: are its files and tensors still those that were written and verified?

    \b
    Examples:
      bertconv verify bert-base-uncased out/
      bertconv verify ./pytorch ./tensorflow --report parity.html
      bertconv verify A B --level weights --json | jq .verdict
      bertconv verify A B --junit parity.xml --quiet
      bertconv verify A B --ignore labels,tokenizer
      bertconv verify out/
    """  # noqa: D301
    outputs = {name: options.pop(name) for name in ("json_file", "report", "junit")}
    quiet, verbose = options.pop("quiet"), options.pop("verbose")
    _check_places(outputs)
    if b is None or options["level"] == "weights":
        process.copies_only()
    if b is None:
        _check(a, outputs, quiet=quiet)
        return
    from bertconv.cli import console
    from bertconv.verification import verify_checkpoint

    with console.progress(shown=not (quiet or outputs["json_file"])) as progress:
        shown = bool(outputs["json_file"] or outputs["report"])  # digests take longer than the comparison
        parity = verify_checkpoint(a, b, digest=shown, progress=progress, **options)
    _write(parity, outputs)
    if outputs["json_file"] != "-":
        if not quiet:
            _show(parity, verbose=verbose)
        verdict = parity.verdict() if parity.ok else parity.failure_text()
        click.secho(verdict, fg=_colour(parity.ok, parity.omitted), bold=True)
    if not parity.ok:
        raise click.exceptions.Exit(1)


def _check(folder: str, outputs: dict[str, str | None], *, quiet: bool) -> None:
    from bertconv.errors import RequestError
    from bertconv.verification import check_checkpoint

    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(str(parameter.name)) is ParameterSource.COMMANDLINE
        if given and parameter.name not in ("a", "json_file", "quiet", "verbose"):
            raise RequestError(f"{parameter.opts[0]} needs two checkpoints.", hint="Give A and B.")
    found = check_checkpoint(folder)
    _write_json(found.to_json(), outputs["json_file"])
    if outputs["json_file"] != "-":
        click.secho(found.verdict(), fg=_colour(found.ok, found.omitted))
        if found.added and not quiet:
            click.echo(f"Not on record: {', '.join(found.added)}.")
    if not found.ok:
        raise click.exceptions.Exit(1)


def _check_places(outputs: dict[str, str | None]) -> None:
    """What cannot be written is refused before the work."""
    if files := [file for file in outputs.values() if file not in (None, "-")]:
        from bertconv.verify.report_files import check_replaceable

        for file in files:
            check_replaceable(Path(str(file)))


def _write(parity: Parity, outputs: dict[str, str | None]) -> None:
    if not any(outputs.values()):
        return
    from bertconv.verify.junit import junit_report
    from bertconv.verify.report_files import write_page, write_text

    _write_json(parity.to_json(), outputs["json_file"])
    if outputs["report"]:
        write_page(Path(outputs["report"]), parity)
    if outputs["junit"]:
        write_text(Path(outputs["junit"]), junit_report(parity))


def _write_json(facts: dict[str, Any], file: str | None) -> None:
    if file is None:
        return
    from bertconv.verify.report_files import write_text

    text = json.dumps(facts, ensure_ascii=False, indent=1)
    if file == "-":
        click.echo(text)
    else:
        write_text(Path(file), f"{text}\n")


def _show(parity: Parity, *, verbose: bool) -> None:
    """The numbers as a table, and what is unusual; with every place and every tensor where that is asked for."""
    from bertconv.cli.console import show_line, table
    from bertconv.text import brief

    for letter, side in (("A", parity.a), ("B", parity.b)):
        click.echo(f"{letter} {side.given} ({side.dialect}, {side.container}) {side.framework}".rstrip())
    took = f", weights and outputs compared in {parity.seconds:.1f} s" if parity.dtypes else ""
    click.echo(f"as {parity.head}{took}")
    if verbose:
        table(("Tensor", "State"), [(one.id, one.state) for one in parity.tensors])
    if rows := [_row(one) for one in parity.measurements if verbose or _is_shown(parity, one)]:
        heading = "Place" if verbose else "Worst of each kind"
        table(("Type", heading, "A's error", "B's error", "Limit", "", "Inputs"), rows)
    for note in (*_oddities(parity, every=verbose), *parity.notes):
        show_line(f"Note: {note}.", verbose=verbose)
    for name, aspect in parity.aspects.items():
        if name == "modules" and aspect.state == "not compared" and not parity.modules_left:
            continue  # most models have none
        show_line(f"{name.capitalize()}: {aspect.sentence()}.", verbose=verbose)
        for line in aspect.lines() if aspect.ok else ():
            show_line(f"  {line}.", verbose=verbose)
    if others := [name for name in parity.left_out if name not in parity.omitted]:
        show_line(f"Not part of {parity.head}: {', '.join(others)}.", verbose=verbose)
    if parity.omitted:
        click.secho(f"Warning: not compared, but a part of the model: {brief(parity.omitted)}.", fg="yellow")


def _oddities(parity: Parity, *, every: bool) -> list[str]:
    """What is unusual about tensors; layers that are unusual in the same way are folded unless all are asked for."""
    from bertconv.text import fold

    found: dict[str, list[str]] = {}
    for tensor in parity.tensors:
        for remark in tensor.remarks:
            found.setdefault(remark, []).append(tensor.id)
    return [f"{name}: {remark}" for remark, names in found.items() for name in (names if every else fold(names))]


def _colour(ok: bool, omitted: tuple[str, ...]) -> str:
    return "yellow" if ok and omitted else "green" if ok else "red"


def _row(one: Measurement) -> tuple[str, ...]:
    limit, ok = ("", "") if one.limit is None else (f"{one.limit:.1e}", "ok" if one.ok else "FAIL")
    return one.dtype, one.place, f"{one.a:.1e}", f"{one.b:.1e}", limit, ok, one.case


def _is_shown(parity: Parity, one: Measurement) -> bool:
    from bertconv.verify.places import MODULE

    return one.kind != MODULE and one.limit is not None and (not one.ok or _is_worst(parity, one))


def _is_worst(parity: Parity, one: Measurement) -> bool:
    """Whether it used most of its limit among those of its kind and element type."""
    same = [other for other in parity.measurements if (other.kind, other.dtype) == (one.kind, one.dtype)]
    return one is max(same, key=lambda other: other.b / other.limit if other.limit else 0)
