"""Places for an output that must not be written to, or only with care; case by case, with what is said of them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from hostile_folders import Content, secrets, sound

Prepare = Callable[[Path], Path | None]


def linked(target: str, below: str = "") -> Prepare:
    def prepare(root: Path) -> Path:
        (root / "l").symlink_to(target)
        return Path(f"{root}/l{below}")

    return prepare


def manifest(content: Content) -> Prepare:
    """A manifest that lies, beside a file that no conversion wrote."""

    def prepare(root: Path) -> None:
        (root / "out" / "bertconv.json").write_bytes(content() if callable(content) else content)
        (root / "out" / "mine.txt").write_text("precious")

    return prepare


def listing(files: object) -> Prepare:
    """A function makes a list that is large."""

    def content() -> bytes:
        found = files() if callable(files) else files
        return json.dumps({"format": "bertconv-manifest-1", "files": found}).encode()

    return manifest(content)


def replaced(name: str, make: Callable[[Path], object]) -> Prepare:
    """A file of the earlier output that is something else now."""

    def prepare(root: Path) -> None:
        (root / "out" / name).unlink(missing_ok=True)
        make(root / "out" / name)

    return prepare


def beside(name: str, make: Callable[[Path], object], *, fresh: bool = False) -> Prepare:
    """Something beside the output; with `fresh` there is no earlier one."""

    def prepare(root: Path) -> None:
        if fresh:
            shutil.rmtree(root / "out")
        make(root / name)

    return prepare


def at(path: str, make: Callable[[Path], object] | None = None) -> Prepare:
    def prepare(root: Path) -> Path:
        if make is not None:
            make(root / path.partition("/")[0])
        return root / path

    return prepare


def to(target: str) -> Callable[[Path], object]:
    return lambda path: path.symlink_to(target)


def folder_of_precious(path: Path) -> None:
    path.mkdir()
    (path / "a.txt").write_text("precious")


def module(model: Path) -> None:
    (model / "1_Pooling").mkdir()
    (model / "1_Pooling" / "config.json").write_text("{}")


_LOOK = "cannot be looked at"
_LINK, _SOURCE, _FOREIGN, _SYSTEM = (
    "a symbolic link",
    "is or holds what is read",
    "bertconv did not write",
    "could not be written",
)
REFUSED: dict[str, tuple[Prepare, str]] = {
    "link to a folder": (linked("precious"), _LINK),
    "link to a folder, with a slash": (linked("precious", "/"), _LINK),
    "link to a file": (linked("precious/a.txt"), _LINK),
    "link to an earlier output": (linked("out"), _LINK),
    "link to nothing": (linked("nothing"), _LINK),
    "link to itself": (linked("l"), _LINK),
    "below a link to itself": (linked("l", "/x"), _LOOK),
    "a file of the source, below a link": (linked("model", "/config.json"), _SOURCE),
    "below a file of the source": (at("model/config.json/x"), _SYSTEM),
    "the source": (at("model"), _SOURCE),
    "a module of the source": (at("model/1_Pooling", module), _SOURCE),
    "above the source": (at(""), _SOURCE),
    "the source by dots": (at("model/x/.."), _SOURCE),
    "in a Hub cache": (at(f"hub/models--a/snapshots/{'c' * 40}"), "cache"),
    "file": (at("precious/a.txt"), "is a file"),
    "FIFO": (at("f", os.mkfifo), "is a file"),
    "below a file": (at("precious/a.txt/x"), _SYSTEM),
    "below a FIFO": (at("f/x", os.mkfifo), _SYSTEM),
    "name of 250 letters": (at("x" * 250), _SYSTEM),  # the lock's name is longer
    "name of 300 letters": (at("x" * 300), _LOOK),
    "path of 5,000 letters": (at("/".join(["x" * 99] * 50)), _LOOK),
    "files of others": (at("precious"), _FOREIGN),
    "link of others to a folder": (
        lambda root: (root / "out" / "l").symlink_to("../precious"), _FOREIGN,
    ),
    "folder of others": (replaced("tf_model.h5", folder_of_precious), _FOREIGN),
    "manifest of paths upwards": (listing({"../precious/a.txt": {}, "../mine.txt": {}}), _FOREIGN),
    "manifest of absolute paths": (listing(["/etc/passwd"]), _FOREIGN),
    "manifest of a list": (listing(["mine.txt", "tf_model.h5", "config.json"]), _FOREIGN),
    "manifest of text": (listing("mine.txt"), _FOREIGN),
    "manifest of a number": (listing(7), _FOREIGN),
    "manifest of null": (listing(None), _FOREIGN),
    "manifest of objects": (listing([{}]), _FOREIGN),
    "manifest of 10^6 names": (listing(lambda: dict.fromkeys(map(str, range(1_000_000)))), _FOREIGN),
    "manifest that is a list": (manifest(b"[]"), _FOREIGN),
    "manifest that is empty": (manifest(b""), _FOREIGN),
    "manifest that is no text": (manifest(b"\xff\xfe\xfd"), _FOREIGN),
    "manifest with a number of 10^5 digits": (manifest(b'{"files":' + b"9" * 100_000 + b"}"), _FOREIGN),
    "manifest of 100,000 brackets": (manifest(b"[" * 100_000), _FOREIGN),
    "manifest that is a FIFO": (replaced("bertconv.json", os.mkfifo), _FOREIGN),
    "manifest that is a link": (replaced("bertconv.json", to("../secret/config.json")), _FOREIGN),
    "manifest that is a folder": (replaced("bertconv.json", os.mkdir), _FOREIGN),
    "lock that is a link": (beside(".out.bertconv-lock", to("precious/a.txt")), _SYSTEM),
    "lock that is a link to nothing": (beside(".out.bertconv-lock", to("precious/new")), _SYSTEM),
    "lock that is a folder": (beside(".out.bertconv-lock", os.mkdir), _SYSTEM),
}  # fmt: skip
TAKEN: dict[str, Prepare] = {
    "name with a newline": at("a\nb\x1b[2J"),
    "below a link to a folder": linked("elsewhere", "/x"),
    "weights that are a link": replaced("tf_model.h5", to("../precious/a.txt")),
    "rest that is a link": beside(".out.bertconv-tmp-x", to("precious")),
    "rest that is a link, no output": beside(".out.bertconv-tmp-x-old", to("precious"), fresh=True),
    "rest that is a file": beside(".out.bertconv-tmp-x", Path.touch),
    "rest that holds a link": beside(
        ".out.bertconv-tmp-x", lambda path: (path.mkdir(), (path / "l").symlink_to("../precious"))
    ),
    "lock that is a FIFO": beside(".out.bertconv-lock", os.mkfifo),
    "lock that a killed run left": beside(".out.bertconv-lock", Path.touch),
}


def prepared(root: Path, earlier: Path, prepare: Prepare) -> tuple[Path, Path]:
    """A sound model and the destination, over an earlier output unless it is somewhere else."""
    folder = sound(root / "model", shards=False)
    secrets(root / "secret")
    folder_of_precious(root / "precious")
    (root / "elsewhere").mkdir()
    shutil.copytree(earlier, root / "out")
    return folder, prepare(root) or root / "out"
