"""config.json or bert_config.json as a config object: defaults filled in, nonsense refused, unknown keys kept.

What a family's configs have is data: `[config]` in its table. `values` holds every key in BERT's spelling
(`hidden_size`) beside the family's own one (`dim`), so that nothing else has to know the family.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from bertconv.config import checks, content, defaults
from bertconv.config.like import LikePretrainedConfig
from bertconv.errors import RequestError, check_path
from bertconv.families import Family, Schema, family_of
from bertconv.text import closest

COMMON: Mapping[str, Any] = {
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
"""Keys that the configs of every family have, with what they mean where nothing is said (transformers 4.57)."""

ABSENT: Mapping[str, Any] = {"classifier_dropout": None}
"""Keys that everything may ask for, with what they are in a family that has none; it need not say so."""

ACTIVATIONS = frozenset(
    ("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh",
     "gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2",
     "relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh")
)  # fmt: skip
"""Values of `hidden_act` with a meaning; the activation is part of the model, so any other is refused."""

_OWN = ("values", "raw", "path", "family", "notes", "attribute_map")


class Config(LikePretrainedConfig):
    """The config of one model or checkpoint, used as transformers' config classes.

    `BertConfig(hidden_size=36, num_labels=3)` takes every key by name, and those of transformers 4.57 by position too;
    unknown keys are kept. Keys are read and written as attributes, in the family's own spelling or in BERT's: a file
    keeps the family's own. What is written is checked at once, except that `hidden_size` and `num_attention_heads` may
    disagree until both are set: `coerce`, `replace` and `save_pretrained` look at that. Every other key of the
    configs of transformers can be asked for as well, with its default there (`defaults`).

    Attributes:
        values: every key with its value, defaults filled in, `num_labels` worked out, in both spellings.
        raw: the keys that were given and nothing else, in their order, as JSON has them, in the family's own spelling.
        path: where it was read from; empty for one made from arguments.
        family: what its model type names: the defaults and spellings of its keys.
        notes: what is unusual about the file, one sentence each.
        model_type: the kind of model.
        id2label: names of the labels by their number, LABEL_0 and so on where nothing names them. It sets and follows
            `num_labels`.
        label2id: the same turned round.

    Raises:
        RequestError: values that no such model can have, or that JSON cannot hold.
        UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
    """

    model_type: str = ""
    values: Mapping[str, Any]
    raw: Mapping[str, Any] = {}
    path: str = ""
    family: Family
    notes: tuple[str, ...] = ()
    id2label: Mapping[int, str]
    label2id: Mapping[str, int]

    def __init__(self, /, *args: Any, **keys: Any) -> None:
        # A subclass may have set attributes before: `self.raw` is no longer the class's empty one then.
        given = content.by_name(args, keys, self.family.schema.positional)
        _become(self, _changed(self, given), self.family)

    @classmethod
    def own_family(cls) -> Family:
        """The family of the class; of a user's subclass, that of the class of bertconv's it is derived from."""
        for kind in cls.__mro__:
            if Config in kind.__bases__:
                return family_of(vars(kind)["model_type"])
        raise RequestError("Config itself is of no family.", hint="Use a class such as BertConfig, or AutoConfig.")

    @classmethod
    def load(cls, path: Path, family: Family | None = None) -> Self:
        """Read and check a config file; it is of the class's own family unless another one is given.

        Raises:
            DamagedCheckpoint: not JSON, or values that no such model can have.
            UnsupportedCheckpoint: another architecture, quantised or pruned weights, an unknown activation.
        """
        return cast("Self", cls.from_dict(content.read_json(path, content.MAX_BYTES), str(path), family))

    @classmethod
    def from_dict(
        cls, raw: Mapping[str, Any], path: str = "config", family: Family | None = None, **overrides: Any
    ) -> Any:
        """Check keys and values that were read elsewhere; errors as for `load`.

        Args:
            raw: the keys.
            path: where they were read from.
            family: whose config it is.
            overrides: as for `from_pretrained`.
        """
        config, family = cls.__new__(cls), family or cls.own_family()
        is_users = Config not in (cls, *cls.__bases__) and cls.model_type not in family.model_types
        if is_users and raw.get("model_type") in family.model_types:
            raw = {**raw, "model_type": cls.model_type}  # the user's own kind of model, begun from one of the family
        _become(config, content.plain(raw, path), family, path, blame=path)
        if cls.__init__ is not Config.__init__:
            made = cls(**config.raw)  # a subclass may add keys of its own
            _become(made, {**config.raw, **made.raw}, family, path, blame=path)
            config = made
        return overridden(config, overrides) if overrides else config

    @classmethod
    def from_json_file(cls, json_file: str | os.PathLike[str]) -> Self:
        """As `load`."""
        check_path(json_file, "the config's path")
        return cls.load(Path(json_file))

    @classmethod
    def coerce(cls, value: Any) -> Self:
        """What a user gives as a config, as a config: an object, a dict, transformers' object, or a local path.

        Raises:
            RequestError: anything else, or as for the class; an object of a family with another table.
            DamagedCheckpoint, UnsupportedCheckpoint: as for `load`.
        """
        if isinstance(value, Config):
            if cls is not Config and value.family.path != cls.own_family().path:
                raise RequestError(
                    f"a {type(value).__name__} was given for a {cls.__name__}.",
                    hint="Use the classes of that family, or AutoConfig and the automatic classes.",
                )
            checks.check_agreement(value.values, value.family.schema, "")
            return cast("Self", value)
        if isinstance(value, str | os.PathLike):
            return cls.load(content.config_file(value))
        return cls(**content.plain(content.keys_of(value, cls.__name__)))

    def __getattr__(self, name: str) -> Any:
        if name == "family":  # of an object that is only being made; and so below
            return type(self).own_family()
        if name == "values":
            return _whole({}, self.family.schema) | {"num_labels": 2}
        if name in {"id2label", "label2id"}:
            labels = (content.names_of if name == "id2label" else content.ids_of)(self.raw, self.values["num_labels"])
            labels.read = lambda: getattr(self, name)
            labels.write = lambda new: self.update({"id2label": dict(self.id2label), name: new})
            return labels
        if not name.startswith("__") and name in self.values:
            return self.values[name]
        if name in defaults.ASKED or name in defaults.HIDDEN:
            return defaults.asked(name)
        near = None if name.startswith("__") else closest(name, (*self.values, "id2label", "label2id"))
        also = "" if near is None else f"; did you mean {near!r}?"
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
        return sorted({*super().__dir__(), *self.values, *defaults.ASKED, "id2label", "label2id"})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Config):
            return NotImplemented
        return self.raw == other.raw and self.family.path == other.family.path

    __hash__ = None  # type: ignore[assignment]  # it can change

    def __repr__(self) -> str:
        return f"{type(self).__name__} {content.json_text(self._stated())}"

    @property
    def named_classes(self) -> tuple[str, ...]:
        """Model classes that `architectures` names, TensorFlow's `TF` taken off."""
        return content.architectures_of(self.raw)

    def says(self, key: str) -> bool:
        """Whether the file itself gives this key (`num_labels` also by `id2label`)."""
        return self.family.schema.spelled(key) in self.raw or (key == "num_labels" and bool(self.raw.get("id2label")))

    def knows(self, key: str) -> bool:
        """Whether this is a key of transformers' configs of the family, or of this one."""
        return key in self.values or key in defaults.KNOWN

    def replace(self, **changes: Any) -> Self:
        """The same config with some keys changed; every other key stays as it was, labels in step aside."""
        changed = copy.copy(self)
        _become(changed, _changed(self, changes), self.family, self.path, blame=self.path)
        return changed

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Change some keys of this config, as by assignment, but together."""
        _become(self, _changed(self, config_dict), self.family, self.path, is_whole=False)

    def to_dict(self) -> dict[str, Any]:
        """Every key with its value, deeply copied, those that are only asked for as well; `id2label` has numbers.

        Labels say their number: a program that puts others into the dictionary makes a config of it.
        """
        asked = {**copy.deepcopy(dict(defaults.ASKED)), "dtype": self.dtype}
        every = {**asked, **self.own_keys(), "_name_or_path": self.name_or_path}
        if every["id2label"]:
            del every["num_labels"]
        return every

    def own_keys(self) -> dict[str, Any]:
        """Every key of the family, and what else was given, with its value, deeply copied."""
        labels = {"id2label": dict(self.id2label), "label2id": dict(self.label2id)}
        return {**content.plain(self._own_values()), **labels, "model_type": self.model_type}

    def to_diff_dict(self) -> dict[str, Any]:
        """What `to_json_string` writes: what was given, and what every config of the family says."""
        stated = self._stated()
        if self.says("num_labels"):
            stated |= {"id2label": dict(self.id2label), "label2id": dict(self.label2id)}
        return stated

    def to_bytes(self) -> bytes:
        """The content of a config.json: the file's keys in its order."""
        return content.json_text(self.raw).encode()

    def to_json_string(self, use_diff: bool = True) -> str:
        """JSON as transformers writes it: keys sorted, and what is left at common defaults left out with `use_diff`."""
        stated = self.to_diff_dict() if use_diff else self.to_dict()
        return content.json_text(dict(sorted(stated.items())))

    def save_pretrained(self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any) -> None:
        """Write config.json into a folder, which is made where it is lacking.

        Args:
            save_directory: the folder.
            push_to_hub: also upload it, by default to a repository with the folder's name.
            kwargs: `repo_id` and the arguments of `push_to_hub`; without it they change nothing.

        Raises:
            OutputError: it cannot be written.
            HubError: the Hub did not take it.
        """
        checks.check_agreement(self.values, self.family.schema, "")
        check_path(save_directory, "the folder")
        self.to_json_file(Path(save_directory, content.CONFIG_FILES[0]))
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", None) or Path(save_directory).name, **kwargs)

    def to_json_file(self, json_file_path: str | os.PathLike[str], use_diff: bool = True) -> None:
        """Write `to_json_string` to a file, its folder made where it is missing; OutputError when that fails."""
        check_path(json_file_path, "the config's path")
        content.write_config(Path(json_file_path), self.to_json_string(use_diff).encode())

    def _stated(self) -> dict[str, Any]:
        """What was given, and what every config of the family says."""
        always = self.family.schema.positional or tuple(self.family.schema.defaults)
        stated = {key: value for key, value in self._own_values().items() if key in self.raw or key in always}
        return {**stated, "model_type": self.model_type}

    def _own_values(self) -> dict[str, Any]:
        """The values without those that are there to be asked for: BERT's spellings, keys that the family has not."""
        schema = self.family.schema
        hidden = {*schema.own, *schema.fixed, *(ABSENT.keys() - schema.defaults.keys())}
        return {key: value for key, value in self.values.items() if key not in hidden} | dict(self.raw)


