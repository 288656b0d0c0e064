"""What is attacked: sound inputs, the reader, and another reader that must see the same in what it accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qa.fuzz.targets.common import Target

NAMES = ("safetensors", "pickle", "zip", "index", "config", "hdf5", "keras3", "bundle", "msgpack")


def build(name: str) -> Target:
    """The target of that name, its seeds made on the spot."""
    # imported here: the process that watches a campaign stays small
    from qa.fuzz.targets.bundle import bundle_indexes
    from qa.fuzz.targets.hdf5 import hdf5_files
    from qa.fuzz.targets.json_files import configs, indexes
    from qa.fuzz.targets.keras3 import keras3_files
    from qa.fuzz.targets.msgpack import msgpack_files
    from qa.fuzz.targets.pytorch import archives, pickles
    from qa.fuzz.targets.safetensors import safetensors_files

    makers = (
        safetensors_files,
        pickles,
        archives,
        indexes,
        configs,
        hdf5_files,
        keras3_files,
        bundle_indexes,
        msgpack_files,
    )
    return dict(zip(NAMES, makers, strict=True))[name]()
