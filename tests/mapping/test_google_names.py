"""What names of Google's TensorFlow 1 checkpoints tell: family, class, the model that is meant, what is left out.

The names are those that google-research/bert, /albert and /electra gave their variables when they were run and saved.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from table_headers import in_one_state, prefixed, stored, without

from bertconv.config.auto import config_class
from bertconv.errors import AmbiguousHead, BadTable, RequestError, UnknownTensors, UnsupportedCheckpoint
from bertconv.mapping.averages import with_averages
from bertconv.mapping.checks import open_table
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand, target_specs
from bertconv.mapping.heads import implied_keys
from bertconv.mapping.identify import Identity, StoredTensor, identify
from bertconv.mapping.own_config import own_config
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.table import Table, table_for
from bertconv.table_files import tables_folder

NAMES = json.loads((Path(__file__).parents[1] / "data" / "names_google.json").read_text())
DIALECTS = load_dialects()
GOOGLE = DIALECTS.by_name["google"]
BERT = {
    "vocab_size": 101, "hidden_size": 40, "num_hidden_layers": 2, "num_attention_heads": 5, "intermediate_size": 53,
    "max_position_embeddings": 37, "type_vocab_size": 3,
}  # fmt: skip
CONFIGS = {
    "bert": BERT,
    "albert": BERT | {"embedding_size": 35, "num_hidden_groups": 2, "inner_group_num": 3, "num_hidden_layers": 6},
    "electra": BERT | {"embedding_size": 35, "hidden_size": 144, "intermediate_size": 576, "num_hidden_layers": 3,
                       "num_attention_heads": 2},
}  # fmt: skip
CASES = (
    ("bert_pretrain", "BertForPreTraining", 46), ("bert_squad", "BertForQuestionAnswering", 39),
    ("albert_pretrain", "AlbertForPreTraining", 112), ("electra_pretrain", "ElectraForPreTraining", 59),
)  # fmt: skip


def header(name: str) -> list[StoredTensor]:
    """A file's tensors; those of a classifier are the body's and its own."""
    names: dict[str, list[int]] = NAMES[name]
    if not any("/embeddings/" in one for one in names):
        body = NAMES[f"{name.split('_', maxsplit=1)[0]}_pretrain"]
        names = {one: shape for one, shape in body.items() if not one.startswith("cls/")} | names
    return [stored(one, *shape) for one, shape in names.items()]


def table_of(name: str) -> Table:
    return table_for(name.split("_", maxsplit=1)[0])


def plan_of(name: str, tensors: list[StoredTensor], target: str = "pt", config: Any = None, **options: Any) -> Plan:
    table = table_of(name)
    raw = config_class(table.family).from_dict(CONFIGS[name.split("_", maxsplit=1)[0]] | (config or {}))
    return make_plan(identified(name, tensors), table, DIALECTS, raw, DIALECTS.by_name[target], PlanOptions(**options))


def identified(name: str, tensors: list[StoredTensor]) -> Identity:
    return identify(tensors, table_of(name), DIALECTS)


def trained(tensors: list[StoredTensor]) -> list[StoredTensor]:
    """With what Google's optimizers keep beside them."""
    slots = [stored(f"{one.name}/{slot}", *one.shape) for one in tensors for slot in ("adam_m", "adam_v")]
    return [*tensors, *slots, stored("global_step", dtype="int64")]


def averaged(tensors: list[StoredTensor]) -> list[StoredTensor]:
    return [*tensors, *(stored(f"{one.name}/ExponentialMovingAverage", *one.shape) for one in tensors)]


@pytest.mark.parametrize(("name", "head", "loaded"), CASES)
@pytest.mark.parametrize("prefix", ["", "module/"])
def test_names_that_google_gave_find_their_places(name: str, head: str, loaded: int, prefix: str) -> None:
    tensors = prefixed(header(name), prefix)
    plan = plan_of(name, tensors)
    assert (plan.identity.dialect.name, plan.identity.prefix) == ("google", prefix)
    assert (plan.head, plan.equals, len(plan.moves), plan.identity.unrecognised) == (head, (head,), loaded, ())
    assert in_one_state(plan, tensors)


