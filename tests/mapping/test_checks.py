"""One bad table for every static check: refused with the file's name and what is wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from table_headers import REAL
from table_mutants import Raw, read, to_toml

from bertconv import table_files
from bertconv.errors import BadTable, RequestError
from bertconv.mapping import dialects
from bertconv.mapping.checks import check_table, probe_config
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import expand
from bertconv.mapping.expressions import Condition, Size, fulfilled
from bertconv.mapping.table import load_table, table_for
from bertconv.table_files import table_names, tables_folder

Edit = Callable[[Raw], object]


def put(*path: str, value: Any) -> Edit:
    def edit(raw: Raw) -> None:
        for step in path[:-1]:
            raw = raw.setdefault(step, {})
        raw[path[-1]] = value

    return edit


def drop(*path: str) -> Edit:
    def edit(raw: Raw) -> None:
        for step in path[:-1]:
            raw = raw[step]
        del raw[path[-1]]

    return edit


def check(folder: Path, file: str, *edits: Edit, also: Raw | None = None) -> int:
    """Load and check the tables with one file changed; `also` goes into the other file's top level, by key."""
    raw = deepcopy(read(file))
    for edit in edits:
        edit(raw)
    path = folder / file
    path.write_text(to_toml(raw))
    if file == "bert.toml":
        dialects = REAL.dialects
        if also:
            other = folder / "other.toml"
            other.write_text(to_toml(also))
            dialects = load_dialects(other)
        return check_table(load_table(path), dialects)
    return check_table(REAL.table, load_dialects(path))


def refused(folder: Path, file: str, *edits: Edit, also: Raw | None = None) -> str:
    with pytest.raises(BadTable) as refusal:
        check(folder, file, *edits, also=also)
    assert refusal.value.file == str(folder / file)
    assert refusal.value.hint
    return refusal.value.message


ROW = {"kind": "linear", "in": "hidden", "out": "hidden", "name": "more"}

