"""What a file has that Keras 3 loads: a dataset for each variable, and in each group of them the name of its layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bertconv.containers.container import Entry, FileLayout
from bertconv.containers.hdf5.constants import OPAQUE_DTYPE
from bertconv.containers.hdf5.keras import checked
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.walk import VARIABLES
from bertconv.containers.keras3.parts import part_of


def keras3_file(entries: Sequence[Entry]) -> FileLayout:
    """A file of variables by their paths, as Keras 3 reads it; a part's own file holds its names without the part.

    Raises:
        RequestError: a name that HDF5 cannot hold, too many of them, or two things of one name.
    """
    datasets = [
        Dataset(entry.name.removeprefix(f"{part_of(entry.name)}/"), entry.dtype, entry.shape) for entry in entries
    ]
    opaque = [replace(one, opaque=True) if one.dtype == OPAQUE_DTYPE else one for one in datasets]
    layers = dict.fromkeys(one.path.rpartition("/")[0] for one in datasets)
    names = {path: {"name": path.split("/")[-2]} for path in layers if path.endswith(f"/{VARIABLES}")}
    return lay_out(checked(opaque), names)
