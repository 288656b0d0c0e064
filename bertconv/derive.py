"""An output made from checkpoints: written, read back, put on record, renamed into place. Its plan is complete by then.

Conversions and the verbs of `manage` differ in what they plan; everything after that is here, the same for all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bertconv.checkpoint import Opened, checkpoint_of, open_checkpoint
from bertconv.config import Config
from bertconv.containers.stored import SourceFile
from bertconv.digests import backbone_ids, digest_of_tensors, digests, own_tensors, vocabulary_facts
from bertconv.errors import AmbiguousHead, ParityError, UnsafeCheckpoint
from bertconv.formats.content import Content, OutputFile
from bertconv.formats.destination import MANIFEST
from bertconv.formats.folder import Destination, OutputFolder, output_folder
from bertconv.formats.interrupts import held_back
from bertconv.formats.output import Format, Model
from bertconv.formats.readback import TensorCheck
from bertconv.mapping.own_config import own_config
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.table import Table
from bertconv.modules import ModuleWeights, save_modules, with_modules
from bertconv.parts import HeadPart
from bertconv.preset_files import PresetFiles
from bertconv.progress import Progress, silent
from bertconv.record import Proof, checked, manifest_bytes, short_name, tallied
from bertconv.records import dataclass
from bertconv.report import Operation, ParentReport, Report
from bertconv.saving import save_weights
from bertconv.source import Source, SourceOptions
from bertconv.source.modules import LISTING
from bertconv.tokenizer import read_tokenizer, tokenizer_notes

if TYPE_CHECKING:
    from bertconv.checkpoint import Checkpoint

MOST_COMPANIONS = 1000
"""Most files that are carried along."""
COMPANION_BYTES = 1_000_000_000
"""Largest of them; a tokenizer has up to 35 MB."""


@dataclass(frozen=True)
class Parent:
    """A checkpoint that an output is made from.

    Attributes:
        role: what it is for: "source", "input", "base", "backbone", "head" ...
        opened: it.
        head: the class of which it has its digests where nothing says which one it is.
        part: what is on record of it, where it is a head alone.
    """

    role: str
    opened: Opened
    head: str
    part: HeadPart | None = None

    @cached_property
    def checkpoint(self) -> Checkpoint:
        """It as its own class, whatever class is made of it."""
        one = self.opened
        config = one.source.load_config(one.table.family)
        parts = (one.source, one.header, one.modules, one.identity, one.table, config)
        if self.part is not None:
            return checkpoint_of(*parts, self.head)
        try:
            return checkpoint_of(*parts, None)
        except AmbiguousHead:
            return checkpoint_of(*parts, self.head)


@dataclass(frozen=True)
class Companions:
    """Files that go along with the weights, as they are or made.

    Attributes:
        carried: name in the output -> what opens it.
        made: name in the output -> content.
        tokenizer: whose tokenizer it is.
    """

    carried: Mapping[str, Callable[[str], SourceFile]]
    made: Mapping[str, bytes]
    tokenizer: Source

    @classmethod
    def of(cls, source: Source) -> Companions:
        """Tokenizer, label files and modules of a source."""
        modules = source.modules
        carried = dict.fromkeys(source.sidecars, source.open)
        carried |= dict.fromkeys(modules.sidecars, modules.open) if modules else {}
        listing = {LISTING: modules.listing} if modules and modules.listing is not None else {}
        return cls(carried, listing, source)


@dataclass(frozen=True)
class Derivation:
    """An output, planned to the last tensor.

    Attributes:
        operation: what makes it.
        parents: what it is made from, opened; the first one is the `source` of its report.
        form: its format.
        table: the architecture.
        head: the model class.
        config: of the output, as it is written.
        contents: every tensor of the class, in the order of the table.
        report: of the plan.
        shard_limit: most bytes of tensors in one file.
        companions: what goes along.
        modules: weights of modules beside the model, which go along.
        is_lossless: the output has all tensors of its only parent, each with its values.
        inputs: more files that are read, and must not be replaced.
        others: parents that are no checkpoints, such as an adapter.
        files: open files that are read beside those of the parents.
    """

    operation: Operation
    parents: tuple[Parent, ...]
    form: Format
    table: Table
    head: str
    config: Config
    contents: Sequence[Content]
    report: Report
    shard_limit: int
    companions: Companions
    modules: tuple[ModuleWeights, ...] = ()
    is_lossless: bool = False
    inputs: tuple[Path, ...] = ()
    others: tuple[ParentReport, ...] = ()
    files: tuple[SourceFile, ...] = ()

    @cached_property
    def own_config(self) -> Mapping[str, bytes]:
        """Name and content of the config that the format's programs read beside ours; empty where they have none."""
        found = own_config(self.table, self.form.dialect, self.config)
        return {} if found is None else dict([found])

    @cached_property
    def preset(self) -> PresetFiles | None:
        """The config files of the format's own program; None where transformers' are its."""
        one = self
        return PresetFiles.of(one.form.dialect.name, one.head, one.config, one.contents, one.companions.tokenizer)

    def check_unchanged(self) -> None:
        """DamagedCheckpoint when a file of weights was written to since it was opened."""
        for parent in self.parents:
            parent.opened.check_unchanged()
        for file in self.files:
            file.check_unchanged()


