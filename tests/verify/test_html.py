"""The HTML report by parsing: its structure, what it says, and that nothing in it can be an attack."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import ALL, HOSTILE, good, hostile, not_finite, relabelled, tensor, transposed, weights_only

from bertconv.verify.html import html_report
from bertconv.verify.html.heat import STEPS, step
from bertconv.verify.html.markup import Markup, escape, number, plain, prose, shape_text, tag
from bertconv.verify.parity import Parity

EACH = pytest.mark.parametrize("name", ALL)
VOID = {"br", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """Elements with their attributes, their text, and what is wrong with the nesting."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        assert len(dict(attributes)) == len(attributes)
        self.elements.append((name, dict(attributes)))
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name: str) -> None:
        assert self.open.pop() == name

    def handle_data(self, text: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", text))

    def named(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for element, attributes in self.elements if element == name]

    def text(self, *names: str) -> str:
        return " ".join(text for name, text in self.texts if not names or name in names)


def page(parity: Parity) -> Page:
    return Page(html_report(parity))


@EACH
def test_the_page_is_well_formed(name: str) -> None:
    found = page(ALL[name]())
    assert found.open == []
    ids = Counter(attributes["id"] for _, attributes in found.elements if "id" in attributes)
    assert set(ids.values()) == {1}
    assert {link["href"] for link in found.named("a")} <= {f"#{one}" for one in ids}
    assert [len(found.named(one)) for one in ("html", "head", "body", "main", "h1", "script")] == [1] * 6
    assert found.named("html") == [{"lang": "en"}]
    tables = found.named("table")
    assert len(found.named("caption")) == len(tables) > 2
    assert {cell["scope"] for cell in found.named("th")} == {"col", "row"}


@EACH
def test_the_page_asks_the_network_for_nothing(name: str) -> None:
    found = page(ALL[name]())
    assert not [attributes for _, attributes in found.elements if "src" in attributes]
    assert [link["rel"] for link in found.named("link")] == ["icon"]
    policy = next(meta["content"] for meta in found.named("meta") if "http-equiv" in meta)
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not [key for _, attributes in found.elements for key in attributes if key.startswith("on") or key == "style"]


@EACH
def test_the_page_is_the_same_each_time(name: str) -> None:
    assert html_report(ALL[name]()) == html_report(ALL[name]())


def test_nothing_from_a_file_becomes_an_element() -> None:
    text = html_report(hostile())
    found = Page(text)
    known = {name for one in (good(), transposed()) for name, _ in page(one).elements}
    assert {name for name, _ in found.elements} <= known
    assert len(found.named("script")) == 1
    assert "\x1b" not in text
    assert "\u202e" not in text
    shown = HOSTILE.replace("\x1b", "\\x1b").replace("\u202e", "\\u202e")
    assert found.text().count(shown) > 30
    assert any(shown in (attributes.get("title") or "") for attributes in found.named("td"))


@given(st.text(), st.text())
def test_any_text_survives_as_text(text: str, attribute: str) -> None:
    found = Page(tag("p", text, title=attribute, hidden=False, lang=None))
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    assert found.open == []
    assert [name for name, _ in found.elements] == ["p"]
    assert "".join(part for _, part in found.texts) == shown
    assert set(found.named("p")[0]) == {"title"}
    assert Page(prose(text)).text().replace(" ", "") == shown.replace(" ", "")


def test_markup_is_not_escaped_twice() -> None:
    assert tag("p", tag("b", "<"), "&", None) == "<p><b>&lt;</b>&amp;</p>"
    assert escape(Markup("<br>")) == "<br>"
    assert tag("input", for_="x", aria_label="y", checked=True) == '<input for="x" aria-label="y" checked>'


@pytest.mark.parametrize(
    ("value", "short", "said"),
    [
        (3.24e-7, "3.2e-07", "3.2e-07"),
        (0.0, "0", "0"),
        (math.nan, "NaN", "NaN"),
        (math.inf, "inf", "inf"),
        (-math.inf, "-inf", "-inf"),
        (0.7, "7.0e-01", "0.7"),
        (12345.0, "1.2e+04", "1.2e+04"),
    ],
)
def test_numbers(value: float, short: str, said: str) -> None:
    assert number(value) == short
    assert plain(value) == said


def test_shapes_are_words() -> None:
    assert shape_text((3, 4)) == "3 \N{MULTIPLICATION SIGN} 4"
    assert shape_text(()) == "scalar"


@given(st.floats(min_value=0, allow_nan=False), st.sampled_from(["float64", "float32", "bfloat16", "float16", "int9"]))
def test_a_larger_error_is_never_lighter(error: float, dtype: str) -> None:
    def rank(one: float) -> int:
        order = ["zero", *(f"s{index}" for index in range(STEPS)), "nonfinite"]
        return order.index(step(one, dtype))

    assert rank(error) <= rank(error * 2) <= rank(math.inf)
    assert rank(0.0) <= rank(error)


@pytest.mark.parametrize(("layers", "most"), [(12, 400_000), (24, 800_000)])
def test_the_page_is_small(layers: int, most: int) -> None:
    assert len(html_report(good(layers)).encode()) < most


def test_a_failure_says_what_and_why() -> None:
    said = page(transposed()).text()
    for words in ("Not the same model", "Breaks first at", "layer.7.attention_out", "Likely cause: transposed kernel."):
        assert words in said
    assert "589,056 of 589,824 elements differ, by 0.31 at most (1.9 of A's largest value)" in said
    assert "first at [0, 1]: A 0.0123456789, B -0.0456" in said


def test_every_fact_is_on_the_page() -> None:
    parity = good()
    said = page(parity).text()
    facts = [parity.command, parity.a.given, parity.b.given, parity.a.digest, parity.a.framework, *parity.notes]
    facts += [*parity.left_out, *parity.versions.values(), *parity.a.files, *parity.b.files, parity.head]
    facts += [text for one in parity.cases for text in (one.name, one.about)]
    facts += [text for one in parity.tensors for text in (one.id, one.a, one.b)]
    facts += [one.place for one in parity.measurements if one.kind != "module"]
    assert [fact for fact in facts if fact not in said] == []


def test_an_error_of_zero_is_drawn_and_named() -> None:
    parity = not_finite()
    exact = replace(parity, measurements=tuple(replace(one, a=0.0, b=0.0) for one in parity.measurements))
    assert "exactly 0" in page(exact).text("text")
    assert "exactly 0" not in page(good()).text("text")
    assert "NaN, inf" in page(parity).text("text")


def test_without_outputs_the_page_says_so() -> None:
    assert "Outputs were not compared: at level weights" in page(weights_only()).text()
    ended = replace(weights_only(), level="outputs")
    assert "Outputs were not compared: the comparison ended" in page(ended).text()


def test_odd_shapes_of_a_report() -> None:
    """Nothing compared, a scalar, tensors of one side only, other shapes, an element type that nobody knows."""
    one = tensor("nonfinite", (), "value")
    rows = (replace(one, state="only in B", a="", dtype_a="", digest=""), replace(one, differing=3, state="different"))
    measured = tuple(replace(one, dtype="int9") for one in good(2).measurements if one.dtype == "float32")
    saved = tuple(replace(one, place=f"SavedModel {one.place}") for one in measured)
    small = replace(weights_only(), tensors=rows, dtypes=("int9",), measurements=measured + saved, command="")
    said = page(small).text()
    assert "scalar" in said
    assert "3 of 1 element differ" in said
    assert "SavedModel layer.1" in said
    assert page(replace(small, tensors=(), measurements=())).open == []


@pytest.mark.parametrize("absurd", [5e-324, 1e-200, 1.7e308, math.inf, math.nan, 0.0])
@pytest.mark.parametrize("everywhere", [False, True])
def test_absurd_errors_can_be_drawn(absurd: float, everywhere: bool) -> None:
    rows = [replace(one, a=absurd, b=absurd, limit=absurd) for one in good(2).measurements]
    rows[1:] = rows[1:] if everywhere else good(2).measurements[1:]
    found = page(replace(good(2), measurements=tuple(rows)))
    height = float(next(svg["height"] or "" for svg in found.named("svg") if "height" in svg))
    corners = " ".join(line["points"] or "" for line in found.named("polyline") if line["points"] != "1,7 29,7")
    assert all(0 <= float(y) <= height for y in re.findall(r",(\S+)", corners))
    assert bool(corners) == (math.isfinite(absurd) or not everywhere)
    assert ("NaN, inf" in found.text("text")) == (everywhere and not math.isfinite(absurd))


def test_labels_and_tokenizer_have_a_section() -> None:
    text = page(relabelled()).text()
    for said in (
        "Labels, tokenizer, modules", "different, ignored", "token 12 is 'xx' in A and missing in B.",
        "label 0 is 'negative' in A and 'positive' in B (1 more in id2label).",
    ):  # fmt: skip
        assert said in text
    assert "not compared" in page(good()).text()