BAD_TABLES = {
    "1 unknown key": (put("hedas", value={}), "the table has unknown keys: hedas"),
    "1 no key": (drop("sizes"), "the table lacks sizes"),
    "1 unknown key in ignore": (put("ignore", "unexpectd", value=[]), "[ignore] has unknown keys: unexpectd"),
    "1 other format": (put("format", value=3), "format is 3"),
    "1 no heads": (put("heads", value={}), "the table's heads is empty"),
    "1 no model types": (put("model_types", value={}), "the table's model_types is empty"),
    "1 no rows": (put("group", "pooler", value={"at": "bert.pooler"}), "group pooler has no rows"),
    "1 no kind": (drop("group", "pooler", "dense", "kind"), "pooler.dense lacks a kind or a name"),
    "1 no name": (drop("group", "pooler", "dense", "name"), "pooler.dense lacks a kind or a name"),
    "1 unknown kind": (put("group", "pooler", "dense", "kind", value="conv"), "unknown kind 'conv'"),
    "1 an axis less": (drop("group", "pooler", "dense", "in"), "pooler.dense gives the axes ['out']"),
    "1 an axis more": (put("group", "pooler", "dense", "mid", value="ffn"), "its kind has ['in', 'out']"),
    "2 unknown size": (put("group", "pooler", "dense", "in", value="wide"), "names the unknown size 'wide'"),
    "2 no size": (put("group", "pooler", "dense", "in", value=" "), "pooler.dense.in has no size"),
    "2 zero": (put("group", "pooler", "dense", "in", value="0"), "unknown size '0'"),
    "12 a size's key": (put("sizes", "ffn", value="ffn_size"), "size 'ffn' needs the config key 'ffn_size'"),
    "12 a condition's key": (put("group", "pooler", "when", value="pools"), "pooler is there when 'pools' says so"),
    "2 unused size": (put("sizes", "depth", value="depth"), "size 'depth' is never used"),
    "2 unknown repeat": (drop("sizes", "layers"), "repeats over the unknown size 'layers'"),
    "3 unknown group": (put("heads", "Model", "groups", value=["embeddings", "body"]), "owns the unknown group 'body'"),
    "3 unused group": (put("group", "spare", value={"dense": ROW}), "no head owns group 'spare'"),
    "3 not on the base": (put("heads", "ForMaskedLM", "groups", value=["embeddings", "mlm"]), "lacks groups of"),
    "3 optional of another": (put("heads", "ForMaskedLM", "optional", value=["pooler"]), "may lack groups that it"),
    "3 unknown task": (put("heads", "Model", "task", value="poetry"), "head Model has the unknown task 'poetry'"),
    "3 no task": (drop("heads", "Model", "task"), "head Model lacks task"),
    "3 one task twice": (put("heads", "ForMaskedLM", "task", value="causal_lm"), "have the same task 'causal_lm'"),
    "3 no base first": (put("heads", "Model", "task", value="discriminator"), "the task 'discriminator', not 'base'"),
    "3 more of a head": (put("heads", "Model", "loss", value="x"), "head Model has unknown keys: loss"),
    "1 unknown input": (put("inputs", value=["langs"]), "inputs has 'langs', not one of token_type_ids, position_ids"),
    "1 unknown positions": (put("positions", value="rotary"), "positions is 'rotary', not one of absolute, from_ids"),
    "1 padding that is no id": (put("config_fixed", value={"counted_padding": "x"}), "counted_padding is no whole num"),
    "3 repeats nothing": (put("keras2_repeats", "mlm", value="body"), "mlm = 'body' names an unknown group"),
    "5 no variable": (put("group", "layer", "at", value="bert.encoder"), "path 'bert.encoder' of group"),
    "5 other variable": (put("group", "pooler", "at", value="bert.{layer}"), "path 'bert.{layer}' of group pooler"),
    "5 two variables": (put("group", "layer", "repeat", value={"a": "layers", "b": "layers"}), "exactly the variables"),
    "5 variable in a name": (put("group", "pooler", "dense", "name", value="{layer}"), "only places may"),
    "5 none in a dialect": (put("names", "tf", "layer", value="bert/layer"), "the variables ['layer']"),
    "5 other in a dialect": (put("names", "tf", "nsp", value="nsp_{layer}"), "exactly the variables []"),
    "6 one name twice": (put("group", "layer", "key", "name", value="attention.self.query"), "has two tensors"),
    "6 alias of another": (put("names", "tf", "embeddings.word.weight", value="w|position_embeddings/weight"),
                           "two tensors 'bert/embeddings/position_embeddings/weight:0'"),
    "7 no copy": (put("tied", "mlm.decoder.wait", value="embeddings.word.weight"), "a tensor that does not exist"),
    "7 no original": (put("tied", "mlm.decoder.weight", value="embeddings.words.weight"), "does not exist"),
    "7 other sizes": (put("tied", "mlm.decoder.bias", value="mlm.dense.bias"), "have different sizes"),
    "7 turned": (put("group", "mlm", "decoder", value=ROW | {"in": "vocab", "out": "hidden"}), "different sizes"),
    "7 not owned": (put("tied", "mlm.dense.weight", value="pooler.dense.weight"), "and not its original"),
    "8 points at no group": (put("names", "tf", "body", value="x"), "body points at nothing"),
    "8 points at no row": (put("names", "tf", "pooler.dens", value="x"), "pooler.dens points at nothing"),
    "8 points at no role": (put("names", "tf", "pooler.dense.wait", value="x"), "pooler.dense.wait points at nothing"),
    "8 same place": (put("names", "tf", "pooler", value="bert/pooler"), "pooler only repeats the default"),
    "8 same name": (put("names", "tf", "pooler.dense", value="dense"), "pooler.dense only repeats the default"),
    "8 same leaf": (put("names", "tf", "pooler.dense.bias", value="dense/bias"), "only repeats the default"),
    "8 unknown dialect": (put("names", "jax", value={}), "[names.jax] is of an unknown dialect"),
    "8 spellings in a row": (put("group", "pooler", "dense", "name", value="dense|dense_act"),
                             "these belong into [names.D]"),
    "5 spellings of a place": (put("names", "tf", "layer", value="bert/layer_{layer}|bert/layers"),
                               "does not name exactly the variables"),
    "13 held by no dialect": (put("in", "jax", value={}), "[in.jax] is of an unknown dialect"),
    "13 lacks nothing": (put("in", "google", value={"lacks": ["pooler.dense", "pooler.dense.wait"]}),
                         "[in.google] lacks 'pooler.dense.wait', which there is not"),
    "13 no such class": (put("in", "google", value={"heads": ["ForNothing"]}), "which is none of [heads]"),
    "8 spelling of another": (put("names", "pt", "layer.key", value="attention.self.key|attention.self.query"),
                              "two tensors 'bert.encoder.layer.0.attention.self.query.weight'"),
    "9 no regex": (put("ignore", "unexpected", value=["("]), "'(' does not compile"),
    "9 no regex for missing": (put("ignore", "missing", value=["*"]), "'*' does not compile"),
    "9 hits an owned name": (put("ignore", "unexpected", value=["pooler"]), "hits its own"),
    "9 missing hits an owned name": (put("ignore", "missing", value=["LayerNorm"]), "hits its own"),
    "9 hits an alias": (put("ignore", "unexpected", value=["beta$"]), "hits its own"),
    "10 layout in an override": (put("names", "tf", "pooler.dense.weight", value="dense/kernel [out in]"),
                                 "layouts are the dialect's, not a row's"),
    "14 unknown key": (put("in", "garden", value={"computes": {}}), "[in.garden] has unknown keys: computes"),
    "14 no activation": (put("in", "garden", "activations", value={}), "[in.garden] activations is empty"),
    "14 unknown activation": (put("in", "garden", "activations", value={"gelu_tanh": ""}), "activation 'gelu_tanh'"),
    "14 one word twice": (put("in", "garden", "activations", value={"gelu": "gelu", "gelu_new": "x|gelu"}),
                          "has the word 'gelu' for two activations"),
    "14 a list of words": (put("in", "garden", "activations", value={"gelu": ["gelu"]}), "is a list, not a string"),
    "14 unknown fixed key": (put("in", "garden", "fixed", value={"epsilon": 1e-6}), "fixes epsilon = 1e-06, which no"),
    "14 fixed to a text": (put("in", "garden", "fixed", value={"layer_norm_eps": "1e-6"}), "= '1e-6', which no config"),
    "14 head of none": (put("in", "garden", "head_fixed", value={"ForGLUE": {}}), "head_fixed has 'ForGLUE', which"),
    "14 a head's activation": (put("in", "garden", "head_fixed", value={"ForMaskedLM": {"hidden_act": "tanh_gelu"}}),
                               "computes the unknown activation 'tanh_gelu'"),
    "bad size": (put("sizes", "ffn", value="intermediate_size + 1"), "'intermediate_size + 1' is not a size"),
    "bad condition": (put("group", "pooler", "when", value="a or b"), "'a or b' is not a condition"),
    "bad condition of a row": (put("group", "pooler", "dense", "when", value="x >= 1"), "'x >= 1' is not a condition"),
    "number for a name": (put("base", value=3), "base is a whole number, not a string"),
    "truth for a number": (put("format", value=True), "format is a truth, not a whole number"),
    "string for a list": (put("heads", "Model", "groups", value="x"), "heads.Model.groups is a string, not a list"),
    "list in a list": (put("ignore", "missing", value=[["x"]]), "ignore.missing[0] is a list, not a string"),
    "string for a row": (put("group", "pooler", "att", value="x"), "group.pooler.att is a string, not a table"),
    "table for a name": (put("names", "tf", "pooler", value={"dense": "x"}), "names.tf.pooler is a table, not"),
}  # fmt: skip

