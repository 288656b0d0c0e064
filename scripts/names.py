"""Write tests/data/names_*.json: what transformers calls a family's weights, which its table is held to.

    python scripts/names.py electra                            sizes as in the file that is there, or the usual ones
    python scripts/names.py electra embedding_size=35          and these
    python scripts/names.py electra --tensorflow DIR/bin/python

The family needs a table. PyTorch's names are those of the transformers that this Python has. TensorFlow's come from the
Python of an environment with transformers 4.57.6, by default that of scripts/witness.py, which makes it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "tests" / "data"
SIZES = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3, "num_labels": 11,
}  # fmt: skip
Shapes = dict[str, str]


def shape_of(sizes: Any) -> str:
    """Sizes as `40x35`."""
    return "x".join(map(str, sizes))


def config_of(transformers: Any, job: Mapping[str, Any], rest: str) -> Any:
    """The config for a class; question answering has a start and an end."""
    labels = {"num_labels": 2} if rest == "ForQuestionAnswering" else {}
    return transformers.AutoConfig.for_model(job["model_type"], **{**job["config"], **labels})


def torch_names(job: Mapping[str, Any]) -> tuple[dict[str, Shapes], dict[str, list[str]]]:
    """Rest of each class's name -> PyTorch name -> shape, and the names of tied copies."""
    import torch
    import transformers

    found, tied = {}, {}
    for rest in filter(lambda rest: hasattr(transformers, job["prefix"] + rest), job["heads"]):
        with torch.device("meta"):
            model = getattr(transformers, job["prefix"] + rest)(config_of(transformers, job, rest))
        front = "" if rest != job["heads"][0] else f"{job['base']}."
        state = model.state_dict()
        found[rest] = {front + name: shape_of(state[name].shape) for name in state if "position_ids" not in name}
        tied[rest] = sorted(getattr(model, "_tied_weights_keys", None) or ())
    return found, tied


def tensorflow_names(job: Mapping[str, Any]) -> dict[str, Shapes]:
    """Rest of each class's name -> TensorFlow name, the model's own in front -> shape."""
    import tf_keras
    import transformers

    found = {}
    for rest in filter(lambda rest: hasattr(transformers, f"TF{job['prefix']}{rest}"), job["heads"]):
        tf_keras.backend.clear_session()
        model = getattr(transformers, f"TF{job['prefix']}{rest}")(config_of(transformers, job, rest))
        model.build_in_name_scope()
        found[rest] = {weight.name: shape_of(weight.shape) for weight in model.weights}
    return found


def beside(names: Shapes, body: Shapes) -> dict[str, Any]:
    """What a class has otherwise than the base model."""
    return {
        "without": [name for name in body if name not in names],
        "with": {name: shape for name, shape in names.items() if name not in body},
    }


def content(job: Mapping[str, Any], python: str) -> dict[str, Any]:
    """The file: the base model's names, and each class beside it."""
    (pt, tied), base = torch_names(job), job["heads"][0]
    answer = subprocess.run([python, __file__, "--side", json.dumps(job)], check=True, stdout=subprocess.PIPE)
    tf = json.loads(answer.stdout.splitlines()[-1])
    scopes = {rest: next(iter(names)).partition("/")[0] for rest, names in tf.items()}
    tf = {rest: {name.partition("/")[2]: shape for name, shape in names.items()} for rest, names in tf.items()}
    heads: dict[str, Any] = {}
    for rest in sorted(pt):
        heads[rest] = {"pt": beside(pt[rest], pt[base])}
        if rest in tf:
            heads[rest] |= {"scope": scopes[rest], "tf": beside(tf[rest], tf[base])}
        if tied[rest]:
            heads[rest]["not_saved"] = tied[rest]
    return {"config": job["config"], "body": {"pt": pt[base], "tf": tf[base]}, "heads": heads}


def main() -> int:
    """Write the file of one family."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("model_type")
    parser.add_argument("sizes", nargs="*", metavar="KEY=VALUE", help="of the config, each another number")
    parser.add_argument("--tensorflow", default=str(cache / "bertconv/witness/bin/python"), metavar="PYTHON")
    options = parser.parse_args()

    from bertconv.families import family_of

    family = family_of(options.model_type)
    file = DATA / f"names_{family.path.stem}.json"
    usual = {family.schema.spelled(key): size for key, size in SIZES.items()}
    known = {*family.schema.defaults, "num_labels"}
    config = (
        json.loads(file.read_bytes())["config"] if file.exists() else {key: usual[key] for key in usual if key in known}
    )
    config |= {key: json.loads(value) for key, _, value in (each.partition("=") for each in options.sizes)}
    job = {
        "model_type": options.model_type, "prefix": family.prefix, "base": family.base, "config": config,
        "heads": [head.removeprefix(family.prefix) for head in family.tasks],
    }  # fmt: skip
    file.write_text(json.dumps(content(job, options.tensorflow), indent=0, separators=(",", ":")))
    print(f"wrote {file.name}")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--side"]:
        print(json.dumps(tensorflow_names(json.loads(sys.argv[2]))))
    else:
        sys.exit(main())
