"""The frame of a file: all of its bytes that no tensor has. It is known before the file is made."""

from __future__ import annotations

import os
from pathlib import Path

from bertconv.containers.container import FileLayout
from bertconv.formats.ranges import pwrite


def create(path: Path, layout: FileLayout) -> None:
    """Create a file of its full length, with holes where the tensors go.

    Args:
        path: of the file; its folder is made where it lacks.
        layout: of the file.

    Raises:
        OSError: it exists, or cannot be created or written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb", buffering=0) as file:
        for start, part in sorted(layout.parts.items()):
            pwrite(file.fileno(), memoryview(part), start)
        os.ftruncate(file.fileno(), layout.size)  # which is repeated after a signal; the file object's is not
