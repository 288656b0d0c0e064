"""Checkpoints on the disk: which files are taken, which are refused, and why."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bertconv.containers.stored import SourceFile
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    MissingFiles,
    MissingPath,
    RequestError,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)
from bertconv.source import Source, SourceOptions, Weights, open_source
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.weights import choose, is_index, is_weights, read_index
from bertconv.text import is_plain

ST, BIN, H5 = "model.safetensors", "pytorch_model.bin", "tf_model.h5"
INDEX = "model.safetensors.index.json"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
DEFAULTS = SourceOptions()
TF2PT = ("hdf5", "safetensors", "torch")
PT2TF = ("safetensors", "torch", "hdf5")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here asks the Hub: to do so is an ImportError."""
    monkeypatch.setitem(sys.modules, "bertconv.source.hub", None)


def index(*shards: object) -> bytes:
    weight_map = {f"t{number}": shard for number, shard in enumerate(shards)}
    return json.dumps({"metadata": {"total_size": -1}, "weight_map": weight_map}).encode()


def make(folder: Path, *names: str, **contents: bytes) -> Path:
    """A folder with these files; `config` and `index` give the content of those two."""
    files = {
        **{name: b"[]" if name == "modules.json" else b"{}" if name.endswith(".json") else b"" for name in names},
        "config.json": contents.get("config", b"{}"),
    }
    if "index" in contents:
        files[INDEX] = contents["index"]
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def refusal(kind: type[BertconvError], src: object, options: SourceOptions = DEFAULTS) -> BertconvError:
    with pytest.raises(kind) as caught:
        open_source(src, options)
    assert caught.value.hint
    return caught.value


# Which weights


@pytest.mark.parametrize(
    ("here", "prefer", "wanted"),
    [
        ([ST, BIN, H5], PT2TF, ST),
        ([ST, BIN, H5], TF2PT, H5),
        ([BIN, H5], PT2TF, BIN),
        ([BIN, H5], ("hdf5",), H5),
        ([BIN, INDEX], PT2TF, INDEX),
        ([ST, INDEX], PT2TF, ST),
        (["pytorch_model.bin.index.json", H5], PT2TF, "pytorch_model.bin.index.json"),
        (["tf_model.h5.index.json", ST], TF2PT, "tf_model.h5.index.json"),
        ([ST, "other.bin"], PT2TF, ST),
        ([BIN, "adapter_model.safetensors"], PT2TF, BIN),
    ],
)
def test_first_match_wins(here: list[str], prefer: tuple[str, ...], wanted: str) -> None:
    assert choose(here, prefer).name == wanted


@given(st.permutations([ST, BIN, H5, INDEX]))
def test_order_of_names_does_not_matter(names: list[str]) -> None:
    assert choose(names, PT2TF) == choose([ST, BIN, H5, INDEX], PT2TF)


def test_used_and_there_too(tmp_path: Path) -> None:
    assert open_source(make(tmp_path, ST, BIN)).notes == ("model.safetensors is used; pytorch_model.bin is there too",)
    assert open_source(make(tmp_path / "one", ST)).notes == ()


@pytest.mark.parametrize(
    "name",
    ["model.fp16.safetensors", "model.safetensors.index.fp16.json", "pytorch_model.fp16.bin",
     "pytorch_model.bin.index.fp16.json", "tf_model.fp16.h5"],
)  # fmt: skip
def test_variant(name: str) -> None:
    assert choose([ST, BIN, name], PT2TF, "fp16").name == name
    with pytest.raises(RequestError) as caught:
        choose([ST, name], PT2TF, "int8")
    assert caught.value.hint == "There are: fp16."


def test_absent_variant_without_others(tmp_path: Path) -> None:
    folder = make(tmp_path, ST, "model.weights.h5", *SHARDS)
    assert "no variants" in refusal(RequestError, folder, SourceOptions(variant="fp16")).hint


