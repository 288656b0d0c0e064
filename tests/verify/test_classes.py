"""Classes of different tasks with the same tensors: what the two configs name is compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import checkpoints as cp
import pytest
from checkpoints import Outcome

from bertconv import convert_checkpoint, verify_checkpoint
from bertconv.verify.junit import junit_report
from bertconv.verify.parity import ConfigDifference, Parity

Cli = Callable[..., Outcome]
SEQUENCE, TOKEN, CHOICE = "BertForSequenceClassification", "BertForTokenClassification", "BertForMultipleChoice"
PRETRAINING, MASKED, CAUSAL = "BertForPreTraining", "BertForMaskedLM", "BertLMHeadModel"


def pair(folder: Path, tensors: str, a: str | None, b: str | None, labels: int = 3) -> tuple[Path, Path]:
    """The same tensors twice, those of a class, with configs that name these."""
    state = cp.state_dict(tensors, labels=labels)
    names = {str(number): f"label {number}" for number in range(labels)}
    saved = (
        cp.save(folder / place, tensors, state, architectures=named and [named], id2label=names, labels=labels)
        for place, named in (("a", a), ("b", b))
    )
    return next(saved), next(saved)


def compared(folder: Path, tensors: str, a: str | None, b: str | None, **options: str) -> Parity:
    labels = 1 if CHOICE in (a, b) else 3
    return verify_checkpoint(*pair(folder, tensors, a, b, labels), level="weights", digest=False, **options)


@pytest.mark.parametrize(
    ("tensors", "a", "b"),
    [
        (SEQUENCE, SEQUENCE, TOKEN), (SEQUENCE, TOKEN, SEQUENCE), (SEQUENCE, SEQUENCE, CHOICE),
        (SEQUENCE, CHOICE, TOKEN), (MASKED, MASKED, CAUSAL), (SEQUENCE, f"TF{SEQUENCE}", f"TF{TOKEN}"),
        (SEQUENCE, SEQUENCE, "MyForTokenClassification"),
    ],
)  # fmt: skip
def test_another_task_is_another_model(tmp_path: Path, tensors: str, a: str, b: str) -> None:
    one, other = (name.removeprefix("TF").replace("MyFor", "BertFor") for name in (a, b))
    parity = compared(tmp_path, tensors, a, b)
    assert all(row.ok for row in parity.tensors)
    assert not parity.ok
    assert parity.config == (ConfigDifference("architectures", one, other),)
    assert parity.verdict() == f"Not the same model: A is a {one} and B a {other} by their configs."
    assert f"architectures is {one!r} in A and {other!r} in B" in junit_report(parity)


@pytest.mark.parametrize(
    ("tensors", "a", "b"),
    [
        (SEQUENCE, SEQUENCE, f"TF{SEQUENCE}"), (SEQUENCE, SEQUENCE, None), (SEQUENCE, None, TOKEN),
        (SEQUENCE, SEQUENCE, "Another"), (SEQUENCE, SEQUENCE, "BertModel"), (SEQUENCE, "BertModel", TOKEN),
        (PRETRAINING, PRETRAINING, MASKED), (PRETRAINING, "BertForNextSentencePrediction", PRETRAINING),
    ],
)  # fmt: skip
def test_a_part_or_an_unknown_name_is_not(tmp_path: Path, tensors: str, a: str | None, b: str | None) -> None:
    assert compared(tmp_path, tensors, a, b).config == ()


def test_the_causal_rule_is_told_beside_the_class(tmp_path: Path) -> None:
    a, b = pair(tmp_path, MASKED, MASKED, CAUSAL)
    cp.write_config(b, {**cp.config_of(b), "is_decoder": True})
    parity = verify_checkpoint(a, b, level="weights", digest=False)
    assert [one.key for one in parity.config] == ["architectures", "is_decoder"]
    assert parity.verdict().endswith(f"B a {CAUSAL} by their configs, and the configs differ in is_decoder.")


def test_a_given_class_decides(tmp_path: Path) -> None:
    assert compared(tmp_path, SEQUENCE, SEQUENCE, TOKEN, head=TOKEN).ok


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    a, b = pair(tmp_path, SEQUENCE, SEQUENCE, TOKEN)
    done = cli("verify", a, b, "--level", "weights", "--json", tmp_path / "out.json")
    assert done.code == 1
    assert json.loads((tmp_path / "out.json").read_text())["config"] == [
        {"key": "architectures", "a": SEQUENCE, "b": TOKEN}
    ]
    assert cli("verify", a, b, "--level", "weights", "--head", SEQUENCE).code == 0


@pytest.mark.parametrize(("head", "same"), [("BertModel", True), (TOKEN, False)])
def test_a_conversion_to_another_class(tmp_path: Path, head: str, same: bool) -> None:
    """Its output says what it is; one of another task is held to its source with --head."""
    a, _ = pair(tmp_path, SEQUENCE, SEQUENCE, None)
    convert_checkpoint(a, tmp_path / "out", to="tf-safetensors", head=head, verify="weights")
    assert verify_checkpoint(a, tmp_path / "out", level="weights").ok == same
    assert verify_checkpoint(a, tmp_path / "out", level="weights", head=head).ok
