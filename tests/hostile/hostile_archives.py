"""Zip archives that two readers read differently, legacy files that end elsewhere, and files that are neither."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

from hostile_case import STATE, VICTIM, Case
from torch_cases import SYSTEM, Record, archive, pickled, text
from torch_model import COUNT, DATA, changed, legacy, model, records, zipped

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint


def tricked(error: type[BertconvError], make: Callable[[], bytes], words: str, tensor: str | None = None) -> Case:
    return Case(lambda _: make(), error, words, tensor)


def bombed() -> bytes:
    """64 MB of zeros in some kilobytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as writer:
        for record in records():
            with writer.open(record.name, "w") as member:
                member.write(record.data)
        with writer.open("a/data/99", "w", force_zip64=True) as member:
            for _ in range(64):
                member.write(bytes(1 << 20))
    return stream.getvalue()


def flipped() -> bytes:
    data = bytearray(zipped(model()))
    data[data.index(STATE[VICTIM].tobytes())] ^= 1
    return bytes(data)


OVERLAPPING = Record("a/data/99", b"", at=0)
ZIPS = {
    "a prefix": tricked(DamagedCheckpoint, lambda: archive(records(), prefix=b"PK\3\4; exit\n"), "before its zip"),
    "bytes behind": tricked(DamagedCheckpoint, lambda: archive(records(), suffix=b"\0" * 64), "after the end"),
    "a second archive behind": tricked(DamagedCheckpoint, lambda: zipped(model()) * 2, "lie where"),
    "two pickles": tricked(
        DamagedCheckpoint, lambda: archive([*records(), Record("a/data.pkl", model())]), "two records a/data.pkl"
    ),
    "two records of a tensor": tricked(
        DamagedCheckpoint, lambda: archive([*records(), Record(DATA, bytes(4 * COUNT))]), f"two records {DATA}"
    ),
    "another local name": tricked(
        DamagedCheckpoint, lambda: archive(changed(DATA, local_name="a/data/zz"[: len(DATA)])), "describes otherwise"
    ),
    "another local size": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, local_size=4)), "otherwise"),
    "another local checksum": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, local_crc=7)), "otherwise"),
    "a wrong checksum of the pickle": tricked(
        DamagedCheckpoint, lambda: archive(changed("a/data.pkl", crc=7)), "wrong checksum in its record a/data.pkl"
    ),
    "a wrong checksum of weights": Case(
        lambda _: archive(changed(DATA, crc=7)), DamagedCheckpoint, "wrong checksum", VICTIM, header_only=True
    ),
    "a flipped bit in weights": Case(
        lambda _: flipped(), DamagedCheckpoint, "wrong checksum", VICTIM, header_only=True
    ),
    "the encryption bit": tricked(UnsafeCheckpoint, lambda: archive(changed(DATA, flags=1)), "encrypted"),
    "strong encryption": tricked(UnsafeCheckpoint, lambda: archive(changed(DATA, flags=0x40)), "encrypted"),
    "another method": tricked(UnsafeCheckpoint, lambda: archive(changed(DATA, method=8)), "compressed"),
    "a deflate bomb": tricked(UnsafeCheckpoint, bombed, "compressed"),
    "overlapping records": tricked(
        DamagedCheckpoint, lambda: archive([*records(), OVERLAPPING]), "describes otherwise"
    ),
    "a record inside another": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, at=3)), "otherwise"),
    "a record beyond the end": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, at=2**31)), "beyond its end"),
    "hidden bytes": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, after=b"hidden")), "belong to no record"),
    "a record of 2^60": tricked(
        DamagedCheckpoint,
        lambda: archive(
            changed(DATA, packed=0xFFFFFFFF, size=0xFFFFFFFF, extra=struct.pack("<2H2Q", 1, 16, 2**60, 2**60))
        ),
        "beyond its end",
    ),
    "64-bit sizes missing": tricked(DamagedCheckpoint, lambda: archive(changed(DATA, size=0xFFFFFFFF)), "64-bit sizes"),
    "64-bit end elsewhere": tricked(DamagedCheckpoint, lambda: archive(records(), at64=0), "where its locator says"),
    "a directory of 2^60": tricked(DamagedCheckpoint, lambda: archive(records(), size=0xFFFFFFFF, size64=2**60), ""),
    "2^32 records": tricked(UnsafeCheckpoint, lambda: archive(records(), count=0xFFFF, count64=2**32), "records in a"),
    "two end records": tricked(DamagedCheckpoint, lambda: archive(records(), start=0), "contradict each other"),
    "a record that is a folder": tricked(
        DamagedCheckpoint, lambda: archive(changed(DATA, attributes=16)), "marked as a folder"
    ),
    "two top folders": tricked(DamagedCheckpoint, lambda: archive([*records(), Record("b/x")]), "one top folder"),
    "a path upwards": tricked(DamagedCheckpoint, lambda: archive([*records(), Record("../x")]), "one top folder"),
    "a program": tricked(UnsupportedCheckpoint, lambda: archive([*records(), Record("a/code/x.py")]), "TorchScript"),
    "a name that turns the terminal": tricked(
        DamagedCheckpoint, lambda: archive(changed(DATA, name="a/\x1b[2J", local_name="a/other")), "otherwise"
    ),
    "no pickle": tricked(DamagedCheckpoint, lambda: archive(records()[1:]), "no data.pkl"),
    "a second pickle behind": tricked(
        DamagedCheckpoint, lambda: zipped(model() + model()), "after the end of its pickle"
    ),
    "big-endian": tricked(
        UnsupportedCheckpoint, lambda: archive([*records(), Record("a/byteorder", b"big")]), "big-endian"
    ),
    "a newer version": tricked(UnsupportedCheckpoint, lambda: archive(changed("a/version", data=b"99")), "version 99"),
}

