"""Hints of errors, fitted to the command that ran: what is wrong is said where it is found, for every command alike."""

from __future__ import annotations

import re

import click

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*\w")
_COMMAND = re.compile(r"bertconv [a-z]|pip install")


def fitted(hint: str, command: click.Command, by_default: click.Command) -> str:
    """The hint, with a way out where it names an option that the command does not have.

    Args:
        hint: of an error.
        command: that ran.
        by_default: `bertconv convert`, which has every option that says how one checkpoint is read.
    """
    if _COMMAND.search(hint):  # of another command, which it names
        return hint
    own, known = _options(command), _options(by_default)
    for option in dict.fromkeys(_OPTION.findall(hint)):
        if option in own:
            continue
        alike = sorted(one for one in own if one.startswith(f"{option}-") and len(one) == len(option) + 2)
        if alike:
            return f"{hint}\nHere that is {' or '.join(alike)}."
        if option in known:
            return (
                f"{hint}\n`bertconv {command.name}` has no {option}: write that checkpoint anew with it, and give what "
                f"was written: bertconv {by_default.name} SRC DST --to FORMAT {option} ..."
            )
    return hint


def _options(command: click.Command) -> set[str]:
    return {name for one in command.params if isinstance(one, click.Option) for name in one.opts}
