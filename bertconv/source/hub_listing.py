"""What a repository on the Hub holds at one commit: names, sizes and digests, from one answer of the Hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from huggingface_hub import HfApi, constants

from bertconv.errors import HubError
from bertconv.records import dataclass
from bertconv.source.hashed_file import HashedFile

_COMMIT = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True)
class Listing:
    """A repository at one commit.

    Attributes:
        commit: hash of the commit.
        digests: file -> sha256 of a file in LFS, git's sha1 of another, as the Hub states it; empty where it does not.
        sizes: file -> length in bytes, where the Hub states it.
        private: whether only some may read it.
    """

    commit: str
    digests: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)
    private: bool = False

    def has(self, file: HashedFile) -> bool:
        """Whether it has a file under its name, to the byte."""
        stated = self.digests.get(file.name, "")
        return stated == file.like(stated)


def list_repository(api: HfApi, repository: str, revision: str | None) -> Listing:
    """Ask the Hub; what huggingface_hub raises goes to the caller.

    Args:
        api: with the token.
        repository: its id.
        revision: branch, tag or commit; None is the default branch.

    Raises:
        HubError: the answer names no commit.
    """
    info = api.model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT, files_metadata=True)
    commit = info.sha or ""
    if not _COMMIT.fullmatch(commit):  # a folder of the cache is named after it
        raise HubError(f"{commit!r} is no commit.", hint="Check HF_ENDPOINT.", file=repository)
    files = list(info.siblings or ())
    # The sha1 of a file in LFS is that of the pointer to it.
    stated = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in files}
    return Listing(
        commit,
        {name: str(digest or "") for name, digest in stated.items()},
        {file.rfilename: file.size for file in files if isinstance(file.size, int)},
        private=bool(info.private),
    )
