"""A tokenizer without weights: of a folder, a file or the Hub only its own files are looked at."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from hub_server import COMMIT, HubServer

from bertconv.errors import HubError, RequestError
from bertconv.source import SourceOptions
from bertconv.source.tokenizer_folder import open_tokenizer

DEFAULTS = SourceOptions()
FILES = {"vocab.txt": b"[PAD]\n", "tokenizer_config.json": b"{}", "model.safetensors": b"?", "config.json": b"{}",
         "labels.json": b"{}", "README.md": b""}  # fmt: skip


def test_a_folder(tmp_path: Path) -> None:
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    found = open_tokenizer(tmp_path, DEFAULTS)
    assert found.sidecars == ("tokenizer_config.json", "vocab.txt")
    assert (found.weights.files, found.config, found.revision) == ((), None, None)


@pytest.mark.parametrize("name", ["vocab.txt", "tokenizer.json"])
def test_a_file(tmp_path: Path, name: str) -> None:
    for other in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / other).write_text(json.dumps({}))
    found = open_tokenizer(tmp_path / name, DEFAULTS)
    assert found.sidecars == (name,)
    with closing(found.open(name)) as file:
        assert file.read(0, 2) == b"{}"


@pytest.mark.parametrize("options", [DEFAULTS, SourceOptions(subfolder="of the checkpoint", variant="fp16")])
def test_the_hub(hub: HubServer, options: SourceOptions) -> None:
    hub.add_repo("org/bert", FILES)
    found = open_tokenizer("org/bert@main", options)
    assert sorted(hub.downloaded()) == ["tokenizer_config.json", "vocab.txt"]
    assert (found.given, found.revision) == ("org/bert@main", COMMIT)


def test_the_hub_does_not_know_it(hub: HubServer) -> None:
    with pytest.raises(HubError):
        open_tokenizer("org/none", DEFAULTS)


@pytest.mark.parametrize(
    ("name", "problem"), [("empty", "has no tokenizer files"), ("a.txt", "is not called"), ("no such", "no such file")]
)
def test_what_is_none(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("[PAD]")
    with pytest.raises(RequestError, match=problem):
        open_tokenizer(str(tmp_path / name), DEFAULTS)