def test_transformers_weights(tmp_path: Path) -> None:
    folder = make(tmp_path, ST, "odd.bin", config=b'{"transformers_weights": "odd.bin"}')
    source = open_source(folder)
    assert source.weights == Weights(("odd.bin",))
    note = "odd.bin is used, as the config's transformers_weights says; model.safetensors is there too"
    assert source.notes == (note,)
    assert source.not_carried == (ST,)
    (folder / "odd.bin").unlink()
    assert "odd.bin" in refusal(DamagedCheckpoint, folder).message


@pytest.mark.parametrize("name", ["../x.bin", "/etc/passwd", "a/b.bin", ""])
def test_transformers_weights_outside(tmp_path: Path, name: str) -> None:
    config = json.dumps({"transformers_weights": name}).encode()
    refusal(UnsafeCheckpoint, make(tmp_path, ST, config=config))


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pt", "pth", "ckpt", "h5", "hdf5", "weights.h5", "keras"])
def test_the_only_file_of_weights(tmp_path: Path, suffix: str) -> None:
    state = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "rng_state_0.pth",
             "scaler.pt")  # fmt: skip
    source = open_source(make(tmp_path, f"mine.{suffix}", *state))
    assert source.weights.files == (f"mine.{suffix}",)
    assert source.not_carried == tuple(sorted(state))


def test_several_files_of_weights(tmp_path: Path) -> None:
    error = refusal(RequestError, make(tmp_path, "a.bin", "b.pt"))
    assert "a.bin, b.pt" in error.message
    assert "file itself" in error.hint


def test_shards_without_index(tmp_path: Path) -> None:
    assert "index" in refusal(DamagedCheckpoint, make(tmp_path, SHARDS[0])).message


@pytest.mark.parametrize(
    ("names", "what", "way"),
    [
        (("adapter_config.json", "adapter_model.safetensors"), "LoRA", "merge-adapter"),
        (("adapter_model.bin",), "LoRA", "merge-adapter"),
        (("saved_model.pb", "fingerprint.pb"), "SavedModel", "variables.index"),
        (("__0_0.distcp", "__1_0.distcp"), "distributed", "beside its .metadata"),
        (("pytorch_model_fsdp_0/__0_0.distcp", "optimizer.pt"), "distributed", "beside its .metadata"),
        (("shard-00001-model-00001-of-00001.safetensors",), "shards of the processes", "enable_consolidation=True"),
        (("__0.metadata", "__0_0.distcp"), "index for each process", "use_collectives=False"),
        (("latest", "zero_to_fp32.py"), "DeepSpeed", "zero_to_fp32.py FOLDER OUTPUT"),
        (("bert.npz",), "numpy", "safetensors.numpy.save_file"),
        (("model.gguf",), "GGUF", "made from"),
        (("model.tflite",), "TensorFlow Lite", "made from"),
        (("model.mlmodel",), "Core ML", "made from"),
        (("rust_model.ot",), "rust-bert", "made from"),
        (("model_state.pdparams",), "Paddle", "PyTorch or TensorFlow version"),
        (("openvino_model.bin", "openvino_model.xml"), "OpenVINO", "made from"),
        (("model.bin", "vocabulary.json"), "CTranslate2", "made from"),
        (("model.bin", "shared_vocabulary.txt"), "CTranslate2", "made from"),
    ],
)
def test_weights_of_another_kind(tmp_path: Path, names: tuple[str, ...], what: str, way: str) -> None:
    """Each is named, with what can be done; a lone file of the kind as well, where its name says it."""
    error = refusal(UnsupportedCheckpoint, make(tmp_path, *names))
    assert (what in error.message, way in error.hint) == (True, True)
    told_alone = not {"adapter_config.json", "checkpoint", "latest", "model.bin", "openvino_model.bin"} & set(names)
    if told_alone and "/" not in names[0]:
        error = refusal(UnsupportedCheckpoint, tmp_path / names[0])
        assert (what in error.message, way in error.hint) == (True, True)


