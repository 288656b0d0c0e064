"""How a model continues prompts by default: what generation_config.json says, and where it says nothing, the config."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

from bertconv import config_content as content
from bertconv.config_defaults import GENERATION
from bertconv.errors import RequestError
from bertconv.source import Source

FILE = "generation_config.json"
TOKENS = ("bos_token_id", "decoder_start_token_id", "eos_token_id", "pad_token_id")
HEEDED = ("do_sample", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id", "temperature", "top_k", "top_p")
"""What `generate` takes from here."""

_HARMLESS = frozenset((*HEEDED, "diversity_penalty", "early_stopping", "length_penalty", "num_beam_groups"))
"""Keys that are heeded, or that change nothing where there is one beam."""
_FROM_CONFIG = "_from_model_config"


class GenerationConfig:
    """Settings of `generate`, as attributes: those that are set here, else the model config's, else the usual ones.

    Args:
        config: of the model; what is changed there counts here.
        said: what a file or a caller sets.
    """

    def __init__(self, config: Any, said: Mapping[str, Any] | None = None) -> None:
        object.__setattr__(self, "_config", config)
        object.__setattr__(self, "said", {} if said is None else dict(said))

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

    def check(self) -> None:
        """RequestError where this asks for something that `generate` does not do."""
        for name, usual in GENERATION.items():
            value = getattr(self, name)
            if name not in _HARMLESS and value is not None and value != usual:
                raise RequestError(
                    f"{name} is {value!r} in the generation config, and generate has no such thing.",
                    hint=f"Set model.generation_config.{name} to {usual!r}.",
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