class BertConfig(Config):
    """The config of a BERT; see `Config`."""

    model_type = "bert"


class RobertaConfig(Config):
    """The config of a RoBERTa; see `Config`."""

    model_type = "roberta"


class XLMRobertaConfig(Config):
    """The config of an XLM-RoBERTa; see `Config`."""

    model_type = "xlm-roberta"


class CamembertConfig(Config):
    """The config of a CamemBERT; see `Config`."""

    model_type = "camembert"


class RobertaPreLayerNormConfig(Config):
    """The config of a RoBERTa-PreLayerNorm; see `Config`."""

    model_type = "roberta-prelayernorm"


class DistilBertConfig(Config):
    """The config of a DistilBERT; see `Config`. Its `dim` is `hidden_size` too, `n_layers` is `num_hidden_layers`."""

    model_type = "distilbert"


class ElectraConfig(Config):
    """The config of an ELECTRA; see `Config`."""

    model_type = "electra"


class MPNetConfig(Config):
    """The config of an MPNet; see `Config`."""

    model_type = "mpnet"


class AlbertConfig(Config):
    """The config of an ALBERT; see `Config`."""

    model_type = "albert"


def _whole(raw: Mapping[str, Any], schema: Schema) -> dict[str, Any]:
    """Keys with defaults filled in, and those in BERT's spelling beside those in the family's own."""
    values = {**ABSENT, **COMMON, **schema.defaults, **raw}
    return values | {neutral: values[own] for neutral, own in schema.own.items()} | dict(schema.fixed)


