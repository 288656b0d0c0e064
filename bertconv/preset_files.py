"""The files of a preset beside its weights, as KerasHub's `from_preset` reads them: config, task, tokenizer.

What is said about a model by transformers' config and has no key there goes along in a file of its own
(`source.preset.CONFIG`), so that the way back has it all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from typing import Any

from bertconv import __version__
from bertconv.config import Config
from bertconv.config import content as config_content
from bertconv.formats.content import Content
from bertconv.presets import REGISTERED, Preset, preset_for
from bertconv.records import dataclass
from bertconv.source import Source, preset
from bertconv.tokenizer.files import FAST, MAX_BYTES, SETTINGS

_INTEGERS = "int32"
_POSITIONS = "max_sequence_length"
_WORDS = ".txt"
"""End of the name of a list of words, which says nothing of capital letters."""


@dataclass(frozen=True)
class PresetFiles:
    """What an output has beside its weights where its program has config files of its own.

    Attributes:
        preset: how the program spells the family's configs.
        head: the model class.
        config: of the output.
        contents: every tensor.
        tokenizer: whose tokenizer it is.
    """

    preset: Preset
    head: str
    config: Config
    contents: Sequence[Content]
    tokenizer: Source

    @classmethod
    def of(
        cls, dialect: str, head: str, config: Config, contents: Sequence[Content], tokenizer: Source
    ) -> PresetFiles | None:
        """Those of an output in a dialect; None where it has none but transformers' own."""
        found = preset_for(config.family, dialect)
        return None if found is None else cls(found, head, config, contents, tokenizer)

    @property
    def renamed(self) -> Mapping[str, str]:
        """Name that transformers gives a file that goes along -> its name in the output, where that is another."""
        there = self.tokenizer.sidecars
        assets = {name: f"{preset.ASSETS}/{own}" for name, own in self.preset.assets.items()}
        found = assets if self._has_tokenizer(there) else {}
        return found | ({FAST: preset.FAST} if FAST in there else {})

    def made(self) -> dict[str, bytes]:
        """Name -> content of every file."""
        body = self._body()
        found: dict[str, Any] = {config_content.CONFIG_FILES[0]: body, preset.METADATA: self._metadata()}
        tokenizer = self._tokenizer() if self._has_tokenizer(self.tokenizer.sidecars) else None
        if tokenizer is not None:
            found[preset.TOKENIZER] = tokenizer
        if (task := self.preset.task_config(self.head, self.config.values)) is not None:
            name, keys = task
            prepared = None if tokenizer is None else self._preprocessor(name, tokenizer)
            found[preset.TASK] = self._object(
                name, {"backbone": body, "preprocessor": prepared, "name": _snake(name), **keys}
            )
        written = {name: config_content.json_text(content).encode() for name, content in found.items()}
        return {**written, preset.CONFIG: self.config.to_bytes()}

    def notes(self) -> tuple[str, ...]:
        """What a reader of the output may miss."""
        there = self.tokenizer.sidecars
        if self._has_tokenizer(there) or not any(name in there for name in (FAST, SETTINGS)):
            return ()
        lacking = ", ".join(name for name in self.preset.assets if name not in there)
        return (f"the output has no tokenizer that KerasHub reads: the source has no {lacking}",)

    def _has_tokenizer(self, there: Collection[str]) -> bool:
        return bool(self.preset.assets) and all(name in there for name in self.preset.assets)

    def _object(self, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
        return _object(self.preset.dialect, name, config)  # a dialect is called as the package that speaks it

    def _body(self) -> dict[str, Any]:
        name = self.preset.backbone
        dtype = Counter(content.dtype for content in self.contents).most_common(1)[0][0]
        keys = self.preset.backbone_config(self.config.values)
        return self._object(name, {"name": _snake(name), "trainable": True, "dtype": _policy(dtype), **keys})

    def _metadata(self) -> dict[str, Any]:
        count = sum(content.spec.count for content in self.contents)
        return {"parameter_count": count, "tasks": [], "written_by": f"bertconv {__version__}"}

    def _tokenizer(self) -> dict[str, Any]:
        name = f"{self.preset.prefix}Tokenizer"
        keys: dict[str, Any] = {"name": _snake(name), "trainable": True, "dtype": _policy(_INTEGERS)}
        keys["config_file"] = preset.TOKENIZER
        if any(own.endswith(_WORDS) for own in self.preset.assets.values()) and len(self.preset.assets) == 1:
            keys |= self._letters()
        return self._object(name, keys)

    def _preprocessor(self, task: str, tokenizer: Mapping[str, Any]) -> dict[str, Any]:
        name = f"{task}Preprocessor"
        keys = {"name": _snake(name), "trainable": True, "tokenizer": tokenizer, "config_file": "preprocessor.json"}
        keys["sequence_length"] = self.preset.backbone_config(self.config.values)[_POSITIONS]
        return self._object(name, keys)

    def _letters(self) -> dict[str, bool]:
        """Whether words lose their capitals and accents, as the tokenizer's settings say, or transformers' defaults."""
        settings: dict[str, Any] = {}
        if SETTINGS in self.tokenizer.sidecars:
            with closing(self.tokenizer.open(SETTINGS)) as file:
                settings = config_content.json_object(file.read_up_to(MAX_BYTES), file.path, MAX_BYTES)
        lower = settings.get("do_lower_case", True) is not False
        accents = settings.get("strip_accents")
        return {"lowercase": lower, "strip_accents": accents if isinstance(accents, bool) else lower}


def _object(package: str, name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """An object of a package's models as Keras 3 writes it."""
    return {
        "module": f"{package}.models", "class_name": name, "config": dict(config), REGISTERED: f"{package}>{name}",
    }  # fmt: skip


def _policy(dtype: str) -> dict[str, Any]:
    return {"module": "keras", "class_name": "DTypePolicy", "config": {"name": dtype}, REGISTERED: None}


def _snake(name: str) -> str:
    """The name that Keras gives the first instance of a class."""
    words = re.sub(r"(.)([A-Z][a-z0-9]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()
