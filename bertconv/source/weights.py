"""Which files hold the weights: decided by names alone, so the same for a folder and for a repository."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import field
from fnmatch import fnmatchcase

from bertconv.config.content import json_object
from bertconv.containers.container import Spread
from bertconv.containers.registry import BY_NAME, CONTAINERS, SPREAD, refuse_impostor
from bertconv.containers.stored import SourceFile
from bertconv.errors import DamagedCheckpoint, MissingFiles, RequestError, UnsafeCheckpoint
from bertconv.records import dataclass
from bertconv.source import prefixes
from bertconv.text import is_plain, printable, some

INDEX_BYTES = 8_000_000
"""An index has about 100 bytes per tensor, and a model some hundred tensors; a larger file is something else."""

MAX_ENTRIES = 100_000
"""Most tensors that an index may name."""

_STEMS = "|".join(re.escape(container.stem) for container in CONTAINERS)
_ENDS = "|".join(re.escape(container.suffix.removeprefix(".")) for container in CONTAINERS)
_OF_PROCESSES = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
"""What torch's HuggingFaceStorageWriter calls the shards of processes that it does not consolidate."""
SHARD = re.compile(rf".+-\d{{5}}-of-\d{{5}}\.({_ENDS})")

# `model.fp16.safetensors`, `model.safetensors.index.fp16.json`; shards of a variant have their index.
_VARIANT = re.compile(
    rf"(?:{_STEMS})\."
    rf"(?:((?!weights\.h5)[^.]+(?<!-of-\d{{5}}))\.(?:{_ENDS})|(?:{_ENDS})\.index\.(.+)\.json)"
)
_SUFFIXES = tuple(suffix for container in CONTAINERS for suffix in container.suffixes)
_NOT_WEIGHTS = (
    "training_args.bin", "optimizer.*", "scheduler.*", "rng_state*", "scaler.pt",
    "adapter_model.*", "openvino_*",
)  # fmt: skip
"""Files with a suffix of weights that hold training state, or weights of a kind that is not converted."""


@dataclass(frozen=True)
class Weights:
    """The files that hold the weights.

    Attributes:
        files: their names relative to the folder, sorted.
        index: name of the index file when the weights are sharded.
        weight_map: name of a tensor -> shard that holds it, as the index says.
        spread: what the index says where it alone says what the files hold.
    """

    files: tuple[str, ...]
    index: str | None = None
    weight_map: Mapping[str, str] | None = None
    spread: Spread | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Choice:
    """One file of weights, or one index, out of those that are there, and what is unusual about that."""

    name: str
    notes: tuple[str, ...] = ()


def choose(
    names: Collection[str],
    prefer: Iterable[str],
    variant: str | None = None,
    named: str | None = None,
    listed: str | None = None,
) -> Choice | None:
    """The file or the index to read; None when no name looks like weights.

    Args:
        names: files of one folder; those of folders below are passed over, but for containers that own one.
        prefer: names of containers, the first that is there wins.
        variant: the one asked for.
        named: the file that the config's `transformers_weights` names.
        listed: the prefix that a folder's list of TensorFlow's checkpoints names.

    Raises:
        RequestError: the variant is not there, or several files or checkpoints of TensorFlow could be meant.
        UnsafeCheckpoint: the config names a file outside of the folder.
        MissingFiles: the file that the config names, or the index for shards, is missing.
    """
    here = {name for name in names if "/" not in name}
    if named is not None and variant is None:
        return _named(here, named)
    candidates = [name for container in prefer for name in BY_NAME[container].among(names, variant)]
    if candidates and prefixes.is_index(candidates[0]):
        return _of_prefixes([name for name in candidates if prefixes.is_index(name)], listed)
    if candidates:
        return Choice(candidates[0], (*_beside(candidates), *_stale(here, candidates[0])))
    if variant is not None:
        raise RequestError(f"there are no weights of variant {variant!r}.", hint=_variants(here))
    return _lone(here)


def _of_prefixes(indexes: list[str], listed: str | None) -> Choice:
    """Of TensorFlow's checkpoints in a folder the one that is meant; that of a SavedModel lies in a folder below."""
    here = [name for name in indexes if "/" not in name]
    if not here:
        return Choice(indexes[0])
    chosen = prefixes.choose_prefix(here, listed)
    return Choice(chosen.index, chosen.notes)


def _named(here: set[str], named: str) -> Choice:
    if not is_plain(named):
        raise UnsafeCheckpoint(
            f"transformers_weights in the config names {named!r}, which is no plain file name.",
            hint="Do not use this checkpoint, or give the file itself.",
        )
    if named not in here:
        raise MissingFiles(
            f"the config names {named!r} as the weights, but it is not there.",
            hint="Copy or download the checkpoint again, or give the file itself.",
        )
    others = [name for container in CONTAINERS for name in container.names_of(None) if name in here - {named}]
    note = f"{named} is used, as the config's transformers_weights says{_there_too(others)}"
    return Choice(named, (note, *_stale(here, named)))