IMPOSTORS = {
    "empty": tricked(DamagedCheckpoint, lambda: b"", "0 bytes"),
    "an HTML page": tricked(DamagedCheckpoint, lambda: b"\n<!DOCTYPE html><title>404</title>", "HTML page"),
    "a Git-LFS pointer": tricked(
        DamagedCheckpoint, lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git-LFS"
    ),
    "zeros": tricked(DamagedCheckpoint, lambda: bytes(100_000), "neither"),
    "a JSON text": tricked(DamagedCheckpoint, lambda: b'{"error": "not found"}', "JSON"),
    "gzip": tricked(DamagedCheckpoint, lambda: b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "half a zip": tricked(DamagedCheckpoint, lambda: (data := zipped(model()))[: len(data) // 2], "truncated"),
    "a zip without its last byte": tricked(DamagedCheckpoint, lambda: zipped(model())[:-1], ""),
    "half a legacy file": tricked(DamagedCheckpoint, lambda: (data := legacy(model()))[: len(data) // 2], "beyond"),
    "a legacy file without its last byte": tricked(DamagedCheckpoint, lambda: legacy(model())[:-1], "beyond"),
    "a legacy file with a byte more": tricked(DamagedCheckpoint, lambda: legacy(model()) + b"\0", "after its last"),
    "a legacy storage of 2^62": tricked(
        DamagedCheckpoint,
        lambda: legacy(model(), data=struct.pack("<q", 2**62) + bytes(64)), "ends beyond the file",
    ),
    "a legacy storage of -1": tricked(
        DamagedCheckpoint,
        lambda: legacy(model(), data=struct.pack("<q", -1) + bytes(64)), "ends beyond the file",
    ),
    "a legacy list of another's keys": tricked(
        DamagedCheckpoint, lambda: legacy(model(), keys=pickled(b"]" + text("/etc/hostname") + b"a")), "no tensor names"
    ),
    "a legacy file, big-endian": tricked(
        UnsupportedCheckpoint, lambda: legacy(model(), system=SYSTEM.replace(b"\x88s", b"\x89s")), "big-endian"
    ),
}  # fmt: skip
