"""The same weights under the same word may be another function: what a config means, and what a program computes."""

from __future__ import annotations

from typing import Any

import pytest
from table_headers import REAL, Tables
from table_mutants import read, to_toml

from bertconv.config import BertConfig
from bertconv.errors import UnsupportedCheckpoint
from bertconv.mapping.checks import check_table
from bertconv.mapping.identify import identify
from bertconv.mapping.meaning import in_own_words, kind_of, own_keys, word_for
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.table import load_table

HEAD = "BertForMaskedLM"
SIZES = {
    "vocab_size": 101, "hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3, "num_hidden_layers": 2,
}  # fmt: skip
OLD = {"activations": {"gelu_new": "gelu", "relu": "relu", "silu": "swish|silu"}, "fixed": {"layer_norm_eps": 1e-12}}
"""A program with words of its own."""
ONE = {
    "activations": {"gelu_new": ""},
    "fixed": {"layer_norm_eps": 1e-12},
    "head_fixed": {"ForMaskedLM": {"hidden_act": "gelu", "layer_norm_eps": 1e-5}},
}
"""A program that computes one function, and another one in a head."""


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """BERT's table, as if `tf` were Google's program and `garden` one that computes one function."""
    raw = read("bert.toml")
    raw["in"] = {"tf": OLD, "garden": ONE}
    path = tmp_path_factory.mktemp("tables") / "own.toml"
    path.write_text(to_toml(raw))
    table = load_table(path)
    check_table(table, REAL.dialects)
    return Tables(table, REAL.dialects)


def planned(tables: Tables, source: str, target: str, config: dict[str, Any], path: str = "c", **options: Any) -> Plan:
    """The plan of one head from a dialect to another."""
    header = tables.header(HEAD, source)
    identity = identify(header, tables.table, tables.dialects, None)
    known = BertConfig.from_dict(SIZES | config, path)
    names = tables.dialects.by_name
    return make_plan(identity, tables.table, tables.dialects, known, names[target], PlanOptions(**options))


def says(plan: Plan) -> tuple[str, float]:
    return plan.config.values["hidden_act"], plan.config.values["layer_norm_eps"]


@pytest.mark.parametrize(
    ("keys", "act"),
    [
        ({"hidden_act": "gelu"}, "gelu_new"), ({}, "gelu_new"), ({"hidden_act": "relu"}, "relu"),
        ({"hidden_act": "swish"}, "silu"), ({"hidden_act": "gelu_new"}, "gelu_new"), ({"hidden_act": "tanh"}, "tanh"),
        ({"hidden_act": "gelu", "model_type": "bert"}, "gelu"), ({"model_type": "bert"}, "gelu"),
        ({"hidden_act": "gelu", "architectures": ["BertForMaskedLM"]}, "gelu"),
        ({"hidden_act": "gelu", "layer_norm_eps": 1e-12}, "gelu"),
        ({"hidden_act": "gelu", "directionality": "bidi", "pooler_type": "first_token_transform"}, "gelu_new"),
    ],
)  # fmt: skip
def test_a_config_speaks_the_language_that_its_keys_are_of(tables: Tables, keys: dict[str, Any], act: str) -> None:
    assert says(planned(tables, "tf", "pt", keys)) == (act, 1e-12)


