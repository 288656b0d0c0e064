"""config.json or bert_config.json as a BertConfig: BERT's defaults filled in, nonsense refused, unknown keys kept."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Self

from bertconv import config_checks as checks
from bertconv import config_content as content
from bertconv.errors import DamagedCheckpoint
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
    "output_attentions": False,
    "output_hidden_states": False,
    "return_dict": True,
    "problem_type": None,
    "bos_token_id": None,
    "eos_token_id": None,
    "sep_token_id": None,
    "decoder_start_token_id": None,
    "chunk_size_feed_forward": 0,
}
"""What BERT's published config means where it says nothing (google-research/bert, modeling.py; transformers 4.57)."""

ACTIVATIONS = frozenset(
    ("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
     "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2",
     "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh")
)  # fmt: skip
"""Values of `hidden_act` with a meaning; the activation is part of the model, so any other is refused."""

_OWN = ("values", "raw", "path", "model_types", "notes")


class BertConfig:
    """The config of one model or checkpoint, used as transformers' BertConfig.

    `BertConfig(hidden_size=36, num_labels=3)` takes every key by name, and the sixteen of transformers 4.57 by position
    too; unknown keys are kept. Keys are read and written as attributes. What is written is checked at once, except that
    `hidden_size` and `num_attention_heads` may disagree until both are set: `coerce`, `replace` and `save_pretrained`
    look at that.

    Attributes:
        values: every key with its value, BERT's defaults filled in, `num_labels` worked out.
        raw: the keys that were given and nothing else, in their order, as JSON has them.
        path: where it was read from; empty for one made from arguments.
        model_types: values of `model_type` that the mapping table is for.
        notes: what is odd about the file, one sentence each.
        model_type: the kind of model.
        is_encoder_decoder: False, unless the keys say otherwise: no BERT here is both at once.
        id2label: names of the labels by their number, LABEL_0 and so on where nothing names them. It sets and follows
            `num_labels`, and is assigned as a whole.
        label2id: the same turned round.

    Raises:
        RequestError: values that no BERT can have, or that JSON cannot hold.
        UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
    """

    model_type: str = "bert"
    is_encoder_decoder: bool = False
    values: Mapping[str, Any] = {**DEFAULTS, "num_labels": 2}
    raw: Mapping[str, Any] = {}
    path: str = ""
    model_types: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    id2label: Mapping[int, str]
    label2id: Mapping[str, int]

    def __init__(self, /, *args: Any, **keys: Any) -> None:
        # A subclass may have set attributes before: `self.raw` is no longer the class's empty one then.
        _become(self, content.in_step(self.raw, content.plain(content.by_name(args, keys))))

    @classmethod
    def load(cls, path: Path, model_types: tuple[str, ...] = ()) -> Self:
        """Read and check a config file.

        Raises:
            DamagedCheckpoint: not JSON, or values that no BERT can have.
            UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
        """
        return cls.from_dict(read_json(path, MAX_BYTES), str(path), model_types)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], path: str = "config", model_types: tuple[str, ...] = ()) -> Self:
        """Check keys and values that were read elsewhere; errors as for `load`."""
        config = cls.__new__(cls)
        _become(config, content.plain(raw, path), path, model_types, blame=path)
        if cls.__init__ is BertConfig.__init__:
            return config
        made = cls(**config.raw)  # a subclass may add keys of its own
        _become(made, {**config.raw, **made.raw}, path, model_types, blame=path)
        return made

    @classmethod
    def from_json_file(cls, path: str | os.PathLike[str], /) -> Self:
        """As `load`."""
        return cls.load(Path(path))

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], /, *, subfolder: str = "", **overrides: Any) -> Self:
        """The config of a model on this machine.

        Args:
            path: a config file, or a folder that has one.
            subfolder: where in that folder it is.
            overrides: keys to change.

        Raises:
            RequestError: nothing there; overrides that no config has, or with values that no BERT can have.
            DamagedCheckpoint, UnsupportedCheckpoint: as for `load`.
        """
        config = cls.load(content.config_file(Path(path, subfolder) if subfolder else path))
        content.check_known(overrides, (*config.values, *content.OTHERS))
        _become(config, content.in_step(config.raw, content.plain(overrides)), config.path, config.model_types)
        return config

    @classmethod
    def coerce(cls, value: Any) -> BertConfig:
        """What a user gives as a config, as a BertConfig: one of these, a dict, transformers' object, or a local path.

        Raises:
            RequestError: anything else, or as for the class.
            DamagedCheckpoint, UnsupportedCheckpoint: as for `load`.
        """
        if isinstance(value, BertConfig):
            checks.check_agreement(value.values, "")
            return value
        if isinstance(value, str | os.PathLike):
            return cls.from_pretrained(value)
        return cls(**content.plain(value if isinstance(value, Mapping) else content.content_of(value)))

    def __getattr__(self, name: str) -> Any:
        if name in {"id2label", "label2id"}:
            return (content.names_of if name == "id2label" else content.ids_of)(self.raw, self.values["num_labels"])
        if name in self.values:
            return self.values[name]
        near = [] if name.startswith("__") else get_close_matches(name, (*self.values, "id2label", "label2id"), n=1)
        also = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"this {type(self).__name__} has no {name!r}{also}")

    def __setattr__(self, name: str, value: Any) -> None:
        own = getattr(type(self), name, None)
        if name in _OWN or callable(own):
            raise AttributeError(f"{name!r} belongs to the class: it is no key of the config")
        if isinstance(own, property) or (name.startswith("_") and name not in self.raw):
            object.__setattr__(self, name, value)
        else:
            self.update({name: value})

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.values, "id2label", "label2id"})

    def __eq__(self, other: object) -> bool:
        return self.raw == other.raw if isinstance(other, BertConfig) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        return f"{type(self).__name__} {content.json_text(self._told())}"

    @property
    def architectures(self) -> tuple[str, ...]:
        """Model classes that the file names, TensorFlow's `TF` taken off."""
        named = self.raw.get("architectures")
        names = named if isinstance(named, list) else []
        return tuple(name.removeprefix("TF") for name in names if isinstance(name, str))

    @architectures.setter
    def architectures(self, names: Any) -> None:
        self.update({"architectures": names})

    @property
    def use_return_dict(self) -> bool:
        """Whether models return output objects rather than tuples."""
        return bool(self.values["return_dict"])

    def says(self, key: str) -> bool:
        """Whether the file itself gives this key (`num_labels` also by `id2label`)."""
        return key in self.raw or (key == "num_labels" and bool(self.raw.get("id2label")))

    def knows(self, key: str) -> bool:
        """Whether this is a key of transformers' BERT configs, or of this one."""
        return key in self.values or key in content.OTHERS

    def replace(self, **changes: Any) -> Self:
        """The same config with some keys changed; every other key stays as it was, labels in step aside."""
        changed, raw = copy.copy(self), content.in_step(self.raw, content.plain(changes))
        _become(changed, raw, self.path, self.model_types, blame=self.path)
        return changed

    def update(self, changes: Mapping[str, Any]) -> None:
        """Change some keys of this config, as by assignment, but together."""
        _become(self, content.in_step(self.raw, content.plain(changes)), self.path, self.model_types, is_whole=False)

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, deeply copied; the keys of `id2label` are numbers."""
        labels = {"id2label": dict(self.id2label), "label2id": dict(self.label2id)}
        return {**content.plain(self.values), **labels, "model_type": self.model_type}

    def to_bytes(self) -> bytes:
        """The content of a config.json: the file's keys in its order."""
        return content.json_text(self.raw).encode()

    def to_json_string(self, use_diff: bool = True) -> str:
        """JSON as transformers writes it: keys sorted, and what is left at common defaults left out with `use_diff`."""
        told = self._told() if use_diff else self.to_dict()
        if self.says("num_labels"):
            told |= {"id2label": dict(self.id2label), "label2id": dict(self.label2id)}
        return content.json_text(dict(sorted(told.items())))

    def save_pretrained(self, folder: str | os.PathLike[str], /) -> None:
        """Write config.json into a folder, which is made where it is lacking; OutputError when that fails."""
        checks.check_agreement(self.values, "")
        self.to_json_file(Path(folder, content.CONFIG_FILES[0]))

    def to_json_file(self, path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write `to_json_string` to a file, its folder made where it is missing; OutputError when that fails."""
        content.write_config(Path(path), self.to_json_string(use_diff).encode())

    def _told(self) -> dict[str, Any]:
        """What was given, and what every BERT's config says."""
        told = {key: value for key, value in self.values.items() if key in self.raw or key in content.POSITIONAL}
        return {**told, "model_type": self.model_type}


def _become(
    config: BertConfig,
    raw: Mapping[str, Any],
    path: str = "",
    model_types: tuple[str, ...] = (),
    *,
    blame: str = "",
    is_whole: bool = True,
) -> None:
    """Make a config one of these keys, or raise and leave it what it was.

    Args:
        config: to be changed.
        raw: the keys.
        path: where they were read from.
        model_types: values that `model_type` may have; by default the class's own and "bert".
        blame: the file to name in errors; empty where arguments are at fault.
        is_whole: whether keys must agree with each other by now.
    """
    types = model_types or tuple(dict.fromkeys((type(config).model_type, "bert")))
    values = {**DEFAULTS, **raw, "num_labels": checks.count_labels(raw, blame)}
    checks.check_values(values, blame, types, ACTIVATIONS)
    if is_whole:
        checks.check_agreement(values, blame)
    notes = checks.notes_on(raw) if path else ()
    # What a class has as a constant, as `model_type`, would hide the value; a method must not be hidden.
    shown = {key: value for key, value in values.items() if not callable(getattr(type(config), key, callable))}
    vars(config).update(shown | {"values": values, "raw": raw, "path": path, "model_types": types, "notes": notes})


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """A JSON object from a file of at most `limit` bytes; duplicate keys, NaN and Infinity are refused."""
    try:
        stored = path.read_bytes() if path.stat().st_size <= limit else b""  # guard: json-size
    except OSError as error:
        raise DamagedCheckpoint(
            f"cannot be read: {error.strerror}.", hint="Check the path and its permissions.", file=str(path)
        ) from error
    if not stored:
        raise checks.bad(str(path), f"is empty or larger than {limit:,} bytes")
    try:
        value = parse_json(stored)
    except (ValueError, RecursionError) as error:
        raise checks.bad(str(path), f"is not sound JSON: {error}") from error
    if not isinstance(value, dict):
        raise checks.bad(str(path), "is not a JSON object")
    return value
