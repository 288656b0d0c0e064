"""Where a config is looked for: on this machine, or on the Hub by functions that `bertconv.config_hub` gives."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from bertconv.arguments import READING, settle, settle_token
from bertconv.config import content
from bertconv.errors import MissingPath, RequestError, check_path, check_text
from bertconv.records import dataclass


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
            hint="Import the class from the package itself, or take AutoConfig from there.",
        )
    return _hubs[0]


def place_of(arguments: dict[str, Any]) -> Place:
    """How to find a config, by the arguments of from_pretrained, which are taken out; keys of configs stay.

    Raises:
        RequestError: an argument that asks for what cannot be done.
    """
    settle(arguments, READING, "from_pretrained of a config")
    given = {key: arguments.pop(key) for key in Place.__dataclass_fields__ if key in arguments}
    given |= {"token": settle_token(arguments, given.get("token")), "subfolder": given.get("subfolder") or ""}
    return Place(**given)


def find(given: str | os.PathLike[str], place: Place) -> FoundKeys:
    """The keys of the config that a path or a Hub id means; a path that exists wins.

    Raises:
        MissingPath: nothing there.
        HubError: the Hub did not give it.
        DamagedCheckpoint: not JSON.
    """
    check_path(given, "the config's path")
    check_text(place.subfolder, "subfolder")
    try:
        file = content.config_file(Path(given, place.subfolder) if place.subfolder else given)
    except MissingPath:
        if not isinstance(given, str) or os.path.lexists(given) or not _hubs:
            raise
        return connected().fetch(given, place)
    return FoundKeys(content.read_json(file, content.MAX_BYTES), str(file))
