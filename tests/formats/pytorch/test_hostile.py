"""Files that want something else than to be read: nothing may run, and every refusal is typed and names the file.

Each payload creates one empty canary file; a positive control shows that it does so under plain pickle.
"""

from __future__ import annotations

import copyreg
import io
import os
import pickle
import struct

import pytest
from torch_cases import (
    FOUR,
    GOOD,
    MAGIC,
    SYSTEM,
    VERSION,
    check_refused,
    group,
    legacy,
    mapping,
    name,
    pickled,
    read,
    storage,
    tensor,
    text,
    zipped,
)

from bertconv.errors import BertconvError, DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint

EXTENSION = 77

GADGETS = {
    "os.system": (os.system.__module__, "system", "touch {}"),
    "exec": ("builtins", "exec", "open('{}', 'w').close()"),
    "eval": ("builtins", "eval", "open('{}', 'w').close()"),
    "subprocess": ("subprocess", "getoutput", "touch {}"),
    "profile": ("profile", "run", "open('{}', 'w').close()"),
}


def lazy(module: str, attribute: str, argument: str) -> bytes:
    """A tuple made of a map over the payload: NEWOBJ of tuple iterates over it, which calls."""
    mapped = name("builtins", "map") + b"(" + name(module, attribute) + b"](" + text(argument) + b"et\x81"
    return name("builtins", "tuple") + mapped + b"\x85"


OPCODES = {
    "REDUCE": lambda m, a, x: name(m, a) + text(x) + b"\x85R",
    "STACK_GLOBAL": lambda m, a, x: text(m) + text(a) + b"\x93" + text(x) + b"\x85R",
    "INST": lambda m, a, x: b"(" + text(x) + f"i{m}\n{a}\n".encode(),
    "OBJ": lambda m, a, x: b"(" + name(m, a) + text(x) + b"o",
    "NEWOBJ": lambda m, a, x: lazy(m, a, x) + b"\x81",
    "NEWOBJ_EX": lambda m, a, x: lazy(m, a, x) + b"}\x92",
    "BUILD": lambda m, a, x: (
        name("argparse", "Namespace") + b")\x81}" + text("__setstate__") + name(m, a) + b"sb" + text(x) + b"b"
    ),
    "EXT": lambda _m, _a, x: b"\x82" + bytes([EXTENSION]) + text(x) + b"\x85R",
    "BINPERSID": lambda m, a, x: group(text("storage"), name(m, a) + text(x) + b"\x85R", text("0")) + b"Q",
    "after POP": lambda m, a, x: b"N0" + name(m, a) + text(x) + b"\x85R0N",
    "memo": lambda m, a, x: name(m, a) + b"\x940h\x00" + text(x) + b"\x85R",
}


class Unrestricted(pickle.Unpickler):
    def persistent_load(self, _identity):
        return None


@pytest.fixture
def extension():
    """Registers what EXT1 stands for in the process that wrote the pickle."""
    registered = []

    def register(module: str, attribute: str) -> None:
        copyreg.add_extension(module, attribute, EXTENSION)
        registered.append((module, attribute))

    yield register
    for module, attribute in registered:
        copyreg.remove_extension(module, attribute, EXTENSION)


@pytest.mark.parametrize("gadget", GADGETS)
@pytest.mark.parametrize("opcode", OPCODES)
def test_payloads(tmp_path, opcode, gadget, extension):
    module, attribute, argument = GADGETS[gadget]
    canary = tmp_path / "canary"
    payload = OPCODES[opcode](module, attribute, argument.format(canary))
    for data in (
        zipped(pickled(mapping(w=tensor(), x=payload))),
        zipped(b"\x80\x02" + payload + b"\xff\xff"),
        legacy(pickled(mapping(w=tensor(), x=payload))),
    ):
        with pytest.raises(UnsafeCheckpoint) as caught:
            read(tmp_path / "x.bin", data)
        assert caught.value.file == str(tmp_path / "x.bin")
        if opcode not in ("EXT", "NEWOBJ", "NEWOBJ_EX", "BUILD"):
            assert f"{module}.{attribute}" in str(caught.value)
        assert not canary.exists()
    extension(module, attribute)
    Unrestricted(io.BytesIO(pickled(payload))).load()
    assert canary.exists(), "the positive control did not fire"


@pytest.mark.parametrize("place", ["magic", "version", "system", "keys"])
def test_payloads_in_legacy_streams(tmp_path, place):
    canary = tmp_path / "canary"
    payload = pickled(name("os", "mkdir") + text(str(canary)) + b"\x85R")
    parts = {
        "magic": MAGIC,
        "version": VERSION,
        "system": SYSTEM,
        "object": GOOD,
        "keys": pickled(b"](" + text("0") + b"e"),
    }
    parts[place] = payload
    with pytest.raises(BertconvError):
        read(tmp_path / "x.bin", b"".join(parts.values()) + struct.pack("<q", 4) + FOUR)
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists()


