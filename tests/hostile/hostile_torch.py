"""PyTorch files, each a whole BERT that would convert but for one thing; case by case, with how it is refused."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from hostile_archives import IMPOSTORS, ZIPS
from hostile_case import VICTIM, Case
from payloads import GADGETS, OPCODES, Payload, called, system
from torch_cases import name, storage, text
from torch_model import (
    COUNT,
    MAKERS,
    VICTIM_KEY,
    described,
    items,
    legacy,
    mapped,
    model,
    pickle4,
    records,
    victim,
    zipped,
)

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

# Payloads


def live(error: type[BertconvError], make: Callable[[Path], bytes], words: str = "", **more: str) -> Case:
    return Case(make, error, words, control=more.pop("control", "torch"), **more)


def beside(payload: Payload, container: str) -> Callable[[Path], bytes]:
    return lambda canary: MAKERS[container](model(more=payload(canary)))


def payload_cases() -> dict[str, Case]:
    """Every gadget by REDUCE, every opcode with os.system, in both containers."""
    found = {}
    for container in MAKERS:
        for gadget, payload in GADGETS.items():
            words = f"wants to call {gadget},"
            found[f"{container}: {gadget}"] = live(UnsafeCheckpoint, beside(payload, container), words)
        for opcode, payload in OPCODES.items():
            words = "copyreg" if opcode.startswith("EXT") else "wants to call "
            found[f"{container}: {opcode}"] = live(UnsafeCheckpoint, beside(payload, container), words)
    return found


HOOKS = called(name("collections", "OrderedDict"))
HOOKS_OF_TENSOR = name("collections", "OrderedDict") + b")R"
PLACES: Mapping[str, Callable[[bytes], bytes]] = {
    "before nonsense": lambda call: pickle4(call + b"\xff\xff"),
    "before SETITEM on a number": lambda call: pickle4(call + b"K\x01NNs"),
    "before a missing memo": lambda call: pickle4(call + b"j\xff\xff\xff\x7f"),
    "at the root": pickle4,
    "before the tensors": lambda call: pickle4(mapped([(text("more"), call), *items()])),
    "as a key": lambda call: pickle4(mapped([*items(), (call, b"N")])),
    "inside a list": lambda call: model(more=b"](" + call + b"e"),
    "in the optimizer": lambda call: pickle4(
        mapped([(text("state_dict"), mapped(items())), (text("optimizer"), mapped([(b"K\x01", call)]))])
    ),
    "in _metadata": lambda call: pickle4(mapped(items()) + b"0" + HOOKS + b"}" + text("_metadata") + call + b"sb"),
    "as a tensor's hooks": lambda call: model(victim=victim().replace(HOOKS_OF_TENSOR, call)),
    "as a tensor's shape": lambda call: model(victim=victim(shape=call)),
    "as a tensor's strides": lambda call: model(victim=victim(strides=call)),
    "as a storage's key": lambda call: model(victim=victim().replace(text(VICTIM_KEY), call)),
    "as a storage's class": lambda call: model(victim=victim().replace(name("torch", "FloatStorage"), call)),
    "as a storage's place": lambda call: model(victim=victim().replace(text("cpu"), call)),
    "as a parameter's tensor": lambda call: model(
        victim=called(name("torch._utils", "_rebuild_parameter"), call, b"\x88", HOOKS)
    ),
    "as a wrapped rebuild": lambda call: model(
        victim=called(name("torch._tensor", "_rebuild_from_type_v2"), call, name("torch", "Tensor"), b")", b"}")
    ),
}  # fmt: skip


def place_cases() -> dict[str, Case]:
    """os.system from every place that a pickle of weights has, and where the file breaks behind it."""
    found = {}
    for place, make in PLACES.items():
        for container in MAKERS:

            def file(canary: Path, make=make, container=container) -> bytes:
                return MAKERS[container](make(system(canary)))

            found[f"{container}: {place}"] = live(UnsafeCheckpoint, file, "wants to call os.system")
    for part, error in (("magic", DamagedCheckpoint), ("version", UnsafeCheckpoint), ("system", UnsafeCheckpoint),
                        ("keys", UnsafeCheckpoint)):  # fmt: skip
        found[f"legacy: as the {part}"] = live(
            error, lambda canary, part=part: legacy(model(), **{part: pickle4(system(canary))})
        )
    return found


def deflated(canary: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as writer:
        for record in records(model(more=system(canary))):
            writer.writestr(record.name, record.data)
    return stream.getvalue()


def tarred(canary: Path) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as writer:
        for member in ("sys_info", "pickle", "tensors", "storages"):
            data = pickle4(system(canary) if member == "pickle" else b"K\x00")
            entry = tarfile.TarInfo(member)
            entry.size = len(data)
            writer.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


DISGUISES = {
    "deflated": live(UnsafeCheckpoint, deflated, "compressed record"),
    "a tar of torch 0.1": live(UnsupportedCheckpoint, tarred, "tar archive", control="tar"),
    "a bare pickle": live(DamagedCheckpoint, lambda canary: pickle4(system(canary)), control="pickle"),
    "a bare pickle of protocol 0": live(
        DamagedCheckpoint, lambda canary: f"cos\nsystem\n(Vtouch {canary}\ntR.".encode(), control="pickle"
    ),
    "begins like safetensors": live(
        DamagedCheckpoint, lambda canary: b"\x80\x02U\x05\0\0\0\0{0" + system(canary) + b".", control="torch"
    ),
    "named safetensors": live(
        UnsafeCheckpoint, lambda canary: zipped(model(more=system(canary))), "os.system", file="model.safetensors"
    ),
    "legacy, named safetensors": live(
        UnsafeCheckpoint, lambda canary: legacy(model(more=system(canary))), "os.system", file="model.safetensors"
    ),
    "named h5": live(
        UnsafeCheckpoint, lambda canary: zipped(model(more=system(canary))), "os.system", file="tf_model.h5"
    ),
}


# Tensors that are not where or what they say


def about_victim(
    error: type[BertconvError], description: bytes, words: str, *, named: bool = True, legacy_words: str = ""
) -> dict[str, Case]:
    """The victim described otherwise; `legacy_words` where the old format breaks before a tensor can be named."""
    found = {}
    for container, make in MAKERS.items():
        old = container == "legacy" and legacy_words
        tensor = VICTIM if named and not old else None
        data = partial(make, model(victim=description))
        found[container] = Case(lambda _, data=data: data(), error, legacy_words if old else words, tensor)
    return found


def in_both(error: type[BertconvError], pickle: bytes, words: str, tensor: str | None = None) -> dict[str, Case]:
    return {
        container: Case(lambda _, make=make: make(pickle), error, words, tensor) for container, make in MAKERS.items()
    }


OTHER_TYPE = described(VICTIM).replace(b"FloatStorage", b"IntStorage")
NO_USER = "lists a storage that no tensor names"
TWICE = mapped([*items(), (text(VICTIM), described(VICTIM))])
GEOMETRY = {
    "offset beyond": about_victim(DamagedCheckpoint, victim(offset=1), "outside its storage"),
    "offset of 2^62": about_victim(DamagedCheckpoint, victim(offset=2**62), "outside its storage"),
    "shape beyond": about_victim(DamagedCheckpoint, victim(shape=(COUNT + 1,)), "outside its storage"),
    "stride beyond": about_victim(DamagedCheckpoint, victim(strides=(2,)), "outside its storage"),
    "2^60 elements": about_victim(DamagedCheckpoint, victim(shape=(2**60,)), "outside its storage"),
    "2^60 elements by strides of 0": about_victim(
        DamagedCheckpoint, victim(shape=(2**62,), strides=(0,)), "no machine can hold"
    ),
    "256 GB by strides of 0": about_victim(UnsafeCheckpoint, victim(shape=(2**36,), strides=(0,)), "times the file"),
    "negative offset": about_victim(DamagedCheckpoint, victim(offset=-1), "whole number", named=False),
    "negative shape": about_victim(DamagedCheckpoint, victim(shape=(-1,)), "whole number", named=False),
    "negative stride": about_victim(DamagedCheckpoint, victim(strides=(-1,)), "whole number", named=False),
    "33 axes": about_victim(UnsafeCheckpoint, victim(shape=(1,) * 33, strides=(1,) * 33), "32 axes", named=False),
    "storage too large": about_victim(DamagedCheckpoint, victim(count=COUNT + 1), "needs a storage of"),
    "storage too small": about_victim(
        DamagedCheckpoint, victim(count=COUNT - 1, shape=(COUNT - 1,)), "needs a storage of"
    ),
    "storage missing": about_victim(DamagedCheckpoint, victim(key="999"), "no storage", legacy_words=NO_USER),
    "storage outside of the archive": about_victim(
        DamagedCheckpoint, victim(key="../data.pkl"), "no storage", legacy_words=NO_USER
    ),
    "storage outside of the folder": about_victim(
        DamagedCheckpoint, victim(key="../../etc/hostname"), "no storage", legacy_words=NO_USER
    ),
    "two types on one storage": in_both(DamagedCheckpoint, model(more=OTHER_TYPE), "another element type", "more"),
    "a type of its own": about_victim(
        DamagedCheckpoint,
        victim().replace(b"FloatStorage", b"DoubleStorage"),
        "needs a storage of",
        legacy_words="ends beyond the file",
    ),
    "SETITEM on the tensor": about_victim(
        DamagedCheckpoint, described(VICTIM) + b"K\x00K\x00s", "not a dict", named=False
    ),
    "the tensor twice": in_both(DamagedCheckpoint, pickle4(TWICE), "twice", VICTIM),
    "a quantised storage": about_victim(
        UnsupportedCheckpoint, storage(VICTIM_KEY, COUNT, "QInt8Storage"), "quantised", named=False
    ),
}


# Files that are to exhaust the machine

BOMBS = {
    "lists in lists": (UnsafeCheckpoint, b"]" * 50_000 + b"a" * 49_999),
    "tuples in tuples": (UnsafeCheckpoint, b")" + b"\x85" * 50_000),
    "a billion laughs": (UnsafeCheckpoint, b"]" + b"2\x86" * 60),
    "a list of itself": (DamagedCheckpoint, b"]q\xc8h\xc8a" * 3 + b"N"),
    "marks": (UnsafeCheckpoint, b"(" * 1_000_000),
    "a stack of a million": (UnsafeCheckpoint, b"N" * 1_000_000),
    "an integer of 10^5 digits": (UnsafeCheckpoint, b"\x8b" + struct.pack("<L", 41_525) + b"\x7f" * 41_525),
    "a text of 4 GB": (DamagedCheckpoint, b"X\xff\xff\xff\xff"),
    "a text of 2^63": (DamagedCheckpoint, b"\x8d" + b"\xff" * 7 + b"\x7f"),
    "bytes of 2^63": (DamagedCheckpoint, b"\x8e" + b"\xff" * 7 + b"\x7f"),
    "a bytearray of 2^63": (DamagedCheckpoint, b"\x96" + b"\xff" * 7 + b"\x7f"),
    "a frame of 2^63": (DamagedCheckpoint, b"\x95" + b"\xff" * 7 + b"\x7f"),
    "a memo index of 2^32": (DamagedCheckpoint, b"j\xff\xff\xff\xff"),
    "1,600,000 dicts": (UnsafeCheckpoint, b"}\x940" * 1_600_000 + b"N"),
    "2,000,000 memories of one value": (UnsafeCheckpoint, b"N" + b"\x94" * 2_000_000),
    "100,000 names": (UnsafeCheckpoint, b"".join(b"cbuiltins\nset%d\n0" % number for number in range(100_000)) + b"N"),
    "a text copied again and again": (
        UnsafeCheckpoint,
        text("x" * 4_000_000) + b"\x940" + (name("_codecs", "encode") + b"(h\0" + text("latin1") + b"tR0") * 30 + b"N",
    ),
}
LONGEST = {"1,600,000 dicts": "legacy", "2,000,000 memories of one value": "zip"}
"""Bombs that take seconds to refuse, in one container each: what counts steps and memories is the same in both."""
EXHAUSTING = {
    f"{container}: {bomb}": Case(lambda _, make=make, value=value: make(model(more=value)), error)
    for bomb, (error, value) in BOMBS.items()
    for container, make in MAKERS.items()
    if LONGEST.get(bomb, container) == container
}


def named(prefix: str, cases: Mapping[str, Case]) -> dict[str, Case]:
    return {f"{prefix}: {each}": case for each, case in cases.items()}


CASES: dict[str, Case] = {
    **payload_cases(), **place_cases(), **named("disguise", DISGUISES), **named("bomb", EXHAUSTING),
    **{f"{container}: {each}": case for each, found in GEOMETRY.items() for container, case in found.items()},
    **named("archive", ZIPS), **named("file", IMPOSTORS),
}  # fmt: skip
LIVE = {each: case for each, case in CASES.items() if case.control}
