"""KerasHub's presets: there and back, what is lost, their config files, their tokenizers, and who may write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from checkpoints import Outcome, Tensors, native, open_file, save, state_dict, write_config
from hypothesis import given
from hypothesis import strategies as st

from bertconv.containers.stored import StoredTensor
from bertconv.containers.views import folded, padded, zeros
from bertconv.convert import convert_checkpoint
from bertconv.errors import UnsupportedCheckpoint
from bertconv.manage.hash import model_digest
from bertconv.manifest import read_manifest

CLI = Callable[..., Outcome]
EPSILON = {"layer_norm_eps": 1e-5}
TANH = {"hidden_act": "gelu_new"}
CLASSES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "ElectraModel"), TANH),
    **dict.fromkeys(("AlbertModel", "AlbertForMaskedLM", "AlbertForSequenceClassification"), TANH),
    "DistilBertModel": {}, "DistilBertForMaskedLM": {}, "DistilBertForSequenceClassification": {},
    **dict.fromkeys(("RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"), EPSILON),
    **dict.fromkeys(("XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"), EPSILON),
}  # fmt: skip
"""Every class that both have -> what KerasHub computes of its config."""


def held(head: str, dtype: str = "float32") -> Tensors:
    """Tensors of a class such as a preset holds without a loss: no pooler of RoBERTa's, zeros in what it leaves out."""
    found = {}
    for name, value in state_dict(head, dtype, **CLASSES[head]).items():
        if "oberta" in head:
            if "pooler" in name:
                continue
            if name.endswith("token_type_embeddings.weight"):
                value[:] = 0
            if name.endswith("position_embeddings.weight"):
                value[:2] = 0
        found[name] = value
    return found


def saved(folder: Path, head: str, dtype: str = "float32") -> Path:
    return save(folder, head, native(head, held(head, dtype)), **CLASSES[head])


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("head", CLASSES)
def test_there_and_back_is_bit_identical(head: str, tmp_path: Path) -> None:
    source = saved(tmp_path / "source", head)
    there = convert_checkpoint(source, tmp_path / "preset", to="keras-hub")
    back = convert_checkpoint(tmp_path / "preset", tmp_path / "back", to="pt")
    one, other = content(source), content(tmp_path / "back")
    from safetensors.numpy import load

    first, second = load(one["model.safetensors"]), load(other["model.safetensors"])
    assert {name: value.tobytes() for name, value in first.items()} == {
        name: value.tobytes() for name, value in second.items()
    }
    assert json.loads(one["config.json"]) == json.loads(other["config.json"])
    assert there.digest == back.digest == model_digest(tmp_path / "preset").digest == model_digest(source).digest
    assert read_manifest(tmp_path / "preset")["digest"] == there.digest
    assert {part.source for part in back.left_out} <= {"layers/dense/vars/0", "layers/dense/vars/1",
                                                       "layers/dense_1/vars/0", "layers/dense_1/vars/1"}  # fmt: skip


@pytest.mark.parametrize("head", ["BertForSequenceClassification", "RobertaForMaskedLM", "ElectraModel"])
def test_files_are_apart_as_keras_hub_reads_them(head: str, tmp_path: Path) -> None:
    convert_checkpoint(saved(tmp_path / "source", head), tmp_path / "preset", to="keras-hub")
    paths = {
        name: set[str]() for name in ("model.weights.h5", "task.weights.h5") if (tmp_path / "preset" / name).exists()
    }
    for name, found in paths.items():
        with h5py.File(tmp_path / "preset" / name) as file:
            file.visititems(lambda path, one, to=found: to.add(path) if isinstance(one, h5py.Dataset) else None)
    assert all(path.startswith("layers/") for found in paths.values() for path in found)
    assert ("task.weights.h5" in paths) == (head != "ElectraModel")
    body = json.loads((tmp_path / "preset" / "config.json").read_text())
    assert body["registered_name"] == f"keras_hub>{body['class_name']}"
    assert body["config"]["hidden_dim"] == 35
    assert body["config"]["max_sequence_length"] == (35 if "oberta" in head else 37)
    if head == "BertForSequenceClassification":
        assert "layers/dense/vars/0" in paths["model.weights.h5"] & paths["task.weights.h5"]
        task = json.loads((tmp_path / "preset" / "task.json").read_text())
        assert (task["class_name"], task["config"]["num_classes"]) == ("BertTextClassifier", 11)
        assert task["config"]["backbone"] == body


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_what_a_fold_loses_is_refused_and_named_then_done_when_asked(dtype: str, tmp_path: Path) -> None:
    head = "RobertaForMaskedLM"
    tensors = state_dict(head, dtype, **EPSILON)
    source = save(tmp_path / "source", head, tensors, **EPSILON)
    with pytest.raises(UnsupportedCheckpoint, match="position_embeddings") as raised:
        convert_checkpoint(source, tmp_path / "preset", to="keras-hub")
    assert "token_type_embeddings" in str(raised.value)
    there = convert_checkpoint(source, tmp_path / "preset", to="keras-hub", allow_loss=True)
    back = convert_checkpoint(tmp_path / "preset", tmp_path / "back", to="pt")
    again = convert_checkpoint(tmp_path / "back", tmp_path / "again", to="keras-hub")
    assert there.digest == back.digest == again.digest
    assert any("come back as zeros" in note for note in there.notes)
    position, types = (tensors[f"roberta.embeddings.{name}_embeddings.weight"] for name in ("position", "token_type"))
    with h5py.File(tmp_path / "preset" / "model.weights.h5") as file:
        stored = file["layers/token_and_position_embedding/position_embedding/vars/0"][()]
    assert stored.tobytes() == (position[2:] + types[0]).tobytes()


