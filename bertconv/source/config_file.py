"""Where the config of a checkpoint is: among its files, given by the caller, or inside the file of weights."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from bertconv.config import content
from bertconv.containers.registry import CONTAINERS
from bertconv.source import preset, sidecars
from bertconv.source.checkpoint_folder import CheckpointFolder, SourceOptions, open_in
from bertconv.source.folder import SAVED_MODELS, LocalFolder
from bertconv.source.refusals import SAVED_MODEL


class FoundConfig(NamedTuple):
    """A config that was found, its bytes as transformers would write it, and whether its folder is a preset."""

    path: Path
    stored: bytes
    is_preset: bool = False


def find_config(checkpoint: CheckpointFolder, options: SourceOptions) -> FoundConfig | None:
    """The config of a checkpoint; None where it has none. What the caller gives goes before its own.

    Raises:
        DamagedCheckpoint, UnsafeCheckpoint: it cannot be read.
        UnsupportedCheckpoint: a preset's, of a backbone that no table knows.
    """
    if (given := options.config_file) is not None:
        stored = content.stored_text(given, content.MAX_BYTES)
        return FoundConfig(given, preset.translated(None, given, stored))
    name = next((name for name in sidecars.CONFIGS if name in checkpoint.names), None)
    if name is None:
        around = _around_saved_model(checkpoint)
        return None if around is None else find_config(around, options)
    checkpoint.need([name])
    with closing(open_in(checkpoint.folder, name)) as file:
        stored = file.read_up_to(content.MAX_BYTES)
        is_preset = preset.is_preset(checkpoint, name, stored)
        return FoundConfig(file.path, preset.translated(checkpoint, file.path, stored), is_preset)


def _around_saved_model(checkpoint: CheckpointFolder) -> LocalFolder | None:
    """The folder of a model that has this SavedModel in `saved_model/1`, and the config, which a SavedModel has not."""
    if SAVED_MODEL not in checkpoint.names or not isinstance(checkpoint, LocalFolder):
        return None
    above = checkpoint.folder.absolute().parent
    return LocalFolder(above.parent) if above.name == SAVED_MODELS else None


def config_within(checkpoint: CheckpointFolder, name: str) -> FoundConfig | None:
    """The config in the file of weights itself, where its container has a place for one."""
    containers = [container for container in CONTAINERS if container.has_config(name)]
    if not containers:
        return None
    checkpoint.need([name])
    with closing(open_in(checkpoint.folder, name)) as file:
        found = next(filter(None, (container.config_in(file) for container in containers)), None)
        return None if found is None else FoundConfig(file.path, preset.translated(None, file.path, found))


def named_weights(config: FoundConfig) -> str | None:
    """The file of weights that a config names, where it names one."""
    named = content.json_object(config.stored, config.path, content.MAX_BYTES).get("transformers_weights")
    return named if isinstance(named, str) else None
