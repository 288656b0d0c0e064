"""sentence-transformers: what the modules beside a transformer are set to, whatever version wrote it.

`modules.json` says which modules there are and in which order, a `config.json` in each folder what it does, and
`config_sentence_transformers.json` what the whole puts before a text. All of it is compared by what it means: keys that
say the default, and the spelling of another version, are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from bertconv.errors import UnsafeCheckpoint
from bertconv.records import dataclass
from bertconv.source.checkpoint_folder import open_in
from bertconv.source.local import Source
from bertconv.source.modules import LISTING, Modules, path_of
from bertconv.text import is_deep, parse_json, printable

WHOLE = "config_sentence_transformers.json"
_TRANSFORMER, _CONFIG = "sentence_bert_config.json", "config.json"
_OWN = "sentence_transformers."
_MAX_BYTES, _MAX_DEPTH = 10_000_000, 40
"""Largest file of settings that is read, and most levels of JSON in it."""
_PLACE = ("idx", "name", "path", "type")
"""Keys of `modules.json` that say where a module stands; others are passed to it."""
_POOLING = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
"""Keys of before version 6 -> the mode that replaces them, in the order in which they are put together."""


@dataclass(frozen=True)
class Module:
    """One module: its class, without the library's own path, its folder, and key -> value of what it is set to."""

    kind: str
    folder: str
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        """For people: its folder, or its class where that is at the root."""
        return printable(self.folder or self.kind)


@dataclass(frozen=True)
class ModuleSettings:
    """What the files say.

    Attributes:
        there: whether there is any file of the library.
        listed: the modules in their order; None without a list of them.
        whole: key -> value of what is set for all of them.
        problems: why a file could not be read, one sentence each.
    """

    there: bool
    listed: tuple[Module, ...] | None
    whole: Mapping[str, Any]
    problems: tuple[str, ...]


def read_module_settings(source: Source) -> ModuleSettings:
    """Read them; what is wrong with their content is reported, not raised.

    Raises:
        DamagedCheckpoint: a file cannot be opened or read, or changes meanwhile.
    """
    reader = _Reader(source)
    listed = None if source.modules is None else tuple(reader.modules(source.modules))
    whole = _whole(reader.read(reader.folder, WHOLE) if WHOLE in reader.names else {})
    own = {LISTING, WHOLE, _TRANSFORMER}
    there = source.modules is not None or any(name in own or "/" in name for name in source.sidecars)
    return ModuleSettings(there, listed, whole, tuple(reader.problems))


class _Reader:
    """Files of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.folder, self.names, self.inner = source.folder, source.sidecars, ""
        if source.modules is not None and source.modules.folder != source.folder:
            self.folder, self.names = source.modules.folder, source.modules.sidecars
            self.inner = source.folder.relative_to(self.folder).as_posix()
        self.problems: list[str] = []

    def modules(self, listed: Modules) -> Iterator[Module]:
        """Every listed module with its settings."""
        for entry in listed.entries:
            kind = str(entry["type"])
            kind = kind.rpartition(".")[2] if kind.startswith(_OWN) else kind
            folder = path_of(entry).rstrip("/")
            found = {key: value for key, value in entry.items() if key not in _PLACE and value}
            yield Module(kind, folder, found | self._settings(kind, folder))

    def _settings(self, kind: str, folder: str) -> dict[str, Any]:
        if folder == self.inner:  # lengths are the tokenizer's, and the rest is the transformer's own config
            there = _TRANSFORMER in self.source.sidecars
            said = self.read(self.source.folder, _TRANSFORMER) if there else {}
            return {"do_lower_case": said.get("do_lower_case", False)}
        files = [name for name in self.names if name.rpartition("/")[0] == folder and name.endswith(".json")]
        read = {name.rpartition("/")[2]: self.read(self.folder, name) for name in files}
        if "." not in kind:
            read = {name: _renamed(said) for name, said in read.items()}
        return {**_MEANING.get(kind, dict)(read.pop(_CONFIG, {})), **read}

    def read(self, folder: Path, name: str) -> dict[str, Any]:
        """A JSON object; empty where there is none to read."""
        try:
            with closing(open_in(folder, name)) as file:
                raw = file.read(0, file.size) if file.size <= _MAX_BYTES else b""
                file.check_unchanged()
            found = parse_json(raw)
        except (ValueError, RecursionError):
            found = None
        except UnsafeCheckpoint as error:  # what carries the files along refuses it
            self.problems.append(f"{printable(name)} {error.message.rstrip('.')}")
            return {}
        if not isinstance(found, dict) or is_deep(found, _MAX_DEPTH):
            self.problems.append(f"{printable(name)} is no sound JSON object")
            return {}
        return found


def _renamed(said: Mapping[str, Any]) -> dict[str, Any]:
    """With the names that version 6 has for sizes."""
    return {key.replace("word_embedding_dimension", "embedding_dimension"): value for key, value in said.items()}


def _pooling(said: Mapping[str, Any]) -> dict[str, Any]:
    """`pooling_mode` for what older versions have a key each for; without any it is the mean."""
    found = {key: value for key, value in said.items() if key not in _POOLING}
    mode = found.get("pooling_mode") or [name for key, name in _POOLING.items() if said.get(key)] or "mean"
    found["pooling_mode"] = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    return {"include_prompt": True, **found}


def _named(said: Mapping[str, Any]) -> dict[str, Any]:
    """With the names of what a module takes and gives."""
    name = said.get("module_input_name", "sentence_embedding")
    return {**said, "module_input_name": name, "module_output_name": said.get("module_output_name") or name}


def _dense(said: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {"bias": True, "activation_function": "torch.nn.modules.activation.Tanh", "use_residual": False}
    found = _named({**defaults, **said})
    activation = str(found["activation_function"])
    found["activation_function"] = activation.rpartition(".")[2] if activation.startswith("torch.") else activation
    return found


_MEANING: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "Pooling": _pooling, "Dense": _dense, "Normalize": _named,
}  # fmt: skip
"""Classes whose settings were written in several ways."""


def _whole(said: Mapping[str, Any]) -> dict[str, Any]:
    """Without versions; an empty prompt is none, unless it keeps the default one away."""
    found = {key: value for key, value in said.items() if key != "__version__" and value is not None}
    found.setdefault("model_type", "SentenceTransformer")
    found.setdefault("similarity_fn_name", "cosine")
    prompts = found.pop("prompts", {})
    if not isinstance(prompts, dict):
        return found | {"prompts": prompts}
    kept = "default_prompt_name" in found
    stated = {name: text for name, text in prompts.items() if text or (kept and text is not None)}
    return found | {f"prompts[{name!r}]": text for name, text in stated.items()}
