"""convert_checkpoint(): the steps of a conversion in their order. The first file to read.

    source -> header -> plan -> staged output -> read back -> manifest -> rename -> report

Nothing is written before the plan is complete, and nothing appears at the destination before it has been read back.
The steps after the plan are in `derive.py`.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import field, replace
from functools import partial
from pathlib import Path
from typing import Any

from bertconv.checkpoint import Opened, opened
from bertconv.config.classes import ACTIVATIONS
from bertconv.containers.registry import BY_NAME, preferred
from bertconv.containers.stored import FLOATS
from bertconv.derive import Companions, Derivation, Parent, Writing, changed_config, write_output
from bertconv.errors import RequestError, check_one_of
from bertconv.formats.content import Content, Origin, Tally
from bertconv.formats.folder import Destination, OutputFolder, destination_of
from bertconv.formats.initial import initial_values
from bertconv.formats.interrupts import held_back
from bertconv.formats.output import Format, formats
from bertconv.formats.readback import check_duplicates
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.plan import Move, Plan, PlanOptions
from bertconv.mapping.recognise import ANYTHING, Wanted
from bertconv.mapping.refusals import check_folded
from bertconv.mapping.table import Table
from bertconv.progress import Progress, silent
from bertconv.record import Proof, report_of
from bertconv.records import dataclass
from bertconv.report import Operation, Report
from bertconv.saving import DEFAULT_SHARD, recorded_limit, shard_limit
from bertconv.source import SourceOptions


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
    hidden_act: str | None = None,
    allow_loss: bool = False,
    ema: bool = False,
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
        to: the format, such as "pt" (model.safetensors), "tf" (tf_model.h5) or "tf-safetensors"; `bertconv convert
            --help` lists them all.
        source_dialect: refuse a source that does not speak it, such as "pt" or "tf"; None takes any.
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
        hidden_act: the activation that the model is to have, by transformers' name; by default the one that the source
            computes, which its program's own config may call otherwise.
        allow_loss: leave out what the format has no place for, and write weights for a program that cannot compute
            their model, instead of refusing; the report names both.
        ema: take the averages over the steps of a training, where they lie beside the weights (TensorFlow 1).
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
    request = ConversionRequest(
        operation=Operation(
            "convert",
            given_options(
                to=to, head=head, dtype=dtype, init_missing=init_missing, untie=untie,
                allow_unknown=allow_unknown, ignore_unexpected=ignore_unexpected, ignore_missing=ignore_missing,
                strip_prefix=strip_prefix, subfolder=subfolder, variant=variant, hidden_act=hidden_act,
                allow_loss=allow_loss, ema=ema,
            )
            | recorded_limit(max_shard_size),
        ),
        source=SourceOptions(
            revision=revision, token=token, cache_dir=cache_dir,
            local_files_only=local_files_only, subfolder=subfolder, variant=variant,
            config=config, prefer=_preference(source_dialect),
        ),
        wanted=Wanted.of(family, table, strip_prefix, ema=ema),
        form=_known_format(to),
        source_dialect=source_dialect,
        plan=PlanOptions(
            head=head, init_missing=init_missing, allow_unknown=tuple(allow_unknown),
            ignore_unexpected=tuple(ignore_unexpected), ignore_missing=tuple(ignore_missing),
            strip_prefix=strip_prefix, untie=untie, hidden_act=_known_activation(hidden_act), allow_loss=allow_loss,
        ),
        types=ElementTypes(dtype),
        shard_limit=shard_limit(max_shard_size),
        verify=verify,
        report_file=None if report_file is None else Path(report_file),
    )  # fmt: skip
    return run_conversion(src, destination_of(dst), request, overwrite=overwrite, dry_run=dry_run, progress=progress)


def given_options(**options: Any) -> dict[str, Any]:
    """Those options of `convert_checkpoint` that are not its defaults, as a manifest records them."""
    defaults = {name: one.default for name, one in inspect.signature(convert_checkpoint).parameters.items()}
    plain = {name: list(one) if isinstance(one, tuple | list) else one for name, one in options.items()}
    return {name: one for name, one in plain.items() if one not in (defaults.get(name), [])}


@dataclass(frozen=True)
class ElementTypes:
    """Which element type each tensor of an output has.

    Attributes:
        dtype: of all, or "keep".
        kept: whether a tensor of a table keeps its own all the same.
    """

    dtype: str = "keep"
    kept: Callable[[Table, TensorSpec], bool] = lambda _table, _spec: False

    def __post_init__(self) -> None:
        check_one_of(self.dtype, ("keep", *FLOATS), "dtype")

    def of(self, table: Table, spec: TensorSpec, stored: str) -> str:
        """The type of a target tensor whose source has the type `stored`."""
        return stored if self.dtype == "keep" or self.kept(table, spec) else self.dtype


@dataclass(frozen=True)
class ConversionRequest:
    """One conversion as its caller wants it; the verbs that rewrite one checkpoint (`manage`) make theirs, too.

    Attributes:
        operation: what is put on record.
        source: how to find the source.
        wanted: what the caller says about its family.
        form: of the output; None takes what the source is, or safetensors where that is not written.
        source_dialect: refuse a source that does not speak it; None takes any.
        plan: what is wanted of the plan.
        types: element types of the output.
        shard_limit: most bytes of tensors in one file.
        verify: "auto", "none", "weights" or "outputs".
        report_file: HTML page to write.
        prepare: changes what was opened before it is planned.
    """

    operation: Operation
    source: SourceOptions
    wanted: Wanted = ANYTHING
    form: Format | None = None
    source_dialect: str | None = None
    plan: PlanOptions = field(default_factory=PlanOptions)
    types: ElementTypes = field(default_factory=ElementTypes)
    shard_limit: int = DEFAULT_SHARD
    verify: str = "weights"
    report_file: Path | None = None
    prepare: Callable[[Opened], Opened] = lambda opened: opened

    def __post_init__(self) -> None:
        check_one_of(self.verify, ("auto", "none", "weights", "outputs"), "verify")


def run_conversion(
    src: str | os.PathLike[str],
    dst: Destination,
    request: ConversionRequest,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """The steps of a conversion; arguments, result and errors as those of `convert_checkpoint`."""
    with (
        opened(src, request.source, wanted=request.wanted, check_data=not dry_run) as found,
        held_back() as check_signals,
    ):
        _check_dialect(found, request)
        derivation, plan = planned(request.prepare(found), request, check_signals)
        page = _checked_page(request.report_file, dst, request.verify)
        prove = None
        if request.verify in ("auto", "outputs") or page is not None:
            prove = partial(_prove, found, plan, request.verify, page)
        writing = Writing(dst, overwrite, dry_run, request.verify != "none", progress or silent, prove)
        return write_output(derivation, writing, check_signals)


def planned(found: Opened, request: ConversionRequest, check_signals: Callable[[], None]) -> tuple[Derivation, Plan]:
    """The output of a conversion, planned to the last tensor."""
    form = request.form or own_format(found)
    plan = found.plan(form.dialect, request.plan)
    if not request.plan.allow_loss:
        check_folded(plan)
    stale = check_duplicates(plan.duplicates, lambda _: check_signals())
    plan = replace(plan, notes=(*plan.notes, *stale, *_other_container(found, request, form)))
    dtype = partial(_dtype, plan, found.table, request.types)
    contents = tuple(Content(move.target, dtype(move), _origin(plan, move, dtype(move))) for move in plan.moves)
    everywhere = None if request.types.dtype == "keep" else request.types.dtype
    derivation = Derivation(
        operation=request.operation,
        parents=(Parent("source", found, plan.head),),
        form=form,
        table=found.table,
        head=plan.head,
        config=changed_config(plan.config, found.table, plan.head, everywhere),
        contents=contents,
        report=report_of(found.source, found.header, plan, found.table, dtype),
        shard_limit=request.shard_limit,
        companions=Companions.of(found.source),
        modules=found.modules,
        is_lossless=_is_lossless(plan, contents),
    )
    return derivation, plan


def own_format(found: Opened) -> Format:
    """The format that a checkpoint has; its dialect's usual one where files of its kind are not written."""
    fitting = [form for form in formats().values() if form.dialect.name == found.identity.dialect.name]
    return next((form for form in fitting if form.container.name == found.header.container), fitting[0])