def _beside(candidates: list[str]) -> Iterable[str]:
    if candidates[1:]:
        yield f"{candidates[0]} is used{_there_too(candidates[1:])}"


def _there_too(names: list[str]) -> str:
    verb = "is" if len(names) == 1 else "are"
    return f"; {some(names)} {verb} there too" if names else ""


def _stale(here: set[str], chosen: str) -> Iterable[str]:
    shards = sorted(name for name in here if SHARD.fullmatch(name))
    if shards and not is_index(chosen):
        yield f"shards beside {chosen} are ignored: {some(shards)}"


def _variants(here: set[str]) -> str:
    found = sorted({match[1] or match[2] for name in here if (match := _VARIANT.fullmatch(name))})
    return f"There are: {some(found)}." if found else "There are no variants; leave the option out."


def _lone(here: set[str]) -> Choice | None:
    found = sorted(name for name in here if is_weights(name) and not name.startswith("."))
    shards = [name for name in found if SHARD.fullmatch(name)]
    if found and all(map(_OF_PROCESSES.fullmatch, found)):
        return None  # nothing says how many there are, nor how large the tensors were
    if shards:
        raise MissingFiles(
            f"there are shards ({some(shards)}), but the index that names them is missing.",
            hint="Copy or download the `.index.json` file too.",
        )
    if len(found) > 1:
        raise RequestError(
            f"several files could hold the weights: {some(found)}.",
            hint="Give the file itself (from the Hub: download it first).",
        )
    return Choice(found[0]) if found else None


def is_weights(name: str) -> bool:
    """Whether the suffix is one of weights and the name is not one of training state."""
    return name.endswith(_SUFFIXES) and not any(fnmatchcase(name, pattern) for pattern in _NOT_WEIGHTS)


def is_index(name: str) -> bool:
    """Whether it is the name of an index of shards, with or without a variant."""
    return bool(re.fullmatch(r".+\.index(\..+)?\.json", name))


def is_spread(name: str) -> bool:
    """Whether it is the name of an index that alone says what its files hold."""
    return any(container.is_index(name) for container in SPREAD)


def keeps_record(name: str) -> bool:
    """Whether a manifest can keep a record of files that an index of this name is about."""
    return any(container.keeps_record for container in SPREAD if container.is_index(name))


def index_beside(name: str) -> str | None:
    """The name of the index that alone says what a file holds, by the file's name; None where it needs none."""
    place, slash, own = name.rpartition("/")
    found = (container.index_of(own) for container in SPREAD)
    return next((place + slash + index for index in found if index is not None), None)


def parts_beside(name: str, names: Collection[str]) -> list[str]:
    """Files that hold other parts of the model whose body is in one of this name."""
    return [file for container in CONTAINERS for file in container.with_parts(name, names)]


def read_spread(file: SourceFile) -> Spread:
    """What an index says for whose name `is_spread` holds.

    Raises:
        UnsafeCheckpoint: a file's name would lead out of the folder; or as for `Container.read`.
        DamagedCheckpoint, UnsupportedCheckpoint: as for `Container.read`.
    """
    refuse_impostor(file)
    spread = next(container for container in SPREAD if container.is_index(file.name)).read_index(file)
    for name in spread.files:
        if not is_plain(name):
            raise UnsafeCheckpoint(
                f"the file {printable(name)[:200]!r} is not a plain file name.",
                hint="Do not use this checkpoint: its index leads out of its folder.",
                file=str(file.path),
            )
    return spread


def read_index(file: SourceFile) -> dict[str, str]:
    """The `weight_map` of an index: name of a tensor -> plain name of a shard.

    Raises:
        DamagedCheckpoint: no sound JSON, or no `weight_map` of strings.
        UnsafeCheckpoint: a shard's name would lead out of the folder, or there are too many entries.
    """
    path = file.path
    weight_map = json_object(file.read_up_to(INDEX_BYTES), path, INDEX_BYTES).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(shard, str) for shard in weight_map.values())
    ):
        raise DamagedCheckpoint(
            "weight_map is not an object that names a shard for each tensor.",
            hint="Download the index again.",
            file=str(path),
        )
    if len(weight_map) > MAX_ENTRIES:
        raise UnsafeCheckpoint(
            f"names more than {MAX_ENTRIES:,} tensors.", hint="No model has so many: do not use it.", file=str(path)
        )
    for tensor, shard in weight_map.items():
        if not is_plain(shard):
            raise UnsafeCheckpoint(
                f"the shard {shard!r} is not a plain file name.",
                hint="Do not use this checkpoint: its index leads out of its folder.",
                file=str(path),
                tensor=tensor,
            )
    return weight_map