BAD_DIALECTS = {
    "1 no kinds": (drop("kinds"), "has no [kinds] or no dialect"),
    "1 unknown key": (put("pt", "seperator", value={}), "dialect pt has unknown keys: seperator"),
    "1 no separator": (drop("pt", "separator"), "dialect pt lacks separator"),
    "1 no framework": (drop("tf", "framework"), "dialect tf lacks framework"),
    "1 container of no kind": (put("tf", "containers", value=["h5"]), "to 'h5', not to one of safetensors, hdf5"),
    "1 container that is only read": (put("pt", "containers", value=["torch"]), "is to be written to 'torch'"),
    "1 a kind less": (drop("tf", "norm"), "dialect tf lacks norm"),
    "1 a role less": (drop("tf", "norm", "shift"), "tf.norm lacks shift"),
    "1 a role more": (put("tf", "norm", "mean", value="mean [dim]"), "tf.norm has unknown keys: mean"),
    "4 an axis less": (put("tf", "linear", "weight", value="kernel [in]"), "is not a permutation of the axes out in"),
    "4 an axis more": (put("tf", "linear", "bias", value="bias [in out]"), "is not a permutation of the axes out"),
    "4 an axis twice": (put("tf", "linear", "weight", value="kernel [in in]"), "is not a permutation"),
    "4 other axis": (put("tf", "vector", "value", value="[rows]"), "is not a permutation of the axes dim"),
    "4 no layout": (put("tf", "linear", "bias", value="bias"), "is not of the form `leaf|alias [layout]`"),
    "4 newline": (put("tf", "linear", "bias", value="bias [out]\n"), "is not of the form"),
    "4 empty layout": (put("tf", "linear", "bias", value="bias []"), "is not of the form"),
    "6 two roles of one name": (put("tf", "norm", "shift", value="beta|gamma [dim]"), "has two tensors"),
    "string for a truth": (put("tf", "scoped", value="yes"), "tf.scoped is a string, not a truth"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TABLES)
def test_a_bad_table_is_refused(case: str, tmp_path: Path) -> None:
    edit, problem = BAD_TABLES[case]
    assert problem in refused(tmp_path, "bert.toml", edit)


@pytest.mark.parametrize("case", BAD_DIALECTS)
def test_bad_dialects_are_refused(case: str, tmp_path: Path) -> None:
    edit, problem = BAD_DIALECTS[case]
    with pytest.raises(BadTable) as refusal:
        check(tmp_path, "dialects.toml", edit)
    assert problem in refusal.value.message


def test_names_are_unique_where_the_base_is_left_out_as_well(tmp_path: Path) -> None:
    """`bert.pooler.dense` of a base model's file is called as a head's own `pooler.dense` would be."""
    edits = put("group", "qa", "at", value="pooler"), put("group", "qa", "dense", "name", value="dense")
    problem = refused(tmp_path, "bert.toml", *edits, put("heads", "ForQuestionAnswering", "groups",
                      value=["embeddings", "layer", "pooler", "qa"]))  # fmt: skip
    assert "BertForQuestionAnswering has two tensors 'pooler.dense.weight' in pt" in problem


@pytest.mark.parametrize("order", ["c b a", "c a b", "a c b", "*c a *b"])
def test_11_layouts_in_any_order_come_back(order: str, tmp_path: Path) -> None:
    dialects = read("dialects.toml")
    dialects["kinds"]["cube"] = {"weight": "a b c"}
    dialects["pt"]["cube"] = {"weight": "weight [a b c]"}
    dialects["tf"]["cube"] = {"weight": f"kernel [{order}]"}
    for name in load_dialects().by_name.keys() - {"pt", "tf"}:
        dialects[name]["cube"] = {"weight": "kernel [c b a]"}
    row = {"kind": "cube", "a": "hidden", "b": "heads head", "c": "labels", "name": "cube"}
    assert check(tmp_path, "bert.toml", put("group", "qa", "cube", value=row), also=dialects)


def test_every_problem_of_a_check_is_told_at_once(tmp_path: Path) -> None:
    edits = [put("group", group, "dense", "in", value="wide") for group in ("pooler", "nsp", "qa")]
    assert refused(tmp_path, "bert.toml", *edits).count("unknown size 'wide'") == 3


@pytest.mark.parametrize("load", [load_table, load_dialects])
@pytest.mark.parametrize("content", [b"a = ", b"a = 1\na = 2", b"\xff\xfe", b"[a]\n[a]", None])
def test_what_is_no_toml_is_refused(load: Callable[[Path], object], content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "bad.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadTable, match="not a readable TOML file") as refusal:
        load(path)
    assert refusal.value.file == str(path)


@pytest.mark.parametrize("load", [load_table, load_dialects])
def test_an_empty_file_is_refused(load: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(BadTable, match=r"lacks|has no"):
        load(tmp_path / "empty.toml")


def test_format_1_is_refused_with_what_to_change(tmp_path: Path) -> None:
    path = tmp_path / "old.toml"
    path.write_text('format = 1\nmodel_types = ["bert"]\n[heads]\nBertModel = ["embeddings"]\n')
    with pytest.raises(BadTable, match=r"format is 1, this bertconv reads 2\.") as refusal:
        load_table(path)
    assert refusal.value.file == str(path)
    for part in ("format = 2", "inputs =", "[model_types]", "[heads]", "task =", "[optional]"):
        assert part in str(refusal.value.hint)


def test_a_table_is_for_one_model_type(tmp_path: Path) -> None:
    raw = read("bert.toml")
    raw["model_types"] = {"bert": "Bert", "my-bert": "MyBert"}
    path = tmp_path / "duplicates.toml"
    path.write_text(to_toml(raw))
    one, other = load_table(path), load_table(path, "my-bert")
    assert (one.model_type, one.prefix, other.model_type, other.prefix) == ("bert", "Bert", "my-bert", "MyBert")
    assert one.model_types == other.model_types == ("bert", "my-bert")
    assert [head.replace("Bert", "MyBert") for head in one.heads] == list(other.heads)
    assert other.head_for("causal_lm") == "MyBertLMHeadModel"
    assert other.head_for("discriminator") is None
    assert other.optional == {"MyBertModel": ("pooler",)}
    with pytest.raises(BadTable, match="is for bert, my-bert, not for roberta"):
        load_table(path, "roberta")


def test_built_in_tables_are_found_by_model_type() -> None:
    assert table_for("bert") is load_table(tables_folder() / "bert.toml", "bert")
    with pytest.raises(RequestError, match="no mapping table for the model type 'gpt2'") as refusal:
        table_for("gpt2")
    assert "bert" in str(refusal.value.hint)


@pytest.mark.parametrize("name", table_names())
def test_the_tables_that_ship_are_sound(name: str) -> None:
    table = load_table(tables_folder() / f"{name}.toml")
    config = probe_config(table, 2)
    declared = [dialect for dialect in table.spoken(REAL.dialects) if dialect.declared]
    assert check_table(table, REAL.dialects) == 2 * len(expand(table, REAL.dialects.by_name["pt"], config)) + sum(
        len(expand(table, dialect, config)) for dialect in declared
    )


def test_probe_makes_every_condition_hold_and_every_size_another() -> None:
    config = probe_config(REAL.table, 3)
    rows = [row for group in REAL.table.groups.values() for row in (group, *group.modules.values())]
    assert all(condition.holds(config) for row in rows for condition in row.when)
    sizes = [size.value(config) for name, size in REAL.table.sizes.items() if name != "layers"]
    assert len(set(sizes)) == len(sizes)
    assert config["num_hidden_layers"] == 3


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("hidden_size", 36),
        ("2 * positions", 20),
        ("2 * positions - 1", 19),
        ("positions - 3", 7),
        ("hidden_size / heads", 9),
        ("3 * hidden_size / heads - 2", 25),
        ("hidden_size - positions", 26),
        ("2 * hidden_size / heads - heads", 14),
        ("buckets or positions", 10),
        ("none or positions", 10),
        ("heads or positions", 4),
        ("2 * (buckets or positions)", 20),
        ("2 * (heads or positions) - 1", 7),
    ],
)
def test_sizes_are_read_and_computed(text: str, value: int) -> None:
    size = Size.parse(Path("t.toml"), text)
    assert size.value({"hidden_size": 36, "heads": 4, "positions": 10, "buckets": -1, "none": None}) == value
    assert size.is_key is (text == "hidden_size")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "a+1",
        "a * 2",
        "2*a",
        "a / 2",
        "a or",
        "or a",
        "(a",
        "a)",
        "2 * (a or b",
        "a or b or c",
        "a - not",
        "a - b - 1",
        "in",
        "-1 * a",
        "A",
        "a  - 1",
        "__import__('os')",
        "a\n",
        "a - 1\n",
    ],
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(BadTable) as refusal:
        Size.parse(Path("t.toml"), text)
    assert refusal.value.file == "t.toml"
    assert repr(text) in refusal.value.message


