"""What a plan is: every source tensor and every target tensor in exactly one state. `planner` makes it."""

from __future__ import annotations

from bertconv.config import Config
from bertconv.containers.stored import StoredTensor
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.identify import Identity
from bertconv.mapping.ignore import IgnoreLists
from bertconv.mapping.layout import Transpose
from bertconv.mapping.meaning import Meaning
from bertconv.records import dataclass


@dataclass(frozen=True)
class PlanOptions:
    """What the caller wants of a plan.

    Attributes:
        head: model class to convert to; None takes the one that the file is.
        init_missing: initialise a head or a pooler that the file lacks, instead of refusing.
        allow_unknown: regexes of source names that no table knows and that may be left out.
        ignore_unexpected: more regexes for `_keys_to_ignore_on_load_unexpected`.
        ignore_missing: more regexes for `_keys_to_ignore_on_load_missing`.
        strip_prefix: use only the names that begin with this, and take it off; None finds the prefix.
        untie: keep a tied copy that differs as a tensor of its own and set `tie_word_embeddings` to false.
        groups: the groups that the model owns, where they are not its class's; None takes the class's.
        ignore: the two regex lists, where they are not the class's; None takes the table's for the class.
        allow_loss: leave out what the target's dialect has no place for, and let its program compute something else,
            instead of refusing.
        hidden_act: the activation that the model is to have; None takes the one that the source computes.
        ignore_mismatched: newly initialise a tensor of another shape, as transformers' `ignore_mismatched_sizes`.
        fewer: config keys that may say less than the file has: numbers of layers, of which the first ones are taken.
    """

    head: str | None = None
    init_missing: bool = False
    allow_unknown: tuple[str, ...] = ()
    ignore_unexpected: tuple[str, ...] = ()
    ignore_missing: tuple[str, ...] = ()
    strip_prefix: str | None = None
    untie: bool = False
    groups: tuple[str, ...] | None = None
    ignore: IgnoreLists | None = None
    allow_loss: bool = False
    hidden_act: str | None = None
    ignore_mismatched: bool = False
    fewer: tuple[str, ...] = ()


@dataclass(frozen=True)
class Move:
    """One target tensor and where its elements come from.

    Attributes:
        target: what is to be written.
        source: the tensor that fills it; None when it is initialised.
        transpose: how the elements of the source change order, else None.
        state: "loaded", "tied" (filled from its tied copy), "computed" (from what is stored) or "initialised".
    """

    target: TensorSpec
    source: StoredTensor | None
    transpose: Transpose | None
    state: str


@dataclass(frozen=True)
class UnloadedTensor:
    """A source tensor that is not loaded, and why.

    Attributes:
        tensor: the tensor.
        state: "tied", "unused", "ignored", "unknown", "outside", "mismatched" or "lost".
        why: in a few words.
        inside: it is a part of the model that the caller leaves out: no table knows it, or the target has no place.
    """

    tensor: StoredTensor
    state: str
    why: str
    inside: bool = False


@dataclass(frozen=True)
class Duplicate:
    """Two stored copies of one tensor, which must be equal.

    Attributes:
        copy: one of them.
        original: the other.
        transpose: as in Move, from `copy` to `original`.
        may_differ: the model computes with `copy` alone: another value of `original` is reported and left out.
    """

    copy: StoredTensor
    original: StoredTensor
    transpose: Transpose | None
    may_differ: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything that a conversion will do, before a byte of weights is read.

    Attributes:
        head: the model class.
        equals: every class that fits the file as well as `head`.
        identity: what the names of the source say.
        config: the config in transformers' words, with what the file knows better.
        dialect: of the target.
        moves: the target tensors, in the order of the table.
        unloaded: the source tensors that no move takes.
        duplicates: pairs that must hold equal values.
        unfilled: target tensors that an ignore list allows to be missing.
        mismatched: source tensors of another shape that were left out, with what they should be.
        ignore: the two regex lists that were used.
        meaning: which function each side computes.
        notes: what is unusual, one sentence each.
    """

    head: str
    equals: tuple[str, ...]
    identity: Identity
    config: Config
    dialect: Dialect
    moves: tuple[Move, ...]
    unloaded: tuple[UnloadedTensor, ...]
    duplicates: tuple[Duplicate, ...]
    unfilled: tuple[TensorSpec, ...]
    mismatched: tuple[tuple[StoredTensor, TensorSpec], ...]
    ignore: IgnoreLists
    meaning: Meaning
    notes: tuple[str, ...]
