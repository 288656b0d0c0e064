"""Whether a file from the Hub is the one that the Hub means: its bytes against the digest that the Hub states.

huggingface_hub compares lengths only. The Hub states a digest of each file in two places, and neither costs a request:

- the answer that lists the repository has `lfs.sha256`, and for files outside of LFS `blobId`, which is git's sha1;
- the same digest is the ETag, and huggingface_hub names files by it: `snapshots/<commit>/<file>` is a link to
  `blobs/<ETag>`.

With the network the first one counts: it says which file belongs to this commit, and does not come from the server
that sent the bytes. Without the network there is the second one: it tells a damaged file from a sound one, but not
one that somebody put there under its right name.

Every run hashes what it uses, at 1 to 2 GB/s: a bit that flipped on the disk changes no length and no time, so nothing
cheaper would know it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from bertconv.containers.stored import SourceFile
from bertconv.errors import HubError
from bertconv.source.checkpoint_folder import open_in

_SHA1 = 40  # hexadecimal digits
_DIGEST = re.compile(rf"[0-9a-f]{{{_SHA1}}}|[0-9a-f]{{64}}")


def check(folder: Path, name: str, stated: str) -> None:
    """Refuse a file of the Hub cache whose bytes are not those of its digest.

    Args:
        folder: folder of a commit in the cache, or one inside it.
        name: the file, relative to it.
        stated: sha256, or git's sha1, as the Hub lists it; when that is no digest, the name of the file's blob counts.

    Raises:
        HubError: the bytes are others, or there is no digest to compare with.
        UnsafeCheckpoint, DamagedCheckpoint: it is no regular file, or cannot be read.
    """
    path = folder / name
    file = open_in(folder, name)
    try:
        blob = path.readlink().name if path.is_symlink() else ""
        wanted = next((digest for digest in (stated, blob) if _DIGEST.fullmatch(digest)), None)
        if wanted is None:
            raise _unknown(folder, path)
        found = _digest(file, wanted)
    finally:
        file.close()
    if found != wanted:
        # A damaged blob has to go, or it would be linked again; a link to the blob of another file goes itself.
        raise _differs(path, path if blob != wanted else path.resolve(), wanted, found)


def check_blob(folder: Path, name: str) -> None:
    """`check` by the name of the file's blob alone; nothing where that is no digest. Raises as `check`."""
    if _DIGEST.fullmatch((folder / name).readlink().name):
        check(folder, name, "")


def _digest(file: SourceFile, like: str) -> str:
    """The digest of a file's bytes, of the same kind as `like`."""
    digest = hashlib.sha256()
    if len(like) == _SHA1:
        # What `git hash-object` does: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        digest = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
    for piece in file.pieces(0, file.size):
        digest.update(piece)
    file.check_unchanged()
    return digest.hexdigest()


def _unknown(folder: Path, path: Path) -> HubError:
    return HubError(
        "cannot be checked: the Hub states no digest for it, and the cache does not keep it under the name of one.",
        hint=f"Use the network; or, if you trust what is there, give the folder itself: {folder}",
        file=str(path),
    )


def _differs(path: Path, culprit: Path, wanted: str, found: str) -> HubError:
    kind = "git's sha1" if len(wanted) == _SHA1 else "sha256"
    return HubError(
        f"is not the file that the Hub has: its {kind} is {found}, not {wanted}.",
        hint=f"Delete {culprit} and download it again.",
        file=str(path),
    )