@dataclass(frozen=True)
class Writing:
    """How an output is written.

    Attributes:
        destination: the folder to make.
        overwrite: replace an earlier output there.
        dry_run: only look at the destination, and report what would be written.
        verify: read every tensor back, compare it, and record digests.
        progress: called with the bytes of each step.
        prove: what else is to be shown of the output before it appears; it gets the staged folder and the progress.
    """

    destination: Destination
    overwrite: bool = False
    dry_run: bool = False
    verify: bool = True
    progress: Progress = silent
    prove: Callable[[OutputFolder, Progress], Proof] | None = None


def write_output(derivation: Derivation, writing: Writing, check_signals: Callable[[], None] | None = None) -> Report:
    """Write an output whole or not at all.

    Args:
        derivation: what is to be written; its parents are open.
        writing: how.
        check_signals: of `held_back`, where the caller holds signals back already.

    Returns:
        What happened to every tensor.

    Raises:
        BertconvError: see `save_weights`; the destination is then as it was before.
    """
    started = time.perf_counter()
    with held_back() if check_signals is None else nullcontext(check_signals) as checking:
        return _Work(derivation, writing, checking).done(started)


@dataclass(frozen=True)
class _Work:
    """One output in the making."""

    derivation: Derivation
    writing: Writing
    check_signals: Callable[[], None]

    def done(self, started: float) -> Report:
        derivation, writing = self.derivation, self.writing
        sources = [parent.opened for parent in derivation.parents]
        read = [path for one in sources for path in (*one.source.inputs, one.table.path)]
        inputs, given = (*read, *derivation.inputs), [one.source.given for one in sources]
        staged = output_folder(writing.destination, overwrite=writing.overwrite, inputs=inputs, given=given)
        if writing.dry_run:
            staged.check()
            return replace(self.report(staged, ()), seconds=time.perf_counter() - started)
        with staged, staged.writing():
            files, checks = self.write_weights(staged)
            self.write_companions(staged)
            proof = Proof() if writing.prove is None else writing.prove(staged, self.progress)
            report = tallied(checked(self.report(staged, files), checks), derivation.contents)
            report = replace(report, stated=self.stated(staged) if checks else {})
            report = proof.added_to(self.with_digests(report))
            report = replace(report, seconds=time.perf_counter() - started - proof.seconds)
            staged.write(MANIFEST, manifest_bytes(report, staged, files))  # guard: manifest
            derivation.check_unchanged()
            self.check_signals()
            staged.commit()  # guard: commit-last
        return replace(report, seconds=time.perf_counter() - started - proof.seconds)

    def progress(self, step: str, done: int, total: int) -> None:
        """Also stops a long step, such as a run of a model, when a signal has come."""
        self.check_signals()
        self.writing.progress(step, done, total)

    def counter(self, step: str, total: int) -> Callable[[int], None]:
        """Adds up the bytes of one step."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self.progress(step, done, total)

        return count

    def write_weights(self, staged: OutputFolder) -> tuple[Sequence[OutputFile], Sequence[TensorCheck]]:
        """The weights, read back; a source that was written to meanwhile is to blame before the disk is."""
        one, verify = self.derivation, self.writing.verify
        model = Model(one.table, one.head)
        try:
            files, checks = save_weights(
                staged, one.form, model, one.contents, one.shard_limit, self.counter, verify=verify
            )
            beside, more = save_modules(staged, one.modules, self.counter, verify=verify)
        except ParityError:
            one.check_unchanged()
            raise
        return (*files, *beside), (*checks, *more)

    def write_companions(self, staged: OutputFolder) -> None:
        """config.json and the config of the format's own programs, and what goes along."""
        files, companions = self.derivation.preset, self.derivation.companions
        configs = {"config.json": self.derivation.config.to_bytes()} if files is None else files.made()
        for name, content in {**configs, **self.derivation.own_config}.items():
            staged.write(name, content)
        renamed = {} if files is None else files.renamed
        if len(companions.carried) > MOST_COMPANIONS:
            raise self.too_much(f"has more than {MOST_COMPANIONS:,} tokenizer and label files")
        for name, opened in companions.carried.items():
            with closing(opened(name)) as file:
                if file.size > COMPANION_BYTES:
                    raise self.too_much(f"has a file {name} of {file.size:,} bytes")
                staged.copy(renamed.get(name, name), file)
        for name, content in companions.made.items():
            staged.write(name, content)

    def too_much(self, problem: str) -> UnsafeCheckpoint:
        folder = self.derivation.parents[0].opened.source.folder
        return UnsafeCheckpoint(
            f"{problem} to carry along.", hint="No model needs that: move it away.", file=str(folder)
        )

    def report(self, staged: OutputFolder, files: Sequence[OutputFile]) -> Report:
        """What happened to every tensor; the tokenizer is looked at as it was written, if it was."""
        one = self.derivation
        report = with_modules(one.report, one.modules)
        written, own = files and one.companions.carried, one.preset
        renamed = {} if own is None else own.renamed
        place = one.companions.tokenizer
        if written:
            place = replace(place, folder=staged.path, renamed=renamed)
        tokenizer = read_tokenizer(place)
        notes = tokenizer_notes(tokenizer, int(one.config.values["vocab_size"]))
        return replace(
            report,
            target={
                "folder": str(staged.destination),
                "format": one.form.name,
                "files": [file.name for file in files],
            },
            notes=(*report.notes, *notes, *(() if own is None else own.notes())),
            sidecars=(*one.own_config, *sorted(renamed.get(name, name) for name in report.sidecars)),
            dry_run=not files,
            operation=one.operation,
            parents=(*map(_unproven, one.parents), *one.others),
            vocabulary=vocabulary_facts(tokenizer),
        )

    def stated(self, staged: OutputFolder) -> dict[str, str]:
        """Digests of the class's tensors as the output is read, where that is not what was written, tensor by tensor.

        A program may need more than the class has, keep a table in another form, and have one bias of an untied decoder
        where transformers has two.
        """
        one = self.derivation
        own, held = one.table.heads[one.head], {content.id for content in one.contents}
        folds = one.table.in_dialect(one.form.dialect).folds
        twins = {copy for copy, first in one.table.twins.items() if first in held}
        is_whole = one.config.values["tie_word_embeddings"] or twins <= held
        if is_whole and all(content.spec.group in own and content.id not in folds for content in one.contents):
            return {}
        wanted = Wanted(one.table.model_type, None if one.table.is_builtin else one.table.path)
        with open_checkpoint(staged.readable, SourceOptions(), head=one.head, wanted=wanted) as output:
            tensors = own_tensors(output)
            return digests(tensors, self.counter("hashing", sum(tensor.stored.nbytes for tensor in tensors.values())))

    def with_digests(self, report: Report) -> Report:
        """A report with the digests of the body and of every parent; as it is where nothing was verified.

        A tensor that goes over with its values has its parent's digest; what else a parent has is read once more.
        """
        if report.verified == "none":
            return report
        own = {tensor.id: tensor.digest for tensor in report.tensors if tensor.id not in report.copies} | report.stated
        body = digest_of_tensors({place: own[place] for place in backbone_ids(self.derivation.table, own)})
        if self.derivation.is_lossless:
            (only,) = report.parents
            known_parent = replace(only, digest=report.digest, backbone_digest=body)
            return replace(report, backbone_digest=body, parents=(known_parent,))
        known = {
            (id(content.origin.tensor), content.id): own[content.id]
            for content in self.derivation.contents
            if content.origin.tensor is not None and content.origin.tensor.dtype == content.dtype and content.id in own
        }
        proven = [
            _proven(parent, said, known, self.counter)
            for parent, said in zip(self.derivation.parents, report.parents, strict=False)
        ]
        if report.part:
            body = proven[0].backbone_digest
        return replace(report, backbone_digest=body, parents=(*proven, *self.derivation.others))


