"""Several checkpoints that become one: opened together, and held to each other before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property

from bertconv.checkpoint import Checkpoint, Opened, checkpoint_of, opened
from bertconv.digests import digests, vocabulary_facts
from bertconv.errors import AmbiguousHead, MappingError, RequestError
from bertconv.formats.readback import check_duplicates
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.plan import Move, Plan, PlanOptions
from bertconv.mapping.recognise import Wanted
from bertconv.mapping.refusals import check_whole
from bertconv.record import short_name
from bertconv.records import dataclass
from bertconv.source import SourceOptions
from bertconv.text import brief, printable

MOST_INPUTS = 100
"""Most checkpoints that are combined; each has open files and buffers."""
HEADS = ("same", "drop", "first")
"""What becomes of heads: all of one class, the base models alone, or the first input's."""


@dataclass(frozen=True)
class Side:
    """One of the checkpoints.

    Attributes:
        role: "input" or "base".
        name: as the user gave it.
        opened: it.
        checkpoint: it as the class in which it is held to the others.
        plan: how its tensors become those of the output.
    """

    role: str
    name: str
    opened: Opened
    checkpoint: Checkpoint
    plan: Plan

    @property
    def short(self) -> str:
        """What notes call it, which go on record: no folders of somebody's machine."""
        source = self.opened.source
        return short_name(source.given, source.revision)

    @cached_property
    def moves(self) -> Mapping[str, Move]:
        """Neutral id -> how it is read."""
        return {move.target.id: move for move in self.plan.moves}


@dataclass(frozen=True)
class Combination:
    """Checkpoints that fit each other.

    Attributes:
        sides: all of them; the first one has the config, the class and the files that the output has.
        shared: ids of the tensors that are computed from all of them; the first has the others.
        kept: ids of those that the output has.
        notes: what is to be said of them, one sentence each.
    """

    sides: tuple[Side, ...]
    shared: frozenset[str]
    kept: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def first(self) -> Side:
        """The side that the others are held to."""
        return self.sides[0]


@contextmanager
def opened_together(
    given: Sequence[tuple[str, str | os.PathLike[str]]], options: SourceOptions, wanted: Wanted, *, check_data: bool
) -> Iterator[tuple[tuple[str, Opened], ...]]:
    """Open checkpoints, each with its role; errors as for `checkpoint.opened`.

    Raises:
        RequestError: there are more than `MOST_INPUTS`.
    """
    if len(given) > MOST_INPUTS:
        raise RequestError(f"{len(given)} inputs were given.", hint=f"Combine at most {MOST_INPUTS} at a time.")
    with ExitStack() as stack:
        yield tuple(
            (role, stack.enter_context(opened(path, options, wanted=wanted, check_data=check_data)))
            for role, path in given
        )


def combined(
    inputs: Sequence[tuple[str, Opened]], dialect: Dialect, *, heads: str = "same", head: str | None = None
) -> Combination:
    """Checkpoints as sides that can be computed with, element by element.

    Args:
        inputs: opened, each with its role.
        dialect: of the output.
        heads: one of `HEADS`.
        head: the class of all; None takes the first one's.

    Raises:
        MappingError: one of them is of another family, class, size or vocabulary than the first, or computes something
            else with the same tensors.
        BertconvError: one of them cannot be planned.
    """
    if heads == "drop" and head is not None:
        raise RequestError("heads drop and a class exclude each other.", hint="Leave one of them out.")
    names = [printable(one.source.given) for _, one in inputs]
    _check_families(inputs, names)
    base = inputs[0][1].table.base_head
    first_head = base if heads == "drop" else inputs[0][1].plan(dialect, PlanOptions(head=head)).head
    body = heads != "same"
    sides = []
    for number, (role, one) in enumerate(inputs):
        own = base if body and number else first_head
        if not body and head is None and number:
            _check_class(one, names[number], first_head, names[0], dialect)
        plan = one.plan(dialect, PlanOptions(head=own))
        check_whole(plan, one.table)
        sides.append(Side(role, names[number], one, _as_class(one, base if body else own), plan))
    notes = [note for side in sides[1:] for note in _checked(side, sides[0], with_labels=not body)]
    notes += [note for side in sides for note in check_duplicates(side.plan.duplicates)]
    shared, kept, more = _tensors(sides, heads)
    return Combination(tuple(sides), shared, kept, (*notes, *more))


def refused(side: Side, first: Side, what: str, hint: str) -> MappingError:
    """The error for a side that does not fit the first one."""
    return _refused(side.name, first.name, what, hint)


def _refused(name: str, first: str, what: str, hint: str) -> MappingError:
    return MappingError(f"cannot be combined with {first}: {what}.", hint=hint, file=name)


def _check_families(inputs: Sequence[tuple[str, Opened]], names: Sequence[str]) -> None:
    (_, first), *others = inputs
    for (_, one), name in zip(others, names[1:], strict=True):
        same_table = one.table.path.resolve() == first.table.path.resolve()
        if not same_table or one.table.family.model_type != first.table.family.model_type:
            titles = one.table.family.title, first.table.family.title
            what = f"it is a model of {titles[0]}, and {names[0]} one of {titles[1]}"
            raise _refused(name, names[0], what, "Give checkpoints of one family.")


