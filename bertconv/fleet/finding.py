"""Which folders of a tree hold checkpoints: by names and sizes of files and by configs; nothing of a weight is read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import field
from typing import Any, Protocol

from bertconv.containers.registry import BY_NAME, CONTAINERS, SPREAD
from bertconv.errors import BertconvError, RequestError
from bertconv.families import families
from bertconv.fleet.items import FOLDER
from bertconv.formats.leftovers import MARK
from bertconv.records import dataclass
from bertconv.source.modules import LISTING
from bertconv.source.prefixes import INDEX, LIST, LIST_BYTES, listed_prefix, prefix_of
from bertconv.source.refusals import unsupported
from bertconv.source.sidecars import CONFIGS
from bertconv.source.weights import Choice, choose, index_beside, is_index, is_spread, is_weights, parts_beside
from bertconv.text import parse_json, printable, shown

MOST_DEPTH = 32
"""How far below the root of a tree is looked."""
CONFIG_BYTES = 4_000_000
"""A longer config is not looked into; whoever opens the checkpoint says what is wrong with it."""
MOST_TEXT = 200
"""Characters of a text from a config."""

_CACHED = re.compile(r"(models|datasets|spaces)--.+")
"""A repository's folder in the Hub's cache, whose files are links and huggingface_hub's own."""
_NESTED = re.compile(r"variables|saved_model|pytorch_model_fsdp_[0-9]+")
"""Folders whose files are weights of the folder around them."""
_VERSION = re.compile(r"[0-9]{1,18}")
_PART = re.compile(r"[0-9]+_.+|onnx|openvino|coreml|global_step[0-9]+")
"""Folders in a checkpoint that are modules of it, exports of it or state of its training: no checkpoints themselves."""
_SHARDS = re.compile(r"(?P<stem>.+)\.(?P<end>[^.]+)\.index(?:\..+)?\.json")
_LINK = "is a symbolic link, which is not followed"


@dataclass(frozen=True)
class File:
    """A file of a tree: its size in bytes, None where nobody said, and whether it is a link."""

    size: int | None
    is_link: bool = False


class Tree(Protocol):
    """Folders and files somewhere: a disk, a bucket, a web server, a repository."""

    def entries(self, folder: str) -> tuple[Mapping[str, File], Collection[str]]:
        """Files and folders of a folder, which is given relative to the root; OSError where it cannot be listed."""

    def read(self, name: str, most: int) -> bytes:
        """The first bytes of a file; OSError where it cannot be read."""

    def size(self, name: str) -> int:
        """Of a file whose entry has none; OSError where it is not to be had."""


@dataclass(frozen=True)
class Found:
    """A checkpoint that was found.

    Attributes:
        place: its folder, file or prefix, relative to the root of the tree; empty for the root itself.
        size: bytes of its weights.
        family: the model type that its config states.
        format: name of the container that its files are.
        head: the class that its config states.
        problems: what will be in its way, one sentence each.
        files: its files of weights, relative to the root.
    """

    place: str
    size: int = 0
    family: str = ""
    format: str = ""
    head: str = ""
    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), repr=False)


def find_checkpoints(tree: Tree) -> Iterator[Found]:
    """The checkpoints of a tree in the order of their places, each once.

    Staged folders, everything else that is hidden, the Hub's caches and outputs of fleets are passed over; a root that
    is itself such a thing is what the caller asked for.
    """
    waiting = [("", 0)]
    while waiting:
        folder, depth = waiting.pop()
        try:
            files, inner = tree.entries(folder)
        except OSError as error:
            yield Found(folder, problems=(f"cannot be listed: {_reason(error)}",))
            continue
        if folder and FOLDER in inner:
            continue
        names = sorted(filter(_is_open, inner))
        place = _Place(tree, folder, files, frozenset(names))
        if depth == MOST_DEPTH and names:
            yield Found(folder, problems=(f"lies {MOST_DEPTH} folders deep; what is below it was not looked at",))
            names = []
        found = list(place.checkpoints())
        yield from found
        names = [name for name in names if not (found and place.owns(name))]
        waiting.extend((_join(folder, name), depth + 1) for name in reversed(names))


