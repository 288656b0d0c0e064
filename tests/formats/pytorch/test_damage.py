"""Archives and streams that are damaged: lies in zip headers, truncation, and any one byte changed."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
import torch
from torch_cases import (
    FOUR,
    GOOD,
    Record,
    archive,
    check_refused,
    good_records,
    mapping,
    pickled,
    read,
    saved,
    tensor,
    text,
    values,
    zipped,
)

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint


def change(index: int, **values) -> list[Record]:
    records = good_records()
    for key, value in values.items():
        setattr(records[index], key, value)
    return records


def patched(data: bytes, at: int, new: bytes) -> bytes:
    at %= len(data)
    return data[:at] + new + data[at + len(new) :]


LONG = pickled(mapping(w=tensor(), x=text("x" * 2000)))
ZIP64_LIE = struct.pack("<2HQ", 1, 8, 16)
ZIP_TRICKS = {
    "a prefix": lambda: archive(good_records(), prefix=b"PK; exit\n", start=0),
    "a prefix with right offsets": lambda: archive(good_records(), prefix=b"PK; exit\n"),
    "trailing bytes": lambda: archive(good_records(), suffix=b"\0"),
    "a second archive behind": lambda: archive(good_records()) + archive(good_records()),
    "two members of one name": lambda: archive([*good_records(), Record("a/data/0", FOUR)]),
    "another local name": lambda: archive(change(2, local_name="a/data/1")),
    "another local size": lambda: archive(change(2, local_size=15)),
    "another local checksum": lambda: archive(change(2, local_crc=1)),
    "a wrong checksum": lambda: archive(change(2, crc=1)),
    "a wrong checksum of the pickle": lambda: archive(change(0, crc=1)),
    "a size that is too large": lambda: archive(change(2, size=10_000)),
    "a size that is too small": lambda: archive(change(2, size=8)),
    "sizes that contradict each other": lambda: archive(change(2, packed=15)),
    "overlapping members": lambda: archive([*good_records(), Record("a/data/0x", b"", at=0)]),
    "a nested member": lambda: archive(change(2, at=1)),
    "an offset beyond": lambda: archive(change(2, at=2**31)),
    "hidden bytes": lambda: archive(change(1, after=b"hidden")),
    "a hidden member": lambda: archive(change(1, after=archive(good_records())[:100])),
    "a false descriptor": lambda: archive(change(2, flags=8, after=b"PK\7\x08" + bytes(12))),
    "several top folders": lambda: archive([*good_records(), Record("b/data/1", FOUR)]),
    "no top folder": lambda: archive([Record("data.pkl", GOOD), Record("data/0", FOUR)]),
    "no pickle": lambda: archive(good_records()[1:]),
    "no members": lambda: archive([]),
    "a directory elsewhere": lambda: archive(good_records(), start=0, start64=0),
    "end records that contradict each other": lambda: archive(good_records(), start=0),
    "a 64-bit end elsewhere": lambda: archive(good_records(), at64=0),
    "more members than listed": lambda: archive(good_records(), count=2, count64=2),
    "fewer members than listed": lambda: archive(good_records(), count=5, count64=5),
    "a record that is a folder": lambda: archive(change(2, attributes=0x10)),
    "no version": lambda: archive(good_records()[:-1]),
    "a version that is no number": lambda: archive(change(3, data=b"\xb2")),
    "a wrong checksum of a small record": lambda: archive(change(3, crc=1)),
    "a directory of another size": lambda: archive(good_records(), size=10, size64=10),
    "64-bit sizes that are not needed": lambda: archive(change(2, extra=ZIP64_LIE)),
    "64-bit sizes that are missing": lambda: archive(change(2, size=0xFFFFFFFF)),
    "a 64-bit size beyond": lambda: archive(
        change(2, packed=16, size=2**32 - 1, extra=struct.pack("<2HQ", 1, 8, 2**60))
    ),
    "an extra field that is cut": lambda: archive(change(2, extra=b"\1\0\xff\xff")),
    "a saturated end without its 64-bit record": lambda: archive(good_records(), wide=False, count=0xFFFF),
    "one part of several": lambda: patched(archive(good_records(), wide=False), -18, b"\1"),
    "no 64-bit record at its place": lambda: patched(archive(good_records()), -98, b"QK"),
    "a wrong checksum of a large pickle": lambda: archive([Record("a/data.pkl", LONG, crc=1), *good_records()[1:]]),
    "bytes after the pickle": lambda: zipped(GOOD + b"\0"),
    "a second pickle": lambda: zipped(GOOD + GOOD),
}


def test_the_builder_builds_sound_archives(tmp_path):
    descriptor = b"PK\7\x08" + struct.pack("<3L", zlib.crc32(FOUR), 16, 16)
    for data in (
        archive(good_records()),
        archive(good_records(), wide=False),
        archive(change(2, flags=8, local_crc=0, local_size=0, after=descriptor)),
        archive(change(2, flags=8, local_crc=0, local_size=0, after=descriptor[4:])),
    ):
        assert read(tmp_path / "x.bin", data).tensors[0].shape == (4,)
        assert torch.load(tmp_path / "x.bin")["w"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("trick", ZIP_TRICKS)
def test_zip_tricks(tmp_path, trick):
    check_refused(tmp_path, ZIP_TRICKS[trick](), DamagedCheckpoint)


@pytest.mark.parametrize(
    "records",
    [change(2, method=8), change(0, method=8), change(2, flags=1), change(2, flags=0x40), change(2, flags=0x2000)],
)
def test_compressed_and_encrypted_members(tmp_path, records):
    check_refused(tmp_path, archive(records), UnsafeCheckpoint)


def test_too_many_members(tmp_path):
    check_refused(tmp_path, archive(good_records(), count=0xFFFF, count64=300_000), UnsafeCheckpoint)


def test_archives_of_python(tmp_path):
    """Python's zipfile writes 64-bit sizes into local headers; torch does not."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as writer:
        for record in good_records():
            with writer.open(record.name, "w", force_zip64=True) as member:
                member.write(record.data)
    assert read(tmp_path / "x.bin", stream.getvalue()).tensors[0].shape == (4,)