def _other_container(found: Opened, request: ConversionRequest, form: Format) -> Iterator[str]:
    """What is said where the output should be of its source's kind, and files of that kind are not written."""
    there = found.header.container
    if request.form is None and form.container.name != there:
        yield f"{BY_NAME[there].title} is not written: the output is {form.container.title}"


def _is_lossless(plan: Plan, contents: Iterable[Content]) -> bool:
    """Whether an output has every tensor of its source that a table knows, each with its values."""
    whole = all(one.origin.tensor is not None and one.origin.tensor.dtype == one.dtype for one in contents)
    whole = whole and all(move.state != "computed" for move in plan.moves)
    return whole and not any(one.state in ("unused", "mismatched", "lost") for one in plan.unloaded)


def _dtype(plan: Plan, table: Table, types: ElementTypes, move: Move) -> str:
    """Element type of a target tensor: as asked, as its source, or for a fresh one as the first tensor's source."""
    stored = move.source or next(move.source for move in plan.moves if move.source)
    return types.of(table, move.target, stored.dtype)


def _origin(plan: Plan, move: Move, dtype: str) -> Origin:
    """Where a target tensor's elements come from."""
    if move.source is not None:
        return Origin(move.source, move.transpose, tally=Tally() if move.source.dtype != dtype else None)
    spread = float(plan.config.values["initializer_range"])
    role = move.target.id.rpartition(".")[2]
    return Origin(make=partial(initial_values, move.target.shape, role, dtype, move.target.id, spread))


