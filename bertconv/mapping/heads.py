"""Which model class a header is, and which sizes its shapes imply."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from bertconv.config import Config
from bertconv.errors import RequestError, ShapeMismatch
from bertconv.families import family_of_class
from bertconv.mapping.evidence import named_in, scope_vote, votes
from bertconv.mapping.expand import TensorSpec
from bertconv.mapping.identify import Identity
from bertconv.mapping.indices import TensorId
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.tasks import CAUSAL_LM, MASKED_LM
from bertconv.text import printable

ROWS_WIN = ("vocab_size",)
"""Config keys where the file is right and the config is not: vocabularies are padded after the config was written."""


@dataclass(frozen=True)
class HeadFit:
    """How well a head fits a header.

    Attributes:
        head: the model class.
        missing: ids that it needs and does not find.
        taken: how many tensors it takes.
        own: names of those of them that are of groups that the base model has not.
    """

    head: str
    missing: tuple[str, ...]
    taken: int
    own: frozenset[str]


@dataclass(frozen=True)
class HeadChoice:
    """The class of a header.

    Attributes:
        head: the model class; the first of `rivals` where nothing decides between these.
        equals: every class that fits the tensors as well, `head` included.
        rivals: classes between which nothing decides; empty where `head` is certain.
        why: what decided, where it was neither the tensors nor the config's `architectures`; or what contradicts.
    """

    head: str
    equals: tuple[str, ...]
    rivals: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class SizeSeen:
    """A size that shapes imply: its value, how many tensors say so, and the name of one of them."""

    value: int
    tensors: int
    example: str


def rank_heads(table: Table, identity: Identity, architectures: tuple[str, ...]) -> list[HeadFit]:
    """Every head, best first: those that can be filled, those with most above the base model, those that are named."""
    base = table.heads[table.base_head]
    certain = _by_group(spec for spec in identity.specs.values() if not spec.when and spec.id not in table.tied)
    there = _by_group(identity.specs[tensor_id] for tensor_id in identity.by_id)
    fitting = _by_group(identity.specs[tensor_id] for tensor_id in identity.by_id if _fits(identity, tensor_id))
    tied = {original for copy, original in table.tied.items() if copy in identity.by_id}
    fits = []
    for head, groups in ((head, table.heads[head]) for head in heads_of(table, identity)):
        left_out = [group for group in table.optional.get(head, ()) if group not in there]
        needed = {one for group in groups if group not in left_out for one in certain.get(group, ())}
        taken = {one for group in groups for one in fitting.get(group, ())}
        missing = tuple(sorted(needed - taken - tied))
        above = [one for group in groups if group not in base for one in fitting.get(group, ())]
        own = frozenset(tensor.name for tensor_id in above for tensor in identity.by_id[tensor_id])
        fits.append(HeadFit(head, missing, len(taken), own))

    def order(fit: HeadFit) -> tuple[bool, int, int, bool, int]:
        return bool(fit.missing), -len(fit.own), len(fit.missing), fit.head not in architectures, -fit.taken

    return sorted(fits, key=order)


def heads_of(table: Table, identity: Identity) -> tuple[str, ...]:
    """The classes that a model may be: those of its dialect, but for what another model in the file is."""
    others = {head for one in identity.views.values() for head in table.in_dialect(one.dialect).heads}
    return tuple(head for head in table.in_dialect(identity.dialect).heads if head not in others)


def fills_none(table: Table, identity: Identity) -> bool:
    """Whether no class can be filled from a header, whichever of the models in it is meant."""
    return all(rank_heads(table, one, ())[0].missing for one in (identity, *identity.views.values()))


def model_of(table: Table, identity: Identity, config: Config | None, forced: str | None) -> Identity:
    """The one of several models in a file that is meant: the one that counts, unless another class is wanted or there.

    Args:
        table: the architecture.
        identity: what the names say.
        config: of the checkpoint; None where there is none.
        forced: the class that the caller wants.

    Raises:
        RequestError: `forced` is no class of the table.
    """
    wanted = {known_head(table, forced)} if forced is not None else {*(config.named_classes if config else ())}
    for one in identity.views.values():
        if wanted & {*table.in_dialect(one.dialect).heads}:
            return one
    if forced is None:
        return next((one for one in identity.views.values() if _is_alone(table, identity, one)), identity)
    return identity


def _is_alone(table: Table, identity: Identity, view: Identity) -> bool:
    """Whether a file holds this other model and, of what it names in its own way, nothing of the one that counts."""
    named = table.views[view.dialect.name][view.dialect.view].names
    groups = {key.partition(".")[0] for key in named}
    return not any(identity.specs[place].group in groups for place in identity.by_id)


def implied_sizes(table: Table, identity: Identity, head: str) -> dict[str, int]:
    """Config keys that a config need not say: what shapes imply, and what is the same in every model of the dialect."""
    found = {key: seen.value for key, seen in sizes_seen(table, identity, head).items()}
    for size, value in table.in_dialect(identity.dialect).sizes.items():
        divided = table.sizes[size]
        if divided.divisor is not None and divided.key in found:
            found[divided.divisor] = max(1, found[divided.key] // value)
    return found


def config_of_model(config: Config, table: Table, identity: Identity, head: str) -> tuple[Config, list[str]]:
    """The config of one of several models in a file: where the file's own is of another one, the sizes are made."""
    if not identity.dialect.view:
        return config, []
    implied = implied_sizes(table, identity, head)
    if all(config.values[key] == seen.value for key, seen in sizes_seen(table, identity, head).items()):
        return config, []
    said = ", ".join(f"{key} {value}" for key, value in implied.items() if config.values[key] != value)
    note = f"this is the file's {identity.dialect.view}, and the config is of its other model: the tensors say {said}"
    return config.replace(**implied), [note]


