"""`bertconv inspect`."""

from __future__ import annotations

import json
from typing import Any

import click

from bertconv.cli import process
from bertconv.cli.options import source_options


def _beside(others: list[str]) -> str:
    return f" ({', '.join(others)} {'fits' if len(others) == 1 else 'fit'} as well)" if others else ""


@click.command(short_help="Say what a checkpoint is, from its header alone.")
@click.argument("src")
@source_options
@click.option("--tensors", "with_tensors", is_flag=True, help="List every tensor, layers folded.")
@click.option("--verbose", "-v", is_flag=True, help="List every tensor on a line, and print notes in full.")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for scripts.")
def inspect(src: str, *, with_tensors: bool, verbose: bool, as_json: bool, **options: Any) -> None:
    """Say what SRC is: container, names, model class, sizes, element types, and what is unusual about it.

    Only headers are read. SRC is a Hub id, a folder, one file, or the prefix of a TensorFlow checkpoint.

    \b
    Examples:
      bertconv inspect bert-base-uncased
      bertconv inspect tf_model.h5 --tensors
      bertconv inspect uncased_L-12_H-768_A-12/bert_model.ckpt
      bertconv inspect ./checkpoint --json | jq .sizes
    """  # noqa: D301
    process.copies_only()
    from bertconv.cli.console import show_line, table
    from bertconv.inspection import inspect_checkpoint
    from bertconv.mapping.dialects import title_of
    from bertconv.text import fold, human_bytes, printable

    found = inspect_checkpoint(src, **options)
    if as_json:
        click.echo(json.dumps(found.to_json(), ensure_ascii=False, indent=1))
        return
    others = [head for head in found.equals if head != found.head]
    rows = [
        ("source", found.given + (f"@{found.revision}" if found.revision else "")),
        ("files", ", ".join(found.files)),
        ("container", found.container),
        ("names", title_of(found.dialect) or ("not certain: see below" if found.is_known else "of no known family")),
        ("family", found.family or "unknown"),
        ("prefix", found.prefix or "none"),
        ("class", " or ".join(found.alternatives) or (found.head or "unknown") + _beside(others)),
        ("sizes", ", ".join(f"{key} {size}" for key, size in found.sizes.items())),
        ("tensors", f"{found.tensors}, {found.parameters:,} parameters, {human_bytes(found.nbytes)}"),
        ("types", ", ".join(f"{dtype} x {count}" for dtype, count in found.dtypes.items())),
        ("metadata", ", ".join(f"{key}: {value}" for key, value in found.metadata.items()) or "none"),
        ("tokenizer", _tokenizer(found.tokenizer)),
        ("goes along", ", ".join(found.sidecars) or "nothing"),
        *([("modules", ", ".join(found.modules))] if found.modules else []),
    ]
    for key, value in rows:
        click.echo(f"{key:10}  {printable(value)}")
    for sentence in found.notes:
        show_line(f"note        {sentence}.", verbose=verbose)
    if with_tensors or verbose:
        shapes = {name: f"{dtype} {list(shape)}" for name, dtype, shape in found.names}
        folded = {name: [name] for name in shapes} if verbose else fold(shapes)
        table(("Tensor", "Type and shape"), [(key, shapes[names[0]]) for key, names in folded.items()])


def _tokenizer(facts: dict[str, Any]) -> str:
    """`31 tokens, lower-cased, at most 512 in a text`."""
    if not facts:
        return "none"
    if facts["tokens"] is None:  # sentencepiece is not read, or `notes` says what is wrong
        return "not readable"
    length = facts["model_max_length"]
    parts = [f"{facts['tokens']:,} tokens", "lower-cased" if facts["do_lower_case"] else "upper and lower case"]
    return ", ".join([*parts, f"at most {length:,} in a text"] if length is not None else parts)
