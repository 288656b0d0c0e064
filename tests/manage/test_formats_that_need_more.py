"""Verbs that make no tensor up, and formats whose programs need more than the class has or keep tables otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv import attach_head, average_checkpoints, convert_checkpoint, model_digest, resize_vocabulary
from bertconv.errors import UnsupportedCheckpoint

ROBERTA, BERT = "RobertaForMaskedLM", "BertForMaskedLM"
VERBS: dict[str, Callable[[Path, Path, str | None], object]] = {
    "average": lambda src, out, to: average_checkpoints([src, src], out, to=to),
    "resize": lambda src, out, to: resize_vocabulary(src, out, pad_to=64, to=to),
    "attach": lambda src, out, to: attach_head(src, src, out, to=to),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    facts = {ROBERTA: {"layer_norm_eps": 1e-5, "type_vocab_size": 1}, BERT: {}}
    return {head: cp.save(folder / head, head, cp.state_dict(head, **more), **more) for head, more in facts.items()}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("head", "to", "said"),
    [
        (ROBERTA, "keras-hub", "would not come back"),
        (BERT, "keras-hub", "cannot do without"),
        (BERT, "garden", "cannot do without"),
    ],
)
def test_what_only_convert_can_write_is_refused(
    sources: dict[str, Path], tmp_path: Path, verb: str, head: str, to: str, said: str
) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=said) as refusal:
        VERBS[verb](sources[head], tmp_path / "out", to)
    assert "bertconv convert" in refusal.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("to", ["keras-hub", "garden"])
def test_what_has_it_already_is_rewritten(sources: dict[str, Path], tmp_path: Path, to: str) -> None:
    convert_checkpoint(sources[BERT], tmp_path / "in", to=to)
    average_checkpoints([tmp_path / "in"] * 2, tmp_path / "out")
    assert convert_checkpoint(tmp_path / "out", tmp_path / "back", to="pt").digest == (
        convert_checkpoint(tmp_path / "in", tmp_path / "own", to="pt").digest
    )


def untied(folder: Path) -> Path:
    tensors = cp.state_dict(BERT)
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"] * 2
    tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"]
    return cp.save(folder, BERT, tensors, tie_word_embeddings=False)


def test_what_is_left_of_an_untied_model_is_one(tmp_path: Path) -> None:
    src = untied(tmp_path / "in")
    there = convert_checkpoint(src, tmp_path / "out", to="tf1", allow_loss=True)
    assert any("computes with the embeddings" in note for note in there.notes)
    assert cp.config_of(tmp_path / "out")["tie_word_embeddings"] is True
    assert convert_checkpoint(tmp_path / "out", tmp_path / "back", to="pt").digest == there.digest


def test_a_bias_that_a_format_holds_once_counts_as_often(tmp_path: Path) -> None:
    src = untied(tmp_path / "in")
    there = convert_checkpoint(src, tmp_path / "out", to="flax")
    assert there.digest == convert_checkpoint(src, tmp_path / "own", to="pt").digest == model_digest(src).digest
