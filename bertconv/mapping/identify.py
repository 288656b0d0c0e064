"""Which dialect a header speaks, what was put before its names, and which tensor of the table each one is.

Decided by names alone: never by a file's name or its metadata, which are wrong too often.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field, replace

from bertconv.config import Config
from bertconv.containers.stored import StoredTensor
from bertconv.errors import DamagedCheckpoint, MappingError, UnknownPrefix, UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialect, Dialects
from bertconv.mapping.expand import TensorSpec, paths_of, specs_by_name
from bertconv.mapping.indices import TensorId, is_flat
from bertconv.mapping.numbered import are_numbered, named, unresolved
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.text import listed, printable

_FOREIGN = (
    (re.compile(r"\blora_[AB]\b|\blora_embedding_"), "holds LoRA adapters, not whole weights",
     "Merge them first: bertconv merge-adapter BASE ADAPTER -o FOLDER."),
    (re.compile(r"(^|\.)(adapters|prompt_encoder|prefix_encoder)\."), "holds adapters or a prefix, not whole weights",
     "Merge them into the model first, or convert the base model."),
    (re.compile(r"\.(SCB|weight_format|qweight|qzeros|absmax|quant_state\b.*|_packed_params.*|weight_scale(_inv)?)$"),
     "holds quantised weights", "Dequantise the model and save it again in float32, float16 or bfloat16."),
    (re.compile(r"\.self_attention\.query_key_value\.|(^|\.)language_model\.embedding\."),
     "is Megatron's, whose BERT is another architecture (normalised before each layer, query, key and value fused)",
     "transformers' MegatronBert classes run it; bertconv does not convert it."),
    (re.compile(r"(^|/)mobile_bert_embedding/|(^|/)layer_with_weights-\d+/block_layers/"),
     "is Model Garden's MobileBERT, another architecture", "bertconv converts its BERT and its ALBERT."),
    (re.compile(r"(^|/)Transformer-\d+-(MultiHeadSelfAttention|FeedForward)(-Norm)?/"),
     "was saved by bert4keras, which numbers the layers of a block instead of naming them",
     "Load it there, return_keras_model=False, and save_weights_as_checkpoint(PREFIX): a TensorFlow 1 checkpoint."),
    (re.compile(r"(^|/)Encoder-\d+-(MultiHeadSelfAttention|FeedForward)(-Norm)?/"),
     "was saved by keras-bert, which calls its weights otherwise than every other program",
     "Give the TensorFlow 1 checkpoint that it was trained from; what was fine-tuned, keras-bert alone can load."),
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What the names of a header say.

    Attributes:
        dialect: whose names they are.
        prefix: what stands before every name, such as "module." or "tf_bert_model/"; not part of the names below.
        by_id: neutral id -> the tensors that claim it; a name that two heads give to different modules is under both.
        specs: neutral id -> every tensor that some head may have in as many layers as the file has; sizes are all 1.
        unrecognised: tensors whose names no head of the table has.
        outside: tensors that the caller's prefix left out.
        elsewhere: known tensors that are no part of this model, each with what it is.
        views: the other models that lie in the file, by the names that the table gives them.
    """

    dialect: Dialect
    prefix: str
    by_id: Mapping[str, tuple[StoredTensor, ...]]
    specs: Mapping[str, TensorSpec]
    unrecognised: tuple[StoredTensor, ...]
    outside: tuple[StoredTensor, ...]
    elsewhere: tuple[tuple[StoredTensor, str], ...] = ()
    views: Mapping[str, Identity] = field(default_factory=dict)


