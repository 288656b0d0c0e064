"""tf_model.h5: the HDF5 layout of Keras 2 `save_weights`, as transformers' TensorFlow classes wrote it.

libhdf5 handles metadata only, and is trusted with nothing: to read, it runs in a process that can open no file
(`process`, `child`, `sandbox`), walks the tree there (`walk`) and says where each dataset's bytes lie, which `reader`
checks; to write, it fills a file in memory (`layout`). Weights are read and written as plain ranges of the file.

Format: docs.hdfgroup.org, "HDF5 File Format Specification 3.0"; attributes: Keras 2, saving/hdf5_format.
"""

from __future__ import annotations

from bertconv.formats.hdf5.layout import Dataset, lay_out
from bertconv.formats.hdf5.reader import read_hdf5

__all__ = ["Dataset", "lay_out", "read_hdf5"]
