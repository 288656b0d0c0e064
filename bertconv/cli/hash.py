"""`bertconv hash`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process
from bertconv.cli.options import source_options

if TYPE_CHECKING:
    from bertconv.manage.hash import Digest

_DIGEST = re.compile(r"(?:sha256:)?([0-9a-f]{64})", re.IGNORECASE | re.ASCII)


def _digest(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    found = None if value is None else _DIGEST.fullmatch(value)
    if value is not None and found is None:
        raise click.BadParameter(f"{value!r} is no digest, such as sha256: and 64 hexadecimal digits.")
    return None if found is None else f"sha256:{found[1].lower()}"


@click.command("hash", short_help="One digest of a model's weights, the same in every format.")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@source_options
@click.option("--per-tensor", is_flag=True, help="A line for every tensor before the one of the model.")
@click.option("--backbone", is_flag=True, help="Of the backbone alone, which is the same below every head.")
@click.option("--values", is_flag=True, help="Of the numbers, whatever type holds them: a lossless cast keeps it.")
@click.option("--check", metavar="DIGEST", callback=_digest, help="Exit with 1 where a source has another digest.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts; of several sources a list.")
def hash_(sources: tuple[str, ...], *, check: str | None, as_json: bool, **options: Any) -> None:
    """Print the digest of each SRC's weights: a Hub id, a folder or one file.

    Two checkpoints have the same digest if they hold the same tensors of the same model, bit for bit: as safetensors,
    pytorch_model.bin or tf_model.h5, with any prefix before their names, in one file or in shards. It is the digest
    that bertconv.json records of an output.

    \b
    Examples:
      bertconv hash bert-base-uncased
      bertconv hash pytorch/ tensorflow/          the same line twice
      bertconv hash --backbone model classifier   was the body trained on?
      bertconv hash --values bf16/ f32/           does it hold the same numbers?
      bertconv hash out/ --per-tensor | sort
      bertconv hash out/ --check sha256:8e46...   exit code 0 or 1
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli.console import note_revision, progress
    from bertconv.manage.hash import model_digest

    found = []
    for src in sources:
        with progress(shown=not as_json) as bar:
            found.append(model_digest(src, progress=bar, **options))
        note_revision(options["revision"], found[-1])
        if not as_json:
            _show(found[-1], options)
    if as_json:
        everything = [one.to_json() for one in found]
        content = everything[0] if len(everything) == 1 else everything
        click.echo(json.dumps(content, ensure_ascii=False, indent=1))
    if check is not None and any(_chosen(one, options) != check for one in found):
        _tell_difference([one for one in found if _chosen(one, options) != check], check, as_json=as_json)


def _chosen(found: Digest, options: dict[str, Any]) -> str:
    """The digest that was asked for."""
    if options["values"]:
        return found.backbone_values_digest if options["backbone"] else found.values_digest
    return found.backbone_digest if options["backbone"] else found.digest


def _show(found: Digest, options: dict[str, Any]) -> None:
    """Lines as those of sha256sum."""
    from bertconv.text import printable

    for place, digest in found.tensors.items():
        click.echo(f"{digest}  {printable(place)}")
    click.echo(f"{_chosen(found, options)}  {printable(found.given)}")
    for note in found.notes:
        click.echo(printable(f"Note: {found.given}: {note}."), err=True)


def _tell_difference(others: list[Digest], wanted: str, *, as_json: bool) -> None:
    from bertconv.text import printable, some

    if not as_json:
        names = some(printable(one.given) for one in others)
        click.secho(f"Not {wanted}: {names}.", fg="red", err=True)
    raise click.exceptions.Exit(1)