def test_a_list_of_checkpoints_without_them(tmp_path: Path) -> None:
    error = refusal(UnsupportedCheckpoint, make(tmp_path, "checkpoint"))
    assert "list of the checkpoints" in error.message
    assert ".index and .data" in error.hint


def test_weights_without_a_suffix_may_be_called_checkpoint(tmp_path: Path) -> None:
    """Only in a folder without weights is that name TensorFlow's."""
    make(tmp_path, "checkpoint")
    assert open_source(tmp_path / "checkpoint").weights.files == ("checkpoint",)
    make(tmp_path, ST)
    assert open_source(tmp_path).weights.files == (ST,)


@pytest.mark.parametrize("beside", ["vocab.txt", "vocabulary.csv", "my_vocabulary.json"])
def test_a_model_bin_of_pytorch(tmp_path: Path, beside: str) -> None:
    assert open_source(make(tmp_path, "model.bin", beside)).weights.files == ("model.bin",)


def test_no_weights(tmp_path: Path) -> None:
    error = refusal(DamagedCheckpoint, make(tmp_path, "notes.txt"))
    assert "it has config.json, notes.txt" in error.message
    assert "Give the folder that holds model.safetensors" in error.hint
    (tmp_path / "empty").mkdir()
    assert "no files" in refusal(DamagedCheckpoint, tmp_path / "empty").message


def test_trainer_folder(tmp_path: Path) -> None:
    make(tmp_path, "training_args.bin", f"checkpoint-500/{ST}", f"checkpoint-1500/{ST}", f"checkpoint-90/{ST}")
    assert "checkpoint-1500." in refusal(DamagedCheckpoint, tmp_path).hint


@pytest.mark.parametrize("inner", ["0_Transformer", "0_BERT"])
def test_old_sentence_transformers(tmp_path: Path, inner: str) -> None:
    folder = make(tmp_path, f"{inner}/{BIN}", f"{inner}/config.json", f"{inner}/vocab.txt", "modules.json",
                  "1_Pooling/config.json")  # fmt: skip
    source = open_source(folder)
    assert source.folder == folder / inner
    assert source.weights.files == (BIN,)
    assert source.config == folder / inner / "config.json"
    assert source.sidecars == ("vocab.txt",)
    assert inner in source.notes[0]
    assert "1_Pooling/config.json, modules.json" in source.notes[0]  # which lists nothing
    assert source.modules is None


# Shards


def test_index(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, *SHARDS, index=index(SHARDS[1], SHARDS[0], SHARDS[1])))
    assert source.weights == Weights(SHARDS, INDEX, {"t0": SHARDS[1], "t1": SHARDS[0], "t2": SHARDS[1]})
    assert source.not_carried == ()
    assert open_source(tmp_path / INDEX).weights == source.weights


def test_missing_shard(tmp_path: Path) -> None:
    error = refusal(DamagedCheckpoint, make(tmp_path, SHARDS[0], index=index(*SHARDS)))
    assert SHARDS[1] in error.message
    assert error.file.endswith(INDEX)


def test_shard_that_the_index_does_not_name(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, *SHARDS, index=index(SHARDS[0])))
    assert source.weights.files == (SHARDS[0],)
    assert source.not_carried == (SHARDS[1],)
    assert source.notes == (f"shards that {INDEX} does not name are ignored: {SHARDS[1]}",)


def test_stale_shards_beside_a_single_file(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, ST, *SHARDS))
    assert source.weights.files == (ST,)
    assert source.not_carried == SHARDS
    assert source.notes == (f"shards beside {ST} are ignored: {', '.join(SHARDS)}",)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b'{"weight_map": {"a": 1}}', b"\xff",
     b'{"weight_map": {"a": null}}', b'{"weight_map": {"a": "x", "a": "y"}}', b'{"weight_map": {"a": "x"'],
)  # fmt: skip
def test_damaged_index(tmp_path: Path, content: bytes) -> None:
    assert INDEX in str(refusal(DamagedCheckpoint, make(tmp_path, index=content)).file)


