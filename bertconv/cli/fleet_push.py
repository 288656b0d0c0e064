"""`bertconv fleet push`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bertconv.cli import process

if TYPE_CHECKING:
    from bertconv.fleet.pushing import Sent


@click.command(short_help="Offer outputs to the repositories that opted in.")
@click.argument("list_", metavar="LIST", type=click.Path(dir_okay=False))
@click.option("--only", required=True, type=click.Path(dir_okay=False), metavar="OPTIN",
              help="The repositories that want pull requests: a text file, ORG/NAME in each line.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Verify, look at the repositories, and print what would be sent.")
@click.option("--token", help="Access token for the Hub [default: HF_TOKEN, or the stored one].")
@click.option("--quiet", "-q", is_flag=True, help="Print failures and the last line only.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def push(list_: str, *, only: str, dry_run: bool, token: str | None, quiet: bool, as_json: bool) -> None:
    """Open a pull request for each output of LIST whose repository is on the list OPTIN, and for no other.

    Each line of LIST is a JSON object with "src", an output of bertconv, and "repository"; without the latter it goes
    to the repository that it was made from, as its bertconv.json says. A repository gets one pull request: one of yours
    and bertconv's that is open there is found and left alone, and running this again sends nothing twice. What the Hub
    says of its limits is honoured.
    Exit code 0: none failed; otherwise that of the first failure.

    \b
    Examples:
      bertconv fleet plan out/ -o outputs.jsonl
      bertconv fleet push outputs.jsonl --only optin.txt --dry-run
      bertconv fleet push outputs.jsonl --only optin.txt
    """  # noqa: D301
    process.copies_only()
    from bertconv.fleet.pushing import push_fleet, read_opt_in, read_outputs, totals
    from bertconv.source.hub_account import shared

    outputs, opted_in = read_outputs(Path(list_)), read_opt_in(Path(only))
    sent = []
    with tempfile.TemporaryDirectory(prefix="bertconv-") as folder, shared(Path(folder, "hub-budget")):
        for one in push_fleet(outputs, opted_in, dry_run=dry_run, token=token):
            sent.append(one)
            if not as_json:
                _show(one, quiet=quiet)
    failed = next((one for one in sent if one.error), None)
    counts = totals(sent)
    if as_json:
        facts = {"ok": failed is None, "states": counts, "outputs": [one.to_json() for one in sent]}
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1))
    else:
        said = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "nothing to send"
        click.secho(f"{len(sent):,} outputs: {said}.", bold=True)
    if failed is not None:
        click.get_current_context().exit(int(failed.error["code"]))


def _show(one: Sent, *, quiet: bool) -> None:
    from bertconv.text import human_bytes, printable

    if one.error:
        click.secho(printable(f"{one.folder}: {one.verdict}"), fg="red", err=True)
    elif not quiet:
        click.echo(printable(f"{one.folder} -> {one.repository}: {one.state}. {one.verdict}"))
        if one.state == "dry run":
            for name, facts in one.push["files"].items():
                click.echo(printable(f"  {name}  {human_bytes(facts['size'])}  {facts['sha256']}"))
            click.echo(printable(f"  {one.push['message']}"))
