"""Sound conversions of every kind of model are the same model, whichever side is in which framework."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from checkpoints import HEADS
from compared import Models

import bertconv
from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.errors import RequestError, UnsupportedCheckpoint
from bertconv.verify import outputs
from bertconv.verify.parity import Parity

EXACT = 1e-13
"""Far below what would pass: both sides compute in float64."""

SIDES = {"pt": "safetensors", "tf": "h5"}
REFERENCE, CLASSES = "reference on torch", "on TensorFlow"


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def _keep_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector takes a tenth of a second where frameworks are loaded, and models this small need none."""
    monkeypatch.setattr(outputs, "release_memory", lambda: None)


def same(a: Path, b: Path, **options: Any) -> Parity:
    """Compared in float64, and found to be the same."""
    parity = verify_checkpoint(a, b, level="outputs", **{"dtypes": ("float64",), **options})
    assert parity.ok, parity.failure_text()
    assert parity.verdict().startswith("The same model: ")
    assert (parity.divergence, parity.causes, parity.config) == (None, (), ())
    worst = parity.worst("float64")
    assert worst is not None
    assert worst.b < EXACT
    return parity


EVERY = [(head, a, b) for a, b in (("pt", "tf"), ("tf", "pt")) for head in HEADS]
"""Each class runs in each framework on each side, which knows nothing of the other one."""
ALIKE = [(head, a, a) for a in ("tf", "pt") for head in ("BertForPreTraining", "BertLMHeadModel")]


@pytest.mark.parametrize(("head", "a", "b"), [*EVERY, *ALIKE])
def test_every_head(models: Models, head: str, a: str, b: str) -> None:
    parity = same(models(head, SIDES[a]), models(head, SIDES[b]))
    assert parity.head == parity.a.head == parity.b.head == head
    assert {tensor.state for tensor in parity.tensors} == {"equal"}
    for side, dialect in ((parity.a, a), (parity.b, b)):
        assert side.dialect == dialect
        assert (REFERENCE if dialect == "pt" else CLASSES) in side.framework
    assert [case.name for case in parity.cases] == ["padded", "one token", "full length"]
    assert parity.a.digest == parity.b.digest != ""


def places(parity: Parity) -> set[str]:
    return {one.place for one in parity.measurements}


def kind_of(parity: Parity, kind: str) -> set[str]:
    return {one.place for one in parity.measurements if one.kind == kind}


def test_everything_is_compared(models: Models) -> None:
    parity = same(models("BertForPreTraining"), models("BertForPreTraining", "h5"))
    assert kind_of(parity, "hidden state") == {"embeddings", "layer.0", "layer.1"}
    assert kind_of(parity, "attentions") == {"layer.0.attentions", "layer.1.attentions"}
    assert kind_of(parity, "output") == {"prediction_logits", "seq_relationship_logits"}
    modules = {f"layer.{number}.{name}" for number in (0, 1) for name in (
        "query", "key", "value", "attention", "attention_out", "attention_norm", "ffn_in", "activation", "ffn_out",
        "ffn_norm",
    )}  # fmt: skip
    assert kind_of(parity, "module") >= modules | {"embeddings.norm", "pooler.dense", "mlm.dense", "nsp.dense"}


