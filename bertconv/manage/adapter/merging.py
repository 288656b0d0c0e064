"""merge_adapter(): a LoRA adapter added to the checkpoint that it was trained on, in any format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bertconv.checkpoint import Opened, opened
from bertconv.containers.stored import StoredTensor
from bertconv.convert import own_format
from bertconv.derive import Companions, Derivation, Parent, Writing, changed_config, write_output
from bertconv.digests import digest_of_tensors
from bertconv.errors import MissingTensors, ShapeMismatch, check_one_of
from bertconv.formats.content import Content, Origin
from bertconv.formats.folder import destination_of
from bertconv.formats.output import Format, formats
from bertconv.formats.readback import check_duplicates
from bertconv.manage.adapter.files import Adapter, opened_adapter
from bertconv.manage.adapter.names import Changes, Modules, changes_of, check_used
from bertconv.manage.rewriting import LEVELS
from bertconv.mapping.dialects import load_dialects
from bertconv.mapping.expand import TensorSpec, expand, transpose_specs
from bertconv.mapping.plan import Move, Plan, PlanOptions
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.refusals import check_whole
from bertconv.mapping.table import Table
from bertconv.progress import Progress, silent
from bertconv.record import computed_report, short_name
from bertconv.report import Operation, ParentReport, Report
from bertconv.saving import recorded_limit, shard_limit
from bertconv.source import SourceOptions
from bertconv.tasks import CAUSAL_LM, QUESTION_ANSWERING, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION
from bertconv.text import listing, printable

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.formats.streaming import Elements, Workspace

TASKS: Mapping[str, str] = {
    "SEQ_CLS": SEQUENCE_CLASSIFICATION,
    "TOKEN_CLS": TOKEN_CLASSIFICATION,
    "QUESTION_ANS": QUESTION_ANSWERING,
    "CAUSAL_LM": CAUSAL_LM,
}
"""What peft calls the tasks that decide the class of a model."""


def merge_adapter(  # noqa: PLR0913  (one argument per option of the command)
    base: str | os.PathLike[str],
    adapter: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    *,
    to: str | None = None,
    head: str | None = None,
    max_shard_size: str | int = "5GB",
    overwrite: bool = False,
    dry_run: bool = False,
    verify: str = "weights",
    token: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    family: str | None = None,
    table: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Write a base with a LoRA adapter merged into it: `W + scale * B A`, in float64 and rounded once.

    Every tensor of the adapter is used, every module that its config names has its matrices, and every weight with
    matrices changes; else nothing is written. Modules that were trained as a whole, and biases, replace the base's.

    Args:
        base: the checkpoint that the adapter was trained on, in any format: folder, file or Hub id.
        adapter: folder or Hub id with adapter_config.json and adapter_model.safetensors (or .bin).
        dst: folder to make.
        to: "pt", "tf" or "tf-safetensors"; by default the format of the base.
        head: model class; by default the base's own, or that of the adapter's task where the adapter has its head.
        max_shard_size: most bytes of tensors in one file, as a number or like "5GB".
        overwrite: replace an earlier output at `dst`.
        dry_run: plan and report, write nothing.
        verify: "weights" reads every tensor back and compares it; "none" does nothing.
        token: access token for the Hub.
        cache_dir: cache of the Hub.
        local_files_only: use only what the cache holds.
        family: the `model_type` of the base's family, where its config does not say it.
        table: a mapping table of the caller's own.
        progress: called with the bytes of each step.

    Returns:
        What happened to every tensor.

    Raises:
        MappingError: base and adapter do not fit: a tensor without its module, a target without its tensors, another
            size, or a weight that would not change.
        UnsupportedCheckpoint: another adapter than plain LoRA (DoRA, PiSSA, quantised ...).
        BertconvError: see `bertconv.errors`; the destination is then as it was before.

    Example:
        >>> merge_adapter("bert-base-uncased", "org/adapter", "merged")  # doctest: +SKIP
    """
    check_one_of(to, (None, *formats()), "to")
    check_one_of(verify, LEVELS, "verify")
    limit = shard_limit(max_shard_size)
    options = SourceOptions(token=token, cache_dir=cache_dir, local_files_only=local_files_only)
    wanted = Wanted.of(family, table)
    with (
        opened_adapter(adapter, options, check_data=not dry_run) as lora,
        opened(base, options, wanted=wanted, check_data=not dry_run) as found,
    ):
        given = {name: value for name, value in (("to", to), ("head", head)) if value is not None}
        operation = Operation("merge-adapter", given | recorded_limit(max_shard_size))
        derivation = _derivation(found, lora, operation, formats()[to] if to else own_format(found), head, limit)
        writing = Writing(destination_of(dst), overwrite, dry_run, verify == "weights", progress or silent)
        return write_output(derivation, writing)


def _derivation(
    found: Opened, adapter: Adapter, operation: Operation, form: Format, head: str | None, limit: int
) -> Derivation:
    found, plan = _planned(found, adapter, form, head)
    table, specs = found.table, _specs(found.table, plan, plan.head)
    changes = changes_of(adapter, Modules(specs.values(), table.base), _tied(table, plan))
    repeated = table.repeated(plan.dialect, plan.config.values)
    places = {
        move.target.id: table.tied[move.target.id] if move.target.id in repeated else move.target.id
        for move in plan.moves
    }
    check_used(adapter, changes, set(places.values()), table.tied)
    contents, details = [], {}
    for move in plan.moves:
        content, done = _content(move, places[move.target.id], changes, adapter, specs, plan)
        contents.append(content)
        details[move.target.id] = done
    if missing := [content.name for content in contents if content.origin == Origin()]:
        raise MissingTensors(
            f"neither base nor adapter has:\n{listing(missing)}",
            hint="Give the base that the adapter was trained on, or choose a class with --head.",
            file=adapter.given,
        )
    report = computed_report(found.source, found.header, plan, table, contents, details)
    base = adapter.lora.base_name
    notes = [f"the adapter says that it was trained on {printable(base)}"] if base else []
    return Derivation(
        operation=operation,
        parents=(Parent("base", found, plan.head),),
        form=form,
        table=table,
        head=plan.head,
        config=changed_config(plan.config, table, plan.head),
        contents=tuple(contents),
        report=replace(report, notes=(*report.notes, *notes)),
        shard_limit=limit,
        companions=Companions.of(found.source),
        modules=found.modules,
        inputs=(adapter.config, adapter.file.path),
        others=(_parent(adapter),),
        files=(adapter.file,),
    )