def test_a_pooler_that_keras_hub_lacks_is_refused(tmp_path: Path) -> None:
    source = save(
        tmp_path / "source", "RobertaModel", native("RobertaModel", state_dict("RobertaModel", **EPSILON)), **EPSILON
    )
    with pytest.raises(UnsupportedCheckpoint, match="pooler"):
        convert_checkpoint(source, tmp_path / "preset", to="keras-hub")


@pytest.mark.parametrize(
    ("head", "changes", "said"),
    [("BertModel", {"position_embedding_type": "relative_key"}, "position_embedding_type"),
     ("BertModel", {"hidden_act": "relu"}, "relu"), ("BertModel", {"layer_norm_eps": 1e-5}, "layer_norm_eps"),
     ("RobertaForMaskedLM", {"pad_token_id": 0, **EPSILON}, "pad_token_id"),
     ("BertForQuestionAnswering", {}, "no such class")],
)  # fmt: skip
def test_a_model_that_keras_hub_cannot_compute_is_refused(
    head: str, changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    source = save(tmp_path / "source", head, native(head, state_dict(head, **changes)), **changes)
    with pytest.raises(UnsupportedCheckpoint, match=said):
        convert_checkpoint(source, tmp_path / "preset", to="keras-hub")
    assert not (tmp_path / "preset").exists()


def test_electra_without_a_projection(tmp_path: Path) -> None:
    """Its pooler is then the first dense layer, as BERT's is."""
    changes = {"embedding_size": 35, "hidden_act": "gelu_new"}
    tensors = native("ElectraModel", state_dict("ElectraModel", **changes))
    source = save(tmp_path / "source", "ElectraModel", tensors, **changes)
    convert_checkpoint(source, tmp_path / "preset", to="keras-hub")
    with h5py.File(tmp_path / "preset" / "model.weights.h5") as file:
        assert file["layers/dense/vars/0"].shape == (35, 35)
        assert "layers/dense_1" not in file
    back = convert_checkpoint(tmp_path / "preset", tmp_path / "back", to="pt")
    assert back.digest == model_digest(source).digest


# Presets that KerasHub wrote


def preset(folder: Path, class_name: str = "BertBackbone", task: str = "BertTextClassifier") -> Path:
    """A preset as KerasHub saves it, by hand: configs as objects of Keras, weights in two files."""
    keys = {"vocabulary_size": 101, "num_layers": 2, "num_heads": 5, "hidden_dim": 40, "intermediate_dim": 53,
            "dropout": 0.1, "max_sequence_length": 37, "num_segments": 3, "name": "body"}  # fmt: skip
    body = {
        "module": "keras_hub",
        "class_name": class_name,
        "config": keys,
        "registered_name": f"keras_hub>{class_name}",
    }
    head = {"module": "keras_hub", "class_name": task, "config": {"backbone": body, "num_classes": 11},
            "registered_name": f"keras_hub>{task}"}  # fmt: skip
    write_config(folder, body)
    write_config(folder, head, "task.json")
    write_config(folder, {"tasks": ["MaskedLM"]}, "metadata.json")
    seen = json.loads((Path(__file__).parent / "data" / "names_keras_hub.json").read_text())["bert_cls"]
    rng = np.random.default_rng(0)
    with h5py.File(folder / "model.weights.h5", "w") as model, h5py.File(folder / "task.weights.h5", "w") as own:
        for path, shape in seen.items():
            inner = path.partition("_backbone/")[2]
            (model if inner else own)[inner or path] = rng.standard_normal(shape).astype(np.float32)
        own["optimizer/vars/0"] = np.int64(7)
    return folder


def test_a_preset_is_read(tmp_path: Path, cli: CLI) -> None:
    folder = preset(tmp_path / "preset")
    report = convert_checkpoint(folder, tmp_path / "out", to="pt")
    assert report.head == "BertForSequenceClassification"
    keys = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (keys["model_type"], keys["hidden_act"], keys["hidden_size"]) == ("bert", "gelu_new", 40)
    assert [one.source for one in report.left_out] == ["optimizer/vars/0"] or "optimizer" in str(report.left_out)
    from safetensors.numpy import load_file

    found = load_file(tmp_path / "out" / "model.safetensors")
    with h5py.File(folder / "model.weights.h5") as model, h5py.File(folder / "task.weights.h5") as own:
        assert (found["bert.pooler.dense.weight"] == model["layers/dense/vars/0"][()].T).all()
        assert (found["classifier.weight"] == own["layers/dense/vars/0"][()].T).all()
        query = model["layers/transformer_encoder_1/_self_attention_layer/query_dense/vars/0"][()]
    assert (found["bert.encoder.layer.1.attention.self.query.weight"] == query.reshape(40, 40).T).all()
    assert cli("inspect", folder).code == 0


def test_a_preset_of_an_unknown_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="DebertaV3Backbone"):
        convert_checkpoint(preset(tmp_path / "preset", "DebertaV3Backbone"), tmp_path / "out", to="pt")


