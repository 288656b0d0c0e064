"""What `scripts/witness.py` tries: checkpoints of every family and head that the registry knows, in one size.

Nothing here names a family: heads come from the tables, and a special case is for the families whose tasks or config
keys it is about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bertconv import tasks
from bertconv.families import Family, families

SIZES = ("tiny", "deep", "base", "large")

TINY = {
    "vocab_size": 101, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 41,
    "max_position_embeddings": 19, "type_vocab_size": 5, "num_labels": 7, "embedding_size": 11,
}  # fmt: skip
"""Every size another one, so that no axis can pass for another."""
SHARED = {"num_hidden_layers": 6, "num_hidden_groups": 2, "inner_group_num": 3}
"""Where layers share weights: groups of layers, none of the numbers 1."""
CROSS = {"is_decoder": True, "add_cross_attention": True, "type_vocab_size": 1}
DEEP = {"num_hidden_layers": 64, "hidden_size": 6}
"""So many names that one HDF5 attribute does not hold them."""
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}


@dataclass(frozen=True)
class Case:
    """One checkpoint.

    Attributes:
        name: what the line says.
        family: `model_type` of its config.
        head: model class.
        config: config keys, as the family spells them.
        folder: where everything of the case lies.
        model: more arguments of the model class.
        shard: largest shard, where shards are made.
        seed: of the random values.
        second: 4.57.6 converts it as the second model of its process: names begin with `tf_..._1/`.
        outer: 4.57.6 converts it inside of these scopes: names begin with `outer/tf_.../`.
        pickled: pytorch_model.bin instead of model.safetensors.
        wide: values over eight decades; outputs are not compared.
        trained: every weight of TensorFlow's model gets a value of its own, also copies of others, before it is saved.
        torch_only: 4.57.6's TensorFlow classes have no such model.
    """

    name: str
    family: str
    head: str
    config: dict[str, Any]
    folder: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    shard: str = "20KB"
    seed: int = 0
    second: bool = False
    outer: str = ""
    pickled: bool = False
    wide: bool = False
    trained: bool = False
    torch_only: bool = False


def cases(size: str, temp: Path, chosen: Mapping[str, Family] | None = None) -> list[Case]:
    """What is tried in one size of these families; of all that there are, if none are chosen."""
    found: list[Case] = []
    for family in (chosen if chosen is not None else families()).values():
        found += _tiny(family) if size == "tiny" else [_sized(family, size)]
    return [replace(case, folder=str(temp / f"case-{number}"), seed=number) for number, case in enumerate(found)]


def _sized(family: Family, size: str) -> Case:
    """The masked language model of another size."""
    head = family.head_for(tasks.MASKED_LM) or next(iter(family.tasks))
    keys, shard = {
        "deep": (TINY | DEEP, "20KB"), "base": ({}, "100MB"), "large": (LARGE, "300MB"),
    }[size]  # fmt: skip
    return Case(f"{size} {head}", family.model_type, head, _spelled(family, keys), shard=shard, wide=True)


def _tiny(family: Family) -> Iterator[Case]:
    """Every head, and what is special of the family and of files."""
    for head in family.tasks:
        yield _case(family, head)
    yield from _files(family)
    yield from _parts(family)


def _files(family: Family) -> Iterator[Case]:
    """What files may hold of any family."""
    words = _case(family, family.head_for(tasks.MASKED_LM) or next(iter(family.tasks)))
    yield replace(words, name=f"{words.name}, values over eight decades", wide=True)
    yield replace(words, name=f"{words.name}, trained in TensorFlow", trained=True)
    yield replace(words, name=f"{words.name}, the second of its process, pytorch_model.bin", second=True, pickled=True)
    base = _case(family, next(iter(family.tasks)))
    yield replace(base, name=f"{base.name}, in two scopes", outer="outer/inner")


def _parts(family: Family) -> Iterator[Case]:
    """Modules that only some configs have."""
    keys, base = family.schema.defaults, next(iter(family.tasks))
    words, causal, choice = (
        family.head_for(task) for task in (tasks.MASKED_LM, tasks.CAUSAL_LM, tasks.MULTIPLE_CHOICE)
    )
    if causal and "add_cross_attention" not in family.schema.fixed:
        yield _case(family, causal, "decoder with cross-attention, one segment", CROSS)
    if words and "embedding_size" in keys:
        yield _case(family, words, "embeddings of the hidden size", {"embedding_size": TINY["hidden_size"]})
    if choice and "summary_use_proj" in keys:
        yield _case(family, choice, "summary without its own layer", {"summary_use_proj": False})
    if "position_embedding_type" in keys:
        for kind, head in (("relative_key", words or base), ("relative_key_query", base)):
            found = _case(family, head, kind, {"position_embedding_type": kind})
            yield replace(found, torch_only=True)


def _case(family: Family, head: str, note: str = "", changes: Mapping[str, Any] | None = None) -> Case:
    keys: dict[str, Any] = {**TINY, **(SHARED if "num_hidden_groups" in family.schema.defaults else {})}
    if family.tasks[head] == tasks.QUESTION_ANSWERING:
        keys["num_labels"] = 2  # 4.57.6 builds no other model
    config = _spelled(family, {**keys, **(changes or {})})
    return Case(f"{head}, {note}" if note else head, family.model_type, head, config)


def _spelled(family: Family, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the keys that this family has, in its own spelling."""
    schema = family.schema
    common = ("num_labels", "is_decoder", "add_cross_attention")
    return {schema.spelled(key): value for key, value in keys.items() if schema.spelled(key) in schema.defaults
            or key in common}  # fmt: skip
