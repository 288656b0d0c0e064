"""The runs that faults are injected into: a source, an earlier output, and what must come out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import checkpoints as cp
from flax_files import flax_state, read_flax

from bertconv.verification import check_checkpoint
from qa.faults.client import Server

HEAD = "BertForTokenClassification"
SMALL = {"num_hidden_layers": 1}
SIDECARS = {
    "vocab.txt": b"[PAD]\n[UNK]\n",
    "tokenizer_config.json": b'{"do_lower_case": true}\n',
    "1_Pooling/config.json": b"{}",
}
SHARDS = ("--max-shard-size", "30KB")

SRC, DST, BESIDE = "SRC", "DST", "BESIDE"
"""What stands in the words of a command for a path."""

Tree = dict[str, bytes | None]


@dataclass(frozen=True)
class Kind:
    """One way to write a folder.

    Attributes:
        name: for reports.
        container: of the source: see `checkpoints.save`.
        words: the command and its options; source and destination come last where no place is marked for them.
        exchange: the file system of the output can swap two names in one step.
        make: makes a source in a folder, and maybe another input beside it; then the output is not one that `check`
            knows without bertconv.
    """

    name: str
    container: str
    words: tuple[str, ...]
    exchange: bool = True
    make: Callable[[Path, Path], None] | None = None


def _by_manifest(source: Path, beside: Path) -> None:
    """The source is as it is; that the values of these formats are right is for the tests of their containers."""


WRITING = (
    Kind("tf", "safetensors", ("pt2tf",)),
    Kind("tf-sharded", "bin", ("pt2tf", *SHARDS)),
    Kind("tf-safetensors", "safetensors", ("convert", "--to", "tf-safetensors", "--dtype", "bfloat16")),
    Kind("tf-safetensors-sharded", "sharded", ("convert", "--to", "tf-safetensors", *SHARDS)),
    Kind("flax", "safetensors", ("convert", "--to", "flax", *SHARDS)),
    Kind("tf1", "safetensors", ("convert", "--to", "tf1", *SHARDS), make=_by_manifest),
    Kind(
        "keras-hub",
        "safetensors",
        ("convert", "--to", "keras-hub", "--head", "BertModel", *SHARDS),
        make=_by_manifest,
    ),
    Kind("pt", "h5", ("tf2pt",)),
    Kind("pt-sharded", "h5", ("convert", "--to", "pt", *SHARDS)),
    Kind("pt-copied", "legacy", ("convert", "--to", "pt", "--verify", "none")),
    Kind("pt-two-renames", "safetensors", ("convert", "--to", "pt"), exchange=False),
)
"""Every format to be written, in one file and in several; one that is copied inside the kernel and not read back; one
on a file system that cannot swap two names."""

READING = (
    Kind("safetensors", "safetensors", ("convert", "--to", "pt")),
    Kind("safetensors-turned", "safetensors", ("pt2tf", "--verify", "none")),
    Kind("safetensors-sharded", "sharded", ("convert", "--to", "tf-safetensors")),
    Kind("bin", "bin", ("pt2tf",)),
    Kind("bin-copied", "bin", ("convert", "--to", "pt", "--verify", "none")),
    Kind("bin-legacy", "legacy", ("convert", "--to", "tf-safetensors")),
    Kind("bin-sharded", "sharded-bin", ("convert", "--to", "pt")),
    Kind("h5", "h5", ("tf2pt",)),
    Kind("h5-copied", "h5", ("convert", "--to", "tf", "--verify", "none")),
)
"""Every container to be read, by way of the processor and inside the kernel."""


@dataclass(frozen=True)
class Scene:
    """A conversion in a folder of its own.

    Attributes:
        name: for reports.
        root: its folder.
        kind: how it is converted.
        over: there is an earlier output.
        old: everything in `work` before a run.
        new: everything in `work` after it.
        weights: names of the source's files of weights.
    """

    name: str
    root: Path
    kind: Kind
    over: bool
    old: Tree
    new: Tree
    weights: tuple[str, ...]

    @property
    def source(self) -> Path:
        return self.root / "src"

    @property
    def work(self) -> Path:
        """The folder in which everything is written."""
        return self.root / "work"

    @property
    def destination(self) -> Path:
        """Inside a folder that is there only when there is an earlier output."""
        return self.work / "made" / "out"

    def command(self, source: Path, destination: Path, *, overwrite: bool) -> list[object]:
        """The command line."""
        words = self.kind.words if DST in self.kind.words else (*self.kind.words, SRC, DST)
        places: dict[str, object] = {SRC: source, DST: destination, BESIDE: self.root / "beside"}
        return [*(places.get(word, word) for word in words), *(("--overwrite",) if overwrite else ())]

    def arguments(self) -> list[object]:
        """Of a run; an earlier output is replaced."""
        return self.command(self.source, self.destination, overwrite=self.over)

    def again(self) -> list[object]:
        """Of the next run, which takes whatever the last one left."""
        return self.command(self.source, self.destination, overwrite=True)

    def reset(self) -> None:
        """Everything as it was."""
        put_tree(self.work, self.old)

    def restore_source(self) -> None:
        """The source as it was, and in `swap` the files of another model under the same names."""
        for name in ("src", "swap"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            shutil.copytree(self.root / f"{name}-kept", self.root / name, symlinks=True)


def put_tree(folder: Path, tree: Tree) -> None:
    """Make a folder hold exactly this."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in tree.items():
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


