"""How a model continues prompts by default: what generation_config.json says, and where it says nothing, the config."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from numbers import Integral
from typing import Any

from bertconv.config import content
from bertconv.config.defaults import GENERATION
from bertconv.errors import RequestError
from bertconv.source import Source

FILE = "generation_config.json"
TOKENS = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
HEEDED = ("max_length", "do_sample", "temperature", "top_k", "top_p")
"""Keys that `generate` goes by, beside those of tokens and `max_new_tokens`."""
WITHOUT_EFFECT = ("early_stopping", "length_penalty", "num_beam_groups", "diversity_penalty", "remove_invalid_values")
"""Those that change nothing about words drawn one at a time from finite scores."""
_FROM_CONFIG = "_from_model_config"


class GenerationConfig:
    """Settings of `generate`, as attributes: those that are set here, else the model config's, else the usual ones.

    Args:
        config: of the model; what is changed there counts here.
        said: what a file or a caller sets.
    """

    def __init__(self, config: Any, said: Mapping[str, Any] | None = None) -> None:
        self.follow(config)
        object.__setattr__(self, "said", {} if said is None else dict(said))

    def follow(self, config: Any) -> None:
        """Let this be the config of the model."""
        object.__setattr__(self, "_config", config)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {"_config", "said"}:
            raise AttributeError(name)
        if name in self.said:
            return self.said[name]
        if name in GENERATION or name in TOKENS:
            return getattr(self._config, name, GENERATION.get(name))
        if name == "max_new_tokens":
            return None
        raise AttributeError(f"this generation config has no {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        self.said[name] = value

    def __repr__(self) -> str:
        return f"{type(self).__name__} {content.json_text(self.to_dict())}"

    def to_dict(self) -> dict[str, Any]:
        """What the file says: everything that is set, and of the model config what is not as usual."""
        own = {name: getattr(self, name) for name in (*GENERATION, *TOKENS)}
        stated = {name: value for name, value in own.items() if value is not None and value != GENERATION.get(name)}
        origin = {} if self.said else {_FROM_CONFIG: True}  # for transformers: the model config may still change it
        return dict(sorted({**origin, **stated, **self.said}.items()))

    def to_bytes(self) -> bytes:
        """generation_config.json."""
        return content.json_text(self.to_dict()).encode()

    def chosen(self, key: str, given: Any) -> Any:
        """A setting: what was given, else what is said here, else transformers' default."""
        said = getattr(self, key) if given is None else given
        return GENERATION[key] if said is None else said

    def check(self) -> None:
        """RequestError where words are asked for that are not those of greedy or sampled decoding."""
        for key in (*TOKENS, "max_length", "max_new_tokens"):
            value = getattr(self, key)
            values = value if isinstance(value, list) and key in TOKENS else [value]
            if any(one is not None and (isinstance(one, bool) or not isinstance(one, Integral)) for one in values):
                raise RequestError(
                    f"{key} is {value!r:.80} in the {'generation ' if key in self.said else ''}config.",
                    hint=f"Set model.generation_config.{key} to a whole number.",
                )
        for key in ("penalty_alpha", "forced_decoder_ids"):
            if self.said.get(key):
                raise RequestError(
                    f"the generation config asks for {key}, which generate does not know.",
                    hint=f"Set model.generation_config.{key} = None for greedy or sampled decoding.",
                )
        for key, default in GENERATION.items():
            value = getattr(self, key)
            if key not in (*HEEDED, *WITHOUT_EFFECT) and value != default and value not in (None, [], {}):
                raise RequestError(
                    f"the {'generation ' if key in self.said else ''}config asks for {key}={value!r:.80}, which "
                    "generate does not know.",
                    hint=f"Set model.generation_config.{key} = {default!r} for greedy or sampled decoding.",
                )


def read(source: Source, config: Any) -> GenerationConfig:
    """What a checkpoint says.

    Raises:
        DamagedCheckpoint: its file is no sound JSON.
    """
    if FILE not in source.sidecars:
        return GenerationConfig(config)
    with closing(source.open(FILE)) as file:
        said = content.json_object(file.read_up_to(content.MAX_BYTES), file.path, content.MAX_BYTES)
    if said.pop(_FROM_CONFIG, False):  # a copy of the config, which says it itself
        said = {}
    said.pop("transformers_version", None)
    return GenerationConfig(config, said)