@pytest.mark.parametrize("name", ["bert_pretrain", "albert_pretrain"])
@pytest.mark.parametrize("part", ["cls/predictions", "cls/seq_relationship", "cls/"])
def test_parts_of_a_pretraining_file_are_the_class_that_they_fill(name: str, part: str) -> None:
    """A file without one of its heads, as forks save it; the pooler, which is in every one, decides nothing."""
    plan = plan_of(name, without(header(name), part))
    family = table_of(name).prefix
    classes = {
        ("bert_pretrain", "cls/predictions"): "BertForNextSentencePrediction",
        ("bert_pretrain", "cls/seq_relationship"): "BertForMaskedLM",
        ("albert_pretrain", "cls/seq_relationship"): "AlbertForMaskedLM",
    }
    assert plan.head == classes.get((name, part), f"{family}Model")
    assert all(one.state == "unused" for one in plan.unloaded)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_output_weights_of_a_classifier_may_be_of_two_classes(family: str) -> None:
    name = f"{family}_classifier"
    tensors = header(name)
    with pytest.raises(AmbiguousHead) as refusal:
        plan_of(name, tensors)
    rivals = [f"{table_of(name).prefix}For{task}Classification" for task in ("Sequence", "Token")]
    assert all(head in refusal.value.message for head in rivals)
    for head in rivals:
        plan = plan_of(name, tensors, head=head)
        weight = next(move for move in plan.moves if move.target.name == "classifier.weight")
        assert (weight.transpose, weight.target.shape) == (None, (11, 40))  # stored as PyTorch does
        assert plan_of(name, tensors, config={"architectures": [head]}).head == head
    assert plan_of(name, tensors, config={"finetuning_task": "mnli"}).head == rivals[0]


@pytest.mark.parametrize("name", ["bert_pretrain", "electra_pretrain"])
def test_state_of_the_training_is_known_and_left_out(name: str) -> None:
    tensors = header(name)
    every = trained(tensors)
    plan, plain = plan_of(name, every), plan_of(name, tensors)
    assert [move.source.name for move in plan.moves] == [move.source.name for move in plain.moves]
    ignored = [one.tensor.name for one in plan.unloaded if one.state == "ignored"]
    assert sorted(ignored) == sorted({one.name for one in every} - {one.name for one in tensors})
    assert any(f"{len(every)} tensors, {len(ignored)} of them state of the training" in note for note in plan.notes)
    assert in_one_state(plan, every)


@pytest.mark.parametrize(
    "slot",
    ["lamb_m", "lamb_v", "Adam", "Adam_1", "LAMBOptimizer", "LAMB_1/x", "AdamWeightDecayOptimizer", "Momentum", "vr",
     "vc", "ExponentialMovingAverage"],
)  # fmt: skip
def test_slots_of_other_optimizers(slot: str) -> None:
    tensors = header("bert_pretrain")
    plan = plan_of("bert_pretrain", [*tensors, stored(f"bert/pooler/dense/kernel/{slot}", 40, 40)])
    assert [one.state for one in plan.unloaded] == ["ignored"]


@pytest.mark.parametrize(
    "number", ["good_steps", "bad_steps", "loss_scale", "beta1_power", "beta2_power_1", "global_step"]
)
def test_numbers_of_a_training(number: str) -> None:
    plan = plan_of("bert_pretrain", [*header("bert_pretrain"), stored(number)])
    assert [one.state for one in plan.unloaded] == ["ignored"]


def test_what_is_no_state_of_a_training_stays_unknown() -> None:
    with pytest.raises(UnknownTensors) as refusal:
        plan_of(
            "bert_pretrain", [*trained(header("bert_pretrain")), stored("bert/encoder/layer_0/adapter/kernel", 4, 4)]
        )
    assert "adapter" in refusal.value.message
    assert "adam_m" not in refusal.value.message


def test_averages_are_named_and_taken_only_when_they_are_asked_for() -> None:
    tensors = averaged(header("bert_pretrain"))
    plan = plan_of("bert_pretrain", tensors)
    assert any("46 tensors have an average" in note and "--ema" in note for note in plan.notes)
    table = table_of("bert_pretrain")
    identity = with_averages(identify(tensors, table, DIALECTS))
    config = config_class(table.family).from_dict(CONFIGS["bert"])
    taken = make_plan(identity, table, DIALECTS, config, DIALECTS.by_name["pt"], PlanOptions())
    assert all(move.source.name.endswith("/ExponentialMovingAverage") for move in taken.moves)
    assert {one.state for one in taken.unloaded} == {"unused"}
    assert in_one_state(taken, tensors)


