"""`bertconv pull`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process
from bertconv.cli.options import destination, hub_options

if TYPE_CHECKING:
    from bertconv.manage.pull import Pull


@click.command(short_help="A checkpoint from the Hub into a folder that can be verified.")
@click.argument("repository", metavar="ORG/NAME[@REV]")
@destination
@click.option("--revision", metavar="REV", help="Branch, tag or commit (also ORG/NAME@REV).")
@click.option("--subfolder", default="", metavar="DIR", help="Folder inside the repository.")
@click.option("--variant", metavar="NAME", help="Such as fp16, for model.fp16.safetensors.")
@click.option("--head", "--class", "head", metavar="CLASS", help="Model class, where nothing says it.")
@click.option("--family", metavar="MODEL_TYPE", help="Family, where the config does not say it.")
@hub_options
@click.option("--overwrite", is_flag=True, help="Replace an earlier output at DST.")
@click.option("--dry-run", is_flag=True, help="Say what would be pulled; download no weights.")
@click.option("--quiet", "-q", is_flag=True, help="Print the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def pull(repository: str, dst: str, *, quiet: bool, as_json: bool, **options: Any) -> None:
    """Put a checkpoint from the Hub into the folder DST, as it is there, with a bertconv.json to verify it by.

    One format of the weights, the config, and tokenizer, label and module files are pulled; each is held to the digest
    that the Hub states of it. DST appears whole or not at all, and `bertconv verify DST` says whether it is still the
    same. A bertconv.json of the repository is kept where it is about exactly these files.

    \b
    Examples:
      bertconv pull google-bert/bert-base-uncased bert/
      bertconv pull org/name@refs/pr/3 checked/
      bertconv pull org/name out/ --dry-run
    """  # noqa: D301
    process.copies_only()
    from bertconv.manage.pull import pull_checkpoint

    shown = not (quiet or as_json) and sys.stderr.isatty()
    found = pull_checkpoint(repository, dst, progress=shown, **options)
    if as_json:
        click.echo(json.dumps({"ok": True, **found.to_json()}, ensure_ascii=False, indent=1))
        return
    if not quiet:
        _show(found)
    click.secho(found.verdict(), fg="green", bold=True)


def _show(found: Pull) -> None:
    from bertconv.text import human_bytes, printable

    for name, facts in found.files.items():
        size = "" if facts["size"] is None else human_bytes(facts["size"])
        click.echo(printable(f"  {name}  {size}  {facts.get('sha256', '')}".rstrip()))
    for note in found.notes:
        click.echo(printable(f"Note: {note}."))
    if found.not_pulled:
        click.echo(f"Not pulled: {', '.join(found.not_pulled)}.")
