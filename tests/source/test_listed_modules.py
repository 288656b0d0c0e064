"""Modules of sentence-transformers: which folders are some, what is read and carried of them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint
from bertconv.source import Source, open_source
from bertconv.source.modules import LISTING_BYTES

ST, BIN = "model.safetensors", "pytorch_model.bin"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here asks the Hub."""
    monkeypatch.setitem(__import__("sys").modules, "bertconv.source.hub", None)


def listing(**modules: str) -> bytes:
    """`modules.json` of a transformer at the root and of these modules: class -> folder."""
    entries = [{"path": "", "type": "sentence_transformers.models.Transformer"}]
    entries += [{"path": path, "type": f"sentence_transformers.models.{kind}"} for kind, path in modules.items()]
    return json.dumps(entries).encode()


def make(folder: Path, *names: str, modules: bytes, inner: str = "") -> Path:
    files = {**dict.fromkeys(names, b"{}"), f"{inner}config.json": b"{}", f"{inner}{ST}": b"", "modules.json": modules}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def weights(source: Source) -> tuple[str, ...] | None:
    return source.modules.weights if source.modules else None


def test_listed_modules(tmp_path: Path) -> None:
    """The file that sentence-transformers loads of each, whatever the folder is called; settings of every name."""
    modules = listing(Pooling="1_Pooling", Dense="2_Dense", LSTM="10_LSTM", CNN="own/cnn", Normalize="4_Normalize")
    source = open_source(make(
        tmp_path, "1_Pooling/config.json", "2_Dense/config.json", f"2_Dense/{BIN}", f"2_Dense/{ST}",
        "10_LSTM/lstm_config.json", f"10_LSTM/{BIN}", "own/cnn/cnn_config.json", f"own/cnn/{ST}", "own/else.json",
        modules=modules,
    ))  # fmt: skip
    assert weights(source) == (f"2_Dense/{ST}", f"10_LSTM/{BIN}", f"own/cnn/{ST}")
    assert source.sidecars == ("10_LSTM/lstm_config.json", "1_Pooling/config.json", "2_Dense/config.json",
                               "modules.json", "own/cnn/cnn_config.json")  # fmt: skip
    assert source.not_carried == (f"2_Dense/{BIN}",)
    assert source.notes == ()
    read = {path.relative_to(tmp_path).as_posix() for path in source.inputs}
    assert read == {*source.sidecars, *source.modules.weights, ST, "config.json"}


@pytest.mark.parametrize(
    ("modules", "words"),
    [
        (listing(Dense="2_Dense"), "2_Dense is a Dense without weights"),
        (listing(WeightedLayerPooling="1_Pool"), "1_Pool is a WeightedLayerPooling without weights"),
        (listing(Router="2_Router"), "2_Router is a Router, whose parts are not carried along"),
        (listing(Asym="2_Asym"), "2_Asym is a Asym, whose parts are not carried along"),
        (listing(Pooling="1_Pooling"), "weights in 1_fold are not converted"),
        (b"[]", "weights in 1_fold are not converted"),
    ],
)
def test_notes(tmp_path: Path, modules: bytes, words: str) -> None:
    """Weights in a folder that no list names, as those of another fold, are no part of the model."""
    source = open_source(make(tmp_path, f"1_fold/{ST}", modules=modules))
    assert any(words in note for note in source.notes)
    assert weights(source) == ()
    assert "modules.json" in source.sidecars


@pytest.mark.parametrize(
    ("modules", "words"),
    [(b"{}", "not a list"), (b'[{"path": 1, "type": "x"}]', "entry 0"), (b'[{"path": "1_fold"}]', "entry 0"),
     (b'["1_fold"]', "entry 0"), (b"[", "no sound JSON"), (b"[" * 100_000, "no sound JSON"), (b"\xff", "no sound JSON"),
     (b"", "empty"), (listing(Dense="1_fold") + b" " * LISTING_BYTES, "larger than"),
     (listing(Dense="1_fold")[:-1] + b', {"path": "3_x"}]', "entry 2"),
     (b"\xef\xbb\xbf" + listing(Dense="1_fold"), "no sound JSON"),
     (listing(Dense="1_fold").replace(b'"path"', b'"type": "x", "path"', 1), "no sound JSON")],
    ids=range(12),
)  # fmt: skip
@pytest.mark.parametrize("inner", ["", "0_Transformer/"])
def test_what_is_no_list_of_modules(tmp_path: Path, modules: bytes, words: str, inner: str) -> None:
    """Where one entry is unusual, the weights of every module would be left behind."""
    folder = make(tmp_path, f"1_fold/{ST}", modules=modules, inner=inner)
    with pytest.raises(DamagedCheckpoint, match=words) as caught:
        open_source(folder)
    assert caught.value.file == str(folder / "modules.json")
    assert "remove the file" in caught.value.hint


