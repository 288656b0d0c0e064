"""TensorFlow's checkpoints by their prefix: which files belong to one, which of several is meant, what is missing."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from bertconv.containers.registry import refuse_impostor
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint, RequestError
from bertconv.source import open_source
from bertconv.source.prefixes import INDEX, choose_prefix, incomplete, listed_prefix, prefix_of
from bertconv.source.weights import choose

CKPT = "bert_model.ckpt"
PARTS = (f"{CKPT}.index", f"{CKPT}.meta", f"{CKPT}.data-00000-of-00001")


def index_of(*prefixes: str) -> list[str]:
    return [prefix + INDEX for prefix in prefixes]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [*((part, CKPT) for part in PARTS), ("model.ckpt-100.data-00001-of-00002", "model.ckpt-100"), ("a.index", "a"),
     ("model.safetensors", None), ("pytorch_model.bin.index.json", None), (".index", None), ("x.data-1-of-2", None)],
)  # fmt: skip
def test_a_part_names_its_prefix(name: str, prefix: str | None) -> None:
    assert prefix_of(name) == prefix


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        (b'model_checkpoint_path: "model.ckpt-9"\nall_model_checkpoint_paths: "model.ckpt-3"\n', "model.ckpt-9"),
        (b'model_checkpoint_path: "/home/somebody/run/model.ckpt-9"\n', "model.ckpt-9"),
        (b'model_checkpoint_path: "C:\\\\run\\\\model.ckpt-9"\n', "model.ckpt-9"),
        (b'all_model_checkpoint_paths: "a"\nmodel_checkpoint_path: "b"\n', "b"),
        (b'model_checkpoint_path: "run/.."\n', None),
        (b'model_checkpoint_path: ""\n', None),
        (b'all_model_checkpoint_paths: "a"\n', None),
        (b"", None),
        (b"\xff\xfe\x00" * 40, None),
    ],
)  # fmt: skip
def test_what_a_list_of_checkpoints_names(text: bytes, prefix: str | None) -> None:
    assert listed_prefix(text) == prefix


@pytest.mark.parametrize(
    ("prefixes", "listed", "chosen"),
    [
        (("bert_model.ckpt",), None, "bert_model.ckpt"),
        (("bert_model.ckpt",), "model.ckpt-9", "bert_model.ckpt"),
        (("model.ckpt-9", "model.ckpt-100", "model.ckpt-20"), None, "model.ckpt-100"),
        (("model.ckpt-9", "model.ckpt-100", "model.ckpt-20"), "model.ckpt-9", "model.ckpt-9"),
        (("model.ckpt-9", "model.ckpt-100"), "model.ckpt-500", "model.ckpt-100"),
        (("model.ckpt-best", "model.ckpt-100"), "model.ckpt-best", "model.ckpt-best"),
    ],
)
def test_which_of_several_is_meant(prefixes: tuple[str, ...], listed: str | None, chosen: str) -> None:
    found = choose_prefix(index_of(*prefixes), listed)
    assert found.index == chosen + INDEX
    assert bool(found.notes) == (len(prefixes) > 1)
    for prefix in set(prefixes) - {chosen}:
        assert prefix in found.notes[0]


@pytest.mark.parametrize("prefixes", [("a", "b"), ("model.ckpt-best", "model.ckpt-100"), ("a-1", "b-2")])
def test_nothing_decides(prefixes: tuple[str, ...]) -> None:
    with pytest.raises(RequestError) as refusal:
        choose_prefix(index_of(*prefixes), None)
    assert all(prefix in refusal.value.message for prefix in prefixes)
    assert "PREFIX" in refusal.value.hint


def test_other_weights_keep_their_preference() -> None:
    names = ["model.safetensors", *PARTS]
    assert choose(names, ("safetensors", "bundle")).name == "model.safetensors"
    assert choose(names, ("bundle", "safetensors")).name == PARTS[0]


def make(folder: Path, *names: str) -> Path:
    for name in (*names, "bert_config.json"):
        (folder / name).write_bytes(b"{}")
    return folder


@pytest.mark.parametrize(
    ("names", "what", "way"),
    [
        ((PARTS[1],), "graph", "bert_model.ckpt.index and bert_model.ckpt.data-00000-of-00001"),
        ((PARTS[1], PARTS[2]), "bert_model.ckpt.index, which says", "bert_model.ckpt.index"),
        ((PARTS[0],), "says what the files", ".data-00000-of-00001"),
        ((PARTS[0], PARTS[1]), "says what the files", ".data-00000-of-00001"),
    ],
)
@pytest.mark.parametrize("given", ["", CKPT])
def test_parts_without_the_others(tmp_path: Path, names: tuple[str, ...], what: str, way: str, given: str) -> None:
    with pytest.raises(DamagedCheckpoint) as refusal:
        open_source(str(make(tmp_path, *names) / given))
    assert what in refusal.value.message
    assert way in refusal.value.hint


def test_a_lone_part_is_known_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(DamagedCheckpoint, match="graph"):
        open_source(make(tmp_path, PARTS[1]) / PARTS[1])
    assert incomplete(["model.safetensors"], "here") is None


@pytest.mark.parametrize("start", [b"{", b"\x1f\x8b", b"<", b"<htm"])
def test_numbers_may_begin_like_a_text(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "data").write_bytes(start + bytes(40))
    with closing(SourceFile(tmp_path / "data")) as file:
        refuse_impostor(file)


@pytest.mark.parametrize("name", [PARTS[0], PARTS[2]])
def test_pointers_of_git_lfs_are_told(tmp_path: Path, name: str) -> None:
    make(tmp_path, *PARTS)
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"
    (tmp_path / PARTS[0]).write_bytes(pointer)
    (tmp_path / name).write_bytes(pointer)
    with pytest.raises(DamagedCheckpoint, match="Git-LFS"):
        open_source(os.fspath(tmp_path))
