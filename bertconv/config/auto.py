"""Which class a config is of: AutoConfig, and the family that the keys of a config name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from bertconv.config import content, places
from bertconv.config.classes import AlbertConfig, BertConfig, Config
from bertconv.errors import RequestError
from bertconv.families import Family, family_of, family_of_class

_CLASSES: Mapping[str, type[Config]] = {kind.model_type: kind for kind in Config.__subclasses__()}


_OF_FILES = dict(zip(content.CONFIG_FILES[1:], (BertConfig.model_type, AlbertConfig.model_type), strict=True))
"""Google's names of config files -> what their configs are of, where they do not say it."""


_REGISTERED: dict[str, Any] = {}
"""Model type of a user's own -> the class of its configs."""


def config_class(family: Family) -> type[Config]:
    """The class for the configs of a family; the generic one for a family of the user's own."""
    return _CLASSES.get(family.model_type, Config)


class AutoConfig:
    """Its functions give the config of the class that a model type asks for; it is never made itself."""

    def __init__(self) -> None:
        raise RequestError("AutoConfig is never made itself.", hint="Use its from_pretrained or for_model.")

    @staticmethod
    def for_model(model_type: str, /, *args: Any, **keys: Any) -> Config:
        """The config of a model type; RequestError where nobody knows it."""
        made: Config = said_class({"model_type": model_type})(*args, **keys)
        return made

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any) -> Any:
        """The config of a model; arguments, returns and errors as for `Config.from_pretrained`."""
        found = places.find(pretrained_model_name_or_path, places.place_of(kwargs))
        kind = said_class(found.keys, Path(found.file).name)
        kwargs.setdefault("name_or_path", str(pretrained_model_name_or_path))
        return kind.from_dict(found.keys, *([found.file] if issubclass(kind, Config) else []), **kwargs)

    @staticmethod
    def register(model_type: str, config: Any, exist_ok: bool = False) -> None:
        """Let a model type mean a class of configs of the user's own.

        Args:
            model_type: as config.json has it.
            config: the class, of bertconv's or transformers' configs, with that `model_type`; it takes the
                place of one registered before.
            exist_ok: let it take the place of one of bertconv's.

        Raises:
            RequestError: no class of configs, one that says another model type, or there is one already.
        """
        check_class(config)
        if config.model_type != model_type:
            raise RequestError(
                f"{config.__name__} has the model type {config.model_type!r}, and {model_type!r} is to be registered.",
                hint="Fix one of them.",
            )
        if not exist_ok and model_type in _CLASSES:  # a cell of a notebook is run again: the newer class counts
            raise RequestError(f"there is a config for {model_type!r} already.", hint="Pass exist_ok=True.")
        _REGISTERED[model_type] = config

    @staticmethod
    def coerce(value: Any) -> Config:
        """What a user gives as a config, as the config of the class that its model type asks for."""
        if isinstance(value, Config):
            return Config.coerce(value)
        if isinstance(value, str | os.PathLike):
            file = content.config_file(value)
            keys = content.read_json(file, content.MAX_BYTES)
            return cast("Config", config_class(said_family(keys, file.name)).from_dict(keys, str(file)))
        keys = content.plain(content.keys_of(value, "config"))
        return config_class(said_family(keys))(**keys)


def check_class(kind: Any) -> None:
    """RequestError for what is no class of configs, bertconv's or transformers'."""
    if not (isinstance(kind, type) and isinstance(getattr(kind, "model_type", None), str)):
        raise RequestError(
            f"a class of configs was expected, not {kind!r:.80}.",
            hint="Give a class derived from BertConfig or its like.",
        )


def said_class(raw: Mapping[str, Any], file: str = "") -> Any:
    """The class that the keys of a config ask for, which may be a user's own; arguments and errors as `said_family`."""
    registered = _REGISTERED.get(str(raw.get("model_type")))
    return config_class(said_family(raw, file)) if registered is None else registered


def is_said_by_file(raw: Mapping[str, Any]) -> bool:
    """Whether nothing but the name of its file says of which family a config is: it may be another one all the same."""
    return "model_type" not in raw and all(family_of_class(name) is None for name in content.architectures_of(raw))


def said_family(raw: Mapping[str, Any], file: str = "") -> Family:
    """The built-in family that a config's keys name.

    Args:
        raw: the keys.
        file: name of the config file: Google's BERT called it bert_config.json, its ALBERT albert_config.json, and
            neither wrote a model type.

    Raises:
        RequestError: the keys name a family that bertconv has not, or none at all.
    """
    if "model_type" in raw:
        return family_of(str(raw["model_type"]))
    for name in content.architectures_of(raw):
        if (family := family_of_class(name)) is not None:
            return family
    if (model_type := _OF_FILES.get(file)) is not None:
        return family_of(model_type)
    raise RequestError("the config has no model_type.", hint="Use a class such as BertConfig, or add the key.")
