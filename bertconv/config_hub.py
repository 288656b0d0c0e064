"""The way of configs to the Hub: looked up and uploaded as models are, of which a config alone has neither files.

It is no part of `bertconv.source`, which takes half the time again to import that the configs take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertconv.config import *  # noqa: F403  (whoever imports a class from here, as `bertconv` does, has the way too)
from bertconv.config import content, places
from bertconv.config.auto import AutoConfig  # noqa: F401
from bertconv.text import is_url

if TYPE_CHECKING:
    from bertconv.source import SourceOptions
    from bertconv.source.checkpoint_folder import CheckpointFolder


class _Hub:
    """`config.places.Hub`, by the parts of the package that models use; they are imported where they are needed."""

    def fetch(self, given: str, place: places.Place) -> places.FoundKeys:
        from bertconv.source import SourceOptions
        from bertconv.source.local import hub_id

        options = SourceOptions(
            revision=place.revision, token=place.token, local_files_only=place.local_files_only, cache_if_down=True,
            cache_dir=place.cache_dir, force_download=place.force_download, subfolder=place.subfolder,
        )  # fmt: skip
        if is_url(given):
            from bertconv.source.remote.address import open_address

            there = open_address(given, options).folder
            return _keys_in(there.within(options.subfolder) if options.subfolder else there, options)
        from bertconv.source.hub import open_repository

        repository, revision = hub_id(given, options)
        checkpoint = open_repository(repository, replace(options, revision=revision))
        found = _keys_in(checkpoint, options)
        checkpoint.remember(Path(found.file))
        return found

    def push(self, text: bytes, repository: str, options: Mapping[str, Any]) -> str:
        import tempfile

        from bertconv.source.hub_upload import UploadTarget, upload_folder

        with tempfile.TemporaryDirectory() as temp:
            folder = Path(temp)
            content.write_config(folder / content.CONFIG_FILES[0], text)
            return upload_folder(
                folder, UploadTarget(repository, token=options.get("token")),
                message=options.get("commit_message") or "Upload config with bertconv",
                description=options.get("commit_description") or "", private=options.get("private"),
                create_pr=bool(options.get("create_pr")),
            )  # fmt: skip


def _keys_in(checkpoint: CheckpointFolder, options: SourceOptions) -> places.FoundKeys:
    """The keys of the config of a folder that was looked up; the folder's own error where it has none."""
    from bertconv.source.config_file import find_config

    found = find_config(checkpoint, options)
    if found is None:
        raise checkpoint.missing("has no config.json.", "Choose a folder or a repository that holds one.")
    return places.FoundKeys(content.json_object(found.stored, found.path, content.MAX_BYTES), str(found.path))


HUB = _Hub()
"""The one way: it is there for every config as soon as this module was imported, as models and `bertconv` do."""

places.connect(HUB)
