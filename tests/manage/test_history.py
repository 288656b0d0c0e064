"""`bertconv history` and lineage(): what manifests name, what is found, what is proven, and that none is believed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import deque
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from histories import HEAD, TINY, digest, manifest, model, parent, weights, write
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv import convert_checkpoint, lineage
from bertconv.errors import DamagedCheckpoint, OutputError, RequestError
from bertconv.formats.destination import MANIFEST
from bertconv.manage.history import Edge, Graph, Model, page, search, walk
from bertconv.manage.history.layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from bertconv.manage.history.text import dot, tree
from bertconv.manifest import MOST_PARENTS

COMMIT = "86b5e0934494bd15c9632b12f734a8a67f723594"
NASTY = '<script>alert("1")</script>\\N\x1b[31m\u202e&\ud800\n}'


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, str]:
    """An average of two trainings of one download; name -> digest. None of the weights is there."""
    made = {name: digest(name) for name in ("base", "one", "two", "averaged")}
    for name in ("one", "two"):
        write(
            tmp_path / "runs" / name,
            manifest(made[name], parent("org/base", made["base"], commit=COMMIT), verb="train"),
        )
    write(
        tmp_path / "averaged",
        manifest(made["averaged"], *(parent(name, made[name], "input") for name in ("one", "two"))),
    )
    return made


def states(graph: Graph) -> dict[str, str]:
    return {one.name: one.state for one in graph.models.values()}


def links(graph: Graph) -> set[tuple[str, str, str, str]]:
    return {(graph.models[one.parent].name, one.role, graph.models[one.child].name, one.state) for one in graph.edges}


# Claimed, recorded, proven


def test_what_only_the_child_names_is_claimed(tmp_path: Path, runs: dict[str, str]) -> None:
    graph = lineage(tmp_path / "averaged")
    assert states(graph) == {"averaged": "recorded", "one": "claimed", "two": "claimed"}
    assert links(graph) == {("one", "input", "averaged", "claimed"), ("two", "input", "averaged", "claimed")}
    assert {one.digest for one in graph.models.values()} == {runs["one"], runs["two"], runs["averaged"]}
    assert graph.notes == ()
    assert graph.ok


def test_a_folder_with_the_digest_is_a_record_of_it(tmp_path: Path, runs: dict[str, str]) -> None:
    (tmp_path / "runs" / "one").rename(tmp_path / "runs" / "moved")
    graph = lineage(tmp_path / "averaged", search=[tmp_path / "runs"])
    base = f"org/base@{COMMIT[:12]}"
    assert states(graph) == {"averaged": "recorded", "moved": "recorded", "two": "recorded", base: "claimed"}
    assert (base, "source", "moved", "claimed") in links(graph)
    found = graph.models[runs["one"]]
    assert (found.aliases, found.verbs, found.head) == (("one",), ("train",), HEAD)
    assert [place.folder for place in found.places] == [str(tmp_path / "runs" / "moved")]
    assert next(iter(graph.models)) == graph.root == runs["averaged"]
    assert graph.summary() == "4 models: 3 recorded, 1 claimed"


def test_weights_that_were_hashed_prove_it(tmp_path: Path) -> None:
    base = weights(tmp_path / "downloads" / "base", 1)
    one = model(tmp_path / "runs" / "one", 2, parent("org/base", base, commit=COMMIT), parent("gone", digest("gone")))
    model(tmp_path / "out", 3, parent("one", one, "input"))
    weights(tmp_path / "downloads" / "other", 4)
    (tmp_path / "downloads" / "broken").mkdir()
    (tmp_path / "downloads" / "broken" / "model.safetensors").write_bytes(b"no weights")
    steps: list[tuple[str, int, int]] = []
    places = [tmp_path / "runs", tmp_path / "downloads"]
    graph = lineage(tmp_path / "out", search=places, verify=True, progress=lambda *step: steps.append(step))
    assert states(graph) == {"out": "proven", "one": "proven", "base": "proven", "gone": "claimed"}
    assert ("base", "source", "one", "proven") in links(graph)
    assert ("gone", "source", "one", "claimed") in links(graph)
    assert graph.models[base].head == HEAD
    assert graph.models[base].aliases == (f"org/base@{COMMIT[:12]}",)
    assert len(graph.notes) == 1
    assert "1 folders with weights could not be hashed" in graph.notes[0]
    assert graph.ok
    assert ("models", 2, 2) in steps
    assert states(lineage(tmp_path / "out", search=places))["one"] == "recorded"


def test_other_weights_than_on_record_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = model(tmp_path / "runs" / "one", 1)
    model(tmp_path / "out", 2, parent("one", one))
    weights(tmp_path / "runs" / "one", 5)
    graph = lineage(tmp_path / "out", search=[tmp_path / "runs"], verify=True)
    assert states(graph) == {"out": "proven", "one": "claimed"}
    assert [place.state for place in graph.models[one].places] == ["changed"]
    assert not graph.ok
    assert f"the weights in {tmp_path / 'runs' / 'one'} are not those" in graph.notes[0]
    assert cp.call("history", tmp_path / "out", "--in", tmp_path / "runs", "--verify") == 1
    assert f"in {tmp_path / 'runs' / 'one'}: changed" in capsys.readouterr().out
    assert cp.call("history", tmp_path / "out", "--in", tmp_path / "runs") == 0


def test_of_two_copies_one_may_be_changed(tmp_path: Path) -> None:
    one = model(tmp_path / "runs" / "a", 1)
    model(tmp_path / "runs" / "b", 1)
    model(tmp_path / "out", 2, parent("one", one))
    weights(tmp_path / "runs" / "a", 5)
    graph = lineage(tmp_path / "out", search=[tmp_path / "runs"], verify=True)
    assert graph.models[one].state == "proven"
    assert [place.state for place in graph.models[one].places] == ["changed", "proven"]
    assert not graph.ok


def test_a_model_that_cannot_be_read_is_not_proven(tmp_path: Path) -> None:
    write(tmp_path / "out", manifest(digest("out")))
    graph = lineage(tmp_path / "out", verify=True)
    assert states(graph) == {"out": "recorded"}
    assert "was not hashed" in graph.notes[0]


# One model, several folders and names


def test_the_same_weights_are_one_model(tmp_path: Path) -> None:
    made = digest("model")
    write(tmp_path / "pt", manifest(made, parent("trained", digest("start")), verb="train"))
    write(tmp_path / "tf", manifest(made, parent("pt", made), parent("org/name", made, commit=COMMIT), verb="convert"))
    graph = lineage(tmp_path / "tf", search=[tmp_path])
    assert links(graph) == {("trained", "source", "tf", "claimed")}
    found = graph.models[made]
    assert [Path(place.folder).name for place in found.places] == list(found.folders) == ["tf", "pt"]
    assert (found.aliases, found.verbs) == ((f"org/name@{COMMIT[:12]}",), ("convert", "train"))


def test_the_folder_itself_is_found_once(tmp_path: Path, runs: dict[str, str]) -> None:
    graph = lineage(tmp_path / "averaged", search=[tmp_path, tmp_path / "averaged", tmp_path / "runs"])
    assert len(graph.models[runs["averaged"]].places) == 1
    assert len(graph.models[runs["one"]].places) == 1


@pytest.mark.parametrize(("commit", "models"), [(COMMIT, 4), (None, 5)])
def test_parents_without_a_digest_are_one_by_their_commit_alone(
    commit: str | None, models: int, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write(tmp_path / "runs" / name, manifest(digest(name), parent("org/base", commit=commit)))
    write(tmp_path / "out", manifest(digest("out"), *(parent(name, digest(name)) for name in ("one", "two"))))
    graph = lineage(tmp_path / "out", search=[tmp_path])
    assert len(graph.models) == models
    assert {one.digest for one in graph.models.values() if one.name.startswith("org/base")} == {""}


def test_a_model_that_was_not_verified_has_a_history(tmp_path: Path) -> None:
    write(tmp_path / "out", manifest("", parent("org/base", digest("base"))))
    graph = lineage(tmp_path / "out", search=[tmp_path], verify=True)
    assert states(graph) == {"out": "recorded", "org/base": "claimed"}
    assert "no digest" in next(tree(graph))[0]


# What bertconv writes, and what it wrote


def test_the_history_of_a_conversion(tmp_path: Path) -> None:
    weights(tmp_path / "base", 1)
    report = convert_checkpoint(tmp_path / "base", tmp_path / "half", to="tf", dtype="bfloat16", verify="weights")
    graph = lineage(tmp_path / "half", search=[tmp_path], verify=True)
    assert graph.root == report.digest
    assert [edge.role for edge in graph.edges] == ["source"]
    assert graph.models[graph.root].state == "proven"


def test_a_conversion_that_changes_nothing_is_another_name(tmp_path: Path) -> None:
    base = weights(tmp_path / "base", 1)
    convert_checkpoint(tmp_path / "base", tmp_path / "tf", to="tf", verify="weights")
    convert_checkpoint(tmp_path / "tf", tmp_path / "half", to="pt", dtype="float16", verify="weights")
    graph = lineage(tmp_path / "half", search=[tmp_path], verify=True)
    assert links(graph) == {("tf", "source", "half", "proven")}
    assert (graph.models[base].aliases, graph.models[base].verbs) == (("base",), ("convert",))
    assert graph.models[base].backbone_digest.startswith("sha256:")


def test_the_source_of_an_older_manifest_is_claimed(tmp_path: Path) -> None:
    old = {"format": 2, "operation": ..., "parents": ..., "backbone_digest": ..., "vocabulary": ...}
    source = {"given": "bert-base-uncased", "revision": COMMIT, "container": "safetensors"}
    write(tmp_path / "out", manifest(digest("out"), **old, source=source))
    assert links(lineage(tmp_path / "out")) == {(f"bert-base-uncased@{COMMIT[:12]}", "source", "out", "claimed")}
    write(tmp_path / "out", manifest(digest("out"), **old, source={**source, "container": "memory"}))
    assert links(lineage(tmp_path / "out")) == set()


# Manifests that do not tell the truth


def test_a_circle_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, of in (("a", "b"), ("b", "c"), ("c", "b")):
        write(tmp_path / name, manifest(digest(name), parent(of, digest(of))))
    graph = lineage(tmp_path / "a", search=[tmp_path])
    assert graph.in_cycles == {digest("b"), digest("c")}
    assert graph.notes[0].startswith("b, c by their manifests are among their own ancestors")
    assert cp.call("history", tmp_path / "a", "--in", tmp_path, "--html", tmp_path / "page.html") == 0
    assert capsys.readouterr().out.count("its parents are above") == 1
    assert lay_out(graph).width > 0


@pytest.mark.parametrize(
    "wrong",
    [{"operation": []}, {"operation": {"verb": "x"}}, {"operation": {"verb": 1, "options": {}}}, {"parents": {}},
     {"parents": None}, {"parents": ["x"]}, {"parents": [{**parent("x"), "digest": None}]},
     {"parents": [{**parent("x"), "commit": 3}]}, {"parents": [parent("x")] * (MOST_PARENTS + 1)}, {"digest": None}],
    ids=str,
)  # fmt: skip
def test_a_manifest_of_wrong_kinds_is_damaged(wrong: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path / "out", manifest(digest("out"), **wrong))
    with pytest.raises(DamagedCheckpoint):
        lineage(tmp_path / "out")
    write(tmp_path / "child", manifest(digest("child"), parent("out", digest("out"))))
    graph = lineage(tmp_path / "child", search=[tmp_path])
    assert states(graph) == {"child": "recorded", "out": "claimed"}
    assert re.fullmatch(r"not used: .*out/bertconv\.json: was changed.*", graph.notes[0])


def test_a_changed_byte_is_no_record(tmp_path: Path, runs: dict[str, str]) -> None:
    file = tmp_path / "runs" / "one" / MANIFEST
    file.write_bytes(file.read_bytes().replace(b'"train"', b'"trian"'))
    graph = lineage(tmp_path / "averaged", search=[tmp_path])
    assert graph.models[runs["one"]].state == "claimed"
    assert "was changed since it was written" in graph.notes[0]


def test_what_is_no_digest_counts_as_none(tmp_path: Path) -> None:
    write(tmp_path / "out", manifest("md5:1", parent("a", "sha256:12"), parent("b", digest("b").upper())))
    assert {one.digest for one in lineage(tmp_path / "out").models.values()} == {""}


@pytest.mark.parametrize(
    ("options", "kept"),
    [({"weights": [1, 2], "x\x1b": NASTY}, True), ({"a": [[[[[[[[1]]]]]]]]}, False), ({"a": "b" * 30_000}, False)],
    ids=["few", "deep", "long"],
)
def test_options_are_short_and_safe(options: dict[str, Any], kept: bool, tmp_path: Path) -> None:
    write(tmp_path / "out", manifest(digest("out"), operation={"verb": "v" * 900, "options": options}))
    operation = lineage(tmp_path / "out").models[digest("out")].places[0].operation
    assert len(operation.verb) < 300
    assert bool(operation.options) == kept
    assert json.dumps(operation.options, ensure_ascii=False).isprintable()


def test_no_name_runs_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / NASTY.replace("/", "").replace("\ud800", "").replace("\n", "")
    content = manifest(digest("out"), parent(NASTY, digest("x"), NASTY, NASTY), verb=NASTY, head=NASTY, bertconv=NASTY)
    write(folder, content)
    assert cp.call("history", folder, "--html", tmp_path / "page.html") == 0
    assert cp.call("history", folder, "--json") == 0
    assert cp.call("history", folder, "--dot") == 0
    out = capsys.readouterr().out
    assert not re.search("[\x1b\u202e\ud800]", out)
    text = (tmp_path / "page.html").read_text()
    assert not re.search("[\x1b\u202e\ud800]|<script>alert|script>alert", text)
    labels = re.findall(r'label="((?:[^"\\]|\\.)*)"', out)
    assert len(labels) == 3
    assert all(r"<script>alert(\"1\")" in label and r"\\N" in label for label in labels)


# The search


def test_a_search_follows_no_link(tmp_path: Path, runs: dict[str, str]) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "one").symlink_to(tmp_path / "runs" / "one")
    (tmp_path / "links" / "two").mkdir()
    (tmp_path / "links" / "two" / MANIFEST).symlink_to(tmp_path / "runs" / "two" / MANIFEST)
    graph = lineage(tmp_path / "averaged", search=[tmp_path / "links"])
    assert {graph.models[runs[name]].state for name in ("one", "two")} == {"claimed"}
    assert "is a symbolic link" in graph.notes[0]


@pytest.mark.parametrize("name", ["models--org--name", ".hidden", ".out.bertconv-tmp-12"])
def test_caches_and_hidden_folders_are_not_searched(name: str, tmp_path: Path, runs: dict[str, str]) -> None:
    (tmp_path / "runs").rename(tmp_path / name)
    (tmp_path / "runs").mkdir()
    (tmp_path / name).rename(tmp_path / "runs" / name)
    assert lineage(tmp_path / "averaged", search=[tmp_path]).models[runs["one"]].state == "claimed"


@pytest.mark.usefixtures("runs")
def test_the_hubs_cache_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT
    inside.mkdir(parents=True)
    with pytest.raises(RequestError, match="lies in the Hub's cache"):
        lineage(tmp_path / "averaged", search=[inside])
    with pytest.raises(RequestError, match="is no folder"):
        lineage(tmp_path / "averaged", search=[tmp_path / "nowhere"])


@pytest.mark.parametrize("depth", [search.MOST_DEPTH, search.MOST_DEPTH + 1])
def test_the_depth_of_a_search_is_limited(depth: int, tmp_path: Path, runs: dict[str, str]) -> None:
    folder = tmp_path.joinpath("deep", *("x" * (depth - 1)))
    folder.mkdir(parents=True)
    (tmp_path / "runs" / "one").rename(folder / "one")
    state = lineage(tmp_path / "averaged", search=[tmp_path / "deep"]).models[runs["one"]].state
    assert state == ("recorded" if depth == search.MOST_DEPTH else "claimed")


@pytest.mark.parametrize(
    ("module", "name", "most", "note"),
    [(search, "MOST_FOLDERS", 2, "the rest was not searched"), (search, "MOST_MANIFESTS", 1, "the rest was not read"),
     (search, "MOST_MANIFEST_BYTES", 100, "the rest was not read"), (walk, "MOST_MODELS", 2, "more checkpoints than"),
     (walk, "MOST_EDGES", 2, "more checkpoints than"), (walk, "MOST_HASHED", 1, "only 1 of 2 folders")],
)  # fmt: skip
@pytest.mark.usefixtures("runs")
def test_everything_has_an_end(
    module: Any, name: str, most: int, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, most)
    for number in (1, 2):
        (tmp_path / "more" / str(number)).mkdir(parents=True)
        (tmp_path / "more" / str(number) / "model.safetensors").write_bytes(b"")
    graph = lineage(tmp_path / "averaged", search=[tmp_path / "runs", tmp_path / "more"], verify=name == "MOST_HASHED")
    assert [one for one in graph.notes if note in one]
    assert len([one for one in graph.notes if note in one]) == 1
    assert len(graph.models) <= 4


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, runs: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "runs":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    graph = lineage(tmp_path / "averaged", search=[tmp_path])
    assert graph.models[runs["one"]].state == "claimed"
    assert graph.notes == (f"{tmp_path / 'runs'} was not searched: Permission denied",)


# What is shown


def test_the_tree(tmp_path: Path, runs: dict[str, str], capsys: pytest.CaptureFixture[str],
                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    short = {name: found[7:19] for name, found in runs.items()}
    assert cp.call("history", "averaged", "--in", "runs") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"averaged, made by average, {HEAD}, {short['averaged']}, recorded",
        f"├─ input one, made by train, {HEAD}, {short['one']}, recorded",
        "│  │  in runs/one",
        f"│  └─ source org/base@{COMMIT[:12]}, {short['base']}, claimed",
        f"└─ input two, made by train, {HEAD}, {short['two']}, recorded",
        "   │  in runs/two",
        f"   └─ source org/base@{COMMIT[:12]}, {short['base']}, claimed",
        "4 models: 3 recorded, 1 claimed.",
    ]
    assert cp.call("history", "averaged", "--quiet") == 0
    assert capsys.readouterr().out == "3 models: 1 recorded, 2 claimed.\n"


def test_json_has_everything(tmp_path: Path, runs: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cp.call("history", tmp_path / "averaged", "--in", tmp_path, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(lineage(tmp_path / "averaged", search=[tmp_path]).to_json()))
    assert (found["ok"], found["root"], len(found["models"]), len(found["edges"])) == (True, runs["averaged"], 4, 4)
    assert found["models"][1] == {
        "id": runs["one"], "digest": runs["one"], "backbone_digest": "", "head": HEAD, "verified": "weights",
        "state": "recorded", "names": ["one"], "name": "one",
        "places": [{"folder": str(tmp_path / "runs" / "one"), "state": "recorded", "written_by": "0.1.0",
                    "operation": {"verb": "train", "options": {}}}],
    }  # fmt: skip
    edge = {"parent": runs["base"], "child": runs["one"], "role": "source", "verb": "train", "state": "claimed"}
    assert edge in found["edges"]


def test_dot_has_every_model_and_edge(tmp_path: Path, runs: dict[str, str]) -> None:
    lines = dot(lineage(tmp_path / "averaged", search=[tmp_path])).splitlines()
    assert sum(" -> " in line for line in lines) == len(runs)
    assert sum(line.startswith("  m") and " -> " not in line for line in lines) == len(runs)
    assert (lines[0], lines[-1]) == ("digraph history {", "}")


class Page(HTMLParser):
    """What a page holds: its tags, and the places that its links lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: deque[tuple[str, dict[str, str | None]]] = deque()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.open += [tag] if tag not in {"meta", "link", "wbr", "br"} else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def count(self, tag: str, kind: str) -> int:
        return sum(one == tag and kind in (attrs.get("class") or "").split() for one, attrs in self.seen)


