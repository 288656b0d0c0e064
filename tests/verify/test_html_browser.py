"""The HTML report as a person sees it, in a headless Chromium."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import browser, need_browser, screenshot, view
from patience import PATIENCE, until
from reports import ALL, good, hostile, not_finite, transposed

from bertconv.verify.html import html_report
from bertconv.verify.html.heat import STEPS
from bertconv.verify.parity import Parity

EACH = pytest.mark.parametrize("name", ALL)


@pytest.fixture(scope="session")
def driver() -> Iterator[Any]:
    need_browser()
    with browser() as found:
        found.set_page_load_timeout(PATIENCE)
        found.set_script_timeout(PATIENCE)
        yield found


@pytest.mark.parametrize(("needed", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_is_named(monkeypatch: pytest.MonkeyPatch, needed: str, outcome: type[BaseException]) -> None:
    monkeypatch.setattr("browser._BINARIES", ("/nowhere/chromium", "/nowhere/chromedriver"))
    monkeypatch.setenv("BERTCONV_NEED_BROWSER", needed)
    with pytest.raises(outcome, match="not installed: /nowhere/chromium, /nowhere/chromedriver") as reported:
        need_browser()
    assert "apt-get install chromium chromium-driver" in str(reported.value)


Show = Callable[..., Any]


@pytest.fixture
def show(driver: Any, tmp_path: Path) -> Iterator[Show]:
    """Opens a report; when the test ends, the console must be empty and nothing but the file have been loaded."""

    def opened(parity: Parity, **size: Any) -> Any:
        file = tmp_path / "report.html"
        file.write_text(html_report(parity), encoding="utf-8")
        view(driver, **size)
        driver.get(file.as_uri())
        return driver

    yield opened
    assert driver.get_log("browser") == []
    assert driver.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []


def find(driver: Any, selector: str) -> list[Any]:
    return driver.find_elements("css selector", selector)


def visible(driver: Any, selector: str) -> list[Any]:
    """One question for all elements: asking each by itself takes seconds."""
    return driver.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0])).filter((one) => one.checkVisibility())", selector
    )


def texts(driver: Any, selector: str) -> list[str]:
    return [one["text"] for one in driver.execute_script(SEEN, selector)]


SEEN = """
const seen = Array.from(document.querySelectorAll(arguments[0])).filter((one) => one.checkVisibility());
return seen.map((one) => {
  const { backgroundColor, outlineStyle } = getComputedStyle(one);
  return { text: one.innerText, title: one.title, back: backgroundColor, outline: outlineStyle };
});
"""


def rgb(style: str) -> tuple[float, ...]:
    return tuple(map(float, re.findall(r"[\d.]+", style)))[:3]


def luminance(style: str) -> float:
    parts = [part / 255 for part in rgb(style)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(
    ("name", "words", "strongest"),
    [("good", "The same model", 1), ("weights", "The same weights", 1), ("transposed", "Not the same model", 0)],
)
@pytest.mark.parametrize("dark", [False, True])
def test_the_verdict_is_seen_first(show: Show, name: str, words: str, strongest: int, dark: bool) -> None:
    driver = show(ALL[name](), dark=dark)
    (title,) = visible(driver, "h1")
    assert title.text == words
    assert title.rect["y"] < 100
    for key in ("color", "border-color"):
        shade = rgb(driver.find_element("id", "verdict").value_of_css_property(key))
        assert max(range(3), key=shade.__getitem__) == strongest
    assert visible(driver, f"#verdict.{'good' if strongest else 'bad'} .mark")


INSIDE = """
const box = document.querySelector(".plot svg").getBoundingClientRect();
return Array.from(document.querySelectorAll(`.plot ${arguments[0]}`), (one) => {
  const { left, right, top, bottom, width } = one.getBoundingClientRect();
  return [width, left >= box.left, right <= box.right, top >= box.top, bottom <= box.bottom];
});
"""


@pytest.mark.parametrize(("name", "lines"), [("good", 3), ("transposed", 3), ("NaN", 5)])
@pytest.mark.parametrize("width", [1200, 360])
def test_every_series_is_drawn_inside_the_plot(show: Show, name: str, lines: int, width: int) -> None:
    driver = show(ALL[name](), width=width)
    drawn = driver.execute_script(INSIDE, "polyline")
    assert len(drawn) == lines
    for selector in ("polyline", "text", ".series path"):
        assert all(size > 0 and all(inside) for size, *inside in driver.execute_script(INSIDE, selector))
    names = {one.get_attribute("data-series") for one in find(driver, ".plot .series")}
    assert {"b float64", "a float32", "b float32"} <= names


def test_points_without_a_logarithm_are_drawn_in_their_strips(show: Show) -> None:
    driver = show(not_finite())
    nonfinite, exact = (one.rect for one in find(driver, ".plot .strip")[::-1])
    lines = [one.rect["y"] for one in find(driver, ".plot .axes line:not(.divider)")]
    assert nonfinite["y"] + nonfinite["height"] < min(lines)
    assert exact["y"] > max(lines)
    crosses = [one.rect for one in find(driver, ".plot .nonfinite")]
    assert len(crosses) == 2 * 3
    assert all(
        nonfinite["y"] <= one["y"] and one["y"] + one["height"] <= nonfinite["y"] + nonfinite["height"]
        for one in crosses
    )
    dots = [one.rect for one in find(driver, ".plot .series.b path")]
    assert sum(exact["y"] <= one["y"] <= exact["y"] + exact["height"] for one in dots) == 3


def test_the_tooltip_holds_the_numbers(show: Show) -> None:
    driver = show(good(4))
    titles = [one.get_attribute("textContent") for one in find(driver, ".plot title")]
    assert [title.partition("\n")[0] for title in titles][:5] == ["embeddings", *(f"layer.{n}" for n in range(4))]
    assert re.search(r"\nfloat32: A \d\.\de-0\d, B \d\.\de-0\d, limit 4\.0e-06$", titles[2])


def test_the_broken_module_is_the_darkest_and_marked(show: Show) -> None:
    parity = transposed()
    where = parity.divergence.place if parity.divergence else ""
    alone = tuple(replace(one, b=9.0 if one.place == where else 1e-9) for one in parity.measurements)
    driver = show(replace(parity, measurements=alone))
    cells = {cell["title"].partition(",")[0]: cell for cell in driver.execute_script(SEEN, ".heat td[title]")}
    assert len(cells) == 12 * 10 + 7
    shades = {place: luminance(cell["back"]) for place, cell in cells.items()}
    assert min(shades, key=shades.__getitem__) == where
    assert shades[where] < 0.02
    assert sorted(shades.values())[1] > 0.2
    assert [place for place, cell in cells.items() if cell["outline"] == "solid"] == [where]


def test_the_heat_map_changes_its_element_type(show: Show) -> None:
    driver = show(not_finite())
    shown = []
    for choice in find(driver, ".heat input"):
        choice.click()
        shown.append([one.get_attribute("data-dtype") for one in visible(driver, ".panel")])
    assert shown == [["float64"], ["float32"], ["bfloat16"]]
    assert len(visible(driver, ".panel .nonfinite")) == 1


def test_the_search_shows_what_it_finds(show: Show) -> None:
    driver = show(transposed())
    field = driver.find_element("id", "search")
    field.send_keys("layer.3")
    rows = texts(driver, ".tensors tbody tr")
    assert len(rows) == 16
    assert all(row.startswith("layer.3.") for row in rows)
    assert driver.find_element("id", "found").text == "16 found"
    assert texts(driver, ".group summary b") == ["layer 3"]
    field.send_keys(" BIAS query")
    assert texts(driver, ".tensors th > code") == ["layer.3.query.bias"]
    field.clear()
    field.send_keys("nothing is called this")
    assert visible(driver, ".tensors tbody tr") == []
    field.clear()
    field.send_keys("x\b")
    assert len(visible(driver, ".group summary")) == 15
    assert len(find(driver, ".group[open]")) == 1


def test_what_differs_stands_open_and_first(show: Show) -> None:
    driver = show(transposed())
    first, second = find(driver, ".group")[:2]
    assert "layer 7" in first.text
    assert "1 differs" in first.text
    assert first.find_element("css selector", "tbody code").text == "layer.7.attention_out.weight"
    assert first.find_element("tag name", "table").is_displayed()
    assert not second.find_element("tag name", "table").is_displayed()
    second.find_element("tag name", "summary").click()
    assert second.find_element("tag name", "table").is_displayed()
    second.find_element("tag name", "summary").click()
    assert not second.find_element("tag name", "table").is_displayed()


def test_the_histograms_lie_over_each_other(show: Show) -> None:
    driver = show(transposed())
    (figure,) = visible(driver, "figure")
    a, b = (figure.find_element("css selector", f"path.{side}").rect for side in "ab")
    assert a["width"] == pytest.approx(b["width"])
    assert min(a["height"], b["height"]) > 20
    assert not visible(show(good()), "figure")


def test_numbers_stand_in_their_sentences(show: Show) -> None:
    driver = show(transposed())
    assert {one.value_of_css_property("display") for one in find(driver, ".whole")} == {"inline"}
    assert all(one.rect["height"] < 130 for one in visible(driver, ".tiles li"))


def test_the_dark_scheme_is_dark(show: Show) -> None:
    light, dark = (
        luminance(show(good(), dark=dark).find_element("tag name", "body").value_of_css_property("background-color"))
        for dark in (False, True)
    )
    assert light > 0.8
    assert dark < 0.05


@EACH
def test_a_phone_scrolls_down_only(show: Show, name: str) -> None:
    driver = show(ALL[name](), width=360, height=740)
    driver.execute_script("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    widths = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    assert widths[0] <= widths[1] == 360
    wide = driver.execute_script("""return Array.from(document.querySelectorAll("main > section > *, header *"))
        .filter((one) => one.getBoundingClientRect().right > 361).map((one) => one.outerHTML.slice(0, 80))""")
    assert wide == []


CONTRAST = """
const shade = (text) => {
  const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
  const [x, y, z] = [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  return [0.2126 * x + 0.7152 * y + 0.0722 * z, a];
};
const back = (one) => {
  for (; one; one = one.parentElement) {
    const [light, alpha] = shade(getComputedStyle(one).backgroundColor);
    if (alpha === 1) return light;
  }
};
document.querySelectorAll("details").forEach((one) => { one.open = true; });
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const worst = [99, ""];
let seen = 0;
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !one.checkVisibility() || one.closest("title, script")) continue;
  const style = getComputedStyle(one);
  const [low, high] = [shade(one.closest("svg") ? style.fill : style.color)[0], back(one)].sort((a, b) => a - b);
  const ratio = (high + 0.05) / (low + 0.05);
  seen += 1;
  if (ratio < worst[0]) worst.splice(0, 2, ratio, one.outerHTML.slice(0, 120));
}
return [seen, ...worst];
"""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["good", "transposed", "NaN", "weights"])
def test_all_text_can_be_read(show: Show, name: str, dark: bool) -> None:
    seen, ratio, where = show(ALL[name](), dark=dark).execute_script(CONTRAST)
    assert seen > 300
    assert ratio >= 4.5, where


def test_every_colour_of_the_heat_map_can_be_read(show: Show) -> None:
    parity = good(2, ("float64",))
    spread = tuple(replace(one, b=10.0 ** -(n % 18)) for n, one in enumerate(parity.measurements))
    for dark in (False, True):
        driver = show(replace(parity, measurements=spread), dark=dark)
        kinds = {one.get_attribute("class").split()[0] for one in find(driver, ".heat td[class]")}
        assert kinds == {f"s{n}" for n in range(STEPS)}
        _, ratio, where = driver.execute_script(CONTRAST)
        assert ratio >= 4.5, where


def test_hostile_names_stay_text_in_a_browser(show: Show) -> None:
    driver = show(hostile())
    assert find(driver, "img") == []
    assert len(find(driver, "script")) == 1
    assert visible(driver, "h1")[0].text == "Not the same model"
    driver.find_element("id", "search").send_keys("<img src=x")
    assert len(visible(driver, ".tensors tbody tr")) == 2


def test_the_command_is_copied(show: Show) -> None:
    parity = good()
    driver = show(parity)
    button = driver.find_element("id", "copy")
    button.click()
    until(lambda: button.text == "Copied")
    field = driver.find_element("id", "search")
    field.send_keys("\ue009v")  # Control and v
    assert field.get_attribute("value") == parity.command


def test_without_script_everything_is_visible(show: Show, driver: Any) -> None:
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(good())
        assert not find(driver, "#search")[0].is_displayed()
        find(driver, ".group summary")[3].click()
        assert len(visible(driver, ".tensors tbody tr")) == 16
        find(driver, ".heat input")[1].click()
        assert [one.get_attribute("data-dtype") for one in visible(driver, ".panel")] == ["float32"]
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_picture_of_a_report(tmp_path: Path) -> None:
    need_browser()
    file, picture = tmp_path / "report.html", tmp_path / "report.png"
    file.write_text(html_report(good(3)), encoding="utf-8")
    screenshot(file, picture, height=700)
    content = picture.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(content[at : at + 4], "big") for at in (16, 20)] == [1200, 700]