def identify(
    tensors: Iterable[StoredTensor], table: Table, dialects: Dialects, strip_prefix: str | None = None
) -> Identity:
    """Find dialect, prefix and tensor ids.

    Args:
        tensors: the header's tensors.
        table: the architecture.
        dialects: every dialect that may be spoken.
        strip_prefix: use only the names that begin with this, and take it off; None finds the prefix.

    Raises:
        UnsupportedCheckpoint: adapters, quantised weights, numbered ones of unknown layers, or nothing of the family at
            all.
        UnknownPrefix: a prefix that is neither known nor given.
        MappingError: several encoders, or names of two dialects.
        DamagedCheckpoint: two tensors with one id.
    """
    every = list(tensors)
    refuse_foreign(every)
    if are_numbered(every) and not _best_roots({tensor.name for tensor in every}, table, dialects):
        numbered, every = every, named(every, table, dialects)
        if not _best_roots({tensor.name for tensor in every}, table, dialects):
            raise unresolved(numbered)
    inside = [tensor for tensor in every if tensor.name.startswith(strip_prefix or "")]
    outside = tuple(tensor for tensor in every if not tensor.name.startswith(strip_prefix or ""))
    names = {tensor.name[len(strip_prefix or "") :] for tensor in inside}
    dialect, root = _root(names, table, dialects, every)
    if strip_prefix is None:
        _check_root(root, dialect, table)
    whole = _assigned(inside, outside, table, dialect, root, strip_prefix or "")
    views = {
        one.view: _assigned(inside, outside, table, one, root, strip_prefix or "") for one in table.views_in(dialect)
    }
    return _with_views(whole, views)


def unknown_names(tensors: Iterable[StoredTensor], dialect: Dialect) -> Identity:
    """What names say of which the table knows none: nothing."""
    return Identity(dialect, "", {}, {}, tuple(tensors), ())


def _assigned(
    inside: list[StoredTensor], outside: tuple[StoredTensor, ...], table: Table, dialect: Dialect, root: str, cut: str
) -> Identity:
    """The place of every tensor, by names of one dialect; `cut` is the caller's prefix."""
    names = {tensor.name[len(cut) :] for tensor in inside}
    speller = _Speller(table, dialect, root, dialect.spelling(names))
    spelled = {spelling for name in names for spelling in speller.spellings(name)}
    known = specs_by_name(table, dialect, spelled)
    by_id: dict[str, list[StoredTensor]] = {}
    unrecognised = []
    for tensor in inside:
        specs = speller.look_up(tensor.name[len(cut) :], known)
        for spec in specs:
            by_id.setdefault(spec.id, []).append(tensor)
        if not specs:
            unrecognised.append(tensor)
    all_specs = {spec.id: spec for specs in known.values() for spec in specs}
    twice = table.in_dialect(dialect).twice
    elsewhere = tuple(_take_spare(by_id, all_specs, twice, lambda name: speller.spellings(name[len(cut) :])))
    _refuse_doubles(by_id)
    return Identity(
        dialect,
        cut + speller.prefix,
        {tensor_id: tuple(found) for tensor_id, found in by_id.items()},
        all_specs,
        tuple(unrecognised),
        outside,
        elsewhere,
    )


def _with_views(whole: Identity, views: Mapping[str, Identity]) -> Identity:
    """An identity with those of the other models in the file, of which each has tensors that nothing else explains."""
    strange = {id(tensor) for tensor in whole.unrecognised}
    present = {name: one for name, one in views.items() if any(id(it) in strange for it in _claimed(one))}
    if not present:
        return whole
    known = {
        id(it): f"of another model in the file, its {name}" for name, one in present.items() for it in _claimed(one)
    }
    other = {id(it): "of another model in the file" for it in _claimed(whole)}
    apart = {name: _set_aside(one, other) for name, one in present.items()}
    return replace(_set_aside(whole, known), views=apart)


def _claimed(identity: Identity) -> Iterator[StoredTensor]:
    return (tensor for tensors in identity.by_id.values() for tensor in tensors)


