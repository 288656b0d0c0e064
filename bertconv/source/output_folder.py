"""The folder of an output, here or elsewhere, for those that look at its files by their names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bertconv.errors import check_path
from bertconv.source.checkpoint_folder import SourceOptions
from bertconv.text import is_url


@contextmanager
def local_folder(given: str | os.PathLike[str]) -> Iterator[Path]:
    """The folder whose files `open_in` opens, for a path or an address; of an address it stands for the one elsewhere.

    Raises:
        RequestError: an address that is not read.
        HubError: there is nothing at an address, or a store does not give it.
    """
    check_path(given, "the folder")
    if not is_url(given):
        yield Path(given)
        return
    from bertconv.source.remote.address import open_address

    remote = open_address(os.fspath(given), SourceOptions()).folder
    yield remote.folder