def _planned(found: Opened, adapter: Adapter, form: Format, head: str | None) -> tuple[Opened, Plan]:
    """The base as the class that the adapter is for.

    That is the base's own class, unless the adapter has tensors of the head of its task that this class lacks.
    """
    table = found.table
    own = found.plan(form.dialect, PlanOptions(head=head))
    task = table.head_for(TASKS.get(adapter.lora.task, ""))
    if head is None and task is not None and task != own.head:
        specs = _specs(table, own, task)
        if lacking := _lacking(adapter, table, own, specs):
            found = _with_labels(found, lacking, specs, own)
            own = found.plan(form.dialect, PlanOptions(head=task, init_missing=True))
    check_whole(own, table)
    return found, replace(own, notes=(*own.notes, *check_duplicates(own.duplicates)))


def _specs(table: Table, plan: Plan, head: str) -> dict[str, TensorSpec]:
    """Neutral id -> tensor of a class, in the names that adapters have."""
    return expand(table, load_dialects().reference, plan.config.values, table.heads[head])


def _tied(table: Table, plan: Plan) -> Mapping[str, str]:
    return table.tied if plan.config.values["tie_word_embeddings"] else {}


def _lacking(adapter: Adapter, table: Table, plan: Plan, specs: Mapping[str, TensorSpec]) -> dict[str, StoredTensor]:
    """Tensors of an adapter that are of another class, `specs`, and not of the one that the base is."""
    own = Modules(_specs(table, plan, plan.head).values(), table.base)
    other = Modules(specs.values(), table.base)
    found = {}
    for tensor in adapter.header.tensors:
        module, _, leaf = tensor.name.removeprefix("base_model.model.").rpartition(".")
        if own.find(module, leaf) is None and (spec := other.find(module, leaf)) is not None:
            found[spec.id] = tensor
    return found


def _with_labels(
    found: Opened, lacking: Mapping[str, StoredTensor], specs: Mapping[str, TensorSpec], plan: Plan
) -> Opened:
    """The base with as many labels in its config as the adapter's head has."""
    table = found.table
    for place, tensor in lacking.items():
        rows, labels = specs[place].factors[0], plan.config.values["num_labels"]
        if (
            all(size in table.sizes and table.sizes[size].key == "num_labels" for size in rows)
            and tensor.shape[0] != labels
        ):
            config = plan.config.replace(num_labels=tensor.shape[0])
            return replace(found, source=replace(found.source, stored_config=config.to_bytes()))
    return found


def _content(
    move: Move, place: str, changes: Changes, adapter: Adapter, specs: Mapping[str, TensorSpec], plan: Plan
) -> tuple[Content, str]:
    """A tensor of the output, and in a few words what was done to it."""
    source, done = move.source, ""
    dtype = source.dtype if source is not None else next(one.source.dtype for one in plan.moves if one.source)
    if (tensor := changes.replaced.get(place)) is not None:
        _check_shape(tensor, specs[place].shape, adapter)
        move, source = replace(move, source=tensor, transpose=transpose_specs(specs[place], move.target)), tensor
        done = "from the adapter"
    if source is None:
        return Content(move.target, dtype, Origin()), ""
    if (pair := changes.pairs.get(place)) is not None:
        compute = _lazily("with_product", move, source, dtype, pair)
    elif (bias := changes.biases.get(place)) is not None:
        compute = _lazily("with_bias", move, source, dtype, *bias)
    else:
        return Content(move.target, dtype, Origin(source, move.transpose)), done
    return Content(move.target, dtype, Origin(compute=compute)), f"{done}, merged" if done else "merged"


def _lazily(name: str, *arguments: Any) -> Callable[[Workspace], Iterator[Elements]]:
    """Imports the arithmetic, and with it numpy, when elements are asked for."""

    def compute(workspace: Workspace) -> Iterator[Elements]:
        from bertconv.manage.adapter import arithmetic

        yield from getattr(arithmetic, name)(*arguments)(workspace)

    return compute


def _check_shape(tensor: StoredTensor, shape: tuple[int, ...], adapter: Adapter) -> None:
    if tensor.shape != shape:
        raise ShapeMismatch(
            f"is {list(tensor.shape)}, and the base has {list(shape)} there.",
            hint="Give the base that the adapter was trained on.", file=str(adapter.file.path), tensor=tensor.name,
        )  # fmt: skip


def _parent(adapter: Adapter) -> ParentReport:
    """The adapter as it is put on record; its digest is made of its own names."""
    from bertconv.formats.readback import digest_of
    from bertconv.formats.streaming import Workspace

    workspace = Workspace()
    digests = {one.name: digest_of(one, None, one.shape, workspace, lambda _: None) for one in adapter.header.tensors}
    name = short_name(adapter.given, adapter.commit)
    return ParentReport("adapter", name, adapter.commit, digest_of_tensors(digests))
