"""What the doctor says of transformers 5, held to the transformers that is installed."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
import sick

from bertconv import diagnose
from bertconv.manage.doctor.programs import TRANSFORMERS_5

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.skipif(
    int(transformers.__version__.split(".")[0]) < 5, reason="the doctor's claims are about transformers 5"
)


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def loaded(folder: Path, name: str = sick.LM) -> tuple[Any, dict[str, Any]]:
    model, info = getattr(transformers, name).from_pretrained(folder, output_loading_info=True)
    return model, info


def is_random(folder: Path, name: str = sick.LM, tensor: str = sick.QUERY) -> bool:
    """Whether a model that was loaded has none of the file's numbers in one of its matrices."""
    model, info = loaded(folder, name)
    ours = sick.state()[tensor] if name == sick.LM else None
    found = dict(model.named_parameters())[tensor].detach().numpy()
    if ours is not None and np.array_equal(found, ours):
        return False
    return bool(info["missing_keys"])


def ids(folder: Path) -> set[str]:
    """The findings that concern transformers 5."""
    return {finding.id for finding in diagnose(folder, deep=True, programs=[TRANSFORMERS_5.key]).findings}


@pytest.mark.parametrize(
    ("made", "name"),
    [(sick.tf_names, "other-frameworks-names"), (sick.metadata(...), "other-frameworks-names"),
     (sick.prefixed("module."), "unread-prefix"), (sick.prefixed("_orig_mod."), "unread-prefix"),
     (sick.prefixed("model."), "unread-prefix"), (sick.prefixed("0.auto_model."), "unread-prefix"),
     (sick.prefixed("student."), "unread-prefix"), (sick.prefixed("bert."), ""), (sick.old_norms, ""),
     (sick.healthy, ""), (sick.stored_twice, "")],
)  # fmt: skip
def test_it_returns_a_random_model_where_the_doctor_says_so(tmp_path: Path, made: sick.Made, name: str) -> None:
    folder = made(tmp_path / "in")
    assert is_random(folder) == bool(name)
    found = ids(folder) & {"other-frameworks-names", "unread-prefix"}
    assert found == ({name} if name else set())
    if name:
        [command] = {one.command for one in diagnose(folder).findings if one.id == name}
        assert cp.call(*shlex.split(command)[1:]) == 0
        assert not is_random(tmp_path / "in-repaired")


def test_it_makes_a_tokenizer_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = sick.bare(tmp_path / "in")
    made = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(made) == 5
    assert made.tokenize("the model") == ["[UNK]", "[UNK]"]
    assert "no-tokenizer" in ids(folder)
    assert "no-tokenizer" not in ids(folder / "model.safetensors")


def test_it_initialises_norms_of_other_names_that_have_gamma(tmp_path: Path) -> None:
    folder = sick.old_norms_of_others(tmp_path / "in")
    lacking = loaded(folder, "DistilBertForMaskedLM")[1]["missing_keys"]
    assert {name for name in lacking if "layer_norm" in name}
    assert not {name for name in lacking if "LayerNorm" in name}
    assert "norm-names" in ids(folder)


@pytest.mark.parametrize("made", [sick.no_head, sick.other_head, sick.half_a_head])
def test_it_initialises_a_head_that_is_missing(tmp_path: Path, made: sick.Made) -> None:
    folder = made(tmp_path / "in")
    lacking = set(loaded(folder, sick.CLASSIFIER)[1]["missing_keys"])
    [finding] = [one for one in diagnose(folder).findings if one.id in ("head-missing", "tensors-missing")]
    assert lacking == set(finding.tensors)


def test_it_makes_a_random_pooler(tmp_path: Path) -> None:
    folder = sick.no_pooler(tmp_path / "in")
    assert set(loaded(folder, sick.BASE)[1]["missing_keys"]) == {"pooler.dense.weight", "pooler.dense.bias"}
    assert "pooler-missing" in ids(folder)


@pytest.mark.parametrize(
    ("made", "error", "name"),
    [(sick.tf_file, OSError, "tensorflow-file"), (sick.other_file_name, OSError, "file-name"),
     (sick.vocabulary, RuntimeError, "vocabulary-rows"), (sick.other_sizes, RuntimeError, "config-sizes"),
     (sick.other_config_name, RuntimeError, "config-name"), (sick.no_config, RuntimeError, "no-config")],
)  # fmt: skip
def test_it_raises_where_the_doctor_says_so(tmp_path: Path, made: sick.Made, error: type[Exception], name: str) -> None:
    folder = made(tmp_path / "in")
    with pytest.raises(error):
        loaded(folder)
    assert name in ids(folder)


@pytest.mark.parametrize(
    ("made", "name"),
    [
        (sick.labels_not_said, "label-rows"),
        (sick.other_labels, "label-rows"),
        (sick.labels_disagree, "labels-disagree"),
    ],
)
def test_it_refuses_another_number_of_labels(tmp_path: Path, made: sick.Made, name: str) -> None:
    folder = made(tmp_path / "in")
    with pytest.raises(RuntimeError):
        loaded(folder, sick.CLASSIFIER)
    assert name in ids(folder)


def test_its_automatic_classes_need_a_model_type(tmp_path: Path) -> None:
    folder = sick.no_model_type(tmp_path / "in")
    with pytest.raises(ValueError, match="model_type"):
        transformers.AutoModel.from_pretrained(folder)
    assert "no-model-type" in ids(folder)


@pytest.mark.parametrize(("made", "dtype"), [(sick.narrower, "float16"), (sick.wider, "float32")])
def test_it_loads_in_the_type_that_the_config_says(tmp_path: Path, made: sick.Made, dtype: str) -> None:
    folder = made(tmp_path / "in")
    assert {str(one.dtype) for one in loaded(folder)[0].parameters()} == {f"torch.{dtype}"}
    assert "config-type" in ids(folder)


def test_it_gives_mixed_tensors_one_type(tmp_path: Path) -> None:
    folder = sick.mixed(tmp_path / "in")
    assert len({one.dtype for one in loaded(folder)[0].parameters()}) == 1
    assert "mixed-types" in ids(folder)


def test_it_makes_numbers_infinite_where_the_config_says_float16(tmp_path: Path) -> None:
    def spoil(values: np.ndarray) -> None:
        values[1, 1] = 1e6

    folder = sick.changed(sick.QUERY, spoil)(tmp_path / "in")
    cp.write_config(folder, cp.config(sick.LM, dtype="float16"))
    assert torch.isinf(dict(loaded(folder)[0].named_parameters())[sick.QUERY]).any()
    assert "loads-as-infinite" in ids(folder)


def test_it_keeps_copies_that_differ(tmp_path: Path) -> None:
    folder = sick.copies_differ(tmp_path / "in")
    model = loaded(folder)[0]
    words, decoder = model.bert.embeddings.word_embeddings.weight, model.cls.predictions.decoder.weight
    assert torch.equal(words * 2, decoder)
    assert "copies-differ" in ids(folder)


@pytest.mark.parametrize("container", ["bin", "sharded"])
def test_it_reads_the_file_that_the_doctor_says(tmp_path: Path, container: str) -> None:
    assert not is_random(sick.beside(container, 2)(tmp_path / "in"))


def test_a_strange_tensor_is_left_out(tmp_path: Path) -> None:
    folder = sick.strange_part(tmp_path / "in")
    assert loaded(folder)[1]["unexpected_keys"]
    assert "unknown-tensors" in ids(folder)
