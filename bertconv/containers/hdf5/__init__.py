"""tf_model.h5: the HDF5 layout of Keras 2 `save_weights`, as transformers' TensorFlow classes wrote it.

Files of the classic kind, which are those that Keras 2 and transformers wrote, are read in plain Python (`classic`,
with `pages`, `messages` and `symbols`), to the last byte: whatever that reader does not know exactly is left to
libhdf5. It is trusted with nothing: it runs in a process that can open no file (`process`, `child`, `sandbox`,
`library`), and says where each dataset's bytes lie. `walk` has the rules for both, which see a file as the same
`objects`, and `reader` checks the places that they find. Weights are read and written as plain ranges of the file.

Files are written without libhdf5: `keras` says which groups, names and attributes a file has, `layout` where they lie,
`encodings` what their bytes are. They are of the classic kind too (superblock 0, symbol tables, contiguous datasets),
which libhdf5 1.8 and all later ones read and change. All metadata come first, in one piece, then the datasets, each at
a multiple of eight bytes. h5py, asked for the same file, is the oracle of the tests (`tests/formats/h5py_layout.py`).
`constants` has the numbers that reader and writer share.

Format: docs.hdfgroup.org, "HDF5 File Format Specification 3.0"; attributes: Keras 2, saving/hdf5_format.
"""

from __future__ import annotations

from collections.abc import Sequence

from bertconv.containers.container import Container, Entry, FileLayout, FileOptions
from bertconv.containers.stored import FLOATS, Header, SourceFile

__all__ = ["KerasHdf5"]


class KerasHdf5(Container):
    """A file of Keras 2 `save_weights`, or one of transformers' shards."""

    name = "hdf5"
    title = "HDF5"
    kind = "HDF5"
    stem = "tf_model"
    suffixes = (".h5", ".hdf5")
    magic = (b"\x89HDF\r\n\x1a\n",)  # `constants.SIGNATURE`, without importing it for other containers
    dtypes = FLOATS
    dtypes_in_words = "floating-point numbers"
    scoped = True

    def read(self, file: SourceFile, *, check_data: bool) -> Header:  # noqa: ARG002  (checksums are not used)
        """As `read_hdf5`; a file of Keras 3 is told by what is in it, and is one of another container."""
        from bertconv.containers.hdf5.reader import read_hdf5  # most conversions read or write HDF5, not both
        from bertconv.containers.keras3.reader import as_keras3, is_keras3

        header = read_hdf5(file)
        return as_keras3(header, file.name) if is_keras3(header.tensors) else header

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:
        """As Keras 2 does for a file on its own, and transformers for a shard."""
        from bertconv.containers.hdf5.keras import keras_file, keras_shard

        return keras_shard(entries) if options.is_shard else keras_file(entries, options.scope)