REFUSED_NAMES = [
    ("torch", "load"), ("torch.storage", "_load_from_bytes"), ("torch.storage.UntypedStorage", "from_file"),
    ("builtins", "getattr"), ("numpy", "load"), ("numpy.f2py.crackfortran", "getlincoef"), ("operator", "attrgetter"),
    ("transformers.training_args", "os.system"), ("torch.optim", "os.system"), ("torch._utils", "os"), ("pip", "main"),
    ("collections", "OrderedDict.fromkeys"), ("_codecs", "decode"), ("torch", "nn.Module"), ("", ""),
    ("torch", "FloatStorage"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "attribute"), REFUSED_NAMES)
def test_names_that_are_refused(tmp_path, module, attribute):
    with pytest.raises(UnsafeCheckpoint) as caught:
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=tensor(), x=name(module, attribute) + b")R"))))
    assert f"{module}.{attribute}" in caught.value.message


def test_a_name_that_is_never_called_is_refused(tmp_path):
    with pytest.raises(UnsafeCheckpoint, match=r"os\.system"):
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=tensor(), x=name("os", "system")))))


def deep(levels: int) -> bytes:
    return b"]" * levels + b"a" * (levels - 1)


def encoded(arguments: bytes) -> bytes:
    return name("_codecs", "encode") + arguments + b"R"


def typed(dtype: bytes) -> bytes:
    """A call of _rebuild_tensor_v3 on a storage without a type."""
    untyped = group(text("storage"), name("torch.storage", "UntypedStorage"), text("0"), text("cpu"), b"K\x10") + b"Q"
    arguments = group(untyped, b"K\x00", b"K\x04\x85", b"K\x01\x85", b"\x89", b"}", dtype)
    return name("torch._utils", "_rebuild_tensor_v3") + arguments + b"R"


HUGE_INT = b"\x8b" + struct.pack("<L", 40_000) + b"\x7f" * 40_000
LONG_TEXT = b"N" * 60_000 + b"0" * 60_000
UNSAFE_PICKLES = {
    "text persistent id": b"Psomething\n",
    "extension 2": b"\x83\x01\x00",
    "extension 4": b"\x84\x01\x00\x00\x00",
    "a huge integer": HUGE_INT,
    "an integer of 9 bytes": b"\x8a\x09" + b"\x7f" * 9,
    "deep lists": deep(33),
    "very deep lists": deep(20_000),
    "deep tuples": b")" + b"\x85" * 33,
    "a memo bomb": b"](" + b"h\x00" * 0 + b"e" + b"2\x86" * 40,
    "deep marks": b"(" * 1000,
    "a deep stack": b"N" * 200_000,
    "too many steps": (b"N" * 50_000 + b"0" * 50_000) * 60,
    "calls that copy": text("x" * 4_000_000) + b"\x940" + encoded(b"(h\x00" + text("latin1") + b"t") * 30,
    "BUILD on a function": name("collections", "OrderedDict") + b"}b",
    "a codec": encoded(b"(" + text("x") + text("zip") + b"t"),
    "a rank of 33": tensor(shape=(1,) * 33, strides=(1,) * 33),
    "a storage of another class": group(text("storage"), name("os", "system"), text("0"), text("cpu"), b"K\x04") + b"Q",
    "NEWOBJ of a shape": name("torch", "Size") + b")\x81",
    "BUILD on an unknown class with a number": name("evil", "Thing") + b")\x81K\x01b",
    "a tensor made by an unknown function": (
        name("torch._tensor", "_rebuild_from_type_v2")
        + group(name("os", "system"), name("torch", "Tensor"), b")", b"}")
        + b"R"
    ),
    "a large memo": b"N" + b"\x94" * 2_000_001,
    "a storage that is called": name("torch", "FloatStorage") + b"K\x04\x85R",
    "NEWOBJ of an unknown class": name("evil", "Thing") + b")\x81",
    "BUILD on an unknown class": name("evil", "Thing") + b")\x81}b",
}

