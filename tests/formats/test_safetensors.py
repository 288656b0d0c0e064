"""The safetensors reader against the reference one in Rust: what it accepts, the other accepts, with equal contents."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from checkpoints import with_header
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize, safe_open

from bertconv.containers import safetensors
from bertconv.containers.registry import read_header
from bertconv.containers.safetensors import file_order, header_bytes, read_safetensors
from bertconv.errors import BertconvError, DamagedCheckpoint, MappingError, UnsafeCheckpoint

Contents = dict[str, tuple[str, tuple[int, ...], bytes]]
CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int16": "I16", "int8": "I8", "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2", "complex64": "C64",
}  # fmt: skip


def ours(path: Path, raw: bytes) -> tuple[Contents, dict[str, str]] | None:
    """What bertconv reads, or None where it refuses; any exception but its own fails the test."""
    path.touch()
    with path.open("r+b") as written:  # emptied and written anew, it would wait for the disk
        written.write(raw)
        written.truncate()
    file = cp.open_file(path)
    try:
        header = read_safetensors(file)
    except BertconvError:
        return None
    finally:
        file.close()
    found = {
        tensor.name: (CODES[tensor.dtype], tensor.shape, raw[tensor.offset : tensor.offset + tensor.nbytes])
        for tensor in header.tensors
    }
    assert len(found) == len(header.tensors)
    return found, header.metadata


def theirs(raw: bytes) -> Contents | None:
    try:
        found = deserialize(raw)
    except (SafetensorError, OverflowError):
        return None
    return {name: (entry["dtype"], tuple(entry["shape"]), bytes(entry["data"])) for name, entry in found}


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


def text(header: object) -> bytes:
    return json.dumps(header).encode()


E8 = bytes(range(8))
ONE = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


def raw_entry(dtype: str = '"F32"', shape: str = "[2]", offsets: str = "[0,8]") -> bytes:
    return f'{{"a":{{"dtype":{dtype},"shape":{shape},"data_offsets":{offsets}}}}}'.encode()


WIDTHS = (
    ("F64", 8), ("F32", 4), ("F16", 2), ("BF16", 2), ("I64", 8), ("I32", 4), ("I16", 2), ("I8", 1), ("U64", 8),
    ("U32", 4), ("U16", 2), ("U8", 1), ("BOOL", 1), ("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8),
)  # fmt: skip

SOUND: dict[str, bytes] = {
    "one tensor": with_header(ONE.encode(), E8),
    "no tensor": with_header(b"{}"),
    "padded": with_header(ONE.encode() + b"   ", E8),
    "not aligned": with_header(ONE.encode() + b" ", E8),
    "metadata": with_header(text({"__metadata__": {"format": "pt", "é": "\n\t\x00"}, "a": entry()}), E8),
    "empty metadata": with_header(text({"__metadata__": {}, "a": entry()}), E8),
    "null metadata": with_header(text({"__metadata__": None, "a": entry()}), E8),
    "metadata at the end": with_header(text({"a": entry(), "__metadata__": {"x": "y"}}), E8),
    "scalar": with_header(text({"a": entry("F64", [], [0, 8])}), E8),
    "empty tensor": with_header(text({"a": entry("F32", [0], [0, 0])})),
    "empty tensor among others": with_header(
        text({"a": entry(), "b": entry("F32", [3, 0], [8, 8]), "c": entry("U8", [1], [8, 9])}), E8 + b"1"
    ),
    "two tensors in another order": with_header(
        text({"a": entry("F32", [1], [4, 8]), "b": entry("F32", [1], [0, 4])}), E8
    ),
    "white space inside": with_header(ONE.replace(":", " :\n\t").encode(), E8),
    "escaped key": with_header(ONE.replace('"a"', '"\\u0061"').encode(), E8),
    "surrogate pair": with_header(ONE.replace('"a"', '"\\ud83d\\ude00"').encode(), E8),
    "name of other letters": with_header(ONE.replace('"a"', '"слой.0/ß"').encode(), E8),
    "fields in another order": with_header(text({"a": dict(reversed(entry().items()))}), E8),
    **{f"type {code}": with_header(text({"a": entry(code, [8 // size], [0, 8])}), E8)
       for code, size in WIDTHS},
}  # fmt: skip

REFUSED: dict[str, bytes] = {
    "empty file": b"",
    "seven bytes": b"\0" * 7,
    "no header": b"\0" * 8,
    "header of zero bytes and data": b"\0" * 8 + E8,
    "header longer than the file": (1000).to_bytes(8, "little") + ONE.encode() + E8,
    "header one byte too long": (len(ONE) + 9).to_bytes(8, "little") + ONE.encode() + E8,
    "header of 2^63 bytes": (2**63).to_bytes(8, "little") + ONE.encode() + E8,
    "header of 2^64 - 1 bytes": (2**64 - 1).to_bytes(8, "little") + ONE.encode() + E8,
    "header that stops in its middle": with_header(ONE[:20].encode(), ONE[20:].encode() + E8),
    "no JSON": with_header(b"{nonsense}"),
    "a list": with_header(b"[]"),
    "a number": with_header(b"1"),
    "text": with_header(b'"{"'),
    "two objects": with_header(b"{}{}"),
    "comma at the end": with_header(b'{"a":1,}'),
    "byte order mark": with_header(b"\xef\xbb\xbf" + ONE.encode(), E8),
    "leading space": with_header(b" " + ONE.encode(), E8),
    "leading newline": with_header(b"\n" + ONE.encode(), E8),
    "padded with newlines": with_header(ONE.encode() + b"\n\n", E8),
    "padded with tabs": with_header(ONE.encode() + b"\t", E8),
    "padded with zeros": with_header(ONE.encode() + b"\0\0", E8),
    "padded with a newline before spaces": with_header(ONE.encode() + b"\n  ", E8),
    "not UTF-8": with_header(ONE.replace('"a"', '"\xe9"').encode("latin-1"), E8),
    "UTF-16": with_header(ONE.encode("utf-16-le"), E8),
    "lone surrogate in a name": with_header(ONE.replace('"a"', '"\\ud800"').encode(), E8),
    "lone surrogate in metadata": with_header(b'{"__metadata__":{"a":"\\udfff"},' + ONE[1:].encode(), E8),
    "lone surrogate in a metadata key": with_header(b'{"__metadata__":{"\\ud800":"a"},' + ONE[1:].encode(), E8),
    "raw newline in a name": with_header(ONE.replace('"a"', '"a\n"').encode(), E8),
    "metadata with a number": with_header(text({"__metadata__": {"x": 1}, "a": entry()}), E8),
    "metadata with null": with_header(text({"__metadata__": {"x": None}, "a": entry()}), E8),
    "metadata with an object": with_header(text({"__metadata__": {"x": {}}, "a": entry()}), E8),
    "metadata that is a list": with_header(text({"__metadata__": [], "a": entry()}), E8),
    "metadata that is a tensor": with_header(text({"__metadata__": entry()}), E8),
    "metadata twice": with_header(b'{"__metadata__":{},"__metadata__":{},' + ONE[1:].encode(), E8),
    "metadata key twice": with_header(b'{"__metadata__":{"x":"a","x":"b"},' + ONE[1:].encode(), E8),
    "tensor twice": with_header(
        ONE[:-1].encode() + b',"a":{"dtype":"I32","shape":[2,1],"data_offsets":[0,8]}}', E8
    ),
    "tensor twice, once escaped": with_header(ONE[:-1].encode() + b',"\\u0061":' + text(entry()) + b"}", E8),
    "field twice": with_header(ONE.replace('"shape":[2]', '"shape":[9],"shape":[2]').encode(), E8),
    "unknown field": with_header(text({"a": entry(strides=[1])}), E8),
    "no type": with_header(b'{"a":{"shape":[2],"data_offsets":[0,8]}}', E8),
    "no shape": with_header(b'{"a":{"dtype":"F32","data_offsets":[0,8]}}', E8),
    "no offsets": with_header(b'{"a":{"dtype":"F32","shape":[2]}}', E8),
    "tensor that is null": with_header(b'{"a":null}'),
    "tensor that is a list": with_header(b'{"a":["F32",[2],[0,8]]}', E8),
    "unknown type": with_header(raw_entry('"F31"'), E8),
    "type in small letters": with_header(raw_entry('"f32"'), E8),
    "type that is null": with_header(raw_entry("null"), E8),
    "type that is a number": with_header(raw_entry("32"), E8),
    "type that is a list": with_header(raw_entry('["F32"]'), E8),
    "shape that is null": with_header(raw_entry(shape="null"), E8),
    "shape that is a number": with_header(raw_entry(shape="2"), E8),
    "shape with text": with_header(raw_entry(shape='["2"]'), E8),
    "shape with a fraction": with_header(raw_entry(shape="[2.0]"), E8),
    "shape with an exponent": with_header(raw_entry(shape="[2e0]"), E8),
    "shape with true": with_header(raw_entry('"U8"', "[true]", "[0,1]"), b"1"),
    "shape with null": with_header(raw_entry(shape="[null]"), E8),
    "shape with a list": with_header(raw_entry(shape="[[2]]"), E8),
    "negative shape": with_header(raw_entry(shape="[-2]"), E8),
    "two negative sizes": with_header(raw_entry(shape="[-1,-2]"), E8),
    "minus zero": with_header(raw_entry(shape="[-0]", offsets="[0,0]")),
    "minus zero offset": with_header(raw_entry(offsets="[-0,8]"), E8),
    "shape with a leading zero": with_header(raw_entry(shape="[02]"), E8),
    "shape of 2^64": with_header(raw_entry(shape=f"[{2**64},0]", offsets="[0,0]")),
    "shape that overflows to the right size": with_header(raw_entry('"U8"', f"[{2**32},{2**32}]", "[0,0]")),
    "shape that overflows before a zero": with_header(raw_entry('"U8"', f"[{2**62},{2**62},0]", "[0,0]")),
    "shape whose bytes overflow": with_header(raw_entry('"F64"', f"[{2**62},0]", "[0,0]")[:-1] + b"}", E8),
    "number of 5,000 digits": with_header(raw_entry(shape="[" + "9" * 5000 + "]"), E8),
    "NaN": with_header(raw_entry(shape="[NaN]"), E8),
    "infinity in metadata": with_header(b'{"__metadata__":{"x":Infinity},' + ONE[1:].encode(), E8),
    "one offset": with_header(raw_entry(offsets="[8]"), E8),
    "three offsets": with_header(raw_entry(offsets="[0,8,8]"), E8),
    "no offset": with_header(raw_entry(offsets="[]"), E8),
    "offsets with text": with_header(raw_entry(offsets='["0","8"]'), E8),
    "offsets with fractions": with_header(raw_entry(offsets="[0.0,8.0]"), E8),
    "negative offset": with_header(raw_entry(offsets="[-8,0]"), E8),
    "offsets swapped": with_header(raw_entry(offsets="[8,0]"), E8),
    "offsets of 2^63": with_header(raw_entry(shape="[0]", offsets=f"[{2**63},{2**63}]"), E8),
    "offsets beyond the file": with_header(raw_entry(offsets="[0,8]"), E8[:-1]),
    "bytes after the last tensor": with_header(ONE.encode(), E8 + b"PK"),
    "bytes and no tensor": with_header(b"{}", E8),
    "hole at the start": with_header(raw_entry(shape="[1]", offsets="[4,8]"), E8),
    "hole": with_header(text({"a": entry("U8", [1], [0, 1]), "b": entry("U8", [1], [2, 3])}), b"123"),
    "overlap": with_header(text({"a": entry("U8", [4], [0, 4]), "b": entry("U8", [4], [2, 6])}), b"123456"),
    "equal ranges": with_header(text({"a": entry(), "b": entry()}), E8),
    "range inside another": with_header(text({"a": entry("U8", [8], [0, 8]), "b": entry("U8", [2], [2, 4])}), E8),
    "empty tensor inside another": with_header(text({"a": entry(), "b": entry("U8", [0], [4, 4])}), E8),
    "empty tensor beyond the end": with_header(text({"a": entry(), "b": entry("U8", [0], [9, 9])}), E8),
    "shape smaller than its bytes": with_header(raw_entry(shape="[1]"), E8),
    "shape larger than its bytes": with_header(raw_entry(shape="[3]"), E8),
    "name that is empty": with_header(ONE.replace('"a"', '""').encode(), E8),
    "name with NUL": with_header(ONE.replace('"a"', '"a\\u0000"').encode(), E8),
    "name with an escape code": with_header(ONE.replace('"a"', '"\\u001b[2J"').encode(), E8),
    "name that turns the text around": with_header(ONE.replace('"a"', '"a\\u202eb"').encode(), E8),
    "name of 1,025 letters": with_header(ONE.replace('"a"', f'"{"a" * 1025}"').encode(), E8),
    "100,000 brackets": with_header(b'{"a":' + b"[" * 100_000),
    "100,000 objects": with_header(b'{"a":' * 100_000),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_sound_files(tmp_path: Path, name: str) -> None:
    raw, path = SOUND[name], tmp_path / "model.safetensors"
    found = ours(path, raw)
    assert found is not None
    assert found[0] == theirs(raw)
    with safe_open(path, "np") as reader:
        assert found[1] == (reader.metadata() or {})
        assert set(found[0]) == set(reader.keys())


@pytest.mark.parametrize("name", REFUSED)
def test_refused_files(tmp_path: Path, name: str) -> None:
    assert ours(tmp_path / "model.safetensors", REFUSED[name]) is None


def test_there_are_enough_cases() -> None:
    assert len(SOUND) + len(REFUSED) >= 100
    assert sum(theirs(raw) is None for raw in REFUSED.values()) >= 60


# Mutations

TOKENS = (
    b"-0", b"-1", b"0", b"1", b"2", b"4", b"8", b"1e0", b"2.0", b"%d" % 2**63, b"%d" % 2**64, b"NaN", b"Infinity",
    b"null", b"true", b"{}", b"[]", b'""', b'"a"', b'"b"', b'"F32"', b'"F64"', b'"BF16"', b'"I8"', b'"U8"',
    b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b"\\u0000", b"\\ud800", b"\\u0061", b" ", b"\n",
    b"\t", b"\0", b"\xff", b"\xef\xbb\xbf", b",", b":", b"{", b"}", b"[", b"]", b'"', b"\\", b"e", b".", b"+", b"-",
)  # fmt: skip
MUTANTS = 20_000


def mutants(seed: int, count: int) -> Iterator[bytes]:
    """Headers that differ from a sound one in one to three places, by bytes or by tokens."""
    draw = random.Random(seed)
    header = text({
        "__metadata__": {"format": "pt"}, "a": entry(), "b.c": entry("BF16", [3, 1], [8, 14]),
        "d": entry("U8", [0, 5], [14, 14]), "e": entry("F64", [], [14, 22]),
    }) + b"  "  # fmt: skip
    data = bytes(range(22))
    for _ in range(count):
        mutant = bytearray(header)
        for _ in range(draw.choice((1, 1, 1, 2, 3))):
            start = draw.randrange(len(mutant))
            end = start + draw.choice((0, 0, 1, 1, 2, 5, 20))
            span = draw.choice((b"", draw.choice(TOKENS), draw.choice(TOKENS), bytes(mutant[start:end]) * 2))
            mutant[start:end] = span
        length = len(mutant) + draw.choice((0, 0, 0, 0, 0, 0, 0, -1, 1, 8))
        yield max(length, 0).to_bytes(8, "little") + bytes(mutant) + data[: draw.choice((22, 22, 22, 22, 22, 14, 21))]


def test_mutants(tmp_path: Path) -> None:
    """Everything that is accepted here is accepted by the reference, with equal contents; only typed errors."""
    path, accepted = tmp_path / "model.safetensors", 0
    for raw in mutants(20260, MUTANTS):
        found = ours(path, raw)
        if found is not None:
            accepted += 1
            assert found[0] == theirs(raw), raw
    assert MUTANTS // 50 < accepted < MUTANTS // 2


# Limits and messages


@pytest.mark.parametrize("length", [100_000_001, 2**40, 2**64 - 1])
def test_header_beyond_the_limit(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(length.to_bytes(8, "little") + b"{}")
    with pytest.raises(UnsafeCheckpoint, match="100,000,000"):
        read_safetensors(cp.open_file(path))


def test_too_many_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(with_header(text({f"t{number}": entry("U8", [0], [0, 0]) for number in range(11)})))
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 11)
    assert len(read_safetensors(cp.open_file(path)).tensors) == 11
    monkeypatch.setattr(safetensors, "MAX_TENSORS", 10)
    with pytest.raises(UnsafeCheckpoint, match="11 tensors"):
        read_safetensors(cp.open_file(path))


@pytest.mark.parametrize("name", ["overlap", "hole", "negative shape", "unknown type", "unknown field"])
def test_errors_name_file_and_tensor(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(REFUSED[name])
    with pytest.raises(DamagedCheckpoint) as caught:
        read_safetensors(cp.open_file(path))
    assert caught.value.file == str(path)
    assert caught.value.tensor in {"a", "b"}
    assert caught.value.hint


LENGTHS = [*range(len(ONE), len(ONE) + 260), 31520, 35615, 0x0403_4B, 0x0A7B, 0x3C]
"""Every low byte, and lengths whose first bytes look like JSON, gzip, zip or HTML."""


def test_every_header_length_is_recognised(tmp_path: Path) -> None:
    """The first bytes of a file are the length of its header, and so may look like any other format's."""
    path = tmp_path / "model.safetensors"
    refused = {}
    for length in (length for length in LENGTHS if length >= len(ONE)):
        path.write_bytes(with_header(ONE.encode().ljust(length), E8))
        try:
            assert [tensor.name for tensor in read_header(cp.open_file(path)).tensors] == ["a"]
        except BertconvError as error:
            refused[length] = error.message
    assert refused == {}


