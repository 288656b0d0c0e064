"""The ignore lists: searched as transformers searches its own, and leaving out what its own left out."""

from __future__ import annotations

import re

import pytest
from observed_names import MODELS, observed
from table_headers import HEADS, REAL, stored

from bertconv.errors import RequestError
from bertconv.mapping.expand import expand
from bertconv.mapping.ignore import IgnoreLists, first_match, ignore_lists

NSP, MLM, POOLER = ("nsp___cls", "cls.seq_relationship"), ("mlm___cls", "cls.predictions"), ("pooler",)
THEIRS = {
    "BertModel": ((), ()),
    "BertForPreTraining": (("position_ids", "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"), ()),
    "BertForMaskedLM": ((*POOLER, *NSP, "cls.predictions.decoder.weight"), ()),
    "BertLMHeadModel": ((*POOLER, *NSP, "cls.predictions.decoder.weight"), ()),
    "BertForNextSentencePrediction": (MLM, ()),
    "BertForSequenceClassification": ((*MLM, *NSP), ("dropout",)),
    "BertForMultipleChoice": ((*MLM, *NSP), ("dropout",)),
    "BertForTokenClassification": ((*POOLER, *MLM, *NSP), ("dropout",)),
    "BertForQuestionAnswering": ((*POOLER, *MLM, *NSP), ()),
}
"""Class -> `_keys_to_ignore_on_load_unexpected` and `..._missing` of the TensorFlow classes of transformers 4.57.6."""

EVERY = pytest.mark.parametrize("head", HEADS)


def all_names() -> dict[str, set[str]]:
    """Every name that any class gives a tensor in any dialect, scoped and not, with the groups that it may be of."""
    names: dict[str, set[str]] = {}
    for dialect in REAL.dialects.everywhere.values():
        base = REAL.table.base + dialect.separator
        for spec in expand(REAL.table, dialect, None).values():
            for name in spec.names:
                for spelling in (
                    {name, name.removeprefix(base)} if dialect.drops_base else {name, f"tf_bert_model/{name}"}
                ):
                    names.setdefault(spelling, set()).add(spec.id)
    return names


def owned(head: str, ids: set[str]) -> bool:
    """Whether the class owns one of the ids, tied copies aside."""
    return any(place.split(".")[0] in REAL.table.heads[head] and place not in REAL.table.tied for place in ids)


def test_the_table_of_their_lists_is_what_was_observed() -> None:
    seen = {
        case.split("+")[0]: (set(model["ignore_unexpected"]), set(model["ignore_missing"]))
        for case, model in observed(MODELS)["models"].items()
    }
    assert {head: (set(unexpected), set(missing)) for head, (unexpected, missing) in THEIRS.items()} == seen


@EVERY
def test_what_their_lists_leave_out_ours_leave_out(head: str) -> None:
    ours = ignore_lists(REAL.table, REAL.dialects, head)
    names = [name for name, ids in all_names().items() if not owned(head, ids)] + ["bert.embeddings.position_ids"]
    theirs = [name for name in names if first_match(THEIRS[head][0], name)]
    assert [name for name in theirs if not first_match(ours.unexpected, name)] == []
    assert set(THEIRS[head][1]) <= set(ours.missing)


@EVERY
def test_every_name_of_a_foreign_group_is_left_out(head: str) -> None:
    """A name that two groups share is known to the table, so it is unused where no list says so."""
    ours = ignore_lists(REAL.table, REAL.dialects, head)
    loose = [
        name for name, ids in all_names().items() if not owned(head, ids) and not first_match(ours.unexpected, name)
    ]
    assert loose == []


@EVERY
def test_no_name_that_the_head_owns_is_left_out(head: str) -> None:
    ours = ignore_lists(REAL.table, REAL.dialects, head)
    for name, ids in all_names().items():
        if owned(head, ids):
            assert first_match(ours.unexpected + ours.missing, name) is None, name


@EVERY
def test_foreign_groups_are_searched_in_every_layer_and_behind_every_prefix(head: str) -> None:
    ours = ignore_lists(REAL.table, REAL.dialects, head)
    foreign = "cls.predictions.transform.dense.weight" if "mlm" not in REAL.table.heads[head] else "qa_outputs.bias"
    assert first_match(ours.unexpected, f"module.{foreign}")
    assert first_match(ours.unexpected, foreign.upper()) is None


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("bert.embeddings.position_ids", True),
        ("embeddings.position_ids", True),
        ("position_ids.weight", False),
        ("bert.embeddings.token_type_ids", True),
        ("token_type_ids", False),
        ("bert.pooler.dense.kernel.adam_m", True),
        ("bert/pooler/dense/kernel/adam_v", True),
        ("adam_max", False),
        ("global_step", True),
        ("my.global_step", False),
    ],
)
@EVERY
def test_lists_hold_what_ownership_cannot_say(head: str, name: str, ignored: bool) -> None:
    declared = REAL.table.ignore["unexpected"]
    assert (first_match(declared, name) is not None) is ignored
    assert declared == ignore_lists(REAL.table, REAL.dialects, head).unexpected[-len(declared) :]


def test_patterns_are_regexes_searched_in_the_whole_name() -> None:
    assert first_match(["cls.predictions"], "bert/cls/predictions/bias") == "cls.predictions"
    assert first_match(["^bias", "bi.s$"], "cls.bias") == "bi.s$"
    assert first_match([], "cls.bias") is None


def test_lists_are_extended_behind_their_end() -> None:
    lists = IgnoreLists(("a",), ("b",))
    assert lists.extended(["c"], ["d"]) == IgnoreLists(("a", "c"), ("b", "d"))
    assert lists.extended() == lists


@pytest.mark.parametrize("broken", ["(", "[a", "*a", "(?P<x"])
def test_a_broken_regex_is_the_caller_s_error(broken: str) -> None:
    with pytest.raises(RequestError, match=re.escape(repr(broken))):
        IgnoreLists((), ()).extended(missing=[broken])


@EVERY
def test_their_lists_extend_ours(head: str) -> None:
    """A user may hand over the attributes of an old subclass as they are."""
    header = [*REAL.header(head, num_labels=1), stored("my_dropout.mask", 1)]
    plan = REAL.plan(header, {"num_labels": 1, "architectures": [head]}, ignore_unexpected=("dropout",))
    assert [(one.tensor.name, one.state) for one in plan.unloaded] == [("my_dropout.mask", "ignored")]