def implied_keys(table: Table, identity: Identity) -> dict[str, Any] | None:
    """The keys of a config that a checkpoint does not need, since shapes and its dialect say it all; None elsewhere."""
    if not table.in_dialect(identity.dialect).sizes:
        return None
    meant = model_of(table, identity, None, None)
    return {"model_type": table.model_type, **implied_sizes(table, meant, choose_head(table, meant, None).head)}


def known_head(table: Table, name: str) -> str:
    """A model class by its name or that of a family that shares the table; RequestError for another table's."""
    head = name.removeprefix("TF")
    if head in table.heads:
        return head
    family = family_of_class(head)
    if family is not None and family.path == table.path:  # of one that shares it
        head = table.head_for(family.tasks[head]) or head
    if head not in table.heads:
        raise RequestError(
            f"{printable(name)} is not a class of this table.", hint=f"Known are {', '.join(table.heads)}."
        )
    return head


def choose_head(table: Table, identity: Identity, config: Config | None, forced: str | None = None) -> HeadChoice:
    """The head of a header, or the heads between which nothing decides.

    The tensors come first, then the config's `architectures`, then what else is certain (see `evidence`). A pooler says
    nothing: classes that do not own one were saved with it until transformers 4. A file that holds part of a head's
    groups is taken for that head, so that the plan names what is missing.

    Args:
        table: the architecture.
        identity: what the names say.
        config: of the checkpoint; None where there is none.
        forced: the class that the caller wants.

    Raises:
        RequestError: `forced` is no class of the table.
    """
    if forced is not None:
        head = known_head(table, forced)
        return HeadChoice(head, (head,))
    identity = model_of(table, identity, config, forced)
    architectures = config.named_classes if config else ()
    ranked = rank_heads(table, identity, architectures)
    best = ranked[0]
    torn = [fit for fit in ranked if fit.missing and len(fit.own) > len(best.own) and _is_torn(identity, fit)]
    if torn:
        best = min(torn, key=lambda fit: (len(fit.missing), -fit.taken))
    if best.missing:
        alike = (fit.head for fit in ranked if (fit.missing, fit.taken) == (best.missing, best.taken))
        return HeadChoice(best.head, tuple(alike))
    filled = [fit for fit in ranked if not fit.missing]
    whole = [fit.head for fit in filled if not any(fit.own < other.own for other in filled)]
    equals = tuple(head for head in table.heads if head in whole)
    return _decided(equals, table, identity, config)


def _decided(equals: tuple[str, ...], table: Table, identity: Identity, config: Config | None) -> HeadChoice:
    """The one of several classes with the same tensors, if something says for certain which."""
    if config is not None:
        if (named := named_in(config.named_classes, table, equals)) is not None:
            return HeadChoice(named, equals)
        left = _possible(equals, table, identity, config)
    else:
        left = equals
    reasons = {head: why for task, why in votes(config) for head in left if table.tasks[head] == task}
    if identity.dialect.scoped and (scoped := scope_vote(identity.prefix, left)) is not None:
        reasons |= {scoped: f"the names begin with {printable(identity.prefix)}"}
    reasons |= _said_by_names(left, table, identity)
    if len(left) == 1:
        return HeadChoice(left[0], equals)
    if len(reasons) == 1:
        head, why = next(iter(reasons.items()))
        return HeadChoice(head, equals, why=why)
    return HeadChoice(left[0], equals, left, " but ".join(reasons.values()))


def _said_by_names(heads: tuple[str, ...], table: Table, identity: Identity) -> dict[str, str]:
    """Those of some classes that a tensor's name is certain of by the table, each with the reason."""
    names = [tensor.name for tensors in identity.by_id.values() for tensor in tensors]
    certain = table.in_dialect(identity.dialect).says.items()
    found = ((head, next((name for name in names if re.search(said, name)), None)) for said, head in certain)
    return {head: f"one of the tensors is {printable(name)}" for head, name in found if name and head in heads}


