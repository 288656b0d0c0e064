"""Options of commands that hold two checkpoints to each other."""

from __future__ import annotations

from collections.abc import Callable

import click

from bertconv.cli.options import Command, apply, family_options, hub_options
from bertconv.verify.agreement import ASPECTS

_FILE = click.Path(dir_okay=False, exists=True)


def pair_options(command: Command) -> Command:
    """Where two checkpoints are, and how they are to be read."""
    return apply(
        command,
        click.option(
            "--head",
            "--class",
            "head",
            metavar="CLASS",
            help="Model class as which all are opened [default: each as its own].",
        ),
        click.option("--config-a", type=_FILE, help="Config for A instead of its own."),
        click.option("--config-b", type=_FILE, help="Config for B instead of its own."),
        family_options("both"),
        hub_options,
    )


def aspects_option(what: str) -> Callable[[Command], Command]:
    """`--ignore`; `what` becomes of differences in what it names."""
    return click.option(
        "--ignore", default="", callback=_aspects, metavar="WHAT",
        help=f"labels, tokenizer, modules, or several with commas: differences in these {what}.",
    )  # fmt: skip


def listed(value: str, known: tuple[str, ...]) -> tuple[str, ...]:
    """A list with commas of known words."""
    found = tuple(part.strip() for part in value.split(",") if part.strip())
    if unknown := [part for part in found if part not in known]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(known)}.")
    return found


def _aspects(_: click.Context, __: click.Parameter, value: str) -> tuple[str, ...]:
    return listed(value, ASPECTS)
