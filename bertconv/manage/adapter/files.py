"""The folder of an adapter, as peft's `save_pretrained` leaves it: a config and one file of weights."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bertconv.config.content import MAX_BYTES, json_object
from bertconv.containers.registry import read_header
from bertconv.containers.stored import FLOATS, Header, SourceFile
from bertconv.errors import RequestError, UnsupportedCheckpoint, check_path
from bertconv.manage.adapter.settings import Lora, settings_of
from bertconv.records import dataclass
from bertconv.source import SourceOptions
from bertconv.source.checkpoint_folder import CheckpointFolder, open_in
from bertconv.source.folder import LocalFolder
from bertconv.source.local import hub_id
from bertconv.text import is_url, public

CONFIG = "adapter_config.json"
WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
"""The first that is there counts, as in peft."""


@dataclass(frozen=True)
class Adapter:
    """An adapter whose file is open.

    Attributes:
        given: what the user gave.
        commit: on the Hub; None for a local folder.
        lora: what it was set to.
        file: of its weights.
        header: what is in it.
        config: path of its config.
    """

    given: str
    commit: str | None
    lora: Lora
    file: SourceFile
    header: Header
    config: Path


@contextmanager
def opened_adapter(given: str | os.PathLike[str], options: SourceOptions, *, check_data: bool) -> Iterator[Adapter]:
    """Open an adapter, and close it in the end.

    Args:
        given: a folder, or a Hub id with or without `@revision`.
        options: how to reach the Hub.
        check_data: check the checksums that a container carries.

    Raises:
        RequestError: it is no adapter, or not there.
        UnsupportedCheckpoint: an adapter of another kind than plain LoRA, or of other numbers than floating-point ones.
        BertconvError: its files cannot be read.
    """
    folder, commit = _folder(given, options)
    name = next((name for name in WEIGHTS if name in folder.names), None)
    if CONFIG not in folder.names or name is None:
        lacking = CONFIG if CONFIG not in folder.names else WEIGHTS[0]
        raise RequestError(
            f"holds no {lacking}, so it is no adapter.",
            hint="Give the folder that peft's save_pretrained wrote: bertconv merge-adapter BASE ADAPTER -o DST.",
            file=public(os.fspath(given)),
        )
    folder.need([CONFIG, name])
    with closing(open_in(folder.folder, CONFIG)) as file:
        keys = json_object(file.read_up_to(MAX_BYTES), file.path, MAX_BYTES)
        config = file.path
    with closing(open_in(folder.folder, name)) as file:
        header = read_header(file, check_data=check_data)
        for tensor in header.tensors:
            if tensor.dtype not in FLOATS:
                raise UnsupportedCheckpoint(
                    f"is {tensor.dtype}, not a floating-point type.",
                    hint="Save the adapter again without quantisation.",
                    file=str(file.path),
                    tensor=tensor.name,
                )
        yield Adapter(public(os.fspath(given)), commit, settings_of(keys, str(config)), file, header, config)


def _folder(given: str | os.PathLike[str], options: SourceOptions) -> tuple[CheckpointFolder, str | None]:
    check_path(given, "the adapter")
    if is_url(given):
        from bertconv.source.remote.address import open_address  # so do fsspec and what it needs

        there = open_address(os.fspath(given), replace(options, subfolder="", variant=None))
        return there.folder, there.commit
    path = Path(given)
    if os.path.lexists(path):
        if not path.is_dir():
            raise RequestError("is no folder.", hint=f"Give the folder with {CONFIG}.", file=str(path))
        return LocalFolder(path), None
    repository, revision = hub_id(given, options)
    from bertconv.source.hub import open_repository  # huggingface_hub takes long to import

    found = open_repository(repository, replace(options, revision=revision, subfolder="", variant=None))
    return found, found.commit
