"""What a config means where the weights are another program's: the function that each side of a plan computes.

The same weights under the same word may be another function elsewhere. What a dialect's program computes is declared in
the table (`[in.DIALECT]`: `activations`, `fixed`, `head_fixed`); a dialect without `activations` has programs that read
transformers' configs and compute what these say. Configs are compared and written in transformers' words alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from bertconv.config import Config
from bertconv.errors import UnsupportedCheckpoint
from bertconv.families import ACTIVATION
from bertconv.mapping.dialects import Dialect
from bertconv.mapping.table import Table
from bertconv.mapping.within import InDialect
from bertconv.records import dataclass
from bertconv.text import listed, printable

TANH_GELUS = frozenset(("gelu_new", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate", "gelu_fast"))
ERF_GELUS = frozenset(("gelu", "gelu_python"))
_KINDS = (("gelu_new", TANH_GELUS), ("gelu", ERF_GELUS), ("silu", frozenset(("silu", "swish"))))
"""Names of one function: the one that stands for all, and all."""

_FORMS = {"gelu_new": "the tanh form of gelu", "gelu": "the erf form of gelu"}
APART = "about 3e-04 apart"
"""How far the outputs of the two forms are from each other, relative to the largest; measured on tiny random models."""

_TRANSFORMERS_KEYS = frozenset((
    "model_type", "architectures", "transformers_version", "torch_dtype", "dtype", "layer_norm_eps", "torchscript",
    "output_attentions", "output_hidden_states", "finetuning_task", "pruned_heads", "position_embedding_type",
))  # fmt: skip
"""Keys that no other program's config has: one of them, and the config speaks transformers' language."""


@dataclass(frozen=True)
class Difference:
    """What the target's program computes otherwise than the model.

    Attributes:
        key: of the config, in BERT's spelling.
        model: the value that the model has.
        target: the value that the program computes with.
        in_head: in the head alone.
    """

    key: str
    model: Any
    target: Any
    in_head: bool = False

    @property
    def is_small(self) -> bool:
        """Whether it is told, not refused: the two forms of gelu, and what a head alone computes."""
        return self.in_head or self.is_of_forms

    @property
    def is_of_forms(self) -> bool:
        """Whether it is the one form of gelu for the other."""
        return self.key == ACTIVATION and {kind_of(self.model), kind_of(self.target)} <= _FORMS.keys()

    def sentence(self, program: str) -> str:
        """It in words, without a stop."""
        where = " in the head" if self.in_head else ""
        if self.is_of_forms:
            target, model = (_FORMS[kind_of(one)] for one in (self.target, self.model))
            return f"{program} computes {target}{where}, and the model {model}: their outputs are {APART}"
        if self.key == ACTIVATION:
            return f"{program} cannot compute {self.key} {printable(self.model)}{where}: it has {self.target}"
        target, model = (f"{one:g}" if isinstance(one, float) else str(one) for one in (self.target, self.model))
        return f"{program} computes with {self.key} {target}{where}, whatever a config says, and the model with {model}"


@dataclass(frozen=True)
class Meaning:
    """Which function each side of a plan computes.

    Attributes:
        config: the model's, in transformers' words.
        source: key of the config -> what the source computes with.
        said: what the source's own config calls its activation; empty where it speaks transformers' language.
        program: what people call the target's.
        word: what the target's own config calls the activation; empty where it has no word of its own for it.
        differences: what the target's program computes otherwise.
        notes: all that in sentences.
    """

    config: Config
    source: Mapping[str, Any]
    said: str = ""
    program: str = ""
    word: str = ""
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)

    def facts(self, program: str) -> dict[str, Any]:
        """As reports have it; nothing where both sides compute the same under the same word.

        Args:
            program: what people call the source's.
        """
        model = {key: self.config.values[key] for key in self.source}
        target = model | {one.key: one.target for one in self.differences if not one.in_head}
        words = {word for word in (self.said, self.word) if word and word != self.source[ACTIVATION]}
        if not words and not self.differences and model == dict(self.source):
            return {}
        return {
            "source": {"program": program, **self.source, "said": self.said or self.source[ACTIVATION]},
            "target": {"program": self.program, **target, "said": self.word or target[ACTIVATION]},
            "differences": [
                {"key": one.key, "model": one.model, "target": one.target, "in_head": one.in_head}
                for one in self.differences
            ],
        }


def kind_of(activation: str) -> str:
    """A name for activations that compute the same but for rounding."""
    return next((name for name, same in _KINDS if activation in same), activation)


def own_keys(table: Table, dialect: Dialect) -> dict[str, Any]:
    """What a dialect's program computes where its config says nothing, as keys of transformers' config."""
    within, constant = table.in_dialect(dialect), table.family.schema.fixed
    fixed = {key: value for key, value in within.fixed.items() if key not in constant}
    return {ACTIVATION: next(iter(within.activations)), **fixed} if within.activations else fixed


def word_for(table: Table, dialect: Dialect, activation: str) -> str:
    """What a dialect's own config calls an activation, of two forms of one the other; empty where it has no word."""
    functions = table.in_dialect(dialect).activations or {}
    own = _computed(functions, activation)
    return next(iter(functions.get(own, ())), "") if own is not None else ""


