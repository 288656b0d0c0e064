"""Weights from files or from memory to files that were read back: laid out, written, fsynced, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from bertconv.containers.registry import CONTAINERS
from bertconv.containers.stored import MAX_NAME, MAX_RANK
from bertconv.errors import RequestError
from bertconv.formats.checksum import Taken
from bertconv.formats.content import Content, OutputFile
from bertconv.formats.folder import OutputFolder
from bertconv.formats.frame import create, written
from bertconv.formats.output import Format, Model, lay_out, scope_of
from bertconv.formats.readback import TensorCheck, verify_weights
from bertconv.formats.workers import Tick
from bertconv.formats.writing import sync, write_weights
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.layout import Layout
from bertconv.source.checkpoint_folder import open_in
from bertconv.text import listing, parse_bytes

DEFAULT_SHARD = 5_000_000_000
"""Most bytes of tensors in one file, unless the caller says something else."""

StepCounter = Callable[[str, int], Tick]
"""Begins a step ("writing", "verifying") of so many bytes; what it returns is called with them as they are done."""


def extra_spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
    """What to write for a tensor that no table knows, such as a variable of the caller's own layer.

    Args:
        name: as it is to be written.
        shape: sizes as they lie in memory, which are also those of its digest.
    """
    layout = Layout(tuple(((f"axis{number}", size),) for number, size in enumerate(shape)))
    return TensorSpec(f"extra.{name}", "", (name,), layout, layout, tuple((str(size),) for size in shape), ())


def recorded_limit(size: int | str) -> dict[str, int | str]:
    """A `max_shard_size` among the options that a manifest records: nothing where it is the default."""
    return {} if shard_limit(size) == DEFAULT_SHARD else {"max_shard_size": size}


def shard_limit(size: int | str) -> int:
    """Bytes of a `max_shard_size` such as 5GB; RequestError when it is none."""
    try:
        limit = parse_bytes(str(size))
    except ValueError as error:
        raise RequestError(f"max_shard_size is {size!r}.", hint="Write it like 5GB or 500MB.") from error
    if limit < 1:
        raise RequestError("max_shard_size is zero.", hint="Write it like 5GB or 500MB.")
    return limit


def save_weights(
    staged: OutputFolder,
    form: Format,
    model: Model,
    contents: Sequence[Content],
    shard_limit: int,
    counter: StepCounter,
    *,
    verify: bool,
) -> tuple[Sequence[OutputFile], Sequence[TensorCheck]]:
    """Write the weights of an output, with their index, and read them back while they travel to the disk.

    Args:
        staged: where to; it must have been entered.
        form: container and dialect.
        model: the class and its table.
        contents: in the order of the table, then those that no table knows (group "", an id of their own).
        shard_limit: most bytes of tensors in one file.
        counter: begins a step.
        verify: read and compare every tensor; without it only the bytes outside of them are.

    Returns:
        The files, and what the check found of every tensor, in the order of `contents`; nothing without `verify`.

    Raises:
        RequestError: two tensors of one name, a name or an element type that the container cannot hold, or a number
            that does not fit.
        MappingError: elements that were made are not as many as planned, or the container's own library reads others.
        ParityError: an element is not what it was, or a byte outside of the tensors not as planned.
        DamagedCheckpoint: a source ends too early or cannot be read.
        OutputError: there is no room.
        OSError: the files cannot be written.
    """
    _check(form, contents)
    _check_readable(scope_of(form, model), contents)
    files, taken = _write(staged, form, model, contents, shard_limit, counter, checksums=verify)
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(_settled, staged, files)  # guard: sync
        with written(staged.path, files, form.container, form.dialect.metadata, confirm=verify) as tensors:
            total = sum(tensor.stored.nbytes for tensor in tensors)
            checks = verify_weights(tensors, counter("verifying", total), taken) if verify else ()  # guard: read-back
        synced.result()  # guard: sync-error
    return files, checks


def _check(form: Format, contents: Sequence[Content]) -> None:
    """Refuse what cannot be written; only tensors that no table knows can be such."""
    for names in ([content.name for content in contents], [content.id for content in contents]):
        if doubled := [name for name, count in Counter(names).items() if count > 1]:
            raise RequestError(
                f"two tensors of the same name are to be written:\n{listing(doubled)}",
                hint="Give the layers names of their own.",
            )
    for content in contents:
        if content.dtype not in form.container.dtypes:
            fitting = [container.title for container in CONTAINERS if content.dtype in container.dtypes]
            raise RequestError(
                f"is {content.dtype}, and {form.container.suffix} files are written with "
                f"{form.container.dtypes_in_words} only.",
                hint=f"Save to {' or '.join(fitting)}." if fitting else "Cast it to a floating-point type.",
                tensor=content.name,
            )


def _check_readable(scope: str, contents: Sequence[Content]) -> None:
    """Refuse what no reader of ours would take: what is written is found again by its layout, so nothing else does."""
    for content in contents:
        name = scope + content.name
        if len(name) > MAX_NAME or not name.isprintable():
            raise RequestError(
                f"has a name that is not printable text of at most {MAX_NAME:,} characters.",
                hint="Give the layers other names.",
                tensor=content.name[:100],
            )
        if len(content.spec.shape) > MAX_RANK:
            raise RequestError(
                f"has {len(content.spec.shape)} axes; files hold {MAX_RANK} at most.",
                hint="Give the variable another shape.",
                tensor=content.name,
            )


def _write(
    staged: OutputFolder,
    form: Format,
    model: Model,
    contents: Sequence[Content],
    limit: int,
    counter: StepCounter,
    *,
    checksums: bool,
) -> tuple[Sequence[OutputFile], dict[str, Taken]]:
    """Lay the files out, then move every tensor into its place."""
    total = sum(content.nbytes for content in contents)
    staged.reserve(total)
    files, indexed = lay_out(form, contents, model, limit)
    beside = form.container.beside()
    staged.announce([*(file.name for file in files), *beside])
    tick = counter("writing", total)
    if staged.stream is None:
        for file in files:
            create(staged.path / file.name, file.layout)
        found = write_weights(staged.path, files, tick, checksums=checksums)
    else:
        found = dict(staged.stream(files, tick, checksums=checksums))
    if (index := indexed(partial(open_in, staged.path))) is not None:
        staged.write(*index)
    for name, content in beside.items():
        staged.write(name, content)
    return files, found


def _settled(staged: OutputFolder, files: Sequence[OutputFile]) -> None:
    """Wait until files have reached the disk; a store has them already."""
    if staged.stream is None:
        sync(staged.path, files)
