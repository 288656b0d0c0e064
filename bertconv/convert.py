"""convert_checkpoint(): the steps of a conversion in their order. The first file to read.

    source -> header -> plan -> staged output -> read back -> manifest -> rename -> report

Nothing is written before the plan is complete, and nothing appears at the destination before it has been read back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from bertconv.config import Config
from bertconv.containers.registry import preferred
from bertconv.containers.stored import FLOATS, Header
from bertconv.errors import ParityError, RequestError, UnsafeCheckpoint
from bertconv.formats.content import Content, Origin, OutputFile
from bertconv.formats.destination import MANIFEST
from bertconv.formats.initial import initial_values
from bertconv.formats.interrupts import held_back
from bertconv.formats.output import Format, Model, formats
from bertconv.formats.readback import TensorCheck, check_duplicates
from bertconv.formats.staging import StagedFolder
from bertconv.mapping.identify import Identity
from bertconv.mapping.plan import Move, Plan, PlanOptions, make_plan
from bertconv.mapping.recognise import Wanted, recognise
from bertconv.mapping.table import Table, load_dialects
from bertconv.modules import ModuleWeights, opened_modules, save_modules, with_modules
from bertconv.record import Proof, manifest_bytes, report_of
from bertconv.records import dataclass
from bertconv.report import Report
from bertconv.saving import save_weights, shard_limit
from bertconv.source import Source, SourceOptions, open_source
from bertconv.source.modules import LISTING
from bertconv.source.reading import open_header
from bertconv.tokenizer import read_tokenizer, tokenizer_notes

Progress = Callable[[str, int, int], None]
"""Reported of a step ("writing", "verifying"), of its bytes done and of its bytes in all."""


def convert_checkpoint(  # noqa: PLR0913  (one argument per option of the command)
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    to: str = "tf",
    source_dialect: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    subfolder: str = "",
    variant: str | None = None,
    head: str | None = None,
    config: str | os.PathLike[str] | None = None,
    dtype: str = "keep",
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    dry_run: bool = False,
    init_missing: bool = False,
    allow_unknown: Iterable[str] = (),
    ignore_unexpected: Iterable[str] = (),
    ignore_missing: Iterable[str] = (),
    strip_prefix: str | None = None,
    untie: bool = False,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
    verify: str = "weights",
    report_file: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Convert a checkpoint to another format, and check that every tensor arrived.

    Args:
        src: folder, file or Hub id (`org/name`, `org/name@revision`).
        dst: folder to make; it may lie in the source's folder, but not replace or hold what is read.
        to: "pt" (model.safetensors), "tf" (tf_model.h5) or "tf-safetensors".
        source_dialect: refuse a source that does not speak "pt" or "tf"; None takes either.
        revision: branch, tag or commit on the Hub.
        token: access token for the Hub; by default HF_TOKEN or the stored one.
        cache_dir: cache of the Hub; by default HF_HOME's.
        local_files_only: use only what the cache holds.
        subfolder: folder inside the source.
        variant: such as "fp16" for `model.fp16.safetensors`.
        head: model class to convert to; by default the one that the tensors are.
        config: config file to use instead of the source's.
        dtype: element type of the output, or "keep".
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        init_missing: initialise heads that the source lacks instead of refusing.
        allow_unknown: regexes of source names that may be left out.
        ignore_unexpected: more regexes for `_keys_to_ignore_on_load_unexpected`.
        ignore_missing: more regexes for `_keys_to_ignore_on_load_missing`.
        strip_prefix: use only the names that begin with this, and take it off.
        untie: keep a decoder that differs from the embeddings, and say so in the config.
        family: the `model_type` of the source's family, where its config does not say it.
        table: a mapping table of the caller's own.
        verify: "weights" reads every tensor back and compares it; "outputs" also rebuilds the model from what was
            written, runs both sides and compares what they compute (needs the frameworks of both); "auto" does so where
            they are installed; "none" does nothing.
        report_file: write the comparison of the outputs, or else of the weights, there as an HTML page, also when they
            differ.
        progress: called with the bytes of each step.

    Returns:
        What happened to every tensor.

    Raises:
        BertconvError: see `bertconv.errors`; the destination is then as it was before. ParityError when a tensor that
            was read back, or an output, is not the source's.
    """
    started = time.perf_counter()
    request = _Request.of(to, dtype, max_shard_size, verify, source_dialect)
    wanted = Wanted.of(family, table, strip_prefix)
    source = open_source(
        src,
        SourceOptions(
            revision=revision, token=token, cache_dir=Path(cache_dir) if cache_dir else None,
            local_files_only=local_files_only, subfolder=subfolder, variant=variant,
            config=Path(config) if config else None, prefer=_preference(source_dialect),
        ),
    )  # fmt: skip
    with (
        closing(open_header(source, check_data=not dry_run)) as header,
        opened_modules(source, check_data=not dry_run) as modules,
        held_back() as check_signals,
    ):
        options = PlanOptions(
            head=head, init_missing=init_missing, allow_unknown=tuple(allow_unknown),
            ignore_unexpected=tuple(ignore_unexpected), ignore_missing=tuple(ignore_missing),
            strip_prefix=strip_prefix, untie=untie,
        )  # fmt: skip
        mapping, identity = recognise(header.tensors, source, wanted)
        plan = _plan(source, mapping, identity, request, options)
        stale = check_duplicates(plan.duplicates, lambda _: check_signals())
        plan = replace(plan, notes=(*plan.notes, *stale))
        job = _Job(source, header, modules, mapping, plan, request, progress or _silent, check_signals)
        staged = StagedFolder(Path(dst), overwrite=overwrite, inputs=(*source.inputs, mapping.path))
        page = _checked_page(report_file, staged, verify)
        if dry_run:
            staged.check()
            return job.report(staged, (), (), started)
        with staged, staged.writing():
            files, checks = job.write_weights(staged)
            job.write_companions(staged)
            proof = job.prove(staged, page)
            report = proof.added_to(job.report(staged, files, checks, started))
            staged.write(MANIFEST, manifest_bytes(report, staged.path, files))  # guard: manifest
            job.check_unchanged()
            check_signals()
            staged.commit()  # guard: commit-last
    return replace(report, seconds=time.perf_counter() - started - proof.seconds)


