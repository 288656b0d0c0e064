"""The half of `scripts/witness.py` that runs inside the witness environment, where transformers 4.57.6 is.

Not run by hand: `witness.py` starts it as `python witness_side.py make|load JOBS.json RESULTS.json`, once for many
cases, since importing TensorFlow takes seconds. JOBS.json is a list of `Job`s, RESULTS.json one of
{check: [problem, ...]}.

    make  a random PyTorch checkpoint per case, and what 4.57.6 itself turns it into: .h5 and safetensors, in shards too
    load  what bertconv wrote, through 4.57.6's own `from_pretrained` and Keras' own `load_weights`
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any, TypedDict

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1", CUDA_VISIBLE_DEVICES="")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import numpy as np
import tf_keras
import torch
import transformers

Weights = dict[str, np.ndarray[Any, np.dtype[np.float32]]]

LOADS = {
    "load h5": ("ours-h5", torch.float32),
    "load h5 shards": ("ours-h5-shards", torch.float32),
    "load h5 float16": ("ours-h5-float16", torch.float16),
    "load h5 bfloat16": ("ours-h5-bfloat16", torch.bfloat16),
    "load safetensors": ("ours-safetensors", torch.float32),
    "load safetensors shards": ("ours-safetensors-shards", torch.float32),
}
"""Check -> the folder that bertconv wrote, and the element type in it."""


class Job(TypedDict):
    """One case; `witness.py` says what the fields mean."""

    head: str
    config: dict[str, Any]
    model: dict[str, Any]
    folder: str
    shard: str
    seed: int
    second: bool
    outer: str
    pickled: bool


def make(job: Job) -> dict[str, list[str]]:
    """Make the checkpoint and what 4.57.6 converts it to; the result says nothing."""
    folder = Path(job["folder"])
    config = transformers.BertConfig(**job["config"])
    model = getattr(transformers, job["head"])(config, **job["model"])
    _fill(model, job["seed"])
    model.save_pretrained(folder / "reference")
    model.save_pretrained(folder / "pt", safe_serialization=not job["pickled"])
    del model
    tf_keras.backend.clear_session()
    if job["second"]:
        _from_pt(job)
    converted = _from_pt(job, job["outer"])
    converted.save_pretrained(folder / "theirs-h5")
    converted.save_pretrained(folder / "theirs-h5-shards", max_shard_size=job["shard"])
    converted.save_pretrained(folder / "theirs-safetensors", safe_serialization=True)
    shards = folder / "theirs-safetensors-shards"
    converted.save_pretrained(shards, safe_serialization=True, max_shard_size=job["shard"])
    return {}


def load(job: Job) -> dict[str, list[str]]:
    """Load everything that bertconv wrote for a case: an empty report and every value as expected."""
    tf_keras.backend.clear_session()
    expected = _weights(_from_pt(job))
    results = {}
    for check, (name, dtype) in LOADS.items():
        try:
            results[check] = _load(job, Path(job["folder"]) / name, _rounded(expected, dtype))
        except Exception as error:  # noqa: BLE001  (whatever 4.57.6 raises is the finding)
            results[check] = [f"{type(error).__name__}: {str(error)[:500]}"]
    try:
        results["load_weights"] = _load_weights(job, expected)
    except Exception as error:  # noqa: BLE001
        results["load_weights"] = [f"{type(error).__name__}: {str(error)[:500]}"]
    return results


def _fill(model: Any, seed: int) -> None:
    """Random values over eight decades, all of them within float16's range but not all exact in it."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            exponents = torch.empty(parameter.shape).uniform_(-14, 12, generator=random)
            parameter.copy_(torch.randn(parameter.shape, generator=random) * torch.exp2(exponents))


def _tf_class(job: Job) -> Any:
    return getattr(transformers, f"TF{job['head']}")


def _from_pt(job: Job, outer: str = "") -> Any:
    prefix = {"load_weight_prefix": outer} if outer else {}
    return _tf_class(job).from_pretrained(Path(job["folder"]) / "pt", from_pt=True, **prefix, **job["model"])


def _weights(model: Any) -> Weights:
    """Values by name, the name of the model taken off; a weight that is there twice is one weight."""
    return {weight.name.split("/", 1)[1]: weight.numpy() for weight in model.weights}


def _rounded(weights: Weights, dtype: torch.dtype) -> Weights:
    return {name: torch.from_numpy(value).to(dtype).to(torch.float32).numpy() for name, value in weights.items()}


def _load(job: Job, folder: Path, expected: Weights) -> list[str]:
    model, report = _tf_class(job).from_pretrained(folder, output_loading_info=True, **job["model"])
    problems = [f"{kind}: {sorted(map(str, found))[:5]}" for kind, found in report.items() if found]
    return problems + _differences(_weights(model), expected)


def _load_weights(job: Job, expected: Weights) -> list[str]:
    folder = Path(job["folder"]) / "ours-h5"
    model = _tf_class(job)(transformers.BertConfig.from_pretrained(folder), **job["model"])
    model.build_in_name_scope()
    model.load_weights(folder / "tf_model.h5")
    return _differences(_weights(model), expected)


def _differences(found: Weights, expected: Weights) -> list[str]:
    both = sorted(found.keys() & expected.keys())
    return [f"only on one side: {name}" for name in sorted(found.keys() ^ expected.keys())] + [
        f"another value: {name}"
        for name in both
        if found[name].shape != expected[name].shape or found[name].tobytes() != expected[name].tobytes()
    ]


def main() -> None:
    """Do what the arguments say, case by case."""
    verb, jobs, results = sys.argv[1:]
    step = {"make": make, "load": load}[verb]
    done = [step(job) for job in json.loads(Path(jobs).read_text(encoding="utf-8"))]
    Path(results).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main()
