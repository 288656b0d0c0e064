"""`bertconv fleet run` and `bertconv fleet retry`."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bertconv.cli.convert import completed_format, known_format
from bertconv.cli.options import apply

if TYPE_CHECKING:
    from bertconv.fleet.driver import Progress, Summary
    from bertconv.fleet.engines.engine import Engine
    from bertconv.fleet.items import Item

VERBS = ("convert", "verify", "doctor", "hash")
"""Those of `bertconv.fleet.items`; a test holds the two together."""
ENGINES = {"local": "bertconv.fleet.engines.local:LocalEngine", "ray": "bertconv.fleet.engines.ray:RayEngine"}
"""What runs items -> where it is."""
_SHOWN = 20
"""Most failures that are listed at the end of a run; `fleet status` has all of them."""


def state_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where the ledger is."""
    return click.option("--state", type=click.Path(file_okay=False), metavar="DIR",
                        help="Folder for the ledger [default: .bertconv-fleet in OUT; needed where OUT is a "
                        "URL].")(command)  # fmt: skip


def _engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    return apply(
        command,
        click.option("--engine", type=click.Choice(list(ENGINES)), default="local", show_default=True,
                     help="Processes of this machine, or a Ray cluster."),
        click.option("--address", metavar="A", help="Of the Ray cluster [default: one of this machine's own]."),
        click.option("--workers", type=click.IntRange(min=1), metavar="N",
                     help="Items at a time [default: the processors that there are]."),
        click.option("--retries", type=click.IntRange(min=0), default=3, show_default=True, metavar="N",
                     help="More tries for what may pass: a full disk, a Hub that does not answer."),
        state_option,
        click.option("--quiet", "-q", is_flag=True, help="Print the last line only."),
        click.option("--json", "as_json", is_flag=True, help="The summary as JSON, for scripts."),
    )  # fmt: skip


def _assigned(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE, with a value of JSON or else a text."""
    found: dict[str, Any] = {}
    for value in values:
        name, mark, text = value.partition("=")
        if not (mark and name):
            raise click.BadParameter(f"{value!r} is not NAME=VALUE.")
        try:
            found[name.replace("-", "_")] = json.loads(text)
        except ValueError:
            found[name.replace("-", "_")] = text
    return found


@click.command(short_help="Do what is missing or changed of a list.")
@click.argument("list_", metavar="LIST", type=click.Path(dir_okay=False, exists=True))
@click.argument("out", metavar="OUT")
@click.option("--verb", type=click.Choice(VERBS), help="What to do where a line says nothing [default: convert].")
@click.option("--to", metavar="FORMAT", callback=known_format, shell_complete=completed_format,
              help="Format of the outputs, one of those of `bertconv convert --help` [default: tf].")  # fmt: skip
@click.option("--verify", type=click.Choice(["none", "weights", "outputs", "auto"]),
              help="What is proven of every output [default: weights].")  # fmt: skip
@click.option("--option", "-O", "options", multiple=True, metavar="NAME=VALUE", callback=_assigned,
              help="Of the verb, for all items that do not say it themselves, such as dtype=float16.")  # fmt: skip
@click.option("--shard", metavar="I/N", help="Do one of N parts of the list, with I from 0, as jobs of an array do.")
@_engine_options
def run(list_: str, out: str, **given: Any) -> None:
    """Do to every checkpoint of LIST what is to be done, and put the outputs into OUT.

    What is done already is kept: its output has a manifest, which says that it was made of this source with these
    options by this version. What changed is made again. Damaged, unsafe and unknown checkpoints are reported, and not
    tried again before they change (or `bertconv fleet retry`). Ctrl-C leaves nothing half-written; so does kill -9,
    whose leftovers the next run removes.
    Exit code 0: everything is done; 1: something failed; 130: interrupted.

    \b
    Examples:
      bertconv fleet run list.jsonl out/ --to tf
      bertconv fleet run list.jsonl out/ --to flax --workers 8 --option dtype=bfloat16
      bertconv fleet run list.jsonl out/ --verb verify
      bertconv fleet run list.jsonl /shared/out --shard $SLURM_ARRAY_TASK_ID/16
    """  # noqa: D301
    from bertconv.fleet.items import placed, read_items, shard
    from bertconv.fleet.ledger import ledger_path

    common = given.pop("options")
    common |= {name: value for name in ("to", "verify") if (value := given.pop(name)) is not None}
    verb, part = given.pop("verb"), given.pop("shard")
    items = placed((_with_defaults(item, verb, common) for item in read_items(Path(list_))), out)
    if part is not None:
        items = shard(items, part)
    _run(items, ledger_path(state_folder(out, given.pop("state")), part or ""), again=False, **given)


@click.command(short_help="Do again what failed for good.")
@click.argument("out", metavar="OUT")
@click.option("--code", "codes", type=int, multiple=True, metavar="N",
              help="Only what failed with this exit code; repeatable [default: all].")  # fmt: skip
@_engine_options
def retry(out: str, codes: tuple[int, ...], **given: Any) -> None:
    """Do again what failed or is quarantined in OUT: after a repair of the sources, or of what lay at the destinations.

    \b
    Examples:
      bertconv fleet retry out/
      bertconv fleet retry out/ --code 7 --code 9
    """  # noqa: D301
    from bertconv.fleet.ledger import ledger_path
    from bertconv.fleet.status import failed_items

    folder = state_folder(out, given.pop("state"))
    _run(failed_items(folder, codes), ledger_path(folder), again=True, **given)


def _with_defaults(item: Item, verb: str | None, common: dict[str, Any]) -> Item:
    """What the command line says for all, where a line does not say it itself; --to and --verify are of conversions."""
    asked = replace(item, verb=verb) if verb is not None and item.verb == "convert" else item
    fitting = {name: one for name, one in common.items() if name not in ("to", "verify") or asked.verb == "convert"}
    return replace(asked, options={**fitting, **item.options})


def state_folder(out: str, state: str | None) -> Path:
    """The folder of a fleet's ledgers; RequestError where OUT is elsewhere and none was given."""
    from bertconv.errors import RequestError
    from bertconv.fleet.items import FOLDER
    from bertconv.text import is_url

    if state is not None:
        return Path(state)
    if is_url(out):
        raise RequestError("is no place for a ledger.", hint="Pass --state DIR, a local folder.", file=out)
    return Path(out) / FOLDER


def _run(items: list[Item], ledger_file: Path, *, again: bool, **given: Any) -> None:
    """Run items, and say what became of them."""
    from bertconv.fleet.driver import Run, run_fleet
    from bertconv.fleet.ledger import Ledger
    from bertconv.fleet.scheduler import Policy
    from bertconv.fleet.work import check_options
    from bertconv.source.hub_account import shared
    from bertconv.text import public

    quiet, as_json = given["quiet"], given["as_json"]
    check_options(items)
    about = {"command": " ".join(["bertconv", *map(public, sys.argv[1:])]), "engine": given["engine"]}
    account = shared(ledger_file.with_name("hub-budget"))
    with Ledger(ledger_file) as ledger, account, _progress(shown=not (quiet or as_json)) as watch:
        engine = _engine(given["engine"], given["address"], given["workers"])
        summary = run_fleet(items, engine, ledger, Run(Policy(retries=given["retries"]), again, about, watch))
    _tell(summary, quiet=quiet, as_json=as_json)
    click.get_current_context().exit(0 if summary.ok else 1)


def _engine(name: str, address: str | None, workers: int | None) -> Engine:
    from bertconv.errors import RequestError

    if address is not None and name != "ray":
        raise RequestError("an address is of a Ray cluster.", hint="Pass --engine ray, too, or leave it out.")
    module, _, kind = ENGINES[name].partition(":")
    place = {} if address is None else {"address": address}
    engine: Engine = getattr(importlib.import_module(module), kind)(workers=workers, **place)
    return engine


@contextmanager
def _progress(*, shown: bool) -> Iterator[Callable[[Progress], None]]:
    """One line on a terminal, which is written over."""
    if not shown or not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda progress: click.echo(f"\r{_line(progress)}\x1b[K", nl=False, err=True)
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)


