"""Why a plan cannot be made, in one sentence, and what can be done, in another that is true of this file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from bertconv.config import Config
from bertconv.containers.stored import StoredTensor
from bertconv.containers.views import Folded
from bertconv.errors import AmbiguousHead, MissingTensors, ShapeMismatch, UnknownTensors, UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.heads import HeadChoice
from bertconv.mapping.plan import Plan
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.text import closest, listing, printable


@dataclass(frozen=True)
class Unknown:
    """Tensors that no table knows: their `names`, and what stands before every name of the file."""

    names: tuple[str, ...]
    prefix: str

    @property
    def bare(self) -> list[str]:
        """The names without it."""
        return [name.removeprefix(self.prefix) for name in self.names]


def check_has_class(table: Table, target: Dialect, head: str) -> None:
    """UnsupportedCheckpoint where a dialect has no files of a class."""
    if not table.speaks(target):
        raise UnsupportedCheckpoint(
            f"is {table.family.title}, and there is no {table.family.title} in {target.title}.",
            hint="Convert it to another format.",
        )
    own = table.in_dialect(target).heads
    if head not in own:
        raise UnsupportedCheckpoint(
            f"is {head}, and {target.title} has no such class.",
            hint=f"Choose another format, or one of {', '.join(own)} with --head.",
        )


def check_folded(plan: Plan) -> None:
    """UnsupportedCheckpoint where a table that the target keeps in another form does not come back from it.

    Only the few rows are read that would be lost.
    """
    for move in plan.moves:
        if isinstance(move.source, Folded) and (lost := move.source.lost()):
            raise UnsupportedCheckpoint(
                f"{plan.dialect.title} keeps {move.target.id} without its first rows and with the row of token types "
                f"added to each; these have values that would not come back:\n{listing(lost)}",
                hint="Choose another format, or pass --allow-loss to `bertconv convert`: the model then computes the "
                "same, and on the way back these are zeros.",
            )


def check_whole(plan: Plan, table: Table) -> None:
    """UnsupportedCheckpoint where an output would lose or need what only `convert` is asked to leave out or make up."""
    check_folded(plan)
    own = table.heads[plan.head]
    made = [move.target.name for move in plan.moves if move.source is None and move.target.group not in own]
    if made:
        raise needs_more(plan.head, plan.dialect, made)


def needs_more(head: str, target: Dialect, what: Sequence[str]) -> UnsupportedCheckpoint:
    """Programs of a dialect load nothing without tensors that a class does not have."""
    return UnsupportedCheckpoint(
        f"{target.title} cannot do without these, which {head} does not have:\n{listing(what)}",
        hint="Leave --to out, and write the format from the output: bertconv convert OUTPUT DST --to FORMAT.",
    )


def no_place(head: str, target: Dialect, names: Sequence[str]) -> UnsupportedCheckpoint:
    """A dialect cannot hold a part of the model."""
    return UnsupportedCheckpoint(
        f"{target.title} has no place for these tensors of {head}:\n{listing(names)}",
        hint="Choose another format, or pass --allow-loss to leave them out: the output is then another model.",
    )


def has_foreign_part(head: str, tensor: StoredTensor, what: str) -> UnsupportedCheckpoint:
    """The file holds a part of a model that no class has; `head` is what can be taken all the same."""
    return UnsupportedCheckpoint(
        f"is of {what}.",
        hint=f"Take the rest alone with --head {head}.",
        file=tensor.file.name,
        tensor=tensor.name,
    )


def undecided(chosen: HeadChoice, config: Config) -> AmbiguousHead:
    """Several classes have the file's tensors, and nothing says which it is."""
    conflict = f" ({chosen.why})" if chosen.why else ""
    return AmbiguousHead(
        f"the tensors fit {' and '.join(chosen.rivals)} alike, and nothing says which of them this is{conflict}.",
        hint="Choose one with --head CLASS, or name it under architectures in the config.",
        file=config.path or None,
    )


