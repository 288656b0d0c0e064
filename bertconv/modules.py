"""Weights of the modules beside a transformer (sentence-transformers): opened, written, read back, reported.

No table knows their names, and they need none: they go from PyTorch to PyTorch, each in its own element type. A
safetensors file is copied; a pickle is read by the same reader as any other, and becomes safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

from bertconv.containers.container import Entry, Frame
from bertconv.containers.registry import BY_NAME, read_header
from bertconv.containers.stored import Header, SourceFile, StoredTensor
from bertconv.formats.content import Content, Origin, OutputFile, Placed
from bertconv.formats.readback import TensorCheck, as_planned, verify_weights
from bertconv.formats.staging import StagedFolder
from bertconv.formats.writing import sync, write_weights
from bertconv.mapping.table import Dialect, load_dialects
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
    staged: StagedFolder, modules: Sequence[ModuleWeights], counter: StepCounter, *, verify: bool
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
        MappingError: a tensor was not written as planned.
        ParityError: an element is not what it was.
        DamagedCheckpoint: a source ends too early or cannot be read.
        OutputError: there is no room.
        OSError: the files cannot be written.
    """
    if not modules:
        return [], []
    total = sum(tensor.nbytes for one in modules for tensor in one.header.tensors)
    staged.reserve(total)
    tick = counter("modules", 2 * total if verify else total)
    files, checks = [], []
    for one in modules:
        if one.copied:
            staged.copy(one.target, one.file)
            tick(sum(tensor.nbytes for tensor in one.header.tensors))
        else:
            made = _laid_out(staged, one)
            write_weights(staged.path, [made], tick)
            sync(staged.path, [made])  # guard: modules-sync
        with closing(SourceFile(staged.path / one.target, one.target)) as file:
            written = {tensor.name: tensor for tensor in read_header(file).tensors}
            found = [as_planned(content, written.get(content.name), one.target) for content in one.contents]
            checks += verify_weights(found, tick) if verify else []  # guard: modules-read-back
            placed = tuple(Placed(tensor.content, tensor.stored.offset) for tensor in found)
            files.append(OutputFile(one.target, file.size, placed))
    return files, checks


def with_modules(report: Report, modules: Sequence[ModuleWeights], checks: Sequence[TensorCheck]) -> Report:
    """A report of a conversion with the tensors of its source's modules."""
    digests = {check.id: check.digest for check in checks}
    rows = [
        TensorReport(place, printable(place), printable(place), "loaded", tensor.dtype, tensor.shape, "as it is",
                     digests.get(place, ""))
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


def _laid_out(staged: StagedFolder, one: ModuleWeights) -> OutputFile:
    """The file without its weights."""
    path = staged.path / one.target
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = one.contents
    entries = [Entry(content.name, content.dtype, content.spec.shape) for content in contents]
    dialect = _dialect()
    offsets = BY_NAME[dialect.containers[0]].lay_out(path, entries, Frame(metadata=dialect.metadata))
    placed = tuple(Placed(content, offset) for content, offset in zip(contents, offsets, strict=True))
    return OutputFile(one.target, path.stat().st_size, placed)


def _dialect() -> Dialect:
    return load_dialects().of(_TORCH)
