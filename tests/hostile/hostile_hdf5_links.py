"""HDF5 files whose weights lie elsewhere, or whose groups go in circles: how they are refused, and what they leak."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from h5py import h5f
from hdf5_model import (
    COUNT,
    LAYER,
    NAME,
    PLACE,
    SCOPE,
    SOUND,
    VALUES,
    Change,
    case,
    changed,
    damaged,
    patched,
    replaced,
    swap,
)
from hostile_case import Case

from bertconv.errors import UnsafeCheckpoint

ENCODER = f"{SCOPE}/encoder"
ATTENTION = f"{ENCODER}/layer_._0/attention"
QUERY = f"{ATTENTION}/self/query"
KEY = f"/{LAYER}/{ATTENTION}/self/key/bias:0"


def unsafe(make: Callable[[Path], bytes], words: str, tensor: str | None = NAME, control: str = "") -> Case:
    return case(make, words, tensor, UnsafeCheckpoint, control)


def outside(name: str, inner: str = PLACE) -> Callable[[Path], h5py.ExternalLink]:
    """A link to a path in a file beside the model's folder."""
    return lambda folder: h5py.ExternalLink(str(folder / name), f"/{inner}")


def soft(target: str) -> Callable[[Path], h5py.SoftLink]:
    return lambda _: h5py.SoftLink(target)


def link(path: str, make: Callable[[Path], object], control: str = "") -> Case:
    """A link in the place of a dataset or group; the error names it below its layer."""

    def change(root: h5py.File, folder: Path) -> None:
        if path in root:
            del root[path]
        root[path] = make(folder)

    return unsafe(changed(change), "is a link to another place or file", path.removeprefix(f"{LAYER}/"), control)


def named_by_a_list(root: h5py.File, folder: Path) -> None:
    """What the list of weights names is in another group, and a link there: a loader that follows the list leaks."""
    root["stash/w"] = outside("secret.h5")(folder)
    names = [b"/stash/w" if name.decode() == NAME else name for name in root[LAYER].attrs["weight_names"]]
    root[LAYER].attrs["weight_names"] = names


def named_layer(root: h5py.File, folder: Path) -> None:
    root["evil"] = outside("secret.h5", LAYER)(folder)
    root.attrs["layer_names"] = [b"evil"]


def soft_to_external(root: h5py.File, folder: Path) -> None:
    root["stash/w"] = outside("secret.h5")(folder)
    root[PLACE] = h5py.SoftLink("/stash/w")


def with_a_linked_type(number: int) -> Callable[[Path], bytes]:
    """An external link of which the type is another number: above 64, whatever a plugin makes of it."""

    def edit(raw: bytearray) -> None:
        swap(raw, b"\x40\x06bias:0", bytes([number]))

    def make(canary: Path) -> bytes:
        linked = replaced(lambda root, folder: root.__setitem__(PLACE, outside("secret.h5")(folder)))(canary)
        return patched(edit, linked)(canary)

    return make


LINKS = {
    "external, absolute": link(PLACE, outside("secret.h5"), "secret"),
    "external, relative": link(PLACE, lambda _: h5py.ExternalLink("../secret.h5", f"/{PLACE}"), "secret"),
    "external, a group above": link(f"{LAYER}/{ENCODER}", outside("secret.h5", f"{LAYER}/{ENCODER}"), "secret"),
    "external, the scope": link(f"{LAYER}/tf_bert_model", outside("secret.h5", f"{LAYER}/tf_bert_model"), "secret"),
    "external, the layer": link(LAYER, outside("secret.h5", LAYER), "secret"),
    "external, no such file": link(PLACE, outside("no-such-file.h5")),
    "external, a pipe": link(PLACE, outside("pipe"), "hang"),
    "external, no HDF5": link(PLACE, outside("secret")),
    "external, itself": link(
        PLACE, lambda folder: h5py.ExternalLink(str(folder / "model/tf_model.h5"), KEY), "another"
    ),
    "external, model_weights": link("model_weights", outside("secret.h5", "")),
    "external, optimizer_weights": link("optimizer_weights", outside("secret.h5", "")),
    "external, named by a list": unsafe(changed(named_by_a_list), "is a link", "stash/w", "secret"),
    "external, a layer named by a list": unsafe(changed(named_layer), "is a link", "evil", "secret"),
    "soft, to an external one": unsafe(replaced(soft_to_external), "is a link", NAME, "secret"),
    "user-defined": unsafe(with_a_linked_type(65), "is a link to another place or file"),
    "of no type": damaged(with_a_linked_type(2), "nknown link type"),
    "soft, to a dataset": link(PLACE, soft(KEY), "another"),
    "soft, to a group": link(f"{LAYER}/{QUERY}", soft(f"/{LAYER}/{ATTENTION}/self/key"), "another"),
    "soft, dangling": link(PLACE, soft("/no/such/place")),
    "soft, upwards": link(PLACE, soft("../key/bias:0")),
    "soft, to itself": link(PLACE, soft(f"/{PLACE}")),
    "soft, a layer": link("evil", soft(f"/{LAYER}")),
    "soft, a million letters": link(PLACE, soft("/a" * 500_000)),
}


def segments(make: Callable[[Path], list[tuple[object, int, int]]], shape: tuple[int, ...] = (COUNT,)) -> Change:
    def change(root: h5py.File, folder: Path) -> None:
        root.create_dataset(PLACE, shape, "<f4", external=[(str(name), *rest) for name, *rest in make(folder)])

    return change