DAMAGED_PICKLES = {
    "an unknown opcode": b"\xff",
    "opcode of protocol 0": b"I1\n",
    "an out-of-band buffer": b"\x97",
    "an empty stack": b"0" * 6,
    "a group that was not begun": b"11",
    "two values": b"NN",
    "an open mark": b"(N",
    "a missing memo": b"h\x07",
    "a text of 4 GB": b"X\xff\xff\xff\xff",
    "a text of 2**63": b"\x8d" + b"\xff" * 8,
    "bytes of 4 GB": b"B\xff\xff\xff\xff",
    "a frame that is too long": b"\x95" + b"\xff" * 8,
    "text that is not UTF-8": b"X\x02\x00\x00\x00\xff\xfe",
    "a name that is not UTF-8": b"c\xff\n\xfe\n",
    "a name without an end": b"c" + b"x" * 5000,
    "a name that is a number": b"K\x01K\x02\x93",
    "SETITEM on a list": b"]NNs",
    "SETITEM on a tensor": tensor() + b"NNs",
    "SETITEMS without a value": b"}(Nu",
    "APPEND to a dict": b"}Na",
    "APPEND to a tensor": tensor() + b"Na",
    "BUILD on a tensor": tensor() + b"}b",
    "BUILD on a number": b"N}b",
    "REDUCE of a number": b"K\x01)R",
    "REDUCE without a tuple": name("collections", "OrderedDict") + b"]R",
    "NEWOBJ of a number": b"K\x01)\x81",
    "a persistent id that is a number": b"K\x01Q",
    "a persistent id of another kind": group(text("file"), text("x")) + b"Q",
    "a storage with a number for its key": storage("0", 4).replace(text("0"), b"K\x00"),
    "a storage without a type": group(text("storage"), b"N", text("0"), text("cpu"), b"K\x04") + b"Q",
    "a storage of negative size": storage("0", -1),
    "a tensor without a storage": name("torch._utils", "_rebuild_tensor_v2") + group(b"N", *[b"K\x00"] * 5) + b"R",
    "a tensor without arguments": name("torch._utils", "_rebuild_tensor_v2") + b")R",
    "a parameter without a tensor": name("torch._utils", "_rebuild_parameter") + b"N\x88}\x87R",
    "a dict of no pairs": name("collections", "OrderedDict") + b"](K\x01e\x85R",
    "a list instead of pairs": name("collections", "OrderedDict") + b"K\x01\x85R",
    "a view that is not a triple": storage("0", 4).replace(b"tQ", b"K\x01tQ"),
    "an element type that is a number": typed(b"K\x01"),
    "a tensor of a type without arguments": name("torch._tensor", "_rebuild_from_type_v2") + b")R",
    "a size of a number": name("torch", "Size") + b"K\x01\x85R",
    "bytes that are not latin-1": encoded(b"(" + text("\u20ac") + text("latin1") + b"t"),
    "a negative offset": tensor(offset=-1),
    "a negative size": tensor(shape=(-1,)),
    "a negative stride": tensor(strides=(-1,)),
    "a size that is a truth value": tensor(shape=group(b"\x88")),
    "a shape that is a number": tensor(shape=b"K\x04"),
    "a size that is text": tensor(shape=group(text("4"))),
    "more strides than axes": tensor(strides=(4, 1)),
    "beyond its storage": tensor(offset=1),
    "a stride beyond its storage": tensor(shape=(3,), strides=(2,)),
    "2**60 elements": tensor(shape=(2**60,)),
    "an empty tensor of 2**124 rows": tensor(shape=(2**62, 2**62, 0), strides=(1, 1, 1)),
    "an empty tensor far away": tensor(shape=(0,), offset=5),
    "a storage larger than its record": tensor(count=5),
    "a storage smaller than its record": tensor(count=3, shape=(3,)),
    "a storage that is not there": tensor(key="1"),
    "a storage outside": tensor(key="../data.pkl"),
}


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize("case", UNSAFE_PICKLES)
def test_unsafe_pickles(tmp_path, case, make):
    check_refused(tmp_path, make(pickled(mapping(w=tensor(), x=UNSAFE_PICKLES[case]))), UnsafeCheckpoint)


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize("case", DAMAGED_PICKLES)
def test_damaged_pickles(tmp_path, case, make):
    check_refused(tmp_path, make(pickled(mapping(w=tensor(), x=DAMAGED_PICKLES[case]))), DamagedCheckpoint)


@pytest.mark.parametrize("make", [zipped, legacy])
def test_geometry_names_the_tensor(tmp_path, make):
    for bad in (tensor(offset=1), tensor(count=5), tensor(shape=(2**60,)), tensor(key="7")):
        error = check_refused(tmp_path, make(pickled(mapping(w=tensor(), odd=bad))), DamagedCheckpoint)
        assert error.tensor == "odd"


@pytest.mark.parametrize("make", [zipped, legacy])
def test_two_types_on_one_storage(tmp_path, make):
    other = tensor().replace(b"FloatStorage", b"IntStorage")
    error = check_refused(tmp_path, make(pickled(mapping(w=tensor(), odd=other))), DamagedCheckpoint)
    assert error.tensor == "odd"


