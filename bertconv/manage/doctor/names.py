"""Findings about the names of tensors: what programs do not recognise they replace by random numbers, in silence."""

from __future__ import annotations

from collections.abc import Iterator

from bertconv.containers.stored import StoredTensor
from bertconv.manage.doctor.patient import ERROR, NOTE, WARNING, Finding, Patient
from bertconv.manage.doctor.programs import (
    BERTCONV,
    EVERY,
    KERASHUB,
    ON_TORCH,
    OTHERS,
    TENSORFLOW_4,
    TORCH_4,
    TRANSFORMERS_5,
)
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.evidence import named_in
from bertconv.mapping.expand import expand
from bertconv.text import brief, human_bytes, listed, printable

_NORM = "LayerNorm"
"""The module of which transformers renames gamma and beta; it does so in no other."""


def check(patient: Patient) -> Iterator[Finding]:
    """Findings about names and about the class that they are of."""
    if patient.identity is None:
        return
    if patient.dialect == patient.dialects.reference:
        yield from _prefix(patient)
        yield from _norms(patient)
    else:
        yield from _foreign(patient)
    yield from _class(patient)
    yield from _missing(patient)
    yield from _unknown(patient)
    yield from _twice(patient)


def _foreign(patient: Patient) -> Iterator[Finding]:
    """Names of the other framework in a file that PyTorch's programs open."""
    reads = TRANSFORMERS_5.reads(patient.names)
    if patient.dialect is not None and patient.weights == reads:
        title = patient.dialect.title
        yield Finding(
            "other-frameworks-names", ERROR, (*ON_TORCH, KERASHUB.key),
            f"{reads} has {title}'s names: transformers 5 takes none of them, returns a model of random numbers and "
            "raises nothing; 4.57 returns one without any, and KerasHub raises SafetensorError.",
            patient.convert(),
        )  # fmt: skip


def _prefix(patient: Patient) -> Iterator[Finding]:
    """What stands before every name, where transformers does not take it off."""
    identity, table = patient.identity, patient.table
    if identity is None or table is None or not identity.prefix:
        return
    affects: tuple[str, ...]
    base = table.base + identity.dialect.separator
    prefix = printable(identity.prefix)
    if identity.prefix.replace(base, "") == "":  # doubled
        affects, who = (TORCH_4.key,), "transformers 4.57 does not know: it"
    else:
        affects, who = ON_TORCH, "transformers does not know: it"
    yield Finding(
        "unread-prefix", ERROR, affects,
        f"every name begins with {prefix!r}, which {who} returns a model of random numbers and raises nothing.",
        patient.convert(),
    )  # fmt: skip


def _norms(patient: Patient) -> Iterator[Finding]:
    """Scales and shifts of normalisations in the spelling of older files."""
    old = [tensor.name for tensor in patient.header.tensors if _is_old(tensor, patient.dialects.reference)]
    unread = [name for name in old if name.split(".")[-2:-1] != [_NORM]]
    if unread:
        yield Finding(
            "norm-names", ERROR, ON_TORCH,
            f"{brief(unread)} are gamma and beta of modules that are not called {_NORM}: transformers does not rename "
            "them and initialises these modules.",
            patient.convert(), tensors=tuple(map(printable, unread)),
        )  # fmt: skip
    elif old:
        yield Finding(
            "norm-names", NOTE, (OTHERS.key,),
            f"{_NORM} has gamma and beta, as in files of TensorFlow's time: transformers and KerasHub know them, and "
            "readers that take names as they are do not.",
            patient.convert(), tensors=tuple(map(printable, old)),
        )  # fmt: skip


def _is_old(tensor: StoredTensor, dialect: Dialect) -> bool:
    """Whether its last part is a spelling that the dialect only reads."""
    leaf = tensor.name.rpartition(dialect.separator)[2]
    return any(leaf in role.leaves[1:] for roles in dialect.kinds.values() for role in roles.values())


def _class(patient: Patient) -> Iterator[Finding]:
    """The class that the config names against the one that the tensors are."""
    plan, table, config = patient.plan, patient.table, patient.config
    if plan is None or table is None or config is None or patient.lacking:
        return
    if not config.named_classes:
        yield Finding(
            "class-not-named", NOTE, (BERTCONV.key, OTHERS.key),
            f"the config names no class under architectures: programs that choose by it cannot tell that this is "
            f"{plan.head}.",
            patient.convert("--head", plan.head),
        )  # fmt: skip
        return
    said = listed(map(printable, config.named_classes), "and")
    head = named_in(config.named_classes, table, table.heads)
    if head is None:
        yield Finding(
            "class-not-known", WARNING, EVERY,
            f"the config names {said}, which no class of {table.family.title} is called; the tensors are those of "
            f"{plan.head}.",
            patient.convert("--head", plan.head),
        )  # fmt: skip
    elif head != plan.head:
        yield _other_class(patient, head, plan.head)