@pytest.mark.parametrize(
    ("text", "config", "holds"),
    [
        ("flag", {"flag": True}, True),
        ("not flag", {"flag": True}, False),
        ("not flag", {"flag": False}, True),
        ("'p2c' in kinds", {"kinds": ["c2p", "p2c"]}, True),
        ("'p2c' in kinds", {"kinds": ["c2p"]}, False),
        ("'p2c' in kinds", {"kinds": "P2C | c2p"}, True),
        ("'p2c' in kinds", {"kinds": "p2cx|c2p"}, False),
        ("'p2c' in kinds", {"kinds": None}, False),
        ("'p2c' in kinds", {}, False),
        ("'p2c' not in kinds", {"kinds": ["c2p"]}, True),
        ("'p2c' not in kinds", {"kinds": "c2p|p2c"}, False),
        ("flag", {"flag": False}, False),
        ("flag", {}, False),
        ("kind == 'a b'", {"kind": "a b"}, True),
        ("kind != 'x'", {"kind": "y"}, True),
        ("kind != 'x'", {"kind": "x"}, False),
        ("kind != ''", {"kind": ""}, False),
        ("count == 3", {"count": 3}, True),
        ("count != 3", {"count": 3}, False),
        ("one == other", {"one": 5, "other": 5}, True),
        ("one != other", {"one": 5, "other": 6}, True),
    ],
)
def test_conditions_are_read_and_decided(text: str, config: dict[str, Any], holds: bool) -> None:
    condition = Condition.parse(Path("t.toml"), text)
    assert condition.holds(config) is holds
    assert " " not in condition.key
    if condition.other is None:
        assert condition.holds(condition.fulfilled())
    else:
        assert condition.fulfilled() == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a and b",
        "not",
        "not not a",
        "in",
        "a == not",
        "a in b",
        "'x' in",
        "'' in a",
        "'x'  in a",
        "not 'x' in a",
        "a = 'x'",
        'a == "x"',
        "a > 3",
        "a == 'x' ",
        "3 == a",
        "a == -1",
        "A",
        "a()",
        "a\n",
    ],
)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(BadTable) as refusal:
        Condition.parse(Path("t.toml"), text)
    assert refusal.value.file == "t.toml"
    assert repr(text) in refusal.value.message


