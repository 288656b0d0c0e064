"""Tensor bundles, TensorFlow's own checkpoints: `PREFIX.index` and `PREFIX.data-00000-of-00001`.

The index, a sorted table with checksums, says which tensor lies where in the other files; these hold nothing but the
tensors. Checkpoints of TensorFlow 1 have the variables' names as keys. Those of TensorFlow 2, SavedModels among them,
have a graph of objects too, in which the variables' own names stand.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing

from bertconv.containers.container import Entry, FileLayout, FileOptions, Opener, PlannedFile, Spread, SpreadContainer
from bertconv.containers.stored import ITEM_SIZE, Header, SourceFile
from bertconv.errors import DamagedCheckpoint, MappingError

_DATA = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_SAVED_MODEL = "saved_model.pb"
_LIST = "checkpoint"
_SAVED_AT = re.compile(r"((?:saved_model/\d{1,18}/)?)variables/variables")
"""Where the variables of a SavedModel lie in its folder, and in that of a model that transformers saved it with."""
_MOST = "9" * 19
_NUMBER = re.compile(r"\d+")


class Bundle(SpreadContainer):
    """What `tf.compat.v1.train.Saver` and `tf.train.Checkpoint` write; written as the former, names as keys."""

    name = "bundle"
    title = "TensorFlow's checkpoints"
    kind = "a TensorFlow checkpoint"
    stem = "bert_model.ckpt"
    suffixes = (".index",)
    dtypes = tuple(ITEM_SIZE)
    dtypes_in_words = "the element types of TensorFlow"
    keeps_record = True
    _objects = False

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

    def index_of(self, name: str) -> str | None:
        """The index beside a file of tensors; None for other files."""
        found = _DATA.fullmatch(name)
        return found[1] + self.suffix if found else None

    def file_names(self, shards: int) -> list[str]:
        """Names of the files of tensors, as TensorFlow counts them."""
        return [f"{self.stem}.data-{number:05}-of-{shards:05}" for number in range(shards)]

    @property
    def index_name(self) -> str:
        """Name of the index, which there always is."""
        return self.file_name

    def names_of(self, variant: str | None) -> tuple[str, str]:  # noqa: ARG002  (there are none)
        """The index, and the one file of tensors that most checkpoints have."""
        return self.index_name, self.file_names(1)[0]

    def divide(self, entries: Sequence[Entry], limit: int) -> list[tuple[str, list[int]]]:
        """As for every container, of tensors in the order of their keys."""
        order = sorted(range(len(entries)), key=lambda number: entries[number].name.encode())
        divided = super().divide([entries[number] for number in order], limit)
        return [(name, [order[place] for place in places]) for name, places in divided]

    def lay_out(self, entries: Sequence[Entry], options: FileOptions) -> FileLayout:
        """The tensors one after the other."""
        from bertconv.containers.bundle.writer import lay_out

        return lay_out(entries, options, objects=self._objects)

    def index(self, opened: Opener, files: Sequence[PlannedFile], scope: str) -> tuple[str, bytes]:  # noqa: ARG002
        """The index, with a checksum of each tensor as it lies on the disk."""
        from bertconv.containers.bundle.writer import index_bytes

        return self.index_name, index_bytes(opened, files, objects=self._objects)

    def beside(self) -> Mapping[str, bytes]:
        """TensorFlow's list of the checkpoints in a folder, by which it finds the newest."""
        return {_LIST: f'model_checkpoint_path: "{self.stem}"\nall_model_checkpoint_paths: "{self.stem}"\n'.encode()}

    def confirm(self, header: Header) -> None:
        """Names, types, shapes and places as the index has them, which is read from the disk for it."""
        from bertconv.containers.bundle.reader import read_bundle
        from bertconv.containers.bundle.writer import key_of

        for file in header.files:
            ours = {
                (key_of(one.name, objects=self._objects), one.dtype, one.shape, one.offset)
                for one in header.tensors
                if one.file is file
            }
            try:
                with closing(file.beside(self.index_name)) as index:
                    there = read_bundle(index, self.stem).places(file.name)
            except DamagedCheckpoint as error:
                if isinstance(error.__cause__, OSError):  # the disk does not give it: no word about what it holds
                    raise
                raise _not_confirmed(file, f"it {error.message}") from error
            if not ours <= there:
                raise _not_confirmed(file, "it has other names, types, shapes or places")

    def is_output(self, name: str) -> bool:
        """Whether an output has files of this name: the index, the files of tensors, or TensorFlow's list."""
        found = _DATA.fullmatch(name)
        return name in {self.index_name, _LIST} or (found is not None and found[1] == self.stem)


class ObjectBundle(Bundle):
    """As `tf.train.Checkpoint` writes them: names are paths to objects, and a graph says so."""

    name = "object-bundle"
    title = "TensorFlow 2's checkpoints"
    _objects = True

    def among(self, names: Collection[str], variant: str | None) -> list[str]:  # noqa: ARG002
        """None: both kinds are found and read as one."""
        return []


def _not_confirmed(file: SourceFile, problem: str) -> MappingError:
    return MappingError(
        f"was written, but its index says something else: {problem}; the output was not kept.",
        hint="Check disk and memory, and run the conversion again.", file=file.name,
    )  # fmt: skip
