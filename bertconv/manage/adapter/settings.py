"""adapter_config.json as peft writes it: what LoRA was set to, with everything refused that would be another formula.

peft's keys and their meaning: https://huggingface.co/docs/peft/package_reference/lora. Most of the newer ones are null;
one that is set and not known here may change what the adapter computes, so it is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from bertconv.errors import DamagedCheckpoint, UnsupportedCheckpoint
from bertconv.manage.adapter.patterns import Pattern
from bertconv.records import dataclass
from bertconv.text import printable, shown

_NO_PART = frozenset(
    ("peft_type", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "auto_mapping",
     "lora_dropout", "task_type", "runtime_config", "megatron_core", "qalora_group_size", "layers_pattern",
     "eva_config")
)  # fmt: skip
"""Keys that have no part in the merged weights."""
_USED = frozenset(
    ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "fan_in_fan_out", "target_modules",
     "exclude_modules", "layers_to_transform", "modules_to_save", "bias", "lora_bias", "init_lora_weights")
)  # fmt: skip
_PLAIN_STARTS = (True, False, "gaussian", "orthogonal", "eva", "default")
"""How A and B may begin; every other way also changes the weights of the base, which the adapter does not hold."""
_MOST_PATTERNS = 2000
"""Most ranks or scales of modules of their own."""


def pattern(text: Any, where: str, file: str) -> Pattern:
    """A regex of peft's, of the few signs that such regexes need.

    Raises:
        UnsupportedCheckpoint: it has others.
    """
    try:
        if isinstance(text, str):
            return Pattern.of(text)
    except ValueError:
        pass
    raise UnsupportedCheckpoint(
        f"{where} has the pattern {shown(text)}, which is more than names with alternatives.",
        hint="Merge it with peft (merge_and_unload).",
        file=file,
    )


@dataclass(frozen=True)
class Targets:
    """Which modules an adapter is for.

    Attributes:
        names: last parts of their names; None where `regex` or all linear modules are meant.
        regex: of the whole name.
        excluded: last parts of the names of those that are not.
        layers: numbers of the layers; None for all.
    """

    names: tuple[str, ...] | None
    regex: Pattern | None
    excluded: tuple[str, ...] = ()
    layers: tuple[int, ...] | None = None

    def has(self, module: str) -> bool:
        """Whether peft would give this module an adapter, by its name in PyTorch."""
        if any(_ends(module, name) for name in self.excluded):
            return False
        if self.regex is not None:
            return self.regex.is_name(module)
        if self.names is not None and not any(_ends(module, name) for name in self.names):
            return False
        return self.layers is None or any(f".{number}." in module for number in self.layers)


@dataclass(frozen=True)
class Lora:
    """What an adapter was set to.

    Attributes:
        rank: of its matrices; `ranks` has those of some modules, by pattern.
        alpha: numerator of the scale; `alphas` has those of some modules.
        rooted: the scale is alpha / sqrt(rank), and not alpha / rank.
        targets: the modules.
        saved: modules that were trained as a whole, last parts of their names.
        bias: "none", "all" or "lora_only".
        task: of peft, such as "SEQ_CLS"; empty where it is not said.
        base: what it was trained on, as its author called it.
    """

    rank: int
    alpha: float
    ranks: tuple[tuple[Pattern, int], ...]
    alphas: tuple[tuple[Pattern, float], ...]
    rooted: bool
    targets: Targets
    saved: tuple[str, ...]
    bias: str
    task: str
    base: str

    @property
    def base_name(self) -> str:
        """The same without the folders of somebody's machine: a Hub id, or the last part of a path."""
        is_id = re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", self.base)
        return self.base if is_id else re.split(r"[\\/]", self.base.rstrip("\\/"))[-1]

    def rank_of(self, module: str) -> int:
        """The rank that a module's matrices must have."""
        return next((rank for one, rank in self.ranks if one.is_end(module)), self.rank)

    def scale_of(self, module: str) -> float:
        """What the product of a module's matrices is multiplied by."""
        alpha = next((alpha for one, alpha in self.alphas if one.is_end(module)), self.alpha)
        rank = self.rank_of(module)
        return alpha / (math.sqrt(rank) if self.rooted else rank)


