"""The check after writing, and the digest that a tensor has in every format."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest

from bertconv import saving
from bertconv.convert import convert_checkpoint
from bertconv.errors import ParityError, TiedTensorsDiffer
from bertconv.formats import streaming
from bertconv.formats.checksum import tensor_digest
from bertconv.formats.readback import check_duplicates
from bertconv.formats.streaming import Workspace
from bertconv.mapping.layout import Transpose
from bertconv.mapping.plan import Duplicate

HEAD = "BertForMaskedLM"
FORMATS = ("pt", "tf", "tf-safetensors")


@pytest.fixture
def src(tmp_path: Path) -> Path:
    return cp.save(tmp_path / "in", HEAD, cp.state_dict(HEAD))


# Bits that change on the way


def flip(monkeypatch: pytest.MonkeyPatch, place: float, bit: int = 1) -> list[str]:
    """Change one bit of the staged output once it is written; the list gets the name of the tensor that has it.

    Args:
        monkeypatch: undoes it.
        place: which byte of all the tensors' bytes, from 0 to 1.
        bit: which bit of it.
    """
    write, hit = saving.write_weights, []

    def write_and_flip(folder: Path, files: Sequence[Any], *rest: Any, **options: Any) -> Any:
        found = write(folder, files, *rest, **options)
        spans = [(file, tensor, offset) for file in files for tensor, offset, *_ in file.tensors]
        number = int(place * (sum(tensor.nbytes for _, tensor, _ in spans) - 1))
        for file, tensor, offset in spans:
            if number < tensor.nbytes:
                hit.append(tensor.spec.name)
                with (folder / file.name).open("r+b") as stream:
                    stream.seek(offset + number)
                    [byte] = stream.read(1)
                    stream.seek(offset + number)
                    stream.write(bytes([byte ^ bit]))
                break
            number -= tensor.nbytes
        return found

    monkeypatch.setattr(saving, "write_weights", write_and_flip)
    return hit


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", [0, 0.137, 0.5, 0.871, 1])
@pytest.mark.parametrize("options", [{}, {"dtype": "float16"}, {"max_shard_size": "20kB"}], ids=str)
def test_one_bit(
    src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, place: float, options: dict[str, Any]
) -> None:
    before = cp.snapshot(tmp_path)
    hit = flip(monkeypatch, place)
    with pytest.raises(ParityError) as caught:
        convert_checkpoint(src, tmp_path / "new" / "out", to=form, **options)
    assert caught.value.tensor is not None
    assert caught.value.tensor.endswith(hit[0])
    assert caught.value.file is not None
    assert caught.value.exit_code == 1
    assert "element" in caught.value.message
    assert cp.snapshot(tmp_path) == before


@pytest.mark.parametrize("bit", [1, 128])
def test_one_bit_over_an_old_output(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bit: int) -> None:
    convert_checkpoint(src, tmp_path / "out", to="tf")
    before = cp.snapshot(tmp_path)
    flip(monkeypatch, 0.3, bit)
    with pytest.raises(ParityError):
        convert_checkpoint(src, tmp_path / "out", to="pt", overwrite=True)
    assert cp.snapshot(tmp_path) == before


def test_one_bit_of_a_fresh_tensor(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hit = flip(monkeypatch, 1)
    with pytest.raises(ParityError, match="qa_outputs"):
        convert_checkpoint(src, tmp_path / "out", to="tf", head="BertForQuestionAnswering", init_missing=True)
    assert hit == ["qa_outputs/bias:0"]


def test_the_first_element_that_differs(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(monkeypatch, 0)
    with pytest.raises(ParityError, match="element 0 "):
        convert_checkpoint(src, tmp_path / "out", to="pt")


def test_zeros_of_both_signs_are_not_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits are compared, not numbers."""
    state = cp.state_dict()
    state["bert.embeddings.word_embeddings.weight"][:] = 0
    src = cp.save(tmp_path / "in", "BertModel", state)
    original = saving.write_weights

    def write(folder: Path, files: Sequence[Any], *rest: Any, **options: Any) -> Any:
        found = original(folder, files, *rest, **options)
        [(_, offset, *_)] = [each for each in files[0].tensors if each[0].spec.id == "embeddings.word.weight"]
        with (folder / files[0].name).open("r+b") as stream:
            stream.seek(offset)
            stream.write(np.float32(-0.0).tobytes())
        return found

    monkeypatch.setattr(saving, "write_weights", write)
    with pytest.raises(ParityError, match="word_embeddings"):
        convert_checkpoint(src, tmp_path / "out", to="pt")


