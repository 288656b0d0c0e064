"""Of every row it is decided what it becomes, whatever the vocabularies are."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv.errors import MappingError
from bertconv.manage.resizing.vocabulary import FILLER, NEW, Size, plan_rows

TOKENS = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 9), min_size=1).filter(
    lambda tokens: len(set(tokens.values())) == len(tokens)
)
SIZES = st.builds(Size, st.none() | st.integers(1, 14), st.integers(1, 4), st.booleans())


@settings(max_examples=120, deadline=None)
@given(TOKENS, TOKENS, st.integers(1, 10), SIZES)
def test_every_row_is_a_tokens_or_padding(old: dict[str, int], new: dict[str, int], before: int, size: Size) -> None:
    needed = max(new.values()) + 1
    try:
        found = plan_rows(old, new, before, size)
    except MappingError:
        assert size.rows is not None
        assert size.rows < needed or (size.rows < before and not size.shrink)
        return
    assert found.rows == len(found.sources) >= needed
    assert found.rows % size.pad_to == 0
    assert found.rows >= before or size.shrink
    assert list(found.known) == sorted(number for number in old.values() if number < before)
    names = {number: token for token, number in new.items()}
    for row, source in enumerate(found.sources):
        was = old.get(names.get(row, ""), before)
        if row in names:
            assert source == (was if was < before else NEW)
        else:
            assert source == (row if row < before and row not in old.values() else FILLER)
    counts = found.padding
    assert counts["kept"] + counts["added"] + len(new) == found.rows
    assert counts["added"] == list(found.sources).count(FILLER)
    assert counts["before"] + len(found.known) == before
    assert found.is_identity == (list(found.sources) == list(range(before)))
