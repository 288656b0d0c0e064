"""ONNX files: the weights of the TorchScript exporter's come back bit for bit; everything else is refused by name."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import checkpoints as cp
import numpy as np
import onnx_model as om
import pytest
from checkpoints import Outcome

from bertconv import convert_checkpoint, inspect_checkpoint
from bertconv.containers.onnx import Onnx
from bertconv.containers.registry import CONTAINERS, read_header
from bertconv.containers.stored import SourceFile
from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)

Cli = Callable[..., Outcome]
MLM, BASE = "BertForMaskedLM", "BertModel"
CLASSES = ("BertModel", "BertForMaskedLM", "RobertaForTokenClassification", "AlbertForMaskedLM",
           "DistilBertForSequenceClassification", "ElectraForPreTraining", "MPNetModel")  # fmt: skip


def save(folder: Path, head: str, content: bytes, name: str = "model.onnx") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    cp.write_config(folder, cp.config(head))
    (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("fold", [True, False], ids=["folded", "as they are"])
@pytest.mark.parametrize("head", CLASSES)
def test_every_tensor_comes_back(tmp_path: Path, head: str, fold: bool) -> None:
    tensors = cp.state_dict(head)
    src = save(tmp_path / "in", head, om.exported(tensors, fold=fold).file())
    report = convert_checkpoint(src, tmp_path / "out", to="pt")
    assert report.ok
    plain = convert_checkpoint(cp.save(tmp_path / "plain", head, tensors), tmp_path / "same", to="pt")
    assert report.digest == plain.digest
    cp.assert_same(cp.written(tmp_path / "out"), cp.written(tmp_path / "same"))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_element_types(tmp_path: Path, dtype: str) -> None:
    tensors = cp.state_dict(BASE, dtype)
    src = save(tmp_path / "in", BASE, om.exported(tensors).file())
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, tensors))


def test_names_of_sentence_transformers(tmp_path: Path) -> None:
    """As in a real file: the parameters below `model.0.auto_model`, the nodes below `/model/model.0/auto_model`."""
    tensors = {f"model.0.auto_model.{name}": array for name, array in cp.native(BASE, cp.state_dict(BASE)).items()}
    graph = om.exported(tensors)
    graph.nodes = [below_a_called_module(one) for one in graph.nodes]
    src = save(tmp_path / "in", BASE, graph.file())
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, cp.state_dict(BASE)))


def test_equal_parameters_are_stored_once(tmp_path: Path) -> None:
    tensors = cp.state_dict(BASE)
    first, *others = [name for name in tensors if name.endswith("LayerNorm.bias")]
    same = dict.fromkeys(others, first) | {others[1]: others[0]}  # one of them through another
    tensors |= dict.fromkeys(others, tensors[first])
    src = save(tmp_path / "in", BASE, om.exported(tensors, same=same).file())
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, tensors))


def test_a_layer_that_is_used_again_is_the_first_one_s(tmp_path: Path) -> None:
    """ALBERT's: the exporter calls the second use `query_1`, and makes its matrix of the first one's."""
    tensors = cp.state_dict(BASE)
    graph = om.exported(tensors)
    anonymous = next(name for name in graph.constants if name.startswith("onnx::"))
    graph.nodes.append(om.node("Identity", "Identity_9", [anonymous], ["onnx::MatMul_999"]))
    graph.nodes.append(om.node("MatMul", "/encoder/layer.0_1/query_1/MatMul", ["x", "onnx::MatMul_999"], ["z"]))
    src = save(tmp_path / "in", BASE, graph.file())
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, tensors))


def test_data_beside_the_file(tmp_path: Path) -> None:
    tensors = cp.state_dict(BASE)
    graph, blob = om.exported(tensors), bytearray(b"\0" * 16)
    for name, array in tensors.items():
        if name in graph.constants:
            graph.constants[name] = outside(name, array, "model.onnx.data", len(blob))
            blob += array.tobytes()
    src = save(tmp_path / "in", BASE, graph.file())
    (src / "model.onnx.data").write_bytes(blob)
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, tensors))


def test_numbers_that_stand_one_after_the_other_are_bytes(tmp_path: Path) -> None:
    tensors = cp.state_dict(BASE)
    graph, name = om.exported(tensors), cp.WORD
    array = tensors[name]
    dims = om.data(1, b"".join(map(om.varint, array.shape)))
    graph.constants[name] = om.constant(name, array, dims=dims, content=om.data(4, array.tobytes()))
    src = save(tmp_path / "in", BASE, graph.file())
    convert_checkpoint(src, tmp_path / "out", to="pt")
    cp.assert_same(cp.written(tmp_path / "out"), cp.native(BASE, tensors))


def test_inspect_says_what_it_is(tmp_path: Path) -> None:
    graph = om.exported(cp.state_dict(MLM))
    graph.constants["onnx::Add_7"] = om.constant("onnx::Add_7", np.ones(1, np.int64))
    found = inspect_checkpoint(save(tmp_path / "in", MLM, graph.file()))
    assert (found.container, found.dialect, found.head) == ("onnx", "pt", MLM)
    assert found.metadata == {"producer": "pytorch", "producer_version": "2.3.0"}
    assert any("have the names of the nodes" in note for note in found.notes)


def test_it_comes_last_in_a_folder(tmp_path: Path) -> None:
    src = cp.save(tmp_path / "in", BASE, cp.state_dict(BASE))
    (src / "model.onnx").write_bytes(b"not even one")
    assert inspect_checkpoint(src).container == "safetensors"
    assert isinstance(CONTAINERS[-1], Onnx)


# What is not read


def outside(name: str, array: np.ndarray, location: str, offset: object = 0, length: object = None) -> bytes:
    facts = {"location": location, "offset": str(offset), "length": str(array.nbytes if length is None else length)}
    content = b"".join(om.pair(13, key, value) for key, value in facts.items()) + om.number(14, 1)
    return om.constant(name, array, content=content)


def below_a_called_module(step: bytes) -> bytes:
    """A node below `/model.0/`, as if the module before it had been called too."""
    old, new = b"/model.0/", b"/model/model.0/"
    if old not in step:
        return step
    start = step.index(old) - 1
    name = step[start + 1 : start + 1 + step[start]]
    assert step[start] < 114
    return (
        step[:start]
        + bytes([step[start] + len(new) - len(old)])
        + name.replace(old, new)
        + step[start + 1 + len(name) :]
    )


class Case(NamedTuple):
    """A file that is refused: what is done to the sound graph, the error, and words of its message."""

    change: Callable[[om.Graph], bytes]
    error: type[BertconvError]
    words: str


def with_word(**changes: object) -> Callable[[om.Graph], bytes]:
    def change(graph: om.Graph) -> bytes:
        graph.constants[cp.WORD] = om.constant(cp.WORD, TENSORS[cp.WORD], **changes)
        return graph.file()

    return change


def with_outside(*place: object) -> Callable[[om.Graph], bytes]:
    def change(graph: om.Graph) -> bytes:
        graph.constants[cp.WORD] = outside(cp.WORD, TENSORS[cp.WORD], *place)
        return graph.file()

    return change


def plus(*nodes: bytes, **constants: np.ndarray) -> Callable[[om.Graph], bytes]:
    def change(graph: om.Graph) -> bytes:
        graph.nodes += nodes
        graph.constants |= {name: om.constant(name, array) for name, array in constants.items()}
        return graph.file()

    return change


TENSORS = cp.state_dict(BASE)
MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
HALF = om.data(9, TENSORS[cp.WORD].tobytes()[:-4])
LONG = "x" * 5000

CASES = {
    "truncated": Case(lambda graph: graph.file()[:-900], DamagedCheckpoint, "field"),
    "no graph behind the first bytes": Case(
        lambda graph: om.model(graph.content()) + om.data(7, graph.content()), DamagedCheckpoint, "2 graphs"),
    "graph of garbage": Case(lambda _: om.model(b"\xff" * 700), DamagedCheckpoint, "number that does not end"),
    "group in a message": Case(lambda graph: om.model(graph.content() + b"\x0b"), DamagedCheckpoint, "of kind 3"),
    "elements missing": Case(with_word(content=HALF), DamagedCheckpoint, "bytes for a shape"),
    "no elements": Case(with_word(content=b""), DamagedCheckpoint, "has 0 bytes"),
    "elements twice": Case(with_word(content=HALF + HALF), DamagedCheckpoint, "twice"),
    "negative size": Case(with_word(dims=om.number(1, -1) + om.number(1, -3535)), DamagedCheckpoint, "size"),
    "huge sizes": Case(with_word(dims=om.number(1, 1 << 62) * 8), DamagedCheckpoint, "size"),
    "too many axes": Case(with_word(dims=om.number(1, 1) * 40), DamagedCheckpoint, "32 axes"),
    "too many axes in one field": Case(with_word(dims=om.data(1, b"\1" * 400)), DamagedCheckpoint, "32 axes"),
    "numbers one by one": Case(
        with_word(content=om.varint(4 << 3 | 5) + b"\0\0\x80?"), UnsupportedCheckpoint, "numbers"),
    "unknown element type": Case(with_word(dtype=99), UnsupportedCheckpoint, "99"),
    "text as an element type": Case(with_word(dtype=8, content=om.data(6, "a")), UnsupportedCheckpoint, "8"),
    "two of one name": Case(
        lambda graph: om.model(graph.content() + om.data(5, graph.constants[cp.WORD])),
        DamagedCheckpoint, "two constants"),
    "name that is no text": Case(
        lambda graph: om.model(graph.content() + om.data(5, om.data(8, b"\xff\xfe"))), DamagedCheckpoint, "UTF-8"),
    "name without end": Case(plus(om.node("Add", LONG, ["x"], ["y"])), DamagedCheckpoint, "text of 5,000"),
    "more inputs than any node": Case(plus(om.node("Add", "n", ["x"] * 1100, [])), UnsafeCheckpoint, "inputs"),
    "Identity in a circle": Case(
        plus(om.node("Identity", "a", ["p"], ["q"]), om.node("Identity", "b", ["q"], ["p"])),
        DamagedCheckpoint, "itself"),
    "data above the folder": Case(with_outside("../secret"), UnsafeCheckpoint, "no plain file name"),
    "data at an absolute path": Case(with_outside("/etc/passwd"), UnsafeCheckpoint, "no plain file name"),
    "data nowhere": Case(with_outside(""), UnsafeCheckpoint, "no plain file name"),
    "data behind a link": Case(with_outside("link"), UnsafeCheckpoint, "symbolic link"),
    "data in a FIFO": Case(with_outside("fifo"), UnsafeCheckpoint, "regular file"),
    "data in a file that is not there": Case(with_outside("gone"), DamagedCheckpoint, "cannot be opened"),
    "data beyond the end": Case(with_outside("short"), DamagedCheckpoint, "short"),
    "data at no number": Case(with_outside("short", "1e3"), DamagedCheckpoint, "where a number should stand"),
    "data at a negative place": Case(with_outside("short", "-4"), DamagedCheckpoint, "where a number should stand"),
    "data at a number without end": Case(with_outside("short", "9" * 4000), DamagedCheckpoint, "where a number"),
    "quantised": Case(plus(om.node("MatMulInteger", "q", ["x", "w"], ["y"])), UnsupportedCheckpoint, "quantised"),
    "quantised by ONNX Runtime": Case(
        plus(om.node("MatMulNBits", "q", ["x"], ["y"])), UnsupportedCheckpoint, "quantised"),
    "fused attention": Case(
        plus(om.node("Attention", "Attention_0", ["x", "qkv_weight"], ["y"]), qkv_weight=MATRIX),
        UnsupportedCheckpoint, "Attention_0 computes with one of them"),
    "names lost, as the newer exporter has them": Case(
        plus(om.node("MatMul", "node_MatMul_58", ["x", "val_59"], ["y"]), val_59=MATRIX),
        UnsupportedCheckpoint, "val_59"),
    "one module, two matrices": Case(
        plus(*(om.node("MatMul", "/a/b/MatMul", ["x", name], ["y"]) for name in ("m1", "m2")),
        m1=MATRIX, m2=MATRIX + 1),
        UnsupportedCheckpoint, "there twice"),
    "sparse": Case(lambda graph: om.model(graph.content() + om.data(15, b"")), UnsupportedCheckpoint, "sparse"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_hostile_and_foreign_files(cli: Cli, tmp_path: Path, name: str) -> None:
    case = CASES[name]
    src = save(tmp_path / "in", BASE, case.change(om.exported(TENSORS)))
    (tmp_path / "secret").write_bytes(TENSORS[cp.WORD].tobytes())
    (src / "link").symlink_to(tmp_path / "secret")
    (src / "short").write_bytes(b"1234")
    os.mkfifo(src / "fifo")
    for words in (("inspect", src, "--json"), ("convert", src, tmp_path / "out", "--to", "pt", "--json")):
        done = cli(*words)
        assert done.code == case.error.exit_code, done
        facts = json.loads(done.out)["error"]
        assert facts["kind"] == case.error.__name__
        assert case.words in facts["message"], facts["message"]
        assert facts["hint"]
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "start",
    [b"\x08\x01\x12\xff\xff\x03", b"\x08\x00:\x02", b"\x08\x08", b"\x08\xff\xff:\x02ab", b"\x08\x08\x15abcd:\x02ab",
     b"\x08\x08\x12\xc8\x02" + b"a" * 328 + b":\x02ab", b"a,b,c,d,e,f", b"\x08\x07\n\x03abc:\x02ab", b"\x08" * 100],
)  # fmt: skip
def test_what_is_taken_for_none(start: bytes) -> None:
    """A SavedModel begins alike, and any bytes may; only the fields of a model up to its graph are one."""
    assert not Onnx().recognises(start, 10_000)


@pytest.mark.parametrize("seed", range(3))
def test_mutated_files_are_refused_or_read(tmp_path: Path, seed: int) -> None:
    """No mutation ends in anything but a header within the file, or an error of bertconv's own."""
    chance = random.Random(seed)
    some = {name: TENSORS[name] for name in list(TENSORS)[:12]}
    sound = om.exported(some, same={"bert.embeddings.LayerNorm.weight": "bert.embeddings.LayerNorm.bias"}).file()
    heads = [at for at in range(len(sound)) if sound[at : at + 1] in b"\x0a\x12\x1a\x22\x2a\x08\x10\x42\x4a"]
    read, hints = 0, set()
    path = tmp_path / "model.onnx"
    for _ in range(700):
        mutated = bytearray(sound)
        for _ in range(chance.randint(1, 3)):
            at = chance.choice(heads) if chance.random() < 0.7 else chance.randrange(len(mutated))
            at = min(at, len(mutated) - 1)
            kind = chance.random()
            if kind < 0.5:
                mutated[at] = chance.randrange(256)
            elif kind < 0.7:
                mutated[at:at] = om.varint(chance.choice((0, 1, 127, 1 << 31, 1 << 63, (1 << 64) - 1)))
            elif kind < 0.9:
                del mutated[at : at + chance.randint(1, 9)]
            else:
                del mutated[at:]
            if not mutated:
                break
        path.write_bytes(mutated)
        file = SourceFile(path)
        try:
            header = read_header(file)
        except BertconvError as error:
            hints.add(bool(error.hint))
            continue
        finally:
            file.close()
        read += 1
        for tensor in header.tensors:
            assert tensor.offset + tensor.nbytes <= len(mutated) or tensor.nbytes == 0
    assert read
    assert hints == {True}
