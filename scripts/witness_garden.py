"""The outside witness for Model Garden's checkpoints: tf-models-official judges what bertconv reads and writes.

    python scripts/witness_garden.py --env DIR [--heads ForMaskedLM,Model]

DIR is a virtual environment with tf-models-official 2.20 (about 5 GB: `pip install tf-models-official`).
bertconv, torch and transformers are those of the Python that runs this file. The package and its tests depend on none
of this.

For every class of BERT and ALBERT that there is in Model Garden, tiny, gelu_new, sizes apart:
    restored  `bertconv convert --to garden`: `tf.train.Checkpoint(encoder=...)` or `(model=...)` restores it with
              assert_consumed() and computes what PyTorch computes in float64: the largest relative difference
    items     the items from which Model Garden's tasks begin a training are all found in the file
    read      what Model Garden saved is read with every tensor equal, by name
    computed  and converted to PyTorch, it computes what Model Garden's model computes
    back      PyTorch -> garden -> PyTorch: the same file
One line per case; exit code 1 when anything differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

import bertconv
from bertconv.formats.streaming import Workspace, as_floats, pieces
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import table_for
from bertconv.source import open_source
from bertconv.source.reading import open_header

SIDE = Path(__file__).with_name("witness_garden_side.py")
SIZES = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3,
}  # fmt: skip
MORE = {"bert": {}, "albert": {"embedding_size": 35}}
TOLERANCE = 2e-5
"""Largest relative difference that counts as equal: Model Garden's norms are float32 whatever it is told."""
LABELS = {"ForPreTraining": 2, "ForQuestionAnswering": 2}
SEVERAL = 7


def jobs(root: Path, heads: list[str]) -> Iterator[dict[str, Any]]:
    """Every case, with PyTorch's checkpoint, its outputs, and what bertconv makes of it."""
    garden = load_dialects().by_name["garden"]
    for family, more in MORE.items():
        table = table_for(family)
        for head in table.in_dialect(garden).heads:
            rest = head.removeprefix(table.prefix)
            if heads and rest not in heads:
                continue
            folder = root / head
            labels = LABELS.get(rest, SEVERAL)
            make(folder, family, head, SIZES | more, labels)
            bertconv.convert_checkpoint(folder / "pt", folder / "garden", to="garden")
            yield {"family": family, "head": rest, "config": SIZES | more, "labels": labels, "folder": str(folder)}


def make(folder: Path, family: str, head: str, sizes: dict[str, int], labels: int) -> None:
    """A random checkpoint, inputs, and what PyTorch computes in float64."""
    torch.manual_seed(3)
    config = transformers.CONFIG_MAPPING[family](
        **sizes, num_labels=labels, hidden_act="gelu_new", attn_implementation="eager"
    )
    model = getattr(transformers, head)(config).eval().double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, dtype=torch.float32))
    model.float().save_pretrained(folder / "pt")
    random = np.random.default_rng(5)
    ids = random.integers(1, sizes["vocab_size"], (2, 13)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[1, 9:] = 0
    types = random.integers(0, sizes["type_vocab_size"], ids.shape).astype(np.int32)
    np.savez(folder / "inputs.npz", input_word_ids=ids, input_mask=mask, input_type_ids=types)
    np.savez(folder / "outputs.npz", **computed(model.double(), folder))


def computed(model: Any, folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Outputs of a PyTorch model, called as the side calls them."""
    with np.load(folder / "inputs.npz") as stored, torch.no_grad():
        ids, mask, types = (torch.from_numpy(stored[name].astype(np.int64)) for name in
                            ("input_word_ids", "input_mask", "input_type_ids"))  # fmt: skip
    with torch.no_grad():
        found = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    names = {
        "last_hidden_state": "hidden", "pooler_output": "pooled", "prediction_logits": "logits", "logits": "logits",
        "seq_relationship_logits": "sentence", "sop_logits": "sentence", "start_logits": "start_logits",
        "end_logits": "end_logits",
    }  # fmt: skip
    return {name: found[key].numpy() for key, name in names.items() if key in found and found[key] is not None}


def back(folder: Path) -> str:
    """PyTorch's file again, by way of Model Garden's."""
    bertconv.convert_checkpoint(folder / "garden", folder / "again", to="pt")
    one, two = ((folder / name / "model.safetensors").read_bytes() for name in ("pt", "again"))
    header, other = (_tensors(folder / name) for name in ("pt", "again"))
    same = header.keys() == other.keys() and all(np.array_equal(header[key], other[key]) for key in header)
    return "" if one == two or same else "another model"


def _tensors(given: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Every tensor of a checkpoint by its name, as it is stored."""
    with closing(open_header(open_source(given))) as header:
        return {
            one.name: as_floats(
                np.concatenate([piece.copy() for piece in pieces(one, None, Workspace())]), one.dtype
            ).reshape(one.shape)
            for one in header.tensors
        }


def read_theirs(folder: Path, head: str, config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What Model Garden saved: every tensor by name, and what PyTorch computes with it."""
    for there in sorted(folder.glob("theirs-*")):
        weights = dict(np.load(there / "weights.npz"))
        for kind in sorted(one.name for one in there.iterdir() if one.is_dir()):
            (there / kind / "config.json").write_text(json.dumps(config))
            found = _tensors(there / kind)
            wrong = [name for name in found if not np.array_equal(found[name], weights[name])]
            if kind == "whole":
                wrong += sorted(weights.keys() - found.keys())
            yield f"{there.name} {kind} read", f"differ: {wrong}" if wrong or not found else ""
        bertconv.convert_checkpoint(there / "whole", there / "pt", to="pt", head=head)
        model = getattr(transformers, head).from_pretrained(there / "pt", attn_implementation="eager").eval().double()
        ours, theirs = computed(model, folder), dict(np.load(there / "outputs.npz"))
        most = max(float(np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max()) for key in theirs)
        yield f"{there.name} computed", "" if most <= TOLERANCE else f"differs by {most:.1e}"


def main() -> int:
    """Make the cases, have the other side judge them, and judge what it wrote."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--heads", default="")
    given = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        heads = [one for one in given.heads.split(",") if one]
        every = list(jobs(root, heads))
        (root / "jobs.json").write_text(json.dumps(every))
        command = [str(given.env / "bin" / "python"), str(SIDE), str(root / "jobs.json"), str(root / "results.json")]
        subprocess.run(command, check=True, stdout=sys.stderr)
        for job, results in zip(every, json.loads((root / "results.json").read_text()), strict=True):
            folder = Path(job["folder"])
            config = json.loads((folder / "pt" / "config.json").read_text())
            lines = [(check, found if isinstance(found, str) else "" if found <= TOLERANCE else f"{found:.1e}")
                     for check, found in results.items()]  # fmt: skip
            said = ", ".join(f"{check} {found:.1e}" for check, found in results.items() if isinstance(found, float))
            lines += [("back", back(folder)), *read_theirs(folder, config["architectures"][0], config)]
            wrong = [f"{check}: {problem}" for check, problem in lines if problem]
            failed += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok'}  {folder.name}: {said}; {len(lines)} checks", *wrong, sep="\n      ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