def _other_class(patient: Patient, named: str, found: str) -> Finding:
    lacking = _unfilled(patient, named)
    if lacking:
        return Finding(
            "head-missing", ERROR, (*ON_TORCH, TENSORFLOW_4.key),
            f"the config names {named} and the file lacks {brief(lacking)}: transformers initialises them at random, "
            f"with a warning only; the tensors are those of {found}.",
            patient.convert(), tensors=tuple(map(printable, lacking)),
        )  # fmt: skip
    return Finding(
        "head-left-out", NOTE, ON_TORCH,
        f"the config names {named} and the file is {found}'s: what {named} has no place for is left out on loading.",
        patient.convert("--head", named),
    )  # fmt: skip


def _unfilled(patient: Patient, head: str) -> list[str]:
    """Names of what a class must have and the file has not."""
    identity, table, plan = patient.identity, patient.table, patient.plan
    if identity is None or table is None or plan is None:
        return []
    optional = table.optional.get(head, ())
    groups = [group for group in table.heads[head] if group not in optional]
    wanted = expand(table, patient.dialects.reference, plan.config.values, groups)
    return [spec.name for place, spec in wanted.items() if place not in identity.by_id and place not in table.tied]


def _missing(patient: Patient) -> Iterator[Finding]:
    """Tensors of the class itself, and its pooler."""
    plan, table = patient.plan, patient.table
    if plan is None or table is None:
        return
    if patient.lacking:
        names = [spec.name for spec in patient.lacking]
        base = table.base_head
        in_body = any(spec.group in table.heads[base] for spec in patient.lacking)
        yield Finding(
            "tensors-missing", ERROR, EVERY,
            f"the file lacks {brief(names)} of {plan.head}: transformers initialises them at random, with a warning "
            "only.",
            "" if in_body else patient.convert("--head", base),
            advice="Take the checkpoint from which this one was made."
            if in_body
            else "Or take the checkpoint from which this one was made: the command keeps the body alone.",
            tensors=tuple(map(printable, names)),
        )  # fmt: skip
    pooler = [group for group in table.optional.get(table.base_head, ()) if group in table.heads[plan.head]]
    filled = {move.target.group for move in plan.moves}
    if plan.head == table.base_head and pooler and not filled.intersection(pooler):
        yield Finding(
            "pooler-missing", NOTE, (*ON_TORCH, TENSORFLOW_4.key),
            f"the file has no {listed(pooler, 'and')}: transformers makes one of random numbers, and its pooler_output "
            "means nothing.",
            advice="Load it with add_pooling_layer=False, and use last_hidden_state.",
        )  # fmt: skip


def _twice(patient: Patient) -> Iterator[Finding]:
    """Tied tensors that are stored beside what they are tied to; Keras 2 does so by itself."""
    pairs = patient.plan.duplicates if patient.plan else ()
    if patient.dialect != patient.dialects.reference:
        return
    apart = [pair for pair in pairs if pair.copy.place != pair.original.place]
    if apart:
        names = [pair.copy.name for pair in apart]
        size = human_bytes(sum(pair.copy.nbytes for pair in apart))
        does = "" if patient.deep else "; where the two differ, programs disagree, and --deep compares them"
        yield Finding(
            "stored-twice", NOTE, EVERY,
            f"{brief(names)} {'is' if len(names) == 1 else 'are'} tied by the config and stored all the same: {size} "
            f"more{does}.",
            patient.convert(), tensors=tuple(map(printable, names)),
        )  # fmt: skip


def _unknown(patient: Patient) -> Iterator[Finding]:
    """What no table knows."""
    for inside, severity in ((True, WARNING), (False, NOTE)):
        names = [one.tensor.name for one in patient.unknown if one.inside == inside]
        if not names:
            continue
        what = "stand inside the model, and" if inside else "are no part of the model that bertconv knows;"
        yield Finding(
            "unknown-tensors", severity, EVERY,
            f"{brief(names)} {what} transformers leaves them out on loading.",
            patient.convert(),
            advice="It is another architecture than its config says: load it with the code that made it."
            if inside
            else "",
            tensors=tuple(map(printable, names)),
        )  # fmt: skip
