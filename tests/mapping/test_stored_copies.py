"""What one dialect stores beyond the others: copies that count, and groups that nothing computes with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_script import golden
from table_headers import stored
from table_mutants import Raw, to_toml

from bertconv.config.auto import AutoConfig
from bertconv.errors import BadTable, MissingTensors
from bertconv.mapping.checks import check_table
from bertconv.mapping.describe import explain_name
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.identify import Identity, StoredTensor, identify
from bertconv.mapping.plan import Plan, PlanOptions
from bertconv.mapping.planner import make_plan
from bertconv.mapping.table import Table, load_table, table_for
from bertconv.table_files import read_toml, tables_folder

DIALECTS = load_dialects()
SMALL = {
    "albert": {"num_hidden_groups": 2, "inner_group_num": 3, "hidden_size": 40, "num_attention_heads": 5},
    "mpnet": {"num_hidden_layers": 2, "hidden_size": 40, "num_attention_heads": 5},
}
BIAS, COPY = "predictions/bias:0", "predictions/decoder/bias:0"


def config(model_type: str, **more: Any) -> Any:
    return AutoConfig.for_model(model_type, **SMALL[model_type], **more)


def header(table: Table, head: str, dialect: str, *groups: str, **more: Any) -> list[StoredTensor]:
    """The tensors of a class's file as transformers writes it, with more groups than the class computes with."""
    own = expand(
        table, DIALECTS.by_name[dialect], config(table.model_type, **more).values, (*table.heads[head], *groups)
    )
    copies = table.stored_copies.get(dialect, {})
    return [stored(spec.name, *spec.shape) for place, spec in own.items() if place not in table.tied or place in copies]


def planned(table: Table, tensors: list[StoredTensor], head: str, target: str, **more: Any) -> Plan:
    identity: Identity = identify(tensors, table, DIALECTS)
    options = PlanOptions(head=head)
    return make_plan(identity, table, DIALECTS, config(table.model_type, **more), DIALECTS.by_name[target], options)


def sources(plan: Plan) -> dict[str, tuple[str, str]]:
    """Name of each target tensor -> the tensor that fills it and how, within the head."""
    return {
        move.target.name: (move.source.name, move.state)
        for move in plan.moves
        if move.source and move.target.group == "mlm" and "bias" in move.target.name and "dense" not in move.target.name
        and "Norm" not in move.target.name
    }  # fmt: skip


@pytest.mark.parametrize("head", ["AlbertForMaskedLM", "AlbertForPreTraining"])
def test_the_copy_that_counts_is_read_and_its_original_left_out(head: str) -> None:
    table = table_for("albert")
    plan = planned(table, header(table, head, "tf"), head, "pt")
    assert sources(plan) == {"predictions.bias": (COPY, "tied")}
    assert [(one.tensor.name, one.state, one.why) for one in plan.unloaded] == [
        (BIAS, "tied", f"the model computes with {COPY}")
    ]
    assert [(one.copy.name, one.original.name, one.may_differ) for one in plan.duplicates] == [(COPY, BIAS, True)]


def test_both_copies_are_written() -> None:
    table = table_for("albert")
    plan = planned(table, header(table, "AlbertForMaskedLM", "pt"), "AlbertForMaskedLM", "tf")
    assert sources(plan) == {BIAS: ("predictions.bias", "loaded"), COPY: ("predictions.bias", "tied")}
    names = [move.target.name for move in plan.moves]
    assert names == [tensor.name for tensor in header(table, "AlbertForMaskedLM", "tf")]
    again = planned(table, header(table, "AlbertForMaskedLM", "tf"), "AlbertForMaskedLM", "tf")
    assert sources(again) == {BIAS: (COPY, "tied"), COPY: (COPY, "loaded")}


@pytest.mark.parametrize("lost", [BIAS, COPY])
def test_one_of_both_copies_is_enough(lost: str) -> None:
    table = table_for("albert")
    left = [tensor for tensor in header(table, "AlbertForMaskedLM", "tf") if tensor.name != lost]
    plan = planned(table, left, "AlbertForMaskedLM", "pt")
    (source,) = sources(plan).values()
    assert source[0] == ({BIAS, COPY} - {lost}).pop()
    assert not plan.unloaded


def test_without_either_the_file_does_not_fill_the_class() -> None:
    table = table_for("albert")
    left = [tensor for tensor in header(table, "AlbertForMaskedLM", "tf") if tensor.name not in (BIAS, COPY)]
    with pytest.raises(MissingTensors, match="predictions/bias"):
        planned(table, left, "AlbertForMaskedLM", "pt")


def test_the_bias_counts_in_an_untied_model_too() -> None:
    table = table_for("albert")
    decoder = stored("predictions/decoder/kernel:0", 128, 30000)
    plan = planned(
        table,
        [*header(table, "AlbertForMaskedLM", "tf"), decoder],
        "AlbertForMaskedLM",
        "pt",
        tie_word_embeddings=False,
    )
    assert sources(plan) == {"predictions.bias": (COPY, "tied"), "predictions.decoder.bias": (COPY, "loaded")}


@pytest.mark.parametrize(
    "head", [head for head in table_for("mpnet").heads if "pooler" not in table_for("mpnet").heads[head]]
)
def test_a_group_that_every_file_holds_is_known_and_left_out(head: str) -> None:
    table = table_for("mpnet")
    plan = planned(table, header(table, head, "tf", "pooler"), head, "pt")
    assert plan.head == head
    assert {(one.tensor.name, one.state, one.why) for one in plan.unloaded} == {
        (f"mpnet/pooler/dense/{leaf}:0", "unused", "in every class's file, and this class does not compute with it")
        for leaf in ("kernel", "bias")
    }
    written = planned(table, header(table, head, "pt"), head, "tf")
    assert not any("pooler" in move.target.name for move in written.moves)