def _set_aside(identity: Identity, known: Mapping[int, str]) -> Identity:
    """An identity without those unrecognised tensors whose `id()` is known."""
    aside = tuple((one, known[id(one)]) for one in identity.unrecognised if id(one) in known)
    left = tuple(one for one in identity.unrecognised if id(one) not in known)
    return replace(identity, unrecognised=left, elsewhere=(*identity.elsewhere, *aside))


def regrouped(identity: Identity, table: Table, config: Config) -> Identity:
    """What the names say once sizes are known: of an index that counts through two variables, names tell one alone."""
    for group in table.groups.values():
        if any(map(is_flat, paths_of(table, identity.dialect, group))):
            inner = table.sizes[group.repeat[-1][1]].value(config.values)
            new = {one: _divided(one, inner) if spec.group == group.id else one for one, spec in identity.specs.items()}
            identity = replace(
                identity,
                by_id={new[one]: found for one, found in identity.by_id.items()},
                specs={new[one]: replace(spec, id=new[one]) for one, spec in identity.specs.items()},
            )
    return identity


def _divided(tensor_id: str, inner: int) -> str:
    """An id whose second index goes on behind the last one of the first group, as that of the group that it is of."""
    at = TensorId.parse(tensor_id)
    outer, number = at.indices
    if outer or inner < 1:
        return tensor_id
    outer, number = divmod(number, inner)
    return f"{at._replace(indices=(outer, number)).at}.{at.module}.{at.role}"


