"""Pickles that run code: functions to call, opcodes to call them with, and the program that shows that they fire.

Every payload creates one empty canary file or folder, whose path it is given, and does nothing else.
"""

from __future__ import annotations

import json
import marshal
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from torch_cases import group, name, pickled, text, zipped

EXTENSION = 77
Payload = Callable[[Path], bytes]


def called(function: bytes, *arguments: bytes) -> bytes:
    """REDUCE of a function that is on the stack."""
    return function + group(*arguments) + b"R"


def raw(value: bytes) -> bytes:
    return b"B" + len(value).to_bytes(4, "little") + value


def touch(canary: Path) -> bytes:
    return text(f"touch {canary}")


def create(canary: Path) -> bytes:
    return text(f"open({str(canary)!r}, 'w').close()")


def path(canary: Path) -> bytes:
    return text(str(canary))


def plain(module: str, attribute: str, *arguments: Callable[[Path], bytes] | bytes) -> Payload:
    """A call of one function; arguments that are functions are given the canary."""

    def make(canary: Path) -> bytes:
        made = [argument if isinstance(argument, bytes) else argument(canary) for argument in arguments]
        return called(name(module, attribute), *made)

    return make


def system(canary: Path) -> bytes:
    return called(name("os", "system"), touch(canary))


def imported(canary: Path) -> bytes:
    """getattr(__import__("os"), "system")(...)."""
    module = called(name("builtins", "__import__"), text("os"))
    return called(called(name("builtins", "getattr"), module, text("system")), touch(canary))


def by_method(canary: Path) -> bytes:
    module = called(name("importlib", "import_module"), text("os"))
    return called(called(name("operator", "methodcaller"), text("system"), touch(canary)), module)


def partial(canary: Path) -> bytes:
    return called(called(name("functools", "partial"), name("os", "system"), touch(canary)))


def from_code(canary: Path) -> bytes:
    """A function made from bytecode."""
    code = marshal.dumps(compile(f"open({str(canary)!r}, 'w').close()", "x", "exec"))
    loaded = called(name("marshal", "loads"), raw(code))
    return called(called(name("types", "FunctionType"), loaded, called(name("builtins", "globals"))))


def nested(module: str, attribute: str) -> Payload:
    """A pickle inside the pickle."""
    return lambda canary: called(name(module, attribute), raw(pickled(system(canary))))


def nested_torch(canary: Path) -> bytes:
    """A torch file inside the pickle: how torch itself once pickled storages."""
    return called(name("torch.storage", "_load_from_bytes"), raw(zipped(pickled(system(canary)))))


def touched(canary: Path) -> bytes:
    return called(name("pathlib", "Path.touch"), called(name("pathlib", "Path"), path(canary)))


def lazy(canary: Path) -> bytes:
    """Class and arguments of tuple.__new__(tuple, map(os.system, [...])), which calls while it iterates."""
    mapped = name("builtins", "map") + group(name("os", "system"), b"]" + touch(canary) + b"a") + b"\x81"
    return name("builtins", "tuple") + mapped + b"\x85"


CREATING = b"M" + (os.O_CREAT | os.O_WRONLY).to_bytes(2, "little")
GADGETS: Mapping[str, Payload] = {
    "os.system": system,
    "posix.system": plain("posix", "system", touch),
    "os.mkdir": plain("os", "mkdir", path),
    "os.open": plain("os", "open", path, CREATING),
    "subprocess.getoutput": plain("subprocess", "getoutput", touch),
    "subprocess.check_call": plain(
        "subprocess", "check_call", lambda canary: b"](" + text("touch") + path(canary) + b"e"
    ),
    "builtins.exec": plain("builtins", "exec", create),
    "builtins.eval": plain("builtins", "eval", create),
    "builtins.open": plain("builtins", "open", path, text("w")),
    "_io.FileIO": plain("_io", "FileIO", path, text("w")),
    "codecs.open": plain("codecs", "open", path, text("w")),
    "pathlib.Path.touch": touched,
    "profile.run": plain("profile", "run", create),
    "cProfile.run": plain("cProfile", "run", create),
    "timeit.timeit": plain("timeit", "timeit", create, text("pass"), name("time", "perf_counter"), b"K\x01"),
    "runpy._run_code": plain("runpy", "_run_code", create, b"}"),
    "pydoc.pipepager": plain("pydoc", "pipepager", text(""), touch),
    "logging.FileHandler": plain("logging", "FileHandler", path),
    "shutil.copyfile": plain("shutil", "copyfile", text(os.devnull), path),
    "zipfile.ZipFile": plain("zipfile", "ZipFile", path, text("w")),
    "gzip.open": plain("gzip", "open", path, text("wb")),
    "tarfile.open": plain("tarfile", "open", path, text("w")),
    "numpy.savetxt": plain("numpy", "savetxt", path, b"]K\x01a"),
    "numpy.memmap": plain("numpy", "memmap", path, text("uint8"), text("w+"), b"K\x00", b"K\x08"),
    "torch.utils.collect_env.run": plain("torch.utils.collect_env", "run", touch),
    "torch.UntypedStorage.from_file": plain("torch", "UntypedStorage.from_file", path, b"\x88", b"K\x08"),
    "torch.fx.graph_module._exec_with_source": plain("torch.fx.graph_module", "_exec_with_source", create, b"}"),
    "builtins.__import__": imported,
    "operator.methodcaller": by_method,
    "functools.partial": partial,
    "marshal.loads": from_code,
    "pickle.loads": nested("pickle", "loads"),
    "_pickle.loads": nested("_pickle", "loads"),
    "torch.storage._load_from_bytes": nested_torch,
}
"""Function -> a call of it, by REDUCE. The name is what the refusal has to say."""

