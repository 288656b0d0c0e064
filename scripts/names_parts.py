"""Write tests/data/names_parts.json: which weights 4.57.6's PyTorch classes have in some configs alone.

    DIR/bin/python scripts/names_parts.py          DIR: the environment that scripts/witness.py makes

transformers 5 has no relative positions any more, and files have them. For every family: what a class has more with
relative positions, or as a decoder with cross-attention, than without; the same for all of its classes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")

import torch  # noqa: E402
import transformers  # noqa: E402

from bertconv.families import Family, families  # noqa: E402

SIZES = {
    "vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41,
    "max_position_embeddings": 19, "type_vocab_size": 5, "embedding_size": 11, "num_hidden_groups": 2,
}  # fmt: skip
PARTS = {
    "relative_key": {"position_embedding_type": "relative_key"},
    "relative_key_query": {"position_embedding_type": "relative_key_query"},
    "cross_attention": {"is_decoder": True, "add_cross_attention": True},
    "relative_cross_attention": {
        "is_decoder": True, "add_cross_attention": True, "position_embedding_type": "relative_key",
    },
}  # fmt: skip


def shapes(family: Family, head: str, keys: dict[str, Any]) -> dict[str, list[int]]:
    """The names and shapes of a class, the base model's with its prefix in front."""
    schema = family.schema
    own = {schema.spelled(key): value for key, value in SIZES.items() if schema.spelled(key) in schema.defaults}
    config = transformers.CONFIG_MAPPING[family.model_type](**own, **keys)
    with torch.device("meta"):
        state = getattr(transformers, head)(config).state_dict()
    front = f"{family.base}." if head == next(iter(family.tasks)) else ""
    return {front + name: list(tensor.shape) for name, tensor in state.items()}


def more(family: Family, keys: dict[str, Any]) -> dict[str, list[int]]:
    """What the keys add to every class of a family; a class that differs from the others is an error."""
    found = []
    for head in family.tasks:
        plain, changed = shapes(family, head, {}), shapes(family, head, keys)
        if plain.keys() - changed.keys():
            sys.exit(f"{head} loses {sorted(plain.keys() - changed.keys())}")
        found.append({name: shape for name, shape in changed.items() if name not in plain})
    if any(one != found[0] for one in found):
        sys.exit(f"the classes of {family.title} differ")
    return found[0]


def main() -> None:
    """Write the file."""
    rows = {name: {part: more(family, keys) for part, keys in PARTS.items()} for name, family in families().items()}
    content = {
        "about": f"What PyTorch's classes of transformers {transformers.__version__} have more with these keys.",
        "config": SIZES, "parts": PARTS, "families": rows,
    }  # fmt: skip
    path = ROOT / "tests/data/names_parts.json"
    path.write_text(json.dumps(content, indent=0, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