@pytest.mark.parametrize(
    "path", ["é" * 300, "2_Dense/" + "a" * 300, "/".join(["a" * 200] * 30)], ids=["é", "in", "deep"]
)
def test_a_path_that_no_disk_can_hold(tmp_path: Path, path: str) -> None:
    """It is not there, as any other that is not."""
    source = open_source(make(tmp_path, f"2_Dense/{ST}", modules=listing(Dense=path)))
    assert weights(source) == ()
    assert any("is a Dense without weights" in note for note in source.notes)


@pytest.mark.parametrize("path", ["../2_Dense", "/2_Dense", "2_Dense/../../x", "2\x1b[2J", "a\\b", "./../x"])
def test_modules_outside(tmp_path: Path, path: str) -> None:
    folder = make(tmp_path / "in", modules=listing(Dense=path))
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / ST).write_bytes(b"of somebody else")
    with pytest.raises(UnsafeCheckpoint, match="no folder of it") as caught:
        open_source(folder)
    assert caught.value.file == str(folder / "modules.json")


@pytest.mark.parametrize("what", ["list", "module", "weights"])
def test_links(tmp_path: Path, what: str) -> None:
    """Nothing behind a link is read."""
    folder = make(tmp_path / "in", f"2_Dense/{BIN}", modules=listing(Dense="2_Dense"))
    (tmp_path / "else").mkdir()
    place = {"list": folder / "modules.json", "module": folder / "2_Dense", "weights": folder / "2_Dense" / BIN}[what]
    place.rename(tmp_path / "else" / place.name)
    place.symlink_to(tmp_path / "else" / place.name)
    with pytest.raises(UnsafeCheckpoint, match="symbolic link"):
        open_source(folder).modules.open(f"2_Dense/{BIN}")


@pytest.mark.parametrize("path", ["./2_Dense", "2_Dense/"])
def test_spellings_of_a_path(tmp_path: Path, path: str) -> None:
    entries = [{"path": ".", "type": "x.Transformer"}, {"path": path, "type": "x.Dense"}]
    assert weights(open_source(make(tmp_path, f"2_Dense/{ST}", modules=json.dumps(entries).encode()))) == (
        f"2_Dense/{ST}",
    )


def test_a_file_without_a_config_beside_it_has_no_modules(tmp_path: Path) -> None:
    folder = make(tmp_path, f"2_Dense/{BIN}", modules=listing(Dense="2_Dense", CNN="../x"))
    (folder / "config.json").unlink()
    assert open_source(folder / ST).modules is None


@pytest.mark.parametrize("inner", ["0_Transformer", "0_BERT"])
def test_transformer_in_a_folder_of_its_own(tmp_path: Path, inner: str) -> None:
    """Everything lies at the root of the output: the transformer's files win, and the list says where it is."""
    entries = [{"idx": 0, "name": "0", "path": inner, "type": "x.Transformer"},
               {"idx": 1, "name": "1", "path": "2_Dense", "type": "x.Dense"}]  # fmt: skip
    source = open_source(make(
        tmp_path, f"{inner}/vocab.txt", "vocab.txt", "config_sentence_transformers.json", "config.json",
        "2_Dense/config.json", f"2_Dense/{BIN}", "README.md", modules=json.dumps(entries).encode(), inner=f"{inner}/",
    ))  # fmt: skip
    assert source.folder == tmp_path / inner
    assert source.carried == ("2_Dense/config.json", "config_sentence_transformers.json", "modules.json", "vocab.txt")
    assert source.sidecars == ("vocab.txt",)
    assert weights(source) == (f"2_Dense/{BIN}",)
    assert json.loads(source.modules.listing) == [{**entries[0], "path": ""}, entries[1]]
    assert source.not_carried == ("README.md", "config.json")
    assert tmp_path / "modules.json" in source.inputs
    assert tmp_path / "2_Dense" / BIN in source.inputs
    assert [note for note in source.notes if inner in note] == list(source.notes)
