"""Checkpoints on the Hub, from a server on the loopback address through the real huggingface_hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import distributed_folders as dcp
import huggingface_hub
import pytest
from hub_server import COMMIT, HubServer
from huggingface_hub import constants

from bertconv.errors import HubError, RequestError, UnsupportedCheckpoint
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.reading import open_header

CONFIG = b'{"model_type": "bert"}'
DEFAULTS = SourceOptions()
H5_FIRST = SourceOptions(prefer=("hdf5", "safetensors", "torch"))
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = json.dumps({"weight_map": {"a": SHARDS[1], "b": SHARDS[0]}}).encode()
OTHER = "b" * 40
BERT = {
    ".gitattributes": b"*",
    "README.md": b"a model",
    "config.json": CONFIG,
    "flax_model.msgpack": b"flax",
    "model.safetensors": b"safe",
    "onnx/model.onnx": b"onnx",
    "pytorch_model.bin": b"torch",
    "tf_model.h5": b"hdf5",
    "vocab.txt": b"[PAD]",
}


def content(source: Source, name: str) -> bytes:
    file = source.open(name)
    try:
        return file.read(0, file.size)
    finally:
        file.close()


def test_one_format_with_config_and_sidecars_is_downloaded(hub: HubServer) -> None:
    hub.add_repo("org/bert", BERT)
    source = open_source("org/bert")
    assert hub.downloaded() == ["config.json", "model.safetensors", "vocab.txt"]
    assert source.weights.files == ("model.safetensors",)
    assert source.sidecars == ("vocab.txt",)
    assert source.not_carried == ("README.md", "flax_model.msgpack", "pytorch_model.bin", "tf_model.h5")
    others = "pytorch_model.bin, tf_model.h5, flax_model.msgpack"
    assert source.notes == (f"model.safetensors is used; {others} are there too",)
    assert source.revision == COMMIT
    assert source.given == "org/bert"
    assert source.config == source.folder / "config.json"
    assert content(source, "model.safetensors") == b"safe"


@pytest.mark.parametrize(
    ("gone", "options", "wanted"),
    [
        ((), H5_FIRST, "tf_model.h5"),
        (("model.safetensors",), SourceOptions(), "pytorch_model.bin"),
        (("tf_model.h5",), H5_FIRST, "model.safetensors"),
        (("model.safetensors", "pytorch_model.bin"), SourceOptions(), "tf_model.h5"),
    ],
)
def test_order_of_containers(hub: HubServer, gone: tuple[str, ...], options: SourceOptions, wanted: str) -> None:
    hub.add_repo("bert", {name: data for name, data in BERT.items() if name not in gone})
    assert open_source("bert", options).weights.files == (wanted,)
    assert hub.downloaded() == sorted(["config.json", wanted, "vocab.txt"])


def test_only_shards_that_the_index_names(hub: HubServer) -> None:
    # Of different content: the cache keeps equal files once.
    files = {name: name.encode() for name in (*SHARDS, "model-00001-of-00003.safetensors")}
    hub.add_repo("bert", {"config.json": CONFIG, "model.safetensors.index.json": INDEX, **files})
    source = open_source("bert")
    assert hub.downloaded() == ["config.json", *SHARDS, "model.safetensors.index.json"]
    assert source.weights.files == SHARDS
    assert source.weights.index == "model.safetensors.index.json"
    assert source.weights.weight_map == {"a": SHARDS[1], "b": SHARDS[0]}
    assert source.not_carried == ("model-00001-of-00003.safetensors",)
    assert content(source, SHARDS[0]) == SHARDS[0].encode()


def test_a_distributed_checkpoint(hub: HubServer, tmp_path: Path) -> None:
    """The index first, then those files alone that hold the model."""
    import torch

    tree = {"model": {"a.weight": torch.arange(8.0), "b.weight": torch.ones(2, 2)}, "optim": {"x": torch.ones(6)}}
    folder = dcp.write(tmp_path / "in", tree, halves_of_a_and_all_of_x, ranks=3)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub.add_repo("bert", {"config.json": CONFIG, "__9_0.distcp": b"left over", "README.md": b"", **files})
    source = open_source("bert")
    assert hub.downloaded() == [".metadata", "__0_0.distcp", "__1_0.distcp", "config.json"]
    assert source.weights.files == ("__0_0.distcp", "__1_0.distcp")
    assert any("ignored: __9_0.distcp" in note for note in source.notes)
    assert source.revision == COMMIT
    with closing(open_header(source)) as header:
        assert {tensor.name: tensor.shape for tensor in header.tensors} == {"a.weight": (8,), "b.weight": (2, 2)}
    hub.add_repo("lacking", {"config.json": CONFIG, **{name: files[name] for name in (".metadata", "__0_0.distcp")}})
    with pytest.raises(HubError, match=r"__1_0\.distcp"):
        open_source("lacking")


def halves_of_a_and_all_of_x(name: str, shape: tuple[int, ...]) -> list[dcp.Box]:
    parts = {"model.a.weight": 2, "optim.x": 3}.get(name, 1)
    return dcp.along(0, parts)(name, shape)


def test_shard_that_the_repository_lacks(hub: HubServer) -> None:
    hub.add_repo("bert", {"config.json": CONFIG, "model.safetensors.index.json": INDEX, SHARDS[0]: b""})
    with pytest.raises(HubError, match=SHARDS[1]):
        open_source("bert")
    assert SHARDS[0] not in hub.downloaded()


def test_transformers_weights(hub: HubServer) -> None:
    config = b'{"transformers_weights": "odd.safetensors"}'
    hub.add_repo("bert", {**BERT, "config.json": config, "odd.safetensors": b"odd"})
    assert content(open_source("bert"), "odd.safetensors") == b"odd"
    assert hub.downloaded() == ["config.json", "odd.safetensors", "vocab.txt"]


def test_names_are_not_patterns(hub: HubServer) -> None:
    hub.add_repo("bert", {"config.json": CONFIG, "we[a]*.bin": b"1", "wea/b.bin": b"2"})
    assert open_source("bert").weights.files == ("we[a]*.bin",)
    assert hub.downloaded() == ["config.json", "we[a]*.bin"]


@pytest.mark.parametrize(
    ("src", "options"),
    [
        ("bert@v1", SourceOptions()),
        ("bert", SourceOptions(revision="v1")),
        ("bert@v1", SourceOptions(revision="v1")),
        (f"bert@{OTHER}", SourceOptions()),
        ("bert@refs/pr/1", SourceOptions()),
    ],
)
def test_revision(hub: HubServer, src: str, options: SourceOptions) -> None:
    hub.add_repo("bert", BERT)
    hub.add_repo("bert", {**BERT, "model.safetensors": b"v1"}, OTHER, ("v1", "refs/pr/1"))
    source = open_source(src, options)
    assert source.revision == OTHER
    assert content(source, "model.safetensors") == b"v1"


def test_subfolder(hub: HubServer) -> None:
    files = {f"a/b/{name}": data for name, data in BERT.items()}
    hub.add_repo("bert", {**files, "config.json": b"{}", "model.safetensors": b"root"})
    source = open_source("bert", SourceOptions(subfolder="a/b"))
    assert hub.downloaded() == ["a/b/config.json", "a/b/model.safetensors", "a/b/vocab.txt"]
    assert source.folder.parts[-2:] == ("a", "b")
    assert content(source, "model.safetensors") == b"safe"
    with pytest.raises(HubError, match="no folder 'c'"):
        open_source("bert", SourceOptions(subfolder="c"))
    with pytest.raises(RequestError):
        open_source("bert", SourceOptions(subfolder="../c"))


def test_variant(hub: HubServer) -> None:
    hub.add_repo("bert", {**BERT, "model.fp16.safetensors": b"half"})
    open_source("bert", SourceOptions(variant="fp16"))
    assert hub.downloaded() == ["config.json", "model.fp16.safetensors", "vocab.txt"]
    with pytest.raises(RequestError, match="There are: fp16"):
        open_source("bert", SourceOptions(variant="bf16"))


def test_sentence_transformers(hub: HubServer) -> None:
    extra = {"modules.json": b"[]", "1_Pooling/config.json": b"{}", "2_Dense/config.json": b"{}",
             "2_Dense/model.safetensors": b"dense"}  # fmt: skip
    hub.add_repo("bert", {**BERT, **extra})
    source = open_source("bert")
    assert source.sidecars == ("1_Pooling/config.json", "2_Dense/config.json", "modules.json", "vocab.txt")
    assert "weights in 2_Dense are not converted" in source.notes
    assert "2_Dense/model.safetensors" not in hub.downloaded()
    assert content(source, "1_Pooling/config.json") == b"{}"


def test_weights_of_listed_modules(hub: HubServer) -> None:
    """Whatever their folder is called; the second file of weights stays where it is."""
    listing = [{"path": path, "type": f"sentence_transformers.models.{kind}"}
               for path, kind in (("", "Transformer"), ("2_Dense", "Dense"), ("own/dense", "Dense"))]  # fmt: skip
    extra = {"modules.json": json.dumps(listing).encode(), "2_Dense/pytorch_model.bin": b"bin",
             "2_Dense/model.safetensors": b"dense", "own/dense/pytorch_model.bin": b"other",
             "own/dense/config.json": b"{}", "own/other.json": b"{}"}  # fmt: skip
    hub.add_repo("bert", {**BERT, **extra})
    source = open_source("bert")
    assert source.modules is not None
    assert source.modules.weights == ("2_Dense/model.safetensors", "own/dense/pytorch_model.bin")
    assert source.sidecars == ("modules.json", "own/dense/config.json", "vocab.txt")
    assert not any("Dense" in note for note in source.notes)
    assert sorted(set(extra) - set(hub.downloaded())) == ["2_Dense/pytorch_model.bin", "own/other.json"]
    with closing(source.modules.open("2_Dense/model.safetensors")) as file:
        assert file.read(0, file.size) == b"dense"


@pytest.mark.parametrize("listed", [False, True])
def test_old_sentence_transformers(hub: HubServer, listed: bool) -> None:
    listing = [{"path": "0_BERT", "type": "sentence_transformers.models.BERT"},
               {"path": "2_Dense", "type": "sentence_transformers.models.Dense"}]  # fmt: skip
    dense = {"2_Dense/config.json": b"{}", "2_Dense/pytorch_model.bin": b"dense"}
    hub.add_repo("bert", {"modules.json": json.dumps(listing if listed else []).encode(), **dense,
                          **{f"0_BERT/{name}": data for name, data in BERT.items()}})  # fmt: skip
    source = open_source("bert")
    inner = ["0_BERT/config.json", "0_BERT/model.safetensors", "0_BERT/vocab.txt"]
    assert hub.downloaded() == [*inner, *(dense if listed else ()), "modules.json"]
    assert content(source, "vocab.txt") == b"[PAD]"
    assert source.carried == (("2_Dense/config.json", "modules.json", "vocab.txt") if listed else ("vocab.txt",))


@pytest.mark.parametrize("how", ["option", "environment"])
@pytest.mark.parametrize("src", ["bert", "bert@v1", f"bert@{COMMIT}"])
def test_offline_from_cache(hub: HubServer, monkeypatch: pytest.MonkeyPatch, src: str, how: str) -> None:
    hub.add_repo("bert", BERT, refs=("main", "v1"))
    first = open_source(src)
    hub.requests.clear()
    if how == "environment":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = open_source(src, SourceOptions(local_files_only=how == "option"))
    assert hub.requests == []
    assert (again.folder, again.weights, again.config) == (first.folder, first.weights, first.config)
    assert again.sidecars == first.sidecars
    assert again.revision == COMMIT
    assert content(again, "model.safetensors") == b"safe"


def test_second_call_downloads_nothing(hub: HubServer) -> None:
    hub.add_repo("bert", BERT)
    open_source("bert")
    hub.requests.clear()
    open_source("bert")
    assert hub.downloaded() == []


def test_offline_and_not_cached(hub: HubServer) -> None:
    hub.add_repo("bert", BERT)
    with pytest.raises(HubError, match="not in the Hub cache"):
        open_source("bert", SourceOptions(local_files_only=True))
    assert hub.requests == []


def test_offline_with_other_weights_in_cache(hub: HubServer) -> None:
    hub.add_repo("bert", {"config.json": CONFIG, "vocab.txt": b"", "model.safetensors.index.json": INDEX})
    huggingface_hub.snapshot_download("bert")
    with pytest.raises(HubError, match=SHARDS[0]):
        open_source("bert", SourceOptions(local_files_only=True))
    hub.add_repo("small", {"config.json": CONFIG})
    huggingface_hub.snapshot_download("small")
    with pytest.raises(HubError, match="in the Hub cache, there are no weights; it has config"):
        open_source("small", SourceOptions(local_files_only=True))


def test_cache_dir(hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo("bert", BERT)
    monkeypatch.setenv("HOME", str(tmp_path))
    source = open_source("bert", SourceOptions(cache_dir="~/mine"))
    assert source.folder.is_relative_to(tmp_path / "mine")
    assert open_source("bert", SourceOptions(cache_dir=tmp_path / "mine", local_files_only=True)).folder


def test_token_is_sent(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    original = huggingface_hub.HfApi.model_info
    monkeypatch.setattr(
        huggingface_hub.HfApi, "model_info", lambda self, *a, **k: seen.append(self.token) or original(self, *a, **k)
    )
    hub.add_repo("bert", BERT)
    open_source("bert", SourceOptions(token="hf_x"))
    assert set(seen) == {"hf_x"}


def failure(src: str, options: SourceOptions = DEFAULTS) -> HubError:
    with pytest.raises(HubError) as caught:
        open_source(src, options)
    assert caught.value.exit_code == 8
    assert caught.value.hint
    assert caught.value.file
    return caught.value


@pytest.mark.usefixtures("hub")
def test_no_such_repository() -> None:
    error = failure("org/none")
    assert "no such repository" in error.message
    assert "hf auth login" in error.hint


def test_gated(hub: HubServer) -> None:
    hub.add_repo("bert", BERT, gated=True)
    error = failure("bert")
    assert "gated" in error.message
    assert f"{hub.url}/bert" in error.hint


def test_no_such_revision(hub: HubServer) -> None:
    hub.add_repo("bert", BERT)
    assert "no revision 'v9'" in failure("bert@v9").message
    assert "no revision" in failure("bert", SourceOptions(revision=OTHER)).message


@pytest.mark.parametrize(
    ("status", "message"),
    [(500, "out of order"), (503, "503"), (403, "no access"), (429, "no more requests"), (418, "refused")],
)
def test_http_errors(hub: HubServer, status: int, message: str) -> None:
    hub.fail = status
    assert message in failure("bert").message


def test_error_in_the_middle(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add_repo("bert", {"config.json": CONFIG, "model.safetensors": b"1"})
    monkeypatch.setattr("time.sleep", lambda _: None)
    download = huggingface_hub.snapshot_download

    def then_break(*args, **kwargs):
        if kwargs["allow_patterns"] == ["model.safetensors"]:
            hub.fail = 503
        return download(*args, **kwargs)

    monkeypatch.setattr("bertconv.source.hub.snapshot_download", then_break)
    # Versions differ in what they say when a folder of the cache is there already, none may be silent.
    assert re.search("503|did not arrive", failure("bert").message)


@pytest.mark.parametrize("body", [b"<html>Log in to the network</html>", b"[]", b"{}", b'{"id": "x", "sha": "../.."}'])
def test_answer_of_something_else(hub: HubServer, body: bytes) -> None:
    hub.body = body
    failure("bert")


def test_server_down(hub: HubServer) -> None:
    hub.add_repo("bert", BERT)
    open_source("bert")
    hub.stop()
    error = failure("bert")
    assert "the Hub did not give it" in error.message
    assert "HF_HUB_OFFLINE=1" in error.hint
    assert open_source("bert", SourceOptions(local_files_only=True)).revision == COMMIT


def test_server_hangs(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.2)
    hub.silent = True
    assert "in time" in failure("bert").message


def test_no_weights(hub: HubServer) -> None:
    hub.add_repo("bert", {"config.json": CONFIG, "README.md": b""})
    assert "no weights; it has README.md, config.json" in failure("bert").message
    hub.add_repo("exported", {"config.json": CONFIG, "model.gguf": b""})
    with pytest.raises(UnsupportedCheckpoint, match="GGUF"):
        open_source("exported")
    assert "model.gguf" not in hub.downloaded()


def test_flax_s_weights_are_fetched_where_there_are_no_others(hub: HubServer) -> None:
    hub.add_repo("flax", {"config.json": CONFIG, "flax_model.msgpack": b"x", "README.md": b""})
    assert open_source("flax").weights.files == ("flax_model.msgpack",)
    assert sorted(hub.downloaded()) == ["config.json", "flax_model.msgpack"]


def test_cache_that_cannot_be_written(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    hub.add_repo("bert", BERT)
    error = failure("bert", SourceOptions(cache_dir=tmp_path / "file" / "cache"))
    assert "cache cannot be read or written" in error.message


def test_local_path_wins(hub: HubServer, tmp_path: Path) -> None:
    hub.add_repo("org/bert", BERT)
    folder = tmp_path / "org" / "bert"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"local")
    source = open_source("org/bert")
    assert content(source, "model.safetensors") == b"local"
    assert source.notes == ("a local folder of this name wins over the Hub id",)
    assert source.revision is None
    assert hub.requests == []
    assert open_source(f"org/bert@{COMMIT}").revision == COMMIT


def test_through_the_environment(tmp_path: Path) -> None:
    with HubServer() as server:
        server.add_repo("org/bert", BERT)
        code = "from bertconv.source import open_source; s = open_source('org/bert@main'); print(s.revision, s.folder)"
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))},
            "HF_ENDPOINT": server.url,
            "HF_HOME": str(tmp_path),
            "HF_HUB_DISABLE_XET": "1",
        }
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        commit, folder = done.stdout.decode().split()
        assert commit == COMMIT
        assert Path(folder).is_relative_to(tmp_path)
        server.requests.clear()
        env["HF_HUB_OFFLINE"] = "1"
        again = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True)
        assert again.stdout == done.stdout
        assert server.requests == []
