"""Vocabularies are held to each other by the text of their tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.tokenizer.alignment import align

VOCABULARIES = st.lists(st.text("abc", min_size=1, max_size=2), unique=True, max_size=8).map(
    lambda tokens: {token: number for number, token in enumerate(tokens)}
)


def test_every_token_has_its_place() -> None:
    found = align({"[PAD]": 0, "cat": 1, "dog": 2}, {"[PAD]": 0, "dog": 1, "eel": 5})
    assert (found.kept, found.moved) == ({"[PAD]": 0}, {"dog": (2, 1)})
    assert (found.new, found.dropped) == ({"eel": 5}, {"cat": 1})
    assert found.rows == {0: 0, 1: 2}
    assert not found.is_identity


@settings(max_examples=40, deadline=None)
@given(VOCABULARIES, VOCABULARIES)
def test_each_token_is_in_one_list(old: dict[str, int], new: dict[str, int]) -> None:
    found = align(old, new)
    assert {**found.kept, **{token: ids[1] for token, ids in found.moved.items()}, **found.new} == new
    assert {**found.kept, **{token: ids[0] for token, ids in found.moved.items()}, **found.dropped} == old
    assert len(found.kept) + len(found.moved) + len(found.new) == len(new)
    assert found.is_identity == (old == new)
    names_of = {number: token for token, number in old.items()}
    assert {names_of[before]: now for now, before in found.rows.items()} == {t: n for t, n in new.items() if t in old}


def test_two_tokens_may_share_an_id() -> None:
    assert align({"a": 0, "b": 0}, {"a": 1, "b": 0}).rows == {0: 0, 1: 0}
