"""The outside witness of `bertconv average` and `merge`: mergekit computes the same from the same checkpoints.

    python scripts/witness_merge.py                                tiny models of every class that mergekit knows
    python scripts/witness_merge.py --sizes tiny,base --env DIR

DIR is a virtual environment with mergekit; it is made when it is not there yet, by default in the user's cache.
mergekit is under the LGPL: it runs as a program of its own, and neither the package nor its tests depend on it.

For every class and method, mergekit merges twice: in float64 with one rounding to float32 at the end, as bertconv does,
and in float32, as it does by itself. One line per case: tensors compared, the largest distance to bertconv's numbers in
units of the last place of float32, and how many elements differ. DARE is compared where everything
is kept: the random numbers of the two are not the same. Exit code 1 when float64 differs by more than one unit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file

from bertconv import average_checkpoints, merge_checkpoints

CLASSES = (
    "BertModel", "BertForMaskedLM", "BertForSequenceClassification", "DistilBertModel", "DistilBertForMaskedLM",
    "DistilBertForSequenceClassification", "DistilBertForTokenClassification", "RobertaModel", "RobertaForMaskedLM",
    "RobertaForSequenceClassification", "RobertaForTokenClassification",
)  # fmt: skip
"""Those of which mergekit knows the tensors."""
TINY = {
    "vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41,
    "max_position_embeddings": 19, "type_vocab_size": 5, "num_labels": 7, "dim": 24, "n_layers": 2, "n_heads": 3,
    "hidden_dim": 41,
}  # fmt: skip
DTYPES = ("float64", "float32")
"""Types in which mergekit computes; in the first one it has to agree."""
START = """
import sys
from mergekit.plan import MergePlanner
from mergekit.scripts.run_yaml import main

class Names(tuple):
    def __radd__(self, others):
        return others + list(self)

planned = MergePlanner.plan_tensor

def plan_tensor(self, weight, weights_in, *others, **more):
    weights_in = [one.model_copy(update={"aliases": Names(one.aliases or ())}) for one in weights_in]
    return planned(self, weight, weights_in, *others, **more)

MergePlanner.plan_tensor = plan_tensor
for config, out in zip(sys.argv[1::2], sys.argv[2::2]):
    main([config, out, "--quiet"], standalone_mode=False)
"""
"""Merges one configuration after the other.