def _possible(heads: tuple[str, ...], table: Table, identity: Identity, config: Config) -> tuple[str, ...]:
    """Those that the config's other keys leave: a language model is causal or not, and labels have their number."""
    causal = [head for head in heads if table.tasks[head] == CAUSAL_LM]
    masked = [head for head in heads if table.tasks[head] == MASKED_LM]
    unlike = masked if config.values["is_decoder"] else causal
    left = [head for head in heads if not (causal and masked and head in unlike)]
    if config.says("num_labels"):
        stated = config.values["num_labels"]
        fitting = [
            head
            for head in left
            if (seen := sizes_seen(table, identity, head).get("num_labels")) is None or seen.value == stated
        ]
        left = fitting or left
    return tuple(left)


def sizes_seen(table: Table, identity: Identity, head: str) -> dict[str, SizeSeen]:
    """Config key -> the size that the head's tensors imply; only keys that some dimension shows by itself."""
    votes: dict[str, Counter[int]] = {}
    examples: dict[tuple[str, int], str] = {}
    for spec, name, shape in _shapes(table, identity, head):
        for factors, value in zip(spec.factors, shape, strict=True):
            if len(factors) == 1 and factors[0] in table.sizes and table.sizes[factors[0]].is_key:
                key = table.sizes[factors[0]].key
                votes.setdefault(key, Counter())[value] += 1
                examples.setdefault((key, value), f"{printable(name)} {list(shape)}")
    for group in table.heads[head]:
        repeat = table.groups[group].repeat
        ids = [one for one in identity.by_id if identity.specs[one].group == group] if repeat else []
        found = {TensorId.parse(one).indices for one in ids}
        for depth, (_, size) in enumerate(repeat):
            if (number := len({indices[depth] for indices in found})) and table.sizes[size].is_key:
                key = table.sizes[size].key
                votes[key] = Counter({number: number})
                examples[key, number] = f"{group}{'.0' * depth}.{{0...{number - 1}}}"
    seen = {}
    for key, counter in votes.items():
        value, tensors = counter.most_common(1)[0]
        seen[key] = SizeSeen(value, tensors, examples[key, value])
    return seen


def fit_config(
    config: Config, seen: Mapping[str, SizeSeen], *, strict: bool = True, fewer: Collection[str] = ()
) -> tuple[Config, list[str]]:
    """The config with what the file knows better, and a note for each such change.

    ShapeMismatch for anything else, but for keys of `fewer` that say less than the file; without `strict` the config
    wins wherever it speaks.
    """
    changes: dict[str, int] = {}
    notes, problems = [], []
    for key, size in seen.items():
        stated = config.values[key]
        if stated == size.value:
            continue
        if (key in ROWS_WIN and strict) or (key == "num_labels" and not config.says(key)):
            changes[key] = size.value
            notes.append(f"{key} is {size.value} as the tensors have it; the config said {stated}")
        elif strict and not (key in fewer and stated < size.value):
            problems.append(f"  {key:24} config {stated:<8} file {size.value:<8} {size.tensors} x, {size.example}")
    if problems:
        raise ShapeMismatch(
            "\n".join(["the tensors do not fit the config:", *problems]),
            hint="Fix the config, or give the right one with --config FILE.",
            file=config.path,
        )
    return (config.replace(**changes) if changes else config), notes


def _specs(identity: Identity, groups: tuple[str, ...]) -> list[TensorSpec]:
    return [spec for spec in identity.specs.values() if spec.group in groups]


def _shapes(table: Table, identity: Identity, head: str) -> Iterator[tuple[TensorSpec, str, tuple[int, ...]]]:
    specs = {spec.id: spec for spec in _specs(identity, table.heads[head])}
    for tensor_id, tensors in identity.by_id.items():
        spec = specs.get(tensor_id)
        if spec is not None and len(tensors[0].shape) == len(spec.shape):
            yield spec, tensors[0].name, tensors[0].shape


def _by_group(specs: Iterable[TensorSpec]) -> dict[str, list[str]]:
    """Group -> the ids of its tensors among these."""
    found: dict[str, list[str]] = {}
    for spec in specs:
        found.setdefault(spec.group, []).append(spec.id)
    return found


def _fits(identity: Identity, tensor_id: str) -> bool:
    """Whether the tensor of an id has the literal sizes (two classes, one choice) of its place."""
    tensor = identity.by_id[tensor_id][0]
    return all(
        int(factors[0]) == size
        for factors, size in zip(identity.specs[tensor_id].factors, tensor.shape, strict=False)
        if len(factors) == 1 and factors[0].isdigit()
    )


def _is_torn(identity: Identity, fit: HeadFit) -> bool:
    """The head misses a part, but not the whole, of a group."""
    groups = {identity.specs[tensor_id].group for tensor_id in fit.missing}
    return any(identity.specs[one].group in groups and _fits(identity, one) for one in identity.by_id)