WRONG = (3, "", "x y", [], ["x", 3], {}, {"x": "y"}, True)


def places(raw: Any, way: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    return [way] * bool(way) + [place for key, value in inner for place in places(value, (*way, key))]


def read_again(file: str) -> Raw:
    """A copy of its own; pickles are copied ten times as fast as by deepcopy."""
    found: Raw = pickle.loads(pickled(file))
    return found


@cache
def pickled(file: str) -> bytes:
    return pickle.dumps(read(file))


@pytest.mark.parametrize("file", ["bert.toml", "dialects.toml"])
@pytest.mark.parametrize("wrong", WRONG, ids=repr)
def test_no_value_of_another_type_does_more_than_be_refused(
    file: str, wrong: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What TOML's reader gives, changed; to write and read it a thousand times would take a minute."""
    load: Callable[[Path], object] = load_table if file == "bert.toml" else load_dialects
    for module in (table_files, dialects):
        monkeypatch.setattr(module, "read_toml", lambda _: (changed, ""))
    refusals = 0
    for number, (*way, last) in enumerate(places(read(file))):
        place: Any = (changed := read_again(file))
        for step in way:
            place = place[step]
        place[last] = wrong
        path = Path(f"{wrong!r} {number}.toml")
        try:
            load(path)
        except BadTable as refusal:
            assert refusal.file == str(path)  # noqa: PT017  (it may also pass)
            refusals += 1
    assert refusals


def test_conditions_joined_by_and_must_all_hold() -> None:
    conditions = Condition.parse_all(Path("t.toml"), "not shared and 'c2p' in kinds and 'p2c' in kinds")
    assert [one.key for one in conditions] == ["shared", "kinds", "kinds"]
    assert fulfilled(conditions, {}) == {"shared": False, "kinds": ["c2p", "p2c"]}
    assert Condition.parse_all(Path("t.toml"), "") == ()
    for text in ("a and", "and a", "a and and b", "a  and b"):
        with pytest.raises(BadTable):
            Condition.parse_all(Path("t.toml"), text)