VARIANTS = {
    "decoder": ("BertLMHeadModel", {"is_decoder": True}),
    "cross-attention": ("BertLMHeadModel", {"is_decoder": True, "add_cross_attention": True}),
    "decoder body": ("BertModel", {"is_decoder": True, "add_cross_attention": True}),
    "relative key": ("BertForMaskedLM", {"position_embedding_type": "relative_key"}),
    "relative key and query": ("BertModel", {"position_embedding_type": "relative_key_query"}),
    "relative decoder": ("BertLMHeadModel", {"is_decoder": True, "position_embedding_type": "relative_key_query"}),
    "untied decoder": ("BertForMaskedLM", {"tie_word_embeddings": False}),
    "untied pre-training": ("BertForPreTraining", {"tie_word_embeddings": False}),
    "no pooler": ("BertModel", {"without": "pooler"}),
    "another activation": ("BertForMaskedLM", {"hidden_act": "gelu_new"}),
    "another epsilon": ("BertModel", {"layer_norm_eps": 1e-3}),
    "one token type": ("BertModel", {"type_vocab_size": 1}),
    "three positions": ("BertForTokenClassification", {"max_position_embeddings": 3}),
    "one word": ("BertModel", {"vocab_size": 1}),
    "no layer but one": ("BertForSequenceClassification", {"num_hidden_layers": 1}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind(models: Models, variant: str) -> None:
    head, changes = VARIANTS[variant]
    parity = same(models(head, **changes), models(head, "h5", **changes))
    assert parity.head == head


def test_cross_attention_is_compared(models: Models) -> None:
    head, changes = VARIANTS["cross-attention"]
    found = places(same(models(head, **changes), models(head, "h5", **changes)))
    assert {"layer.1.cross_query", "layer.0.cross_attention_out", "layer.1.cross_attentions"} <= found


def test_a_model_without_pooler_shows_none(models: Models) -> None:
    parity = same(models(without="pooler"), models("BertModel", "h5", without="pooler"))
    assert kind_of(parity, "output") == {"last_hidden_state"}


# Element types


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
@pytest.mark.parametrize(("a", "b"), [("safetensors", "tf-safetensors"), ("tf-safetensors", "safetensors")])
def test_checkpoints_of_every_type(models: Models, dtype: str, a: str, b: str) -> None:
    parity = same(models("BertForMaskedLM", a, dtype=dtype), models("BertForMaskedLM", b, dtype=dtype))
    assert {tensor.state for tensor in parity.tensors} == {"equal"}
    assert parity.a.dtypes == {dtype: len(parity.tensors)}


@pytest.mark.parametrize(("a", "b"), [("pt", "tf"), ("tf", "pt")])
def test_computed_in_every_type(models: Models, a: str, b: str) -> None:
    """The limits hold in all of them, and A is not exact in the short ones."""
    dtypes = ("float16", "bfloat16", "float32")
    parity = same(models("BertForPreTraining", SIDES[a]), models("BertForPreTraining", SIDES[b]), dtypes=dtypes)
    assert parity.dtypes == ("float64", "float32", "bfloat16", "float16")
    own = {dtype: worst.a for dtype in parity.dtypes if (worst := parity.worst(dtype)) is not None}
    assert own["float64"] == 0 < own["float32"] < 1e-5 < own["float16"] < own["bfloat16"] < 0.1
    assert "in bfloat16 B is" in parity.verdict()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("to", ["tf", "pt"])
def test_converted_to_another_type(models: Models, dtype: str, to: str, tmp_path: Path) -> None:
    """A is rounded as B was before it is run: what is left is the same function."""
    source = models("BertForMaskedLM", SIDES["pt" if to == "tf" else "tf"])
    convert_checkpoint(source, tmp_path / "b", to=to, dtype=dtype)
    parity = same(source, tmp_path / "b", dtypes=("float64", "float32"))
    assert {tensor.state for tensor in parity.tensors} == {"cast"}
    assert f"{len(parity.tensors)} equal once A is rounded to {dtype}" in parity.verdict()
    assert parity.a.digest == ""
    assert parity.b.digest != ""


def test_back_from_a_shorter_type(models: Models, tmp_path: Path) -> None:
    """B stores the same numbers in a longer type."""
    source = models("BertModel", dtype="bfloat16")
    convert_checkpoint(source, tmp_path / "b", to="tf", dtype="float32")
    assert {tensor.state for tensor in same(source, tmp_path / "b").tensors} == {"cast"}


# Other witnesses


@pytest.mark.parametrize("head", ["BertModel", "BertForPreTraining", "BertForQuestionAnswering"])
def test_transformers_as_oracle(models: Models, head: str) -> None:
    parity = same(models(head), models(head, "h5"), oracle="transformers", dtypes=("float64", "float32"))
    assert parity.a.framework.startswith("transformers 5.")
    assert parity.versions.keys() >= {"torch", "transformers", "TensorFlow", "Keras"}


def test_transformers_has_no_relative_positions(models: Models) -> None:
    head, changes = VARIANTS["relative key"]
    with pytest.raises(UnsupportedCheckpoint, match="relative positions") as caught:
        same(models(head, **changes), models(head, "h5", **changes), oracle="transformers")
    assert "--oracle" in caught.value.hint


def test_saved_model(models: Models, tmp_path: Path) -> None:
    source = models("BertForSequenceClassification")
    model = bertconv.TFBertForSequenceClassification.from_pretrained(source)
    model.save_pretrained(tmp_path / "b", saved_model=True)
    parity = same(source, tmp_path / "b", saved_model=True)
    served = [one for one in parity.measurements if one.place.startswith("SavedModel ")]
    assert [(one.place, one.dtype, one.kind) for one in served] == [("SavedModel logits", "float32", "output")]
    assert 0 < served[0].b < 1e-5
    assert served[0].limit is not None


def test_a_saved_model_of_other_weights_is_seen(models: Models, tmp_path: Path) -> None:
    for name, seed in (("one", 0), ("other", 1)):
        model = bertconv.TFBertModel.from_pretrained(models(seed=seed))
        model.save_pretrained(tmp_path / name, saved_model=True)
    shutil.rmtree(tmp_path / "one" / "saved_model")
    shutil.copytree(tmp_path / "other" / "saved_model", tmp_path / "one" / "saved_model")
    parity = verify_checkpoint(models(), tmp_path / "one", level="outputs", saved_model=True)
    assert parity.weights_ok
    assert not parity.ok
    assert parity.divergence is not None
    assert parity.divergence.place.startswith("SavedModel ")


def test_no_saved_model(models: Models) -> None:
    with pytest.raises(RequestError, match="holds no SavedModel"):
        same(models(), models("BertModel", "h5"), saved_model=True)
