"""The group of commands, loaded when they are used, and what becomes of errors and signals."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from bertconv import __version__
from bertconv.cli import process
from bertconv.cli.streams import BUG, Streams
from bertconv.errors import BertconvError
from bertconv.formats import interrupts

SECTIONS = {
    "Convert": {
        "pt2tf": "bertconv.cli.convert:pt2tf",
        "tf2pt": "bertconv.cli.convert:tf2pt",
        "convert": "bertconv.cli.convert:convert",
    },
    "Look and compare": {
        "inspect": "bertconv.cli.inspect:inspect",
        "doctor": "bertconv.cli.doctor:doctor",
        "diff": "bertconv.cli.diff:diff",
        "verify": "bertconv.cli.verify:verify",
        "hash": "bertconv.cli.hash:hash_",
        "history": "bertconv.cli.history:history",
        "catalog": "bertconv.cli.catalog:catalog",
    },
    "Change one checkpoint": {
        "cast": "bertconv.cli.cast:cast",
        "shard": "bertconv.cli.shard:shard",
        "unshard": "bertconv.cli.shard:unshard",
        "resize": "bertconv.cli.resize:resize",
        "extract": "bertconv.cli.parts:extract",
        "layers": "bertconv.cli.parts:layers",
    },
    "Combine checkpoints": {
        "average": "bertconv.cli.average:average",
        "merge": "bertconv.cli.merge:merge",
        "merge-adapter": "bertconv.cli.adapter:merge_adapter",
        "attach": "bertconv.cli.parts:attach",
    },
    "Many checkpoints": {
        "fleet": "bertconv.cli.fleet:fleet",
    },
    "Share": {
        "push": "bertconv.cli.push:push",
        "pull": "bertconv.cli.pull:pull",
    },
    "More": {
        "gc": "bertconv.cli.gc:gc",
        "tables": "bertconv.cli.tables:tables",
        "demo": "bertconv.cli.demo:demo",
    },
}
"""Headings of `bertconv --help` -> command -> where it is."""
COMMANDS = {name: place for section in SECTIONS.values() for name, place in section.items()}
ALIASES = {"pt-to-tf": "pt2tf", "tf-to-pt": "tf2pt"}
"""Names that users of transformers' removed command expect."""

ISSUES = "the project's issue tracker"


class _Lazy(click.Group):
    """Imports a command's module when it is asked for: `bertconv --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A heading for each kind of command."""
        for heading, names in SECTIONS.items():
            found = {name: self.get_command(ctx, name) for name in names}
            with formatter.section(heading):
                width = formatter.width - 6 - max(map(len, COMMANDS))
                formatter.write_dl([(name, one.get_short_help_str(width)) for name, one in found.items() if one])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        place = COMMANDS.get(ALIASES.get(cmd_name, cmd_name))
        if place is None:
            return None
        module, _, name = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Of a command that is not there, the ones that are spelled alike; click knows those alone that are loaded."""
        name = args[0]
        if not (name.startswith("-") or ctx.resilient_parsing) and self.get_command(ctx, name) is None:
            from difflib import get_close_matches

            if close := get_close_matches(name, COMMANDS):
                ctx.fail(f"No such command {name!r}. Did you mean {' or '.join(map(repr, close))}?")
        return super().resolve_command(ctx, args)


@click.group(
    cls=_Lazy,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Shell completion: eval "$(_BERTCONV_COMPLETE=bash_source bertconv)" (or zsh_source, fish_source).',
)
@click.version_option(__version__, prog_name="bertconv")
def cli() -> None:
    """Move checkpoints of BERT and its relatives between PyTorch, TensorFlow, Flax and KerasHub, and prove it.

    Those of TensorFlow 1, Model Garden, SavedModel and ONNX are read, too: any format to any other, nothing changed.

    \b
    Examples:
      bertconv pt2tf bert-base-uncased out/       PyTorch to tf_model.h5
      bertconv tf2pt out/ back/                   and back
      bertconv convert bert_model.ckpt pt/ --to pt  any format to any other, as of TensorFlow 1
      bertconv verify bert-base-uncased out/      is it the same model?
      bertconv inspect out/                       what is it?
      bertconv doctor out/                        what is wrong with it?
      bertconv push out/ org/name --create-pr     to the Hub, with its certificate
      bertconv tables explain bert.pooler.dense.weight
    """  # noqa: D301  (\b is click's mark for a paragraph that is not to be wrapped)


class _Stopped(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit with the codes of `bertconv.errors`; without arguments the process is its own."""
    _handle(_stop)
    streams = Streams()
    as_json = _wants_json(sys.argv[1:] if arguments is None else arguments)
    code = streams.exit_code(_run(arguments, as_json=as_json), as_json=as_json)
    if arguments is None:
        process.ends()
    sys.exit(code)


