"""How far apart two right answers are: random models, converted, verified; the ratios behind `verify.outputs.FACTOR`.

Every run draws a model (class, 2 to 24 layers, spread of its weights, sizes, activation, positions, element type),
writes it as PyTorch safetensors, converts it to tf_model.h5, and compares the outputs as `bertconv verify` does. It
prints the largest errors, the distribution of B's error divided by A's, and every false alarm.

    python scripts/calibrate.py --runs 200 --seed 0 --json calibration.json
    python scripts/calibrate.py --runs 100 --families roberta,albert    # in turn
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.config.auto import config_class
from bertconv.families import Family, families, family_of
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.table import table_for
from bertconv.tasks import CAUSAL_LM, QUESTION_ANSWERING
from bertconv.verify.outputs import FACTOR, FLOOR, SAME_FUNCTION
from bertconv.verify.places import MODULE

LAYERS = (2, 3, 4, 6, 8, 12, 16, 24)
ACTIVATIONS = ("gelu", "gelu", "gelu", "gelu_new", "relu", "silu", "tanh")
QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)


@dataclass(frozen=True)
class Run:
    """One random model and what verifying its conversion gave."""

    seed: int
    head: str
    layers: int
    spread: float
    hidden: int
    stored: str
    ok: bool
    verdict: str
    errors: dict[str, float]
    ratios: dict[str, list[float]]


def random_config(rng: np.random.Generator, family: Family, head: str) -> dict[str, Any]:
    """A config of this class with sizes that are all different."""
    task, defaults = family.tasks[head], family.schema.defaults
    heads = int(rng.integers(2, 6))
    hidden = heads * int(rng.integers(7, 20))
    keys = {
        "vocab_size": int(rng.integers(60, 400)), "hidden_size": hidden,
        "num_hidden_layers": int(rng.choice(LAYERS)), "num_attention_heads": heads,
        "intermediate_size": int(rng.integers(2, 5)) * hidden + 1, "hidden_act": str(rng.choice(ACTIVATIONS)),
        "max_position_embeddings": int(rng.integers(30, 130)), "type_vocab_size": int(rng.integers(1, 4)),
        "num_labels": 2 if task == QUESTION_ANSWERING else int(rng.integers(2, 9)),
        "is_decoder": task == CAUSAL_LM,
        "position_embedding_type": str(rng.choice(["absolute"] * 4 + ["relative_key", "relative_key_query"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5])),
    }  # fmt: skip
    if "embedding_size" in defaults:
        keys["embedding_size"] = int(rng.choice([hidden, hidden + 3]))
    if "num_hidden_groups" in defaults:
        keys |= {"num_hidden_groups": int(rng.integers(1, 3)), "inner_group_num": int(rng.integers(1, 3))}
    owned = family.schema.known() | {"num_labels", "is_decoder"}
    said = {key: value for key, value in keys.items() if key in owned and key not in family.schema.fixed}
    return {"architectures": [head], "model_type": family.model_type, **family.schema.respelled(said)}


def random_weights(rng: np.random.Generator, config: dict[str, Any], head: str, spread: float) -> dict[str, Any]:
    """Normal weights of this spread; layer normalisation scales around one."""
    table, pt = table_for(config["model_type"]), load_dialects().by_name["pt"]
    values = config_class(table.family).from_dict(config).values
    specs = expand(table, pt, values, table.heads[head])
    found = {}
    for place, spec in specs.items():
        if place not in table.tied:
            drawn = spread * rng.standard_normal(spec.shape)
            found[spec.name] = drawn + 1 if place.endswith(".scale") else drawn
    return found


def run(seed: int, dtypes: tuple[str, ...], model_type: str = "bert") -> Run:
    """Draw a model of a family, convert it, verify it; the seed chooses the class as well."""
    rng, family = np.random.default_rng(seed), family_of(model_type)
    head = tuple(family.tasks)[seed % len(family.tasks)]
    config = random_config(rng, family, head)
    spread = float(np.exp(rng.uniform(np.log(0.02), np.log(0.5))))
    stored = str(rng.choice(["float32"] * 4 + ["bfloat16", "float16"]))
    dtype = ml_dtypes.bfloat16 if stored == "bfloat16" else np.dtype(stored)
    weights = {name: one.astype(dtype) for name, one in random_weights(rng, config, head, spread).items()}
    with tempfile.TemporaryDirectory() as temp:
        source = Path(temp) / "pt"
        source.mkdir()
        (source / "config.json").write_text(json.dumps(config))
        save_file(weights, source / "model.safetensors", {"format": "pt"})
        convert_checkpoint(source, Path(temp) / "tf", to="tf", head=head, verify="none")
        parity = verify_checkpoint(source, Path(temp) / "tf", level="outputs", dtypes=dtypes, head=head)
    judged = [one for one in parity.measurements if one.kind != MODULE]
    errors = {dtype: max(one.b for one in judged if one.dtype == dtype) for dtype in parity.dtypes}
    ratios = {
        dtype: [one.b / max(one.a, FLOOR[dtype]) for one in judged if one.dtype == dtype]
        for dtype in parity.dtypes
        if dtype in FLOOR
    }
    layers, width = (config[family.schema.spelled(key)] for key in ("num_hidden_layers", "hidden_size"))
    return Run(seed, head, layers, spread, width, stored, parity.ok, parity.verdict(), errors, ratios)


def summary(runs: list[Run]) -> str:
    """The table that docs/verify.md has."""
    alarms = sum(not one.ok for one in runs)
    lines = [
        f"{len(runs)} runs, {alarms} false alarms (float64 limit {SAME_FUNCTION:g}, factor {FACTOR:g})",
        "| type | layers | runs | worst in float64 | B / A, median | 99 % | largest |",
        "|---|---|---|---|---|---|---|",
    ]
    for dtype, layers in itertools.product(runs[0].ratios, LAYERS):
        own = [one for one in runs if one.layers == layers]
        if own:
            ratios = np.concatenate([one.ratios[dtype] for one in own])
            worst = max(one.errors["float64"] for one in own)
            spread = [float(np.quantile(ratios, q)) for q in (0.5, 0.99, 1.0)]
            lines.append(
                f"| {dtype} | {layers} | {len(own)} | {worst:.1e} | "
                + " | ".join(f"{one:.2f}" for one in spread)
                + " |"
            )
    lines += [f"false alarm: seed {one.seed}: {one}" for one in runs if not one.ok]
    return "\n".join(lines)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first run")
    parser.add_argument("--dtype", default="float32", help="element types, with commas [default: %(default)s]")
    parser.add_argument("--json", type=Path, help="write every run here")
    parser.add_argument("--families", default="bert", help="model types, with commas; `all` [default: %(default)s]")
    options = parser.parse_args()
    chosen = tuple(families()) if options.families == "all" else options.families.split(",")
    runs = []
    for seed in range(options.seed, options.seed + options.runs):
        runs.append(run(seed, tuple(options.dtype.split(",")), chosen[seed % len(chosen)]))
        print(
            f"{len(runs)}/{options.runs} {runs[-1].head} {runs[-1].layers} layers: {runs[-1].errors}", file=sys.stderr
        )
    print(summary(runs))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in runs]))
    sys.exit(any(not one.ok for one in runs))


if __name__ == "__main__":
    main()
