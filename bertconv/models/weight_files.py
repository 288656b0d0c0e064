"""load_weights and save_weights of files as transformers 4 wrote them, beside Keras's own."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import keras

from bertconv.config import Config
from bertconv.containers.hdf5 import KerasHdf5
from bertconv.containers.stored import Header
from bertconv.errors import MissingTensors, OutputError, RequestError, ShapeMismatch, check_path
from bertconv.mapping.meaning import in_own_words
from bertconv.mapping.plan import Plan
from bertconv.models import filling, loading
from bertconv.models.variables import Inventory
from bertconv.source import open_source
from bertconv.source.reading import open_header
from bertconv.source.weights import is_index, is_weights
from bertconv.text import listing

_KERAS = (".keras", ".weights.h5", ".weights.json")
"""How the names of Keras 3's own files end."""

_ONE_FILE = 1 << 62
"""Bytes that no model has."""


def load_weights(
    self: Any, filepath: str | os.PathLike[str], skip_mismatch: bool = False, *, by_name: bool = False, **kwargs: Any
) -> None:
    """Fill the model from a file of Keras, or from a checkpoint in any format that `from_pretrained` reads.

    Args:
        self: the model.
        filepath: Keras's `.weights.h5` or `.keras`; or `tf_model.h5`, `.safetensors`, `pytorch_model.bin`, the index of
            shards, or the folder that holds them.
        skip_mismatch: leave weights as they are that have another shape in the file, or are not in it.
        by_name: the same for weights that are not in it.
        kwargs: see Keras; for its own files.

    Raises:
        ShapeMismatch: the file's tensors have other shapes than the model's.
        MissingTensors: the file does not fill the model.
        BertconvError: the file cannot be read; see `bertconv.errors`.
    """
    check_path(filepath, "the file's name")
    path = Path(filepath)
    self.build_in_name_scope()
    if path.name.endswith(_KERAS) or (path.is_dir() and not _is_checkpoint(path)):
        keras.Model.load_weights(self, filepath, skip_mismatch=skip_mismatch, **kwargs)
        return
    if kwargs:
        raise RequestError(f"load_weights of {path.name} takes no {', '.join(kwargs)}.", hint="Leave it out.")
    request = _request(self, path, skip_mismatch=skip_mismatch)
    source = open_source(path, request.source)
    with closing(open_header(source, check_data=True)) as header, loading.paused_collection():
        own, plan = _planned(header, self.config, request)
        loading.check_stored_twice(plan)
        matches = filling.matched(own, plan, ignore_mismatched=skip_mismatch)
        if matches.info["missing_keys"] and not (skip_mismatch or by_name):
            raise MissingTensors(
                f"lacks weights of {type(self).__name__}:\n{listing(matches.info['missing_keys'])}",
                hint="Give by_name=True to leave these as they are, or load another file.", file=str(path),
            )  # fmt: skip
        filling.fill(matches, header)
    loading.warn_of(request, matches.info, "left as they were")


def save_weights(
    self: Any, filepath: str | os.PathLike[str], overwrite: bool = True, save_format: str | None = None, **kwargs: Any
) -> None:
    """As `keras.Model.save_weights` for a name that ends in `.weights.h5`; for another `.h5`, a file as 4.57 wrote it.

    That file is laid out as `tf_model.h5` is: `load_weights` reads it here and in transformers 4.

    Args:
        self: the model.
        filepath: where to write.
        overwrite: whether a file that is there may be replaced.
        save_format: None or "h5", which Keras 2 takes for names without a suffix too.
        kwargs: see Keras; for its own files.

    Raises:
        RequestError: a format that Keras 3 has no more; a file that is there and is to stay.
        OutputError: the file cannot be written.
    """
    check_path(filepath, "the file's name")
    path = Path(filepath)
    is_keras = path.name.endswith(_KERAS[1:])
    if save_format not in (None, "h5") or not (is_keras or save_format or path.name.endswith(KerasHdf5.suffixes)):
        raise RequestError(
            f"save_weights writes files called .weights.h5 or .h5, and not {path.name}.",
            hint="Give it such a name, or write a folder with save_pretrained.",
        )
    if is_keras:
        keras.Model.save_weights(self, filepath, overwrite=overwrite, **kwargs)
        return
    if kwargs:
        raise RequestError(f"save_weights of {path.name} takes no {', '.join(kwargs)}.", hint="Leave it out.")
    if not overwrite and os.path.exists(path):  # noqa: PTH110  (a Path raises where a name is too long)
        raise RequestError("is there already.", hint="Give another name, or overwrite=True.", file=str(path))
    try:
        _write(self, Path(os.path.realpath(path)))
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        hint = "Give the name of a file in a folder that can be written."
        raise OutputError(f"cannot be written: {error.strerror}.", hint=hint, file=str(path)) from error


def _write(model: Any, path: Path) -> None:
    """Write the file beside its place, and move it there; OSError where it cannot be. A link stays one."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".saving.") as temp:
        folder = Path(temp) / "model"
        model.save_pretrained(folder, max_shard_size=_ONE_FILE)
        (folder / KerasHdf5().file_name).replace(path)


def _is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds weights that are not Keras's, as its checkpoints of many files are."""
    names = [path.name for path in folder.iterdir() if not path.name.endswith(_KERAS)]
    return any(is_weights(name) or is_index(name) for name in names)


def _request(model: Any, path: Path, *, skip_mismatch: bool) -> loading.LoadRequest:
    build = lambda _config: model  # noqa: E731
    return loading.request_of(type(model), path, model.config, build, ignore_mismatched=skip_mismatch)


def _planned(header: Header, config: Config, request: loading.LoadRequest) -> tuple[Inventory, Plan]:
    """How a file fills the model; ShapeMismatch where it is of another size than the model, which stays as it is."""
    hint = "Load it with from_pretrained, or pass skip_mismatch=True."
    try:
        config = in_own_words(config)  # the model computes what it was built to, whatever the file's program did
        _, own, plan = loading.planned(header, config, request)
    except ShapeMismatch as error:
        error.hint = hint
        raise
    stored = plan.config.values
    if other := [
        f"{key} is {stored[key]}, not {value}" for key, value in config.values.items() if stored[key] != value
    ]:
        raise ShapeMismatch(f"is of other sizes than the model: {'; '.join(other)}.", hint=hint, file=str(request.path))
    return own, plan