def settings_of(keys: Mapping[str, Any], file: str) -> Lora:
    """Check and take what adapter_config.json says.

    Args:
        keys: its content.
        file: its path, for errors.

    Raises:
        UnsupportedCheckpoint: it is no LoRA, or one of another formula than `W + scale * B A`.
        DamagedCheckpoint: a value makes no sense.
    """
    _check_kind(keys, file)
    bias = keys.get("bias", "none")
    if bias not in ("none", "all", "lora_only"):
        raise _nonsense("bias", bias, file)
    return Lora(
        rank=_whole(keys.get("r", 8), "r", file),
        alpha=_number(keys.get("lora_alpha", 8), "lora_alpha", file),
        ranks=_patterns(keys, "rank_pattern", _whole, file),
        alphas=_patterns(keys, "alpha_pattern", _number, file),
        rooted=bool(keys.get("use_rslora")),
        targets=_targets(keys, file),
        saved=_names(keys.get("modules_to_save"), "modules_to_save", file) or (),
        bias=bias,
        task=str(keys.get("task_type") or ""),
        base=str(keys.get("base_model_name_or_path") or ""),
    )


def _check_kind(keys: Mapping[str, Any], file: str) -> None:
    kind = keys.get("peft_type")
    if kind != "LORA":
        raise UnsupportedCheckpoint(
            f"is an adapter of the kind {shown(kind)}, not LORA.",
            hint="Merge it with peft (merge_and_unload), where that can be done.",
            file=file,
        )
    start = keys.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS:
        raise UnsupportedCheckpoint(
            f"began with init_lora_weights = {shown(start)}, which also changes the base's own weights.",
            hint="Merge it with peft (merge_and_unload), on the base that it was trained on.",
            file=file,
        )
    for key, value in keys.items():
        if key not in _USED | _NO_PART and value not in (None, False, 0, "", [], {}):
            raise UnsupportedCheckpoint(
                f"sets {printable(str(key))} = {shown(value)}, and bertconv merges plain LoRA alone.",
                hint="Merge it with peft (merge_and_unload).",
                file=file,
            )


def _targets(keys: Mapping[str, Any], file: str) -> Targets:
    given, layers = keys.get("target_modules"), keys.get("layers_to_transform")
    excluded = _names(keys.get("exclude_modules"), "exclude_modules", file) or ()
    numbers = [layers] if isinstance(layers, int) else layers
    if numbers is not None and not (isinstance(numbers, list) and all(isinstance(one, int) for one in numbers)):
        raise _nonsense("layers_to_transform", layers, file)
    chosen = None if numbers is None else tuple(numbers)
    if given == "all-linear":
        return Targets(None, None, excluded, chosen)
    if isinstance(given, str):
        return Targets(None, pattern(given, "target_modules", file), excluded, chosen)
    names = _names(given, "target_modules", file)
    if not names:
        raise _nonsense("target_modules", given, file)
    return Targets(names, None, excluded, chosen)


def _patterns(keys: Mapping[str, Any], key: str, number: Any, file: str) -> tuple[tuple[Pattern, Any], ...]:
    given = keys.get(key) or {}
    if not isinstance(given, dict) or len(given) > _MOST_PATTERNS:
        raise _nonsense(key, given, file)
    return tuple((pattern(text, key, file), number(value, key, file)) for text, value in given.items())


def _names(value: Any, key: str, file: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise _nonsense(key, value, file)
    return tuple(value)


def _whole(value: Any, key: str, file: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 20:
        raise _nonsense(key, value, file)
    return value


def _number(value: Any, key: str, file: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e12:
        raise _nonsense(key, value, file)
    return float(value)


def _nonsense(key: str, value: Any, file: str) -> DamagedCheckpoint:
    return DamagedCheckpoint(
        f"{key} is {shown(value)}, which no adapter has.", hint="Copy or download the adapter again.", file=file
    )


def _ends(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")