def _line(progress: Progress) -> str:
    from bertconv.text import human_bytes

    counts = ", ".join(f"{number:,} {state}" for state, number in progress.counts.items())
    done = progress.ended - progress.counts.get("kept", 0)
    rate = f"{done / progress.seconds:.1f}/s" if done else "-/s"
    left = (progress.total - progress.ended) * progress.seconds / done if done else 0
    rest = f", {left / 60:.0f} min left" if left > 90 else ""
    return (
        f"{progress.ended:,} of {progress.total:,} ({counts or 'none yet'}), {progress.running} running"
        + (f", {progress.waiting} waiting" if progress.waiting else "")
        + f", {rate}, {human_bytes(progress.nbytes / max(progress.seconds, 1e-3))}/s{rest}"
    )


def _tell(summary: Summary, *, quiet: bool, as_json: bool) -> None:
    from bertconv.fleet.outcome import what_is_wrong
    from bertconv.text import human_bytes, printable, public

    if as_json:
        click.echo(json.dumps(summary.to_json(), ensure_ascii=False, indent=1))
        return
    for item, outcome in () if quiet else summary.failures[:_SHOWN]:
        src = public(item.src)
        said = what_is_wrong(src, outcome).partition("\n")[0]
        click.echo(printable(f"{src}: {outcome.state}, code {outcome.code} ({outcome.kind}): {said}"), err=True)
    if len(summary.failures) > _SHOWN and not quiet:
        click.echo(f"... and {len(summary.failures) - _SHOWN:,} more: see `bertconv fleet status`.", err=True)
    counts = ", ".join(f"{number:,} {state}" for state, number in sorted(summary.counts.items())) or "nothing to do"
    weights = f"; {human_bytes(summary.nbytes)}" if summary.nbytes else ""
    click.secho(
        f"{counts}{weights} in {summary.seconds:.1f} s.",
        bold=True, fg="green" if summary.ok else "red",
    )  # fmt: skip
