"""Which dialect a header speaks, what was put before its names, and which tensor of the table each one is.

Decided by names alone: never by a file's name or its metadata, which are wrong too often.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bertconv.containers.stored import StoredTensor
from bertconv.errors import DamagedCheckpoint, MappingError, UnknownPrefix, UnsupportedCheckpoint
from bertconv.mapping.dialects import Dialect, Dialects
from bertconv.mapping.expand import TensorSpec, specs_by_name
from bertconv.mapping.table import Table
from bertconv.records import dataclass
from bertconv.text import printable

_FOREIGN = (
    (re.compile(r"\blora_[AB]\b|\blora_embedding_"), "holds LoRA adapters, not whole weights",
     "Merge them first: bertconv merge-adapter BASE ADAPTER -o FOLDER."),
    (re.compile(r"(^|\.)(adapters|prompt_encoder|prefix_encoder)\."), "holds adapters or a prefix, not whole weights",
     "Merge them into the model first, or convert the base model."),
    (re.compile(r"\.(SCB|weight_format|qweight|qzeros|absmax|quant_state\b.*|_packed_params.*|weight_scale(_inv)?)$"),
     "holds quantised weights", "Dequantise the model and save it again in float32, float16 or bfloat16."),
    (re.compile(r"(^|/)vars/\d+$"), "is a Keras 3 weights file, which numbers a layer's weights and does not name them",
     'Load it with load_weights into a model of its class, then save_pretrained(FOLDER, format="pt").'),
    (re.compile(r"\.self_attention\.query_key_value\.|(^|\.)language_model\.embedding\."),
     "is Megatron's, whose BERT is another architecture (normalised before each layer, query, key and value fused)",
     "transformers' MegatronBert classes run it; bertconv does not convert it."),
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
    """

    dialect: Dialect
    prefix: str
    by_id: Mapping[str, tuple[StoredTensor, ...]]
    specs: Mapping[str, TensorSpec]
    unrecognised: tuple[StoredTensor, ...]
    outside: tuple[StoredTensor, ...]


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
        UnsupportedCheckpoint: adapters, quantised weights, or nothing of the family at all.
        UnknownPrefix: a prefix that is neither known nor given.
        MappingError: several encoders, or names of two dialects.
        DamagedCheckpoint: two tensors with one id.
    """
    every = list(tensors)
    refuse_foreign(every)
    inside = [tensor for tensor in every if tensor.name.startswith(strip_prefix or "")]
    outside = tuple(tensor for tensor in every if not tensor.name.startswith(strip_prefix or ""))
    names = {tensor.name[len(strip_prefix or "") :] for tensor in inside}
    dialect, root = _root(names, table, dialects, every)
    if strip_prefix is None:
        _check_root(root, dialect, table)
    speller = _Speller(table, dialect, root)
    spelled = {spelling for name in names for spelling in speller.spellings(name)}
    known = specs_by_name(table, dialect, spelled)
    by_id: dict[str, list[StoredTensor]] = {}
    unrecognised = []
    for tensor in inside:
        specs = speller.look_up(tensor.name[len(strip_prefix or "") :], known)
        for spec in specs:
            by_id.setdefault(spec.id, []).append(tensor)
        if not specs:
            unrecognised.append(tensor)
    _refuse_doubles(by_id)
    return Identity(
        dialect,
        (strip_prefix or "") + speller.prefix,
        {tensor_id: tuple(found) for tensor_id, found in by_id.items()},
        {spec.id: spec for specs in known.values() for spec in specs},
        tuple(unrecognised),
        outside,
    )


class _Speller:
    """The names that a name of the file may stand for once prefix, scope and a left-out base are accounted for."""

    def __init__(self, table: Table, dialect: Dialect, root: str) -> None:
        self.dialect = dialect
        self.base = table.base + dialect.separator
        self.has_base = root.endswith(self.base) or not dialect.drops_base
        self.prefix = root.removesuffix(self.base) if dialect.drops_base else root

    def spellings(self, name: str) -> list[str]:
        """Canonical names that `name` may stand for, likeliest first."""
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


def refuse_foreign(tensors: list[StoredTensor]) -> None:
    """UnsupportedCheckpoint for what is no family's weights: adapters, quantised weights, numbered ones."""
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
            hint=f"bertconv converts {title} in PyTorch's or TensorFlow's (Keras 2) names; "
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
    return [
        (dialect, root) for dialect, root, explained in found if not any(explained < other for _, _, other in found)
    ]


def _roots(names: set[str], table: Table, dialect: Dialect) -> dict[str, set[str]]:
    """What stands before the names of the table's first group, wherever one of them is found, with these names."""
    first = next(iter(table.groups))
    known = specs_by_name(table, dialect, set(), only=first)
    anchors = {name.removesuffix(dialect.suffix) for name in known}
    base = table.base + dialect.separator
    if dialect.drops_base:
        anchors = {anchor.removeprefix(base) for anchor in anchors}
    roots: dict[str, set[str]] = {}
    ends = tuple(anchors)
    for name in names:
        bare = name.removesuffix(dialect.suffix)
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
