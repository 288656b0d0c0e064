"""Checkpoints of two families: no comparison where they cannot be the same model, and none is taken for another."""

from __future__ import annotations

import shutil
from pathlib import Path

import checkpoints
import pytest

from bertconv.convert import convert_checkpoint
from bertconv.errors import ParityError, UnsupportedCheckpoint
from bertconv.families import families
from bertconv.verification import check_checkpoint, verify_checkpoint

BASES = {model_type: next(iter(family.tasks)) for model_type, family in families().items()}


def saved(folder: Path, head: str, **changes: object) -> Path:
    return checkpoints.save(folder, head, checkpoints.state_dict(head, **changes), **changes)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    changes = {"mpnet": {"relative_attention_num_buckets": 32}}  # its class of TensorFlow takes no other number
    return {
        model_type: saved(root / model_type, head, **changes.get(model_type, {})) for model_type, head in BASES.items()
    }


@pytest.mark.parametrize("a", BASES)
def test_models_of_two_families_cannot_be_the_same(models: dict[str, Path], a: str) -> None:
    for b, there in families().items():
        if there.path == families()[a].path:
            continue
        with pytest.raises(ParityError) as caught:
            verify_checkpoint(models[a], models[b], level="weights")
        assert caught.value.exit_code == 1
        assert f"{models[a]} is a model of {families()[a].title} and " in caught.value.message
        assert f"{models[b]} one of {there.title}: they cannot be the same model." in caught.value.message


def test_the_command_says_so_and_ends_with_1(models: dict[str, Path]) -> None:
    done = checkpoints.run("verify", models["roberta"], models["bert"], "--quiet")
    assert done.code == 1
    assert "is a model of RoBERTa and" in done.err
    assert "Traceback" not in done.err


def test_nor_where_the_class_of_one_is_undecided(tmp_path: Path, models: dict[str, Path]) -> None:
    head = "RobertaForTokenClassification"
    undecided = checkpoints.save(tmp_path / "b", head, checkpoints.state_dict(head), architectures=None)
    with pytest.raises(ParityError, match="they cannot be the same model"):
        verify_checkpoint(models["bert"], undecided, level="weights")


@pytest.mark.parametrize("head", ["RobertaModel", "RobertaForMaskedLM", "RobertaForSequenceClassification"])
@pytest.mark.parametrize(("duplicate", "prefix"), [("xlm-roberta", "XLMRoberta"), ("camembert", "Camembert")])
def test_twins_are_compared_by_task(tmp_path: Path, head: str, duplicate: str, prefix: str) -> None:
    a = saved(tmp_path / "a", head)
    b, other = tmp_path / "b", prefix + head.removeprefix("Roberta")
    shutil.copytree(a, b)
    checkpoints.write_config(b, {**checkpoints.config_of(a), "model_type": duplicate, "architectures": [other]})
    parity = verify_checkpoint(a, b, level="weights")
    assert parity.ok, parity.failure_text()
    assert parity.head == other
    assert verify_checkpoint(b, a, level="weights").head == head


def test_twins_of_other_tasks_are_a_difference(tmp_path: Path) -> None:
    a = saved(tmp_path / "a", "RobertaForMaskedLM")
    b = saved(tmp_path / "b", "CamembertForSequenceClassification")
    parity = verify_checkpoint(a, b, level="weights")
    assert not parity.ok
    assert [(one.key, one.a, one.b) for one in parity.config] == [
        ("architectures", "RobertaForMaskedLM", "CamembertForSequenceClassification")
    ]


# An output is held to its own record, whatever Keras calls a family's classes


@pytest.mark.parametrize("model_type", BASES)
def test_an_output_in_tensorflow_is_unchanged(models: dict[str, Path], model_type: str, tmp_path: Path) -> None:
    convert_checkpoint(models[model_type], tmp_path / "tf", to="tf", verify="weights")
    found = check_checkpoint(tmp_path / "tf")
    assert found.ok, found.changes
    assert found.tensors == len(checkpoints.read_h5(tmp_path / "tf" / "tf_model.h5"))


def test_a_model_that_keras_saved_is_unchanged_by_another_scope(models: dict[str, Path], tmp_path: Path) -> None:
    """Keras calls an instance of TFXLMRobertaModel `tfxlm_roberta_model`, the second one `tfxlm_roberta_model_1`."""
    pytest.importorskip("tensorflow")
    from bertconv import TFXLMRobertaModel

    model = TFXLMRobertaModel.from_pretrained(models["xlm-roberta"])
    for name in ("saved", "again"):
        model.save_pretrained(tmp_path / name)
        assert checkpoints.run("verify", tmp_path / name).code == 0
        model = TFXLMRobertaModel.from_pretrained(tmp_path / name)
    changed = checkpoints.read_h5(tmp_path / "again" / "tf_model.h5")
    name = next(iter(changed))
    changed[name] = changed[name] + 1
    checkpoints.write_h5(tmp_path / "again" / "tf_model.h5", changed, checkpoints.Keras("tfxlm_roberta_model_1"))
    done = checkpoints.run("verify", tmp_path / "again")
    assert done.code == 1


# A class of TensorFlow that is given a checkpoint of another family


@pytest.mark.parametrize("model_type", BASES)
def test_a_class_of_another_family_refuses_with_both_facts(models: dict[str, Path], model_type: str) -> None:
    pytest.importorskip("tensorflow")
    import bertconv

    assert type(bertconv.TFAutoModel.from_pretrained(models[model_type])).__name__ == f"TF{BASES[model_type]}"
    other = "electra" if model_type == "bert" else "bert"
    with pytest.raises(UnsupportedCheckpoint) as caught:
        getattr(bertconv, f"TF{BASES[other]}").from_pretrained(models[model_type])
    assert f"model_type is '{model_type}', not '{other}'" in caught.value.message
    assert f"TF{BASES[model_type]}, or a TFAuto class" in caught.value.hint


def test_a_config_of_another_family_beside_the_weights_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    import bertconv

    folder = saved(tmp_path / "a", "RobertaForMaskedLM")
    checkpoints.write_config(folder, checkpoints.config("BertForMaskedLM"))
    for name in ("TFBertForMaskedLM", "TFAutoModelForMaskedLM"):
        with pytest.raises(UnsupportedCheckpoint, match="is 'bert', and the tensors are named as those of RoBERTa"):
            getattr(bertconv, name).from_pretrained(folder)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "albert"])
def test_no_token_types_are_compared_too(tmp_path: Path, kind: str) -> None:
    source = saved(tmp_path / "a", BASES[kind], type_vocab_size=0)
    assert convert_checkpoint(source, tmp_path / "b", to="pt", verify="outputs").ok