class _Speller:
    """The names that a name of the file may stand for once prefix, scope and a left-out base are accounted for."""

    def __init__(self, table: Table, dialect: Dialect, root: str, spelled: Callable[[str], str]) -> None:
        self.dialect = dialect
        self.spelled = spelled
        self.base = table.base + dialect.separator
        self.has_base = root.endswith(self.base) or not dialect.drops_base
        self.prefix = root.removesuffix(self.base) if dialect.drops_base else root

    def spellings(self, name: str) -> list[str]:
        """Canonical names that `name` may stand for, likeliest first."""
        name = self.spelled(name)
        if self.prefix and name.startswith(self.prefix):
            found = [name[len(self.prefix) :]]
        else:
            found = [name]
            if self.dialect.scoped and self.dialect.separator in name:
                found.append(name.split(self.dialect.separator, 1)[1])
        if not self.has_base:
            found += [self.base + spelling for spelling in found]
        if self.dialect.suffix and not name.endswith(self.dialect.suffix):
            found = [spelling + self.dialect.suffix for spelling in found]
        return found

    def look_up(self, name: str, known: Mapping[str, tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
        """The specs that `name` stands for; none when no head has it."""
        return next((known[spelling] for spelling in self.spellings(name) if spelling in known), ())


def _take_spare(
    by_id: Mapping[str, list[StoredTensor]],
    specs: Mapping[str, TensorSpec],
    twice: Collection[str],
    spellings: Callable[[str], list[str]],
) -> Iterator[tuple[StoredTensor, str]]:
    """Take out of `by_id` what stands at a place that does not count, where the group also has one that does."""

    def rank(tensor: StoredTensor, names: tuple[str, ...]) -> int:
        spelled = spellings(tensor.name)
        return next(number for number, name in enumerate(names) if name in spelled)

    for tensor_id, tensors in by_id.items():
        spec = specs[tensor_id]
        if len(tensors) > 1 and spec.group in twice:
            best = max(tensors, key=lambda tensor: rank(tensor, spec.names))
            rest = [one for one in tensors if rank(one, spec.names) < rank(best, spec.names)]
            tensors[:] = [one for one in tensors if one not in rest]
            yield from ((one, f"{best.name} counts instead") for one in rest)


def refuse_foreign(tensors: list[StoredTensor]) -> None:
    """UnsupportedCheckpoint for what is no family's weights: adapters, quantised weights."""
    for pattern, what, hint in _FOREIGN:
        for tensor in tensors:
            if pattern.search(tensor.name):
                raise UnsupportedCheckpoint(f"{what}.", hint=hint, file=tensor.file.name, tensor=tensor.name)


def _root(names: set[str], table: Table, dialects: Dialects, tensors: list[StoredTensor]) -> tuple[Dialect, str]:
    found = _best_roots(names, table, dialects)
    if not found:
        title = table.family.title
        some = ", ".join(printable(tensor.name) for tensor in tensors[:3]) or "none"
        raise UnsupportedCheckpoint(
            f"holds no {title}: none of its {len(tensors)} tensors is named as {title}'s embeddings are "
            f"(found {some}).",
            hint=f"What is known of {title} are the names of "
            f"{listed([one.title for one in table.spoken(dialects)], 'and')}; "
            f"`bertconv tables show {table.model_type}` lists them.",
            file=tensors[0].file.name if tensors else None,
        )
    if len(found) > 1:
        roots = ", ".join(repr(root.removesuffix(table.base + dialect.separator)) for dialect, root in found)
        raise MappingError(
            f"holds {len(found)} encoders, under {roots}.",
            hint="Choose one with --strip-prefix PREFIX.",
            file=tensors[0].file.name,
        )
    return found[0]


def _best_roots(names: set[str], table: Table, dialects: Dialects) -> list[tuple[Dialect, str]]:
    """Every dialect and root that explains names which no other one explains more of: dialects share some names."""
    found = [
        (dialect, root, explained)
        for dialect in table.spoken(dialects)
        for root, explained in sorted(_roots(names, table, dialect).items())
    ]
    best = [one for one in found if not any(one[2] < other for _, _, other in found)]
    # The same names of one dialect with a longer and a shorter beginning: one encoder, spelled in two ways.
    shortest: dict[tuple[str, frozenset[str]], tuple[Dialect, str]] = {}
    for dialect, root, explained in best:  # sorted by root
        shortest.setdefault((dialect.name, frozenset(explained)), (dialect, root))
    return list(shortest.values())


def _roots(names: set[str], table: Table, dialect: Dialect) -> dict[str, set[str]]:
    """What stands before the names of the table's first group, wherever one of them is found, with these names."""
    first = next(iter(table.groups))
    known = specs_by_name(table, dialect, set(), only=first)
    anchors = {name.removesuffix(dialect.suffix) for name in known}
    base = table.base + dialect.separator
    if dialect.drops_base:
        anchors = {anchor.removeprefix(base) for anchor in anchors}
    roots: dict[str, set[str]] = {}
    ends, spelled = tuple(anchors), dialect.spelling(names)
    for name in names:
        bare = spelled(name).removesuffix(dialect.suffix)
        if not bare.endswith(ends):  # most names, and at once
            continue
        for anchor in anchors:
            if bare == anchor or bare.endswith(dialect.separator + anchor):
                roots.setdefault(bare.removesuffix(anchor), set()).add(name)
    return roots


def _check_root(root: str, dialect: Dialect, table: Table) -> None:
    if dialect.scoped:
        return
    parts = root.split(dialect.separator)[:-1]
    if unknown := [part for part in parts if part not in (*dialect.wrappers, table.base)]:
        prefix = root.removesuffix(table.base + dialect.separator)
        error = UnknownPrefix(
            f"every name begins with {prefix!r}, and bertconv does not know the prefix {unknown[0]!r}.",
            hint=f"If it is what some tool put before the names, pass --strip-prefix {printable(prefix)}",
        )
        error.prefix = prefix
        raise error


def _refuse_doubles(by_id: Mapping[str, list[StoredTensor]]) -> None:
    for tensor_id, tensors in by_id.items():
        by_group = {tensor.group for tensor in tensors}
        if len(by_group) < len(tensors):
            one, other = tensors[0], tensors[1]
            raise DamagedCheckpoint(
                f"{printable(one.name)} and {printable(other.name)} both claim to be {tensor_id}.",
                hint="Remove one of the two from the checkpoint.",
                file=other.file.name,
                tensor=other.name,
            )
