"""Weights of the modules beside a transformer (sentence-transformers): opened, written, read back, reported.

No table knows their names, and they need none: they go from PyTorch to PyTorch, each in its own element type. A
safetensors file is copied; a pickle is read by the same reader as any other, and becomes safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from bertconv.containers.container import Entry, FileLayout, FileOptions
from bertconv.containers.registry import BY_NAME, read_header
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.formats.checksum import Taken
from bertconv.formats.content import Content, Origin, OutputFile
from bertconv.formats.folder import OutputFolder
from bertconv.formats.frame import create, written
from bertconv.formats.readback import TensorCheck, verify_weights
from bertconv.formats.writing import sync, write_weights
from bertconv.mapping.dialects import Dialect, load_dialects
from bertconv.records import dataclass
from bertconv.report import LeftOut, Report, TensorReport
from bertconv.saving import StepCounter, extra_spec
from bertconv.source import Source
from bertconv.source.modules import WEIGHTS
from bertconv.text import printable

_TORCH = "torch"
"""The framework of modules, whatever the transformer is converted to: sentence-transformers is a library of it."""


@dataclass(frozen=True)
class ModuleWeights:
    """The weights of one module.

    Attributes:
        name: of the file, relative to the folder of `modules.json`: "2_Dense/pytorch_model.bin".
        file: the file, opened.
        header: what it holds.
    """

    name: str
    file: SourceFile
    header: Header

    @property
    def folder(self) -> str:
        """The module's folder."""
        return self.name.rpartition("/")[0]

    @property
    def target(self) -> str:
        """The file's name in an output."""
        return f"{self.folder}/{WEIGHTS[0]}"

    @property
    def copied(self) -> bool:
        """Whether an output has the file as it is."""
        return self.name == self.target and self.header.container == _dialect().containers[0]

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """Id ("2_Dense/linear.weight") -> tensor."""
        return {f"{self.folder}/{tensor.name}": tensor for tensor in self.header.tensors}

    @property
    def contents(self) -> list[Content]:
        """The tensors as they are written."""
        return [
            Content(replace(extra_spec(tensor.name, tensor.shape), id=place), tensor.dtype, Origin(tensor))
            for place, tensor in self.tensors.items()
        ]


@contextmanager
def opened_modules(source: Source, *, check_data: bool = True) -> Iterator[tuple[ModuleWeights, ...]]:
    """The weights of every module of a source; errors as for `read_header`."""
    with ExitStack() as stack:
        found = []
        if source.modules is not None:
            for name in source.modules.weights:
                file = stack.enter_context(closing(source.modules.open(name)))
                found.append(ModuleWeights(name, file, read_header(file, check_data=check_data)))
        yield tuple(found)


def save_modules(
    staged: OutputFolder, modules: Sequence[ModuleWeights], counter: StepCounter, *, verify: bool
) -> tuple[list[OutputFile], list[TensorCheck]]:
    """Write the weights of modules into an output, and read them back.

    Args:
        staged: where to; it must have been entered.
        modules: opened.
        counter: begins a step.
        verify: read and compare every tensor.

    Returns:
        The files, and what the check found of every tensor; nothing without `verify`.

    Raises:
        MappingError: the container's own library reads something else.
        ParityError: an element is not what it was, or a byte outside of the tensors not as planned.
        DamagedCheckpoint: a source ends too early or cannot be read.
        OutputError: there is no room.
        OSError: the files cannot be written.
    """
    if not modules:
        return [], []
    total = sum(tensor.nbytes for one in modules for tensor in one.header.tensors)
    staged.reserve(total)
    staged.announce([one.target for one in modules])
    tick = counter("modules", 2 * total if verify else total)
    dialect = _dialect()
    container = BY_NAME[dialect.containers[0]]
    files: list[OutputFile] = []
    checks: list[TensorCheck] = []
    for one in modules:
        made = _laid_out(one)
        taken: dict[str, Taken] = {}
        if one.copied:
            staged.copy(one.target, one.file)
            tick(sum(tensor.nbytes for tensor in one.header.tensors))
        elif staged.stream is not None:
            taken = dict(staged.stream([made], tick, checksums=verify))
        else:
            create(staged.path / one.target, made.layout)
            taken = write_weights(staged.path, [made], tick, checksums=verify)
            sync(staged.path, [made])  # guard: modules-sync
        metadata = one.header.metadata if one.copied else dialect.metadata
        with written(staged.path, [made], container, metadata, confirm=verify) as tensors:
            checks += verify_weights(tensors, tick, taken) if verify else []  # guard: modules-read-back
        files.append(made)
    return files, checks


def with_modules(report: Report, modules: Sequence[ModuleWeights]) -> Report:
    """A report of a conversion with the tensors of its source's modules."""
    rows = [
        TensorReport(place, printable(place), printable(place), "loaded", tensor.dtype, tensor.shape, "as it is")
        for one in modules
        for place, tensor in one.tensors.items()
    ]  # fmt: skip
    stored = [tensor for one in modules for tensor in one.header.tensors]
    others = [LeftOut(printable(f"{one.folder}/{name}"), "ignored", "not a weight") for one in modules
              for name in one.header.others]  # fmt: skip
    made = [one.name for one in modules if not one.copied]
    return replace(
        report,
        source={**report.source, "files": [*report.source["files"], *(one.name for one in modules)]},
        tensors=(*report.tensors, *rows),
        left_out=(*report.left_out, *others),
        notes=(
            *report.notes,
            *(f"{printable(name)} becomes {WEIGHTS[0]}" for name in made),
            *(f"{printable(one.name)}: {note}" for one in modules for note in one.header.notes),
        ),
        parameters=report.parameters + sum(tensor.count for tensor in stored),
        nbytes=report.nbytes + sum(tensor.nbytes for tensor in stored),
    )


def _laid_out(one: ModuleWeights) -> OutputFile:
    """The file as it is written; a copy is laid out as its source is."""
    contents = tuple(one.contents)
    if one.copied:  # the format has no holes: all that is no tensor stands before the first
        offsets = tuple(tensor.offset for tensor in one.header.tensors)
        start = one.file.size - sum(content.nbytes for content in contents)
        return OutputFile(one.target, FileLayout(one.file.size, offsets, {0: one.file.read(0, start)}), contents)
    dialect = _dialect()
    entries = [Entry(content.name, content.dtype, content.spec.shape) for content in contents]
    layout = BY_NAME[dialect.containers[0]].lay_out(entries, FileOptions(metadata=dialect.metadata))
    return OutputFile(one.target, layout, contents)


def _dialect() -> Dialect:
    return load_dialects().of(_TORCH)
