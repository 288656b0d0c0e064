"""Checks of sources and configs that no other test would miss."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import pytest
from hub_server import HubServer

from bertconv.config import BertConfig
from bertconv.config.content import read_json
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint, HubError, RequestError, UnsafeCheckpoint
from bertconv.source import SourceOptions, open_source, weights
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.sidecars import sort_out

STORED = "ab" + "7" * 62
FILES = {"config.json": b"{}", "model.safetensors": b"weights"}


@pytest.mark.parametrize(
    "place", [f"ab/{STORED}", f"zz/{STORED}", f"ab/deep/{STORED}", STORED, "ab/abc", f"AB/{STORED.upper()}"]
)
def test_the_shared_store_has_one_place_for_each_file(tmp_path: Path, place: str) -> None:
    store = tmp_path / "hub/blobs"
    snapshot = tmp_path / "hub/models--org--bert/snapshots/1234"
    snapshot.mkdir(parents=True)
    (store / place).parent.mkdir(parents=True)
    (store / place).write_bytes(b"shared")
    (store / ".huggingface-shared-blobs").touch()
    (snapshot / "vocab.txt").symlink_to(store / place)
    if place == f"ab/{STORED}":
        open_in(snapshot, "vocab.txt").close()
    else:
        with pytest.raises(UnsafeCheckpoint):
            open_in(snapshot, "vocab.txt")


@pytest.mark.parametrize("name", ["tokenizer:1.json", "tokenizer\\1.json"])
def test_names_that_are_paths_elsewhere_are_not_carried(name: str) -> None:
    assert sort_out([name, "tokenizer.json"], ()) == (("tokenizer.json",), (name,))


@pytest.mark.parametrize("name", ["tokenizer.index.json", "LICENSE.bin", "LICENSE.safetensors"])
def test_weights_and_indexes_are_not_carried_whatever_they_are_called(name: str) -> None:
    assert sort_out([name, "LICENSE.txt"], ()) == (("LICENSE.txt",), (name,))


def test_files_that_did_not_arrive(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo("org/bert", FILES)
    monkeypatch.setattr("bertconv.source.hub._download", lambda *_: None)
    with pytest.raises(HubError, match=r"files did not arrive: config\.json"):
        open_source("org/bert")


@pytest.mark.parametrize("commit", ["../../../elsewhere", "/elsewhere", "main", "", "7" * 39])
def test_a_commit_that_is_a_path(hub: HubServer, tmp_path: Path, commit: str) -> None:
    """It names a folder of the cache."""
    hub.add_repo("org/bert", FILES, commit)
    with pytest.raises(HubError, match="is no commit") as caught:
        open_source("org/bert")
    assert caught.value.hint == "Check HF_ENDPOINT."
    assert hub.downloaded() == []
    assert not (tmp_path / "elsewhere").exists()


def test_an_id_that_ends_like_a_file_is_one_where_no_such_folder_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = SourceOptions(local_files_only=True, cache_dir=tmp_path / "cache")
    with pytest.raises(HubError):
        open_source("org/model.bin", options)
    (tmp_path / "org").mkdir()
    with pytest.raises(RequestError, match="no such file"):
        open_source("org/model.bin", options)


class Spoken:
    def __init__(self, text: str) -> None:
        self.text = text

    def to_json_string(self) -> str:
        return self.text


@pytest.mark.parametrize("text", ["{", '{"model_type": "bert", "layer_norm_eps": NaN}', "[" * 100_000])
def test_configs_that_speak_no_json(text: str) -> None:
    with pytest.raises(RequestError, match="the config holds what JSON cannot"):
        BertConfig.coerce(Spoken(text))


def test_values_that_nest_too_deeply_for_json() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RequestError, match="extra cannot be written as JSON"):
        BertConfig(extra=deep)


def test_json_of_a_size_that_nothing_has(tmp_path: Path) -> None:
    (tmp_path / "file.json").write_text('{"key": "text"}')
    assert read_json(tmp_path / "file.json", 15) == {"key": "text"}
    with pytest.raises(DamagedCheckpoint, match="is empty or larger than 14 bytes"):
        read_json(tmp_path / "file.json", 14)


def test_a_large_index_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"a": "b"}}')
    monkeypatch.setattr(weights, "INDEX_BYTES", path.stat().st_size)
    assert weights.read_index(SourceFile(path)) == {"a": "b"}
    monkeypatch.setattr(weights, "INDEX_BYTES", path.stat().st_size - 1)
    with pytest.raises(DamagedCheckpoint, match="is empty or larger than"):
        weights.read_index(SourceFile(path))


def test_a_config_that_is_exchanged_later_is_the_one_that_was_checked(tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", "BertModel", cp.state_dict("BertModel"))
    source = open_source(src)
    config = (src / "config.json").read_bytes()
    (src / "config.json").unlink()
    (tmp_path / "other.json").write_bytes(config.replace(b"35", b"36"))
    (src / "config.json").symlink_to(tmp_path / "other.json")
    assert source.config_keys()["hidden_size"] == 35
