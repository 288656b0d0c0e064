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

from bertconv import tasks, verify_checkpoint
from bertconv.table_files import tables_folder

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


def verified(kind: str, a: Path, b: Path, level: str = "outputs") -> Any:
    return verify_checkpoint(
        a, b, level=level, dtypes=("float64",), table=tables_folder() / f"{rm.family_of(kind)}.toml"
    )


@pytest.mark.parametrize("fault", planted.FAULTS, ids=lambda fault: fault.title)
def test_planted(fault: planted.Fault, sound: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a = sound(fault.kind, fault.task, fault.settings)
    b = shutil.copytree(a, tmp_path / "b")
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


@pytest.mark.parametrize("kind", planted.KINDS)
def test_sound_models_pass(kind: str, sound: Make) -> None:
    """The models that faults are planted in have none."""
    folder = sound(kind, tasks.MASKED_LM, {})
    parity = verified(kind, folder, folder, "gradients")
    assert parity.ok, parity.failure_text()
    assert parity.gradients
