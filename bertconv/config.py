"""config.json or bert_config.json as a BertConfig: BERT's defaults filled in, nonsense refused, unknown keys kept."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertconv.errors import DamagedCheckpoint, UnsupportedCheckpoint
from bertconv.text import parse_json

MAX_BYTES = 1_000_000
"""A config is a few kilobytes; a larger file is something else."""

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "classifier_dropout": None,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
    "use_cache": True,
}
"""What BERT's published config means where it says nothing (google-research/bert, modeling.py)."""

ACTIVATIONS = frozenset(
    ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_10", "quick_gelu", "relu", "relu6", "silu", "swish",
     "mish", "tanh", "sigmoid", "linear")
)  # fmt: skip
"""Values of `hidden_act` with a meaning; the activation is part of the model, so any other is refused."""

_POSITIVE = ("vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings")
_FLAGS = ("is_decoder", "add_cross_attention", "tie_word_embeddings", "use_cache")
_UNSAFE = ("auto_map", "custom_pipelines", "trust_remote_code")
_LIMIT = 2**31


@dataclass(frozen=True)
class BertConfig:
    """The config of one checkpoint.

    Attributes:
        values: every key with its value, BERT's defaults filled in, `num_labels` worked out.
        raw: the keys of the file and nothing else, in its order.
        path: where it was read from.
        model_types: values of `model_type` that the mapping table is for.
        notes: what is odd about it, one sentence each.
    """

    values: Mapping[str, Any]
    raw: Mapping[str, Any] = field(default_factory=dict)
    path: str = ""
    model_types: tuple[str, ...] = ("bert",)
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, model_types: tuple[str, ...] = ("bert",)) -> BertConfig:
        """Read and check a config file.

        Raises:
            DamagedCheckpoint: not JSON, or values that no BERT can have.
            UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
        """
        return cls.from_dict(read_json(path, MAX_BYTES), str(path), model_types)

    @classmethod
    def from_dict(
        cls, raw: Mapping[str, Any], path: str = "config", model_types: tuple[str, ...] = ("bert",)
    ) -> BertConfig:
        """Check keys and values that were read elsewhere; errors as for `load`."""
        values = {**DEFAULTS, **raw}
        values["num_labels"] = _num_labels(raw, path)
        _check_architecture(values, path, model_types)
        _check_values(values, path)
        return cls(values, dict(raw), path, model_types, tuple(_notes(raw)))

    @property
    def architectures(self) -> tuple[str, ...]:
        """Model classes that the file names, TensorFlow's `TF` taken off."""
        named = self.raw.get("architectures")
        names = named if isinstance(named, list) else []
        return tuple(name.removeprefix("TF") for name in names if isinstance(name, str))

    def says(self, key: str) -> bool:
        """Whether the file itself gives this key (`num_labels` also by `id2label`)."""
        return key in self.raw or (key == "num_labels" and bool(self.raw.get("id2label")))

    def replace(self, **changes: Any) -> BertConfig:
        """The same config with some keys changed; every other key of the file stays as it was."""
        return BertConfig.from_dict({**self.raw, **changes}, self.path, self.model_types)

    def to_bytes(self) -> bytes:
        """The content of a config.json: the file's keys in its order."""
        text = json.dumps(dict(self.raw), indent=2, ensure_ascii=False) + "\n"
        try:
            return text.encode()
        except UnicodeEncodeError:  # half a character, which only an escape can spell
            return (json.dumps(dict(self.raw), indent=2) + "\n").encode()


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes; duplicate keys, NaN and Infinity are refused."""
    try:
        content = path.read_bytes() if path.stat().st_size <= limit else b""
    except OSError as error:
        raise DamagedCheckpoint(
            f"cannot be read: {error.strerror}.", hint="Check the path and its permissions.", file=str(path)
        ) from error
    if not content:
        raise _bad(str(path), f"is empty or larger than {limit:,} bytes")
    try:
        value = parse_json(content)
    except (ValueError, RecursionError) as error:
        raise _bad(str(path), f"is not sound JSON: {error}") from error
    if not isinstance(value, dict):
        raise _bad(str(path), "is not a JSON object")
    return value


def _bad(path: str, problem: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(f"{problem}.", hint="Mend the file, or download it again.", file=path)


def _num_labels(raw: Mapping[str, Any], path: str) -> Any:
    labels = raw.get("id2label")
    if labels is not None and not isinstance(labels, dict):
        raise _bad(path, "id2label is not an object")
    if "num_labels" in raw:
        if labels and len(labels) != raw["num_labels"]:
            raise _bad(path, f"num_labels is {raw['num_labels']}, but id2label has {len(labels)} labels")
        return raw["num_labels"]
    return len(labels) if labels else 2


def _check_architecture(values: Mapping[str, Any], path: str, model_types: tuple[str, ...]) -> None:
    def refuse(what: str, hint: str) -> UnsupportedCheckpoint:
        return UnsupportedCheckpoint(f"{what}.", hint=hint, file=path)

    if values.get("model_type", model_types[0]) not in model_types:
        raise refuse(f"model_type is {values['model_type']!r}, not {' or '.join(map(repr, model_types))}",
                     "Only BERT has a mapping table; `--map FILE` takes one of your own.")  # fmt: skip
    if not isinstance(values["hidden_act"], str) or values["hidden_act"] not in ACTIVATIONS:
        raise refuse(f"hidden_act {values['hidden_act']!r} is unknown", f"Known are {', '.join(sorted(ACTIVATIONS))}.")
    if values["position_embedding_type"] not in ("absolute", "relative_key", "relative_key_query"):
        raise refuse(f"position_embedding_type {values['position_embedding_type']!r} is unknown",
                     "Known are absolute, relative_key and relative_key_query.")  # fmt: skip
    if values.get("pruned_heads"):
        raise refuse("attention heads were pruned", "Convert the checkpoint as it was before pruning.")
    if values.get("quantization_config"):
        raise refuse("the weights are quantised", "Dequantise the model and save it again.")


def _check_values(values: Mapping[str, Any], path: str) -> None:
    for key in (*_POSITIVE, "num_hidden_layers", "type_vocab_size", "num_labels"):
        low = 1 if key in _POSITIVE else 0
        number = values[key]
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number < _LIMIT:
            raise _bad(path, f"{key} is {number!r}, not a whole number from {low} up")
    if values["hidden_size"] % values["num_attention_heads"]:
        raise _bad(
            path,
            f"hidden_size {values['hidden_size']} is not a multiple of num_attention_heads "
            f"{values['num_attention_heads']}",
        )
    for key in _FLAGS:
        if not isinstance(values[key], bool):
            raise _bad(path, f"{key} is {values[key]!r}, not true or false")
    for key, high in (("layer_norm_eps", 1.0), ("hidden_dropout_prob", 1.0), ("attention_probs_dropout_prob", 1.0),
                      ("initializer_range", math.inf)):  # fmt: skip
        number = values[key]
        if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= high:
            raise _bad(path, f"{key} is {number!r}, not a number from 0 to {high:g}")


def _notes(raw: Mapping[str, Any]) -> list[str]:
    notes = [f"config key {key!r} asks for code to be run: kept, never acted on" for key in _UNSAFE if key in raw]
    if "model_type" not in raw:
        notes.append("config has no model_type: decided by the names of the tensors")
    return notes