@pytest.mark.parametrize("shard", ["../x", "/abs/x", "a/b", "a\\b", "..", ".", "", "x\0", "C:x", "\\\\host\\x"])
def test_shard_outside(tmp_path: Path, shard: str) -> None:
    error = refusal(UnsafeCheckpoint, make(tmp_path, SHARDS[0], index=index(SHARDS[0], shard)))
    assert repr(shard) in error.message
    assert error.tensor == "t1"
    assert error.file.endswith(INDEX)


@given(st.text(st.sampled_from("ab./\\:\0 é-") | st.characters(exclude_categories=["Cs"]), max_size=12))
@example("..")
@example("a/../../b")
def test_plain_names_stay_in_the_folder(name: str) -> None:
    if is_plain(name):
        assert os.path.normpath(f"/folder/{name}") == f"/folder/{name}"
        assert "\\" not in name
    else:
        with pytest.raises(UnsafeCheckpoint):
            Source("", Path("/folder"), Weights(()), None).open(name if "/" not in name else f"../{name}")


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=8) | st.integers(), max_size=4))
def test_index_gives_plain_names_or_an_error(tmp_path_factory: pytest.TempPathFactory, weight_map: dict) -> None:
    path = tmp_path_factory.mktemp("index") / INDEX
    path.write_text(json.dumps({"weight_map": weight_map}))
    try:
        found = read_index(SourceFile(path))
    except (UnsafeCheckpoint, DamagedCheckpoint) as error:
        assert error.file == str(path)  # noqa: PT017
    else:
        assert found == weight_map
        assert all(is_plain(shard) for shard in found.values())


# Opening


def test_open(tmp_path: Path) -> None:
    source = open_source(make(tmp_path, ST, "1_Pooling/config.json"))
    (tmp_path / ST).write_bytes(b"weights")
    file = source.open(ST)
    assert file.read(0, 7) == b"weights"
    file.close()
    source.open("1_Pooling/config.json").close()
    with pytest.raises(DamagedCheckpoint):
        source.open("absent")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", "a//b", "."])
def test_open_outside(tmp_path: Path, name: str) -> None:
    source = open_source(make(tmp_path, ST))
    with pytest.raises(UnsafeCheckpoint):
        source.open(name)


def test_fifo_as_shard(tmp_path: Path) -> None:
    folder = make(tmp_path, SHARDS[0], index=index(*SHARDS))
    os.mkfifo(folder / SHARDS[1])
    source = open_source(folder)
    with pytest.raises(UnsafeCheckpoint, match="regular file"):
        source.open(SHARDS[1])


@pytest.mark.parametrize("name", [ST, "vocab.txt", "1_Pooling/config.json"])
def test_link_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    folder = make(tmp_path / "model", ST, name)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "secret")
    source = open_source(folder)
    assert name in (*source.weights.files, *source.sidecars)
    with pytest.raises(UnsafeCheckpoint, match="symbolic link"):
        source.open(name)


@pytest.mark.parametrize("name", ["config.json", INDEX])
@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_config_and_index_are_opened_by_the_same_rule(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "outside").write_bytes(index(SHARDS[0]))
    folder = make(tmp_path / "model", *SHARDS, index=index(SHARDS[0]))
    (folder / name).unlink()
    if kind == "link":
        (folder / name).symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(folder / name)
    refusal(UnsafeCheckpoint, folder)


def test_linked_folder_inside(tmp_path: Path) -> None:
    make(tmp_path / "outside", ST)
    folder = make(tmp_path / "model", ST)
    (folder / "1_Pooling").symlink_to(tmp_path / "outside")
    source = open_source(folder)
    assert source.sidecars == ()
    with pytest.raises(UnsafeCheckpoint, match="symbolic link"):
        source.open("1_Pooling/config.json")
    refusal(UnsafeCheckpoint, folder, SourceOptions(subfolder="1_Pooling"))


