"""Every small change to a table turns something red; the few that may not are listed with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from golden_script import golden
from observed_names import (
    MODELS,
    family_cases,
    family_differences,
    model_cases,
    model_differences,
    observed,
    relative_differences,
)
from table_headers import REAL, Tables, prefixed, renamed, stored, without
from table_mutants import Mutant, mutants, read, to_toml

from bertconv import table_files
from bertconv.config import BertConfig
from bertconv.errors import BadTable, BertconvError
from bertconv.families import Schema
from bertconv.mapping import checks, dialects
from bertconv.mapping.dialects import Role, load_dialects
from bertconv.mapping.identify import StoredTensor
from bertconv.mapping.plan import Plan
from bertconv.mapping.table import load_table, table_for

WHOLE = "no row of BERT gives this axis more than one factor, so there is nothing to keep apart"
SURVIVORS = {
    "Model: may lack embeddings": "a file without a single embedding is not recognised as BERT at all",
    "pt.embedding.weight: split rows": WHOLE,
    "pt.norm.scale: split dim": WHOLE,
    "pt.norm.shift: split dim": WHOLE,
    "pt.vector.value: split dim": WHOLE,
    "tf.embedding.weight: split rows": WHOLE,
    "tf.norm.scale: split dim": WHOLE,
    "tf.norm.shift: split dim": WHOLE,
    "tf.vector.value: split dim": WHOLE,
}
"""Mutant -> why nothing can tell it from the original."""

SMALL = {"num_hidden_layers": 1}
BALLAST = (
    "bert.embeddings.position_ids", "bert.embeddings.token_type_ids", "w/adam_m", "w/adam_v", "global_step",
    "my_position_ids.w", "my_adam_v.w", "my_embeddings.token_type_ids.w", "embeddings-token_type_ids", "my_global_step",
)  # fmt: skip
"""Names that the ignore lists know, then names that they must not know."""

QUICK_CHECKS = (
    checks.rows_have_their_kinds_axes,
    checks.sizes_are_known_and_used,
    checks.groups_are_known_and_used,
    checks.places_name_their_variables,
    checks.overrides_point_and_differ,
    checks.ties_fit,
)
"""Checks in the order of check_table, as far as they take next to no time."""


def static(tables: Tables) -> Iterator[str]:
    yield from (problem for check in QUICK_CHECKS for problem in _first(check(*tables)))


def names(tables: Tables) -> Iterator[str]:
    """What transformers' classes call their weights."""
    if set(tables.table.heads) != set(family_cases()) or set(tables.dialects.by_name) != set(load_dialects().by_name):
        yield "other classes or dialects"
        return
    for case in ("BertForPreTraining", "BertLMHeadModel+is_decoder+cross", *model_cases()):
        yield from model_differences(*tables, case)
    yield from relative_differences(*tables)
    for head in family_cases():
        yield from family_differences(*tables, head)


def fixtures(tables: Tables) -> Iterator[str]:
    """Files as they are found: old names, prefixes, scopes, ballast, copies, parts left out."""
    try:
        BertConfig.from_dict({"model_type": "bert"}, family=tables.table.family)
    except (BertconvError, IndexError):
        yield "BERT's own model_type is refused"
    for name, header in found_files().items():
        if outcome(tables, header) != expected()[name]:
            yield name


TASKS = {
    "BertModel": "base", "BertForPreTraining": "pretraining", "BertForMaskedLM": "masked_lm",
    "BertLMHeadModel": "causal_lm", "BertForNextSentencePrediction": "next_sentence",
    "BertForSequenceClassification": "sequence_classification", "BertForMultipleChoice": "multiple_choice",
    "BertForTokenClassification": "token_classification", "BertForQuestionAnswering": "question_answering",
}  # fmt: skip


