"""What the first bytes of a file say: files of other tools are named, with what can be done."""

from __future__ import annotations

import struct
from pathlib import Path

import checkpoints as cp
import pytest

from bertconv.containers.registry import read_header
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsupportedCheckpoint


def ctranslate2(name: str) -> bytes:
    """The beginning of a model.bin: version, name with its length and a zero, revision, number of variables."""
    spec = name.encode() + b"\0"
    return struct.pack("<I", 6) + struct.pack("<H", len(spec)) + spec + struct.pack("<II", 1, 3) + bytes(99)


LIST = b'model_checkpoint_path: "bert_model.ckpt"\nall_model_checkpoint_paths: "bert_model.ckpt"\n'


@pytest.mark.parametrize(
    ("content", "kind", "what", "way"),
    [
        (b"GGUF\x03\0\0\0" + bytes(99), UnsupportedCheckpoint, "GGUF", "made from"),
        (ctranslate2("TransformerEncoderSpec"), UnsupportedCheckpoint, "CTranslate2", "made from"),
        (LIST, DamagedCheckpoint, "list of checkpoints", "folder"),
        (b"version https://git-lfs.github.com/spec/v1\n" + bytes(99), DamagedCheckpoint, "Git-LFS", "git lfs pull"),
        (ctranslate2("Transformer"), DamagedCheckpoint, "neither safetensors nor", "holds the weights"),
    ],
    ids=["GGUF", "CTranslate2", "list", "pointer", "nothing known"],
)
def test_a_file_of_another_tool(tmp_path: Path, content: bytes, kind: type[BertconvError], what: str, way: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(kind, match=what) as caught:
        read_header(cp.open_file(path))
    assert way in caught.value.hint
