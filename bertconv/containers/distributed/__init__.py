"""Distributed checkpoints of PyTorch (`torch.distributed.checkpoint`): a folder of `.metadata` and `*.distcp`.

The files hold chunks of tensors, as many as there were processes; what lies where stands in `.metadata` alone. They are
read and never written.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from bertconv.containers.container import Spread, SpreadContainer
from bertconv.containers.stored import SourceFile


class Distributed(SpreadContainer):
    """What `torch.distributed.checkpoint.save` writes, since torch 2.0."""

    name = "dcp"
    title = "PyTorch distributed"
    kind = "a distributed checkpoint of PyTorch"
    stem = ""
    suffixes = (".distcp",)

    _FOLDER = re.compile(r"pytorch_model_fsdp_[0-9]+/|")
    _INDEX = ".metadata"

    def among(self, names: Collection[str], variant: str | None) -> list[str]:
        """Its index, in the folder or in the one into which accelerate puts it; a file `.metadata` alone is none."""
        places = {name.rpartition("/")[0] for name in names if name.endswith(self.suffix)}
        folders = sorted(f"{place}/" if place else "" for place in places)
        found = [folder + self._INDEX for folder in folders if self._FOLDER.fullmatch(folder)]
        return [name for name in found if name in names and variant is None]

    def is_index(self, name: str) -> bool:
        """Whether a file of this name says what lies in the others."""
        return name.rpartition("/")[2] == self._INDEX

    def read_index(self, file: SourceFile) -> Spread:
        """As `read_metadata`."""
        from bertconv.containers.distributed.metadata import read_metadata  # which most conversions do not need
        from bertconv.containers.distributed.reader import SpreadCheckpoint

        return SpreadCheckpoint(read_metadata(file))