SCHEMA = Schema(
    {
        "vocab_size": 30522, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 3072, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 512, "type_vocab_size": 2,
        "initializer_range": 0.02, "layer_norm_eps": 1e-12, "pad_token_id": 0, "position_embedding_type": "absolute",
        "use_cache": True, "classifier_dropout": None,
    }, (
        "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
        "hidden_dropout_prob", "attention_probs_dropout_prob", "max_position_embeddings", "type_vocab_size",
        "initializer_range", "layer_norm_eps", "pad_token_id", "position_embedding_type", "use_cache",
        "classifier_dropout",
    ), {}, {},
)  # fmt: skip


KINDS = {
    ("pt", "logits"): {
        "weight": Role(("weight",), ("out", "in"), ("out", "in")),
        "bias": Role(("bias",), ("out",), ("out",)),
    },
    ("tf", "logits"): {
        "weight": Role(("kernel",), ("in", "out"), ("out", "in")),
        "bias": Role(("bias",), ("out",), ("out",)),
    },
    ("pt", "projection"): {"weight": Role(("weight",), ("out", "in"), ("out", "in"))},
    ("tf", "projection"): {"weight": Role(("kernel",), ("in", "out"), ("out", "in"))},
    ("pt", "nonorm"): {
        role: Role((leaf,), ("dim",), ("dim",)) for role, leaf in (("scale", "weight"), ("shift", "bias"))
    },
    ("tf", "nonorm"): {
        role: Role((leaf,), ("dim",), ("dim",)) for role, leaf in (("scale", "weight"), ("shift", "bias"))
    },
}


ABOUT = {
    "pt": ("PyTorch", "torch", ("safetensors",), {"format": "pt"}, "pt2tf"),
    "tf": ("TensorFlow", "tensorflow", ("hdf5", "safetensors"), {"format": "tf"}, "tf2pt"),
}


def kinds(tables: Tables) -> Iterator[str]:
    """What dialects are, and the kinds of which BERT has no row, or none whose axes have several factors."""
    for name, about in ABOUT.items():
        dialect = tables.dialects.by_name[name]
        said = dialect.title, dialect.framework, dialect.containers, dialect.metadata, dialect.command
        if said != about:
            yield f"{name}: another title, framework, order of containers, metadata or command"
    for (dialect, kind), roles in KINDS.items():
        if list(tables.dialects.by_name[dialect].kinds[kind].items()) != list(roles.items()):
            yield f"{dialect}.{kind}"


def facts(tables: Tables) -> Iterator[str]:
    """What the classes are for and take."""
    table = tables.table
    if (table.tasks, table.inputs, table.positions) != (TASKS, ("token_type_ids", "position_ids"), "absolute"):
        yield "other tasks, inputs or positions"
    if (table.family.title, table.family.schema) != ("BERT", SCHEMA):
        yield "another title or config"


def lists(tables: Tables) -> Iterator[str]:
    """The attributes that users of transformers know."""
    wanted = {pattern for model in observed(MODELS)["models"].values() for pattern in model["ignore_missing"]}
    if not wanted <= set(tables.table.ignore["missing"]):
        yield "names that may be missing"


def listings(tables: Tables) -> Iterator[str]:
    """The committed listings."""
    yield from golden.stale(golden.GOLDEN, {**others(), **golden.listings(*tables)})


@cache
def others() -> dict[str, str]:
    """The listings of the other tables."""
    own = golden.listings(*REAL)
    return {name: text for name, text in golden.every(REAL.dialects).items() if name not in own}


DETECTORS: tuple[Callable[[Tables], Iterator[str]], ...] = (static, names, facts, kinds, listings, lists, fixtures)


def _first(problems: Iterator[str]) -> list[str]:
    return list(islice(problems, 1))


