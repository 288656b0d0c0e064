"""The two small grammars inside a table: sizes (`hidden_size / num_attention_heads`) and conditions (`key != 'x'`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertconv.errors import BadTable

_SIZE = re.compile(r"(?:(\d+) \* )?([a-z_]+)(?: / ([a-z_]+))?(?: - (\d+))?")
_CONDITION = re.compile(r"([a-z_]+)(?: (==|!=) (?:'([^']*)'|(\d+)|([a-z_]+)))?")


@dataclass(frozen=True)
class Size:
    """`[factor *] key [/ divisor] [- minus]` over config keys; the division must leave no rest."""

    factor: int
    key: str
    divisor: str | None
    minus: int

    @classmethod
    def parse(cls, path: Path, text: str) -> Size:
        """Read a size; BadTable names the file."""
        found = _SIZE.fullmatch(text)
        if not found:
            raise BadTable(f"{text!r} is not a size.", hint="Write `[2 *] key [/ key] [- 1]`.", file=str(path))
        return cls(int(found[1] or 1), found[2], found[3], int(found[4] or 0))

    @property
    def is_key(self) -> bool:
        """It is one config key and nothing else, so a shape tells its value."""
        return (self.factor, self.divisor, self.minus) == (1, None, 0)

    def value(self, config: Mapping[str, Any]) -> int:
        """Its value under a config that has been checked: every key is there, and divisions leave no rest."""
        number: int = self.factor * config[self.key]
        if self.divisor:
            number //= config[self.divisor]
        return number - self.minus


@dataclass(frozen=True)
class Condition:
    """`key`, `key == value` or `key != value`; an empty one always holds."""

    key: str
    negated: bool
    literal: str | int | None
    other: str | None
    text: str = ""

    @classmethod
    def parse(cls, path: Path, text: str) -> Condition:
        """Read a condition; BadTable names the file."""
        if not text:
            return cls("", negated=False, literal=None, other=None)
        found = _CONDITION.fullmatch(text)
        if not found:
            raise BadTable(f"{text!r} is not a condition.", hint="Write `key` or `key != 'value'`.", file=str(path))
        literal = found[3] if found[4] is None else int(found[4])
        return cls(found[1], negated=found[2] == "!=", literal=literal, other=found[5], text=text)

    def fulfilled(self) -> dict[str, Any]:
        """A config under which it holds; one that compares two keys is left alone."""
        if not self.key or self.other:
            return {}
        if self.literal is None:
            return {self.key: True}
        return {self.key: f"not {self.literal}" if self.negated else self.literal}

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether it holds under a config."""
        if not self.key:
            return True
        if self.literal is None and self.other is None:
            return bool(config.get(self.key))
        expected = config.get(self.other) if self.other else self.literal
        return (config.get(self.key) == expected) != self.negated
