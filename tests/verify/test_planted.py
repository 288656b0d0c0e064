"""Faults planted in converted models: every one is caught, its first module named, and its cause where it has one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import planted
import pytest
import tiny_models

from bertconv import convert_checkpoint, verify_checkpoint

FAULTS = [*planted.weight_faults(), *planted.config_faults(), *planted.class_faults()]
SMALL = "bit "
"""One bit of one number may be too little to show in any output; the weights show it."""


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any] | None], Path]:
    """A folder with `pt` and `tf`: a random model and its conversion, made once for each class and config."""
    made: dict[str, Path] = {}

    def make(head: str, settings: dict[str, Any] | None) -> Path:
        key = json.dumps([head, settings])
        if key not in made:
            folder = made[key] = tmp_path_factory.mktemp("planted")
            relative = {name: value for name, value in (settings or {}).items() if name == "position_embedding_type"}
            plain = {name: value for name, value in (settings or {}).items() if name not in relative}
            model = tiny_models.torch_model(head, std=0.3, num_hidden_layers=3, **{"is_decoder": False, **plain})
            tiny_models.save(model.float(), folder / "pt")
            convert_checkpoint(folder / "pt", folder / "tf", to="tf", head=head, verify="none")
        return made[key]

    return make


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_planted(
    fault: planted.Fault,
    converted: Callable[[str, dict[str, Any] | None], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sound = converted(fault.head, fault.settings)
    shutil.copytree(sound / "tf", tmp_path / "tf")
    with planted.faulty(fault, tmp_path / "tf", monkeypatch):
        parity = verify_checkpoint(sound / "pt", tmp_path / "tf", level="outputs", dtypes=("float64",), head=fault.head)
    assert not parity.ok
    assert not parity.outputs_ok or fault.name.startswith(SMALL)
    assert parity.divergence is not None
    assert parity.divergence.place == fault.place
    assert [cause.name for cause in parity.causes][:1] == ([fault.cause] if fault.cause else [])


def test_there_are_enough() -> None:
    assert len(FAULTS) >= 40
    assert len({fault.name for fault in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("head", ["BertForPreTraining", "BertLMHeadModel"])
def test_sound_models_pass(head: str, converted: Callable[[str, dict[str, Any] | None], Path]) -> None:
    """The models that faults are planted in have none."""
    sound = converted(head, None)
    parity = verify_checkpoint(sound / "pt", sound / "tf", level="gradients", head=head)
    assert parity.ok, parity.failure_text()
    assert parity.divergence is None
    assert parity.causes == ()