def _unproven(parent: Parent) -> ParentReport:
    source = parent.opened.source
    return ParentReport(parent.role, short_name(source.given, source.revision), source.revision)


def _proven(
    parent: Parent,
    said: ParentReport,
    known: Mapping[tuple[int, str], str],
    counter: Callable[[str, int], Callable[[int], None]],
) -> ParentReport:
    tensors = own_tensors(parent.checkpoint)
    found = {
        place: digest for place, one in tensors.items() if (digest := known.get((id(one.stored), place))) is not None
    }
    rest = {place: one for place, one in tensors.items() if place not in found}
    if rest:
        found |= digests(rest, counter("hashing", sum(one.stored.nbytes for one in rest.values())))
    body = digest_of_tensors({place: found[place] for place in backbone_ids(parent.opened.table, found)})
    remembered = parent.part.backbone_digest if parent.part is not None else body
    return replace(said, digest=digest_of_tensors(found), backbone_digest=remembered)


def changed_config(config: Config, table: Table, head: str, dtype: str | None = None) -> Config:
    """The config of an output: the source's, with the class that is written, and the element type where it names one.

    Args:
        config: of the source.
        table: the architecture.
        head: the class.
        dtype: the element type where all tensors are given one, else None.
    """
    changes: dict[str, object] = {"architectures": [head]}
    changes |= {} if config.says("model_type") else {"model_type": table.model_type}
    if dtype is not None:
        changes |= {key: dtype for key in ("torch_dtype", "dtype") if config.says(key)}
    return config.replace(**changes)
