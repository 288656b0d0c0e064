"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]
DTYPES = ("keep", "float32", "float16", "bfloat16", "float64")
WITH_OUTPUT = "-o DST [OPTIONS]"
"""Stands in the usage of a command with `output_option`."""


shard_option = click.option(
    "--max-shard-size", default="5GB", show_default=True, metavar="SIZE", help="Most bytes of tensors in one file."
)


def format_option(like: str) -> Callable[[Command], Command]:
    """`--to`, by default the format of one of the command's arguments."""
    return click.option(
        "--to",
        metavar="FORMAT",
        help=f"Format of the output, one of those of `bertconv convert --help` [default: that of {like}].",
    )


def hub_options(command: Command) -> Command:
    """How the Hub is reached."""
    return apply(
        command,
        click.option("--token", help="Access token for the Hub [default: HF_TOKEN, or the stored one]."),
        click.option("--cache-dir", type=click.Path(file_okay=False), help="Cache of the Hub [default: HF_HOME's]."),
        click.option("--local-files-only", is_flag=True, help="Use what the cache holds; ask no network."),
    )


def family_options(of: str) -> Callable[[Command], Command]:
    """What the user says of the architecture of some checkpoints."""
    return lambda command: apply(
        command,
        click.option("--family", metavar="MODEL_TYPE",
                     help=f"Family of {of}, such as roberta, where no config says it [default: as config and names "
                     "say]."),
        click.option("--map", "table", type=click.Path(dir_okay=False, exists=True), metavar="FILE",
                     help="A mapping table of your own (see `bertconv tables`)."),
    )  # fmt: skip


def source_options(command: Command) -> Command:
    """Where the checkpoint is, and how its names are to be read."""
    chosen = click.option(
        "--head", "--class", "head", metavar="CLASS", help="Model class [default: the one that the tensors are]."
    )
    return common_source_options(chosen(command))


def common_source_options(command: Command) -> Command:
    """The same for a command that chooses the class itself."""
    return apply(
        command,
        click.option("--revision", metavar="REV", help="Branch, tag or commit on the Hub (also ORG/NAME@REV)."),
        hub_options,
        click.option("--subfolder", default="", metavar="DIR", help="Folder inside the source."),
        click.option("--variant", metavar="NAME", help="Such as fp16, for model.fp16.safetensors."),
        click.option("--config", type=click.Path(dir_okay=False, exists=True), help="Config instead of the source's."),
        click.option("--strip-prefix", metavar="P", help="Use only the names that begin with P, and take it off."),
        family_options("SRC"),
    )


def output_options(command: Command) -> Command:
    """What is written, and how strict the plan is."""
    return apply(
        command,
        click.option("--dtype", type=click.Choice(DTYPES), default="keep", show_default=True,
                     help="Element type of the output."),
        shard_option,
        click.option("--overwrite", is_flag=True, help="Replace an earlier output at DST."),
        click.option("--dry-run", is_flag=True, help="Plan and report; write nothing."),
        click.option("--init-missing", is_flag=True, help="Initialise heads that SRC lacks instead of refusing."),
        click.option("--allow-unknown", multiple=True, metavar="REGEX",
                     help="Tensors that no table knows and that may be left out; repeatable. The verdict says it "
                          "where one is a part of the model."),
        click.option("--ignore-unexpected", multiple=True, metavar="REGEX",
                     help="More of _keys_to_ignore_on_load_unexpected; repeatable."),
        click.option("--ignore-missing", multiple=True, metavar="REGEX",
                     help="More of _keys_to_ignore_on_load_missing; repeatable."),
        click.option("--untie", is_flag=True, help="Keep a decoder that differs from the embeddings."),
        click.option("--hidden-act", metavar="NAME", shell_complete=_activations,
                     help="Activation that the model is to have, by transformers' name, such as gelu or gelu_new "
                          "[default: the one that SRC's program computes]."),
        click.option("--allow-loss", is_flag=True,
                     help="Leave out what the format has no place for, and write weights for a program that cannot "
                          "compute their model, instead of refusing; the report names both."),
        click.option("--ema", is_flag=True, help="Take the averaged weights of a TensorFlow 1 checkpoint."),
        click.option("--verify", type=click.Choice(["auto", "outputs", "weights", "none"]), default="auto",
                     show_default=True, envvar="BERTCONV_VERIFY", show_envvar=True,
                     help="weights: read every tensor back and compare it. outputs: also rebuild the model, run both "
                          "sides, and compare what they compute. auto: outputs where the frameworks and the "
                          "memory for it (24 bytes per weight) are there, which can take minutes; for a fast run set "
                          "weights, here or as BERTCONV_VERIFY=weights."),
        click.option("--report", "report_file", type=click.Path(dir_okay=False), metavar="FILE",
                     help="Write the comparison as an HTML page; of weights, where outputs are not compared."),
    )  # fmt: skip


