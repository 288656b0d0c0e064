"""Catalog and `bertconv catalog`: what is found, what is read, what is not believed; in SQLite and PostgreSQL alike."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from catalogued import CLASSIFIER, COMMIT, classifier, counted, family_tree, forged, settle
from histories import HEAD, digest, manifest, parent, raw, write
from hypothesis import given, settings
from hypothesis import strategies as st

from bertconv import Catalog, convert_checkpoint
from bertconv.catalog import catalog as catalog_module
from bertconv.catalog import facts, trees
from bertconv.catalog.query import Entry
from bertconv.errors import RequestError
from bertconv.formats.destination import MANIFEST, MANIFEST_BYTES
from bertconv.manage.history import search
from bertconv.manifest import MOST_PARENTS

Cli = Callable[..., cp.Outcome]
NASTY = "'; DROP TABLE bertconv_manifests; -- \x00\x1b[31m\u202e\ud800%_:name\\ \""
DIGITS = digest("tuned").removeprefix("sha256:")


def names(found: tuple[Entry, ...]) -> list[str]:
    return [entry.place.rpartition("/")[2] for entry in found]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return family_tree(tmp_path / "runs")


# What is found


FOUND: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["base", "other", "head", "mail", "mail-tf", "news", "tuned", "unverified"]),
    ({"digest": DIGITS[:8]}, ["tuned"]),
    ({"digest": f"SHA256:{DIGITS.upper()}"}, ["tuned"]),
    ({"digest": "0" * 64}, []),
    ({"backbone": digest("body")[:20]}, ["base", "other"]),
    ({"family": "xlm-roberta"}, ["other"]),
    ({"family": "RoBERTa"}, ["unverified"]),
    ({"family": "rob"}, []),
    ({"head": CLASSIFIER}, ["mail", "mail-tf", "news"]),
    ({"head": f"TF{CLASSIFIER}"}, ["mail", "mail-tf", "news"]),
    ({"labels": ["spam"]}, ["mail", "mail-tf", "news"]),
    ({"labels": ["spam", "eggs"]}, ["news"]),
    ({"labels": ["ham", "spam"], "only_labels": True}, ["mail", "mail-tf"]),
    ({"labels": ["spam", "ham", "spam"], "only_labels": True}, ["mail", "mail-tf"]),
    ({"labels": ["ham"], "only_labels": True}, []),
    ({"labels": ["sp"]}, []),
    ({"parent": DIGITS[:8]}, ["mail"]),
    ({"parent": "tuned"}, ["mail"]),
    ({"parent": "google-bert/bert-base-uncased"}, ["other", "tuned"]),
    ({"parent": f"google-bert/bert-base-uncased@{COMMIT[:7]}"}, ["other", "tuned"]),
    ({"parent": "google-bert/bert-base-uncased@0000000"}, []),
    ({"parent": "base"}, ["unverified"]),
    ({"descendants": digest("base")}, ["other", "mail", "mail-tf", "news", "tuned"]),
    ({"descendants": DIGITS}, ["mail", "mail-tf", "news"]),
    ({"descendants": digest("news")}, []),
    ({"ancestors": digest("news")}, ["base", "mail", "mail-tf", "tuned"]),
    ({"ancestors": digest("base")}, []),
    ({"duplicates": True}, ["mail", "mail-tf"]),
    ({"duplicates": True, "head": HEAD}, []),
    ({"family": "bert", "labels": ["spam"], "parent": "mail"}, ["mail-tf", "news"]),
]


def test_outputs_are_found(tree: Path, database: Any) -> None:
    with Catalog(database) as catalog:
        refreshed = catalog.refresh(tree)
        assert (refreshed.root, refreshed.seen, refreshed.read) == (str(tree), 8, 8)
        assert [(query, names(catalog.find(**query))) for query, _ in FOUND] == FOUND


def test_an_entry_says_what_the_manifest_says(tree: Path, database: Any) -> None:
    with Catalog(database) as catalog:
        catalog.refresh(tree)
        (mail, other) = catalog.find(digest=digest("mail"))
        (tuned,) = catalog.find(digest=digest("tuned"))
        (head,) = catalog.find(digest=digest("head"))
    said = json.loads((tree / "mail-tf" / MANIFEST).read_text())
    assert (mail.place, other.place) == (str(tree / "mail"), str(tree / "mail-tf"))
    assert (mail.labels, other.labels) == (("ham", "spam"), ("spam", "ham"))
    assert other.manifest_sha256 == said["manifest_sha256"]
    assert other.nbytes == (tree / "mail-tf" / "config.json").stat().st_size
    assert (other.family, other.head, other.format, other.verified) == ("bert", CLASSIFIER, "tf", "weights")
    assert [(one.role, one.given, one.commit, one.digest) for one in tuned.parents] == [
        ("source", "google-bert/bert-base-uncased", COMMIT, digest("base"))
    ]
    assert (tuned.verb, tuned.backbone_digest, tuned.labels) == ("train", digest("tuned body"), ())
    assert head.part == "head"


def test_a_real_conversion_is_found_by_its_labels_and_its_source(tmp_path: Path, database: Any) -> None:
    labels = {"id2label": {"0": "ham", "1": "spam"}, "label2id": {"ham": 0, "spam": 1}}
    source = cp.save(tmp_path / "mail", CLASSIFIER, cp.state_dict(CLASSIFIER, labels=2), **labels, labels=2)
    report = convert_checkpoint(source, tmp_path / "out" / "tf", to="tf", verify="weights")
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        assert names(catalog.find(digest=report.digest, labels=["spam"], parent="mail", family="bert")) == ["tf"]
        (found,) = catalog.find()
        assert (found.backbone_digest, found.format, found.tensors) == (
            report.backbone_digest, "tf", len(report.tensors),
        )  # fmt: skip
        assert catalog.problems() == ()


def test_manifests_that_name_each_other_end(tmp_path: Path, database: Any) -> None:
    for name, of in (("a", "b"), ("b", "c"), ("c", "a")):
        write(tmp_path / name, manifest(digest(name), parent(of, digest(of))))
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        assert names(catalog.find(ancestors=digest("a"))) == ["b", "c"]
        assert names(catalog.find(descendants=digest("a"))) == ["a", "b", "c"]  # c is made of b, and a of what is a's


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"digest": DIGITS[:7]}, "is no digest"),
        ({"backbone": "sha256:"}, "is no digest"),
        ({"ancestors": "' OR '1' = '1"}, "is no digest"),
        ({"descendants": DIGITS + "0"}, "is no digest"),
        ({"digest": "\uff10" * 8}, "is no digest"),
        ({"ancestors": DIGITS, "descendants": DIGITS}, "two questions"),
        ({"only_labels": True}, "no labels are given"),
    ],
)
def test_what_cannot_be_asked(query: dict[str, Any], message: str) -> None:
    with Catalog() as catalog, pytest.raises(RequestError, match=message):
        catalog.find(**query)


def test_places_are_not_mixed_up(tmp_path: Path, database: Any) -> None:
    """`within` is a folder and what is below it, not what begins alike, and a wildcard is a letter."""
    for name in ("a", "a/in", "ab", "a0", "a_", "%", "a-b/in"):
        write(tmp_path / name, manifest(digest(name)))
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        root = str(tmp_path)
        assert names(catalog.find(within=[f"{root}/a"])) == ["a", "in"]
        assert names(catalog.find(within=[f"{root}/%"])) == ["%"]
        assert names(catalog.find(within=[f"{root}/ab", f"{root}/a_/"])) == ["a_", "ab"]
        assert len(catalog.find(within=["/"])) == catalog.count() == 7
        assert catalog.count([f"{root}/a"]) == 2
        assert catalog.forget(f"{root}/a") == 2
        assert names(catalog.find()) == ["%", "in", "a0", "a_", "ab"]


# What is asked for is a value, never a part of a statement


def test_nothing_that_is_asked_becomes_a_statement(tree: Path, database: Any) -> None:
    with Catalog(database) as catalog:
        catalog.refresh(tree)
        for name in ("family", "head", "parent"):
            assert catalog.find(**{name: NASTY}) == ()
        assert catalog.find(labels=[NASTY]) == catalog.find(labels=[NASTY], only_labels=True) == ()
        assert catalog.find(within=["/'; DROP TABLE bertconv_labels; --"]) == ()
        assert len(catalog.find(labels=["spam"])) == 3


def test_nothing_that_a_manifest_says_becomes_a_statement(tmp_path: Path, database: Any) -> None:
    made = parent(NASTY, digest("p"), role=NASTY, commit=NASTY)
    target = {"format": NASTY, "files": []}
    classifier(tmp_path / "'; DROP TABLE bertconv_labels; --", digest("a"), {"0": NASTY, "1": "a"}, made)
    write(
        tmp_path / "b",
        manifest(digest("b"), made, verb=NASTY, head=NASTY, table={"name": NASTY}, part=NASTY, verified=NASTY,
                 bertconv=NASTY, target=target),
    )  # fmt: skip
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        assert len(catalog.find(parent=NASTY)) == 2
        assert names(catalog.find(labels=[NASTY])) == ["'; DROP TABLE bertconv_labels; --"]
        (found,) = catalog.find(head=NASTY)
        assert catalog.problems() == ()
    assert found.family == found.verb == found.part == found.format == found.verified == search.short_text(NASTY)
    assert all(text.isprintable() for text in (found.head, found.parents[0].given, found.parents[0].role))


TEXTS = st.sampled_from(["a", "A", "ab", "a%", "a_", "'", '"', ":a", "é", "\u00df", "\x00", "\ud800", ""])
MODELS = st.fixed_dictionaries(
    {"of": st.sampled_from("pqrs"), "head": st.sampled_from([HEAD, "RobertaModel"]),
     "labels": st.lists(TEXTS, max_size=3), "parents": st.lists(st.sampled_from("pqrs"), max_size=2)}
)  # fmt: skip


class _Folders:
    """A tree that nobody has to write to a disk."""

    root = "memory"

    def __init__(self, models: list[dict[str, Any]]) -> None:
        self.models = {f"memory/{number}": model for number, model in enumerate(models)}

    def scan(self) -> trees.Scan:
        return trees.Scan(tuple(trees.Seen(place, "1", 1) for place in sorted(self.models)))

    def together(self, work: Any, wanted: Any) -> Any:
        return map(work, wanted)

    def manifest(self, seen: trees.Seen) -> bytes:
        model = self.models[seen.place]
        parents = [parent(name, digest(name)) for name in model["parents"]]
        config = self._config(model)
        files = {"config.json": {"size": len(config), "sha256": hashlib.sha256(config).hexdigest()}}
        head = CLASSIFIER if model["labels"] else model["head"]
        return raw(manifest(digest(model["of"]), *parents, head=head, files=files))

    def read(self, place: str, name: str, size: int) -> bytes:
        del name, size
        return self._config(self.models[place])

    def _config(self, model: dict[str, Any]) -> bytes:
        return json.dumps({"id2label": {str(number): name for number, name in enumerate(model["labels"])}}).encode()


def closure(start: str, steps: dict[str, set[str]]) -> set[str]:
    found, queue = {start}, [start]
    while queue:
        queue += (new := steps.get(queue.pop(), set()) - found)
        found |= new
    return found


@settings(max_examples=60)
@given(
    models=st.lists(MODELS, max_size=6), letter=st.sampled_from("pqrs"), labels=st.lists(TEXTS, min_size=1, max_size=2)
)
def test_any_tree_is_asked_as_a_loop_over_it_would(
    models: list[dict[str, Any]], letter: str, labels: list[str]
) -> None:
    """The SQL against Python, over any small catalogue."""
    above: dict[str, set[str]] = {}
    below: dict[str, set[str]] = {}
    for model in models:
        above.setdefault(model["of"], set()).update(model["parents"])
        for name in model["parents"]:
            below.setdefault(name, set()).add(model["of"])
    wanted = set(map(search.short_text, labels))

    def known(model: dict[str, Any]) -> set[str]:
        return set(map(search.short_text, model["labels"]))

    amounts = [model["of"] for model in models]
    line_up, line_down = closure(letter, above), closure(letter, below)
    made = {one["of"] for one in models if set(one["parents"]) & line_down - {one["of"]}}
    expected: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
        ({"digest": digest(letter)}, lambda one: one["of"] == letter),
        ({"parent": digest(letter)}, lambda one: letter in one["parents"]),
        ({"parent": letter}, lambda one: letter in one["parents"]),
        ({"labels": labels}, lambda one: wanted <= known(one)),
        ({"labels": labels, "only_labels": True}, lambda one: wanted == known(one)),
        ({"duplicates": True}, lambda one: amounts.count(one["of"]) > 1),
        ({"ancestors": digest(letter)}, lambda one: one["of"] in line_up - {letter}),
        ({"descendants": digest(letter)}, lambda one: one["of"] in made),
        ({"family": "roberta"}, lambda one: not one["labels"] and one["head"] == "RobertaModel"),
    ]
    folders = _Folders(models)
    with Catalog() as catalog, pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog_module, "open_tree", lambda _: folders)
        catalog.refresh("memory")
        for query, fits in expected:
            found = {entry.place for entry in catalog.find(**query)}
            assert found == {place for place, model in folders.models.items() if fits(model)}, query


# Only what is new or changed is read


def test_only_what_is_new_or_changed_is_read(tree: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, read = counted(monkeypatch)
    with Catalog(database) as catalog:
        catalog.refresh(tree)
        assert len(read) == 8
        read.clear()
        again = catalog.refresh(tree)
        assert (again.seen, again.read, again.removed, read) == (8, 0, 0, [])

        write(tree / "new", manifest(digest("new")))
        write(tree / "tuned", manifest(digest("tuned again"), parent("base", digest("base"))))
        (tree / "mail").rename(tree / "moved")
        cp_folder(tree / "base", tree / "copy")
        settle(tree / "new", tree / "tuned", tree / "copy")
        changed = catalog.refresh(tree)
        assert sorted(Path(place).name for place in read) == ["copy", "moved", "new", "tuned"]
        assert (changed.seen, changed.read, changed.removed) == (10, 4, 1)
        assert names(catalog.find(labels=["spam"])) == ["mail-tf", "moved", "news"]
        assert names(catalog.find(parent=digest("base"))) == ["other", "tuned"]
        assert names(catalog.find(digest=digest("tuned"))) == []
        assert names(catalog.find(digest=digest("base"))) == ["base", "copy"]


def cp_folder(folder: Path, copy: Path) -> None:
    copy.mkdir()
    (copy / MANIFEST).write_bytes((folder / MANIFEST).read_bytes())


def test_what_is_kept_is_there_for_the_next_who_opens_it(tree: Path, tmp_path: Path, postgresql: Any) -> None:
    for database in (tmp_path / "kept.db", postgresql.new()):
        with Catalog(database) as catalog:
            catalog.refresh(tree)
            before = catalog.find()
        with Catalog(database) as catalog:
            assert catalog.find() == before
            assert catalog.refresh(tree).read == 0
            assert catalog.find() == before


def test_of_a_folder_that_is_gone_the_rows_go(tree: Path, database: Any) -> None:
    with Catalog(database) as catalog:
        catalog.refresh(tree)
        for name in ("mail", "news"):
            (tree / name / MANIFEST).unlink()
        assert catalog.refresh(tree).removed == 2
        assert names(catalog.find(labels=["ham"])) == ["mail-tf"]
        assert catalog._store.query("SELECT COUNT(*) FROM bertconv_labels", {}) == [(2,)]
        assert catalog._store.query("SELECT COUNT(*) FROM bertconv_parents WHERE given = 'mail'", {}) == [(1,)]


@pytest.mark.parametrize("same_inode", [False, True])
def test_the_same_size_and_time_do_not_hide_a_change(tmp_path: Path, database: Any, same_inode: bool) -> None:
    """A tool that restores times, and a file that is written again within one tick of the clock."""
    folder = write(tmp_path / "a", manifest(digest("a")))
    old = folder / MANIFEST
    if not same_inode:
        settle(tmp_path)
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        found = old.stat()
        content = raw(manifest(digest("b")))
        assert len(content) == found.st_size
        if same_inode:  # and young, so that no tick need be there between the two
            old.write_bytes(content)
        else:
            (folder / "new").write_bytes(content)
            (folder / "new").replace(old)
        os.utime(old, ns=(found.st_atime_ns, found.st_mtime_ns))
        catalog.refresh(tmp_path)
        assert [entry.digest for entry in catalog.find()] == [digest("b")]


def test_what_could_not_be_searched_stays_on_record(tree: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with Catalog(database) as catalog:
        catalog.refresh(tree)
        plain = os.scandir

        def scandir(folder: Any) -> Any:
            if Path(folder).name == "deep":
                raise PermissionError(13, "Permission denied")
            return plain(folder)

        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", scandir)
            found = catalog.refresh(tree)
        assert (found.seen, found.removed, len(found.notes)) == (7, 0, 1)
        assert "deep was not searched: Permission denied" in found.notes[0]
        assert "other" in names(catalog.find())

        with monkeypatch.context() as patch:
            patch.setattr(trees, "MOST_FOLDERS", 3)
            found = catalog.refresh(tree)
        assert found.removed == 0
        assert "more than 3 folders" in " ".join(found.notes)
        assert catalog.count() == 8


def test_a_stop_between_two_transactions_keeps_the_first(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, read = counted(monkeypatch)
    monkeypatch.setattr(catalog_module, "BATCH", 3)

    def stop(_: str, done: int, __: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with Catalog(tmp_path / "kept.db") as catalog, pytest.raises(KeyboardInterrupt):
        catalog.refresh(tree, progress=stop)
    read.clear()
    with Catalog(tmp_path / "kept.db") as catalog:
        assert catalog.count() == 6
        assert catalog.refresh(tree).read == len(read) == 2
        assert catalog.count() == 8


def test_the_cost_of_an_output_is_flat(tmp_path: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads, rows and statements of 60 manifests and of 600; 10,000 are in the test below."""
    stores, read = counted(monkeypatch)
    costs = []
    for amount in (60, 600):
        outputs(tmp_path / str(amount), amount)
        with Catalog(database) as catalog:
            catalog.refresh(tmp_path / str(amount))
            catalog.find(within=[str(tmp_path / str(amount))])
        rows = sum(count for _, count in stores[-1].steps)
        costs.append((rows / amount, len(read) / amount, len(stores[-1].queries)))
        assert stores[-1].transactions == -(-amount // catalog_module.BATCH)
        read.clear()
    assert costs[0] == costs[1]


END = b'"\n}\n'
"""Of a manifest, behind its own digest."""


def outputs(root: Path, amount: int) -> Path:
    """So many outputs, each with a parent, in folders of hundreds."""
    long_ago = time.time_ns() - 60 * 10**9
    one, before, own = digest("one"), digest("before"), b'"manifest_sha256": "'
    start = raw(manifest(one, parent("before", before))).partition(own)[0] + own
    for number in range(amount):
        content = start.replace(one.encode(), digest(str(number)).encode())
        content = content.replace(before.encode(), digest(str(number - 1)).encode())
        path = root / str(number // 250) / str(number) / MANIFEST
        path.parent.mkdir(parents=True)
        path.write_bytes(content + hashlib.sha256(content + END).hexdigest().encode() + END)
        os.utime(path, ns=(long_ago, long_ago))
    return root


def test_ten_thousand_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stores, read = counted(monkeypatch)
    amount = 10_000
    root = outputs(tmp_path / "runs", amount)
    steps: list[tuple[str, int, int]] = []
    with Catalog(tmp_path / "kept.db") as catalog:
        found = catalog.refresh(root, progress=lambda *step: steps.append(step))
        store = stores[-1]
        assert (found.seen, found.read, len(read), found.notes) == (amount, amount, amount, ())
        assert (steps[0], steps[-1]) == (("manifests", 0, amount), ("manifests", amount, amount))
        assert store.transactions == amount // catalog_module.BATCH
        assert sum(count for _, count in store.steps) == 4 * amount  # its row, its parent, and what was there before
        assert len(store.queries) == 1
        (entry,) = catalog.find(parent=digest("8999"))
        assert Path(entry.place).name == "9000"
        assert len(catalog.find()) == amount
        assert len(store.queries) == 7  # three for each question, whatever it finds

        read.clear()
        for number in range(0, amount, 1000):
            (root / str(number // 250) / str(number) / MANIFEST).unlink()
        again = catalog.refresh(root)
        assert (again.read, again.removed, read) == (0, 10, [])
        assert store.transactions == amount // catalog_module.BATCH + 1


@pytest.mark.parametrize(
    "query",
    [{"digest": DIGITS}, {"backbone": DIGITS}, {"family": "bert"}, {"head": HEAD}, {"labels": ["a"]},
     {"labels": ["a"], "only_labels": True}, {"parent": DIGITS}, {"parent": "org/name"}, {"parent": f"a@{COMMIT}"}],
    ids=str,
)  # fmt: skip
def test_an_index_answers(query: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No question goes through all rows, so its cost is that of what it finds."""
    stores, _ = counted(monkeypatch)
    plans = []

    def explained(self: Any, statement: str, values: Any) -> Any:
        plans.extend(row[3] for row in self.store.query(f"EXPLAIN QUERY PLAN {statement}", values))
        return []

    with Catalog() as catalog:
        monkeypatch.setattr(type(stores[0]), "query", explained)
        assert catalog.find(**query) == ()
    assert any("USING" in plan and "INDEX" in plan for plan in plans)
    assert not any(re.match(r"SCAN (m|p|bertconv_\w+)( |$)", plan) for plan in plans), plans


# Manifests that are not to be believed


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MANIFEST_BYTES + 1)


def with_files(sizes: list[int]) -> Callable[[Path], None]:
    files = {f"f{number}": {"size": size, "sha256": "0" * 64} for number, size in enumerate(sizes)}
    return lambda path: path.write_bytes(raw(manifest(digest("a"), files=files))) and None


CHANGED, LINK, NO_FILE = "was changed since it was written", "is a symbolic link", "is not a regular file"
HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "forged": (forged, CHANGED),
    "empty": (lambda path: path.write_bytes(b""), CHANGED),
    "no JSON": (lambda path: path.write_bytes(b"\xff\xfe{}"), CHANGED),
    "another thing": (lambda path: path.write_bytes(b"[1, 2]"), CHANGED),
    "deep": (lambda path: path.write_bytes(b"[" * 100_000), CHANGED),
    "huge": (huge, CHANGED),
    "huge number": (lambda path: path.write_bytes(b'{"a": ' + b"9" * 10_000 + b"}"), CHANGED),
    "twice the same key": (lambda path: path.write_bytes(b'{"digest": "a", "digest": "b"}'), CHANGED),
    "too many parents": (
        lambda path: path.write_bytes(raw(manifest(digest("a"), *[parent("x")] * (MOST_PARENTS + 1)))), CHANGED,
    ),
    "link": (lambda path: path.symlink_to("/etc/passwd"), LINK),
    "dangling link": (lambda path: path.symlink_to("/nowhere"), "holds no bertconv.json"),
    "pipe": (os.mkfifo, "holds no bertconv.json"),
    "size beyond all": (with_files([1 << 62]), "states sizes that no files have"),
    "size beyond 64 bits": (with_files([10**40]), "states sizes that no files have"),
    "negative size": (with_files([-1]), "states sizes that no files have"),
    "sizes that add up": (with_files([1 << 59] * 3), "states sizes that no files have"),
}  # fmt: skip


def test_no_hostile_manifest_is_believed(tmp_path: Path, database: Any) -> None:
    for name, (make, _) in HOSTILE.items():
        (tmp_path / name).mkdir()
        make(tmp_path / name / MANIFEST)
    (tmp_path / "folder" / MANIFEST).mkdir(parents=True)
    write(tmp_path / "good", manifest(digest("good")))
    with Catalog(database) as catalog:
        assert catalog.refresh(tmp_path).seen == len(HOSTILE) + 1
        assert names(catalog.find()) == ["good"]
        problems = {Path(one.place).name: one.problem for one in catalog.problems()}
        assert problems.keys() == HOSTILE.keys()
        for name, (_, message) in HOSTILE.items():
            assert message in problems[name], (name, problems[name])
        assert len(catalog.problems([str(tmp_path / "huge")])) == 1
        assert catalog.count() == 1


def test_a_manifest_that_was_believed_is_not_once_it_is_forged(tmp_path: Path, database: Any) -> None:
    folder = classifier(tmp_path / "a", digest("a"), {"0": "ham"}, parent("x"))
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        forged(folder / MANIFEST)
        catalog.refresh(tmp_path)
        assert catalog.find() == catalog.find(labels=["ham"]) == catalog.find(parent="x") == ()
        assert [one.problem for one in catalog.problems()] == ["was changed since it was written, so it proves nothing"]
        write(folder, manifest(digest("c")))
        catalog.refresh(tmp_path)
        assert (len(catalog.find()), catalog.problems()) == (1, ())


def test_what_cannot_be_read_now_is_read_later(tree: Path, database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails for a moment leaves no problem on record that is none."""
    with Catalog(database) as catalog:
        with monkeypatch.context() as patch:

            def fail(*_: Any) -> bytes:
                raise RequestError("is away for a moment.")

            patch.setattr(trees, "stored_manifest", fail)
            assert catalog.refresh(tree).read == 8
        assert {one.problem for one in catalog.problems()} == {"is away for a moment"}
        assert catalog.refresh(tree).read == 8
        assert (catalog.count(), catalog.problems()) == (8, ())


LABELS: dict[str, tuple[Any, str]] = {
    "numbers": ({"0": 1}, "does not name labels"),
    "list": (["ham"], "does not name labels"),
    "too many": ({str(number): "a" for number in range(facts.MOST_LABELS + 1)}, "does not name labels"),
    "none": ({}, ""),
    "null": (None, ""),
}


@pytest.mark.parametrize("name", LABELS)
def test_labels_that_are_none(tmp_path: Path, name: str) -> None:
    labels, message = LABELS[name]
    classifier(tmp_path / "a", digest("a"), labels)
    with Catalog() as catalog:
        catalog.refresh(tmp_path)
        (found,) = catalog.find(digest=digest("a"))
        assert found.labels == ()
        assert [message in one.problem for one in catalog.problems()] == [True] * bool(message)


def other_labels(config: Path) -> None:
    config.write_bytes(config.read_bytes().replace(b"spam", b"eggs"))


def longer(config: Path) -> None:
    config.write_bytes(config.read_bytes() + b" ")


def linked(config: Path) -> None:
    config.rename(config.with_name("elsewhere"))
    config.symlink_to("elsewhere")


@pytest.mark.parametrize("change", [other_labels, longer, linked, Path.unlink])
def test_a_config_that_the_manifest_does_not_vouch_for_names_no_labels(
    tmp_path: Path, database: Any, change: Callable[[Path], None]
) -> None:
    folder = classifier(tmp_path / "a", digest("a"), {"0": "ham", "1": "spam"})
    settle(tmp_path)
    config = folder / "config.json"
    good = config.read_bytes()
    change(config)
    with Catalog(database) as catalog:
        catalog.refresh(tmp_path)
        assert [entry.labels for entry in catalog.find(digest=digest("a"))] == [()]
        assert catalog.find(labels=["eggs"]) == ()
        (problem,) = catalog.problems()
        assert "labels are not known" in problem.problem
        config.unlink(missing_ok=True)
        config.write_bytes(good)  # the manifest is the same, and is looked at again all the same
        catalog.refresh(tmp_path)
        assert [entry.labels for entry in catalog.find()] == [("ham", "spam")]
        assert catalog.problems() == ()


def test_names_of_folders_that_no_database_has(tmp_path: Path, database: Any) -> None:
    raw_name = os.fsencode(tmp_path) + b"/\xff"
    write(Path(os.fsdecode(raw_name)), manifest(digest("a")))
    deep = tmp_path.joinpath(*["d" * 200] * 11)
    write(deep, manifest(digest("b")))
    write(tmp_path / "line\nbreak \x1b[31m", manifest(digest("c")))
    with Catalog(database) as catalog:
        found = catalog.refresh(tmp_path)
        assert len(found.notes) == 2
        assert all(note.isprintable() for note in found.notes)
        assert [entry.digest for entry in catalog.find()] == [digest("c")]
        for call in (catalog.refresh, catalog.forget):
            with pytest.raises(RequestError, match="no UTF-8"):
                call(os.fsdecode(raw_name))


def test_what_is_not_searched(tmp_path: Path) -> None:
    write(tmp_path / ".out.bertconv-tmp-1" / "x", manifest(digest("a")))
    write(tmp_path / "models--org--name" / "snapshots", manifest(digest("b")))
    write(tmp_path / "elsewhere", manifest(digest("c")))
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    with Catalog() as catalog:
        assert catalog.refresh(tmp_path / "runs").seen == 0
        assert catalog.refresh(tmp_path).seen == 1
        with pytest.raises(RequestError, match="is no folder"):
            catalog.refresh(tmp_path / "nothing")
        with pytest.raises(RequestError, match="Hub's cache"):
            catalog.refresh(tmp_path / "models--org--name")


def test_the_example_of_the_page(
    tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "scale.md").read_text()
    block = re.search(r"^## Catalogue$.*?^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block
    monkeypatch.chdir(tree.parent)
    exec(block[1], {})
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        str(tree / name) for name in ("mail", "mail-tf", "news")
    ]


# The command


def test_the_command_lists_what_it_finds(tree: Path, cli: Cli) -> None:
    done = cli("catalog", tree, "--label", "spam", "--family", "bert")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.rpartition("/")[2] for line in lines[2:5]] == ["mail", "mail-tf", "news"]
    assert lines[2].startswith(digest("mail")[7:19])
    assert lines[-1] == "3 found of 8 outputs, 8 read."
    assert done.err == ""
    assert cli("catalog", tree, "--digest", "0" * 8).code == 1
    assert cli("catalog", tree, "--head", CLASSIFIER, "-q").out == "".join(
        f"{tree / name}\n" for name in ("mail", "mail-tf", "news")
    )


def test_the_command_lists_duplicates(tree: Path, cli: Cli) -> None:
    done = cli("catalog", tree, "--duplicates")
    assert done.code == 0
    assert done.out.splitlines()[:2] == [f"one model, {digest('mail')}:", f"  {tree / 'mail'} (, 61 B)"]
    assert cli("catalog", tree, "--duplicates", "--family", "roberta").code == 1


def test_the_command_as_json(tree: Path, cli: Cli) -> None:
    (tree / "bad").mkdir()
    forged(tree / "bad" / MANIFEST)
    done = cli("catalog", tree, "--parent", "tuned", "--json")
    said = json.loads(done.out)
    assert (done.code, said["ok"]) == (0, True)
    assert [one["place"] for one in said["found"]] == [str(tree / "mail")]
    assert said["found"][0]["labels"] == ["ham", "spam"]
    assert said["problems"] == [{"place": str(tree / "bad"), "problem": f"{CHANGED}, so it proves nothing"}]
    assert said["places"] == [{"root": str(tree), "seen": 9, "read": 9, "removed": 0, "notes": []}]
    nothing = cli("catalog", tree, "--parent", "nobody", "--json")
    assert (nothing.code, json.loads(nothing.out)["ok"]) == (1, False)


def test_problems_are_told_and_are_no_failure(tree: Path, cli: Cli) -> None:
    (tree / "bad\x1b[31m").mkdir()
    forged(tree / "bad\x1b[31m" / MANIFEST)
    done = cli("catalog", tree, "--digest", DIGITS)
    assert done.code == 0
    assert done.err == f"Problem: {tree}/bad\\x1b[31m: {CHANGED}, so it proves nothing.\n"
    assert cli("catalog", tree, "--digest", "0" * 8).code == 1


def test_the_command_keeps_a_database(tree: Path, tmp_path: Path, cli: Cli) -> None:
    kept = tmp_path / "kept.db"
    assert cli("catalog", "--db", kept).code == 1
    assert cli("catalog", tree, "--db", kept).out.splitlines()[-1] == "8 found of 8 outputs, 8 read."
    (tree / "news" / MANIFEST).unlink()
    assert cli("catalog", tree, "--db", kept).out.splitlines()[-1] == "7 found of 7 outputs, 0 read, 1 gone."
    alone = cli("catalog", "--db", kept, "--descendants", DIGITS)
    assert alone.out.splitlines()[-1] == "2 found of 7 outputs on record; nothing was looked at."
    assert cli("catalog", tree / "mail", tree / "base", "--db", kept, "-q").out == f"{tree / 'base'}\n{tree / 'mail'}\n"
    assert cli("catalog", tree / "mail", "--db", kept, "--forget").out == "1 taken off record.\n"
    assert json.loads(cli("catalog", tree, "--db", kept, "--forget", "--json").out) == {"ok": True, "removed": 6}
    assert cli("catalog", "--db", kept).code == 1


def test_the_command_prints_the_tables(cli: Cli, postgresql: Any) -> None:
    done = cli("catalog", "--sql")
    assert done.code == 0
    made = sqlite3.connect(":memory:")
    made.executescript(done.out)
    with Catalog() as catalog:
        ours = catalog._store.query("SELECT type, name, sql FROM sqlite_master ORDER BY name", {})
    assert made.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == ours
    made.close()
    other = cli("catalog", "--sql", "--db", "postgresql://nobody:secret@nowhere/x")  # no server is asked
    assert other.code == 0
    assert 'COLLATE "C"' in other.out
    postgresql.run(f"CREATE SCHEMA printed; SET search_path = printed; {other.out}")


@pytest.mark.parametrize(
    "words",
    [[], ["--forget", "--db", "x.db"], ["DIR", "--forget"], ["DIR", "--only-labels"],
     ["DIR", "--db", "x.db", "--forget", "--family", "bert"], ["DIR", "--ancestors", "0" * 8, "--descendants", "0" * 8],
     ["DIR", "--digest", "0" * 7], ["DIR/nothing"], ["DIR", "--db", ""], ["DIR", "--db", "mysql://a:secret@b/c"]],
    ids=" ".join,
)  # fmt: skip
def test_what_the_command_refuses(tmp_path: Path, cli: Cli, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    done = cli("catalog", *words)
    assert done.code == 2
    assert "secret" not in done.out + done.err
    assert sorted(path.name for path in tmp_path.iterdir()) in (["DIR"], ["DIR", "x.db"])
