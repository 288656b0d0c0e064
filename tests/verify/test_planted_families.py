"""Faults planted in every family's checkpoints: each is caught, its first module named, and its cause."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planted_families as planted
import pytest
import reference_models as rm

from bertconv import convert_checkpoint, tasks, verify_checkpoint

Make = Callable[[str, str, dict[str, Any]], Path]


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A folder with a random model of a family, made once for each class and config."""
    made: dict[str, Path] = {}

    def make(kind: str, task: str, settings: dict[str, Any]) -> Path:
        key = json.dumps([kind, task, settings])
        if key not in made:
            folder = made[key] = tmp_path_factory.mktemp(kind)
            layers = {} if kind == "albert" else {"num_hidden_layers": 3}
            rm.model_of(kind, task, **{**layers, **settings}).float().save_pretrained(folder)
        return made[key]

    return make


def verified(kind: str, a: Path, b: Path, level: str = "outputs", oracle: str = "reference") -> Any:
    parity = verify_checkpoint(a, b, level=level, dtypes=("float64",), oracle=oracle)
    assert parity.head.startswith(rm.MODELS[kind][1])
    return parity


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.title)
def test_planted(fault: planted.Fault, sound: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = sound(fault.kind, fault.task, fault.settings)
    b = tmp_path / "b"
    if fault.plant is None:
        shutil.copytree(a, b)
    else:
        convert_checkpoint(a, b, to="tf", verify="none")
    with planted.faulty(fault, b, monkeypatch):
        parity = verified(fault.kind, a, b)
    assert not parity.ok
    assert parity.divergence is not None
    assert (parity.divergence.place, [cause.name for cause in parity.causes][:1]) == (fault.place, [fault.cause])


def test_there_are_enough() -> None:
    counts = Counter(fault.kind for fault in planted.FAULTS)
    assert set(counts) == set(planted.KINDS)
    assert min(counts.values()) >= 15, counts
    assert len({fault.title for fault in planted.FAULTS}) == len(planted.FAULTS)


@pytest.mark.parametrize("oracle", ["reference", "transformers"])
@pytest.mark.parametrize("kind", planted.KINDS)
def test_sound_models_pass(kind: str, oracle: str, sound: Make) -> None:
    """The models that faults are planted in have none."""
    folder = sound(kind, tasks.MASKED_LM, {})
    parity = verified(kind, folder, folder, "gradients", oracle)
    assert parity.ok, parity.failure_text()
    assert parity.gradients
    assert parity.measurements


HEADS = [head for head in rm.HEADS if head[0] in planted.KINDS]
TASKS = sorted({task for _, task in HEADS})


def level_of(kind: str, task: str) -> str:
    """The gradients of every other class in turn, so that every family and every task has some.

    That both sides have transformers' gradients in every class, test_reference_families and test_every_family hold.
    """
    is_alone = [each for _, each in HEADS].count(task) == 1
    return "gradients" if is_alone or (planted.KINDS.index(kind) + TASKS.index(task)) % 2 else "outputs"


@pytest.mark.parametrize(("kind", "task"), HEADS)
def test_converted_models_pass(kind: str, task: str, sound: Make, tmp_path: Path) -> None:
    """The TensorFlow classes compute what the reference does, and their gradients are the same."""
    folder, level = sound(kind, task, {}), level_of(kind, task)
    convert_checkpoint(folder, tmp_path / "tf", to="tf", verify="none")
    parity = verified(kind, folder, tmp_path / "tf", level)
    assert parity.ok, parity.failure_text()
    assert bool(parity.gradients) == (level == "gradients")
    assert parity.measurements


def test_every_family_and_task_has_its_gradients_compared() -> None:
    compared = [head for head in HEADS if level_of(*head) == "gradients"]
    assert {kind for kind, _ in compared} == set(planted.KINDS)
    assert {task for _, task in compared} == set(TASKS)