def test_a_tokenizer_goes_there_and_comes_back(tmp_path: Path) -> None:
    source = saved(tmp_path / "source", "BertModel")
    words = "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{number}" for number in range(96))]) + "\n"
    (source / "vocab.txt").write_text(words)
    (source / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    (source / "tokenizer.json").write_text(json.dumps({"model": {"type": "WordPiece", "vocab": {"[PAD]": 0}}}))
    convert_checkpoint(source, tmp_path / "preset", to="keras-hub")
    own = json.loads((tmp_path / "preset" / "tokenizer.json").read_text())
    assert (own["class_name"], own["config"]["lowercase"]) == ("BertTokenizer", False)
    assert (tmp_path / "preset" / "assets" / "tokenizer" / "vocabulary.txt").read_text() == words
    convert_checkpoint(tmp_path / "preset", tmp_path / "back", to="pt")
    one, other = content(source), content(tmp_path / "back")
    names = ("vocab.txt", "tokenizer_config.json", "tokenizer.json")
    assert {name: one[name] for name in names} == {name: other[name] for name in names}
    assert "assets/tokenizer/vocabulary.txt" not in other


# Tables that are kept in another form


@given(
    rows=st.integers(3, 9), width=st.integers(1, 7), skip=st.integers(0, 2),
    dtype=st.sampled_from(["float32", "float64"]),
    start=st.integers(0, 20), length=st.integers(0, 20), is_zero=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_views_give_what_numpy_does(  # noqa: PLR0917  (one argument per size)
    rows: int,
    width: int,
    skip: int,
    dtype: str,
    start: int,
    length: int,
    is_zero: bool,
    seed: int,
    tmp_path_factory: Any,
) -> None:
    rng = np.random.default_rng(seed)
    table, other = (rng.standard_normal((size, width)).astype(dtype) for size in (rows, 2))
    table[0, 0] = -0.0
    if is_zero:
        other[:] = 0
    path = tmp_path_factory.mktemp("views") / "file"
    path.write_bytes(table.tobytes() + other.tobytes())
    file, item = open_file(path), table.itemsize
    inner = StoredTensor("table", dtype, table.shape, file, 0)
    added = StoredTensor("added", dtype, other.shape, file, table.nbytes)
    summed = table[skip:] if is_zero else table[skip:] + other[0]
    views = {
        folded(inner, added, (rows - skip, width)): summed,
        padded(inner, (rows + skip, width)): np.concatenate([np.zeros((skip, width), dtype), table]),
        zeros(inner, (rows, width)): np.zeros((rows, width), dtype),
    }
    for view, wanted in views.items():
        first = min(start, wanted.size)
        count = min(length, wanted.size - first)
        buffer = bytearray(count * item)
        view.read_into(memoryview(buffer), first * item)
        assert bytes(buffer) == wanted.reshape(-1)[first : first + count].tobytes()
    lost = folded(inner, added, (rows - skip, width)).lost()
    assert lost == (("table",) if skip else ()) + (() if is_zero else ("added",))
