"""`bertconv pt2tf`, `tf2pt` and `convert`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import destination, display_options, output_options, source_options


def _formats() -> dict[str, str]:
    """Name of each format that can be written -> what it is; looked up when it is asked for, not for other commands."""
    from bertconv.formats.output import formats

    return {form.name: form.contents for form in formats().values()}


def known_format(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """The value of `--to`, if it is a format that can be written."""
    if value is not None and value not in _formats():
        names = ", ".join(map(repr, _formats()))
        meant = _meant(value)
        asked = f" Did you mean {meant!r}?" if meant else ""
        raise click.BadParameter(f"{value!r} is not one of {names}.{asked}", context, parameter)
    return value


def _meant(word: str) -> str:
    """The format that is called so by people or in tables; else one that is spelled alike."""
    from difflib import get_close_matches

    from bertconv.formats.output import formats

    def plain(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower()))

    for form in formats().values():
        if plain(word) in map(plain, (form.name, form.dialect.name, form.dialect.title)):
            return form.name
    return next(iter(get_close_matches(word, formats(), n=1, cutoff=0.8)), "")


def completed_format(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """The formats that a word which was begun may become, for shells."""
    return [name for name in _formats() if name.startswith(begun)]


class _Converting(click.Command):
    """A command whose help says what can be written."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        with formatter.section("Formats that can be written (`bertconv convert --to`)"):
            formatter.write_dl(list(_formats().items()))


_PATHS = (click.argument("src"), destination)


@click.command(cls=_Converting, short_help="PyTorch to TensorFlow: writes tf_model.h5.")
@_PATHS[0]
@_PATHS[1]
@source_options
@output_options
@display_options
def pt2tf(**options: Any) -> None:
    """Convert PyTorch weights to a tf_model.h5 that the model's class in TensorFlow loads.

    SRC is a Hub id (org/name, org/name@revision), a folder, or one file: model.safetensors, pytorch_model.bin, or their
    sharded index. DST is the folder to make; it appears whole or not at all.

    At the end the model is rebuilt from DST with TensorFlow and run beside the reference in PyTorch, where both are
    installed: DST appears only when it is the same model (see `bertconv verify --help`).

    \b
    Examples:
      bertconv pt2tf bert-base-uncased out/
      bertconv pt2tf ./checkpoint out/ --head BertForSequenceClassification
      bertconv pt2tf ./checkpoint out/ --dry-run
      bertconv pt2tf ./checkpoint out/ --report parity.html
      bertconv pt2tf model.ckpt out/ --config config.json --json | jq .tensors[0]
    """  # noqa: D301
    _run(to="tf", source_dialect="pt", **options)


@click.command(cls=_Converting, short_help="TensorFlow to PyTorch: writes model.safetensors.")
@_PATHS[0]
@_PATHS[1]
@source_options
@output_options
@display_options
def tf2pt(**options: Any) -> None:
    """Convert TensorFlow weights to a model.safetensors that the model's class in PyTorch loads.

    SRC is a Hub id, a folder, or one file: tf_model.h5, or safetensors with TensorFlow's names. DST is the folder to
    make; it appears whole or not at all, and only when it is the same model (see `bertconv verify --help`).

    \b
    Examples:
      bertconv tf2pt ./tf-checkpoint out/
      bertconv tf2pt tf_model.h5 out/ --dtype bfloat16
    """  # noqa: D301
    _run(to="pt", source_dialect="tf", **options)


@click.command(cls=_Converting, short_help="From any format to any other.")
@_PATHS[0]
@_PATHS[1]
@click.option("--to", metavar="FORMAT", required=True, callback=known_format, help="Format to write: see below.",
              shell_complete=completed_format)  # fmt: skip
@source_options
@output_options
@display_options
def convert(**options: Any) -> None:
    """Convert a checkpoint, whatever program it is of, to any format.

    What SRC is is found by itself; which classes a format has and what it has no place for: `bertconv tables dialects`.

    \b
    Examples:
      bertconv convert old/pytorch_model.bin out/ --to pt
      bertconv convert bert_model.ckpt out/ --to pt                      # TensorFlow 1; gelu_new, as its code computes
      bertconv convert bert_model.ckpt out/ --to pt --hidden-act gelu    # as Hugging Face's own conversions say
      bertconv convert flax_model.msgpack out/ --to tf
      bertconv convert saved_model/1 out/ --to pt --config config.json
      bertconv convert onnx/model.onnx out/ --to pt --config config.json
      bertconv convert bert-base-uncased out/ --to tf-safetensors
      bertconv convert ./checkpoint out/ --to keras-hub --allow-loss     # what has no place there is left out
      bertconv convert ./checkpoint s3://bucket/out --to tf              # multipart upload, nothing on the disk
    """  # noqa: D301
    _run(**options)


def _run(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    if options["dry_run"] or options["verify"] in ("none", "weights"):
        process.copies_only()
    from bertconv.cli import console
    from bertconv.convert import convert_checkpoint

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = convert_checkpoint(options.pop("src"), options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
