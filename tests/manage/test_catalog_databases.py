"""The databases of a catalogue: what is refused, what is left alone, what messages do not say, and several at once."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest
from catalogued import family_tree
from histories import digest, manifest, write
from patience import PATIENCE
from postgresql_server import PASSWORD, USER

from bertconv import Catalog
from bertconv.catalog import postgresql as postgresql_module
from bertconv.catalog import schema
from bertconv.catalog.sqlite import SQLiteStore
from bertconv.errors import BertconvError, OutputError, RequestError

Cli = Callable[..., cp.Outcome]
SECRET = "hunter2hunter2"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return family_tree(tmp_path / "runs")


# SQLite


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE photographs (name)")
    connection.commit()
    connection.close()


def newer(path: Path) -> None:
    Catalog(path).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE bertconv_catalogue SET version = 99")
    connection.commit()
    connection.close()


def cut(path: Path) -> None:
    with Catalog(path) as catalog:
        catalog.refresh(write(path.parent / "model", manifest(digest("a"))))
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (foreign, RequestError, "is a database of something else"),
        (newer, RequestError, "holds a catalogue of version 99"),
        (lambda path: path.write_text("my notes, which are not to be lost\n" * 100), RequestError, "is no database"),
        (Path.mkdir, OutputError, "unable to open"),
        (lambda path: path.symlink_to(path.parent / "nowhere" / "x"), OutputError, "unable to open"),
        (cut, OutputError, "could not be used"),
    ],
)
def test_a_file_that_is_no_catalogue_is_left_alone(
    tmp_path: Path, make: Callable[[Path], Any], kind: type[BertconvError], message: str
) -> None:
    path = tmp_path / "x.db"
    make(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(kind, match=message) as caught, Catalog(path) as catalog:
        catalog.find()
    assert caught.value.file == str(path)
    assert caught.value.hint
    assert (path.read_bytes() if path.is_file() else None) == before


def test_what_sqlite_keeps_for_itself_is_no_other_program(tmp_path: Path) -> None:
    Catalog(tmp_path / "x.db").close()
    connection = sqlite3.connect(tmp_path / "x.db")
    connection.execute("ANALYZE")
    connection.close()
    Catalog(tmp_path / "x.db").close()


def test_a_step_that_fails_undoes_those_before_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "x.db")
    row = {"place": "gone", "number": 0, "name": "a"}
    insert = "INSERT INTO bertconv_labels (place, number, name) VALUES (:place, :number, :name)"
    with pytest.raises(OutputError, match="FOREIGN KEY"):
        store.write([("DELETE FROM bertconv_catalogue", [{}]), (insert, [row])])
    assert store.query(schema.READ_VERSION, {}) == [(schema.VERSION,)]
    store.close()


# PostgreSQL


def told(error: BertconvError) -> str:
    """All that anybody is shown, and what stands behind it."""
    return " ".join([str(error), repr(error), error.hint, json.dumps(error.to_json()), repr(error.__cause__)])


def test_a_wrong_password_is_not_shown(postgresql: Any, cli: Cli) -> None:
    url = postgresql.url(password=SECRET)
    with pytest.raises(OutputError, match="password authentication failed") as caught:
        Catalog(url)
    assert SECRET not in told(caught.value)
    assert caught.value.__suppress_context__
    assert USER in str(caught.value)  # what the server says of it helps
    for words in ([], ["--json"]):
        done = cli("catalog", "--db", url, *words)
        assert done.code == 7
        assert SECRET not in done.out + done.err


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{SECRET}@/db?host=/nowhere",
        f"postgresql+psycopg://user:{SECRET}@/db?host=/nowhere&sslpassword={SECRET}",
        f"postgresql://user@/db?host=/nowhere&password={SECRET}",
        f"postgresql://user:{SECRET}@/db?host=/nowhere&{SECRET}=1",
        f"postgresql://user:a:{SECRET}@b@/db:{SECRET}?host=/nowhere",
        f"postgresql://user@host:{SECRET}/db",
        f"postgresql://user:{SECRET}@[::1/db",
        f"postgres://user:{SECRET}@/db",
        f"mysql://user:{SECRET}@/db",
    ],
)
def test_no_address_shows_its_password(url: str, cli: Cli) -> None:
    with pytest.raises(BertconvError) as caught:
        Catalog(url)
    shown = told(caught.value).replace(f"/db:{SECRET}", "")  # the name of a database is none
    assert SECRET not in shown
    done = cli("catalog", "--db", url)
    assert done.code in {2, 7}
    assert SECRET not in (done.out + done.err).replace(f"/db:{SECRET}", "")


def test_a_bug_does_not_print_the_password(monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(postgresql_module.PostgreSQLStore, "__init__", fail)
    words = ["catalog", "--db", f"postgresql://me:{SECRET}@server/db"]
    monkeypatch.setattr(sys, "argv", ["bertconv", *words])
    done = cli(*words)
    assert done.code == 9
    assert SECRET not in done.err
    assert "postgresql://me:***@server/db" in done.err


@pytest.mark.parametrize("package", ["sqlalchemy", "psycopg"])
def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RequestError, match="sqlalchemy and psycopg") as caught:
        Catalog("postgresql://nobody@nowhere/x")
    assert "pip install 'bertconv[postgresql]'" in caught.value.hint


def test_a_catalogue_of_another_version_is_left_alone(postgresql: Any) -> None:
    url = postgresql.new()
    with Catalog(url) as catalog:
        catalog._store.write([("UPDATE bertconv_catalogue SET version = 99", [{}])])
    with pytest.raises(RequestError, match="version 99") as caught:
        Catalog(url)
    assert PASSWORD not in told(caught.value)


def test_a_table_of_somebody_else_is_left_alone(postgresql: Any) -> None:
    url = postgresql.new()
    with Catalog(url) as catalog:
        catalog._store.write([("CREATE TABLE photographs (name TEXT)", [{}])])
    with Catalog(url) as catalog:
        assert catalog._store.query("SELECT COUNT(*) FROM photographs", {}) == [(0,)]


def test_the_same_answers_in_the_same_order(tmp_path: Path, postgresql: Any) -> None:
    """The server orders as people do; the catalogue as bytes are."""
    for name in ("B", "a", "A", "b", "a-b", "a b", "ä", "Z", "_", "10", "9"):
        write(tmp_path / "runs" / name, manifest(digest(name)))
    answers = []
    for database in (None, tmp_path / "kept.db", postgresql.new()):
        with Catalog(database) as catalog:
            catalog.refresh(tmp_path / "runs")
            answers.append((catalog.find(), catalog.find(digest=digest("a")[:20])))
    assert answers[0] == answers[1] == answers[2]
    places = [entry.place for entry in answers[0][0]]
    assert places == sorted(places, key=str.encode)
    with Catalog(postgresql.url()) as catalog:
        assert catalog._store.query("SELECT 'a' < 'B'", {}) == [(True,)]


# Several at once


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_several_refresh_at_once(tree: Path, tmp_path: Path, kind: str, request: pytest.FixtureRequest) -> None:
    """From no tables at all: each makes them, each reads all, and the rows are there once."""
    database = tmp_path / "kept.db" if kind == "sqlite" else request.getfixturevalue("postgresql").new()
    ready = threading.Barrier(4, timeout=PATIENCE)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            ready.wait()
            with Catalog(database) as catalog:
                catalog.refresh(tree)
        except (BertconvError, threading.BrokenBarrierError) as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    with Catalog() as alone, Catalog(database) as catalog:
        alone.refresh(tree)
        assert catalog.find() == alone.find()
        assert catalog.refresh(tree).read == 0


def test_neither_package_is_loaded_without_a_need(tree: Path) -> None:
    code = (
        "import sys; from bertconv import Catalog\n"
        "with Catalog() as catalog: catalog.refresh(sys.argv[1]); print(len(catalog.find(family='bert')))\n"
        "print(*sorted({'sqlalchemy', 'psycopg', 'fsspec', 'numpy', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, tree], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["6"]