# The writer


NAMES = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=12)
SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)


@settings(max_examples=100, deadline=None)
@given(tensors=st.dictionaries(NAMES.filter(lambda name: name != "__metadata__"),
                               st.tuples(st.sampled_from(sorted(CODES)), SHAPES), max_size=8),
       metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))  # fmt: skip
def test_written_headers_are_read(tensors: dict[str, tuple[str, tuple[int, ...]]], metadata: dict[str, str]) -> None:
    listed = [(name, dtype, shape) for name, (dtype, shape) in tensors.items()]
    header, offsets = header_bytes(listed, metadata)
    assert len(header) % 8 == 0
    sizes = [safetensors.ITEM_SIZE[dtype] * _product(shape) for _, dtype, shape in listed]
    raw = header + bytes(number % 251 for number in range(sum(sizes)))
    found = theirs(raw)
    assert found is not None
    for (name, dtype, shape), offset, size in zip(listed, offsets, sizes, strict=True):
        assert found[name] == (CODES[dtype], shape, raw[offset : offset + size])


def _product(shape: tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def test_order_of_a_file() -> None:
    names = [("b", "float16"), ("a", "float16"), ("c", "bfloat16"), ("z", "float64"), ("d", "float32")]
    assert [name for name, _ in sorted(names, key=lambda pair: file_order(*pair))] == ["z", "d", "c", "a", "b"]


def test_the_library_has_the_last_word_on_a_file_that_was_written(tmp_path: Path) -> None:
    header, _ = header_bytes([("a", "float32", (2, 3)), ("b", "bfloat16", ())], {"format": "pt"})
    path = tmp_path / "model.safetensors"
    path.write_bytes(header + bytes(26))
    file = cp.open_file(path)
    found, own = read_safetensors(file), safetensors.Safetensors()
    own.confirm(found)
    for other in (
        replace(found, metadata={}),
        replace(found, tensors=found.tensors[:1]),
        replace(found, tensors=(replace(found.tensors[0], shape=(3, 2)), found.tensors[1])),
    ):
        with pytest.raises(MappingError, match="reads other names, types or shapes; the output was not kept"):
            own.confirm(other)
    path.write_bytes(header + bytes(25))
    with pytest.raises(MappingError, match="it says: "):
        own.confirm(found)
    file.close()
