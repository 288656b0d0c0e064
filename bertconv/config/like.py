"""What programs do with a config of transformers 4.57 beyond reading its keys: names, strings of changes, the Hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, cast

from bertconv.arguments import PUSHING_CONFIG, refuse_unknown, settle, settle_token
from bertconv.config import defaults, places
from bertconv.errors import RequestError
from bertconv.families import MAPPED
from bertconv.likeness import Alike

if TYPE_CHECKING:
    from typing import Self

    from bertconv.config.classes import Config

_TRUE, _FALSE = ("true", "1", "y", "yes"), ("false", "0", "n", "no")
_UPLOADED = ("commit_message", "commit_description", "private", "create_pr")
"""Arguments of push_to_hub that describe an upload."""


class AttributeMap:
    """`attribute_map` of a class or a config: BERT's spelling of a size -> the family's own, where that differs."""

    def __get__(self, config: Any, kind: type[Config]) -> dict[str, str]:
        family = kind.own_family() if config is None else config.family
        return {key: own for key, own in family.schema.own.items() if key in MAPPED}


class LikePretrainedConfig(Alike):
    """The part of `Config` that is there because transformers' PretrainedConfig has it."""

    _alike = ("transformers.models.{family}.configuration_{family}:{name}",
              "transformers.configuration_utils:PretrainedConfig")  # fmt: skip
    sub_configs: ClassVar[Mapping[str, Any]] = {}
    base_config_key: ClassVar[str] = ""
    has_no_defaults_at_init: ClassVar[bool] = False
    base_model_tp_plan: ClassVar[None] = None
    base_model_pp_plan: ClassVar[None] = None
    base_model_ep_plan: ClassVar[None] = None
    attribute_map = AttributeMap()
    _auto_class: ClassVar[str | None] = None
    _read_as: str | None = None
    raw: Mapping[str, Any]
    values: Mapping[str, Any]

    @property
    def name_or_path(self) -> str:
        """What the model was loaded as; else what the keys say of it. It is neither compared nor written."""
        if self._read_as is not None:
            return self._read_as
        return str(next((self.raw[key] for key in defaults.NAMES if self.raw.get(key)), ""))

    @name_or_path.setter
    def name_or_path(self, name: str | os.PathLike[str]) -> None:
        self._read_as = str(name)

    _name_or_path = name_or_path

    @property
    def dtype(self) -> str | None:
        """Name of the type of numbers that the keys state, as `dtype` or as the older `torch_dtype`."""
        return next((self.raw[key] for key in defaults.DTYPES if self.raw.get(key) is not None), None)

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        there = [key for key in defaults.DTYPES if key in self.raw]
        self.update(dict.fromkeys(there or defaults.DTYPES[:1], dtype))

    torch_dtype = dtype

    @property
    def use_return_dict(self) -> bool:
        """Whether models return output objects rather than tuples."""
        return bool(self.values["return_dict"]) and not self.raw.get("torchscript")

    def __iter__(self) -> Iterator[str]:
        """The keys of `to_dict`."""
        return iter(self.to_dict())

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], path: str = ..., **overrides: Any) -> Any:
        """A config of keys, see `Config`."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Every key, see `Config`."""
        raise NotImplementedError

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Change keys, see `Config`."""
        raise NotImplementedError

    def update_from_string(self, update_str: str) -> None:
        """Change keys by a text such as "hidden_dropout_prob=0.2,is_decoder=true".

        Args:
            update_str: keys that the config has, with numbers, texts, or true and false, each of the kind that is
                there.

        Raises:
            RequestError: no such text, a key that the config has not, or a value of another kind.
        """
        changes = {}
        for pair in update_str.split(","):
            key, equals, text = (part.strip() for part in pair.partition("="))
            if not equals or not hasattr(self, key):
                raise RequestError(f"{pair!r} changes no key of this config.", hint="Write key=value,key=value.")
            changes[key] = _as_before(key, text, getattr(self, key))
        self.update(changes)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        cache_dir: str | os.PathLike[str] | None = None,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """The config of a model.

        Args:
            pretrained_model_name_or_path: a config file, a folder that has one, or a Hub id.
            cache_dir: cache of the Hub.
            force_download: download again what the cache has.
            local_files_only: use only what the cache holds.
            token: access token for the Hub.
            revision: branch, tag or commit on the Hub; a path on this machine has none, and it changes nothing there.
            kwargs: `subfolder`, where in the folder the config is; `return_unused_kwargs`; keys to change; what is
                no key is left out with a warning.

        Returns:
            The config; with `return_unused_kwargs` also the arguments that are no keys of configs.

        Raises:
            MissingPath, HubError: nothing there; both are OSError.
            RequestError: values that no such model can have.
            DamagedCheckpoint, UnsupportedCheckpoint: as for `load`.
        """
        kwargs |= {"cache_dir": cache_dir, "force_download": force_download, "token": token, "revision": revision}
        kwargs["local_files_only"] = local_files_only
        place = places.place_of(kwargs)
        found = places.find(pretrained_model_name_or_path, place)
        return cls.from_dict(found.keys, found.file, **kwargs)

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The keys of a config, unchecked, and the arguments that are not about finding it; as `from_pretrained`."""
        place = places.place_of(kwargs)
        return places.find(pretrained_model_name_or_path, place).keys, kwargs

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> Self:  # noqa: ARG002
        """The config itself: no model here is made of several, so `decoder` and `encoder` change nothing."""
        return self

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> str:
        """Upload config.json alone.

        Args:
            repo_id: `org/name`; made where it does not exist.
            kwargs: `commit_message`, `commit_description`, `private`, `token` and `create_pr`; those about files of
                weights change nothing; transformers' other arguments, where they ask for nothing.

        Returns:
            The address of the commit.

        Raises:
            RequestError: an argument that does not exist.
            HubError: the Hub did not take it.
        """
        settle(kwargs, PUSHING_CONFIG, "push_to_hub of a config")
        token = settle_token(kwargs, kwargs.pop("token", None))
        upload = {name: kwargs.pop(name) for name in _UPLOADED if name in kwargs}
        refuse_unknown(kwargs, "push_to_hub of a config", _UPLOADED)
        return places.connected().push(self.to_json_string().encode(), repo_id, {"token": token, **upload})

    def to_json_string(self, use_diff: bool = True) -> str:
        """JSON, see `Config`."""
        raise NotImplementedError

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoConfig") -> None:
        """Note a name, as transformers does; nothing here copies code beside a config, so nothing acts on it."""
        cls._auto_class = auto_class if isinstance(auto_class, str) else cast("str", auto_class.__name__)


def _as_before(key: str, text: str, before: Any) -> Any:
    """A text as a value of the kind that the key has."""
    if isinstance(before, bool) and text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    if isinstance(before, str):
        return text
    if isinstance(before, int | float) and not isinstance(before, bool):
        try:
            return type(before)(text)
        except ValueError as error:
            raise RequestError(f"{key} is {before!r}, which {text!r} cannot replace.", hint="Give a number.") from error
    raise RequestError(
        f"{key} is {before!r}, which {text!r} cannot replace.",
        hint="Numbers, texts and truths are changed by a text; assign anything else.",
    )
