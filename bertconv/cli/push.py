"""`bertconv push`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli import process

if TYPE_CHECKING:
    from bertconv.manage.push import Push


@click.command(short_help="Send an output to the Hub, verified before and after.")
@click.argument("folder", metavar="DIR", type=click.Path())
@click.argument("repository", metavar="ORG/NAME")
@click.option("--create-pr", is_flag=True, help="Open a pull request; its text is the certificate.")
@click.option("--private", is_flag=True, help="Make a new repository private; refused where there is a public one.")
@click.option("--revision", metavar="BRANCH", help="Branch to commit to [default: the repository's own].")
@click.option(
    "--parent-commit", metavar="SHA", help="Head of the branch, whose weights may be replaced whatever they are."
)
@click.option("--message", metavar="TEXT", help="First line of the commit, or title of the pull request.")
@click.option("--token", help="Access token for the Hub [default: HF_TOKEN, or the stored one].")
@click.option("--dry-run", is_flag=True, help="Verify, look at the branch, and print what would be sent.")
@click.option("--quiet", "-q", is_flag=True, help="Print the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def push(folder: str, repository: str, *, quiet: bool, as_json: bool, **options: Any) -> None:
    """Send DIR, an output of bertconv, to a repository on the Hub: exactly the files that its bertconv.json lists.

    DIR is verified first, file by file and tensor by tensor. All of it goes into one commit on top of the head that was
    looked at; then the digest that the Hub states of each file is held to the file here. Weights that are there are
    replaced only where DIR was made from them; else name the commit that may be replaced, or open a pull request.

    \b
    Examples:
      bertconv push out/ org/name
      bertconv push out/ org/name --dry-run
      bertconv push out/ someone/model --create-pr
      bertconv push out/ org/name --parent-commit 5f3c1a2
    """  # noqa: D301
    process.copies_only()
    from bertconv.manage.push import push_checkpoint

    shown = not (quiet or as_json) and sys.stderr.isatty()
    found = push_checkpoint(folder, repository, progress=shown, **options)
    if as_json:
        click.echo(json.dumps({"ok": True, **found.to_json()}, ensure_ascii=False, indent=1))
        return
    if not quiet:
        _show(found)
    click.secho(found.verdict(), fg="green", bold=True)


def _show(found: Push) -> None:
    from bertconv.text import human_bytes, printable

    if found.state in ("dry run", "proposed", "committed"):
        for name, facts in found.files.items():
            click.echo(printable(f"  {name}  {human_bytes(facts['size'])}  {facts['sha256']}"))
        click.echo(f"\n{printable(found.message)}\n")
        click.echo("\n".join(map(printable, found.description.split("\n"))) + "\n")
    if found.not_sent:
        click.echo(f"Not sent, as bertconv.json does not list it: {', '.join(found.not_sent)}.")
    if found.remaining:
        click.secho(f"Other weights stay there, and a reader may take them: {', '.join(found.remaining)}.", fg="yellow")
