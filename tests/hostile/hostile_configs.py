"""Checkpoint folders with one thing wrong in a config; case by case, with how it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hostile_case import CONFIG
from hostile_folders import (
    CONFIG_NAME,
    WEIGHTS,
    Change,
    Folder,
    put,
)

from bertconv.errors import (
    AmbiguousFamily,
    BertconvError,
    DamagedCheckpoint,
    MissingFiles,
    ShapeMismatch,
    UnsafeCheckpoint,
    UnsupportedCheckpoint,
)

MILLION = 1_000_000
PROBLEM = "is not sound JSON"


def text(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("utf-8", "surrogatepass")


def texts(sound: Mapping[str, object], name: str, **more: Any) -> dict[str, Folder]:
    """Texts that are not one JSON object, or not for every parser the same one."""
    whole, key = text(sound), text(next(iter(sound)))

    def case(content: bytes, words: str = PROBLEM) -> Folder:
        return Folder(put(name, content), DamagedCheckpoint, words, name, **more)

    def first(spelling: str) -> bytes:
        """The first key a second time, in front."""
        return b"{" + key + b":" + spelling.encode() + b"," + whole[1:]

    return {
        "empty": case(b"", "is empty or larger"),
        "half of it": case(whole[: len(whole) // 2]),
        "bytes behind": case(whole + b"{}"),
        "NUL behind": case(whole + b"\0"),
        "comma at the end": case(whole[:-1] + b",}"),
        "a key twice": case(first("1"), "duplicate key"),
        "a key twice, once escaped": case(
            b'{"\\u%04x' % key[1] + key[2:] + b":1," + whole[1:], "duplicate key"
        ),
        "a key twice inside": case(b'{"x":[{"y":1,"y":2}],' + whole[1:], "duplicate key"),
        "NaN": case(b'{"x":NaN,' + whole[1:]),
        "Infinity": case(b'{"x":[-Infinity],' + whole[1:]),
        "1e999": case(b'{"x":1e999,' + whole[1:]),
        "not UTF-8": case(b'{"x":"\xff",' + whole[1:]),
        "byte order mark": case(b"\xef\xbb\xbf" + whole),
        "UTF-16": case(whole.decode().encode("utf-16")),
        "UTF-32": case(whole.decode().encode("utf-32-le")),
        "100,000 brackets": case(b'{"x":' + b"[" * 100_000),
        "100,000 objects": case(b'{"x":' * 100_000),
        "a number of 10^5 digits": case(b'{"x":' + b"9" * 100_000 + b"," + whole[1:]),
        "a list": case(b"[" + whole + b"]", "is not a JSON object"),
        "a string": case(b'"os.system"', "is not a JSON object"),
        "null": case(b"null", "is not a JSON object"),
        "HTML": case(b"<!doctype html><p>404"),
    }  # fmt: skip


def keys(**changes: object) -> Change:
    return put(CONFIG_NAME, text({**CONFIG, **changes}))


def raw(key: str, spelling: str) -> Change:
    """A value that json.dumps would not write."""
    return put(CONFIG_NAME, text({**CONFIG, key: "?"}).replace(text({key: "?"})[1:-1], f'"{key}":{spelling}'.encode()))


def config(
    change: Change, words: str, error: type[BertconvError] = DamagedCheckpoint, said: str | None = "", **more: Any
) -> Folder:
    return Folder(change, error, words, CONFIG_NAME, said=words if said == "" else said, **more)


def _numbers() -> dict[str, Folder]:
    """Values of numbers that no BERT has."""
    whole = {"2^31": 2**31, "10^30": 10**30, "negative": -1, "a fraction": 1.0, "true": True, "text": "1", "null": None,
             "a list": [1], "an object": {"__class__": "int"}}  # fmt: skip
    cases = {
        f"num_hidden_layers that is {kind}": config(keys(num_hidden_layers=value), "num_hidden_layers is ")
        for kind, value in whole.items()
    }
    for key in ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings"):
        cases[f"{key} 0"] = config(keys(**{key: 0}), f"{key} is 0")
        cases[f"{key} 10^12"] = config(keys(**{key: 10**12}), f"{key} is 1000000000000")
    for kind, spelling in {"-1": "-1", "2": "2", "text": '"1e-12"', "true": "true", "null": "null"}.items():
        cases[f"layer_norm_eps {kind}"] = config(raw("layer_norm_eps", spelling), "layer_norm_eps is ")
    for kind, spelling in {"NaN": "NaN", "infinite": "Infinity", "1e999": "1e999"}.items():
        cases[f"layer_norm_eps {kind}"] = config(raw("layer_norm_eps", spelling), PROBLEM, said=None)
    return cases


def _misfits() -> dict[str, Folder]:
    """Numbers that a BERT may have, but not this one."""
    values = {"num_hidden_layers": (0, 2, 10**9, 2**31 - 1), "hidden_size": (40,), "intermediate_size": (54, 10**9),
              "max_position_embeddings": (36, 10**9), "type_vocab_size": (2, 0, 10**9)}  # fmt: skip
    return {
        f"{key} {value:,}": config(keys(**{key: value}), key, ShapeMismatch)
        for key, several in values.items()
        for value in several
    }


def refused(words: str, error: type[BertconvError] = UnsupportedCheckpoint, **changes: object) -> Folder:
    return config(keys(**changes), words, error)


CONFIGS = {
    **texts(CONFIG, CONFIG_NAME),
    **_numbers(),
    **_misfits(),
    "2 MB": config(put(CONFIG_NAME, text({**CONFIG, "x": "y" * 2 * MILLION})), "is empty or larger", said=None),
    "100 GB": config(put(CONFIG_NAME, text(CONFIG), sparse=10**11), "is empty or larger", said=None),
    "no config": Folder(
        lambda folder: (folder / CONFIG_NAME).unlink(), AmbiguousFamily, "has no config.json", "", said="no config"
    ),
    "heads that do not divide": refused("not a multiple", DamagedCheckpoint, num_attention_heads=6),
    "hidden_act that is code": refused("hidden_act", hidden_act="__import__('os').system('true')"),
    "hidden_act that is an object": refused("hidden_act", hidden_act={"class_name": "Lambda", "config": {}}),
    "hidden_act that is a list": refused("hidden_act", hidden_act=["gelu"]),
    "hidden_act of 900,000 letters": refused("hidden_act", hidden_act="x" * 900_000),
    "position_embedding_type that is a path": refused("position_embedding_type", position_embedding_type="../x"),
    "quantization_config": refused("quantised", quantization_config={"load_in_8bit": True}),
    "pruned heads": refused("pruned", pruned_heads={"0": [1]}),
    "model_type of another": refused("model_type", model_type="t5"),
    "model_type that is a list": refused("model_type", model_type=["bert"]),
    "model_type that is an object": refused("model_type", model_type={"bert": 1}),
    "is_decoder that is text": refused("is_decoder", DamagedCheckpoint, is_decoder="no"),
    "tie_word_embeddings that is a number": refused("tie_word_embeddings", DamagedCheckpoint, tie_word_embeddings=2),
    "problem_type that is unknown": refused("problem_type", DamagedCheckpoint, problem_type="os.system"),
    "id2label that is a list": refused("id2label", DamagedCheckpoint, id2label=["a", "b"]),
    "num_labels that is not that of the names": refused(
        "num_labels", DamagedCheckpoint, num_labels=3, id2label={"0": "a"}
    ),
    "num_labels that is negative": refused("num_labels", DamagedCheckpoint, num_labels=-1),
}  # fmt: skip


def config_weights(folder: Path, value: object) -> None:
    keys(transformers_weights=value)(folder)


_PLAIN = "no plain file name"
NAMED_WEIGHTS = {
    name: Folder(
        lambda folder, make=make: config_weights(folder, make(folder)), UnsafeCheckpoint, _PLAIN, "",
    )
    for name, make in {
        "upwards": lambda _: f"../secret/{WEIGHTS}",
        "absolute": lambda folder: f"{folder.parent}/secret/{WEIGHTS}",
        "upwards to a pickle": lambda _: "../secret/pytorch_model.bin",
        "absolute to a pickle": lambda folder: f"{folder.parent}/secret/pytorch_model.bin",
        "nothing": lambda _: "",
        "the folder": lambda _: ".",
        "NUL": lambda _: f"{WEIGHTS}\0",
    }.items()
} | {
    "the config": Folder(keys(transformers_weights=CONFIG_NAME), DamagedCheckpoint, "is a JSON text", CONFIG_NAME),
    "a file that is not there": Folder(
        keys(transformers_weights="x.safetensors"), MissingFiles, "but it is not there", ""
    ),
}  # fmt: skip


CASES: dict[str, Folder] = {
    **{f"config: {name}": case for name, case in CONFIGS.items()},
    **{f"weights named: {name}": case for name, case in NAMED_WEIGHTS.items()},
}