def test_the_page_shows_every_model_and_edge(tmp_path: Path, runs: dict[str, str]) -> None:
    graph = lineage(tmp_path / "averaged", search=[tmp_path])
    text = page.history_page(graph)
    found = Page(text)
    assert found.open == []
    assert (found.count("g", "box"), found.count("g", "root"), found.count("text", "name")) == (4, 1, 4)
    assert sum(one == "path" and attrs.get("class") == "tip" for one, attrs in found.seen) == len(graph.edges) == 4
    targets = {attrs["href"] for one, attrs in found.seen if one == "a"}
    places = {f"#{attrs['id']}" for _, attrs in found.seen if attrs.get("id")}
    assert targets <= places
    assert {tag for tag, _ in found.seen} & {"script", "img", "iframe", "object"} == set()
    assert not re.search(r"(?:src|href)=\"(?!#|data:)|url\(|@import", text)
    assert "default-src &#x27;none&#x27;" in text
    for name in runs.values():
        assert name in text


@pytest.mark.usefixtures("runs")
def test_a_large_history_has_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_BOXES", 3)
    text = page.history_page(lineage(tmp_path / "averaged", search=[tmp_path]))
    assert "4 models are too many for a picture." in text
    assert Page(text).count("g", "box") == 0


@settings(max_examples=60, deadline=None)
@given(arcs=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda arc: arc[0] != arc[1]), max_size=25))
def test_no_boxes_overlap_and_every_line_ends_at_its_boxes(arcs: list[tuple[int, int]]) -> None:
    # as in a walk, everything is an ancestor of the root
    arcs += [(one, 0) for one in range(1, 10) if not any(arc[0] == one and arc[1] < one for arc in arcs)]
    models = {str(one): Model(str(one)) for one in range(10)}
    edges = tuple(Edge(str(one), str(other), "", "", "claimed") for one, other in dict.fromkeys(arcs))
    graph = Graph("0", models, edges)
    layout = lay_out(graph)
    corners = list(layout.boxes.values())
    for number, one in enumerate(corners):
        assert -0.01 <= one.x <= layout.width - BOX_WIDTH + 0.01
        assert -0.01 <= one.y <= layout.height - BOX_HEIGHT + 0.01
        for other in corners[:number]:
            assert abs(one.x - other.x) >= BOX_WIDTH or abs(one.y - other.y) >= BOX_HEIGHT
    for edge, points in layout.lines:
        start, end = layout.boxes[edge.parent], layout.boxes[edge.child]
        assert points[0].x == start.x + BOX_WIDTH
        assert points[-1].x == end.x
        assert start.y <= points[0].y <= start.y + BOX_HEIGHT
        assert end.y <= points[-1].y <= end.y + BOX_HEIGHT
        assert start.x < end.x or {edge.parent, edge.child} <= graph.in_cycles
    reach = {one: {edge.parent for edge in edges if edge.child == one} for one in models}
    for _ in models:
        reach = {one: found.union(*(reach[other] for other in found)) for one, found in reach.items()}
    assert graph.in_cycles == {one for one, found in reach.items() if one in found}


