"""Sharded checkpoints with one thing wrong in their index or between their shards; case by case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import checkpoints as cp
from hostile_case import STATE, VICTIM
from hostile_configs import text, texts
from hostile_folders import CONFIG_NAME, FIRST, INDEX, SHARD, SHARDS, WEIGHT_MAP, Change, Folder, part, put

from bertconv.errors import (
    BertconvError,
    DamagedCheckpoint,
    MissingFiles,
    MissingTensors,
    ShapeMismatch,
    UnsafeCheckpoint,
)


def mapped(weight_map: object, **more: object) -> Change:
    """An index; a function makes a map that is large."""

    def content() -> bytes:
        found = weight_map() if callable(weight_map) else weight_map
        return text({"metadata": {"total_size": 1}, "weight_map": found, **more})

    return put(INDEX, content)


def index(
    change: Change, words: str, error: type[BertconvError] = DamagedCheckpoint, file: str | None = INDEX, **more: Any
) -> Folder:
    return Folder(change, error, words, file, shards=True, **more)


def shard_named(make: Callable[[Path], str]) -> Change:
    """The first tensor in a shard of this name, which is there for a reader that goes wherever it is sent."""

    def change(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "a" / SHARDS[0]).write_bytes(part(SHARDS[0]))
        mapped({**WEIGHT_MAP, FIRST: make(folder)})(folder)

    return change


ESCAPES: dict[str, Callable[[Path], str]] = {
    "upwards": lambda _: f"../secret/{SHARDS[0]}",
    "down and upwards": lambda _: f"a/../../secret/{SHARDS[0]}",
    "absolute": lambda folder: f"{folder.parent}/secret/{SHARDS[0]}",
    "absolute with two slashes": lambda folder: f"/{folder.parent}/secret/{SHARDS[0]}",
    "in a folder below": lambda _: f"a/{SHARDS[0]}",
}
"""Names that lead a naive reader to weights that load: `folder / name` is a shard that holds the tensor."""

_NAMES = {
    "a drive": f"C:\\{SHARDS[0]}",
    "backslashes": f"..\\secret\\{SHARDS[0]}",
    "an alternate stream": f"{SHARDS[0]}:x",
    "NUL": f"{SHARDS[0]}\0.txt",
    "the folder": ".",
    "the folder above": "..",
    "nothing": "",
    "a slash": "/",
}
_STRANGE = {
    "5,000 letters": "x" * 5_000,
    "300 letters": "x" * 300,
    "a screen that is cleared": "model\x1b[2J.safetensors",
    "text turned around": "model\u202e.safetensors",
    "half a letter": "\ud800",
    "a newline": "model\n.safetensors",
    "a full-width slash": f"..\uff0fsecret\uff0f{SHARDS[0]}",
    "a tilde": "~",
    "a percent sign": "%2e%2e%2fsecret",
}

SHARD_NAMES = {
    **{
        name: index(shard_named(make), "is not a plain file name", UnsafeCheckpoint, tensor=FIRST)
        for name, make in ESCAPES.items()
    },
    **{
        name: index(mapped({**WEIGHT_MAP, FIRST: shard}), "is not a plain file name", UnsafeCheckpoint, tensor=FIRST)
        for name, shard in _NAMES.items()
    },
    **{
        name: index(mapped({**WEIGHT_MAP, FIRST: shard}), "names shards that are not there", MissingFiles)
        for name, shard in _STRANGE.items()
    },
    "the index itself": index(mapped({**WEIGHT_MAP, FIRST: INDEX}), "is a JSON text"),
    "the config": index(mapped({**WEIGHT_MAP, FIRST: CONFIG_NAME}), "is a JSON text", file=CONFIG_NAME),
}


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for each in changes:
            each(folder)

    return change


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def resharded(shard: str, tensors: Mapping[str, Any]) -> Change:
    return put(shard, cp.safetensors_bytes(dict(tensors), {"format": "pt"}))


def _of(shard: str) -> dict[str, Any]:
    return {name: STATE[name] for name, where in WEIGHT_MAP.items() if where == shard}


_OTHER_RUN = cp.bare(cp.state_dict("BertModel", num_hidden_layers=1, seed=1, intermediate_size=59))
OTHER = next(shard for shard in SHARDS if shard != SHARD)
_LACKING = "names tensors that its shards lack"
_EXTRA = "does not name tensors that its shards hold"
MILLION = 1_000_000
_WITHOUT = {name: shard for name, shard in WEIGHT_MAP.items() if shard != SHARD}
_TURNED = dict(zip(WEIGHT_MAP, [*list(WEIGHT_MAP.values())[1:], SHARDS[0]], strict=True))

INDEXES = {
    **texts({"weight_map": WEIGHT_MAP, "metadata": {}}, INDEX, shards=True),
    "no weight_map": index(put(INDEX, b'{"metadata":{}}'), "weight_map is not an object"),
    "weight_map that is null": index(mapped(None), "weight_map is not an object"),
    "weight_map that is a list": index(mapped(list(WEIGHT_MAP.items())), "weight_map is not an object"),
    "weight_map that is text": index(mapped(SHARD), "weight_map is not an object"),
    "weight_map without entries": index(mapped({}), "weight_map is not an object"),
    "shard that is a number": index(mapped({**WEIGHT_MAP, VICTIM: 1}), "weight_map is not an object"),
    "shard that is a list": index(mapped({**WEIGHT_MAP, VICTIM: [SHARD]}), "weight_map is not an object"),
    "shard that is an object": index(mapped({**WEIGHT_MAP, VICTIM: {"a": "b"}}), "weight_map is not an object"),
    "shard that is null": index(mapped({**WEIGHT_MAP, VICTIM: None}), "weight_map is not an object"),
    "a tensor twice": index(
        put(INDEX, b'{"weight_map":' + text(WEIGHT_MAP)[:-1] + b"," + text({VICTIM: SHARD})[1:] + b"}"),
        f"duplicate key '{VICTIM}'",
    ),
    "8 MB and a byte": index(put(INDEX, b"{}", sparse=8_000_001), "is empty or larger"),
    "50,000 entries": index(
        mapped(lambda: {**WEIGHT_MAP, **{f"{n}.{n % 7}.x": SHARD for n in range(50_000)}}), _LACKING
    ),
    "10^6 entries": index(
        mapped(lambda: {f"x{n}": SHARD for n in range(MILLION)}), "is empty or larger"
    ),
    "a million objects": index(
        put(INDEX, lambda: b'{"x":[' + b"{}," * MILLION + b'{}],"weight_map":{}}'), "weight_map is not"
    ),
    "100 GB": index(put(INDEX, b"{}", sparse=10**11), "is empty or larger"),
    "shard that is missing": index(without(SHARD), "names shards that are not there", MissingFiles),
    "shard that is half": index(
        put(SHARD, part(SHARD)[: len(part(SHARD)) // 2]), "is truncated", file=SHARD
    ),
    "shard that is empty": index(put(SHARD), "is empty", file=SHARD),
    "shard of another run": index(
        resharded(SHARD, {name: _OTHER_RUN[name] for name in _of(SHARD)}), "has other shapes", ShapeMismatch, None,
        said="",
    ),
    "shards that changed places": index(mapped(_TURNED), _LACKING),
    "tensor in two shards": index(resharded(OTHER, {**_of(OTHER), VICTIM: STATE[VICTIM]}), "are in two"),
    "tensor that is only listed": index(mapped({**WEIGHT_MAP, "encoder.layer.1.x": SHARD}), _LACKING),
    "tensor that is not listed": index(
        mapped({name: shard for name, shard in WEIGHT_MAP.items() if name != VICTIM}), _EXTRA
    ),
    "tensor that its shard lost": index(
        resharded(SHARD, {name: value for name, value in _of(SHARD).items() if name != VICTIM}), _LACKING
    ),
    "tensor that nobody knows": index(
        resharded(SHARD, {**_of(SHARD), "x": STATE[VICTIM]}), _EXTRA
    ),
    "shard that is dropped": index(mapped(_WITHOUT), VICTIM, MissingTensors, None, said=""),
    "every tensor in one that is not listed": index(
        both(resharded("x.safetensors", STATE), *map(without, SHARDS)),
        "names shards that are not there", MissingFiles,
    ),
    "shards without an index": index(
        without(INDEX), "the index that names them is missing", MissingFiles, file=""
    ),
}  # fmt: skip


def _short(folder: Path) -> None:
    (folder / SHARD).rename(folder / "a")
    sound = {name: "a" if shard == SHARD else shard for name, shard in WEIGHT_MAP.items()}
    mapped({**sound, **{f"{number}.{number % 7}": "a" for number in range(470_000)}})(folder)


CASES: dict[str, Folder] = {
    "index: 470,000 entries in 8 MB": index(_short, "more than 100,000 tensors", UnsafeCheckpoint),
    **{f"name of a shard: {name}": case for name, case in SHARD_NAMES.items()},
    **{f"index: {name}": case for name, case in INDEXES.items()},
}