def config_facts(keys: object) -> tuple[str, str, tuple[str, ...]]:
    """Family and class that a config states, and what is wrong with that; empty where it states none."""
    if not isinstance(keys, dict):
        return "", "", ("config is no JSON object",)
    family, classes = keys.get("model_type"), keys.get("architectures")
    family = _text(family)
    head = _text(classes[0]) if isinstance(classes, list) and len(classes) == 1 else ""
    unknown = family and family not in families()
    problems = (f"no table knows the family {shown(family)}",) if unknown else ()
    return family, head, problems


@dataclass(frozen=True)
class _Place:
    """One folder of a tree."""

    tree: Tree
    folder: str
    files: Mapping[str, File]
    inner: frozenset[str]

    def checkpoints(self) -> Iterator[Found]:
        """The checkpoint that it holds, or several that lie in it as single files."""
        here = self.files.keys()
        if not any(map(_holds_weights, here)) and not any(map(_NESTED.fullmatch, self.inner)):
            yield from self._refused(here)
            return
        known = dict(self.files) | self._nested()
        try:
            config = self._config()
            choice = choose(known, tuple(BY_NAME), None, self._named(config), self._listed(here))
        except RequestError:
            yield from self._several(known)
            return
        except BertconvError as error:
            yield Found(self.folder, problems=(sentence(error),))
            return
        if choice is None:
            yield from self._refused(here)
            return
        yield self._described(self.folder, choice, known, config)

    def owns(self, name: str) -> bool:
        """Whether a folder in it is a part of the checkpoint that it holds."""
        return bool(_NESTED.fullmatch(name) or _PART.fullmatch(name))

    def _refused(self, here: Collection[str]) -> Iterator[Found]:
        """What says that it is a model, though not one that can be read."""
        if not {"config.json", "adapter_config.json"} & set(here):
            return
        if (error := unsupported(here, "")) is not None:
            yield Found(self.folder, problems=(sentence(error),))

    def _nested(self) -> dict[str, File]:
        """Files in folders below that hold its weights, relative to it."""
        found: dict[str, File] = {}
        places = [name for name in self.inner if _NESTED.fullmatch(name)]
        while places:
            place = places.pop()
            try:
                files, inner = self.tree.entries(_join(self.folder, place))
            except OSError:  # whoever opens the checkpoint says so
                continue
            found.update((f"{place}/{name}", file) for name, file in files.items())
            if place.startswith("saved_model"):
                places += [f"{place}/{name}" for name in inner if _VERSION.fullmatch(name) or name == "variables"]
        return found

    def _config(self) -> object:
        """What its config says; None where it has none."""
        name = next((name for name in CONFIGS if name in self.files), None)
        if name is None or (self.files[name].size or 0) > CONFIG_BYTES:
            return None
        try:
            return parse_json(self.tree.read(_join(self.folder, name), CONFIG_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            reason = _reason(error) if isinstance(error, OSError) else "it is no JSON"
            return f"{name} cannot be read: {reason}"

    def _named(self, config: object) -> str | None:
        """The file of weights that its config names."""
        named = config.get("transformers_weights") if isinstance(config, dict) else None
        return named if isinstance(named, str) else None

    def _listed(self, here: Collection[str]) -> str | None:
        """The prefix of TensorFlow's that the folder's list names."""
        if LIST not in here or sum(name.endswith(INDEX) for name in here) < 2:
            return None
        try:
            return listed_prefix(self.tree.read(_join(self.folder, LIST), LIST_BYTES))
        except OSError:
            return None

    def _several(self, known: Mapping[str, File]) -> Iterator[Found]:
        """Each of the files, or of TensorFlow's prefixes, that could be the folder's checkpoint."""
        here = [name for name in sorted(known) if "/" not in name and not name.startswith(".")]
        prefixes = {name.removesuffix(INDEX) for name in here if name.endswith(INDEX)}
        prefixes = {prefix for prefix in prefixes if any(index_beside(name) == prefix + INDEX for name in here)}
        singles = {name for name in here if is_weights(name) and prefix_of(name) is None and index_beside(name) is None}
        config = self._config()
        for name in sorted(prefixes | singles):
            choice = Choice(name + INDEX if name in prefixes else name)
            yield self._described(_join(self.folder, name), choice, known, config)

    def _described(self, place: str, choice: Choice, known: Mapping[str, File], config: object) -> Found:
        files = _files_of(choice.name, known)
        family, head, problems = ("", "", ()) if config is None else config_facts(config)
        if isinstance(config, str):
            problems = (config,)
        modules = [one for one in self._modules() if one[0] not in files]
        size, sick = self._sizes([(name, known[name]) for name in files])
        return Found(
            place, size + self._sizes(modules)[0], family, _container(choice.name), head, (*problems, *sick),
            tuple(_join(self.folder, name) for name in files),
        )  # fmt: skip

    def _modules(self) -> list[tuple[str, File]]:
        """Files of weights of the modules of sentence-transformers beside the transformer."""
        if LISTING not in self.files:
            return []
        found: list[tuple[str, File]] = []
        for folder in sorted(name for name in self.inner if re.fullmatch(r"[0-9]+_.+", name)):
            try:
                files, _ = self.tree.entries(_join(self.folder, folder))
            except OSError:  # whoever opens the checkpoint says so
                continue
            found += [(f"{folder}/{name}", file) for name, file in sorted(files.items()) if is_weights(name)][:1]
        return found

    def _sizes(self, files: Collection[tuple[str, File]]) -> tuple[int, list[str]]:
        total, problems = 0, []
        for name, file in files:
            try:
                size = self.tree.size(_join(self.folder, name)) if file.size is None else file.size
            except OSError as error:
                problems.append(f"the size of {printable(name)} is not to be had: {_reason(error)}")
                continue
            total += size
            if file.is_link:
                problems.append(f"{printable(name)} {_LINK}")
            elif not size:
                problems.append(f"{printable(name)} is empty")
        return total, problems


def sentence(error: BertconvError) -> str:
    """An error in one line, without what to do."""
    return printable(": ".join(filter(None, (error.tensor, error.message.partition("\n")[0].rstrip(".:")))))


def _is_open(folder: str) -> bool:
    """Whether a folder of this name is looked into: it is not hidden, staged, or one of the Hub's cache."""
    return not folder.startswith(".") and MARK not in folder and not _CACHED.fullmatch(folder)


def _holds_weights(name: str) -> bool:
    return is_weights(name) or is_index(name) or is_spread(name)


def _files_of(chosen: str, known: Collection[str]) -> list[str]:
    """The files of weights that a choice stands for, sorted; an index counts where it is part of the weights."""
    folder = chosen[: chosen.rfind("/") + 1]
    if is_spread(chosen):
        suffixes = next(one.suffixes for one in SPREAD if one.is_index(chosen))
        parts = [name for name in known if index_beside(name) == chosen]
        parts = parts or [name for name in known if name.startswith(folder) and name.endswith(suffixes)]
        return sorted({chosen, *parts})
    if (shards := _SHARDS.fullmatch(chosen)) is not None:
        pattern = re.compile(rf"{re.escape(shards['stem'])}(?:\..+)?-\d{{5}}-of-\d{{5}}\.{re.escape(shards['end'])}")
        return sorted(filter(pattern.fullmatch, known))
    return sorted({chosen, *parts_beside(chosen, known)})


def _container(chosen: str) -> str:
    """The container of a file or an index, by its name."""
    for spread in SPREAD:
        if spread.is_index(chosen):
            return spread.name
    shards = _SHARDS.fullmatch(chosen)
    name = f"{shards['stem']}.{shards['end']}" if shards else chosen
    fitting = [
        (len(suffix), one.name) for one in CONTAINERS for suffix in one.suffixes if name.endswith(suffix)
    ]  # of `.weights.h5` and `.h5` the longer one
    return max(fitting)[1] if fitting else ""


def _text(value: Any) -> str:
    return printable(value[:MOST_TEXT]) if isinstance(value, str) else ""


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _reason(error: OSError) -> str:
    return printable(error.strerror or str(error).partition("\n")[0] or type(error).__name__)
