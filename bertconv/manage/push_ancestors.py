"""What an output was made from, and whether that is what a branch of the Hub holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertconv.errors import DamagedCheckpoint
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.manifest import parents_of, read_manifest
from bertconv.records import dataclass

if TYPE_CHECKING:
    from bertconv.source.hub_listing import Listing
    from bertconv.source.hub_upload import UploadTarget


@dataclass(frozen=True)
class Ancestors:
    """The model of an output and those that it was made from.

    Attributes:
        digests: of the models, its own among them.
        commits: repository -> commits of it that were read.
    """

    digests: frozenset[str]
    commits: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, manifest: Mapping[str, Any]) -> Ancestors:
        """What a manifest has on record."""
        digests, commits = {manifest["digest"]}, dict[str, set[str]]()
        for one in parents_of(manifest):
            digests.add(one.digest)
            if one.commit:
                commits.setdefault(one.given.partition("@")[0], set()).add(one.commit)
        return cls(frozenset(digests - {""}), {name: frozenset(found) for name, found in commits.items()})

    def include(self, target: UploadTarget, head: Listing, weights: Sequence[str]) -> bool:
        """Whether weights at the head of a branch are among what the output was made from.

        They are where one of the commits that were read has the same, or where the manifest beside them has a digest
        that is on record and is not older than they are.

        Args:
            target: the branch.
            head: its head.
            weights: files of weights there.

        Raises:
            HubError: the Hub does not answer.
        """
        for commit in self.commits.get(target.repository, ()):
            there = head if commit == head.commit else target.find(commit)
            if there is not None and all(
                there.digests.get(name) and there.digests[name] == head.digests[name] for name in weights
            ):
                return True
        if not 0 < head.sizes.get(MANIFEST, 0) <= MANIFEST_BYTES or not _is_newest(target, head, weights):
            return False
        return _digest_at(target, head) in self.digests


def _is_newest(target: UploadTarget, head: Listing, weights: Sequence[str]) -> bool:
    """Whether the manifest there was written with the weights or after them; else it is about others."""
    changes = target.newest_change([MANIFEST, *weights], head.commit)
    if not {MANIFEST, *weights} <= changes.keys():
        return False
    commit, time = changes[MANIFEST]
    return all(changes[name][0] == commit or changes[name][1] < time for name in weights)


def _digest_at(target: UploadTarget, head: Listing) -> str:
    """The digest in the manifest at a commit, whose bytes are held to the Hub's own digest; "" where it is none."""
    from bertconv.source.checkpoint_folder import SourceOptions
    from bertconv.source.hub import open_repository

    folder = open_repository(target.repository, SourceOptions(revision=head.commit, token=target.token))
    folder.need([MANIFEST])
    try:
        found: str = read_manifest(folder.folder)["digest"]
    except DamagedCheckpoint:  # somebody's file of that name; then nothing is known of the weights
        return ""
    return found