def make_source(folder: Path, container: str, seed: int, **changes: int) -> Path:
    """A checkpoint with sidecars."""
    cp.save(folder, HEAD, cp.state_dict(HEAD, seed=seed, **(SMALL | changes)), container, **(SMALL | changes))
    for name, content in SIDECARS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def make_scene(server: Server, folder: Path, kind: Kind, *, over: bool, **changes: int) -> Scene:
    """A scene whose expected output was written without faults, and that of a conversion checked without bertconv."""
    name = f"{kind.name}-{'over' if over else 'new'}"
    root = folder / name
    sources = [make_source(root / place, kind.container, seed, **changes) for place, seed in (("src", 1), ("swap", 2))]
    for each in sources:
        if kind.make is not None:
            kind.make(each, root / "beside")
        shutil.copytree(each, each.with_name(f"{each.name}-kept"), symlinks=True)
    source, other = sources
    bare = Scene(name, root, kind, over, {}, {}, ())
    bare.work.mkdir()
    if over:
        convert(server, bare.command(other, bare.destination, overwrite=False))
    old = cp.snapshot(bare.work)
    convert(server, bare.again())
    server.warm("gc", bare.work)
    if kind.make is None:
        check(bare, cp.state_dict(HEAD, seed=1, **(SMALL | changes)))
    elif not check_checkpoint(bare.destination).ok:
        raise AssertionError(f"{name} does not hold by its own manifest")
    weights = tuple(sorted(path.name for path in source.iterdir() if path.suffix in {".safetensors", ".bin", ".h5"}))
    return replace(bare, old=old, new=cp.snapshot(bare.work), weights=weights)


def convert(server: Server, arguments: list[object]) -> None:
    """A conversion that must succeed; in the server itself, which so imports all that it takes."""
    if server.warm(*arguments) != 0:
        raise AssertionError(f"a conversion without a fault failed: {arguments}: {server.run(arguments).text}")


def check(scene: Scene, tensors: cp.Tensors) -> None:
    """The output holds these tensors, all of them, and its manifest says so too."""
    expected = tensors if list(scene.destination.glob("*.h5")) == [] else cp.tf_state(tensors)
    if "tf-safetensors" in scene.kind.words:
        expected = cp.tf_state(tensors)
    if "bfloat16" in scene.kind.words:
        expected = {name: value.astype(cp.numpy_type("bfloat16")) for name, value in expected.items()}
    found = cp.written(scene.destination)
    if "flax" in scene.kind.words:
        expected = flax_state(expected)
        for path in scene.destination.glob("*.msgpack"):
            found |= read_flax(path.read_bytes())
    cp.assert_same(found, expected)
    assert "none" in scene.kind.words or check_checkpoint(scene.destination).ok