def test_linked_source_folder_is_followed(tmp_path: Path) -> None:
    make(tmp_path / "model", ST)
    (tmp_path / "link").symlink_to("model")
    open_source(tmp_path / "link").open(ST).close()


# The Hub cache's links

BLOB = hashlib.sha1(b"blob 2\0{}").hexdigest()
STORE = "ab" * 32


def cache(tmp_path: Path) -> Path:
    """A snapshot whose weights, config and one file in a folder are links into `blobs`."""
    repository = tmp_path / "hub" / "models--org--bert"
    snapshot = repository / "snapshots" / ("c" * 40)
    (snapshot / "1_Pooling").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / BLOB).write_bytes(b"{}")
    for name, up in ((ST, "../.."), ("config.json", "../.."), ("1_Pooling/config.json", "../../..")):
        (snapshot / name).symlink_to(f"{up}/blobs/{BLOB}")
    return snapshot


def test_cache_links_are_followed(tmp_path: Path) -> None:
    snapshot = cache(tmp_path)
    source = open_source(snapshot)
    for name in (ST, "config.json", "1_Pooling/config.json"):
        file = source.open(name)
        assert file.read(0, 2) == b"{}"
        assert file.name == name
        file.close()
    open_source(snapshot / ST).open(ST).close()


def test_cache_through_a_link_and_a_subfolder(tmp_path: Path) -> None:
    snapshot = cache(tmp_path)
    (snapshot / "1_Pooling" / ST).symlink_to(f"../../../blobs/{BLOB}")
    (tmp_path / "model").symlink_to(snapshot)
    open_source(tmp_path / "model", SourceOptions(subfolder="1_Pooling")).open(ST).close()


def test_read_only_cache(tmp_path: Path) -> None:
    snapshot = cache(tmp_path)
    folders = [snapshot, snapshot / "1_Pooling", snapshot.parents[1] / "blobs"]
    for folder in folders:
        folder.chmod(0o555)
    try:
        open_source(snapshot).open(ST).close()
    finally:
        for folder in folders:
            folder.chmod(0o755)


def test_blob_in_the_shared_store(tmp_path: Path) -> None:
    """huggingface_hub 2 links a repository's blob to one file for all repositories."""
    snapshot = cache(tmp_path)
    (snapshot / "config.json").unlink()
    store = tmp_path / "hub" / "blobs"
    (store / "ab").mkdir(parents=True)
    (store / "ab" / STORE).write_bytes(b"{}")
    blob = snapshot.parents[1] / "blobs" / BLOB
    blob.unlink()
    blob.symlink_to(f"../../blobs/ab/{STORE}")
    with pytest.raises(UnsafeCheckpoint):
        open_source(snapshot).open(ST)
    (store / ".huggingface-shared-blobs").write_text("1\n")
    open_source(snapshot).open(ST).close()


@pytest.mark.parametrize(
    "how", ["outside", "blob is a link", "blobs is a link", "other repository", "dangling", "loop"]
)
def test_links_that_look_like_the_cache(tmp_path: Path, how: str) -> None:
    snapshot = cache(tmp_path)
    repository = snapshot.parents[1]
    (tmp_path / "secrets").mkdir()
    secret = tmp_path / "secrets" / BLOB
    secret.write_bytes(b"secret")
    (snapshot / ST).unlink()
    (snapshot / ST).symlink_to({"outside": secret, "loop": ST, "dangling": f"../../blobs/{'9' * 40}",
                                "other repository": f"../../../models--x/blobs/{BLOB}"}
                               .get(how, f"../../blobs/{BLOB}"))  # fmt: skip
    other = repository.parent / "models--x" / "blobs"
    other.mkdir(parents=True)
    (other / BLOB).write_bytes(b"")
    source = open_source(snapshot)
    if how == "blob is a link":
        (repository / "blobs" / BLOB).unlink()
        (repository / "blobs" / BLOB).symlink_to(secret)
    elif how == "blobs is a link":
        (repository / "blobs").rename(repository / "old")
        (repository / "blobs").symlink_to(secret.parent)
    with pytest.raises(UnsafeCheckpoint, match="symbolic link"):
        source.open(ST)


