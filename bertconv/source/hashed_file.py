"""A file with the digests by which the Hub knows it."""

from __future__ import annotations

import hashlib
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.records import dataclass

_SHA1 = 40  # hexadecimal digits


@dataclass(frozen=True)
class HashedFile:
    """A file as it was when it was hashed.

    Attributes:
        name: in the repository, or in the output.
        path: here.
        size: in bytes.
        sha256: of its bytes, which the Hub states for files in LFS.
        git_sha1: git's own digest, which it states for the others.
    """

    name: str
    path: Path
    size: int
    sha256: str
    git_sha1: str

    @classmethod
    def of(cls, name: str, file: SourceFile) -> HashedFile:
        """Read and hash an open file.

        Raises:
            DamagedCheckpoint: it cannot be read, or is written to.
        """
        sha256 = hashlib.sha256()
        git_sha1 = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        for piece in file.pieces(0, file.size):
            sha256.update(piece)
            git_sha1.update(piece)
        file.check_unchanged()
        return cls(name, file.path, file.size, sha256.hexdigest(), git_sha1.hexdigest())

    def like(self, stated: str) -> str:
        """Its digest of the same kind as one that the Hub states."""
        return self.git_sha1 if len(stated) == _SHA1 else self.sha256
