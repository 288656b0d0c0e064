"""`bertconv fleet report`: the facts, commands that repeat failures, spans of time, and what a page may hold."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import checkpoints as cp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertconv.fleet.items import FOLDER, Item
from bertconv.fleet.ledger import Ledger, ledger_path
from bertconv.fleet.outcome import Outcome
from bertconv.fleet.report import FleetReport, Row, command_of, fleet_report
from bertconv.fleet.report_page import MOST_ROWS, duration, fleet_page
from bertconv.fleet.timeline import MOST_BARS, MOST_SESSIONS, PAUSE, timeline

Cli = Callable[..., cp.Outcome]
EVIL = "<script>alert('x')</script>\"&\x1b[31m\u202e"
NOON = 1_764_331_200.0  # 2025-11-28 12:00:00 UTC


def rows() -> list[Row]:
    """Some of every state."""
    return [
        Row("a", "out/a", state="done", size=100, family="bert", format="torch", digest="sha256:1", seconds=2,
            finished=NOON, attempts=1),
        Row("b", "out/b", state="kept", size=100, family="bert", format="torch", digest="sha256:1", seconds=1,
            finished=NOON + 1),
        Row("c", "out/c", state="done", size=50, family="mpnet", format="hdf5", digest="sha256:2", seconds=3,
            finished=NOON + 4, attempts=2),
        Row("d", "out/d", state="failed", code=5, kind="DamagedCheckpoint", message="is truncated.", hint="Copy it.",
            family="bert", format="torch", options={"to": "tf", "allow_loss": True}, seconds=1, finished=NOON + 5),
        Row("e", "out/e", state="failed", code=5, kind="DamagedCheckpoint", message="is empty.", seconds=1,
            finished=NOON + 6),
        Row("f", "out/f", state="quarantined", code=9, kind="KeyError", message="'x'", trace="Traceback:\n  one\n  two",
            seconds=1, finished=NOON + 7),
        Row("g", "out/g", state="waiting"),
        Row("h", "out/h", state="running"),
    ]  # fmt: skip


def facts() -> FleetReport:
    return fleet_report("out", rows())


def test_totals() -> None:
    found = facts()
    assert dict(found.states) == {"done": 2, "kept": 1, "failed": 2, "quarantined": 1, "waiting": 1, "unfinished": 1}
    assert (found.items, found.failed, found.unfinished, found.size, found.done_size) == (8, 3, 2, 250, 150)
    assert found.work == 8  # the kept one took none
    assert found.elapsed == 9  # from the beginning of the first to the end of the last
    assert [(one.name, one.items, one.size) for one in found.families] == [
        ("bert", 3, 200), ("mpnet", 1, 50), ("", 4, 0)
    ]  # fmt: skip
    assert [(one.name, dict(one.states)) for one in found.formats][:2] == [
        ("torch", {"done": 1, "kept": 1, "failed": 1}), ("hdf5", {"done": 1})
    ]  # fmt: skip
    assert found.summary() == "8 items: 2 done, 1 kept, 2 failed, 1 quarantined, 1 waiting, 1 unfinished."


def test_failures_are_by_kind_with_what_repeats_them() -> None:
    kinds = facts().kinds
    assert [(one.name, one.code, len(one.failures)) for one in kinds] == [
        ("DamagedCheckpoint", 5, 2),
        ("KeyError", 9, 1),
    ]
    assert kinds[0].failures[0].command == "bertconv convert d out/d --to tf --allow-loss"


def test_duplicates_are_by_digest() -> None:
    found = facts()
    assert [(one.digest, one.size, one.sources) for one in found.twins] == [("sha256:1", 100, ("a", "b"))]
    assert found.twice == 100
    once = fleet_report("out", [Row("a", verb=verb, state="done", digest="sha256:1") for verb in ("hash", "doctor")])
    assert once.twins == ()  # one source, twice in the list


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (Row("a b", "o'o", options={"to": "tf", "verify": "weights", "max_shard_size": 5}),
         ["convert", "a b", "o'o", "--to", "tf", "--verify", "weights", "--max-shard-size", "5"]),
        (Row("a", "b", "verify", {"level": "weights"}), ["verify", "a", "b", "--level", "weights"]),
        (Row("a", "b", "hash"), ["hash", "a"]),
        (Row("a", "b", "doctor", {"deep": True, "head": None, "ema": False}), ["doctor", "a", "--deep"]),
        (Row("a", "b", options={"only": ["x", "y"]}), ["convert", "a", "b", "--only", "x", "--only", "y"]),
    ],
)  # fmt: skip
def test_a_command_is_that_of_the_item(row: Row, words: list[str]) -> None:
    assert shlex.split(command_of(row)) == ["bertconv", *words]


@pytest.mark.parametrize(
    "name", ["a;b", "$(id)", "`id`", "a\nb", "\x1b[31m", "it's", "\\", "é\u202e'\\x", "\udcff", "-"]
)
def test_a_shell_reads_the_command_back(name: str) -> None:
    """Whatever a source is called, nothing but its name comes out of it."""
    line = command_of(Row(name, "out")).removeprefix("bertconv convert")
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    assert done.stdout == name.encode("utf-8", "surrogateescape") + b"\0out\0"


def test_options_of_commands_are_there(cli: Cli) -> None:
    """What a row's options are called in Python is what the command's are called."""
    help_of = {verb: cli(verb, "--help").out for verb in ("convert", "verify", "hash", "doctor")}
    row = Row("a", "b", options={"to": "tf", "verify": "weights", "strip_prefix": "x", "allow_loss": True, "head": "y"})
    for word in re.findall(r"--[a-z-]+", command_of(row)):
        assert word in help_of["convert"], word


# Time


def test_spans_of_time() -> None:
    bars = timeline([(NOON, 2, True, 100), (NOON + 3, 1, False, 50), (NOON + 3, 1, True, 7)])
    assert [(bar.start - NOON, bar.seconds, bar.good, bar.bad, bar.size) for bar in bars] == [
        (-2, 1, 0, 0, 0), (-1, 1, 0, 0, 0), (0, 1, 1, 0, 100), (1, 1, 0, 0, 0), (2, 1, 1, 1, 7),
    ]  # fmt: skip
    assert [bar.begins for bar in bars] == [True, False, False, False, False]
    assert timeline([]) == ()


def test_pauses_are_left_out() -> None:
    bars = timeline([(NOON, 10, True, 1), (NOON + 86400, 10, True, 1)])
    assert sum(bar.seconds for bar in bars) == 20
    assert sum(bar.begins for bar in bars) == 2
    # Something that takes a day is no pause.
    assert sum(bar.begins for bar in timeline([(NOON, 10, True, 1), (NOON + 86400, 86400, True, 1)])) == 1


@given(
    st.lists(
        st.tuples(
            st.floats(NOON, NOON + 10_000_000), st.floats(0, 100_000), st.booleans(), st.integers(0, 10**12)
        ),
        max_size=60,
    )
)  # fmt: skip
def test_nothing_gets_lost_in_time(ended: list[tuple[float, float, bool, int]]) -> None:
    bars = timeline(ended)
    assert sum(bar.good for bar in bars) == sum(is_good for *_, is_good, _ in ended)
    assert sum(bar.bad for bar in bars) == sum(not is_good for *_, is_good, _ in ended)
    assert sum(bar.size for bar in bars) == sum(size for *_, is_good, size in ended if is_good)
    assert all(bar.seconds > 0 for bar in bars)
    assert len(bars) <= MOST_BARS + 2 * MOST_SESSIONS
    assert sum(bar.begins for bar in bars) <= MOST_SESSIONS
    for one, other in pairwise(bars):
        assert one.start + one.seconds <= other.start + 1e-3
        assert not other.begins or other.start - (one.start + one.seconds) >= PAUSE - 1e-3


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.44, "0.4 s"), (35, "35 s"), (720, "12 min"), (12_000, "3 h 20 min"), (7199, "2 h 0 min")]
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


# The page


class Reader(HTMLParser):
    """The elements of a page, their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in {"meta", "link", "br", "wbr"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_says_it_all() -> None:
    page = Reader(fleet_page(facts()))
    assert page.open == []
    for words in ("3 failed", "2 done, 1 kept", "DamagedCheckpoint", "exit code 5", "is truncated.",
                  "bertconv convert d out/d --to tf --allow-loss", "bert", "mpnet", "not known", "hdf5", "  one\n  two",
                  "2025-11-28", "11:59:58"):  # fmt: skip
        assert words in page.text, words
    assert "svg" in page.tags
    assert "script" not in page.tags


def test_a_page_asks_for_nothing_and_escapes_everything() -> None:
    texts = dict.fromkeys(("src", "dst", "kind", "message", "hint", "trace", "digest", "family", "format"), EVIL)
    one = Row(**texts, verb=EVIL, state="failed", options={EVIL: EVIL}, finished=NOON, seconds=1)  # type: ignore[arg-type]
    other = [Row(f"{EVIL}{number}", state="done", digest=EVIL, family=EVIL, format=EVIL) for number in (1, 2)]
    source = fleet_page(fleet_report(EVIL, [one, *other]))
    page = Reader(source)
    assert "script" not in page.tags
    assert "\x1b" not in source
    assert "\u202e" not in source
    assert not {name for name, _ in page.attributes} & {"src", "onclick", "onerror", "onload", "action"}
    links = [value or "" for name, value in page.attributes if name == "href"]
    assert all(link.startswith(("#", "data:image/svg+xml,")) for link in links)
    assert "default-src 'none'" in " ".join(filter(None, (value for _, value in page.attributes)))
    assert "url(" not in source
    assert "@import" not in source
    assert "prefers-color-scheme: dark" in source


def test_a_page_of_many_is_short() -> None:
    sick = {"state": "failed", "code": 5, "kind": "DamagedCheckpoint", "message": "m"}
    many = [Row(f"s{one}", f"o{one}", finished=NOON + one, **sick) for one in range(3 * MOST_ROWS)]  # type: ignore[arg-type]
    twins = [Row(f"t{number}", state="done", digest=f"sha256:{number // 100}", size=5) for number in range(300)]
    report = fleet_report("out", [*many, *twins])
    page = Reader(fleet_page(report))
    assert f"and {2 * MOST_ROWS:,} more, which the JSON has" in page.text
    assert "and 88 more" in page.text
    assert page.text.count("bertconv convert") == MOST_ROWS
    assert len(report.to_json()["kinds"][0]["failures"]) == 3 * MOST_ROWS


@pytest.mark.parametrize("found", [[], [Row("a")], [Row("a", state="done")], [Row("a", state="done", finished=NOON)]])
def test_a_page_of_little(found: list[Row]) -> None:
    page = Reader(fleet_page(fleet_report("out", found)))
    assert ("Unfinished" in page.text) == (not found or found[0].state != "done")


def test_the_order_of_the_items_does_not_matter() -> None:
    assert fleet_report("out", reversed(rows())) == facts()
    assert json.loads(json.dumps(facts().to_json()))["kinds"][1]["name"] == "KeyError"


# From a ledger


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of a fleet with one item of each state."""
    with Ledger(ledger_path(tmp_path / "out" / FOLDER)) as book:
        items = [Item(name, f"out/{name}", options={"to": "tf"}, size=7) for name in ("a", "b", "it's", "d")]
        book.add((item, "key") for item in items)
        good = Outcome("done", digest="sha256:1", nbytes=1000, family="bert", source_format="torch", seconds=2)
        bad = Outcome("failed", 5, "DamagedCheckpoint", "is truncated.")
        for item, outcome in zip(items[:3], (good, good, bad), strict=True):
            book.begin(item)
            book.record(item, outcome.state, outcome)
    return tmp_path / "out"


def test_a_report_of_a_ledger(cli: Cli, out: Path, tmp_path: Path) -> None:
    done = cli("fleet", "report", out, "-o", tmp_path / "page.html")
    assert done.code == 0, done.err
    assert "  it's: is truncated.\n    bertconv convert 'it'\"'\"'s' 'out/it'\"'\"'s' --to tf\n" in done.out
    assert "Models that several sources hold: 1; one copy of each would save 1 kB" in done.out
    assert done.out.endswith("4 items: 2 done, 1 failed, 1 unfinished.\n")
    assert "1 failed" in Reader((tmp_path / "page.html").read_text()).text
    facts = json.loads(cli("fleet", "report", out, "--json").out)
    assert (facts["ok"], facts["size"], facts["states"]) == (False, 2000, {"done": 2, "failed": 1, "unfinished": 1})
    assert cli("fleet", "report", out, "--quiet").out.count("\n") == 1


def test_a_report_of_nothing(cli: Cli, out: Path, tmp_path: Path) -> None:
    done = cli("fleet", "report", tmp_path)
    assert done.code == 2
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    assert cli("fleet", "report", out, "-o", tmp_path / "model.safetensors").code == 7