# The command


@pytest.mark.parametrize(
    ("words", "code"),
    [(["out"], 0), (["in"], 2), (["nowhere"], 2), (["out", "--in", "nowhere"], 2), (["out", "--json", "--dot"], 2),
     (["damaged"], 5), (["out", "--html", "out/bertconv.json"], 7)],
)  # fmt: skip
def test_exit_codes(words: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("out"), manifest(digest("out")))
    cp.save(Path("in"), HEAD, cp.state_dict(HEAD, **TINY), **TINY)
    Path("damaged").mkdir()
    Path("damaged", MANIFEST).write_text("{}")
    assert cp.call("history", *words) == code


def test_a_page_replaces_nothing_but_a_page(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", manifest(digest("out")))
    for _ in range(2):
        assert cp.call("history", folder, "--html", tmp_path / "page.html", "--quiet") == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert cp.call("history", folder, "--html", folder / MANIFEST) == OutputError.exit_code
    assert lineage(folder).ok


@pytest.mark.usefixtures("runs")
def test_it_needs_no_numpy(tmp_path: Path) -> None:
    told = "print(sorted({'numpy', 'h5py'} & {*sys.modules}))"
    code = f"import sys\nfrom bertconv.cli import main\ntry: main()\nfinally: {told}"
    words = ["history", str(tmp_path / "averaged"), "--in", str(tmp_path), "--quiet"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["4 models: 3 recorded, 1 claimed.", "[]"]
