"""One hostile file, and what becomes of it on the command line: everything that every case has to show."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import checkpoints as cp
from hostile_work import little_work
from kernel_watch import opened

import bertconv
from bertconv import errors

CONFIG = cp.config("BertModel", num_hidden_layers=1)
STATE = cp.bare(cp.state_dict("BertModel", num_hidden_layers=1))
VICTIM = "encoder.layer.0.attention.self.query.bias"
"""The tensor that hostile descriptions are about; every other one is sound."""


@dataclass(frozen=True)
class Case:
    """A file and how it has to be refused.

    Attributes:
        make: the file's bytes; a payload creates the canary that it is given.
        error: class of the error.
        words: part of its message.
        tensor: the tensor that it names.
        control: how the payload is shown to fire: "torch", "pickle" or "tar", or what h5py makes of an HDF5 file (see
            naive_hdf5); empty for files without one.
        header_only: `inspect` reads headers and has nothing to refuse: only the weights' bytes are wrong.
        file: its name in the checkpoint's folder.
        child: it is HDF5: its metadata may be read by one process of bertconv's own.
    """

    make: Callable[[Path], bytes]
    error: type[errors.BertconvError]
    words: str = ""
    tensor: str | None = None
    control: str = ""
    header_only: bool = False
    file: str = "pytorch_model.bin"
    child: bool = False

    def write(self, root: Path) -> Path:
        """The folder `model` below `root`, which would convert but for the hostile file."""
        folder = cp.write_config(root / "model", CONFIG)
        (folder / self.file).write_bytes(self.make(root / "canary"))
        return folder


# What the interpreter does while a case runs

_FOREIGN = (
    "ctypes.dlopen", "os.exec", "os.fork", "os.forkpty", "os.link", "os.mkdir", "os.posix_spawn",
    "os.remove", "os.rename", "os.rmdir", "os.spawn", "os.symlink", "os.system", "os.truncate", "pickle.find_class",
    "pty.spawn", "shutil.rmtree", "socket.__new__", "socket.connect", "subprocess.Popen", "urllib.Request",
)  # fmt: skip
_READER = "bertconv.containers.hdf5.child"
_FRAMEWORKS = ("torch", "tensorflow", "keras", "transformers")
_OWN = tuple(
    {str(Path(path).resolve()) for path in (*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix)}
    | {str(Path(bertconv.__file__).parent), str(Path(bertconv.__file__).parents[1] / "mappings"), "/proc"}
)
_watching: list[tuple[str, list[str]]] = []
_installed: list[bool] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching:
        return
    folder, seen = _watching[-1]
    if event == "subprocess.Popen":
        seen.append(f"{event} {arguments[1]}")
    elif event in _FOREIGN or (event == "import" and str(arguments[0]).partition(".")[0] in _FRAMEWORKS):
        seen.append(f"{event} {arguments[0] if arguments else ''}")
    if event == "open" and not isinstance(arguments[0], int):
        path = arguments[0].decode() if isinstance(arguments[0], bytes) else str(arguments[0])
        own = path == "/dev/null" or any(path == root or path.startswith(f"{root}/") for root in (folder, *_OWN))
        if not own or ".." in Path(path).parts:
            seen.append(f"open {path}")


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[list[str]]:
    """What was done that reading `folder` does not need: files of others, processes, sockets, pickles, frameworks."""
    if not _installed:  # a hook cannot be taken away again
        sys.addaudithook(_hook)
        _installed.append(True)
    seen: list[str] = []
    _watching.append((str(folder), seen))
    try:
        yield seen
    finally:
        _watching.pop()


def reads_hdf5(each: str) -> bool:
    """Whether what was seen is the start of the process that reads HDF5 metadata."""
    return each.startswith("subprocess.Popen") and _READER in each


def attack(cli: Callable[..., cp.Outcome], root: Path, earlier: Path, case: Case, command: str = "pt2tf") -> None:
    """Give a case to `inspect` and, over an earlier output, to a conversion: it is refused as it says, nothing else."""
    folder, output = case.write(root), root / "out"
    secrets = [path for path in root.iterdir() if not path.is_dir()]
    shutil.copytree(earlier, output)
    before = cp.snapshot(root)
    for words in (("inspect", folder), (command, folder, output, "--overwrite")):
        with opened(secrets) as leaked, watched(folder) as seen, little_work():
            outcome = cli(*words, "--json")
        assert not leaked, words
        assert len(seen) <= case.child, seen
        assert all(map(reads_hdf5, seen)), seen
        assert cp.snapshot(root) == before, "something was written"  # the canary too
        if case.header_only and words[0] == "inspect":
            assert outcome.code == 0
            continue
        assert outcome.code == case.error.exit_code, (words, outcome)
        facts = json.loads(outcome.out)["error"]
        assert facts["kind"] == case.error.__name__, facts
        assert facts["file"] == str(folder / case.file), facts
        assert facts["tensor"] == case.tensor, facts
        assert case.words in facts["message"], facts
        assert facts["hint"], facts
        assert outcome.err == ""
