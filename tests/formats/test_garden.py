"""Model Garden's checkpoints written and read: round trips, the graph of objects, what has no place, the config beside."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from bundles import elements, open_bundle
from checkpoints import DECODER, assert_same, read_safetensors, save, state_dict

from bertconv import convert_checkpoint
from bertconv.containers.bundle.graph import VARIABLE, graph_bytes, names_of, read_graph
from bertconv.containers.container import Links
from bertconv.errors import UnsupportedCheckpoint
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.table import table_for

GARDEN = load_dialects().by_name["garden"]
HEADS = [head for family in ("bert", "albert") for head in table_for(family).in_dialect(GARDEN).heads]
ONE_LAYER = {"num_hidden_groups": 1, "inner_group_num": 1}
"""The ALBERT that there is in Model Garden."""
PREFIX = "bert_model.ckpt"


def changes_of(head: str) -> dict[str, int]:
    return ONE_LAYER if head.startswith("Albert") else {}


@pytest.fixture
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    head = request.param
    return save(tmp_path / "pt", head, state_dict(head, **changes_of(head)), **changes_of(head))


@pytest.mark.parametrize("source", HEADS, indirect=True)
def test_there_and_back_is_the_same_file(source: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "garden", tmp_path / "back"
    convert_checkpoint(source, there, to="garden")
    convert_checkpoint(there, back, to="pt")
    (first, _), (last, _) = (read_safetensors(folder / "model.safetensors") for folder in (source, back))
    assert_same(last, first)
    one, two = (json.loads((folder / "bertconv.json").read_text()) for folder in (there, back))
    assert one["digest"] == two["digest"] == one["parents"][0]["digest"]


@pytest.mark.parametrize("source", ["BertForPreTraining", "AlbertForPreTraining"], indirect=True)
def test_the_file_is_also_what_a_training_begins_from(source: Path, tmp_path: Path) -> None:
    """Under one key a tensor, at every place where Model Garden's programs look for it an object."""
    convert_checkpoint(source, tmp_path / "garden", to="garden")
    graph = _graph(tmp_path / "garden" / PREFIX)
    pooler = (
        "layer_with_weights-6" if "Albert" in str(json.loads((source / "config.json").read_text())) else "_pooler_layer"
    )
    key = f"encoder/{pooler}/kernel{VARIABLE}"
    assert _at(graph, "encoder", pooler, "kernel") == key
    assert _at(graph, "model", "encoder_network", pooler, "kernel") == key
    assert _at(graph, "model", "classification_heads", "0", "dense", "kernel") == key
    assert _at(graph, "next_sentence.pooler_dense", "kernel") == key
    assert _at(graph, "masked_lm", "output_bias/bias") == f"masked_lm/output_bias.Sbias{VARIABLE}"
    assert _at(graph, "model", "masked_lm", "dense", "bias") == f"masked_lm/dense/bias{VARIABLE}"
    assert _object(graph, "model", "encoder_network") == _object(graph, "encoder")
    own, other = _object(graph, "encoder", pooler), _object(graph, "model", "classification_heads", "0", "dense")
    assert own != other


@pytest.mark.parametrize("source", ["BertForTokenClassification"], indirect=True)
def test_a_token_classifier_has_its_weights_where_it_looks_for_them(source: Path, tmp_path: Path) -> None:
    report = convert_checkpoint(source, tmp_path / "garden", to="garden")
    graph = _graph(tmp_path / "garden" / PREFIX)
    assert _at(graph, "model", "classifier", "kernel") == f"model/classifier/out_proj/kernel{VARIABLE}"
    assert "classification_heads" not in graph[_object(graph, "model")][0]
    assert any("makes pooler whether or not" in note for note in report.notes)
    with closing(open_bundle(tmp_path / "garden" / PREFIX)) as header:
        fresh = {one.name: one for one in header.tensors}["encoder/_pooler_layer/kernel"]
        assert np.frombuffer(elements(fresh), np.float32).any()


@pytest.mark.parametrize("source", ["BertModel"], indirect=True)
def test_query_keeps_its_heads_apart(source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "garden", to="garden")
    tensors, _ = read_safetensors(source / "model.safetensors")
    weight = tensors["encoder.layer.1.attention.self.query.weight"]
    with closing(open_bundle(tmp_path / "garden" / PREFIX)) as header:
        found = {one.name: one for one in header.tensors}
        query = found["encoder/_transformer_layers/1/_attention_layer/_query_dense/kernel"]
        assert query.shape == (35, 5, 7)
        assert elements(query) == weight.T.tobytes()
        out = found["encoder/_transformer_layers/1/_attention_layer/_output_dense/kernel"]
        assert out.shape == (5, 7, 35)


@pytest.mark.parametrize("source", ["BertModel", "AlbertModel"], indirect=True)
def test_the_config_of_its_programs_lies_beside(source: Path, tmp_path: Path) -> None:
    convert_checkpoint(source, tmp_path / "garden", to="garden")
    own = next(
        path for path in (tmp_path / "garden").iterdir() if path.name in ("bert_config.json", "albert_config.json")
    )
    said = json.loads(own.read_text())
    assert said["vocab_size"] == 101
    assert said["num_attention_heads"] == 5


def test_a_decoder_of_its_own_has_no_place(tmp_path: Path) -> None:
    head = "BertForMaskedLM"
    tensors = state_dict(head)
    tensors[DECODER] = tensors[DECODER] + 1 if DECODER in tensors else np.ones((101, 35), np.float32)
    source = save(tmp_path / "pt", head, tensors, tie_word_embeddings=False)
    with pytest.raises(UnsupportedCheckpoint, match="no place"):
        convert_checkpoint(source, tmp_path / "garden", to="garden")
    assert not (tmp_path / "garden").exists()


def test_classes_that_are_not_there_are_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "pt", "BertForMultipleChoice", state_dict("BertForMultipleChoice"))
    with pytest.raises(UnsupportedCheckpoint, match="no such class"):
        convert_checkpoint(source, tmp_path / "garden", to="garden")


def test_links_to_what_is_not_there_are_passed_over() -> None:
    links = Links(same=(("b", "nothing"), ("c/d", "a"), ("a", "x")), copies=(("x/copy", "a"), ("nowhere/copy", "a")))
    graph = read_graph(graph_bytes(["a/kernel", "x/kernel"], links))
    assert graph.keys() == {f"a/kernel{VARIABLE}", f"x/kernel{VARIABLE}"}
    assert names_of(graph, graph, lambda key: key) == {key: key.removesuffix(VARIABLE) for key in graph}


Node = tuple[dict[str, int], str]


def _graph(prefix: Path) -> list[Node]:
    """Objects of a file as TensorFlow's own schema has them: names of those below, and the key of the variable."""
    schema = pytest.importorskip("tensorflow.core.protobuf.trackable_object_graph_pb2")
    from tensorflow.python.training.py_checkpoint_reader import NewCheckpointReader

    found = schema.TrackableObjectGraph()
    found.ParseFromString(NewCheckpointReader(str(prefix)).get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
    return [
        (
            {child.local_name: child.node_id for child in node.children},
            next((attribute.checkpoint_key for attribute in node.attributes), ""),
        )
        for node in found.nodes
    ]


def _object(graph: list[Node], *path: str) -> int:
    at = 0
    for part in path:
        at = graph[at][0][part]
    return at


def _at(graph: list[Node], *path: str) -> str:
    return graph[_object(graph, *path)][1]