MOST_SIDECARS = 1000
"""Most files that are carried along."""
SIDECAR_BYTES = 1_000_000_000
"""Largest of them; a tokenizer has up to 35 MB."""


@dataclass(frozen=True)
class _Request:
    """The output as the caller wants it, checked."""

    form: Format
    dtype: str
    shard_limit: int
    verify: str
    source_dialect: str | None

    @classmethod
    def of(cls, to: str, dtype: str, max_shard_size: str | int, verify: str, source_dialect: str | None) -> _Request:
        for value, known, name in ((to, formats(), "to"), (dtype, ("keep", *FLOATS), "dtype"),
                                   (verify, ("auto", "none", "weights", "outputs"), "verify"),
                                   (source_dialect, (None, *load_dialects().by_name), "source_dialect")):  # fmt: skip
            if value not in known:
                raise RequestError(f"{name} is {value!r}.", hint=f"Choose one of {', '.join(map(str, known))}.")
        return cls(formats()[to], dtype, shard_limit(max_shard_size), verify, source_dialect)


@dataclass(frozen=True)
class _Job:
    """One conversion whose plan is complete."""

    source: Source
    header: Header
    modules: tuple[ModuleWeights, ...]
    table: Table
    plan: Plan
    request: _Request
    progress: Progress
    check_signals: Callable[[], None]

    def dtype(self, move: Move) -> str:
        """Element type of a target tensor: as asked, as its source, or for a fresh one as the first tensor's source."""
        if self.request.dtype != "keep":
            return self.request.dtype
        stored = move.source or next(move.source for move in self.plan.moves if move.source)
        return stored.dtype

    def origin(self, move: Move) -> Origin:
        """Where a target tensor's elements come from."""
        if move.source is not None:
            return Origin(move.source, move.transpose)
        spread = float(self.plan.config.values["initializer_range"])
        role = move.target.id.rpartition(".")[2]
        fresh = partial(initial_values, move.target.shape, role, self.dtype(move), move.target.id, spread)
        return Origin(make=fresh)

    def contents(self) -> list[Content]:
        """Every target tensor with its element type and its origin."""
        return [Content(move.target, self.dtype(move), self.origin(move)) for move in self.plan.moves]

    def counter(self, step: str, total: int) -> Callable[[int], None]:
        """Adds up the bytes of one step, and stops it when a signal has come."""
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            self.check_signals()
            self.progress(step, done, total)

        return count

    def write_weights(self, staged: StagedFolder) -> tuple[Sequence[OutputFile], Sequence[TensorCheck]]:
        """The weights, read back; a source that was written to meanwhile is to blame before the disk is."""
        model, verify = Model(self.table, self.plan.head), self.request.verify != "none"
        try:
            files, checks = save_weights(
                staged, self.request.form, model, self.contents(), self.request.shard_limit, self.counter, verify=verify
            )
            beside, more = save_modules(staged, self.modules, self.counter, verify=verify)
        except ParityError:
            self.check_unchanged()
            raise
        return (*files, *beside), (*checks, *more)

    def check_unchanged(self) -> None:
        """DamagedCheckpoint when a file of weights was written to since it was opened."""
        for file in (*self.header.files, *(module.file for module in self.modules)):  # guard: modules-changed
            file.check_unchanged()

    def write_companions(self, staged: StagedFolder) -> None:
        """config.json, and the source's tokenizer and label files as they are."""
        staged.write("config.json", self.config().to_bytes())
        modules = self.source.modules
        carried = dict.fromkeys(self.source.sidecars, self.source.open)
        carried |= dict.fromkeys(modules.sidecars, modules.open) if modules else {}
        if len(carried) > MOST_SIDECARS:
            raise _too_much(self.source, f"has more than {MOST_SIDECARS:,} tokenizer and label files")
        for name, opened in carried.items():
            with closing(opened(name)) as file:
                if file.size > SIDECAR_BYTES:
                    raise _too_much(self.source, f"has a file {name} of {file.size:,} bytes")
                staged.copy(name, file)
        if modules and modules.listing is not None:
            staged.write(LISTING, modules.listing)

    def config(self) -> Config:
        """The source's config with the class that was written, and the element type where it names one."""
        config = self.plan.config
        changes: dict[str, object] = {"architectures": [self.plan.head]}
        changes |= {} if config.says("model_type") else {"model_type": self.table.model_type}
        if self.request.dtype != "keep":
            changes |= {key: self.request.dtype for key in ("torch_dtype", "dtype") if config.says(key)}
        return config.replace(**changes)

    def prove(self, staged: StagedFolder, page: Path | None) -> Proof:
        """What was written compared with its source, each run in its own framework, where that is asked for."""
        if self.request.verify not in ("auto", "outputs") and page is None:
            return Proof()
        started = time.perf_counter()
        from bertconv.verify.conversion import prove_conversion

        def progress(step: str, done: int, total: int) -> None:
            self.check_signals()  # between two runs of a model; a signal would wait for the last one otherwise
            self.progress(step, done, total)

        proof = prove_conversion(
            self.source, self.header, self.modules, self.table, self.plan, staged,
            level=self.request.verify, page=page, progress=progress,
        )  # fmt: skip
        return replace(proof, seconds=time.perf_counter() - started)

    def tokenizer_notes(self, staged: StagedFolder | None) -> Iterable[str]:
        """What is unusual about the tokenizer, as it was written if it was, and whether the embedding table fits it."""
        place = self.source if staged is None else replace(self.source, folder=staged.path)
        return tokenizer_notes(read_tokenizer(place), int(self.plan.config.values["vocab_size"]))

    def report(
        self, staged: StagedFolder, files: Sequence[OutputFile], checks: Sequence[TensorCheck], started: float
    ) -> Report:
        """What happened to every tensor."""
        report = report_of(self.source, self.header, self.plan, self.table, checks, self.dtype)
        report = with_modules(report, self.modules, checks)
        target = {
            "folder": str(staged.destination),
            "format": self.request.form.name,
            "files": [file.name for file in files],
        }
        return replace(
            report,
            target=target,
            notes=(*report.notes, *self.tokenizer_notes(staged if files else None)),
            seconds=time.perf_counter() - started,
            verified="weights" if checks else "none",
            dry_run=not files,
        )


