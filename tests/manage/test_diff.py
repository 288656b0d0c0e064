"""What differs, tensor by tensor: nothing between formats, planted changes by as much as numpy says, casts, NaNs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import checkpoints as cp
import numpy as np
import pytest
from diffed import (
    HEAD,
    QUERY,
    QUERY_ID,
    as_type,
    assert_numbers,
    diff_states,
    moved,
    normal,
    rows,
    states,
)

from bertconv import convert_checkpoint, diff_checkpoints
from bertconv.errors import MappingError, RequestError
from bertconv.formats import streaming
from bertconv.manage.difference import sums
from bertconv.manage.difference.records import cosine
from bertconv.manage.difference.sums import Sums

CONTAINERS = ("safetensors", "bin", "sharded", "h5", "tf-safetensors")


@pytest.mark.parametrize("head", cp.OF_WORDS)
def test_nothing_differs_between_the_formats_of_any_table(tmp_path: Path, head: str) -> None:
    """That the tensors of every class are equal in every format, test_hash holds."""
    state = cp.state_dict(head, dtype="mixed")
    cp.save(tmp_path / "pt", head, state)
    cp.save(tmp_path / "tf", head, state, "tf-safetensors")
    diff = diff_checkpoints(tmp_path / "pt", tmp_path / "tf")
    assert (states(diff), diff.config, diff.left_out) == ({}, (), ())
    assert diff.equal
    assert diff.verdict() == f"Equal: {len(diff.tensors)} of {len(diff.tensors)} tensors, bit for bit."
    assert {one.change for one in diff.layers} == {None}


@pytest.mark.parametrize("container", CONTAINERS)
def test_nothing_differs_from_its_conversion(tmp_path: Path, container: str) -> None:
    folder = cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD), container)
    convert_checkpoint(folder, tmp_path / "out", to="tf" if container in CONTAINERS[:3] else "pt")
    assert diff_checkpoints(folder, tmp_path / "out").equal


def test_nothing_differs_from_itself_where_nothing_says_which_class_it_is(tmp_path: Path) -> None:
    state = cp.state_dict("BertForSequenceClassification", labels=2)
    settings = {"architectures": None, "id2label": None, "label2id": None, "labels": 2}
    folder = cp.save(tmp_path / "in", "BertForSequenceClassification", state, **settings)
    diff = diff_checkpoints(folder, folder)
    assert diff.equal
    assert "classifier.dense.weight" in rows(diff)


TYPES = [("float32",) * 2, ("float16",) * 2, ("bfloat16",) * 2, ("float64",) * 2,
         ("float32", "bfloat16"), ("float16", "bfloat16"), ("float64", "float16")]  # fmt: skip


@pytest.mark.parametrize("types", TYPES)
@pytest.mark.parametrize("container", ["safetensors", "tf-safetensors"])
def test_statistics_are_those_of_whole_arrays(tmp_path: Path, types: tuple[str, str], container: str) -> None:
    a, b = as_type(normal(), types[0]), as_type(moved(normal(), 0.01), types[1])
    if types[0] == "float64":  # digits that no shorter type holds
        a = {name: value * (1 + 2.0**-40) for name, value in a.items()}
    diff = diff_states(tmp_path, a, b, containers=("safetensors", container))
    pt_names = {one.a: one for one in diff.tensors}
    assert set(pt_names) == set(a)
    for name, row in pt_names.items():
        assert (row.state, row.rounded) == ("changed", "")
        assert_numbers(row.change, a[name], b[name])
    assert f"{len(a)} of {len(a)} tensors changed, most in" in diff.verdict()


@pytest.mark.parametrize("block", [7, 1 << 16])
def test_sums_do_not_depend_on_where_blocks_end(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(sums, "BLOCK", block)
    rng = np.random.default_rng(5)
    a, b = (rng.standard_normal((1 << 16) + 13 if block > 7 else 57).astype(np.float32) for _ in range(2))
    b[3] = a[3]
    found = Sums("float32", "float32")
    cuts = (0, 11, 40, a.size)
    masks = [found.add(a[i:j].view("u4"), b[i:j].view("u4")) for i, j in pairwise(cuts)]
    assert np.array_equal(np.concatenate(masks), a != b)
    assert_numbers(found.change(), a, b)


def test_a_change_of_one_element_is_found_and_counted(tmp_path: Path) -> None:
    a, b = normal(), normal()
    b[QUERY][17, 23] += np.float32(0.5)
    diff = diff_states(tmp_path, a, b, containers=("h5", "safetensors"))
    assert states(diff) == {QUERY_ID: "changed"}
    assert_numbers(rows(diff)[QUERY_ID].change, a[QUERY], b[QUERY])
    assert diff.verdict() == (
        "1 of 46 tensors changed, all in layer.1; embeddings, layer.0, pooler, nsp, mlm are equal."
    )


@pytest.mark.parametrize("element", [0, 600, 1224])
def test_what_differs_late_is_summed_from_its_beginning(
    tmp_path: Path, element: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "PIECE", 1000)
    a, b = normal(), normal()
    b[QUERY].reshape(-1)[element] += np.float32(0.5)
    assert_numbers(rows(diff_states(tmp_path, a, b))[QUERY_ID].change, a[QUERY], b[QUERY])


def test_a_layer_is_measured_as_a_whole(tmp_path: Path) -> None:
    a, b = normal(), normal()
    b[QUERY] = b[QUERY] * np.float32(1.5)
    layer = next(one for one in diff_states(tmp_path, a, b).layers if one.layer == "layer.1")
    whole = [np.concatenate([state[name].ravel() for name in a if ".layer.1." in name]) for state in (a, b)]
    assert_numbers(layer.change, *whole)
    assert (layer.tensors, layer.equal, layer.changed) == (16, 15, 1)


@pytest.mark.parametrize("short", ["bfloat16", "float16"])
def test_a_copy_that_was_rounded_is_named(tmp_path: Path, short: str) -> None:
    a = normal()
    b = as_type(a, short)
    diff = diff_states(tmp_path, a, b, containers=("safetensors", "tf-safetensors"))
    assert {(one.rounded, one.rounded_to) for one in diff.tensors} == {("B", short)}
    assert f"46 of 46 tensors changed; B is A rounded to {short}." == diff.verdict()
    back = diff_checkpoints(tmp_path / "b", tmp_path / "a")
    assert f"A is B rounded to {short}" in back.verdict()
    cp.save(tmp_path / "wide", HEAD, as_type(b, "float32"))
    wide = diff_checkpoints(tmp_path / "a", tmp_path / "wide")
    assert {(one.rounded, one.rounded_to) for one in wide.tensors} == {("B", short)}
    same = diff_checkpoints(tmp_path / "b", tmp_path / "wide")
    assert not same.equal
    assert all(one.same_values for one in same.tensors)
    assert f"the values are the same, as {short} in A and float32 in B" in same.verdict()


def test_a_copy_that_was_not_quite_rounded_is_not_named(tmp_path: Path) -> None:
    a = normal()
    b = as_type(as_type(a, "bfloat16"), "float32")
    b[QUERY][-1, -1] = np.nextafter(b[QUERY][-1, -1], np.float32(1))
    diff = diff_states(tmp_path, a, b)
    assert {one.id for one in diff.tensors if not one.rounded} == {QUERY_ID}
    assert "rounded" not in diff.verdict()


def nan(payload: int) -> np.float32:
    return np.array([0x7FC00000 | payload], np.uint32).view(np.float32)[0]


def test_bits_of_a_nan_decide_and_statistics_are_of_finite_numbers(tmp_path: Path) -> None:
    a, b = normal(), normal()
    for state, payload in ((a, 1), (b, 2)):
        state[QUERY][0, 0] = nan(payload)
        state[cp.WORD][5, 5] = nan(7)
    b[QUERY][1, 1], b[QUERY][2, 2] = np.inf, 3
    diff = diff_states(tmp_path, a, b)
    assert states(diff) == {QUERY_ID: "changed"}
    change = rows(diff)[QUERY_ID].change
    finite = np.isfinite(a[QUERY]) & np.isfinite(b[QUERY])
    one, other = (state[QUERY][finite].astype(np.float64) for state in (a, b))
    assert change is not None
    assert (change.differing, change.not_finite_a, change.not_finite_b) == (3, 1, 2)
    assert change.max_difference == np.abs(other - one).max()
    np.testing.assert_allclose([change.norm_a, change.norm_b], [np.linalg.norm(one), np.linalg.norm(other)], rtol=1e-12)
    assert "1 number of the changed tensors in A is NaN or infinite; 2 numbers" in diff.verdict()
    equal = next(one for one in diff.layers if one.layer == "layer.1").change
    assert equal is not None
    assert (equal.not_finite_a, equal.not_finite_b) == (1, 2)


def test_a_sign_of_zero_is_a_difference_of_nothing(tmp_path: Path) -> None:
    a, b = normal(), normal()
    a[QUERY][0, 0], b[QUERY][0, 0] = 0.0, -0.0
    change = rows(diff_states(tmp_path, a, b))[QUERY_ID].change
    assert change is not None
    assert (change.differing, change.max_difference, change.relative, change.cosine) == (1, 0.0, 0.0, 1.0)


def test_classes_of_one_family_are_compared_in_what_both_have(tmp_path: Path) -> None:
    state = normal()
    cp.save(tmp_path / "whole", HEAD, state)
    cp.save(tmp_path / "body", "BertModel", {name: value for name, value in state.items() if "cls" not in name}, "h5")
    diff = diff_checkpoints(tmp_path / "whole", tmp_path / "body")
    assert set(states(diff).values()) == {"only in A"}
    assert {one.layer for one in diff.tensors if one.state == "only in A"} == {"nsp", "mlm"}
    assert diff.verdict() == "39 of 39 tensors are equal, bit for bit; 7 tensors only in A (nsp, mlm)."
    back = diff_checkpoints(tmp_path / "body", tmp_path / "whole")
    assert set(states(back).values()) == {"only in B"}
    assert [one.id for one in back.tensors] == [one.id for one in diff.tensors]


def test_a_pooler_that_a_class_does_without_is_compared(tmp_path: Path) -> None:
    state = normal()
    cp.save(
        tmp_path / "mlm", "BertForMaskedLM", {name: value for name, value in state.items() if "seq_rel" not in name}
    )
    cp.save(tmp_path / "body", "BertModel", {name: value for name, value in state.items() if "cls" not in name})
    diff = diff_checkpoints(tmp_path / "mlm", tmp_path / "body")
    assert rows(diff)["pooler.dense.weight"].state == "equal"
    assert {one.layer for one in diff.tensors if one.state != "equal"} == {"mlm"}


def test_a_head_that_lacks_a_tensor_lacks_that_one_alone(tmp_path: Path) -> None:
    state = normal("BertForMaskedLM")
    lacking = {name: value for name, value in state.items() if not name.endswith("transform.dense.bias")}
    diff = diff_states(tmp_path, state, lacking, "BertForMaskedLM")
    assert states(diff) == {"mlm.dense.bias": "only in A"}


def test_fewer_layers_are_layers_of_one_side(tmp_path: Path) -> None:
    state = normal()
    less = {name: value for name, value in state.items() if ".layer.1." not in name}
    diff = diff_states(tmp_path, state, less, changes_b={"num_hidden_layers": 1})
    assert {one.layer for one in diff.tensors if one.state == "only in A"} == {"layer.1"}
    assert [one.key for one in diff.config] == ["num_hidden_layers"]


def test_other_families_and_other_sizes_are_not_alignable(tmp_path: Path) -> None:
    for name, head, changes in (("bert", "BertModel", {}), ("electra", "ElectraModel", {}),
                                ("wide", "BertModel", {"hidden_size": 40})):  # fmt: skip
        cp.save(tmp_path / name, head, cp.state_dict(head, **changes), **changes)
    with pytest.raises(MappingError, match=r"not alignable: .* is a model of BERT and .* one of ELECTRA"):
        diff_checkpoints(tmp_path / "bert", tmp_path / "electra")
    with pytest.raises(MappingError, match=r"not alignable: .* embeddings\.word\.weight: \[101, 35\] and \[101, 40\]"):
        diff_checkpoints(tmp_path / "bert", tmp_path / "wide")
    with pytest.raises(MappingError, match="not alignable"):
        diff_checkpoints(tmp_path / "bert", tmp_path / "bert", against_base=tmp_path / "wide")


def test_families_that_share_a_table_are_alignable(tmp_path: Path) -> None:
    state = normal("RobertaModel")
    cp.save(tmp_path / "a", "RobertaModel", state)
    renamed = {**cp.config("RobertaModel"), "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]}
    cp.save_weights(cp.write_config(tmp_path / "b", renamed), "RobertaModel", state, "safetensors")
    diff = diff_checkpoints(tmp_path / "a", tmp_path / "b")
    assert states(diff) == {}
    assert ("model_type", "roberta", "xlm-roberta") in [(one.key, one.a, one.b) for one in diff.config]
    for head in ("RobertaForMaskedLM", "XLMRobertaForMaskedLM"):
        heads = diff_checkpoints(tmp_path / "a", tmp_path / "b", head=head)
        assert (heads.a.head, heads.b.head) == ("RobertaForMaskedLM", "XLMRobertaForMaskedLM")
    with pytest.raises(RequestError, match="BertModel"):
        diff_checkpoints(tmp_path / "a", tmp_path / "b", head="BertModel")


def test_tensors_of_other_shapes_are_changed_without_numbers(tmp_path: Path) -> None:
    head = "BertForTokenClassification"
    cp.save(tmp_path / "a", head, normal(head))
    cp.save(tmp_path / "b", head, normal(head, labels=13), labels=13)
    found = rows(diff_checkpoints(tmp_path / "a", tmp_path / "b"))["classifier.dense.weight"]
    assert (found.shape_a, found.shape_b, found.state, found.change) == ((11, 35), (13, 35), "changed", None)


def sentence_model(folder: Path, weight: np.ndarray) -> Path:
    """A model of sentence-transformers with one module that has weights, one of them an integer."""
    cp.save(folder, "BertModel", normal("BertModel"))
    kinds = {"": "Transformer", "2_Dense": "Dense"}
    listing = [{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
               for number, (path, kind) in enumerate(kinds.items())]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(listing))
    cp.write_config(folder / "2_Dense", {"in_features": 35})
    tensors = {"linear.weight": weight, "steps": np.array(int(weight[0, 0]), np.int64)}
    (folder / "2_Dense" / "model.safetensors").write_bytes(cp.safetensors_bytes(tensors, {"format": "pt"}))
    return folder


def test_modules_of_sentence_transformers_are_layers_of_their_own(tmp_path: Path) -> None:
    one = np.full((17, 35), 3, np.float32)
    a, b = sentence_model(tmp_path / "a", one), sentence_model(tmp_path / "b", one + 4)
    diff = diff_checkpoints(a, b, against_base=a)
    assert states(diff) == {"2_Dense/linear.weight": "changed", "2_Dense/steps": "changed"}
    assert_numbers(rows(diff)["2_Dense/linear.weight"].change, one, one + 4)
    assert_numbers(rows(diff)["2_Dense/steps"].change, np.array(3), np.array(7))
    assert diff.layers[-1].layer == "2_Dense"
    assert diff.against is not None
    assert diff.against.left_out == ("2_Dense/steps",)
    cp.save(tmp_path / "bare", "BertModel", normal("BertModel"))
    assert states(diff_checkpoints(a, tmp_path / "bare")) == {}


def test_a_part_of_the_model_that_no_table_knows_is_said(tmp_path: Path) -> None:
    state = normal("BertModel")
    extra = {"bert.embeddings.task_type_embeddings.weight": np.ones((3, 35), np.float32)}
    diff = diff_states(tmp_path, {**state, **extra}, state, "BertModel")
    assert diff.equal
    assert diff.omitted == ("A: embeddings.task_type_embeddings.weight",)
    assert "not compared, but a part of the model: A: embeddings.task_type_embeddings.weight" in diff.verdict()


def test_an_aspect_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="ignore is 'weights'"):
        diff_checkpoints(tmp_path, tmp_path, ignore=("weights",))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 1.0, 3.0])
def test_the_cosine_of_a_small_angle_keeps_its_digits(angle: float) -> None:
    one, other = np.array([3.0, 0.0]), 2 * np.array([np.cos(angle), np.sin(angle)])
    found = cosine(3.0, 2.0, float(np.linalg.norm(one - other)))
    assert found == pytest.approx(np.cos(angle), abs=1e-15)
    assert cosine(0.0, 1.0, 1.0) is None