def test_a_tensor_without_an_average_is_taken_itself() -> None:
    tensors = without(averaged(header("bert_pretrain")), "word_embeddings/E")
    identity = with_averages(identified("bert_pretrain", tensors))
    (word,) = identity.by_id["embeddings.word.weight"]
    (pooler,) = identity.by_id["pooler.dense.weight"]
    assert word.name == "bert/embeddings/word_embeddings"
    assert pooler.name == "bert/pooler/dense/kernel/ExponentialMovingAverage"


def test_averages_are_refused_where_there_are_none() -> None:
    with pytest.raises(RequestError, match="no averaged weights"):
        with_averages(identified("bert_pretrain", trained(header("bert_pretrain"))))


def test_of_two_models_in_a_file_the_discriminator_counts() -> None:
    tensors = header("electra_pretrain")
    plan = plan_of("electra_pretrain", tensors)
    aside = {one.tensor.name.split("/")[0]: one.why for one in plan.unloaded}
    assert set(aside) == {"generator", "generator_predictions"}
    assert "generator" in aside["generator"]
    assert plan.config.values["hidden_size"] == 144


@pytest.mark.parametrize("asked", ["head", "architectures"])
def test_the_generator_is_taken_with_its_own_sizes_and_the_common_embeddings(asked: str) -> None:
    tensors = header("electra_pretrain")
    head = "ElectraForMaskedLM"
    plan = plan_of(
        "electra_pretrain", tensors, **({"head": head} if asked == "head" else {"config": {"architectures": [head]}})
    )
    sources = {move.source.name for move in plan.moves}
    assert (plan.head, len(plan.moves)) == (head, 60)
    assert "electra/embeddings/word_embeddings" in sources
    assert not any(one.startswith(("electra/encoder", "discriminator")) for one in sources)
    values = plan.config.values
    assert (values["hidden_size"], values["intermediate_size"], values["num_attention_heads"]) == (36, 144, 1)
    assert any("generator" in note for note in plan.notes)
    assert in_one_state(plan, tensors)


def test_a_config_of_the_generator_is_held_to() -> None:
    own = {"hidden_size": 36, "intermediate_size": 144, "num_attention_heads": 4}
    plan = plan_of("electra_pretrain", header("electra_pretrain"), head="ElectraForMaskedLM", config=own)
    assert plan.config.values["num_attention_heads"] == 4


@pytest.mark.parametrize("head", table_for("electra").in_dialect(GOOGLE).heads)
def test_what_is_written_of_an_electra_is_read_as_the_same_class(head: str) -> None:
    table = table_for("electra")
    config = config_class(table.family).from_dict(CONFIGS["electra"])
    specs = target_specs(table, GOOGLE, config, head, table.heads[head])
    tensors = [stored(spec.name, *spec.shape) for spec in specs.values()]
    plan = plan_of("electra_pretrain", tensors)
    assert (plan.head, len(plan.moves), plan.unloaded) == (head, len(tensors), ())
    layer = next(name for name in (one.name for one in tensors) if "/layer_0/" in name)
    assert layer.startswith("generator/" if head == "ElectraForMaskedLM" else "electra/")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("[views.google.generator]", "[views.jax.generator]", "[views.jax] is of an unknown dialect"),
        ('names = { layer = "generator/', 'names = { tower = "generator/', "tower points at nothing"),
        ('heads = ["ForMaskedLM"]', 'heads = ["ForNothing"]', "which is none of [heads]"),
        ("sizes   = { head = 64 }", "sizes   = { hidden = 64 }", "'hidden', which is no size with a divisor"),
        ('"^task_specific/"', '"(task_specific/"', "does not compile"),
    ],
)
def test_a_table_that_says_nonsense_of_a_view_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    text = (tables_folder() / "electra.toml").read_text()
    assert old in text
    path = tmp_path / "own.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(BadTable) as refusal:
        open_table(path)
    assert problem in refusal.value.message


def test_an_electra_needs_no_config() -> None:
    """Google's have none: its code makes hidden_size / 64 heads, and shapes say the rest."""
    table = table_for("electra")
    keys = implied_keys(table, identified("electra_pretrain", header("electra_pretrain")))
    assert keys == {"model_type": "electra", **CONFIGS["electra"]}
    assert implied_keys(table_for("bert"), identified("bert_pretrain", header("bert_pretrain"))) is None


