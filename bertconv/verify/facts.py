"""What is said of one side of a comparison."""

from __future__ import annotations

from bertconv.checkpoint import Checkpoint
from bertconv.text import printable
from bertconv.verify.parity import SideFacts


def side_facts(side: Checkpoint, digest: str = "") -> SideFacts:
    """An opened checkpoint as plain data, with the digest of its weights where that is known."""
    files = (*side.header.files, *(module.file for module in side.modules))
    return SideFacts(
        given=printable(side.source.given), revision=side.source.revision, container=side.header.container,
        dialect=side.dialect, framework="", head=side.head,
        files={printable(file.name): file.size for file in files}, dtypes=side.dtypes, digest=digest,
    )  # fmt: skip
