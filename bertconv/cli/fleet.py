"""`bertconv fleet`: what is done to many checkpoints. Each of its commands is imported when it is used."""

from __future__ import annotations

import importlib

import click

COMMANDS = {
    "run": "bertconv.cli.fleet_run:run",
    "status": "bertconv.cli.fleet_status:status",
    "retry": "bertconv.cli.fleet_run:retry",
}
"""Command -> where it is."""


class _Lazy(click.Group):
    """A group that imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Lazy, short_help="Convert or check thousands of checkpoints.")
def fleet() -> None:
    """Convert, verify, diagnose or hash thousands of checkpoints, on this machine or a cluster.

    A list says what is to be done, one JSON object a line: {"src": "..."}, and where they differ "dst", "verb" and
    "options". Running it again does only what is missing or changed: the manifests of the outputs say what is done.

    \b
    Examples:
      bertconv fleet run list.jsonl out/ --to tf --workers 4
      bertconv fleet status out/
      bertconv fleet retry out/
    """  # noqa: D301
