"""Checks of safetensors headers that no other test would miss."""

from __future__ import annotations

from pathlib import Path

import checkpoints as cp
import pytest

from bertconv.containers.safetensors import MAX_TENSORS, read_safetensors
from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint

ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def refused(folder: Path, header: str, kind: type[BertconvError], data: bytes = bytes(8)) -> str:
    (folder / "model.safetensors").write_bytes(cp.with_header(header.encode(), data))
    with pytest.raises(kind) as caught:
        read_safetensors(cp.open_file(folder / "model.safetensors"))
    assert caught.value.file == str(folder / "model.safetensors")
    return caught.value.message


def test_too_many_tensors_whose_fields_are_spelled_with_escapes(tmp_path: Path) -> None:
    """They are counted before they are parsed, which this spelling escapes, and again behind."""
    entry = r'{"dtype":"U8","shape":[0],"data\u005foffsets":[0,0]}'
    header = "{" + ",".join(f'"{number}":{entry}' for number in range(MAX_TENSORS + 1)) + "}"
    assert "100,001 tensors" in refused(tmp_path, header, UnsafeCheckpoint, b"")


@pytest.mark.parametrize("number", ["1" * 21, "1" * 4000, "2.0", "2e0", "-0", "0." + "0" * 30])
@pytest.mark.parametrize("place", ["[2]", "[0,"])
def test_numbers_that_are_no_sizes(tmp_path: Path, number: str, place: str) -> None:
    header = '{"a":' + ENTRY.replace(place, place.replace(place[1], number)) + "}"
    message = refused(tmp_path, header, DamagedCheckpoint)
    assert message.endswith(f"{number[:20]} is not a size.")
