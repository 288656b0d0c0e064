"""Where an output is to be, if it is no folder of the disk."""

from __future__ import annotations

from bertconv.records import dataclass
from bertconv.source.remote.urls import shown


@dataclass(frozen=True)
class RemotePlace:
    """A destination in an object store; a path would lose one of its slashes.

    Attributes:
        url: of the folder, without a slash at its end.
    """

    url: str

    def __str__(self) -> str:
        return shown(self.url)
