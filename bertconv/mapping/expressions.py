"""The two small grammars inside a table: sizes (`hidden_size / num_attention_heads`) and conditions (`key != 'x'`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertconv.errors import BadTable, DamagedCheckpoint
from bertconv.records import dataclass

_SIZE = re.compile(
    r"(?:(?P<factor>\d+) \* )?(?P<open>\()?(?P<key>[a-z_]+)(?: or (?P<fallback>[a-z_]+))?(?(open)\))"
    r"(?: / (?P<divisor>[a-z_]+))?(?: - (?:(?P<number>\d+)|(?P<minus>[a-z_]+)))?"
)
_CONDITION = re.compile(
    r"(?P<not>not )?(?P<key>[a-z_]+)"
    r"|(?P<one>[a-z_]+) (?P<operator>==|!=) (?:'(?P<text>[^']*)'|(?P<number>\d+)|(?P<other>[a-z_]+))"
    r"|'(?P<member>[^']+)' (?P<within>in|not in) (?P<list>[a-z_]+)"
)
_WORDS = frozenset({"in", "not", "and", "or"})


@dataclass(frozen=True)
class Size:
    """`[factor *] key [or fallback] [/ divisor] [- minus]` over config keys; the division must leave no rest.

    Attributes:
        factor: multiplies all but `minus`.
        key: the config key.
        fallback: the key that counts where `key` is not above zero.
        divisor: a key.
        minus: a whole number or a key.
    """

    factor: int
    key: str
    fallback: str | None
    divisor: str | None
    minus: int | str

    @classmethod
    def parse(cls, path: Path, text: str) -> Size:
        """Read a size; BadTable names the file."""
        found = _SIZE.fullmatch(text)
        if not found or _WORDS & {found["key"], found["fallback"], found["divisor"], found["minus"]}:
            raise BadTable(
                f"{text!r} is not a size.",
                hint="Write `[2 *] key [/ key] [- 1]` or `[2 *] (key or key) [- key]`.",
                file=str(path),
            )
        minus = found["minus"] or int(found["number"] or 0)
        return cls(int(found["factor"] or 1), found["key"], found["fallback"], found["divisor"], minus)

    @property
    def is_key(self) -> bool:
        """It is one config key and nothing else, so a shape tells its value."""
        return (self.factor, self.fallback, self.divisor, self.minus) == (1, None, None, 0)

    @property
    def keys(self) -> tuple[str, ...]:
        """The config keys that give it."""
        return tuple(key for key in (self.key, self.fallback, self.divisor, self.minus) if isinstance(key, str))

    def value(self, config: Mapping[str, Any]) -> int:
        """Its value under a config; divisions leave no rest. DamagedCheckpoint where the config lacks a key."""
        if lacking := [key for key in self.keys if key not in config]:
            raise DamagedCheckpoint(
                f"the config has no {lacking[0]}.", hint="Add the key with the value that the model was made with."
            )
        own = config[self.key]
        if self.fallback is not None and (own is None or own <= 0):
            own = config[self.fallback]
        number: int = self.factor * own
        if self.divisor:
            number //= config[self.divisor]
        return number - (config[self.minus] if isinstance(self.minus, str) else self.minus)


@dataclass(frozen=True)
class Condition:
    """`key`, `not key`, `key == value`, `key != value`, `'x' in key` or `'x' not in key`.

    Attributes:
        key: the config key.
        operator: "==", "!=", "in", "not in", "not", or "" for a key alone.
        literal: the value that it is compared with.
        other: the key that it is compared with instead.
        text: the condition as the table has it.
    """

    key: str
    operator: str
    literal: str | int | None
    other: str | None
    text: str

    @classmethod
    def parse(cls, path: Path, text: str) -> Condition:
        """Read a condition; BadTable names the file."""
        found = _CONDITION.fullmatch(text)
        key = found and (found["key"] or found["one"] or found["list"])
        if not found or not key or _WORDS & {key, found["other"]}:
            raise BadTable(
                f"{text!r} is not a condition.",
                hint="Write `key`, `not key`, `key != 'value'` or `'value' in key`, joined by `and`.",
                file=str(path),
            )
        literal = found["member"] or found["text"] if found["number"] is None else int(found["number"])
        operator = found["operator"] or found["within"] or (found["not"] or "").strip()
        return cls(key, operator, literal, found["other"], text)

    @classmethod
    def parse_all(cls, path: Path, text: str) -> tuple[Condition, ...]:
        """Read conditions that are joined by `and`; none where the text is empty."""
        return tuple(cls.parse(path, part) for part in text.split(" and ")) if text else ()

    def fulfilled(self) -> dict[str, Any]:
        """A config under which it holds; one that compares two keys is left alone."""
        if self.other:
            return {}
        made = {"": True, "not": False, "==": self.literal, "!=": f"not {self.literal}", "in": [self.literal]}
        return {self.key: made.get(self.operator, [])}

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether it holds under a config."""
        value = config.get(self.key)
        if self.operator in ("in", "not in"):
            return (self.literal in _members(value)) == (self.operator == "in")
        if self.operator in ("", "not"):
            return bool(value) != (self.operator == "not")
        expected = config.get(self.other) if self.other else self.literal
        return (value == expected) == (self.operator == "==")


Conditions = tuple[Condition, ...]
"""Conditions that must all hold; none always do."""


def fulfilled(conditions: Conditions, config: dict[str, Any]) -> dict[str, Any]:
    """A config with keys added under which the conditions hold as well; lists are joined."""
    for condition in conditions:
        for key, value in condition.fulfilled().items():
            known = config.get(key)
            config[key] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value
    return config


def _members(value: Any) -> list[Any]:
    """What a list has in it, or a text with `|` between its parts, as configs spell a list too."""
    if isinstance(value, str):
        return [part.strip() for part in value.lower().split("|")]
    return list(value) if isinstance(value, (list, tuple)) else []