def _activations(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    from bertconv.config.classes import ACTIVATIONS

    return sorted(name for name in ACTIVATIONS if name.startswith(begun))


def combining_options(command: Command) -> Command:
    """How several checkpoints become one output."""
    return apply(
        command,
        output_option,
        click.option("--heads", type=click.Choice(["same", "drop", "first"]), default="same", show_default=True,
                     help="Inputs of different classes: refuse them, combine their base models alone, or take the "
                          "head of the first input."),
        click.option("--head", "--class", "head", metavar="CLASS",
                     help="Class as which all inputs are read [default: the first one's]."),
        format_option("the first input"),
        click.option("--dtype", type=click.Choice(DTYPES), default="keep", show_default=True,
                     help="Element type of the output."),
        shard_option,
        writing_options,
        family_options("all inputs"),
        hub_options,
    )  # fmt: skip


def output_option(command: Command) -> Command:
    """DST of a command that takes several checkpoints: as one more argument it could be taken for an input."""
    return click.option("--output", "-o", "dst", required=True, type=click.Path(), metavar="DST",
                        help="Folder to make; it appears whole or not at all.")(command)  # fmt: skip


def destination(command: Command) -> Command:
    """DST of a command that takes one checkpoint: the argument after it, or `-o DST` as of those that take several."""
    return apply(
        command,
        click.argument("dst", type=click.Path(), required=False, metavar="DST", callback=_either),
        click.option("--output", "-o", type=click.Path(), metavar="DST", is_eager=True, expose_value=False,
                     callback=_other, help="DST as an option, as of commands with several inputs."),
    )  # fmt: skip


def _other(context: click.Context, _: click.Parameter, value: str | None) -> None:
    context.meta[_DESTINATION] = value


def _either(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    other: str | None = context.meta[_DESTINATION]
    if value is not None and other is not None:
        raise click.UsageError("DST is given twice: as an argument and as --output.", context)
    if value is None and other is None and not context.resilient_parsing:
        raise click.MissingParameter(ctx=context, param=parameter)
    return other if value is None else value


_DESTINATION = "bertconv.destination"
"""Key of what `-o` said, for the argument to take it up."""


def numbers(context: click.Context, parameter: click.Parameter, value: str | None) -> list[float] | None:
    """Numbers with commas between them."""
    try:
        return None if value is None else [float(part) for part in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"{value!r} is not numbers with commas between them.", context, parameter) from error


def writing_options(command: Command) -> Command:
    """What a command does with its output that compares no outputs of models."""
    return apply(
        command,
        click.option("--overwrite", is_flag=True, help="Replace an earlier output at DST."),
        click.option("--dry-run", is_flag=True, help="Plan and report; write nothing."),
        click.option("--verify", type=click.Choice(["weights", "none"]), default="weights", show_default=True,
                     help="weights: read every tensor back, compare it, and record digests. none: neither."),
    )  # fmt: skip


def display_options(command: Command) -> Command:
    """How the outcome is shown."""
    return apply(
        command,
        click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts."),
        detail_options(
            "Print every tensor on a line, and notes in full. Without it layers are folded and long notes cut; where "
            "the output is no terminal, as in a log, tensors that were simply loaded, or all computed in one way, are "
            "only counted."
        ),
    )


def detail_options(verbose: str) -> Callable[[Command], Command]:
    """`--quiet` and `--verbose`; the help of the latter says what a command folds away without it."""
    return lambda command: apply(
        command,
        click.option("--quiet", "-q", is_flag=True, callback=_not_both,
                     help="Print the last lines only: the summary and the verdict."),
        click.option("--verbose", "-v", is_flag=True, callback=_not_both, help=verbose),
    )  # fmt: skip


def _not_both(context: click.Context, _: click.Parameter, value: bool) -> bool:
    if value and (context.params.get("quiet") or context.params.get("verbose")):
        raise click.UsageError("--quiet and --verbose exclude each other.")
    return value


def apply(command: Command, *options: Callable[[Command], Command]) -> Command:
    """A command with several options, in this order."""
    for option in reversed(options):
        command = option(command)
    return command