def small(*, old: bool) -> bytes:
    state = torch.nn.Linear(3, 2).state_dict()
    state["half"] = torch.arange(6.0).reshape(2, 3).t().half()
    return saved({"state_dict": state, "epoch": 3}, legacy=old)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
def test_truncation(tmp_path, old):
    data = small(old=old)
    for length in [*range(0, len(data), 97), len(data) - 1]:
        check_refused(tmp_path, data[:length], DamagedCheckpoint)


def same_as_torch(path: Path, data: bytes, header) -> None:
    """Where torch reads the file too, it reads the same."""
    try:
        state = torch.load(io.BytesIO(data), weights_only=True)["state_dict"]
    except Exception:  # noqa: BLE001 - the oracle raises a dozen kinds
        return
    for stored in header.tensors:
        if stored.dtype in ("float32", "float16", "int32"):
            assert values(stored, data).tobytes() == state[stored.name].contiguous().numpy().tobytes(), path


@pytest.mark.parametrize("old", [False, True], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore")
def test_mutations(tmp_path, old):
    """One changed byte: a typed error, or a header whose tensors lie in the file and hold what torch reads."""
    data = small(old=old)
    choose = random.Random(20)
    accepted = 0
    for _ in range(3000):
        changed = bytearray(data)
        changed[choose.randrange(len(data))] ^= choose.randrange(1, 256)
        try:
            header = read(tmp_path / "x.bin", bytes(changed))
        except BertconvError as error:
            assert error.file == str(tmp_path / "x.bin")  # noqa: PT017 - both outcomes are right
            continue
        accepted += 1
        for stored in header.tensors:
            assert values(stored, bytes(changed)).shape == stored.shape
        same_as_torch(tmp_path, bytes(changed), header)
    assert accepted < 1500