def _prove(found: Opened, plan: Plan, level: str, page: Path | None, staged: OutputFolder, progress: Progress) -> Proof:
    """What was written compared with its source, each run in its own framework."""
    started = time.perf_counter()
    from bertconv.verify.conversion import prove_conversion

    proof = prove_conversion(
        found.source, found.header, found.modules, found.table, plan, staged, level=level, page=page, progress=progress
    )
    return replace(proof, seconds=time.perf_counter() - started)


def _known_format(name: str) -> Format:
    check_one_of(name, formats(), "to")
    return formats()[name]


def _known_activation(name: str | None) -> str | None:
    if name is not None:
        check_one_of(name, sorted(ACTIVATIONS), "hidden_act")
    return name


def _check_dialect(found: Opened, request: ConversionRequest) -> None:
    there = found.identity.dialect
    if request.source_dialect not in (None, there.name):
        asked = load_dialects().by_name[str(request.source_dialect)]
        own = f"`bertconv {there.command}`, or " if there.command else ""
        to = f" SRC DST --to {request.form.name}" if request.form and not own else ""
        raise RequestError(
            f"holds {there.title} weights, and {asked.title} weights were asked for.",
            hint=f"Use `bertconv convert{to}`." if to else f"Use {own}`bertconv convert` for any direction.",
            file=found.source.weights.files[0],
        )


def _checked_page(page: Path | None, dst: Destination, verify: str) -> Path | None:
    """Where the report goes; what cannot be written there is refused before the work."""
    if page is None:
        return None
    from bertconv.verify.report_files import check_page

    if verify == "none":
        raise RequestError("a report shows a comparison, and --verify none makes none.", hint="Leave one of them out.")
    output = Path(os.path.abspath(dst)) if isinstance(dst, Path) else None  # noqa: PTH100  (not through links)
    check_page(page, output)
    return page


def _preference(asked: str | None) -> tuple[str, ...]:
    """Containers in the order in which they are looked for: of a dialect that was asked for, its own one first."""
    check_one_of(asked, (None, *load_dialects().by_name), "source_dialect")
    return preferred(*(load_dialects().by_name[asked].containers[:1] if asked else ()))
