"""Which values may stand in a config; one by one, and those that must agree."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from bertconv.errors import DamagedCheckpoint, RequestError, UnsupportedCheckpoint
from bertconv.families import Schema
from bertconv.text import shown

PROBLEM_TYPES = ("regression", "single_label_classification", "multi_label_classification")
"""Values of `problem_type`, which chooses the loss of sequence classification; None leaves it to the labels."""

_POSITIVE = (
    "vocab_size", "hidden_size", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "embedding_size", "inner_group_num", "num_hidden_groups", "relative_attention_num_buckets",
)  # fmt: skip
"""Sizes that are never zero."""

_FLAGS = dict.fromkeys(
    ("is_decoder", "add_cross_attention", "tie_word_embeddings", "use_cache", "output_attentions",
     "output_hidden_states", "return_dict"), False
)  # fmt: skip
"""Keys of every family that are true or false."""

_POSITION_TYPES = ("absolute", "relative_key", "relative_key_query")
_UNSAFE = re.compile(r"auto_map|custom_pipelines|trust_remote_code|_attn_implementation.*|.*_internal")
_LIMIT = 2**31
_SHOWN = 200
"""Characters of a wrong value that a message repeats."""


def bad(path: str, problem: str) -> DamagedCheckpoint | RequestError:
    """What a wrong value is: a damaged file, or a wrong argument where there is no file to blame."""
    if not path:
        return RequestError(f"{problem}.", hint="Give a value that such a config can have.")
    return DamagedCheckpoint(f"{problem}.", hint="Fix the file, or download it again.", file=path)


def _shown(value: Any) -> str:
    return shown(value, _SHOWN)


def count_labels(raw: Mapping[str, Any], path: str) -> Any:
    """`num_labels` as the keys have it, said outright or by their names; 2 where they do not say."""
    names = raw.get("id2label")
    if names is not None and not isinstance(names, dict):
        raise bad(path, "id2label is not an object")
    if "num_labels" in raw:
        if names and len(names) != raw["num_labels"]:
            raise bad(path, f"num_labels is {_shown(raw['num_labels'])}, but id2label has {len(names)} labels")
        return raw["num_labels"]
    return len(names) if names else 2


def check_values(
    values: Mapping[str, Any], schema: Schema, path: str, model_types: tuple[str, ...], activations: Collection[str]
) -> None:
    """Every value for itself, by what its default is: a size, a flag, a number.

    Args:
        values: all keys, defaults filled in.
        schema: the family's keys.
        path: the file to blame; empty for arguments.
        model_types: values that `model_type` may have.
        activations: values that `hidden_act` may have.

    Raises:
        DamagedCheckpoint: values that no such model can have; RequestError where `path` is empty.
        UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
    """
    _check_architecture(values, schema, path, model_types, activations)
    positive = {schema.spelled(key) for key in _POSITIVE}
    defaults = {**schema.defaults, **_FLAGS, "num_labels": 0}
    for key, default in defaults.items():
        if isinstance(default, int) and not isinstance(default, bool) and not key.endswith("_token_id"):
            _check_size(key, values[key], 1 if key in positive else 0, path)
    for key, default in defaults.items():
        if isinstance(default, bool) and not isinstance(values[key], bool):
            raise bad(path, f"{key} is {_shown(values[key])}, not true or false")
    for key, default in defaults.items():
        if isinstance(default, float) or "dropout" in key:
            _check_number(key, values[key], path, may_be_null=default is None)
    padding = values["pad_token_id"]
    if padding is not None and (not isinstance(padding, int) or isinstance(padding, bool)):
        raise bad(path, f"pad_token_id is {_shown(padding)}, not null or a whole number")
    if values["problem_type"] is not None and values["problem_type"] not in PROBLEM_TYPES:
        raise bad(path, f"problem_type is {_shown(values['problem_type'])}, not null, {', '.join(PROBLEM_TYPES)}")


def _check_size(key: str, number: Any, low: int, path: str) -> None:
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number < _LIMIT:
        raise bad(path, f"{key} is {_shown(number)}, not a whole number from {low} up")


def _check_number(key: str, number: Any, path: str, *, may_be_null: bool) -> None:
    """Rates and epsilons are at most one."""
    if may_be_null and number is None:
        return
    high = 1.0 if "dropout" in key or key.endswith("_eps") else math.inf
    if not isinstance(number, int | float) or isinstance(number, bool) or not 0 <= number <= high:
        raise bad(path, f"{key} is {_shown(number)}, not a number from 0 to {high:g}")


def check_agreement(values: Mapping[str, Any], schema: Schema, path: str) -> None:
    """What keys must be to each other; raises as `check_values`, which comes first."""
    hidden, heads = values["hidden_size"], values["num_attention_heads"]
    if hidden % heads:
        names = schema.spelled("hidden_size"), schema.spelled("num_attention_heads")
        raise bad(path, f"{names[0]} {hidden} is not a multiple of {names[1]} {heads}")


def check_counted_positions(padding: int | None, rows: int) -> None:
    """Where positions are counted from the ids: whether the padding's id leaves a row of their table to a token.

    Args:
        padding: `pad_token_id`; the first token has the row behind it.
        rows: of the table of positions.

    Raises:
        UnsupportedCheckpoint: it leaves none.
    """
    if padding is None:
        raise UnsupportedCheckpoint(
            "the config has no pad_token_id, from which positions are counted.", hint="Add it to the config."
        )
    if not -1 <= padding < rows - 1:
        raise UnsupportedCheckpoint(
            f"positions are counted from pad_token_id, which is {padding}: a table of {rows} has none for a token.",
            hint="Set pad_token_id and max_position_embeddings in the config as the model was trained.",
        )


def _check_architecture(
    values: Mapping[str, Any], schema: Schema, path: str, model_types: tuple[str, ...], activations: Collection[str]
) -> None:
    def refuse(what: str, hint: str) -> UnsupportedCheckpoint:
        return UnsupportedCheckpoint(f"{what}.", hint=hint, file=path or None)

    if values.get("model_type", model_types[0]) not in model_types:
        raise refuse(f"model_type is {_shown(values['model_type'])}, not {' or '.join(map(repr, model_types))}",
                     "Use that family's classes; leave `--family` out; `--map FILE` takes another table.")  # fmt: skip
    act = values["hidden_act"]
    if not isinstance(act, str) or act not in activations:
        raise refuse(f"{schema.spelled('hidden_act')} {_shown(act)} is unknown",
                     f"Known are {', '.join(sorted(activations))}.")  # fmt: skip
    if values["position_embedding_type"] not in _POSITION_TYPES:
        raise refuse(f"position_embedding_type {_shown(values['position_embedding_type'])} is unknown",
                     f"Known are {', '.join(_POSITION_TYPES)}.")  # fmt: skip
    if values.get("pruned_heads"):
        raise refuse("attention heads were pruned", "Convert the checkpoint as it was before pruning.")
    if values.get("quantization_config"):
        raise refuse("the weights are quantised", "Dequantise the model and save it again.")


def notes_on(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """What is unusual about a file's keys, one sentence each."""
    notes = [
        f"config key {_shown(key)} asks for code to be run: kept, never acted on"
        for key in raw
        if _UNSAFE.fullmatch(key)
    ]
    if "model_type" not in raw:
        notes.append("config has no model_type: decided by the names of the tensors")
    return tuple(notes)