def overridden(config: Config, kwargs: dict[str, Any]) -> Any:
    """A config that was just read, with keys changed; with `return_unused_kwargs` also what is no key of configs.

    Where that is not asked for, it is warned of: programs give a config what is for the model, or for another family.

    Raises:
        RequestError: values that no such model can have.
    """
    wants_unused = kwargs.pop("return_unused_kwargs", False)
    unused = {key: kwargs.pop(key) for key in list(kwargs) if not config.knows(key)}
    if not wants_unused:
        content.warn_of_unknown(unused, (*config.values, *defaults.KNOWN))
    named = [kwargs.pop(key) for key in defaults.NAMES if key in kwargs]
    _become(config, _changed(config, kwargs), config.family, config.path)
    if named:
        config.name_or_path = named[0]
    return (config, unused) if wants_unused else config


def _changed(config: Config, changes: Mapping[str, Any]) -> dict[str, Any]:
    """A config's keys with some of them changed, those about labels in step."""
    schema = config.family.schema
    return content.in_step(config.raw, schema.respelled(content.plain(changes)))


def _become(
    config: Config, raw: Mapping[str, Any], family: Family, path: str = "", *, blame: str = "", is_whole: bool = True
) -> None:
    """Make a config one of these keys, or raise and leave it what it was.

    Args:
        config: to be changed.
        raw: the keys.
        family: whose config it is; keys that name one that shares its table are that one's.
        path: where they were read from.
        blame: the file to name in errors; empty where arguments are at fault.
        is_whole: whether keys must agree with each other by now.
    """
    schema = family.schema
    if (pair := schema.said_twice(raw)) is not None:
        raise checks.bad(blame, f"{pair[0]} and {pair[1]} are two spellings of one key and differ")
    raw = schema.respelled(raw)
    types = tuple(dict.fromkeys(filter(None, (type(config).model_type, *family.model_types))))
    values = {**_whole(raw, schema), "num_labels": checks.count_labels(raw, blame)}
    checks.check_values(values, schema, blame, types, ACTIVATIONS)
    if is_whole:
        checks.check_agreement(values, schema, blame)
    notes = checks.notes_on(raw) if path else ()
    # What a class has as a constant, as `model_type`, would hide the value; a method must not be hidden.
    shown = {key: value for key, value in values.items() if not callable(getattr(type(config), key, callable))}
    vars(config).update(shown | {"values": values, "raw": raw, "path": path, "family": family, "notes": notes})
