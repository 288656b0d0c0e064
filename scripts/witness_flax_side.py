"""The half of `scripts/witness_flax.py` that runs where transformers 4.57.6, flax and PyTorch are.

Not run by hand: `python witness_flax_side.py make|load JOBS.json RESULTS.json`. JOBS.json is a list of cases.

    make  a random PyTorch checkpoint per case and what it computes in float64; the Flax class made of it, saved as
          msgpack, as shards, and as safetensors
    load  what bertconv wrote, through the Flax class's own `from_pretrained`: no warning, every parameter equal, and
          the outputs of PyTorch, in float64. Result: {check: [problem, ...]}.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", JAX_PLATFORMS="cpu", CUDA_VISIBLE_DEVICES="")

import jax
import numpy as np
import torch
import transformers
from flax.traverse_util import flatten_dict

jax.config.update("jax_enable_x64", True)

FOLDERS = {"msgpack": "ours", "shards": "ours-shards", "safetensors": "ours-safetensors"}


def make(job: dict[str, Any]) -> dict[str, Any]:
    """Make the checkpoint and what Flax makes of it."""
    folder = Path(job["folder"])
    torch.manual_seed(job["seed"])
    config = transformers.CONFIG_MAPPING[job["family"]](**job["config"], attn_implementation="eager")
    config.use_cache = False  # its keys and values are no outputs to compare
    model = getattr(transformers, job["head"])(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    model.save_pretrained(folder / "pt")
    inputs = _inputs(job, config)
    np.savez(folder / "inputs.npz", **inputs)
    outputs = model.double()(
        **{key: torch.from_numpy(value) for key, value in inputs.items()}, output_hidden_states=True
    )
    np.savez(folder / "outputs.npz", **_named(outputs))
    theirs = getattr(transformers, job["flax"]).from_pretrained(folder / "pt", from_pt=True)
    theirs.save_pretrained(folder / "theirs")
    theirs.save_pretrained(folder / "theirs-shards", max_shard_size="20KB")
    theirs.save_pretrained(folder / "theirs-safetensors", safe_serialization=True)
    return {}


def load(job: dict[str, Any]) -> dict[str, list[str]]:
    """Load everything that bertconv wrote for a case."""
    folder = Path(job["folder"])
    expected = _flat(getattr(transformers, job["flax"]).from_pretrained(folder / "theirs").params)
    found: dict[str, list[str]] = {}
    for check, name in FOLDERS.items():
        problems, model = _loaded(job, folder / name)
        params = _flat(model.params)
        if params.keys() != expected.keys():
            problems.append(f"other parameters: {sorted(params.keys() ^ expected.keys())[:3]}")
        elif wrong := [one for one in params if params[one].tobytes() != expected[one].tobytes()]:
            problems.append(f"other values: {wrong[:3]}")
        if check == "msgpack":
            problems += _computes(folder, model)
        found[check] = problems
    return found


def _loaded(job: dict[str, Any], folder: Path) -> tuple[list[str], Any]:
    """A model, and what transformers warned of."""
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage()[:300])  # type: ignore[method-assign]
    logger = logging.getLogger("transformers.modeling_flax_utils")
    logger.addHandler(handler)
    try:
        model = getattr(transformers, job["flax"]).from_pretrained(folder, dtype=np.float64)
    finally:
        logger.removeHandler(handler)
    return [text for text in said if "were not" in text or "newly" in text or "mismatch" in text], model


def _computes(folder: Path, model: Any) -> list[str]:
    """How the outputs differ from PyTorch's in float64."""
    model.params = jax.tree_util.tree_map(lambda one: one.astype(np.float64), model.params)
    with np.load(folder / "inputs.npz") as stored:
        outputs = _named(model(**dict(stored), output_hidden_states=True))
    problems, compared = [], 0
    with np.load(folder / "outputs.npz") as expected:
        for name in expected.files:
            if name not in outputs:
                continue
            compared += 1
            error = np.abs(outputs[name] - expected[name]).max() / np.abs(expected[name]).max()
            if not error <= 1e-10:
                problems.append(f"{name} is {error:.1e} from PyTorch's")
    return problems if compared > 2 else [*problems, f"only {sorted(outputs)} can be compared"]


def _named(outputs: Any) -> dict[str, Any]:
    found = {}
    for name, value in outputs.items():
        parts = {name: value} if hasattr(value, "shape") else {f"{name}.{n}": one for n, one in enumerate(value)}
        found |= {
            key: one.detach().numpy() if hasattr(one, "detach") else np.asarray(one) for key, one in parts.items()
        }
    return found


def _flat(params: Any) -> dict[str, Any]:
    return {"/".join(key): np.asarray(value) for key, value in flatten_dict(params).items()}


def _inputs(job: dict[str, Any], config: Any) -> dict[str, Any]:
    """Two rows, one of them padded; token types always, since Flax's ELECTRA makes ones of none."""
    random = np.random.default_rng(job["seed"])
    shape = (2, 3, 9) if job["head"].endswith("MultipleChoice") else (2, 9)
    ids = random.integers(5, config.vocab_size, shape)
    mask = np.ones(shape, np.int64)
    mask[1, ..., 6:] = 0
    ids[1, ..., 6:] = config.pad_token_id
    inputs = {"input_ids": ids, "attention_mask": mask}
    if job["segments"]:
        inputs["token_type_ids"] = random.integers(0, config.type_vocab_size, shape)
    return inputs


def _tried(step: Any, job: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(step(job))
    except Exception as error:  # noqa: BLE001  (the other cases are to go on)
        return {"failed": [f"{type(error).__name__}: {str(error)[:400]}"]}


def main() -> None:
    """Run one step of every case."""
    verb, jobs, results = sys.argv[1:]
    step = {"make": make, "load": load}[verb]
    found = [_tried(step, job) for job in json.loads(Path(jobs).read_text(encoding="utf-8"))]
    Path(results).write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
