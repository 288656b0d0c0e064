"""The config file that programs of a dialect read, made of a config: its keys, no other, in its words."""

from __future__ import annotations

from bertconv.config import Config
from bertconv.config.content import json_text
from bertconv.families import ACTIVATION
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.meaning import word_for
from bertconv.mapping.table import Table


def own_config(table: Table, dialect: Dialect, config: Config) -> tuple[str, bytes] | None:
    """Name and content of it; None where a dialect's programs read none."""
    own = table.in_dialect(dialect).config
    if own is None:
        return None
    said = {key: config.values[key] for key in own.keys}
    if ACTIVATION in said and (word := word_for(table, dialect, said[ACTIVATION])):
        said[ACTIVATION] = word
    return own.name, json_text({**said, **own.fixed}).encode()