mergekit 0.1.5 adds a tuple of other names to a list, and so merges no BERT unless the tuple can be added."""
SIZES: dict[str, dict[str, Any]] = {"tiny": TINY, "base": {}}


@dataclass(frozen=True)
class Method:
    """One merge in both programs: mergekit's method and parameters, and bertconv's arguments."""

    name: str
    theirs: str
    parameters: dict[str, float]
    per_input: dict[str, Sequence[float]]
    ours: dict[str, Any]
    has_base: bool = True


METHODS = (
    Method("average 1,2", "linear", {"normalize": True}, {"weight": (1, 2)}, {"weights": [1, 2]}, has_base=False),
    Method("slerp 0.3", "slerp", {"t": 0.3}, {}, {"method": "slerp", "t": 0.3}, has_base=False),
    Method("task-arithmetic", "task_arithmetic", {"lambda": 0.7}, {"weight": (0.6, 0.9)},
           {"method": "task-arithmetic", "scale": 0.7, "weights": [0.6, 0.9]}),
    Method("ties 0.2", "ties", {"density": 0.2}, {"weight": (1, 1)}, {"method": "ties", "density": 0.2}),
    Method("ties 0.5", "ties", {"density": 0.5, "lambda": 1.2}, {"weight": (1, 0.5)},
           {"method": "ties", "density": 0.5, "scale": 1.2, "weights": [1, 0.5]}),
    Method("dare 1", "dare_linear", {"density": 1.0}, {"weight": (0.5, 0.5)},
           {"method": "dare", "density": 1.0, "weights": [0.5, 0.5]}),
)  # fmt: skip


def main() -> int:
    """Make the checkpoints, merge them twice, compare; 0 when everything agrees."""
    options = arguments()
    program = mergekit(options.env)
    failed = number = 0
    for size in options.sizes:
        for name in options.heads:
            with tempfile.TemporaryDirectory(prefix="bertconv-merge-", dir=options.temp) as temp:
                folders = models(name, SIZES[size], Path(temp))
                theirs = merged_by_theirs(program, folders, Path(temp))
                if isinstance(theirs, str):
                    print("none", f"{size} {name}: mergekit refuses it: {theirs}", flush=True)
                    continue
                for method in METHODS:
                    number += 1
                    failed += not case(f"{size} {name}", method, folders, theirs, Path(temp) / "ours")
    print("FAILED" if failed else "everything agrees", f"({failed} of {number} cases differ)")
    return 1 if failed else 0


def models(name: str, sizes: dict[str, Any], temp: Path) -> list[Path]:
    """A base of random numbers and two models that were changed from it, more or less in every tensor."""
    kind = getattr(transformers, name)
    config = kind.config_class(**{key: value for key, value in sizes.items() if takes(kind.config_class, key)})
    config.architectures = [name]
    folders = []
    for number in range(3):
        torch.manual_seed(0)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.02)
            torch.manual_seed(number)
            for parameter in model.parameters() if number else ():
                parameter.add_(torch.randn(parameter.shape) * 0.003)
        folders.append(temp / f"in{number}")
        model.save_pretrained(folders[-1])
    return folders


def takes(config: Any, key: str) -> bool:
    """Whether a config has a key, or any class has it."""
    return key in ("num_labels", "vocab_size") or hasattr(config(), key)


def case(label: str, method: Method, folders: list[Path], theirs: dict[tuple[str, str], Path], ours: Path) -> bool:
    """One line; whether the numbers are those of mergekit."""
    base, *inputs = folders
    if "method" in method.ours:
        merge_checkpoints(inputs, ours, base=base if method.has_base else None, overwrite=True, **method.ours)
    else:
        average_checkpoints(inputs, ours, overwrite=True, **method.ours)
    found = load_file(ours / "model.safetensors")
    said, worst = [], 0
    for dtype in DTYPES:
        other = {
            name: one
            for file in theirs[method.name, dtype].glob("*.safetensors")
            for name, one in load_file(file).items()
        }
        missing = sorted(set(found) ^ set(other))
        distances = {name: distance(found[name], other[name]) for name in found if name in other}
        largest = max(int(one.max(initial=0)) for one in distances.values())
        differing = sum(int((one > 0).sum()) for one in distances.values())
        beyond = sum(int((one > 1).sum()) for one in distances.values())
        elements = sum(one.size for one in distances.values())
        said.append(
            f"{dtype}: {differing:,} of {elements:,} elements differ, {beyond:,} by more than 1 ulp, {largest} at most"
        )
        if dtype == DTYPES[0]:
            worst = largest if not missing else -1
            said[-1] += f", not in both: {', '.join(missing)}" if missing else ""
    fine = 0 <= worst <= 1
    print("ok  " if fine else "FAIL", f"{label} {method.name}:", f"{len(found)} tensors,", "; ".join(said), flush=True)
    return fine


def merged_by_theirs(program: Path, folders: list[Path], temp: Path) -> dict[tuple[str, str], Path] | str:
    """Method and type in which mergekit computes -> the folder of what it makes of the same files, as float32.

    Where it refuses them, its last line. (Of language models it wants a pooler, which transformers gives none.)
    """
    base, *inputs = folders
    words: list[Path] = []
    found = {}
    for method in METHODS:
        listed = [
            {"model": str(one), "parameters": {key: values[number] for key, values in method.per_input.items()}}
            for number, one in enumerate(inputs)
        ]
        for dtype in DTYPES:
            config: dict[str, Any] = {
                "merge_method": method.theirs, "models": listed, "parameters": method.parameters, "dtype": dtype,
                "out_dtype": "float32",
            }  # fmt: skip
            if method.has_base:
                config["base_model"] = str(base)
            elif method.theirs == "slerp":
                config["base_model"] = str(inputs[0])
            place = temp / f"theirs-{len(found)}"
            place.with_suffix(".yml").write_text(json.dumps(config))
            words += [place.with_suffix(".yml"), place]
            found[method.name, dtype] = place
    done = subprocess.run(
        [program, "-c", START, *words], capture_output=True, text=True, check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    if done.returncode:
        return done.stderr.strip().rpartition("\n")[2].replace(str(temp), "")
    return found


def distance(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """How many numbers of float32 lie between elements."""
    places = [value.astype(np.float32).view(np.int32).astype(np.int64) for value in (one, other)]
    ordered = [np.where(place < 0, -(place & 0x7FFFFFFF), place) for place in places]
    return np.abs(ordered[0] - ordered[1])


def mergekit(env: Path) -> Path:
    """The Python that has it; it is installed if it is not there."""
    python = env / "bin" / "python"
    if not python.exists():
        print(f"making {env}", flush=True)
        venv.create(env, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "mergekit==0.1.5"], check=True)
    return python


def arguments() -> argparse.Namespace:
    """The command line."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "bertconv-mergekit"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: text.split(","), default=["tiny"], help="tiny, base")
    parser.add_argument("--heads", type=lambda text: text.split(","), default=list(CLASSES), help="model classes")
    parser.add_argument("--env", type=Path, default=cache, help="virtual environment with mergekit")
    parser.add_argument("--temp", type=Path, default=None, help="where checkpoints are made for a while")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