def _check_class(one: Opened, name: str, head: str, first: str, dialect: Dialect) -> None:
    """Refuse a checkpoint that is of another class by itself: its head would be left out."""
    try:
        plan = one.plan(dialect, PlanOptions())
    except AmbiguousHead:
        return  # its tensors are those of several classes; as the first one's they are complete or refused
    if head not in (plan.head, *plan.equals):
        raise _refused(
            name,
            first,
            f"it is a {plan.head}, and {first} a {head}",
            "Use --heads drop for the base models alone, or --heads first to take the head of the first input.",
        )


def _as_class(one: Opened, head: str) -> Checkpoint:
    config = one.source.load_config(one.table.family)
    return checkpoint_of(one.source, one.header, one.modules, one.identity, one.table, config, head)


def _checked(side: Side, first: Side, *, with_labels: bool) -> Iterator[str]:
    """Refuse a side that means something else by the same tensors; what could not be held to the first is noted."""
    from bertconv.verify.config_keys import config_differences
    from bertconv.verify.labels import compare_labels

    a, b = first.checkpoint, side.checkpoint
    for one in config_differences(a, b):
        what = f"{one.key} is {one.b!r} in its config and {one.a!r} in the other's"
        raise refused(side, first, what, "Models that compute differently have no common weights.")
    if with_labels and (wrong := compare_labels(a, b).differences):
        where = f"{wrong[0].sentence} (A is {first.name}, B is {side.name})"
        raise refused(side, first, where, "Give both the same labels in the same order, or use --heads.")
    yield from _vocabularies(side, first)
    yield from _modules(side, first)
    if left_out := [name for name in side.checkpoint.left_out() if name not in first.checkpoint.left_out()]:
        yield f"{side.short} has tensors that do not go into the output: {brief(left_out)}"


def _vocabularies(side: Side, first: Side) -> Iterator[str]:
    one, other = (vocabulary_facts(each.checkpoint.tokenizer) for each in (first, side))
    if one is None or other is None:
        if one is not other:
            named = first.short if one is None else side.short
            yield f"{named} has no list of tokens, so that its vocabulary was not compared"
    elif one != other:
        what = (
            f"it has another vocabulary, of {other['tokens']:,} tokens where the other has {one['tokens']:,}"
            if one["tokens"] != other["tokens"]
            else "it has another vocabulary: the same number of tokens with other ids"
        )
        raise refused(side, first, what, "Rows of the embeddings would be of different tokens.")


def _modules(side: Side, first: Side) -> Iterator[str]:
    """Refuse other modules of sentence-transformers, or other weights of them: the first's go along as they are."""
    from bertconv.verify.modules import compare_modules

    hint = "Only the transformers are combined: give models whose modules are equal."
    found = compare_modules(first.checkpoint, side.checkpoint)
    if found.differences:
        what = f"{found.differences[0].sentence} (A is {first.name}, B is {side.name})"
        raise refused(side, first, what, hint)
    weights = [_module_digests(each.checkpoint) for each in (first, side)]
    if weights[0] != weights[1]:
        differing = [place for place in {**weights[0], **weights[1]} if weights[0].get(place) != weights[1].get(place)]
        raise refused(side, first, f"weights of modules beside the transformer differ: {brief(differing)}", hint)
    if found.state == "not compared" and (first.opened.source.modules or side.opened.source.modules):
        yield f"the modules beside the transformer were not compared ({found.about}, A is {first.short})"


def _module_digests(checkpoint: Checkpoint) -> dict[str, str]:
    beside = {place: one for place, one in checkpoint.everything.items() if place not in checkpoint.tensors}
    return digests(beside) if beside else {}


def _tensors(sides: Sequence[Side], heads: str) -> tuple[frozenset[str], tuple[str, ...], list[str]]:
    """Ids that are computed, ids that are written, and what is said of those that are not in all."""
    first, *others = sides
    shared = set(first.moves).intersection(*(side.moves for side in others))
    for side in others:
        for place in filter(shared.__contains__, first.moves):
            _check_shape(place, side, first)
    notes = []
    for side in others:
        apart = [*(place for place in first.moves if place not in side.moves),
                 *(place for place in side.moves if place not in first.moves)]  # fmt: skip
        if apart and heads == "same":
            there, lacking = (first, side) if apart[0] in first.moves else (side, first)
            what = f"{there.name} has {brief(apart)} and {lacking.name} has not"
            raise refused(side, first, what, "Use --heads drop for what all have, or --heads first.")
        if apart:
            notes.append(f"not in both {first.short} and {side.short}: {brief(apart)}")
    kept = tuple(place for place in first.moves if heads == "first" or place in shared)
    return frozenset(shared), kept, notes


def _check_shape(place: str, side: Side, first: Side) -> None:
    one, other = (each.moves[place].target.canonical.shape for each in (first, side))
    if one != other:
        what = f"{place} has the shape {list(other)}, and {list(one)} in the other"
        raise refused(side, first, what, "Give models of one size and one vocabulary.")
