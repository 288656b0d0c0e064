"""tf_model.h5: the HDF5 layout of Keras 2 `save_weights`, as transformers' TensorFlow classes wrote it.

libhdf5 handles metadata only, and is trusted with nothing: to read, it runs in a process that can open no file
(`process`, `child`, `sandbox`), walks the tree there (`walk`) and says where each dataset's bytes lie, which `reader`
checks; to write, it fills a file in memory (`layout`, as `keras` orders it). Weights are read and written as plain
ranges of the file.

Format: docs.hdfgroup.org, "HDF5 File Format Specification 3.0"; attributes: Keras 2, saving/hdf5_format.
"""

from __future__ import annotations

from collections.abc import Sequence

from bertconv.containers.container import Container, Entry, FileLayout, Frame
from bertconv.containers.hdf5.keras import keras_file, keras_shard
from bertconv.containers.hdf5.layout import Dataset, lay_out
from bertconv.containers.hdf5.reader import read_hdf5
from bertconv.containers.stored import FLOATS, Header, SourceFile

__all__ = ["Dataset", "KerasHdf5", "lay_out", "read_hdf5"]


class KerasHdf5(Container):
    """A file of Keras 2 `save_weights`, or one of transformers' shards."""

    name = "hdf5"
    title = "HDF5"
    kind = "HDF5"
    stem = "tf_model"
    suffixes = (".h5", ".hdf5")
    magic = (b"\x89HDF\r\n\x1a\n",)
    dtypes = FLOATS
    dtypes_in_words = "floating-point numbers"
    scoped = True

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002  (checksums are not used)
        """As `read_hdf5`."""
        return read_hdf5(file)

    def lay_out(self, entries: Sequence[Entry], frame: Frame) -> FileLayout:
        """As Keras 2 does for a file on its own, and transformers for a shard."""
        return keras_shard(entries) if frame.is_shard else keras_file(entries, frame.scope)
