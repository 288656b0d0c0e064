"""The walk over a file's metadata: hard links only, each group once, no dataset that hides something.

These rules are the same for our own reader (`classic`) and for libhdf5 in its child (`library`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from bertconv.containers.hdf5.objects import CannotOpen, Dataset, Element, Group
from bertconv.containers.stored import ITEM_SIZE, MAX_NAME
from bertconv.errors import DamagedCheckpoint, UnsafeCheckpoint, UnsupportedCheckpoint
from bertconv.records import dataclass
from bertconv.text import printable

MAX_OBJECTS = 20_000
"""Most groups and datasets that are looked at; a model of 48 layers with its optimizer has 3,000."""
MAX_DEPTH = 64
"""Deepest path that is followed."""
VARIABLES = "vars"
"""The group of a layer in which Keras 3 keeps its variables, by number."""

Layers = tuple[str, ...] | None
"""Names of layers, from the model inwards; None where one of them is not known."""


@dataclass(frozen=True)
class FoundTensor:
    """One dataset: its name below its layer's group, that group, element type, shape, and offset in bytes.

    `recorded` is its name by the names of the layers around it, where Keras 3 numbered the weights of a layer.
    """

    name: str
    group: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    recorded: str = ""


@dataclass(frozen=True)
class Found:
    """What a walk found: datasets, root attributes that tell of the writer, and things that are not weights."""

    tensors: tuple[FoundTensor, ...]
    metadata: dict[str, str]
    others: tuple[str, ...]


def walk(root: Group) -> Found:
    """Everything in an open file, from its metadata alone.

    Raises:
        UnsafeCheckpoint: external or virtual data, links, cycles, too many objects.
        DamagedCheckpoint: a name that is no text, or data that was never written.
        UnsupportedCheckpoint: compressed or chunked datasets, or elements of an unusual kind.
    """
    steps = _Walk()
    if root.has("model_weights") and root.attribute("layer_names") is None:  # of `model.save`
        others = [name for name in steps.names(root, "") if name != "model_weights"]
        top = steps.child(root, "model_weights", "model_weights")
        if not isinstance(top, Group):
            raise _bad("model_weights", "is a dataset where the layers should be")
        tensors = tuple(steps.tensors(top))
    else:
        others = ["optimizer_weights"] if root.has("optimizer_weights") else []
        tensors = tuple(steps.tensors(root))
    metadata = {key: text for key in ("backend", "keras_version") if (text := _short_text(root, key)) is not None}
    return Found(tensors, metadata, tuple(others))


class _Walk:
    """One walk, and what it has seen."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.objects = 0

    def tensors(self, top: Group) -> Iterator[FoundTensor]:
        layers = self.within(top, "", ())
        for name in self.names(top, ""):
            child = self.child(top, name, name)
            if name == "optimizer_weights":
                continue
            if isinstance(child, Group):
                layer = name if any(key.startswith("weight_names") for key in child.attributes()) else ""
                yield from self.below(child, "" if layer else name, layer, layers)
            else:
                yield self.tensor(child, name, "")

    def within(self, group: Group, path: str, layers: Layers) -> Layers:
        """The names of the layers around and including a group, as Keras 3 recorded them; None where one is missing.

        A group of another kind, a list of layers, has no variables of its own, and no name.
        """
        if layers is None or not group.has(VARIABLES):
            return layers
        own = self.child(group, VARIABLES, f"{path}/{VARIABLES}")
        name = own.label("name") if isinstance(own, Group) else None
        if not name or "/" in name or not name.isprintable() or len(name) > MAX_NAME:
            return None
        return (*layers, name)

    def below(self, group: Group, path: str, layer: str, around: Layers) -> Iterator[FoundTensor]:
        depth = path.count("/") + 1 + bool(layer)
        address = group.address
        if address in self.seen or depth > MAX_DEPTH:
            raise _unsafe(path or layer, "is a group that is reached twice or too deep")
        self.seen.add(address)
        layers = self.within(group, path, around)
        numbered = layers and path.rpartition("/")[2] == VARIABLES
        for name in self.names(group, path):
            full = f"{path}/{name}" if path else name
            child = self.child(group, name, full)
            if isinstance(child, Group):
                yield from self.below(child, full, layer, layers)
            else:
                recorded = "/".join((*(layers or ()), VARIABLES, name)) if numbered else ""
                yield self.tensor(child, full, layer, recorded)

    def names(self, group: Group, path: str) -> Iterator[str]:
        self.objects += group.count()
        if self.objects > MAX_OBJECTS:
            raise _unsafe(path or None, f"holds more than {MAX_OBJECTS:,} objects")
        for name in group.names():
            full = f"{path}/{name!s}" if path else str(name)
            if not isinstance(name, str) or len(full) > MAX_NAME or not name.isprintable():  # bytes: not UTF-8
                raise _bad(full[:100], f"has a name that is not printable text of at most {MAX_NAME:,} characters")
            yield name

    def child(self, group: Group, name: str, full: str) -> Group | Dataset:
        if not group.is_hard(name):
            raise _unsafe(full, "is a link to another place or file")
        try:
            child = group.open(name)
        except CannotOpen as error:
            raise _bad(full, f"cannot be opened: {printable(str(error)[:MAX_NAME])}") from error
        if child is None:
            raise _unsafe(full, "is neither a group nor a dataset")
        return child

    def tensor(self, dataset: Dataset, name: str, layer: str, recorded: str = "") -> FoundTensor:
        if dataset.is_elsewhere():
            raise _unsafe(name, "takes its data from another file")
        dtype = self.dtype(dataset.element(), name)
        shape = dataset.shape()
        nbytes = math.prod(shape) * ITEM_SIZE[dtype]
        if nbytes == 0:
            return FoundTensor(name, layer, dtype, shape, 0, recorded)
        if not dataset.is_plain():
            raise UnsupportedCheckpoint(
                "is chunked or compressed.",
                hint="Rewrite the file with `h5repack -l CONTI -f NONE in.h5 out.h5`.",
                tensor=name,
            )
        offset, stored = dataset.extent()
        if offset is None or stored != nbytes:
            raise _bad(name, f"declares {nbytes:,} bytes but stores {stored if offset else 0:,}")
        return FoundTensor(name, layer, dtype, shape, offset, recorded)

    def dtype(self, element: Element, name: str) -> str:
        if not element.number:
            raise UnsupportedCheckpoint(
                "does not hold little-endian numbers.",
                hint="Only floating-point and integer datasets are weights.",
                tensor=name,
            )
        if element.dtype is None:
            raise UnsupportedCheckpoint(
                f"has elements of {element.nbytes} bytes of an unusual kind.",
                hint="Save the weights as float32 or float16.",
                tensor=name,
            )
        return element.dtype


def _unsafe(name: str | None, problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(f"{problem}.", hint="No tool writes weights so; do not trust the file.", tensor=name)


def _bad(name: str, problem: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{problem}.", hint="Download or save the file again.", tensor=name)


def _short_text(root: Group, key: str) -> str | None:
    """A root attribute, where it is one short text: the damaged heap of a variable length can hang libhdf5 for ever."""
    known = root.attribute(key)
    if known is None or not known.fixed_text or known.shape != () or known.nbytes > MAX_NAME:
        return None
    value = root.text(key)
    return value if isinstance(value, str) else value.decode(errors="replace")
