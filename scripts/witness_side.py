"""The half of `scripts/witness.py` that runs inside the witness environment, where transformers 4.57.6 is.

Not run by hand: `witness.py` starts it as `python witness_side.py make|load JOBS.json RESULTS.json`, once for many
cases, since importing TensorFlow takes seconds. JOBS.json is a list of `Job`s, RESULTS.json a list of what each gave.

    make  a random PyTorch checkpoint per case, what it computes, and what 4.57.6 itself turns it into: .h5 and
          safetensors, in shards too. Result: whether 4.57.6 has a TensorFlow class for it, and which of that class's
          weights may have any value ("loose"): no tensor of PyTorch fills them, or it does not compute with them
          ("dead").
    load  what bertconv wrote, through 4.57.6's own `from_pretrained` and Keras' own `load_weights`. Result:
          {check: [problem, ...]}.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", TF_USE_LEGACY_KERAS="1", CUDA_VISIBLE_DEVICES="")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import numpy as np
import tf_keras
import torch
import transformers

Array = np.ndarray[Any, np.dtype[Any]]
Weights = dict[str, Array]

LOADS = {
    "load h5": ("ours-h5", torch.float32),
    "load safetensors": ("ours-safetensors", torch.float32),
    "load h5 of our class": ("class-h5", torch.float32),
}
"""Check -> the folder that bertconv wrote, and the element type in it."""
MORE_LOADS = {
    "load h5 shards": ("ours-h5-shards", torch.float32),
    "load h5 float16": ("ours-h5-float16", torch.float16),
    "load h5 bfloat16": ("ours-h5-bfloat16", torch.bfloat16),
    "load safetensors shards": ("ours-safetensors-shards", torch.float32),
    "load safetensors of our class": ("class-safetensors", torch.float32),
}
"""What is loaded where the case is about files: `wide`."""
TOLERANCE = 2e-5
"""TensorFlow in float32 against PyTorch in float64, relative to the largest value (measured: 9e-6)."""


class Job(TypedDict):
    """One case; `witness_cases.py` says what the fields mean."""

    family: str
    head: str
    config: dict[str, Any]
    model: dict[str, Any]
    folder: str
    shard: str
    seed: int
    second: bool
    outer: str
    pickled: bool
    wide: bool
    trained: bool
    torch_only: bool
    loose: list[str]
    dead: list[str]


def make(job: Job) -> dict[str, Any]:
    """Make the checkpoint and what 4.57.6 converts it to."""
    folder = Path(job["folder"])
    folder.mkdir()
    config = transformers.CONFIG_MAPPING[job["family"]](**job["config"], attn_implementation="eager")
    model = getattr(transformers, job["head"])(config, **job["model"]).eval()
    random = torch.Generator().manual_seed(job["seed"])
    _fill(model, random, wide=job["wide"])
    has_class = not job["torch_only"] and hasattr(transformers, f"TF{job['head']}")
    tf_keras.backend.clear_session()
    loose: list[str] = []
    dead: list[str] = []
    if has_class:
        converted, loose, dead = _converted(job, model, random)
        np.savez(folder / "weights.npz", **_weights(converted))
    model.save_pretrained(folder / "reference")
    model.save_pretrained(folder / "pt", safe_serialization=not job["pickled"])
    inputs = _inputs(model, random)
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "outputs.npz", **_computed(model.double(), inputs))
    if not has_class:
        return {"has_class": False, "loose": loose, "dead": dead}
    if job["outer"] or job["second"]:
        tf_keras.backend.clear_session()
        converted = _from_pt(job) if job["second"] else None
        converted = _from_pt(job, job["outer"])
        if not job["outer"]:
            _take(converted, model.float())
    converted.save_pretrained(folder / "theirs-h5")
    converted.save_pretrained(folder / "theirs-h5-shards", max_shard_size=job["shard"])
    converted.save_pretrained(folder / "theirs-safetensors", safe_serialization=True)
    shards = folder / "theirs-safetensors-shards"
    converted.save_pretrained(shards, safe_serialization=True, max_shard_size=job["shard"])
    return {"has_class": True, "loose": loose + dead, "dead": dead}


def _made(job: Job) -> dict[str, Any]:
    """What `make` gives; "failed" says what 4.57.6 raised instead."""
    try:
        return make(job)
    except Exception as error:  # noqa: BLE001  (the other cases are to go on)
        return {"has_class": False, "loose": [], "dead": [], "failed": f"{type(error).__name__}: {str(error)[:500]}"}


def load(job: Job) -> dict[str, list[str]]:
    """Load everything that bertconv wrote for a case: an empty report and every value as expected."""
    tf_keras.backend.clear_session()
    with np.load(Path(job["folder"]) / "weights.npz") as stored:
        expected = {name: stored[name] for name in stored.files if name not in job["loose"]}
    results = {}
    for check, (name, dtype) in (LOADS | (MORE_LOADS if job["wide"] else {})).items():
        if check.endswith("our class") and not Path(job["folder"], name).exists():
            continue
        try:
            results[check] = _load(job, name, _rounded(expected, dtype))
        except Exception as error:  # noqa: BLE001  (whatever 4.57.6 raises is the finding)
            results[check] = [f"{type(error).__name__}: {str(error)[:500]}"]
    if job["trained"]:
        own = _tf_class(job).from_pretrained(Path(job["folder"]) / "theirs-h5", **job["model"])
        results["what TensorFlow's own file computes"] = _outputs(job, own)
    if set(job["loose"]) - set(job["dead"]):
        return results  # Keras counts the weights of a layer, and our file has none that nobody filled
    try:
        results["load_weights"] = _load_weights(job, expected)
    except Exception as error:  # noqa: BLE001
        results["load_weights"] = [f"{type(error).__name__}: {str(error)[:500]}"]
    return results


def _fill(model: Any, random: torch.Generator, *, wide: bool) -> None:
    """Random values; wide: over eight decades, all of them within float16's range but not all exact in it."""
    with torch.no_grad():
        for parameter in model.parameters():
            values = torch.randn(parameter.shape, generator=random)
            exponents = torch.empty(parameter.shape).uniform_(-14, 12, generator=random)
            parameter.copy_(values * torch.exp2(exponents) if wide else 0.5 * values)