def meaning_of(
    table: Table,
    source: Dialect,
    target: Dialect,
    config: Config,
    head: str,
    *,
    hidden_act: str | None = None,
    allow_loss: bool = False,
) -> Meaning:
    """What the source computes, and what will be computed with the same weights in a dialect.

    Args:
        table: the architecture.
        source: the dialect of the weights.
        target: that of the output.
        config: the source's.
        head: the model class.
        hidden_act: the activation that the caller decides on; None takes the source's.
        allow_loss: let the target's program compute something else, which is then told.

    Raises:
        UnsupportedCheckpoint: it cannot compute the model.
    """
    config, said, notes = _understood(table, source, config)
    computed = {key: config.values[key] for key in (ACTIVATION, "layer_norm_eps")}
    if hidden_act is not None:
        config = config.replace(**{ACTIVATION: hidden_act})
        notes = ()
        if kind_of(hidden_act) != kind_of(computed[ACTIVATION]):
            notes = (f'hidden_act is "{hidden_act}" as asked for, and the source computes "{computed[ACTIVATION]}"',)
    within = table.in_dialect(target)
    differences = tuple(_differences(within, config, head))
    if wrong := [one for one in differences if not one.is_small and not allow_loss]:
        raise UnsupportedCheckpoint(
            f"{'; '.join(one.sentence(target.title) for one in wrong)}.",
            hint="Choose another format, or pass --allow-loss to write the weights all the same: the output "
            "is then another model.",
            file=config.path or None,
        )
    return Meaning(
        config=config,
        source=computed,
        said=said,
        program=target.title,
        word=word_for(table, target, str(config.values[ACTIVATION])),
        differences=differences,
        notes=(*notes, *(one.sentence(target.title) for one in differences)),
    )


def in_own_words(config: Config) -> Config:
    """A config that speaks transformers' language, whatever keys it has: one that a model was built from."""
    return config if config.says("model_type") else config.replace(model_type=config.family.model_type)


def _understood(table: Table, dialect: Dialect, config: Config) -> tuple[Config, str, tuple[str, ...]]:
    """A config in transformers' words, what it says of the activation in others, and what is to be said about that.

    Whose language it speaks is told by its keys; one made of arguments is transformers'.
    """
    within = table.in_dialect(dialect)
    if within.activations is None or not config.path or not _TRANSFORMERS_KEYS.isdisjoint(config.raw):
        return config, "", ()
    own = own_keys(table, dialect)
    said = str(config.values[ACTIVATION]) if config.says(ACTIVATION) else ""
    if said:
        own[ACTIVATION] = next((name for name, words in within.activations.items() if said in words), said)
    known = config.replace(model_type=config.family.model_type, **own)
    name = own[ACTIVATION]
    if not said or kind_of(said) == kind_of(name):
        return known, said, ()
    note = f'{dialect.title} computes "{name}" where its own config says "{printable(said)}"'
    if name in _FORMS and said in _FORMS:
        note = (
            f'{dialect.title} computes {_FORMS[name]} where its own config says "{said}", so hidden_act is "{name}"; '
            f'Hugging Face\'s published conversions of such files say "{said}", {_FORMS[said]}: the outputs of the two '
            f"are {APART}, and hidden_act={said} (--hidden-act) takes theirs"
        )
    return known, said, (note,)


def _differences(within: InDialect, config: Config, head: str) -> Iterator[Difference]:
    """What a dialect's program computes otherwise than a model."""
    values = config.values
    own = values[ACTIVATION]
    if within.activations is not None and _same(within.activations, own) is None:
        other = _computed(within.activations, own)
        yield Difference(ACTIVATION, own, listed(within.activations, "or") if other is None else other)
    for key, value in within.fixed.items():
        if values.get(key) != value:
            yield Difference(key, values.get(key), value)
    for key, value in within.head_fixed.get(head, {}).items():
        same = kind_of(str(values.get(key))) == kind_of(value) if key == ACTIVATION else values.get(key) == value
        if not same:
            yield Difference(key, values.get(key), value, in_head=True)


def _same(functions: Mapping[str, tuple[str, ...]], activation: str) -> str | None:
    """The function of a program that is this one, under one of its names."""
    return next((name for name in functions if kind_of(name) == kind_of(activation)), None)


def _computed(functions: Mapping[str, tuple[str, ...]], activation: str) -> str | None:
    """The same, or else the other form of gelu; None where a program has neither."""
    if (same := _same(functions, activation)) is not None or kind_of(activation) not in _FORMS:
        return same
    return next((name for name in functions if kind_of(name) in _FORMS), None)