def test_no_check_by_request(src: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flip(monkeypatch, 0.5)
    report = convert_checkpoint(src, tmp_path / "out", to="pt", verify="none")
    assert report.verified == "none"
    assert report.digest == ""
    assert "not verified" in report.summary()


# Digests


def documented(value: np.ndarray) -> str:
    """As docs and `tensor_digest` say: a tag, the type, the sizes, then little-endian elements in PyTorch's order."""
    head = f"bertconv-t1\0{value.dtype.name}\0{','.join(map(str, value.shape))}\0".encode()
    return "sha256:" + hashlib.sha256(head + np.ascontiguousarray(value).tobytes()).hexdigest()


@pytest.mark.parametrize("dtype", [*cp.FLOATS, "mixed"])
@pytest.mark.parametrize("form", FORMATS)
def test_digests_are_as_documented(tmp_path: Path, dtype: str, form: str) -> None:
    state = cp.state_dict(HEAD, dtype)
    report = convert_checkpoint(cp.save(tmp_path / "in", HEAD, state), tmp_path / "out", to=form)
    assert {tensor.source: tensor.digest for tensor in report.tensors} == {
        name: documented(value) for name, value in state.items()
    }
    lines = "".join(f"{tensor.id} {tensor.digest}\n" for tensor in sorted(report.tensors, key=lambda each: each.id))
    assert report.digest == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())
    assert manifest["digest"] == report.digest
    assert {name: each["digest"] for name, each in manifest["tensors"].items()} == {
        tensor.id: tensor.digest for tensor in report.tensors
    }


def test_digests_tell_types_and_shapes_apart() -> None:
    values = np.zeros((2, 6), np.float32)
    found = {tensor_digest(dtype, shape).hexdigest() for dtype, shape in (
        ("float32", (2, 6)), ("float32", (6, 2)), ("float32", (12,)), ("float32", (26,)), ("float32", (1, 2, 6)),
        ("float64", (2, 6)), ("float32", ()),
    )}  # fmt: skip
    assert len(found) == 7
    digest = tensor_digest("float32", (2, 6))
    digest.update(values.tobytes())
    assert f"sha256:{digest.hexdigest()}" == documented(values)


@pytest.mark.parametrize("form", FORMATS)
def test_the_manifest_covers_every_byte(src: Path, tmp_path: Path, form: str) -> None:
    (src / "vocab.txt").write_text("a\nb\n")
    report = convert_checkpoint(src, tmp_path / "out", to=form)
    manifest = json.loads((tmp_path / "out" / "bertconv.json").read_bytes())
    there = {path.name: path for path in (tmp_path / "out").iterdir() if path.name != "bertconv.json"}
    assert set(manifest["files"]) == set(there)
    for name, described in manifest["files"].items():
        content = there[name].read_bytes()
        assert described["size"] == len(content)
        if name in report.target["files"]:
            for value in cp.written(tmp_path / "out").values():
                content = content.replace(value.tobytes(), b"", 1)
            assert described["sha256_outside_tensors"] == hashlib.sha256(content).hexdigest()
        else:
            assert described["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("small", [False, True])
def test_what_the_check_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Across pieces too: NaNs and infinities are counted, and only a tensor that is zero throughout is all zero."""
    if small:
        monkeypatch.setattr(streaming, "PIECE", 16)
    state = cp.state_dict()
    word, dense = "bert.embeddings.word_embeddings.weight", "bert.pooler.dense.weight"
    state[word][::10, ::7] = np.nan
    state[word][3] = np.inf
    state[dense][:] = 0
    state["bert.encoder.layer.0.output.dense.weight"][:-1] = 0
    report = convert_checkpoint(cp.save(tmp_path / "in", "BertModel", state), tmp_path / "out", to="tf")
    count = int(np.count_nonzero(~np.isfinite(state[word])))
    assert [note for note in report.notes if "zero" in note] == ["pooler.dense.weight is all zero"]
    assert [note for note in report.notes if "NaN" in note] == [
        f"embeddings.word.weight holds {count} numbers that are NaN or infinite"
    ]


# Tied copies


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("where", [None, 0, 17, -1])
def test_duplicates(tmp_path: Path, turned: bool, where: int | None) -> None:
    matrix = cp.random_array((5, 7), "float32", 1)
    other = matrix.copy().reshape(-1)
    if where is not None:
        other.view(np.uint32)[where] ^= 1
    other = other.reshape(5, 7).T if turned else other.reshape(5, 7)
    path = tmp_path / "weights"
    path.write_bytes(matrix.tobytes() + np.ascontiguousarray(other).tobytes())
    file = cp.open_file(path)
    original = cp.stored(file, "float32", (5, 7))
    copy = cp.stored(file, "float32", other.shape, matrix.nbytes)
    pairs = [Duplicate(copy, original, Transpose.of_matrix(7, 5) if turned else None)]
    if where is None:
        check_duplicates(pairs)
    else:
        with pytest.raises(TiedTensorsDiffer):
            check_duplicates(pairs)
    file.close()


def test_twins_of_two_types(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.write_bytes(bytes(64))
    file = cp.open_file(path)
    with pytest.raises(TiedTensorsDiffer):
        check_duplicates([Duplicate(cp.stored(file, "float16", (8,), 32), cp.stored(file, "bfloat16", (8,)), None)])
    file.close()


def test_a_workspace_has_one_second() -> None:
    workspace = Workspace()
    assert workspace.second is workspace.second
    assert workspace.second is not workspace