def _too_much(source: Source, problem: str) -> UnsafeCheckpoint:
    return UnsafeCheckpoint(
        f"{problem} to carry along.", hint="No model needs that: move it away.", file=str(source.folder)
    )


def _checked_page(file: str | os.PathLike[str] | None, staged: StagedFolder, verify: str) -> Path | None:
    """Where the report goes; what cannot be written there is refused before the work."""
    if file is None:
        return None
    from bertconv.verify.report_files import check_page

    page = Path(file)
    if verify == "none":
        raise RequestError("a report shows a comparison, and --verify none makes none.", hint="Leave one of them out.")
    check_page(page, staged.destination)
    return page


def _preference(asked: str | None) -> tuple[str, ...]:
    """Containers in the order in which they are looked for: of a dialect that was asked for, its own one first."""
    return preferred(*(load_dialects().by_name[asked].containers[:1] if asked else ()))


def _plan(source: Source, table: Table, identity: Identity, request: _Request, options: PlanOptions) -> Plan:
    dialects = load_dialects()
    if request.source_dialect not in (None, identity.dialect.name):
        there, asked = identity.dialect, dialects.by_name[str(request.source_dialect)]
        own = f"`bertconv {there.command}`, or " if there.command else ""
        raise RequestError(
            f"holds {there.title} weights, and {asked.title} weights were asked for.",
            hint=f"Use {own}`bertconv convert` for any direction.",
            file=source.weights.files[0],
        )
    config = source.load_config(table.family)
    return make_plan(identity, table, dialects, config, request.form.dialect, options)


def _silent(step: str, done: int, total: int) -> None:
    """No progress is shown."""