@pytest.mark.parametrize("make", [zipped, legacy])
def test_one_key_twice(tmp_path, make):
    twice = b"}(" + text("w") + tensor() + text("w") + tensor() + b"u"
    assert check_refused(tmp_path, make(pickled(twice)), DamagedCheckpoint).tensor == "w"


@pytest.mark.parametrize("make", [zipped, legacy])
def test_expansion(tmp_path, make):
    def grown(rows: int) -> bytes:
        return make(pickled(mapping(w=tensor(shape=(rows,), strides=(0,)))))

    size = len(grown(1))
    assert read(tmp_path / "x.bin", grown(size)).tensors[0].strides == (0,)
    assert check_refused(tmp_path, grown(size + 1), UnsafeCheckpoint).tensor == "w"
    check_refused(tmp_path, grown(2**36), UnsafeCheckpoint)


def test_names(tmp_path):
    long = zipped(pickled(mapping(**{"w" * 1025: tensor()})))
    check_refused(tmp_path, long, UnsafeCheckpoint)
    assert read(tmp_path / "x.bin", zipped(pickled(mapping(**{"w" * 1024: tensor()})))).tensors
    odd = zipped(pickled(mapping(**{"\x1b[2J": tensor(offset=1)})))
    assert "\x1b" not in str(check_refused(tmp_path, odd, DamagedCheckpoint))
    called = zipped(pickled(name("os\x1b[2J", "x") + b")R"))
    assert "\x1b" not in str(check_refused(tmp_path, called, UnsafeCheckpoint))


def test_too_many_tensors(tmp_path):
    made = tensor()
    function, arguments = made.index(b"("), made[:-1]
    prepared = arguments[:function] + b"\x940" + arguments[function:] + b"\x940"
    calls = b"h\x00h\x01R0" * 210_000
    check_refused(tmp_path, zipped(pickled(prepared + calls + b"N")), UnsafeCheckpoint)


def test_too_many_names(tmp_path):
    names = b"".join(text(str(index)) + b"h\x00" for index in range(100_001))
    pickle_of_names = pickled(tensor(shape=(1,)) + b"\x940}" + names_in_groups(names))
    assert "more than 100,000" in str(check_refused(tmp_path, zipped(pickle_of_names), UnsafeCheckpoint))


def names_in_groups(names: bytes) -> bytes:
    """SETITEMS a few thousand at a time, as the stack is limited."""
    items = names.split(b"h\x00")[:-1]
    groups = [items[start : start + 5000] for start in range(0, len(items), 5000)]
    return b"".join(b"(" + b"".join(item + b"h\x00" for item in part) + b"u" for part in groups)


def test_an_envelope_twice(tmp_path):
    twice = b"}(" + text("model") + b"N" + text("model") + mapping(w=tensor()) + b"u"
    check_refused(tmp_path, zipped(pickled(twice)), DamagedCheckpoint)


def test_element_types_that_have_no_name_here(tmp_path):
    assert (
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=typed(name("torch", "int32")))))).tensors[0].dtype == "int32"
    )
    with pytest.raises(UnsupportedCheckpoint, match="complex32"):
        read(tmp_path / "x.bin", zipped(pickled(mapping(w=typed(name("torch", "complex32"))))))


def test_legacy_lists_of_storages(tmp_path):
    keys = {
        "not a list": pickled(b")"),
        "a number": pickled(b"](K\x01e"),
        "twice": pickled(b"](" + text("0") + text("0") + b"e"),
        "unknown": pickled(b"](" + text("1") + b"e"),
        "none": pickled(b"]"),
    }
    for listed in keys.values():
        check_refused(tmp_path, legacy(GOOD, listed), DamagedCheckpoint)
    check_refused(tmp_path, legacy(GOOD) + b"\0", DamagedCheckpoint)
    check_refused(tmp_path, legacy(GOOD)[:-24] + struct.pack("<q", -4) + FOUR, DamagedCheckpoint)
    check_refused(tmp_path, legacy(GOOD)[:-24] + struct.pack("<q", 2**62) + FOUR, DamagedCheckpoint)


def test_a_pickle_that_is_too_large(tmp_path):
    check_refused(tmp_path, zipped(bytes((64 << 20) + 1)), UnsafeCheckpoint)
    check_refused(tmp_path, legacy(b"\x80\x02" + b"N0" * (33 << 20)), UnsafeCheckpoint)
    check_refused(tmp_path, legacy(b"\x80\x02\x8e" + struct.pack("<Q", 65 << 20) + bytes(65 << 20)), UnsafeCheckpoint)