@cache
def found_files() -> dict[str, list[StoredTensor]]:
    pretrained = REAL.header("BertForPreTraining", copies=True, **SMALL)
    aged = renamed(pretrained, **{"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"})
    tf = REAL.header("BertForPreTraining", "tf", **SMALL)
    old_word = renamed(tf, **{"word_embeddings/weight": "word_embeddings/embeddings"})
    old_tf = renamed(
        old_word,
        **{
            "ion_embeddings/embeddings": "ion_embeddings/weight",
            "type_embeddings/embeddings": "type_embeddings/weight",
        },
    )
    base, plain = (REAL.header(head, **SMALL) for head in ("BertModel", "BertForMaskedLM"))
    return {
        "gamma and beta": aged,
        "old TensorFlow names": prefixed(old_tf, "tf_bert_for_pre_training_3/"),
        "no :0": renamed(tf, **{":0": ""}),
        "Keras 2": REAL.keras_header("BertForMaskedLM", **SMALL),
        "base left out": renamed(plain, **{"bert.": ""}),
        "no pooler": without(base, "pooler"),
        "no layers": without(base, "encoder"),
        "ballast": [*base, *(stored(name, 1) for name in BALLAST)],
        "wrappers": prefixed(plain, "".join(f"{wrapper}." for wrapper in read("dialects.toml")["pt"]["wrappers"])),
        "no wrapper": prefixed(plain, "student."),
    }


def outcome(tables: Tables, header: list[StoredTensor]) -> object:
    try:
        return _summary(tables.plan(header, SMALL, allow_unknown=("",)))
    except BertconvError as refusal:
        return type(refusal).__name__


def _summary(plan: Plan) -> tuple[object, ...]:
    moves = [(move.target.name, move.source, move.transpose, move.state) for move in plan.moves]
    return plan.head, plan.equals, moves, plan.unloaded, plan.duplicates, plan.unfilled, plan.notes


@cache
def expected() -> dict[str, object]:
    return {name: outcome(REAL, header) for name, header in found_files().items()}


def caught_by(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The detector that a mutant turns red; None when it survives. Others hold that what is written is read."""
    path = Path(f"{mutant.name}.toml")
    read_toml = table_files.read_toml
    for module in (table_files, dialects):
        monkeypatch.setattr(module, "read_toml", lambda one: (mutant.raw, "") if one == path else read_toml(one))
    try:
        tables = (
            Tables(load_table(path), REAL.dialects)
            if mutant.file == "bert.toml"
            else Tables(REAL.table, load_dialects(path))
        )
    except BadTable:
        return "load"
    finally:
        monkeypatch.undo()
    return next((detector.__name__ for detector in DETECTORS if _first(detector(tables))), None)


ALONE = {
    "pooler.dense: delete": "load",
    "embeddings.word: delete": "static",
    "embeddings: swap word and segment": "names",
    "ForPreTraining: task discriminator": "facts",
    "kinds.logits.weight: reverse": "kinds",
    "layer.query: swap in and out": "listings",
    "ignore: delete dropout": "lists",
    "ignore: delete position_ids$": "fixtures",
}
"""Mutant -> the first detector that sees it: each of them is the first for one."""

PARTS = 8
"""The mutants are divided, so that workers share them."""


def test_mutants_have_names_of_their_own() -> None:
    names = [mutant.name for mutant in mutants()]
    assert [name for name, times in Counter(names).items() if times > 1] == []
    assert len(names) > 600
    assert set(SURVIVORS) <= set(names)


@pytest.mark.parametrize("file", ["bert.toml", "dialects.toml"])
def test_what_the_writer_writes_is_what_was_read(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.write_text(to_toml(read(file)))
    written, real = Tables(table_for("bert"), load_dialects()), REAL
    if file == "bert.toml":
        written = Tables(load_table(path), real.dialects)
    else:
        written = Tables(real.table, load_dialects(path))
    assert [problem for detector in DETECTORS for problem in detector(written)] == []


@pytest.mark.parametrize("part", range(PARTS))
def test_every_mutant_is_caught_but_those_without_effect(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    caught = {mutant.name: caught_by(mutant, monkeypatch) for mutant in mutants(part, PARTS)}
    assert {name for name, by in caught.items() if by is None} == set(SURVIVORS) & set(caught)


def test_no_detector_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {mutant.name: mutant for mutant in mutants() if mutant.name in ALONE}
    assert {name: caught_by(mutant, monkeypatch) for name, mutant in found.items()} == ALONE
    assert set(ALONE.values()) == {"load", *(detector.__name__ for detector in DETECTORS)}
