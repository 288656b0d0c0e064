"""The conversions that faults are injected into: a source, an earlier output, and what must come out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import checkpoints as cp

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

Tree = dict[str, bytes | None]


@dataclass(frozen=True)
class Kind:
    """One way to convert.

    Attributes:
        name: for reports.
        container: of the source: see `checkpoints.save`.
        words: the command and its options.
        exchange: the file system of the output can swap two names in one step.
    """

    name: str
    container: str
    words: tuple[str, ...]
    exchange: bool = True


WRITING = (
    Kind("tf", "safetensors", ("pt2tf",)),
    Kind("tf-sharded", "bin", ("pt2tf", *SHARDS)),
    Kind("tf-safetensors", "safetensors", ("convert", "--to", "tf-safetensors", "--dtype", "bfloat16")),
    Kind("tf-safetensors-sharded", "sharded", ("convert", "--to", "tf-safetensors", *SHARDS)),
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
    def words(self) -> tuple[str, ...]:
        """The command and its options."""
        return self.kind.words

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

    def arguments(self, *more: str) -> list[object]:
        """The command line; an earlier output is replaced."""
        return [*self.words, self.source, self.destination, *(("--overwrite",) if self.over else ()), *more]

    def again(self) -> list[object]:
        """The next run, which takes whatever the last one left."""
        return [*self.words, self.source, self.destination, "--overwrite"]

    def reset(self) -> None:
        """Everything as it was."""
        put_tree(self.work, self.old)

    def restore_source(self) -> None:
        """The source as it was, and in `swap` the files of another model under the same names."""
        for name in ("src", "swap"):
            shutil.rmtree(self.root / name, ignore_errors=True)
            shutil.copytree(self.root / f"{name}-kept", self.root / name)


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
    """A scene whose expected output was converted without faults and checked tensor by tensor, without bertconv."""
    name = f"{kind.name}-{'over' if over else 'new'}"
    root = folder / name
    source = make_source(root / "src", kind.container, 1, **changes)
    other = make_source(root / "swap", kind.container, 2, **changes)
    for each in (source, other):
        shutil.copytree(each, each.with_name(f"{each.name}-kept"))
    bare = Scene(name, root, kind, over, {}, {}, ())
    old: Tree = {}
    bare.work.mkdir()
    if over:
        convert(server, [*kind.words, other, bare.destination])
        old = cp.snapshot(bare.work)
    convert(server, bare.again())
    new = cp.snapshot(bare.work)
    check(bare, cp.state_dict(HEAD, seed=1, **(SMALL | changes)))
    weights = tuple(sorted(path.name for path in source.iterdir() if path.suffix in {".safetensors", ".bin", ".h5"}))
    return Scene(name, root, kind, over, old, new, weights)


def convert(server: Server, arguments: list[object]) -> None:
    """A conversion that must succeed; in the server itself, which so imports all that it takes."""
    if server.warm(*arguments) != 0:
        raise AssertionError(f"a conversion without a fault failed: {arguments}: {server.run(arguments).text}")


def check(scene: Scene, tensors: cp.Tensors) -> None:
    """The output holds these tensors, all of them, and its manifest says so too."""
    expected = tensors if list(scene.destination.glob("*.h5")) == [] else cp.tf_state(tensors)
    if "tf-safetensors" in scene.words:
        expected = cp.tf_state(tensors)
    if "bfloat16" in scene.words:
        expected = {name: value.astype(cp.numpy_type("bfloat16")) for name, value in expected.items()}
    cp.assert_same(cp.written(scene.destination), expected)
    assert "none" in scene.words or check_checkpoint(scene.destination).ok
