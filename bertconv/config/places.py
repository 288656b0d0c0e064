"""Where a config is looked for: on this machine, or on the Hub by functions that `bertconv.config_hub` gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bertconv.config import content
from bertconv.errors import MissingPath, RequestError
from bertconv.records import dataclass

WITHOUT_MEANING: Mapping[str, str] = {
    "proxies": "Set HTTPS_PROXY in the environment.",
    "mirror": "Set HF_ENDPOINT in the environment.",
    "trust_remote_code": "Leave it out: no code of a checkpoint is ever run.",
    "gguf_file": "Convert the model to another format first.",
    "_configuration_file": "Give the path of that file.",
}
"""Arguments of transformers' classes that mean nothing here: None and False are taken, and what else to do instead."""

_IGNORED = ("resume_download", "code_revision", "_from_auto", "_from_pipeline", "_commit_hash", "attn_implementation")
"""Arguments that change nothing about a config, whatever their value."""


class FoundKeys(NamedTuple):
    """The keys of a config, unchecked, and the file that they were read from."""

    keys: dict[str, Any]
    file: str


@dataclass(frozen=True)
class Place:
    """How a config is found; as for `bertconv.source.SourceOptions`."""

    cache_dir: str | os.PathLike[str] | None = None
    force_download: bool = False
    local_files_only: bool = False
    token: str | bool | None = field(default=None, repr=False)
    revision: str | None = None
    subfolder: str = ""


class Hub(Protocol):
    """What the classes of configs need of the Hub, which is reached from parts of the package above them."""

    def fetch(self, given: str, place: Place) -> FoundKeys:
        """The keys of the config that a Hub id or an address means."""

    def push(self, text: bytes, repository: str, options: Mapping[str, Any]) -> str:
        """Upload config.json; the address of the commit."""


_hubs: list[Hub] = []


def connect(hub: Hub) -> None:
    """Give the configs their way to the Hub."""
    _hubs[:] = [hub]


def connected() -> Hub:
    """The way to the Hub; RequestError where `bertconv.config` alone was imported, which has none."""
    if not _hubs:
        raise RequestError(
            "the classes of bertconv.config do not reach the Hub by themselves.",
            hint="Import the class from bertconv itself: `from bertconv import ...`.",
        )
    return _hubs[0]


def place_of(arguments: dict[str, Any]) -> Place:
    """How to find a config, by the arguments of from_pretrained, which are taken out; keys of configs stay.

    Raises:
        RequestError: an argument that has no meaning here.
    """
    for key, advice in WITHOUT_MEANING.items():
        if arguments.pop(key, None):
            raise RequestError(f"from_pretrained of a config does not take {key}.", hint=advice)
    for key in _IGNORED:
        arguments.pop(key, None)
    old = arguments.pop("use_auth_token", None)
    given = {key: arguments.pop(key) for key in Place.__dataclass_fields__ if key in arguments}
    if old is not None:
        given["token"] = old if given.get("token") is None else given["token"]
    return Place(**given | {"subfolder": given.get("subfolder") or ""})


def find(given: str | os.PathLike[str], place: Place) -> FoundKeys:
    """The keys of the config that a path or a Hub id means; a path that exists wins.

    Raises:
        MissingPath: nothing there.
        HubError: the Hub did not give it.
        DamagedCheckpoint: not JSON.
    """
    try:
        file = content.config_file(Path(given, place.subfolder) if place.subfolder else given)
    except MissingPath:
        if not isinstance(given, str) or os.path.lexists(given) or not _hubs:
            raise
        return connected().fetch(given, place)
    return FoundKeys(content.read_json(file, content.MAX_BYTES), str(file))