def test_a_head_that_no_class_has_is_named_and_left_out_only_when_the_class_is_given() -> None:
    tensors = header("albert_squad_v2")
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        plan_of("albert_squad_v2", tensors)
    assert "run_squad_v2" in refusal.value.message
    assert "--head AlbertModel" in refusal.value.hint
    plan = plan_of("albert_squad_v2", tensors, head="AlbertModel")
    assert {one.tensor.name.split("/")[0] for one in plan.unloaded} == {"start_logits", "end_logits", "answer_class"}


def test_heads_of_fine_tuning_where_a_class_has_them() -> None:
    body = without(header("electra_pretrain"), "generator", "discriminator")
    chunks = [stored("task_specific/chunk/dense/kernel", 144, 23), stored("task_specific/chunk/dense/bias", 23)]
    assert plan_of("electra_pretrain", [*body, *chunks]).head == "ElectraForTokenClassification"
    glue = [stored("task_specific/mnli/dense/kernel", 144, 3), stored("task_specific/mnli/dense/bias", 3)]
    with pytest.raises(UnsupportedCheckpoint, match="no PyTorch class"):
        plan_of("electra_pretrain", [*body, *glue])


@pytest.mark.parametrize("family", ["bert", "albert", "electra"])
def test_every_class_of_the_dialect_is_written_and_found_again(family: str) -> None:
    """Every tensor of a class has a name, and its place is the same coming back, in the same layout."""
    table = table_for(family)
    config = config_class(table.family).from_dict(CONFIGS[family])
    for head in table.in_dialect(GOOGLE).heads:
        there = target_specs(table, GOOGLE, config, head, table.heads[head])
        pt = expand(table, DIALECTS.reference, config.values, table.heads[head])
        assert set(pt) - set(there) <= set(table.tied)
        identity = identify([stored(spec.name, *spec.shape) for spec in there.values()], table, DIALECTS)
        views = {place for one in identity.views.values() for place in one.by_id}
        assert set(there) <= set(identity.by_id) | views


@pytest.mark.parametrize(
    ("change", "what"),
    [({"position_embedding_type": "relative_key"}, "distance"), ({"tie_word_embeddings": False}, "decoder")],
)
def test_what_google_has_no_place_for_is_refused(change: dict[str, Any], what: str) -> None:
    table = table_for("bert")
    config = config_class(table.family).from_dict(BERT | change)
    specs = expand(table, DIALECTS.reference, config.values, table.heads["BertForMaskedLM"])
    tensors = [stored(spec.name, *spec.shape) for spec in specs.values()]
    with pytest.raises(UnsupportedCheckpoint) as refusal:
        plan_of("bert", tensors, "google", change)
    assert what in refusal.value.message


@pytest.mark.parametrize("head", ["BertForMultipleChoice", "BertLMHeadModel"])
def test_classes_that_google_has_not_are_refused(head: str) -> None:
    table = table_for("bert")
    config = config_class(table.family).from_dict(BERT | {"num_labels": 1})
    specs = expand(table, DIALECTS.reference, config.values, table.heads[head])
    tensors = [stored(spec.name, *spec.shape) for spec in specs.values()]
    with pytest.raises(UnsupportedCheckpoint, match="no such class"):
        plan_of("bert", tensors, "google", head=head)


@pytest.mark.parametrize(
    ("family", "file", "more"),
    [
        ("bert", "bert_config.json", set()),
        ("albert", "albert_config.json", {"net_structure_type", "down_scale_factor"}),
    ],
)
def test_the_config_that_googles_programs_read(family: str, file: str, more: set[str]) -> None:
    table = table_for(family)
    raw = CONFIGS[family] | {"hidden_act": "gelu_new", "architectures": ["X"], "layer_norm_eps": 1e-12}
    name, content = own_config(table, GOOGLE, config_class(table.family).from_dict(raw)) or ("", b"")
    said = json.loads(content)
    assert name == file
    assert said["hidden_act"] == "gelu"  # which is the tanh form there
    assert said.items() >= CONFIGS[family].items()
    assert more <= set(said)
    assert not {"architectures", "model_type", "layer_norm_eps"} & set(said)
    assert own_config(table, DIALECTS.reference, config_class(table.family).from_dict(raw)) is None