# Config and files that go along


def test_config(tmp_path: Path) -> None:
    folder = make(tmp_path, ST, "bert_config.json")
    (tmp_path / "mine.json").write_text("{}")
    assert open_source(folder).config == folder / "config.json"
    assert open_source(folder, SourceOptions(config=tmp_path / "mine.json")).config == tmp_path / "mine.json"
    refusal(RequestError, folder, SourceOptions(config=tmp_path / "absent.json"))
    (folder / "config.json").unlink()
    assert open_source(folder).config == folder / "bert_config.json"
    assert open_source(folder / ST).config == folder / "bert_config.json"
    (folder / "bert_config.json").unlink()
    assert open_source(folder).config is None


def test_sidecars(tmp_path: Path) -> None:
    carried = ("1_Pooling/config.json", "2_Dense/config.json", "LICENSE", "LICENSE.txt", "added_tokens.json",
               "chat_template.jinja", "classes.txt", "config_sentence_transformers.json", "generation_config.json",
               "label_map.json", "labels.txt", "merges.txt", "modules.json", "sentence_bert_config.json",
               "sentencepiece.bpe.model", "special_tokens_map.json", "tokenizer.json", "tokenizer.model",
               "tokenizer_config.json", "vocab.json", "vocab.txt")  # fmt: skip
    left = ("2_Dense/model.safetensors", "README.md", "config.json.bak", "optimizer.pt", BIN, f"{BIN}.index.json")
    unseen = (".gitattributes", ".git/config", "1_Pooling/.hidden", "onnx/model.onnx", "a/b/c.json")
    source = open_source(make(tmp_path, ST, "bert_config.json", *carried, *left, *unseen))
    assert source.sidecars == tuple(sorted(carried))
    assert source.not_carried == tuple(sorted(left))
    assert "weights in 2_Dense are not converted" in source.notes


def test_one_file(tmp_path: Path) -> None:
    folder = make(tmp_path, ST, BIN, "vocab.txt", "notes.txt")
    source = open_source(folder / BIN)
    assert source.weights == Weights((BIN,))
    assert source.folder == folder
    assert source.sidecars == ("vocab.txt",)
    assert source.notes == ()
    (folder / "config.json").unlink()
    source = open_source(folder / BIN)
    assert (source.config, source.sidecars, source.not_carried) == (None, (), ())
    refusal(RequestError, folder / BIN, SourceOptions(subfolder="x"))
    refusal(RequestError, folder / BIN, SourceOptions(variant="x"))


def test_one_shard(tmp_path: Path) -> None:
    assert open_source(make(tmp_path, *SHARDS) / SHARDS[0]).notes == ("the file is one shard of several",)


def test_subfolder(tmp_path: Path) -> None:
    make(tmp_path, f"a/b/{ST}")
    assert open_source(tmp_path, SourceOptions(subfolder="a/b")).folder == tmp_path / "a" / "b"
    assert open_source(tmp_path, SourceOptions(subfolder="a/b/")).weights.files == (ST,)
    assert "no subfolder" in refusal(RequestError, tmp_path, SourceOptions(subfolder="c")).message


LONG = "é" * 300
"""A name that no file system holds: it is not there, which is not the same as that it cannot be asked for."""


@pytest.mark.parametrize("name", [LONG, f"a/{LONG}"])
def test_a_name_too_long_for_a_disk(tmp_path: Path, name: str) -> None:
    assert "no subfolder" in refusal(RequestError, tmp_path, SourceOptions(subfolder=name)).message
    assert "no such config file" in refusal(RequestError, tmp_path, SourceOptions(config=tmp_path / name)).message
    with pytest.raises(DamagedCheckpoint, match="cannot be opened"):
        open_in(tmp_path, name)