def _run(arguments: list[str] | None, *, as_json: bool) -> int:
    """Run the command; errors are reported, and become exit codes."""
    try:
        code = cli.main(
            args=arguments, prog_name="bertconv", standalone_mode=False, obj=process.OWN if arguments is None else None
        )
    except BertconvError as error:
        error.hint = _fitted(error.hint, sys.argv[1:] if arguments is None else arguments)
        _tell(error.to_json(), f"Error: {error}", as_json=as_json)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Exit, click.exceptions.Abort) as error:
        return getattr(error, "exit_code", 130)
    except _Stopped as error:
        click.echo("Stopped; nothing half-written is left.", err=True)
        return 128 + error.number
    except SystemExit as error:  # click ends a shell's completion so
        code = error.code
    except Exception as error:  # noqa: BLE001  (the last resort: anything else is a bug, and says so)
        _tell_bug(error, as_json=as_json)
        code = BUG
    return code if isinstance(code, int) else 0  # what click's Exit in a command was given


def _fitted(hint: str, words: list[str]) -> str:
    from bertconv.cli.hints import fitted

    with click.Context(cli) as context:
        command, other = (cli.get_command(context, name) for name in (words[0], "convert"))
        if isinstance(command, click.Group):  # the command of the group that ran
            found = (command.get_command(context, word) for word in words[1:] if not word.startswith("-"))
            command = next(filter(None, found), command)
    return fitted(hint, command, other) if command and other else hint


def _wants_json(words: list[str]) -> bool:
    """Whether JSON goes to the output; `verify --json FILE` writes it to a file."""
    if words[:1] != ["verify"]:
        return "--json" in words
    following = zip(words, [*words[1:], "-"], strict=True)
    return "--json=-" in words or any(word == "--json" and after.startswith("-") for word, after in following)


def _handle(handler: Callable[[int, FrameType | None], None]) -> None:
    """What the caller had ignored stays ignored: `nohup` hangs up, and a shell interrupts, without ending the work."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _stop(number: int, _: FrameType | None) -> None:
    """The first signal unwinds and cleans up, the second ends the process at once."""
    if interrupts.pending:
        os._exit(128 + number)
    since = time.monotonic()

    def again(number: int, _: FrameType | None) -> None:
        if time.monotonic() - since > interrupts.SAME_SECONDS:
            os._exit(128 + number)

    _handle(again)
    raise _Stopped(number)


def _tell(facts: dict[str, Any], text: str, *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"ok": False, "error": facts}, ensure_ascii=False))
    else:
        click.echo(text, err=True)


def _tell_bug(error: Exception, *, as_json: bool) -> None:
    import re
    import traceback

    facts = {"code": BUG, "kind": type(error).__name__, "message": str(error), "hint": f"Report it to {ISSUES}."}
    trace = "".join(traceback.format_exception(error))
    # a password in an address, as of a database, is not for an issue tracker, nor is a signature in a query
    command = re.sub(r"(://[^:/@\s]*):[^/\s]*@", r"\1:***@", " ".join(["bertconv", *sys.argv[1:]]))
    command = re.sub(r"(://[^?\s]*)\?\S*", r"\1?***", command)
    _tell(
        facts,
        f"{trace}\nThis is a bug in bertconv {__version__} (Python {sys.version.split()[0]}). "
        f"Please report it to {ISSUES}, with the lines above and the command:\n  {command}",
        as_json=as_json,
    )
