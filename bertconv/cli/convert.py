"""`bertconv pt2tf`, `tf2pt` and `convert`."""

from __future__ import annotations

from typing import Any

import click

from bertconv.cli.options import display_options, output_options, source_options

_PATHS = (click.argument("src"), click.argument("dst", type=click.Path()))


@click.command(short_help="PyTorch to TensorFlow: writes tf_model.h5.")
@_PATHS[0]
@_PATHS[1]
@source_options
@output_options
@display_options
def pt2tf(**options: Any) -> None:
    """Convert PyTorch weights to a tf_model.h5 that TensorFlow's BERT classes load.

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


@click.command(short_help="TensorFlow to PyTorch: writes model.safetensors.")
@_PATHS[0]
@_PATHS[1]
@source_options
@output_options
@display_options
def tf2pt(**options: Any) -> None:
    """Convert TensorFlow weights to a model.safetensors that PyTorch's BERT classes load.

    SRC is a Hub id, a folder, or one file: tf_model.h5, or safetensors with TensorFlow's names. DST is the folder to
    make; it appears whole or not at all, and only when it is the same model (see `bertconv verify --help`).

    \b
    Examples:
      bertconv tf2pt ./tf-checkpoint out/
      bertconv tf2pt tf_model.h5 out/ --dtype bfloat16
    """  # noqa: D301
    _run(to="pt", source_dialect="tf", **options)


@click.command(short_help="From any format to any other.")
@_PATHS[0]
@_PATHS[1]
@click.option("--to", type=click.Choice(["pt", "tf", "tf-safetensors"]), required=True, help="Format to write.")
@source_options
@output_options
@display_options
def convert(**options: Any) -> None:
    """Convert a checkpoint of either framework to any format.

    \b
    Formats:
      pt               model.safetensors with PyTorch's names
      tf               tf_model.h5
      tf-safetensors   model.safetensors with TensorFlow's names
    \b
    Examples:
      bertconv convert old/pytorch_model.bin out/ --to pt
      bertconv convert bert-base-uncased out/ --to tf-safetensors
    """  # noqa: D301
    _run(**options)


def _run(*, as_json: bool, quiet: bool, verbose: bool, **options: Any) -> None:
    from bertconv.cli import console
    from bertconv.convert import convert_checkpoint

    with console.progress(shown=not (as_json or quiet)) as progress:
        report = convert_checkpoint(options.pop("src"), options.pop("dst"), progress=progress, **options)
    console.show_report(report, as_json=as_json, quiet=quiet, verbose=verbose)