OPCODES: Mapping[str, Payload] = {
    "STACK_GLOBAL": lambda canary: called(text("os") + text("system") + b"\x93", touch(canary)),
    "INST": lambda canary: b"(" + touch(canary) + b"ios\nsystem\n",
    "OBJ": lambda canary: b"(" + name("os", "system") + touch(canary) + b"o",
    "NEWOBJ": lambda canary: lazy(canary) + b"\x81",
    "NEWOBJ_EX": lambda canary: lazy(canary) + b"}\x92",
    "BUILD": lambda canary: (
        name("argparse", "Namespace") + b")\x81}" + text("__setstate__") + name("os", "system") + b"sb"
        + touch(canary) + b"b"
    ),
    "EXT1": lambda canary: called(b"\x82" + bytes([EXTENSION]), touch(canary)),
    "EXT2": lambda canary: called(b"\x83" + EXTENSION.to_bytes(2, "little"), touch(canary)),
    "EXT4": lambda canary: called(b"\x84" + EXTENSION.to_bytes(4, "little"), touch(canary)),
    "BINPERSID": lambda canary: group(text("storage"), system(canary), text("0"), text("cpu"), b"K\x04") + b"Q",
    "DUP": lambda canary: name("os", "system") + b"2" + group(touch(canary)) + b"R0",
    "memo": lambda canary: name("os", "system") + b"q\xc80" + called(b"h\xc8", touch(canary)),
    "LONG_BINPUT": lambda canary: name("os", "system") + b"r\0\0\1\x000" + called(b"j\0\0\1\0", touch(canary)),
    "ADDITEMS": lambda canary: b"\x8f(" + system(canary) + b"\x90",
    "FROZENSET": lambda canary: b"(" + system(canary) + b"\x91",
    "in a frame": lambda canary: b"\x95" + len(system(canary)).to_bytes(8, "little") + system(canary),
    "thrown away": lambda canary: system(canary) + b"0N",
    "thrown away with a mark": lambda canary: b"(" + system(canary) + b"1N",
}  # fmt: skip
"""Opcode -> a call of os.system by means of it."""

CONTROL = """
import copyreg, io, json, os, pickle, sys, tarfile, warnings
import torch

warnings.simplefilter("ignore")
copyreg.add_extension("os", "system", int(sys.argv[2]))

def tar(path):
    with tarfile.open(path) as archive:
        for member in archive:
            pickle.load(archive.extractfile(member))

def plain(path):
    with open(path, "rb") as file:
        pickle.load(file)

def full(path):
    with open(path, "rb") as file:  # by its content: torch looks at a path's suffix
        torch.load(file, weights_only=False)

loaders = {"torch": full, "pickle": plain, "tar": tar}
fired = {}
for case, (loader, path, canary) in json.load(sys.stdin).items():
    try:
        loaders[loader](path)
    except Exception:
        pass
    fired[case] = os.path.exists(canary)
with open(sys.argv[1], "w") as answer:
    json.dump(fired, answer)
"""


def fire(cases: Mapping[str, tuple[str, Path, Path]], folder: Path) -> dict[str, bool]:
    """Load files without any restriction, in a process of their own; whether each one's canary is there afterwards.

    Args:
        cases: name -> loader ("torch", "pickle", "tar"), file, canary.
        folder: an empty one to work in.
    """
    asked = json.dumps({case: (loader, str(file), str(canary)) for case, (loader, file, canary) in cases.items()})
    answer = folder / "answer.json"
    command = [sys.executable, "-c", CONTROL, str(answer), str(EXTENSION)]
    done = subprocess.run(command, input=asked.encode(), cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, bool] = json.loads(answer.read_bytes())
    return found
