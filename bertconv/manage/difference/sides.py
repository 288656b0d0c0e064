"""Checkpoints opened to be held to each other: of one architecture, each as its own class, aligned by neutral id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from bertconv.checkpoint import Checkpoint, Opened, Tensor, opened_to_read
from bertconv.errors import MappingError
from bertconv.manage.difference.elements import Pair
from bertconv.manage.difference.rows import RowAlignment
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.heads import choose_head
from bertconv.mapping.recognise import Wanted
from bertconv.source import SourceOptions
from bertconv.text import printable

Given = tuple[str | os.PathLike[str], SourceOptions]
_LEAST = 0.01
"""The part of the base model's matrices that has to be alignable: small ones may have one shape by chance."""


@contextmanager
def opened_sides(given: Sequence[Given], head: str | None, wanted: Wanted) -> Iterator[list[Checkpoint]]:
    """Open several checkpoints, each as its own class or all as a given one, with all that they have of the base model.

    Args:
        given: the sides, each with how to find it.
        head: the class; None takes of each the one that it is.
        wanted: what the caller says about the family.

    Raises:
        MappingError: they are of different architectures.
        BertconvError: one of them cannot be read.
    """
    with ExitStack() as stack:
        found = [stack.enter_context(opened_to_read(place, options, wanted=wanted)) for place, options in given]
        for other in found[1:]:
            _check_table(found[0], other)
        sides = _as_one_class(found, head) if head else _as_classes(found)
        yield [side.with_base() for side in sides]


def pairs_of(a: Checkpoint, b: Checkpoint) -> list[Pair]:
    """The tensors that both have; those with a row for each token with the rows aligned.

    Raises:
        MappingError: next to no matrix of the base model can be held to the other side's.
    """
    here, there = a.everything, b.everything
    alignments: dict[tuple[int, int], RowAlignment] = {}
    pairs = []
    for place, tensor in there.items():
        if place in here:
            alignment = None
            if _has_token_rows(a, here[place].spec) and _has_token_rows(b, tensor.spec):
                rows = here[place].spec.canonical.shape[0], tensor.spec.canonical.shape[0]
                if rows not in alignments:
                    alignments[rows] = RowAlignment(a.tokenizer.tokens, b.tokenizer.tokens, *rows)
                alignment = alignments[rows]
            pairs.append(Pair(place, here[place], tensor, alignment))
    base = a.table.heads[a.table.base_head]
    matrices = [pair for pair in pairs if pair.b.spec.group in base and len(pair.b.spec.shape) > 1]
    compared = sum(pair.b.spec.count for pair in matrices if pair.is_compared)
    if compared < _LEAST * sum(pair.b.spec.count for pair in matrices) or not compared:
        raise _not_alignable(a, b, matrices)
    return pairs


def only_in(a: Checkpoint, b: Checkpoint) -> Mapping[str, Tensor]:
    """The tensors of A that B has not."""
    return {place: tensor for place, tensor in a.everything.items() if place not in b.everything}


def _check_table(one: Opened, other: Opened) -> None:
    if one.table.path.resolve() != other.table.path.resolve():
        names = (printable(side.source.given) for side in (one, other))
        first, second = names
        raise MappingError(
            f"not alignable: {first} is a model of {one.table.family.title} and {second} one of "
            f"{other.table.family.title}.",
            hint="Give checkpoints of one architecture.",
        )


def _as_one_class(found: Sequence[Opened], head: str) -> list[Checkpoint]:
    """All as a class; those of another family of the table as theirs for the same task."""
    first = next((one for one in found if head in one.table.heads), found[0]).as_class(head)
    return [one.as_class(head, first) for one in found]


def _as_classes(found: Sequence[Opened]) -> list[Checkpoint]:
    """Each as its class; where several have its tensors and nothing decides, as that of another side if that is one.

    A diff looks at the tensors alone, and these classes have the same.
    """
    chosen = [choose_head(one.table, one.identity, one.source.load_config(one.table.family)) for one in found]
    tasks = [one.table.tasks[choice.head] for one, choice in zip(found, chosen, strict=True) if not choice.rivals]
    sides = []
    for one, choice in zip(found, chosen, strict=True):
        fitting = [rival for rival in choice.rivals if one.table.tasks[rival] in tasks]
        sides.append(one.as_class(fitting[0] if fitting else choice.head))
    return sides


def _has_token_rows(side: Checkpoint, spec: TensorSpec) -> bool:
    """Whether its first axis is the vocabulary."""
    sizes = spec.factors[0] if spec.factors else ()
    return len(sizes) == 1 and sizes[0] in side.table.token_sizes


def _not_alignable(a: Checkpoint, b: Checkpoint, pairs: Sequence[Pair]) -> MappingError:
    if not pairs:
        why = "they have no matrix of the model in common"
    else:
        pair = max((pair for pair in pairs if not pair.is_compared), key=lambda one: one.a.spec.count)
        shapes = [list(side.spec.canonical.shape) for side in (pair.a, pair.b)]
        why = f"its matrices have other shapes on the two sides, such as {pair.id}: {shapes[0]} and {shapes[1]}"
    given = " and ".join(printable(side.source.given) for side in (a, b))
    return MappingError(f"not alignable: {given}: {why}.", hint="Give checkpoints of one size.")
