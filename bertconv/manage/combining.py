"""One output from several checkpoints: what `average` and `merge` have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any

from bertconv.containers.stored import FLOATS, StoredTensor
from bertconv.convert import own_format
from bertconv.derive import Companions, Derivation, Parent, Writing, changed_config, write_output
from bertconv.errors import MappingError, check_one_of
from bertconv.formats.content import Content, Origin
from bertconv.formats.folder import destination_of
from bertconv.formats.output import Format, formats
from bertconv.manage.inputs import HEADS, Combination, combined, opened_together
from bertconv.manage.rewriting import LEVELS
from bertconv.mapping.layout import both, transpose_between
from bertconv.mapping.plan import Move
from bertconv.mapping.recognise import ANYTHING, Wanted
from bertconv.progress import Progress, silent
from bertconv.record import computed_report
from bertconv.records import dataclass
from bertconv.report import Operation, Report
from bertconv.saving import recorded_limit, shard_limit
from bertconv.source import SourceOptions

if TYPE_CHECKING:  # numpy is imported where elements are read
    from bertconv.formats.arithmetic import Compute, Operand

Recipe = Callable[["Ingredients"], "Compute"]
"""Gives what computes one tensor of the output."""


@dataclass(frozen=True)
class Ingredients:
    """What one tensor of an output is computed from.

    Attributes:
        id: neutral id; of a copy that a format stores, that of the original.
        operands: the tensor in every side, in their order.
        dtype: of the output.
        move: of the first side.
    """

    id: str
    operands: tuple[Operand, ...]
    dtype: str
    move: Move


@dataclass(frozen=True)
class Output:
    """How the inputs are found and the output is written; the options that `average` and `merge` share.

    Attributes:
        to: format; None takes the first input's own.
        dtype: element type of all tensors, or "keep".
        heads: what becomes of heads, see `inputs.HEADS`.
        head: the class of all; None takes the first input's.
        max_shard_size: most bytes of tensors in one file.
        overwrite: replace an earlier output.
        dry_run: plan and report, write nothing.
        verify: "weights" or "none".
        source: how the inputs are found.
        wanted: what is known of their family.
        progress: called with the bytes of each step.
    """

    to: str | None = None
    dtype: str = "keep"
    heads: str = "same"
    head: str | None = None
    max_shard_size: str | int = "5GB"
    overwrite: bool = False
    dry_run: bool = False
    verify: str = "weights"
    source: SourceOptions = field(default_factory=SourceOptions)
    wanted: Wanted = ANYTHING
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_one_of(self.to, (None, *formats()), "to")
        check_one_of(self.dtype, ("keep", *FLOATS), "dtype")
        check_one_of(self.heads, HEADS, "heads")
        check_one_of(self.verify, LEVELS, "verify")
        shard_limit(self.max_shard_size)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Output:
        """From the keyword arguments of a public function."""
        source = SourceOptions(
            token=options.pop("token"), cache_dir=options.pop("cache_dir"),
            local_files_only=options.pop("local_files_only"),
        )  # fmt: skip
        wanted = Wanted.of(options.pop("family"), options.pop("table"))
        return cls(source=source, wanted=wanted, **options)

    @property
    def recorded(self) -> dict[str, Any]:
        """Those options that shape the output and are no defaults, as a manifest records them."""
        defaults = {"to": None, "dtype": "keep", "heads": "same", "head": None}
        changed = {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) != value}
        return changed | recorded_limit(self.max_shard_size)


def combine(
    given: Sequence[tuple[str, str | os.PathLike[str]]],
    dst: str | os.PathLike[str],
    output: Output,
    operation: Operation,
    recipe: Recipe,
    done: str,
) -> Report:
    """Open checkpoints, hold them to each other, and write what a recipe makes of them.

    Args:
        given: role and place of each; the first gives config, class and files.
        dst: folder to make.
        output: how.
        operation: what is put on record.
        recipe: computes each tensor that all have.
        done: what was done to those, in a few words.

    Returns:
        What happened to every tensor.

    Raises:
        BertconvError: see `bertconv.errors`; the destination is then as it was before.
    """
    with opened_together(given, output.source, output.wanted, check_data=not output.dry_run) as inputs:
        form = formats()[output.to] if output.to else own_format(inputs[0][1])
        found = combined(inputs, form.dialect, heads=output.heads, head=output.head)
        derivation = _derivation(found, form, output, operation, recipe, done)
        progress = output.progress or silent
        writing = Writing(destination_of(dst), output.overwrite, output.dry_run, output.verify == "weights", progress)
        return write_output(derivation, writing)


def _derivation(
    found: Combination, form: Format, output: Output, operation: Operation, recipe: Recipe, done: str
) -> Derivation:
    first, table = found.first, found.first.opened.table
    contents = tuple(_contents(found, output, recipe))
    details = {content.id: done if content.id in found.shared else f"of {first.short} alone" for content in contents}
    types = {content.dtype for content in contents}
    report = computed_report(first.opened.source, first.opened.header, first.plan, table, contents, details)
    return Derivation(
        operation=operation,
        parents=tuple(Parent(side.role, side.opened, side.plan.head) for side in found.sides),
        form=form,
        table=table,
        head=first.plan.head,
        config=changed_config(first.plan.config, table, first.plan.head, types.pop() if len(types) == 1 else None),
        contents=contents,
        report=replace(report, notes=(*report.notes, *found.notes, *_mixed(found, output))),
        shard_limit=shard_limit(output.max_shard_size),
        companions=Companions.of(first.opened.source),
        modules=first.opened.modules,
    )


def _contents(found: Combination, output: Output, recipe: Recipe) -> Iterator[Content]:
    from bertconv.formats.arithmetic import Operand, common_type

    first = found.first
    repeated = first.opened.table.repeated(first.plan.dialect, first.plan.config.values)
    for place in found.kept:
        move = first.moves[place]
        if place not in found.shared:
            dtype = _stored(move).dtype if output.dtype == "keep" else output.dtype
            yield Content(move.target, dtype, Origin(move.source, move.transpose))
            continue
        back = transpose_between(move.target.layout, move.target.canonical)
        moves = [side.moves[place] for side in found.sides]
        operands = tuple(Operand(_stored(one), one.transpose, both(one.transpose, back)) for one in moves)
        types = [one.tensor.dtype for one in operands]
        dtype = common_type(types) if output.dtype == "keep" else output.dtype
        own = first.opened.table.tied[place] if place in repeated else place
        yield Content(move.target, dtype, Origin(compute=recipe(Ingredients(own, operands, dtype, move))))


def _stored(move: Move) -> StoredTensor:
    """The tensor that a move reads; a plan without `init_missing` has one for each."""
    if move.source is None:
        raise MappingError("has no source.", hint="Report this as a bug.", tensor=move.target.name)
    return move.source


def _mixed(found: Combination, output: Output) -> list[str]:
    """What is said where inputs have different element types."""
    types = [{_stored(side.moves[place]).dtype for side in found.sides} for place in found.shared]
    mixed = [one for one in types if len(one) > 1]
    if not mixed or output.dtype != "keep":
        return []
    named = ", ".join(sorted({dtype for one in mixed for dtype in one}))
    said = f"{len(mixed)} of {len(types)} tensors have different element types in the inputs ({named})"
    return [f"{said}: the output has the narrowest that holds both"]
