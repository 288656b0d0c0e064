"""Folders that KerasHub keeps a model in: which of their files are the body, the head, the config and the tokenizer.

The body's weights and those of a task's head lie in two files, and both have names such as `layers/dense`; the
container keeps them apart.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Any

from bertconv import presets
from bertconv.config import content
from bertconv.source.checkpoint_folder import CheckpointFolder, open_in

CONFIG = "transformers_config.json"
"""Transformers' config in a preset that bertconv wrote: config.json is KerasHub's there."""
TASK, METADATA = "task.json", "metadata.json"
TOKENIZER = "tokenizer.json"
"""KerasHub's settings of its tokenizer, under a name that has another meaning elsewhere."""
FAST = "transformers_tokenizer.json"
"""Transformers' tokenizer.json in a preset that bertconv wrote."""
ASSETS = "assets/tokenizer"
OWN = frozenset({TASK, METADATA, TOKENIZER, "preprocessor.json"})
"""Files that only KerasHub reads."""


def is_preset(checkpoint: CheckpointFolder, config: str, stored: bytes) -> bool:
    """Whether a folder is a preset.

    Args:
        checkpoint: the folder.
        config: name of the config that was found.
        stored: its bytes.
    """
    if config == CONFIG:
        return True
    if presets.REGISTERED.encode() not in stored:
        return False
    return presets.is_preset(content.json_object(stored, checkpoint.folder / config, content.MAX_BYTES))


def translated(checkpoint: CheckpointFolder | None, path: Path, stored: bytes) -> bytes:
    """A config as transformers would write it, where it is a preset's; as it is where it is any other.

    Args:
        checkpoint: the folder whose task.json says which class it is; None where the config was given by itself.
        path: of the config.
        stored: its bytes.

    Raises:
        DamagedCheckpoint: no sound JSON.
        UnsupportedCheckpoint: a backbone that no table knows.
    """
    if presets.REGISTERED.encode() not in stored:
        return stored
    keys = content.json_object(stored, path, content.MAX_BYTES)
    if not presets.is_preset(keys):
        return stored
    task: dict[str, Any] = {}
    if checkpoint is not None and TASK in checkpoint.names:
        checkpoint.need([TASK])
        with closing(open_in(checkpoint.folder, TASK)) as file:
            task = content.json_object(file.read_up_to(content.MAX_BYTES), file.path, content.MAX_BYTES)
    return content.json_text(presets.translated(keys, task, str(path))).encode()


def renamed(names: Collection[str], config: bytes, path: Path) -> dict[str, str]:
    """Name that transformers gives a file of the tokenizer -> what a preset calls it, of those that are there.

    Args:
        names: files of the folder.
        config: of either spelling.
        path: where it was read from.
    """
    assets = presets.assets_of(content.json_object(config, path, content.MAX_BYTES))
    known = {TOKENIZER: FAST} | {name: f"{ASSETS}/{own}" for name, own in assets.items()}
    return {name: own for name, own in known.items() if own in names and (name not in names or name == TOKENIZER)}
