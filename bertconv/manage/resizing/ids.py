"""Ids of tokens that stand in config.json and generation_config.json: they follow their tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from bertconv.config import Config, content
from bertconv.errors import MappingError
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.source import Source
from bertconv.tasks import CAUSAL_LM
from bertconv.text import listed, shown
from bertconv.tokenizer.files import MAX_ID

GENERATION = "generation_config.json"
PADDING = "pad_token_id"
COUNTED = "from_ids"
"""Of a table's `positions`: they are counted behind the padding's id."""
_ENDS = ("_token_id", "_token_ids")


@dataclass(frozen=True)
class Ids:
    """What becomes of ids.

    Attributes:
        old: token -> id, as the ids in the files were meant.
        new: token -> id, as they are to be.
    """

    old: Mapping[str, int]
    new: Mapping[str, int]

    def changed_config(self, config: Config, table: Table, head: str) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Keys of a config with their new values, and what is to be said about them.

        Args:
            config: the old one.
            table: the architecture.
            head: the model class.

        Raises:
            MappingError: the model computes with a token that the new tokenizer lacks, or whose id must not move.
        """
        self._check_counted(config, table)
        decodes = bool(config.values["is_decoder"]) or table.tasks[head] == CAUSAL_LM
        keys = {key: config.values[key] for key in config.values if key.endswith(_ENDS)}
        changes, notes, lost = {}, [], []
        for key, old in keys.items():
            new = self._of_value(old)
            if new == old:
                continue
            if new is None and (key == PADDING or decodes):
                lost.append(f"{key} is {self._named(old)}")
                continue
            if new is None and config.says(key):
                notes.append(f"{key} of the config was {self._named(old)}, which the tokenizer lacks: it is null now")
            changes[key] = new
        if lost:
            raise MappingError(
                f"the tokenizer lacks tokens that the config names: {listed(lost, 'and')}.",
                hint="Add them to the tokenizer, under the same text.",
            )
        return changes, tuple(notes)

    def generation(self, source: Source) -> bytes | None:
        """generation_config.json with the new ids; None where it stays as it is, or is not there.

        Raises:
            DamagedCheckpoint: it is not sound JSON.
        """
        if GENERATION not in source.sidecars:
            return None
        with closing(source.open(GENERATION)) as file:
            old = content.json_object(file.read_up_to(content.MAX_BYTES), file.path, content.MAX_BYTES)
        new = {key: self._of_value(value) if key.endswith(_ENDS) else value for key, value in old.items()}
        return None if new == old else content.json_text(new).encode()

    def _check_counted(self, config: Config, table: Table) -> None:
        """Positions that are counted from the padding's id are others when that id is another."""
        if table.positions != COUNTED:
            return
        padding = config.values.get("counted_padding", config.values[PADDING])
        now = self._of_value(padding)
        if now != padding:
            token, there = self._named(padding), "not in the tokenizer" if now is None else f"{now} in the tokenizer"
            raise MappingError(
                f"models of {table.family.title} count positions behind the id of {token}, which is {padding} in the "
                f"model and {there}: every token would get another position.",
                hint=f"Give {token} the id {padding} in the tokenizer.",
            )

    def _of_value(self, value: Any) -> Any:
        """An id, or a list of them, as it is now; None where the token is lost. Anything else is left alone."""
        if isinstance(value, list):
            moved = [self._of_value(one) for one in value]
            return [one for one, old in zip(moved, value, strict=True) if one is not None or old is None]
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < MAX_ID:
            return value
        tokens = self._tokens(value)
        if not tokens:
            return value  # it never was a token's
        return next((self.new[token] for token in tokens if token in self.new), None)

    def _tokens(self, number: int) -> list[str]:
        return [token for token, own in self.old.items() if own == number]

    def _named(self, value: Any) -> str:
        numbers = value if isinstance(value, list) else [value]
        return listed((shown(token) for one in numbers for token in self._tokens(one)[:1]), "and") or json.dumps(value)


def beyond(changes: Mapping[str, Any], config: Config, rows: int) -> Iterator[str]:
    """Ids in a config that have no row, one sentence each."""
    for key, value in {**config.values, **changes}.items():
        if key.endswith(_ENDS) and isinstance(value, int) and not isinstance(value, bool) and value >= rows:
            yield f"{key} of the config is {value}, which has no row"