Edit = Callable[[Raw], object]
BAD: dict[str, tuple[Edit, str]] = {
    "dialect of copies": (lambda raw: raw["stored_copies"].update(jax={}), r"\[stored_copies\] jax is an unknown"),
    "dialect of groups": (lambda raw: raw.update(unused={"jax": []}), r"\[unused\] jax is an unknown dialect"),
    "no copy": (lambda raw: raw["stored_copies"]["tf"].update({"mlm.norm.scale": "equal"}), "is no copy of"),
    "other way": (lambda raw: raw["stored_copies"]["tf"].update({"mlm.decoder.bias": "wins"}), "none of counts, equal"),
    "group": (lambda raw: raw.update(unused={"tf": ["tail"]}), r"\[unused\] tf names the unknown group 'tail'"),
    "nobody's": (
        lambda raw: raw["group"].update(tail={"dense": raw["group"]["qa"]["dense"]}), "no head owns group 'tail'",
    ),
    "same names": (
        lambda raw: raw.update(unused={"tf": ["choice"]}), "has two tensors 'classifier/kernel:0' in tf",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_is_refused(case: str, tmp_path: Path) -> None:
    edit, problem = BAD[case]
    raw = read_toml(tables_folder() / "albert.toml")[0]
    edit(raw)
    (tmp_path / "albert.toml").write_text(to_toml(raw))
    with pytest.raises(BadTable, match=problem):
        check_table(load_table(tmp_path / "albert.toml"), DIALECTS)


def test_a_group_that_files_hold_needs_no_owner(tmp_path: Path) -> None:
    raw = read_toml(tables_folder() / "albert.toml")[0]
    raw["group"]["tail"] = {"at": "albert.tail", "dense": raw["group"]["qa"]["dense"]}
    raw["unused"] = {"tf": ["tail"]}
    (tmp_path / "albert.toml").write_text(to_toml(raw))
    assert check_table(load_table(tmp_path / "albert.toml"), DIALECTS)


def _put(*path: str, value: Any) -> Edit:
    def edit(raw: Raw) -> None:
        for step in path[:-1]:
            raw = raw.setdefault(step, {})
        raw[path[-1]] = value

    return edit


AT = "albert.encoder.albert_layer_groups.{group}.albert_layers.{layer}"
MUTANTS: dict[str, Edit] = {
    "no stored copies": lambda raw: raw.pop("stored_copies"),
    "another kind of copy": _put("stored_copies", "tf", "mlm.decoder.bias", value="equal"),
    "another dialect's copy": lambda raw: raw.update(stored_copies={"pt": raw["stored_copies"]["tf"]}),
    "another copy": lambda raw: raw.update(stored_copies={"tf": {"mlm.decoder.weight": "counts"}}),
    "an unused group": _put("unused", "tf", value=["pooler"]),
    "variables the other way round": _put("group", "layer", "repeat", value={"layer": "inner", "group": "groups"}),
    "sizes the other way round": _put("group", "layer", "repeat", value={"group": "inner", "layer": "groups"}),
    "one variable": _put("group", "layer", "repeat", value={"group": "groups"}),
    "one size twice": _put("group", "layer", "repeat", value={"group": "groups", "layer": "groups"}),
    "place the other way round": _put("group", "layer", "at", value="albert.encoder.groups.{layer}.layers.{group}"),
    "an offset": _put("group", "layer", "at", value=AT.replace("{layer}", "{layer+1}")),
    "a step": _put("group", "layer", "at", value=AT.replace("{group}", "{2*group}")),
    "Keras's spelling": _put("names", "tf", "layer", value="albert/encoder/groups_._{group}/layers{layer:keras}"),
    "a condition of a group": _put("group", "project", "when", value="embedding_size != hidden_size"),
    "a negated condition": _put("group", "layer", "distance", "when", value="not position_embedding_type"),
    "a size of two keys": _put("sizes", "embed", value="hidden_size - embedding_size"),
    "a size with a fallback": _put("sizes", "embed", value="embedding_size or hidden_size"),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_caught(name: str, tmp_path: Path) -> None:
    """By a check, or by the committed listings and what shapes tell of the config."""
    raw = read_toml(tables_folder() / "albert.toml")[0]
    MUTANTS[name](raw)
    (tmp_path / "albert.toml").write_text(to_toml(raw))
    try:
        table = load_table(tmp_path / "albert.toml")
        check_table(table, DIALECTS)
    except BadTable:
        return
    real, pt = table_for("albert"), DIALECTS.by_name["pt"]
    reported = [[size.is_key for size in one.sizes.values()] for one in (table, real)]
    places = [list(expand(one, pt, config("albert").values)) for one in (table, real)]
    listings = golden.listings(table, DIALECTS)
    current = {file: (golden.GOLDEN / file).read_text() for file in listings}
    assert reported[0] != reported[1] or places[0] != places[1] or listings != current


def test_explain_tells_of_both() -> None:
    story = explain_name([table_for("albert")], "predictions/decoder/bias")
    assert story["also in tf"] == "beside its original; the model computes with the copy, and it is what is read"
    story = explain_name([table_for("mpnet")], "mpnet.pooler.dense.weight")
    assert story["always in"] == "files of tf, whether the class computes with it or not"