def _converted(job: Job, model: Any, random: torch.Generator) -> tuple[Any, list[str], list[str]]:
    """TensorFlow's model of the values of a PyTorch model, its weights that got none, and those not computed with.

    Where it is to be trained, PyTorch's model takes the new values from it.
    """
    converted, loose = _fresh(job, model)
    dead: list[str] = []
    for weight in converted.weights:
        if job["trained"] or _inner(weight) in loose:
            weight.assign(0.5 * torch.randn(tuple(weight.shape), generator=random).numpy())
    if job["trained"]:
        transformers.load_tf2_model_in_pytorch_model(model, converted, allow_missing_keys=True)
        for name, value in _apart(job, converted, model, loose).items():
            if _is_computed_with(job, converted, model, name):  # of two tied weights 4.57.6 takes any
                model.state_dict()[name.removesuffix(":0").replace("/", ".")].copy_(torch.from_numpy(value))
        dead = list(_apart(job, converted, model, loose))
    return converted, loose, dead


def _apart(job: Job, converted: Any, model: Any, loose: list[str]) -> Weights:
    """TensorFlow's weights that have other values when they come from PyTorch's model."""
    again = _weights(_fresh(job, model)[0])
    return {
        name: value
        for name, value in _weights(converted).items()
        if name not in loose and not np.array_equal(value, again[name])
    }


def _is_computed_with(job: Job, converted: Any, model: Any, name: str) -> bool:
    """Whether a weight's value makes a difference to any output."""
    inputs = _inputs(model, torch.Generator().manual_seed(job["seed"]))
    weight = next(weight for weight in converted.weights if _inner(weight) == name)
    value, before = weight.numpy(), converted(**inputs, training=False)
    weight.assign(value + 1)
    after = converted(**inputs, training=False)
    weight.assign(value)
    return any(not np.array_equal(before[key].numpy(), after[key].numpy()) for key in before)


def _fresh(job: Job, model: Any) -> tuple[Any, list[str]]:
    """A TensorFlow model with the values of a PyTorch model, and the names of the weights that got none."""
    converted = _tf_class(job)(model.config, **job["model"])
    converted.build_in_name_scope()
    for weight in converted.weights:
        weight.assign(np.full(tuple(weight.shape), np.nan, np.float32))
    _take(converted, model)
    return converted, [_inner(weight) for weight in converted.weights if np.isnan(weight.numpy()).any()]


def _take(converted: Any, model: Any) -> None:
    transformers.load_pytorch_model_in_tf2_model(converted, model, allow_missing_keys=True)


def _inputs(model: Any, random: torch.Generator) -> dict[str, Array]:
    """Two sequences, the second one padded on the right; three choices of each where the head chooses."""
    config = model.config
    shape = (2, 3, 9) if "ForMultipleChoice" in type(model).__name__ else (2, 9)
    ids = torch.randint(3, config.vocab_size, shape, generator=random)
    mask = torch.ones(shape, dtype=torch.long)
    ids[1, ..., 6:], mask[1, ..., 6:] = config.pad_token_id, 0
    found = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in inspect.signature(model.forward).parameters:
        found["token_type_ids"] = torch.randint(0, config.type_vocab_size, shape, generator=random)
    if getattr(config, "add_cross_attention", False):
        found["encoder_hidden_states"] = torch.randn((2, 4, config.hidden_size), generator=random)
    return {name: value.numpy() for name, value in found.items()}


