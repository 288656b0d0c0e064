"""save_pretrained: a model's variables to any format, written as a conversion is: staged, read back, whole or not."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from bertconv.arguments import PUSHING, SAVING, refuse_unknown, settle, settle_token
from bertconv.config import foreign
from bertconv.containers.registry import CONTAINERS
from bertconv.errors import RequestError
from bertconv.formats.content import Content, Origin
from bertconv.formats.destination import MANIFEST
from bertconv.formats.folder import local_destination
from bertconv.formats.output import Format, Model, formats
from bertconv.formats.staging import StagedFolder
from bertconv.formats.streaming import Elements, reordered
from bertconv.mapping.expand import expand, target_specs, transpose_specs
from bertconv.mapping.layout import Transpose
from bertconv.models.generation_config import FILE as GENERATION
from bertconv.models.keras_internals import every_layer
from bertconv.models.variables import FRAMEWORK, Inventory, inventory
from bertconv.presets import preset_for
from bertconv.record import manifest_bytes, saved_report
from bertconv.saving import extra_spec, save_weights, shard_limit
from bertconv.text import listing

_SHARD = "5GB"
_SAVED = ("saved_model", "version", "signatures", "max_shard_size", "safe_serialization", "format")
"""Arguments of save_pretrained that are about files."""


def save_pretrained(
    self: Any,
    save_directory: str | os.PathLike[str],
    saved_model: bool | None = False,
    version: int | None = 1,
    push_to_hub: bool | None = False,
    signatures: Any = None,
    max_shard_size: int | str | None = _SHARD,
    create_pr: bool | None = False,
    safe_serialization: bool | None = False,
    token: str | bool | None = None,
    *,
    format: str | None = None,  # noqa: A002  (the name that the command line has too)
    **kwargs: Any,
) -> None:
    """Write the model to a folder, whole or not at all; other files in it stay as they are.

    Args:
        self: the model.
        save_directory: folder to make or to renew.
        saved_model: also write `saved_model/<version>` for TF Serving.
        version: number of the SavedModel.
        push_to_hub: also upload the folder; what is about that is in kwargs.
        signatures: of the SavedModel; by default for int32 and int64 ids.
        max_shard_size: most bytes of weights in one file, as a number or like "5GB".
        create_pr: upload as a pull request.
        safe_serialization: write safetensors instead of `tf_model.h5`; PyTorch cannot read TensorFlow's names in it.
        token: access token for the Hub.
        format: "tf" (`tf_model.h5`), "tf-safetensors", or "pt": safetensors with PyTorch's names and layout.
        kwargs: `repo_id`, `commit_message`, `commit_description` and `private` of an upload; transformers' other
            arguments, where they ask for nothing (`bertconv.arguments`).

    Raises:
        RequestError: a format or an argument that does not exist.
        OutputError: the folder cannot be written; what was there before is unchanged.
    """
    settle(kwargs, SAVING, "save_pretrained")
    upload = _upload_of(kwargs, token, create_pr=create_pr)
    repository = kwargs.pop("repo_id", None)
    refuse_unknown(kwargs, "save_pretrained", _SAVED)
    version = 1 if version is None else version
    form = _form(format or ("tf-safetensors" if safe_serialization else "tf"))
    folder = local_destination(save_directory, "save_pretrained")
    staged = StagedFolder(
        folder, keep=partial(_is_kept, form, self, f"saved_model/{version}/" if saved_model else None)
    )
    self.build_in_name_scope()
    own = inventory(self, self.config, self.table_head)
    _check_config(self, own)
    limit = shard_limit(_SHARD if max_shard_size is None else max_shard_size)
    with staged, staged.writing():
        model = Model(own.table, own.head if self.table_head else type(self).__name__.removeprefix("TF"))
        _check_form(own, form, self.config)
        contents = contents_of(own, self.config, form, model.head)
        files, checks = save_weights(staged, form, model, contents, limit, lambda _step, _total: _silent, verify=True)
        staged.write("config.json", config_bytes(self))
        if self.can_generate():
            staged.write(GENERATION, self.generation_config.to_bytes())
        if saved_model:
            self.export_saved_model(staged.path / "saved_model" / str(version), signatures)
        report = saved_report(
            contents, checks, head=model.head, given=type(self).__name__, form=form, files=files, staged=staged,
            table=own.table, repeated=own.table.repeated(form.dialect, self.config.values),
        )  # fmt: skip
        staged.write(MANIFEST, manifest_bytes(report, staged, files))
        staged.commit()
    _warn_of_others(folder, form)
    if push_to_hub:
        _upload(folder, repository or folder.name, upload)


def push_to_hub(
    self: Any,
    repo_id: str,
    use_temp_dir: bool | None = None,
    commit_message: str | None = None,
    private: bool | None = None,
    max_shard_size: int | str | None = _SHARD,
    token: str | bool | None = None,
    use_auth_token: str | bool | None = None,
    create_pr: bool | None = False,
    **kwargs: Any,
) -> str:
    """Save the model to a temporary folder and upload it.

    Args:
        self: the model.
        repo_id: `org/name`; made where it does not exist.
        use_temp_dir: None or True: the files that are sent are kept nowhere else.
        commit_message: of the upload.
        private: whether a new repository is private.
        max_shard_size: as for save_pretrained.
        token: access token for the Hub.
        use_auth_token: older name of `token`.
        create_pr: upload as a pull request.
        kwargs: `commit_description`; `format`, `safe_serialization` and `saved_model` of save_pretrained; transformers'
            other arguments, where they ask for nothing.

    Returns:
        The address of the commit.

    Raises:
        HubError: the Hub did not take it.
        ParityError: the Hub has other bytes than were sent.
    """
    import tempfile

    kwargs |= {
        "use_temp_dir": use_temp_dir, "commit_message": commit_message, "private": private,
        "use_auth_token": use_auth_token,
    }  # fmt: skip
    settle(kwargs, PUSHING, "push_to_hub")
    upload = _upload_of(kwargs, token, create_pr=create_pr)
    refuse_unknown([name for name in kwargs if name not in _SAVED], "push_to_hub", (*_SAVED, *PUSHING))
    with tempfile.TemporaryDirectory() as temp:
        folder = Path(temp) / "model"
        self.save_pretrained(folder, max_shard_size=max_shard_size, **kwargs)
        return _upload(folder, repo_id, upload)


def contents_of(own: Inventory, config: Any, form: Format, head: str) -> list[Content]:
    """Every variable as it stands in a file of this format and class, in the table's order, stored copies included.

    Raises:
        RequestError: variables that have no name in PyTorch.
    """
    if own.extra and form.dialect is not own.dialects.of(FRAMEWORK):
        raise RequestError(
            f"these variables are in no mapping table, so they have no PyTorch name:\n{listing(own.extra)}",
            hint='Save with format="tf" or "tf-safetensors".',
        )
    here = target_specs(own.table, own.dialects.of(FRAMEWORK), config, head, own.groups)
    there = target_specs(own.table, form.dialect, config, head, own.groups)
    copies = own.table.stored_copies.get(form.dialect.name, {})
    contents = []
    for place, spec in there.items():
        home = own.table.tied[place] if place in copies and place not in own.known else place
        if (variable := own.known.get(home)) is not None:
            make = partial(_elements, variable, transpose_specs(here[home], spec))
            contents.append(Content(spec, _dtype(variable), Origin(make=make)))
    for name, variable in own.extra.items():
        spec = extra_spec(f"{name}:0", tuple(variable.shape))
        contents.append(Content(spec, _dtype(variable), Origin(make=partial(_elements, variable, None))))
    return contents


def _check_form(own: Inventory, form: Format, config: Any) -> None:
    """RequestError for a format that `convert` alone writes whole: with files, tables or losses of its own."""
    if not form.dialect.declared:
        return
    table, within = own.table, own.table.in_dialect(form.dialect)
    there = target_specs(table, form.dialect, config, own.head, own.groups)
    lost = own.head not in within.heads or any(one not in there and one not in table.tied for one in own.known)
    if lost or within.folds or {*within.fills} - {*own.groups} or preset_for(table.family, form.dialect.name):
        raise RequestError(
            f"{form.dialect.title} does not take this model as it is.",
            hint=f"Save it without `format`, then `bertconv convert FOLDER DST --to {form.name}` says what is lost.",
        )


def _check_config(model: Any, own: Inventory) -> None:
    """Refuse a config that was changed after the model was made, so that it describes other weights."""
    if "table_head" not in vars(type(model)):  # a user's own class may have layers of any size
        return
    dialect, groups = own.dialects.of(FRAMEWORK), own.table.heads[own.head]
    described = expand(own.table, dialect, model.config.values, groups).values()
    shapes = {spec.name.removesuffix(dialect.suffix): spec.shape for spec in described}
    wrong = [name for name, variable in own.extra.items() if shapes.get(name, variable.shape) != tuple(variable.shape)]
    if not any(getattr(layer, "was_changed", False) for layer in every_layer(model)):
        ours = {spec.name.partition("/")[0] for spec in expand(own.table, dialect, None, groups).values()}
        wrong = [name for name in own.extra if name.partition("/")[0] in ours]
    if wrong:
        raise RequestError(
            f"the config no longer describes these weights:\n{listing(wrong)}",
            hint="Set it to what the layers are, or back to what it was when the model was made; "
            "resize_token_embeddings changes both.",
        )


def config_bytes(model: Any) -> bytes:
    """config.json: what the config says, with the class's name as PyTorch's side spells it."""
    changes: dict[str, Any] = {"architectures": [type(model).__name__.removeprefix("TF")]}
    config = foreign.written(model.config)
    changes |= {key: model.variable_dtype for key in ("torch_dtype", "dtype") if config.says(key)}
    return config.replace(**changes, model_type=model.config.model_type).to_bytes()


def _elements(variable: keras.Variable, turn: Transpose | None) -> Elements:
    values = np.asarray(variable.value)
    flat: Elements = values.reshape(-1).view(f"u{values.itemsize}")
    return reordered(flat, turn)


def _dtype(variable: keras.Variable) -> str:
    return str(keras.backend.standardize_dtype(variable.dtype))


def _form(name: str) -> Format:
    if name not in formats():
        raise RequestError(f"format is {name!r}.", hint=f"Choose one of {', '.join(formats())}.")
    return formats()[name]


def _is_kept(form: Format, model: Any, saved_model: str | None, name: str) -> bool:
    """Whether a file of the folder belongs to somebody else, or to another version of the SavedModel."""
    written = {"config.json", MANIFEST, *((GENERATION,) if model.can_generate() else ())}
    ours = name in written or (saved_model is not None and name.startswith(saved_model))
    return not ours and not form.container.is_output(name)


def _warn_of_others(folder: Path, form: Format) -> None:
    foreign = [container for container in CONTAINERS if container.dtypes and container is not form.container]
    there = sorted(path.name for path in folder.iterdir())
    if others := [name for name in there if any(container.is_output(name) for container in foreign)]:
        warnings.warn(
            f"{folder} also holds {', '.join(others)}, saved earlier: from_pretrained takes safetensors first unless "
            "it is given use_safetensors=False.",
            stacklevel=3,
        )


def _upload_of(given: dict[str, Any], token: Any, *, create_pr: bool | None) -> dict[str, Any]:
    """What is asked of an upload, taken out of arguments by name: how it is described, whose it is, who sees it."""
    return {
        "token": settle_token(given, token), "message": given.pop("commit_message", None) or "Upload with bertconv",
        "description": given.pop("commit_description", None) or "", "private": given.pop("private", None),
        "create_pr": bool(create_pr),
    }  # fmt: skip


def _upload(folder: Path, repository: str, upload: dict[str, Any]) -> str:
    from bertconv.source.hub_upload import UploadTarget, upload_folder

    asked = dict(upload)
    return upload_folder(folder, UploadTarget(repository, token=asked.pop("token")), **asked)


_silent: Callable[[int], None] = lambda _: None  # noqa: E731  (no progress is shown)