def test_a_config_of_another_program_is_written_in_transformers_words(tables: Tables) -> None:
    plan = planned(tables, "tf", "pt", {"hidden_act": "gelu"})
    assert {"model_type": "bert", "hidden_act": "gelu_new", "layer_norm_eps": 1e-12}.items() <= plan.config.raw.items()
    (note,) = plan.notes
    assert "computes the tanh form of gelu where its own config says" in note
    assert all(part in note for part in ("gelu_new", "the erf form", "3e-04", "--hidden-act", "Hugging Face"))
    assert plan.meaning.facts("Old") == {
        "source": {"program": "Old", "hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "said": "gelu"},
        "target": {"program": "PyTorch", "hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "said": "gelu_new"},
        "differences": [],
    }


@pytest.mark.parametrize("keys", [{"hidden_act": "relu"}, {"hidden_act": "gelu", "model_type": "bert"}])
def test_nothing_is_said_where_all_is_plain(tables: Tables, keys: dict[str, Any]) -> None:
    plan = planned(tables, "tf", "pt", keys)
    assert (plan.notes, plan.meaning.facts("Old")) == ((), {})


def test_an_epsilon_that_a_program_ignores_is_not_taken_from_its_config(tables: Tables) -> None:
    """Its own config has no such key, so that one with it speaks transformers' language."""
    plan = planned(tables, "tf", "pt", {"hidden_act": "relu", "layer_norm_eps": 1e-5})
    assert says(plan) == ("relu", 1e-5)


def test_arguments_speak_transformers_language(tables: Tables) -> None:
    """As a config object that a user makes; one that was read from Google's file speaks Google's."""
    assert says(planned(tables, "tf", "pt", {"hidden_act": "gelu"}, path="")) == ("gelu", 1e-12)


def test_words_are_looked_up_once(tables: Tables) -> None:
    """A plan's config is planned again, by verify or with what the file knows better, and means the same."""
    once = planned(tables, "tf", "pt", {"hidden_act": "gelu"})
    again = planned(tables, "tf", "pt", dict(once.config.raw))
    assert (again.config.raw, again.notes) == (once.config.raw, ())


def test_a_config_that_a_model_was_built_from_is_left_alone(tables: Tables) -> None:
    known = in_own_words(BertConfig.from_dict(SIZES | {"hidden_act": "gelu"}, "bert_config.json"))
    assert says(planned(tables, "tf", "pt", dict(known.raw))) == ("gelu", 1e-12)
    assert in_own_words(known) is known


@pytest.mark.parametrize("source", ["tf", "pt"])
@pytest.mark.parametrize("act", ["gelu", "gelu_new", "relu"])
def test_the_caller_decides(tables: Tables, source: str, act: str) -> None:
    plan = planned(tables, source, "pt" if source == "tf" else "tf", {"hidden_act": "gelu"}, hidden_act=act)
    computed = "gelu_new" if source == "tf" else "gelu"
    assert (says(plan)[0], plan.meaning.source["hidden_act"]) == (act, computed)
    asked = [note for note in plan.notes if "as asked for" in note]
    assert len(asked) == (act != computed)
    facts = plan.meaning.facts("A")
    if facts:  # the same function, under the same word
        word = act if source == "tf" or act == "relu" else "gelu"
        assert (facts["source"]["hidden_act"], facts["target"]["said"]) == (computed, word)
    else:
        assert act == computed


def test_one_form_of_gelu_for_the_other_is_told(tables: Tables) -> None:
    plan = planned(tables, "pt", "tf", {"hidden_act": "gelu", "model_type": "bert"})
    assert says(plan)[0] == "gelu"  # of the config.json that lies beside it, so that it comes back
    (note,) = plan.notes
    assert note.startswith("TensorFlow computes the tanh form of gelu, and the model the erf form of gelu:")
    assert "3e-04" in note
    facts = plan.meaning.facts("PyTorch")
    assert (facts["source"]["hidden_act"], facts["target"]["hidden_act"]) == ("gelu", "gelu_new")
    assert facts["differences"] == [{"key": "hidden_act", "model": "gelu", "target": "gelu_new", "in_head": False}]


def test_what_a_head_alone_computes_is_told(tables: Tables) -> None:
    plan = planned(tables, "pt", "garden", {"hidden_act": "gelu_new"})
    assert [(one.key, one.model, one.target, one.in_head) for one in plan.meaning.differences] == [
        ("hidden_act", "gelu_new", "gelu", True), ("layer_norm_eps", 1e-12, 1e-05, True),
    ]  # fmt: skip
    assert "Model Garden computes the erf form of gelu in the head, and the model the tanh form" in plan.notes[0]
    assert (
        "computes with layer_norm_eps 1e-05 in the head, whatever a config says, and the model with 1e-12"
        in plan.notes[1]
    )
    assert plan.meaning.facts("PyTorch")["target"]["hidden_act"] == "gelu_new"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"hidden_act": "relu"}, "Model Garden cannot compute hidden_act relu: it has gelu_new."),
        ({"layer_norm_eps": 1e-5}, "with layer_norm_eps 1e-12, whatever a config says, and the model with 1e-05."),
        ({"hidden_act": "silu", "layer_norm_eps": 0.1}, "hidden_act silu: it has gelu_new; Model Garden computes with"),
    ],
)  # fmt: skip
def test_a_program_that_cannot_compute_the_model_is_refused(tables: Tables, keys: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        planned(tables, "pt", "garden", keys)
    assert said in refusal.value.message
    assert "--allow-loss" in refusal.value.hint
    assert refusal.value.file == "c"
    plan = planned(tables, "pt", "garden", keys, allow_loss=True)
    assert any(said.rstrip(".").partition(";")[0] in note for note in plan.notes)
    assert plan.meaning.facts("PyTorch")["differences"]


def test_a_program_with_several_functions_is_named_with_all(tables: Tables) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="it has gelu_new, relu or silu"):
        planned(tables, "pt", "tf", {"hidden_act": "tanh"})


@pytest.mark.parametrize(
    ("act", "old", "one"),
    [("gelu_new", "gelu", ""), ("gelu_pytorch_tanh", "gelu", ""), ("gelu", "gelu", ""), ("relu", "relu", ""),
     ("swish", "swish", ""), ("silu", "swish", ""), ("tanh", "", "")],
)  # fmt: skip
def test_words_of_a_program(tables: Tables, act: str, old: str, one: str) -> None:
    names = tables.dialects.by_name
    assert (word_for(tables.table, names["tf"], act), word_for(tables.table, names["garden"], act)) == (old, one)
    assert word_for(tables.table, names["pt"], act) == ""


def test_what_a_program_computes_whose_config_says_nothing(tables: Tables) -> None:
    names = tables.dialects.by_name
    assert own_keys(tables.table, names["garden"]) == {"hidden_act": "gelu_new", "layer_norm_eps": 1e-12}
    assert own_keys(tables.table, names["pt"]) == {}


def test_names_of_one_function() -> None:
    assert {kind_of(name) for name in ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")} == {"gelu_new"}
    assert [kind_of(name) for name in ("gelu_python", "swish", "relu")] == ["gelu", "silu", "relu"]


def test_the_functions_of_a_kind_are_one() -> None:
    """Held to the functions themselves: equal within a kind, apart between kinds."""
    torch = pytest.importorskip("torch")
    from bertconv.verify.reference.activations import activation

    points = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    for names in (("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast"),
                  ("gelu", "gelu_python"), ("silu", "swish")):  # fmt: skip
        first, *others = (activation(name)(points) for name in names)
        assert all((one - first).abs().max() < 1e-8 for one in others)
    apart = (activation("gelu")(points) - activation("gelu_new")(points)).abs().max()
    assert 1e-4 < apart < 1e-3