def test_names_too_long_in_an_index_and_a_config(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_bytes(index(LONG))
    assert "shards that are not there" in refusal(DamagedCheckpoint, tmp_path).message
    (tmp_path / "config.json").write_text(json.dumps({"transformers_weights": LONG}))
    assert "it is not there" in refusal(DamagedCheckpoint, tmp_path).message


@pytest.mark.parametrize("subfolder", ["..", "a/../..", "/etc", "/", "a//b", "a\\b", "./a"])
def test_subfolder_outside(tmp_path: Path, subfolder: str) -> None:
    refusal(RequestError, make(tmp_path, ST), SourceOptions(subfolder=subfolder))


# What the user gave


@pytest.mark.parametrize(
    "src",
    ["", ".x", "./x", "../x/y", "/no/such", "~/x", "a/b/c", "a//b", "a/", "a b", "a--b", "a..b", "x.git", "-a", "a\\b",
     "é", "a\0", "x" * 5000, "a/" + "x" * 97, "@main", "model.safetensors"],
)  # fmt: skip
def test_neither_path_nor_hub_id(src: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "no such file or folder, and not a Hub id" in refusal(RequestError, src).message


def test_a_page_of_the_hub_is_no_source() -> None:
    error = refusal(RequestError, "https://huggingface.co/org/name")
    assert "is a page about a checkpoint" in error.message
    assert "organisation/name" in error.hint


def test_path_object_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(RequestError, Path("org/name"))


def test_note_when_a_path_looks_like_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "org" / "name", ST)
    note = ("a local folder of this name wins over the Hub id",)
    assert open_source("org/name").notes == note
    assert open_source("org/name").given == "org/name"
    for obvious in ("./org/name", "org/name/", str(tmp_path / "org" / "name"), Path("org/name")):
        assert open_source(obvious).notes == ()


@pytest.mark.parametrize("revision", ["..", "../../x", "/x", "a b", "", "a\0"])
def test_revision_that_is_none(revision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    refusal(RequestError, "org/name", SourceOptions(revision=revision))
    refusal(RequestError, f"org/name@{revision}")


def test_revisions_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(RequestError, "org/name@a", SourceOptions(revision="b"))
    assert "'a'" in error.message
    assert "'b'" in error.message


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", "0" * 40, "no such\n" * 30])
@pytest.mark.parametrize("below", ["", ST])
def test_revision_of_a_local_path_is_a_note(below: str, revision: str, tmp_path: Path) -> None:
    place = make(tmp_path, ST) / below
    found = open_source(place, SourceOptions(revision=revision))
    (note,) = found.notes
    assert note.startswith("nothing here has revisions: the one that was asked for, ")
    assert note.endswith(", changes nothing")
    assert note.isprintable()
    assert len(note) < 160
    assert repr(revision)[:40] in note
    assert found.revision is None
    assert replace(found, notes=()) == open_source(place)


def test_revision_does_not_hide_what_is_wrong(tmp_path: Path) -> None:
    refusal(MissingFiles, make(tmp_path), SourceOptions(revision="main"))
    refusal(MissingPath, tmp_path / "none", SourceOptions(revision="main"))


def test_huggingface_hub_is_imported_for_hub_ids_only(tmp_path: Path) -> None:
    code = (
        "import sys, bertconv.source as s; s.open_source(sys.argv[1]);"
        "print(sorted({'huggingface_hub', 'httpx', 'requests', 'numpy', 'torch', 'tensorflow'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(make(tmp_path, ST))]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"[]\n"


def test_kinds_of_names() -> None:
    assert is_index(INDEX)
    assert is_index("model.safetensors.index.fp16.json")
    assert not is_index("config.json")
    assert not is_weights("training_args.bin")


def test_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    assert "cannot be listed: Permission denied" in refusal(DamagedCheckpoint, tmp_path).message
