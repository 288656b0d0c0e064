"""What transformers 4.57.6's Flax classes call their parameters, of every class, and what the tables make of it.

`flax_names.json` has the parameters of tiny models: those of the base model, then of each class what it has beside
the body and what of the body it has not.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertconv.config.auto import AutoConfig
from bertconv.families import families
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import target_specs
from bertconv.mapping.table import table_for
from bertconv.tasks import CAUSAL_LM, QUESTION_ANSWERING

SEEN = json.loads((Path(__file__).parents[1] / "data/flax_names.json").read_bytes())
FLAX = load_dialects().by_name["flax"]
SIZES = {"vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5,
         "intermediate_size": 53, "max_position_embeddings": 37, "type_vocab_size": 3}  # fmt: skip
MORE = {
    "albert": {"embedding_size": 35, "num_hidden_groups": 2, "inner_group_num": 3},
    "electra": {"embedding_size": 35},
}
SPEAKING = {name: family for name, family in families().items() if table_for(name).speaks(FLAX)}


def in_flax(head: str, prefix: str, task: str) -> str:
    """The Flax class's name without its family's."""
    return "ForCausalLM" if task == CAUSAL_LM else head.removeprefix(prefix)


def observed(prefix: str, rest: str) -> dict[str, str]:
    facts = SEEN[prefix]
    if rest == "Model":
        return dict(facts["body"])
    row = facts["heads"][rest]
    body = {f"{facts['base']}/{name}": shape for name, shape in facts["body"].items() if name not in row["without"]}
    return body | row["own"]


EVERY = [(name, head) for name, family in SPEAKING.items() for head in family.tasks if family.prefix in SEEN]


@pytest.mark.parametrize(("model_type", "head"), EVERY)
def test_flax_s_names_and_shapes(model_type: str, head: str) -> None:
    family, table = families()[model_type], table_for(model_type)
    task = family.tasks[head]
    rest = in_flax(head, family.prefix, task)
    two = task == QUESTION_ANSWERING or (model_type, rest) == (
        "albert",
        "ForPreTraining",
    )  # ALBERT's SOP has two always
    keys = table.family.schema.respelled(SIZES | MORE.get(model_type, {}) | {"num_labels": 2 if two else 11})
    own = table.head_for(task)
    assert own is not None
    specs = target_specs(table, FLAX, AutoConfig.for_model(model_type, **keys), own, table.heads[own])
    found = {spec.name: "x".join(map(str, spec.shape)) for place, spec in specs.items() if place not in table.tied}
    assert {name.replace(".", "/"): shape for name, shape in found.items()} == observed(family.prefix, rest)


def test_every_flax_class_is_known_and_every_family_but_two_has_them() -> None:
    classes = {(prefix, rest) for prefix, facts in SEEN.items() for rest in ("Model", *facts["heads"])}
    assert len(classes) == len(EVERY) == 51
    known = {(family.prefix, in_flax(head, family.prefix, task)) for family in SPEAKING.values()
             for head, task in family.tasks.items()}  # fmt: skip
    assert known - classes == {pair for pair in known if pair[0] == "Camembert"}, "it runs in RoBERTa's Flax classes"
    assert set(families()) - set(SPEAKING) == {"mpnet"}
