"""Weights from files or from memory to files that were read back: laid out, written, fsynced, compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

from bertconv.errors import MappingError, RequestError
from bertconv.formats.output import Format, Model, OutputFile, OutputTensor, lay_out
from bertconv.formats.readback import TensorCheck, WrittenTensor, verify_weights
from bertconv.formats.reading import read_written
from bertconv.formats.staging import StagedFolder
from bertconv.formats.workers import Tick
from bertconv.formats.writing import Origin, sync, write_weights
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.layout import Layout, transpose_between
from bertconv.source.stored import FLOATS, Header
from bertconv.text import listing, parse_bytes

StepCounter = Callable[[str, int], Tick]
"""Begins a step ("writing", "verifying") of so many bytes; what it returns is told of them as they are done."""


@dataclass(frozen=True)
class Content:
    """One tensor to be written: what it is, its element type, and where its elements come from."""

    spec: TensorSpec
    dtype: str
    origin: Origin


def extra_spec(name: str, shape: tuple[int, ...]) -> TensorSpec:
    """What to write for a tensor that no table knows, such as a variable of the caller's own layer.

    Args:
        name: as it is to be written.
        shape: sizes as they lie in memory, which are also those of its digest.
    """
    layout = Layout(tuple(((f"axis{number}", size),) for number, size in enumerate(shape)))
    return TensorSpec(f"extra.{name}", "", (name,), layout, layout, tuple((str(size),) for size in shape), ())


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
    staged: StagedFolder,
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
        verify: read and compare every tensor; without it only the headers are.

    Returns:
        The files, and what the check found of every tensor, in the order of `contents`; nothing without `verify`.

    Raises:
        RequestError: two tensors of one name, an element type that the container lacks, or a number that does not fit.
        MappingError: a tensor was not written as planned.
        ParityError: an element is not what it was.
        DamagedCheckpoint: a source ends too early or cannot be read.
        OutputError: there is no room.
        OSError: the files cannot be written.
    """
    _check(form, contents)
    files = _write(staged, form, model, contents, shard_limit, counter)
    with ThreadPoolExecutor(1) as pool:
        synced = pool.submit(sync, staged.path, files)
        with closing(read_written(staged.path, [file.name for file in files])) as written:
            tensors = _written_tensors(written, files, contents)
            total = sum(tensor.written.nbytes for tensor in tensors)
            checks = verify_weights(tensors, counter("verifying", total)) if verify else ()
        synced.result()
    return files, checks


def _check(form: Format, contents: Sequence[Content]) -> None:
    """Refuse what cannot be written; only tensors that no table knows can be such."""
    for names in ([content.spec.name for content in contents], [content.spec.id for content in contents]):
        if doubled := [name for name, count in Counter(names).items() if count > 1]:
            raise RequestError(
                f"two tensors of the same name are to be written:\n{listing(doubled)}",
                hint="Give the layers names of their own.",
            )
    for content in contents:
        if form.suffix == ".h5" and content.dtype not in FLOATS:
            raise RequestError(
                f"is {content.dtype}, and {form.suffix} files are written with floating-point numbers only.",
                hint="Save to safetensors.",
                tensor=content.spec.name,
            )


def _write(
    staged: StagedFolder, form: Format, model: Model, contents: Sequence[Content], limit: int, counter: StepCounter
) -> Sequence[OutputFile]:
    """Lay the files out, then move every tensor into its place."""
    tensors = [OutputTensor(content.spec, content.dtype) for content in contents]
    total = sum(tensor.nbytes for tensor in tensors)
    staged.reserve(total)
    files, index = lay_out(form, staged.path, tensors, model, limit)
    origins = {content.spec.id: content.origin for content in contents}
    write_weights(staged.path, files, origins, counter("writing", total))
    if index is not None:
        staged.write(form.index_name, index)
    return files


def _written_tensors(written: Header, files: Sequence[OutputFile], contents: Sequence[Content]) -> list[WrittenTensor]:
    """What was written, found again by its names, with what it must equal; MappingError when one is lacking."""
    # Keras files name some tensors a second time, in another group: the same bytes
    there = {(tensor.file.name, tensor.name): tensor for tensor in reversed(written.tensors)}
    places = {
        tensor.spec.id: (file.name, file.scope + tensor.spec.name) for file in files for tensor, _ in file.tensors
    }
    found = []
    for content in contents:
        spec = content.spec
        tensor = there.get(places[spec.id])
        if tensor is None or tensor.shape != spec.shape or tensor.dtype != content.dtype:
            raise MappingError("was not written as planned; the output was not kept.", hint="Report this as a bug.",
                               tensor=spec.name)  # fmt: skip
        back = transpose_between(spec.layout, spec.canonical)
        found.append(WrittenTensor(spec.id, content.origin, tensor, back, spec.canonical.shape))
    return found
