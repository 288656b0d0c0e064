"""Rows of tables with one for each token: held to each other by token, wherever the two sides have them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import checkpoints as cp
import numpy as np
import pytest
from diffed import WORD_ID, assert_numbers, normal, rows, states

from bertconv import Diff, diff_checkpoints
from bertconv.manage.difference import rows as row_module
from bertconv.manage.difference.rows import RowAlignment, RowFlags

HEAD = "BertForMaskedLM"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (*SPECIAL, *(f"word{number}" for number in range(90)))
"""Of a table of 101 rows: six are no token's."""
BIAS_ID = "mlm.bias.value"


def save(
    folder: Path, table: np.ndarray, bias: np.ndarray, words: Sequence[str] | None, container: str = "safetensors"
) -> Path:
    """A checkpoint with these word embeddings, this bias of words and this vocabulary."""
    state = {**normal(HEAD), cp.WORD: table, cp.MLM_BIAS: bias}
    cp.save(folder, HEAD, state, container, vocab_size=len(table))
    if words is not None:
        (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    return folder


def made(rows: int = 101) -> tuple[np.ndarray, np.ndarray]:
    state = normal(HEAD, vocab_size=rows)
    return state[cp.WORD], state[cp.MLM_BIAS]


def compare(folder: Path, a: Any, b: Any, container: str = "safetensors", **options: Any) -> Diff:
    return diff_checkpoints(save(folder / "a", *a), save(folder / "b", *b, container), **options)


def test_rows_that_changed_are_counted_and_named_by_their_tokens(tmp_path: Path) -> None:
    table, bias = made()
    other = table.copy()
    other[[7, 50, 100]] += np.float32(0.25)
    found = rows(compare(tmp_path, (table, bias, WORDS), (other, bias, WORDS), "h5"))[WORD_ID]
    assert found.rows is not None
    assert (found.rows.by, found.rows.kept, found.rows.changed, found.rows.moved) == ("token", 101, 3, 0)
    assert found.rows.names["changed"] == ("word2", "word45", "row 100")
    assert_numbers(found.change, table, other)


@pytest.mark.parametrize("small", [True, False])
@pytest.mark.parametrize("container", ["safetensors", "h5"])
def test_rows_are_aligned_by_token(
    tmp_path: Path, container: str, small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not small:  # as a table that is too large to be read whole, in several pieces
        monkeypatch.setattr(row_module, "PANEL", 0)
        monkeypatch.setattr(row_module, "PIECE", 1000)
    table, bias = made()
    kept = [0, 1, 2, 3, 4, *range(9, 95)]  # word0 to word3 are dropped
    words = (*(WORDS[row] for row in kept[:20]), "new0", "new1", *(WORDS[row] for row in kept[20:]))
    fresh = np.full((2, 35), 0.5, np.float32)
    other = np.concatenate([table[kept[:20]], fresh, table[kept[20:]], table[95:97]])
    other_bias = np.concatenate([bias[kept[:20]], fresh[0, :2], bias[kept[20:]], bias[95:97]])
    other[words.index("word30")] *= np.float32(2)
    diff = compare(tmp_path, (table, bias, WORDS), (other, other_bias, words), container)
    found = rows(diff)[WORD_ID]
    assert found.rows is not None
    assert (found.state, found.rows.rows_a, found.rows.rows_b) == ("changed", 101, 95)
    # rows 95 to 100 of A are no token's; B's last two rows are not either, at places that are tokens' in A
    assert (found.rows.kept, found.rows.moved, found.rows.new, found.rows.dropped) == (5, 86, 4, 10)
    assert found.rows.changed == 1
    assert found.rows.names["changed"] == ("word30",)
    assert found.rows.names["new"] == ("new0", "new1", "row 93", "row 94")
    assert found.rows.names["dropped"][:5] == ("word0", "word1", "word2", "word3", "row 95")
    aligned = [words.index(WORDS[row]) for row in kept]
    assert_numbers(found.change, table[kept], other[aligned])
    assert_numbers(rows(diff)[BIAS_ID].change, bias[kept], other_bias[aligned])
    assert "1 of 91 rows changed (word30), 86 tokens moved" in diff.verdict()
    assert [one.key for one in diff.config] == ["vocab_size"]


def test_the_same_bits_under_other_tokens_are_equal_and_their_rows_moved(tmp_path: Path) -> None:
    table, bias = made()
    swapped = (*WORDS[:5], WORDS[6], WORDS[5], *WORDS[7:])
    diff = compare(tmp_path, (table, bias, WORDS), (table, bias, swapped))
    found = rows(diff)[WORD_ID]
    assert states(diff) == {}
    assert not diff.equal
    assert found.rows is not None
    assert (found.rows.moved, found.rows.changed, found.rows.names["moved"]) == (2, 2, ("word1", "word0"))
    assert diff.tokenizer.state == "different"
    assert compare(tmp_path / "2", (table, bias, WORDS), (table, bias, swapped), ignore=("tokenizer",)).equal


@pytest.mark.parametrize("words", [(None, None), (WORDS, None), (None, WORDS)])
def test_without_a_tokenizer_on_both_sides_rows_are_aligned_by_number(
    tmp_path: Path, words: tuple[Sequence[str] | None, Sequence[str] | None]
) -> None:
    table, bias = made()
    padded = np.concatenate([table, np.zeros((3, 35), np.float32)])
    padded[8, 2] += 1
    diff = compare(
        tmp_path, (table, bias, words[0]), (padded, np.concatenate([bias, np.zeros(3, np.float32)]), words[1])
    )
    found = rows(diff)[WORD_ID]
    assert found.rows is not None
    assert (found.rows.by, found.rows.kept, found.rows.new, found.rows.changed) == ("row", 101, 3, 1)
    assert found.rows.names["changed"] == (("word3",) if any(words) else ("row 8",))
    assert_numbers(found.change, table, padded[:101])
    assert "3 rows new" in diff.verdict()


def test_a_padded_table_of_the_same_tokens_has_new_rows_alone(tmp_path: Path) -> None:
    table, bias = made()
    padded, longer = np.concatenate([table, table[:3]]), np.concatenate([bias, bias[:3]])
    found = rows(compare(tmp_path, (table, bias, WORDS), (padded, longer, WORDS)))[WORD_ID]
    assert found.rows is not None
    assert (found.rows.kept, found.rows.new, found.rows.changed, found.rows.moved) == (101, 3, 0, 0)
    assert found.change is not None
    assert found.change.differing == 0


def test_a_padded_table_of_short_numbers_is_no_rounded_one(tmp_path: Path) -> None:
    table, bias = np.ones((101, 35), np.float32), np.ones(101, np.float32)
    diff = compare(tmp_path, (table, bias, None), (np.ones((104, 35), np.float32), np.ones(104, np.float32), None))
    found = rows(diff)[WORD_ID]
    assert (found.state, found.rounded, found.same_values) == ("changed", "", False)
    assert "3 rows new" in diff.verdict()


def test_rows_of_other_widths_are_not_compared(tmp_path: Path) -> None:
    head = "ElectraModel"
    for name, size in (("a", 31), ("b", 29)):
        cp.save(tmp_path / name, head, normal(head, embedding_size=size), embedding_size=size)
    found = rows(diff_checkpoints(tmp_path / "a", tmp_path / "b"))[WORD_ID]
    assert (found.state, found.change, found.rows) == ("changed", None, None)


@pytest.mark.parametrize("cuts", [(0, 60), (0, 1, 60), (0, 7, 14, 60), (0, 3, 5, 6, 59, 60), tuple(range(61))])
def test_flags_of_rows_do_not_depend_on_where_pieces_end(cuts: tuple[int, ...]) -> None:
    mask = np.zeros(60, bool)
    mask[[0, 13, 14, 30, 59]] = True
    flags = RowFlags(10, 6)
    for start, end in pairwise(cuts):
        flags.add(mask[start:end])
    assert np.array_equal(flags.changed, mask.reshape(10, 6).any(axis=1))


def test_of_two_tokens_with_one_id_the_first_counts() -> None:
    alignment = RowAlignment({"a": 0, "b": 1, "c": 1}, {"b": 0, "a": 1, "beyond": 7}, 3, 3)
    assert alignment.sources.tolist() == [1, 0, 2]
    assert not alignment.in_place
    assert alignment.names([0, 1, 2]) == ("b", "a", "row 2")


def test_a_token_without_a_row_has_none_to_be_held_to() -> None:
    alignment = RowAlignment({"a": 0, "beyond": 5}, {"beyond": 0, "a": 1}, 2, 2)
    assert alignment.sources.tolist() == [-1, 0]
