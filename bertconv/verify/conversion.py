"""The last step of a conversion: the output rebuilt, run beside its source, and kept only if it is the same model."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bertconv.checkpoint import Checkpoint, checkpoint_of, open_checkpoint
from bertconv.containers.stored import Header
from bertconv.errors import ParityError, RequestError
from bertconv.formats.folder import OutputFolder
from bertconv.mapping.identify import Identity
from bertconv.mapping.plan import Plan
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.table import Table
from bertconv.modules import ModuleWeights
from bertconv.record import Proof
from bertconv.source import Source, SourceOptions
from bertconv.text import printable
from bertconv.verify.certificate import certificate
from bertconv.verify.classes import other_classes
from bertconv.verify.compare import Request, compare
from bertconv.verify.parity import Parity
from bertconv.verify.report_files import write_page
from bertconv.verify.requirements import OWN_TABLE, outputs_obstacle

_LOST = "lost"
"""State of a tensor that the target has no place for, and that the caller allowed to leave out."""


def prove_conversion(  # noqa: PLR0913  (one argument per part of a conversion)
    source: Source,
    header: Header,
    modules: tuple[ModuleWeights, ...],
    table: Table,
    plan: Plan,
    staged: OutputFolder,
    *,
    level: str,
    page: Path | None,
    progress: Callable[[str, int, int], None],
) -> Proof:
    """Compare an output that is not yet in its place with what it was made from.

    Args:
        source: of the conversion.
        header: of its files.
        modules: weights of its modules.
        table: the architecture.
        plan: of the conversion.
        staged: the output, complete but for its manifest.
        level: "outputs"; "auto", which says why outputs were not compared where they cannot be, instead of refusing; or
            "weights", which compares no outputs.
        page: HTML report to write, whatever the outcome; where outputs are not compared, of the weights.
        progress: called with the steps.

    Raises:
        ParityError: it is not the same model.
        RequestError: outputs are required and cannot be compared.
        OutputError: the report cannot be written.
    """
    reason: str | None = "" if level == "weights" else _obstacle(table, plan)
    if reason and level == "outputs":
        raise RequestError(f"outputs cannot be compared: {reason}.", hint="Pass --verify weights.")
    if reason and page is None:
        return Proof(note=f"outputs were not compared: {reason}")
    head = plan.head if all(move.source for move in plan.moves) else table.base_head
    original = checkpoint_of(source, header, modules, _written(plan), table, plan.config, head)
    wanted = Wanted(table.model_type, None if table.is_builtin else table.path)
    with open_checkpoint(staged.readable, SourceOptions(), head=head, wanted=wanted) as output:
        if level == "auto":
            reason = reason or outputs_obstacle(original, output)
        if reason and page is None:
            return Proof(note=f"outputs were not compared: {reason}")
        original = _as_written(original, output, plan)
        request = Request("weights" if reason or level == "weights" else "outputs", forced=True)
        parity = compare(original, output, request, progress)
        forced = bool(list(other_classes(original, output)))
    parity = _named(parity, original, staged, head if forced else None)
    lost = tuple(f"A: {printable(one.tensor.name)}" for one in plan.unloaded if one.state == _LOST)
    parity = replace(parity, omitted=(*parity.omitted, *lost))
    if reason:
        parity = replace(parity, notes=(*parity.notes, f"outputs were not compared: {reason}"))
    if page is not None:
        write_page(page, parity)
    if not parity.ok:
        raise ParityError(
            parity.failure_text(), file=str(staged.destination),
            hint="The output was not kept; --verify weights would keep it. Report this: it is a bug.",
        )  # fmt: skip
    if request.level == "weights":  # which every conversion compares itself: there is nothing more to record
        return Proof(note=f"outputs were not compared: {reason}" if reason else "")
    return Proof(certificate(parity))


def _obstacle(table: Table, plan: Plan) -> str:
    """Why the TensorFlow classes could not load the output, if they could not."""
    if not table.is_builtin:
        return OWN_TABLE
    if any(one.state == _LOST for one in plan.unloaded):
        return f"{plan.dialect.title} has no place for a part of the model"
    if plan.unfilled:
        return "tensors are missing that an ignore list allows to be"
    fresh = {move.target.group for move in plan.moves if move.source is None}
    if fresh & set(table.heads[table.base_head]):
        return f"{', '.join(sorted(fresh))} was newly initialised"
    return ""


def _written(plan: Plan) -> Identity:
    """The source without the groups that the class has not: where a head is new, the body has no pooler it lacks.

    Also without what was lost, as the caller allowed.
    """
    identity, groups = plan.identity, {move.target.group for move in plan.moves}
    lost = {one.tensor.name for one in plan.unloaded if one.state == _LOST}
    kept = {
        place: found
        for place, found in identity.by_id.items()
        if identity.specs[place].group in groups and not lost & {tensor.name for tensor in found}
    }
    names = {tensor.name for found in kept.values() for tensor in found}
    every = {tensor.name: tensor for found in identity.by_id.values() for tensor in found}
    aside = (tensor for name, tensor in every.items() if name not in names)
    return replace(identity, by_id=kept, outside=(*identity.outside, *aside))


def _as_written(original: Checkpoint, output: Checkpoint, plan: Plan) -> Checkpoint:
    """The source as the target's program computes it, where the plan says that this is another function."""
    told = {one.key: output.values[one.key] for one in plan.meaning.differences if not one.in_head}
    changed = original.plan.config.replace(**told)
    return replace(original, plan=replace(original.plan, config=changed)) if told else original


def _named(parity: Parity, original: Checkpoint, staged: OutputFolder, forced: str | None) -> Parity:
    """The same, with the output called by its place to be, and the command that repeats it.

    Args:
        parity: of the two.
        original: the source.
        staged: the output.
        forced: the class, where the conversion was given another one than the source's config names.
    """
    place = str(staged.destination)
    options = ["--head", forced] if forced else []
    command = shlex.join(["bertconv", "verify", original.source.given, place, *options])
    return replace(parity, b=replace(parity.b, given=place), command=command)
