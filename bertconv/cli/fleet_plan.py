"""`bertconv fleet plan`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from bertconv.cli import process


@click.command(short_help="List the checkpoints of a folder, a bucket or the Hub.")
@click.argument("src", metavar="SRC")
@click.option("--output", "-o", metavar="LIST", required=True, help="File to write, or - for the standard output.")
@click.option("--headers", is_flag=True, help="Open each checkpoint and read its headers: slower, and more is known.")
@click.option("--token", help="Access token for the Hub [default: HF_TOKEN, or the stored one].")
@click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON, for scripts.")
def plan(src: str, *, output: str, headers: bool, token: str | None, quiet: bool, as_json: bool) -> None:
    """Find the checkpoints in SRC, and write one line of JSON for each: src, size, family, format, head, problems.

    SRC is a folder, the address of a bucket's prefix, or a filter of the Hub. Names, sizes and configs are looked at
    and no weight is read; what a run will refuse is in the list with its problems. The order is that of the names, so
    two lists can be compared line by line.

    \b
    Examples:
      bertconv fleet plan checkpoints/ -o list.jsonl
      bertconv fleet plan s3://bucket/models -o list.jsonl
      bertconv fleet plan 'hf://models?author=org&filter=bert&limit=100' -o list.jsonl
      bertconv fleet plan checkpoints/ --headers -o - | jq -r 'select(.problems) | .src'
    """  # noqa: D301
    process.copies_only()
    from bertconv.fleet.listing import Count, list_checkpoints, write_list

    if as_json and output == "-":
        raise click.UsageError("--json and a list on the standard output exclude each other.")
    from bertconv.cli.console import progress

    if output != "-":
        from bertconv.verify.report_files import check_replaceable

        check_replaceable(Path(output), "list of a fleet")
    with progress(shown=not (quiet or as_json)) as bar:
        listed = list_checkpoints(src, headers=headers, token=token, progress=bar)
        if output == "-":
            count = Count()
            for one in count.of(listed):
                click.echo(one.to_line(), nl=False)
            found = count.result()
        else:
            found = write_list(Path(output), listed)
    if as_json:
        click.echo(json.dumps({"ok": True, "list": output, **asdict(found)}, ensure_ascii=False))
    elif not quiet:
        click.secho(found.summary(), bold=True, err=output == "-")