def external(make: Callable[[Path], list[tuple[object, int, int]]], control: str = "", size: int = COUNT) -> Case:
    return unsafe(replaced(segments(make, (size,))), "takes its data from another file", NAME, control)


def virtual(make: Callable[[Path], h5py.VirtualSource], control: str = "", limit: int | None = COUNT) -> Case:
    def change(root: h5py.File, folder: Path) -> None:
        layout = h5py.VirtualLayout((COUNT,), "<f4", maxshape=(limit,))
        layout[:] = make(folder)
        root.create_virtual_dataset(PLACE, layout)

    return unsafe(replaced(change), "takes its data from another file", NAME, control)


def source(name: str, inner: str = f"/{PLACE}") -> h5py.VirtualSource:
    return h5py.VirtualSource(name, inner, (COUNT,), "<f4")


ALL = h5f.UNLIMITED
DATA = {
    "raw, absolute": external(lambda folder: [(folder / "secret", 0, ALL)], "secret"),
    "raw, relative": external(lambda _: [("../secret", 0, ALL)], "secret"),
    "raw, of just the size": external(lambda folder: [(folder / "secret", 0, 4 * COUNT)], "secret"),
    "raw, in segments": external(
        lambda folder: [(folder / "secret", 0, 64), (folder / "secret", 64, 4 * COUNT - 64)], "secret"
    ),
    "raw, out of a model": external(
        lambda folder: [(folder / "secret.h5", SOUND.index(VALUES.tobytes()), ALL)], "secret"
    ),
    "raw, out of this file": external(lambda folder: [(folder / "model/tf_model.h5", 0, ALL)], "another"),
    "raw, no such file": external(lambda folder: [(folder / "no-such-file", 0, ALL)]),
    "raw, a pipe": external(lambda folder: [(folder / "pipe", 0, ALL)], "hang"),
    "raw, a device": external(lambda _: [("/dev/zero", 0, ALL)], "zeros"),
    "raw, no elements": external(lambda folder: [(folder / "secret", 0, ALL)], size=0),
    "virtual, absolute": virtual(lambda folder: source(str(folder / "secret.h5")), "secret"),
    "virtual, relative": virtual(lambda _: source("../secret.h5"), "secret"),
    "virtual, in this file": virtual(lambda _: source(".", KEY), "another"),
    "virtual, no such file": virtual(lambda _: source("no-such-file.h5"), "zeros"),
    "virtual, no such dataset": virtual(lambda _: source(".", "/no/such/place"), "zeros"),
    "virtual, of itself": virtual(lambda _: source("."), "crash"),
    "virtual, without an end": virtual(lambda folder: source(str(folder / "secret.h5")), "secret", None),
}


def fan(root: h5py.File, _: Path) -> None:
    """2^30 paths to one dataset."""
    inner = root.create_group("g0")
    inner["w"] = np.zeros(3, np.float32)
    for number in range(1, 31):
        outer = root.create_group(f"g{number}")
        outer["left"], outer["right"] = inner, inner
        inner = outer


def crowd(root: h5py.File, _: Path) -> None:
    root["one"] = np.zeros(3, np.float32)
    for number in range(100_001):
        root.id.links.create_hard(b"x%d" % number, root.id, b"one")


def deep(depth: int) -> Change:
    return lambda root, _: root.create_group("/".join("g" * depth))


def again(path: str, target: str) -> Callable[[Path], bytes]:
    return changed(lambda root, _: root.__setitem__(path, root[target]))


TWICE = "is a group that is reached twice or too deep"
TREES = {
    "a group in itself": unsafe(again(f"{LAYER}/{ENCODER}/back", f"{LAYER}/{ENCODER}"), TWICE, f"{ENCODER}/back"),
    "a group in its child": unsafe(
        again(f"{LAYER}/{ATTENTION}/back", f"{LAYER}/{ENCODER}"), TWICE, f"{ATTENTION}/back"
    ),
    "a layer in itself": unsafe(again(f"{LAYER}/back", LAYER), TWICE, "back"),
    "the root in a layer": unsafe(again(f"{LAYER}/back", "/"), TWICE, "back/bert"),
    "the root in the root": unsafe(again("back", "/"), TWICE, "back/back"),
    "a layer twice": unsafe(again("other", LAYER), TWICE, "other"),
    "2^30 paths": unsafe(changed(fan), TWICE, "g1/left"),
    "100,001 links": unsafe(changed(crowd), "holds more than 20,000 objects", None),
    "65 groups deep": unsafe(changed(deep(66)), TWICE, "/".join("g" * 65)),
    "1,000 groups deep": unsafe(changed(deep(1000)), TWICE, "/".join("g" * 65)),
    "a type among the weights": unsafe(
        changed(lambda root, _: root.__setitem__(f"{LAYER}/kind", np.dtype("<f4"))), "is neither a group nor", "kind"
    ),
    "a type in a weight's place": unsafe(
        replaced(lambda root, _: root.__setitem__(PLACE, np.dtype("<f4"))), "is neither a group nor"
    ),
}  # fmt: skip

LINKED: dict[str, Case] = {
    f"{group}: {name}": each
    for group, cases in (("link", LINKS), ("elsewhere", DATA), ("tree", TREES))
    for name, each in cases.items()
}
