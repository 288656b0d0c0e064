"""Text: folded layers, sizes both ways, names that cannot harm a terminal."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bertconv.text import fold, human_bytes, listed, listing, parse_bytes, parse_json, printable

NAMES = st.lists(st.text("ab.{0129", min_size=1, max_size=8), unique=True)


@settings(deadline=None)
@given(st.text())
@example("\x1b[31mred\x1b[0m")
@example("\u202egpj.exe")
@example("\ud800")
def test_printable_is_printable_and_changes_nothing_else(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) is text.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ([], []),
        (["a"], ["a"]),
        (["layer.0.w", "layer.1.w", "layer.2.w"], ["layer.{0...2}.w"]),
        (["layer.2.w", "layer.0.w", "layer.1.w"], ["layer.{0...2}.w"]),
        (["layer.0.w", "layer.2.w"], ["layer.{0, 2}.w"]),
        (["layer.3.w"], ["layer.3.w"]),
        (["layer.9.w", "layer.10.w", "layer.11.w"], ["layer.{9...11}.w"]),
        (["a.0.b.0", "a.0.b.1"], ["a.0.b.{0...1}"]),
        (["a.0.b.0", "a.1.b.1"], ["a.0.b.0", "a.1.b.1"]),
        (["a.0.w", "a.0.b", "a.1.w", "a.1.b"], ["a.{0...1}.w", "a.{0...1}.b"]),
        (["x", "a.0", "y", "a.1"], ["x", "a.{0...1}", "y"]),
        (["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"], ["a.{0...1}.b.{0...1}"]),
        (["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1", "a.0.b.0"], ["a.0.b.0", "a.0.b.1", "a.1.b.0", "a.1.b.1"]),
        (["a.0.lin1", "a.1.lin1", "a.0.lin2", "a.1.lin2"], ["a.{0...1}.lin1", "a.{0...1}.lin2"]),
        (["a_0/lin1", "a_1/lin1"], ["a_{0...1}/lin1"]),
        (["a.1", "a.01"], ["a.1", "a.01"]),
        (["a0", "a999999999999"], ["a{0, 999999999999}"]),
        (["9" * 5000, "8" * 5000], ["9" * 5000, "8" * 5000]),
    ],
)
def test_names_that_differ_in_one_number_are_folded(names: list[str], folded: list[str]) -> None:
    assert list(fold(names)) == folded


@settings(deadline=None)
@given(NAMES)
@example(["a0", "a1", "a{0...1}"])
def test_no_name_is_lost_in_a_fold(names: list[str]) -> None:
    assert sorted(name for members in fold(names).values() for name in members) == sorted(names)


@settings(deadline=None)
@given(st.sets(st.integers(0, 40), min_size=2))
def test_a_fold_tells_its_numbers(numbers: set[int]) -> None:
    (name,) = fold(f"layer.{number}.w" for number in numbers)
    low, high = min(numbers), max(numbers)
    dense = len(numbers) == high - low + 1
    inner = f"{low}...{high}" if dense else ", ".join(map(str, sorted(numbers)))
    assert name == f"layer.{{{inner}}}.w"


@pytest.mark.parametrize(("words", "sentence"), [("A", "A"), ("AB", "A or B"), ("ABC", "A, B or C")])
def test_words_are_listed_as_in_a_sentence(words: str, sentence: str) -> None:
    assert listed(words) == sentence


def test_a_listing_counts_what_it_leaves_out() -> None:
    assert listing(["a.0", "a.1", "b\n"]) == "  a.{0...1}   2 tensors\n  b\\n"
    lines = listing((chr(97 + number) for number in range(25)), limit=20).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "  ... and 5 more"
    assert listing([]) == ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1049, "1.05 kB"),
        (99_940, "99.9 kB"),
        (99_960, "100 kB"),
        (123_456, "123 kB"),
        (999_499, "999 kB"),
        (999_999, "1 MB"),
        (437_951_328, "438 MB"),
        (1_340_000_000, "1.34 GB"),
        (5 * 10**12, "5 TB"),
        (1234 * 10**12, "1234 TB"),
    ],
)
def test_sizes_are_told_in_three_digits(count: int, text: str) -> None:
    assert human_bytes(count) == text


@settings(deadline=None)
@given(st.integers(0, 10**15))
def test_a_size_that_is_told_is_nearly_what_it_was(count: int) -> None:
    assert abs(parse_bytes(human_bytes(count)) - count) <= count * 0.006


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        (" 5 GB ", 5 * 10**9),
        ("500 MB", 500 * 10**6),
        ("500mb", 500 * 10**6),
        ("2GiB", 2 * 2**30),
        ("2Gi", 2 * 2**30),
        ("1.5K", 1500),
        ("1.5KiB", 1536),
        ("0.1KiB", 102),
        ("3T", 3 * 10**12),
        ("1.0000000001B", 1),
        ("9007199254740993", 9007199254740993),
        ("9007199254740.993 kB", 9007199254740993),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize(
    "text",
    ["", " ", "GB", "-1", "1e9", "1,000", "5 PB", "5 GBs", "1..5", ".5", "5.", "NaN", "0x10", "٣", "5\u212aB", "1 2"],
)
def test_what_is_no_size_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_bytes(text)


@settings(deadline=None)
@given(st.integers(0, 10**30), st.sampled_from(["", "K", "M", "G", "T"]), st.booleans())
def test_whole_sizes_are_exact(number: int, unit: str, binary: bool) -> None:
    base = 1024 if binary else 1000
    text = f"{number}{unit}{'i' if binary else ''}B"
    assert parse_bytes(text) == number * base ** ["", "K", "M", "G", "T"].index(unit)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_bytes(text) >= 0
    except ValueError as refusal:
        assert "is not a size" in str(refusal)  # noqa: PT017  (it may also pass)


def test_a_key_that_stands_twice_is_named_in_short() -> None:
    """However many keys there are before it, each is looked at once."""
    keys = [f"k{number}" for number in range(200_000)]
    text = "{" + ",".join(f'"{key}":1' for key in [*keys, "x" * 1000, "x" * 1000]) + "}"
    with pytest.raises(ValueError, match=f"^duplicate key '{'x' * 100}'$"):
        parse_json(text)