def _computed(model: Any, inputs: dict[str, Array]) -> dict[str, Array]:
    """What PyTorch's model computes, in its own precision."""
    given = {name: torch.from_numpy(value) for name, value in inputs.items()}
    with torch.no_grad():
        outputs = model(**{name: v.double() if v.is_floating_point() else v for name, v in given.items()})
    return {name: value.numpy() for name, value in outputs.items() if torch.is_tensor(value)}


def _tf_class(job: Job) -> Any:
    return getattr(transformers, f"TF{job['head']}")


def _from_pt(job: Job, outer: str = "") -> Any:
    prefix = {"load_weight_prefix": outer} if outer else {}
    return _tf_class(job).from_pretrained(Path(job["folder"]) / "pt", from_pt=True, **prefix, **job["model"])


def _inner(weight: Any) -> str:
    """A weight's name without the name of the model."""
    name: str = weight.name.split("/", 1)[1]
    return name


def _weights(model: Any) -> Weights:
    """Values by name, the name of the model taken off; a weight that is there twice is one weight."""
    return {_inner(weight): weight.numpy() for weight in model.weights}


def _rounded(weights: Weights, dtype: torch.dtype) -> Weights:
    return {name: torch.from_numpy(value).to(dtype).to(torch.float32).numpy() for name, value in weights.items()}


def _load(job: Job, name: str, expected: Weights) -> list[str]:
    folder = Path(job["folder"])
    model, report = _tf_class(job).from_pretrained(folder / name, output_loading_info=True, **job["model"])
    problems = _reported(report)
    if problems and set(problems) <= set(_own_report(job)):
        problems = []
    problems += _differences(job, _weights(model), expected)
    if job["wide"] or name not in ("ours-h5", "class-h5"):
        return problems
    return problems + _outputs(job, model)


def _outputs(job: Job, model: Any) -> list[str]:
    """What a model computes otherwise than PyTorch's."""
    folder = Path(job["folder"])
    with np.load(folder / "inputs.npz") as inputs, np.load(folder / "outputs.npz") as outputs:
        return list(_far(model(**dict(inputs), training=False), dict(outputs)))


def _reported(report: dict[str, Any]) -> list[str]:
    """What a loading report says; Keras counts unnamed layers as they are made, so numbers are left out."""
    return [
        f"{kind}: {sorted({str(key).rstrip('0123456789') for key in found})[:5]}"
        for kind, found in report.items()
        if found
    ]


def _own_report(job: Job) -> list[str]:
    """What 4.57.6 reports of the tf_model.h5 that it wrote itself: some classes call their own dropout missing."""
    theirs = Path(job["folder"]) / "theirs-h5"
    return _reported(_tf_class(job).from_pretrained(theirs, output_loading_info=True, **job["model"])[1])


def _far(found: Any, expected: dict[str, Array]) -> Iterator[str]:
    """Outputs that are missing or farther away than float32 explains."""
    for name, wanted in expected.items():
        value = found.get(name)
        if value is None:
            yield f"no output {name}"
        elif (error := np.abs(value.numpy() - wanted).max() / np.abs(wanted).max()) > TOLERANCE:
            yield f"output {name} is {error:.1e} away"


def _load_weights(job: Job, expected: Weights) -> list[str]:
    folder = Path(job["folder"]) / "ours-h5"
    model = _tf_class(job)(transformers.AutoConfig.from_pretrained(folder), **job["model"])
    model.build_in_name_scope()
    model.load_weights(folder / "tf_model.h5")
    return _differences(job, _weights(model), expected)


def _differences(job: Job, found: Weights, expected: Weights) -> list[str]:
    names = found.keys() - set(job["loose"])
    return [f"only on one side: {name}" for name in sorted(names ^ expected.keys())] + [
        f"another value: {name}"
        for name in sorted(names & expected.keys())
        if found[name].shape != expected[name].shape or found[name].tobytes() != expected[name].tobytes()
    ]


def main() -> None:
    """Do what the arguments say, case by case."""
    verb, jobs, results = sys.argv[1:]
    torch.set_num_threads(1)  # the models are tiny
    step = {"make": _made, "load": load}[verb]
    done = [step(job) for job in json.loads(Path(jobs).read_text(encoding="utf-8"))]
    Path(results).write_text(json.dumps(done), encoding="utf-8")


if __name__ == "__main__":
    main()
