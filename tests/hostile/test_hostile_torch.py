"""Hostile PyTorch files on the command line: nothing runs, nothing else is opened or written, refusals are typed."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
from pathlib import Path

import checkpoints as cp
import pytest
from hostile_case import CONFIG, attack, watched
from hostile_torch import CASES, LIVE
from payloads import GADGETS, OPCODES, fire
from torch_model import MAKERS, legacy, model, zipped


@pytest.mark.parametrize("name", CASES)
def test_hostile_torch_files(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    attack(cli, tmp_path, earlier, CASES[name])


def test_the_model_around_the_payloads_is_sound(cli, tmp_path: Path, earlier: Path) -> None:
    """What is refused is refused for its one flaw: without it the file converts, to the same weights as torch's own."""
    for name, make in MAKERS.items():
        folder = cp.write_config(tmp_path / name, CONFIG)
        (folder / "pytorch_model.bin").write_bytes(make(model()))
        assert cli("inspect", folder).code == 0
        assert cli("pt2tf", folder, tmp_path / f"out-{name}").code == 0
        cp.assert_same(cp.written(tmp_path / f"out-{name}"), cp.written(earlier))


def test_every_payload_fires_under_an_unrestricted_loader(tmp_path: Path) -> None:
    """The positive control: without it a payload that never worked would count as one that was stopped."""
    asked = {}
    for number, (name, case) in enumerate(LIVE.items()):
        root = tmp_path / str(number)
        asked[name] = (case.control, case.write(root) / case.file, root / "canary")
    (tmp_path / "work").mkdir()
    fired = fire(asked, tmp_path / "work")
    assert [name for name in LIVE if not fired[name]] == []


def test_there_are_enough_torch_cases() -> None:
    assert len(CASES) >= 80
    assert len(LIVE) >= 2 * len(GADGETS) + 2 * len(OPCODES)
    assert zipped(model())[:2] == b"PK"
    assert legacy(model())[:1] == b"\x80"


def test_the_watch_sees_what_it_is_for(tmp_path: Path) -> None:
    """Its own positive control: each thing that no case may do is noticed, and the model's own files are not."""
    (tmp_path / "own").write_bytes(b"")
    with watched(tmp_path) as seen:
        (tmp_path / "own").read_bytes()
        with pytest.raises(FileNotFoundError):
            (tmp_path / ".." / "foreign").read_bytes()
        Path("/etc/hostname").exists()
        os.close(os.open("/etc", os.O_RDONLY))
        subprocess.run(["true"], check=True)
        os.system("true")
        pickle.loads(b"cos\ngetcwd\n.")
        socket.socket().close()
        (tmp_path / "new").mkdir()
    kinds = {each.partition(" ")[0] for each in seen}
    assert kinds >= {"open", "subprocess.Popen", "os.system", "pickle.find_class", "socket.__new__", "os.mkdir"}
    assert [each for each in seen if each.startswith("open")][:2] == [f"open {tmp_path}/../foreign", "open /etc"]
    assert not any(each.endswith("/own") for each in seen)
    with watched(tmp_path) as seen:
        pass
    assert seen == []
