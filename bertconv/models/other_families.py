"""A checkpoint of another family than the class that is to load it: refused with both facts, and with what to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bertconv.config import Config
from bertconv.containers.stored import StoredTensor
from bertconv.errors import BertconvError, UnsupportedCheckpoint
from bertconv.families import families
from bertconv.mapping.dialects import Dialects
from bertconv.mapping.identify import Identity, identify
from bertconv.mapping.recognise import refuse_contradiction
from bertconv.mapping.table import Table
from bertconv.tasks import BASE


def read_config(keys: Mapping[str, Any], file: str, config_class: type[Config], head: str | None) -> Config:
    """A checkpoint's own config, as `Config.from_dict`; the refusal of another family's names the class for it.

    Args:
        keys: of the config.
        file: where they were read.
        config_class: of the class that is to load the checkpoint.
        head: what the table calls that class; None for a class of the user's own.
    """
    try:
        return config_class.from_dict(keys, file)
    except UnsupportedCheckpoint as error:
        own, there = config_class.own_family(), families().get(str(keys.get("model_type")))
        if there is not None and there.path != own.path:
            counterpart = there.head_for(own.tasks.get(head or "", BASE))
            named = f"TF{counterpart}, or " if counterpart else ""
            error.hint = f"Use {named}a TFAuto class, which takes the checkpoint's family."
        raise


def identified(tensors: Sequence[StoredTensor], table: Table, dialects: Dialects, config: Config) -> Identity:
    """What the names say; UnsupportedCheckpoint where they are those of another family than the config's."""
    try:
        return identify(tensors, table, dialects)
    except BertconvError:
        try:
            refuse_contradiction(tensors, config.family, config.path)
        except UnsupportedCheckpoint as error:
            error.hint = "Give the config that belongs to the checkpoint with config=."
            raise error from None
        raise