def missing_tensors(
    head: str,
    missing: Sequence[TensorSpec],
    unknown: Unknown,
    fitting: Sequence[str],
    *,
    fresh: bool,
    untied: bool = False,
) -> MissingTensors:
    """The file does not fill the class.

    Args:
        head: the class.
        missing: what the file would have.
        unknown: what no table knows.
        fitting: classes that the file fills.
        fresh: whether every missing one may be newly initialised.
        untied: whether they are missing because the config says that nothing is tied.
    """
    text = f"{head} cannot be filled from this file; missing are:\n{listing(spec.name for spec in missing)}"
    if unknown.names:
        text += f"\nand no table knows:\n{listing(unknown.names)}"
    conditions = {" and ".join(dict.fromkeys(one.key for one in spec.when)) for spec in missing}
    if "" not in conditions:
        hint = f"If the model was trained without them, change {' and '.join(sorted(conditions))} in the config."
    elif untied:
        hint = "If the model was trained with its embeddings as decoder, set tie_word_embeddings to true in the config"
        hint += ", or initialise what is missing with --init-missing." if fresh else "."
    elif fitting:
        one = "it" if len(fitting) == 1 else "one of them"
        hint = f"The file fills {', '.join(fitting)}: choose {one} with --head"
        hint += ", or initialise what is missing with --init-missing." if fresh else "."
    elif unknown.names:
        hint = (
            f"{_meant(unknown, [spec.name for spec in missing])}Every class needs what is missing: this may be another "
            "architecture, or another spelling, for which --map FILE takes a table of your own."
        )
    else:
        hint = "Every class needs them: give all of the checkpoint's files, or save it again."
    return MissingTensors(text, hint=hint)


def unknown_tensors(unknown: Unknown, missing: Iterable[str]) -> UnknownTensors:
    """Names that no table, head or ignore list knows.

    Args:
        unknown: the tensors.
        missing: names that the class could have and that nothing fills.
    """
    hint = "If they may be left out, pass --allow-unknown REGEX."
    return UnknownTensors(
        f"no table knows these tensors:\n{listing(unknown.names)}", hint=f"{_meant(unknown, missing)}{hint}"
    )


def wrong_shapes(
    head: str, table: Table, mismatched: Sequence[tuple[StoredTensor, TensorSpec]], body: str | None
) -> ShapeMismatch:
    """Tensors of other shapes than the class has under this config.

    Args:
        head: the class.
        table: the architecture.
        mismatched: the tensors with what they should be.
        body: the class that can be taken from the file all the same; None where there is none.
    """
    lines = []
    for tensor, spec in mismatched:
        turned = " (transposed)" if tensor.shape == spec.shape[::-1] else ""
        lines.append(f"  {printable(tensor.name)} is {list(tensor.shape)}, not {list(spec.shape)}{turned}")
    rest = f"\n  ... and {len(lines) - 20} more" if len(lines) > 20 else ""
    hint = "Fix the config, or give the right one with --config FILE."
    if not all(_is_of_config(table, tensor, spec) for tensor, spec in mismatched):
        hint = "No config fits these shapes: save the checkpoint again"
        hint += f", or take its body alone with --head {body}." if body else "."
    return ShapeMismatch(f"{head} has other shapes under this config:\n" + "\n".join(lines[:20]) + rest, hint=hint)


def _is_of_config(table: Table, tensor: StoredTensor, spec: TensorSpec) -> bool:
    """Whether another config may give the tensor's shape: a size that shapes show is as the file has it already."""
    for factors, found, wanted in zip_longest(spec.factors, tensor.shape, spec.shape):
        size = table.sizes.get(factors[0]) if factors and len(factors) == 1 else None
        if found != wanted and (size is None or len(size.keys) == 1):
            return False
    return True


def _meant(unknown: Unknown, missing: Iterable[str]) -> str:
    """The first unknown name that is close to a missing one, as a question."""
    names = list(missing)
    for name in unknown.bare:
        if (near := closest(name, names)) is not None:
            return f"Did {printable(name)} mean {printable(near)}? "
    return ""
