"""The half of `scripts/witness.py` that runs where bertconv and transformers 5 are.

Not run by hand: `witness.py` starts it as `python witness_own.py own JOBS.json RESULTS.json`, once for many cases.
RESULTS.json is a list of {check: [problem, ...]}; a check that begins with "bertconv" is a conversion that was refused.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", HF_HUB_OFFLINE="1")
os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1", KERAS_BACKEND="tensorflow")

import numpy as np
import torch
import transformers
from safetensors import safe_open

import bertconv
from bertconv.errors import BertconvError

CONVERSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ours-h5": ("pt", {"to": "tf"}),
    "ours-h5-shards": ("pt", {"to": "tf", "max_shard_size": "{shard}"}),
    "ours-h5-float16": ("pt", {"to": "tf", "dtype": "float16"}),
    "ours-h5-bfloat16": ("pt", {"to": "tf", "dtype": "bfloat16"}),
    "ours-safetensors": ("pt", {"to": "tf-safetensors"}),
    "ours-safetensors-shards": ("pt", {"to": "tf-safetensors", "max_shard_size": "{shard}"}),
    "back-ours": ("ours-h5", {"to": "pt"}),
    "back-h5": ("theirs-h5", {"to": "pt"}),
    "back-h5-shards": ("theirs-h5-shards", {"to": "pt"}),
    "back-safetensors": ("theirs-safetensors", {"to": "pt"}),
    "back-safetensors-shards": ("theirs-safetensors-shards", {"to": "pt"}),
}
"""Folder -> what is converted to it, and with which options."""
TOLERANCE = 2e-5
"""TensorFlow in float32 against PyTorch in float64, relative to the largest value."""


def own(job: dict[str, Any]) -> dict[str, list[str]]:
    """Convert everything, take it back, and ask transformers 5 and bertconv's own classes."""
    if "failed" in job:
        return {"make": [job["failed"]]}
    folder = Path(job["folder"])
    results = {}
    for target, (source, options) in CONVERSIONS.items():
        if not (folder / source).exists():
            continue
        filled = {key: value.format(shard=job["shard"]) for key, value in options.items()}
        try:
            bertconv.convert_checkpoint(folder / source, folder / target, **filled)
        except BertconvError as error:
            results[f"bertconv {source} {filled}"] = [str(error)]
            continue
        if target.startswith("back-"):
            original = folder / "reference/model.safetensors"
            results[target.replace("-", " ")] = list(_differences(folder / target / "model.safetensors", original))
    for check, step in (("transformers 5", _torch), ("our class", _class)):
        try:
            found = step(job)
        except Exception as error:  # noqa: BLE001  (whatever is raised is the finding)
            found = [f"{type(error).__name__}: {str(error)[:500]}"]
        if found is not None:
            results[check] = found
    return results


def _differences(ours: Path, original: Path) -> Iterator[str]:
    """What differs between two safetensors files."""
    with safe_open(ours, "numpy") as mine, safe_open(original, "numpy") as other:
        names, expected = set(mine.keys()), set(other.keys())
        yield from (f"only on one side: {name}" for name in sorted(names ^ expected))
        for name in sorted(names & expected):
            found, wanted = mine.get_tensor(name), other.get_tensor(name)
            if (found.dtype, found.shape) != (wanted.dtype, wanted.shape) or found.tobytes() != wanted.tobytes():
                yield f"{name} has other bits"


def _torch(job: dict[str, Any]) -> list[str] | None:
    """Have transformers 5 load what came back and compute the same; None where it has no such model."""
    if job["config"].get("position_embedding_type", "absolute") != "absolute":
        return None
    folder = Path(job["folder"])
    back = folder / ("back-h5" if (folder / "back-h5").exists() else "back-ours")
    model, report = getattr(transformers, job["head"]).from_pretrained(back, output_loading_info=True, dtype="float64")
    problems = [f"{kind}: {sorted(map(str, found))[:5]}" for kind, found in report.items() if found]
    given = {name: torch.from_numpy(value) for name, value in _stored(folder / "inputs.npz").items()}
    with torch.no_grad():
        found = model.eval()(**{name: v.double() if v.is_floating_point() else v for name, v in given.items()})
    expected = _stored(folder / "outputs.npz")
    return problems if job["wide"] else problems + list(_far(found, expected, 1e-11))


def _class(job: dict[str, Any]) -> list[str]:
    """Compare what our TensorFlow class computes, and save what the witness is to load."""
    kind = getattr(bertconv, f"TF{job['head']}", None)
    if kind is None:
        return ["bertconv has no such class"]
    folder = Path(job["folder"])
    model = kind.from_pretrained(folder / "pt")
    model.save_pretrained(folder / "class-h5")
    model.save_pretrained(folder / "class-safetensors", safe_serialization=True)
    sources = [("pt", model)]
    if (folder / "theirs-h5").exists():
        sources.append(("theirs-h5", kind.from_pretrained(folder / "theirs-h5")))
    inputs, expected = _stored(folder / "inputs.npz"), _stored(folder / "outputs.npz")
    if job["wide"]:
        return []
    return [
        f"{source}: {problem}"
        for source, loaded in sources
        for problem in _far(loaded(**inputs, training=False), expected, TOLERANCE)
    ]


def _far(found: Any, expected: dict[str, Any], tolerance: float) -> Iterator[str]:
    """Outputs that are missing or farther away than the precision explains."""
    for name, wanted in expected.items():
        value = found.get(name)
        if value is None:
            yield f"no output {name}"
        elif (error := np.abs(value.numpy() - wanted).max() / np.abs(wanted).max()) > tolerance:
            yield f"output {name} is {error:.1e} away"


def _stored(path: Path) -> dict[str, Any]:
    with np.load(path) as stored:
        return dict(stored)


def main() -> None:
    """Do what the arguments say, case by case."""
    _, jobs, results = sys.argv[1:]
    torch.set_num_threads(1)  # the models are tiny
    done = [own(job) for job in json.loads(Path(jobs).read_text(encoding="utf-8"))]
    Path(results).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main()
