"""Tensor bundles, TensorFlow's own checkpoints: `PREFIX.index` and `PREFIX.data-00000-of-00001`.

The index, a sorted table with checksums, says which tensor lies where in the other files; these hold nothing but the
tensors. Checkpoints of TensorFlow 1 have the variables' names as keys. Those of TensorFlow 2, SavedModels among them,
have a graph of objects too, in which the variables' own names stand.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from bertconv.containers.container import Spread, SpreadContainer
from bertconv.containers.stored import SourceFile

_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_SAVED_MODEL = "saved_model.pb"
_SAVED_AT = re.compile(r"((?:saved_model/\d{1,18}/)?)variables/variables")
"""Where the variables of a SavedModel lie in its folder, and in that of a model that has it as transformers saves it."""
_MOST = "9" * 19
_NUMBER = re.compile(r"\d+")


class Bundle(SpreadContainer):
    """What `tf.compat.v1.train.Saver` and `tf.train.Checkpoint` write."""

    name = "bundle"
    title = "TensorFlow checkpoint"
    kind = "a TensorFlow checkpoint"
    stem = "bert_model.ckpt"
    suffixes = (".index",)

    def among(self, names: Collection[str], variant: str | None) -> list[str]:
        """The indexes whose files are there: its own name first, then the highest numbers; that of a SavedModel."""
        if variant is not None:
            return []
        prefixes = {found[1] for name in names if (found := _DATA.fullmatch(name))}
        here = [one for one in prefixes if "/" not in one and not one.startswith(".")]
        here.sort(key=lambda one: (one != self.stem, [-int(part) for part in reversed(_NUMBER.findall(one))], one))
        below = [one for one in prefixes if (found := _SAVED_AT.fullmatch(one)) and found[1] + _SAVED_MODEL in names]
        below.sort(key=lambda one: -int("".join(_NUMBER.findall(one)) or _MOST))
        return [one + self.suffix for one in (*here, *below) if one + self.suffix in names]

    def is_index(self, name: str) -> bool:
        """Whether a file of this name says what lies in the others."""
        return name.endswith(self.suffix)

    def read_index(self, file: SourceFile) -> Spread:
        """As `read_bundle`."""
        from bertconv.containers.bundle.reader import read_bundle  # which most conversions do not need

        return read_bundle(file, file.name.rpartition("/")[2].removesuffix(self.suffix))
