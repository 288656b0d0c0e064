"""The driver with an engine that does as it is told: what is retried, kept and recorded; and that a signal ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fleets import FORMAT, Scripted, done, failed, make, make_many

from bertconv.errors import OutputError, RequestError
from bertconv.fleet.driver import Progress, Run, Summary, run_fleet
from bertconv.fleet.engines.engine import Finished
from bertconv.fleet.items import Item, placed
from bertconv.fleet.ledger import Ledger, ledger_path, read_ledgers, read_runs
from bertconv.fleet.outcome import Outcome
from bertconv.fleet.scheduler import Policy
from bertconv.fleet.status import failed_items, status_of
from bertconv.fleet.work import run_item

QUICK = Policy(retries=2, first_delay=0.001)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(ledger_path(tmp_path / "state")) as found:
        yield found


def hashes(folder: Path, *names: str) -> list[Item]:
    """Items of folders that are there, so that their sources have an identity."""
    for name in names:
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "config.json").write_text("{}")
    return [Item(str(folder / name), verb="hash") for name in names]


def run(
    items: list[Item], ledger: Ledger, *ends: list[Outcome | None], again: bool = False
) -> tuple[Summary, Scripted]:
    engine = Scripted({item.src: list(script) for item, script in zip(items, ends, strict=False)})
    summary = run_fleet(items, engine, ledger, Run(QUICK, again=again, about={"command": "a test"}))
    assert engine.closed == [False]
    assert engine.running == []
    return summary, engine


def states(ledger: Ledger) -> dict[str, str]:
    return {Path(row.src).name: row.state for row in read_ledgers(ledger.path.parent)}


@pytest.mark.parametrize(
    ("ends", "state", "code"),
    [
        ([done()], "done", 0), ([failed(7), failed(8), done()], "done", 0), ([failed(8)] * 3, "failed", 8),
        ([failed(5)], "failed", 5), ([failed(1)], "failed", 1), ([failed(9)], "quarantined", 9),
        ([None, done()], "done", 0), ([None, None, done()], "done", 0), ([None] * 3, "quarantined", 137),
        ([None, None, failed(137)], "quarantined", 137), ([failed(143), done()], "done", 0),
    ],
)  # fmt: skip
def test_every_end_is_recorded(
    ends: list[Outcome | None], state: str, code: int, tmp_path: Path, ledger: Ledger
) -> None:
    items = hashes(tmp_path, "it", "other")
    summary, engine = run(items, ledger, ends, [done()])
    assert states(ledger) == {"it": state, "other": "done"}
    row = ledger.row(items[0])
    assert (row.code, row.attempts, row.lost) == (code, len(ends), sum(end is None for end in ends))
    assert row.finished >= row.started > 0
    assert summary.ok is (state == "done")
    assert sum(summary.counts.values()) == 2
    assert [alone for src, alone in engine.tried if src == items[0].src] == [
        sum(end is None for end in ends[:number]) >= 2 for number in range(len(ends))
    ]
    assert [item for item, _ in summary.failures] == ([] if state == "done" else items[:1])


def test_a_second_run_does_only_what_may_end_otherwise(tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "good", "bad", "bug", "busy")
    run(items, ledger, [done()], [failed(5)], [failed(9)], [failed(7)] * 3)
    summary, engine = run(items, ledger, [], [], [], [done()])
    assert [src for src, _ in engine.tried] == [items[3].src]
    assert summary.counts == {"kept": 1, "failed": 1, "quarantined": 1, "done": 1}
    assert not summary.ok
    assert [outcome.state for _, outcome in summary.failures] == ["failed", "quarantined"]
    summary, engine = run(items[:1], ledger)
    assert (summary.counts, engine.tried, summary.ok) == ({"kept": 1}, [], True)


def test_failures_are_done_again_when_asked_for(tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "good", "bad", "bug")
    run(items, ledger, [done()], [failed(5)], [None] * 3)
    ledger.flush()
    again = failed_items(tmp_path / "state")
    assert sorted(again, key=lambda item: item.src) == items[1:]
    assert failed_items(tmp_path / "state", [5]) == items[1:2]
    summary, engine = run(items[1:], ledger, [done()], [done()], again=True)
    assert summary.ok
    assert not any(alone for _, alone in engine.tried)  # what lost its workers gets another chance beside others
    with pytest.raises(RequestError, match="no ledger"):
        failed_items(tmp_path / "elsewhere")


def test_what_lost_workers_before_the_driver_was_killed_goes_on_where_it_was(tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "poison")

    class Killed(Scripted):
        def wait(self, timeout: float) -> list[Finished]:
            if len(self.tried) == 2:
                raise MemoryError
            return super().wait(timeout)

    for _ in range(2):
        with pytest.raises(MemoryError):
            run_fleet(items, Killed({items[0].src: [None, None]}), ledger, Run(QUICK))
    _, engine = run(items, ledger, [done()])
    assert engine.tried == [(items[0].src, True)]


@pytest.mark.parametrize("change", ["source", "options", "identity"])
def test_what_changed_begins_anew(change: str, tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "a", "b")
    run(items, ledger, [failed(5)], [done()])
    first = items[0]
    if change == "source":
        (Path(first.src) / "vocab.txt").write_text("new")
    changed = {"options": replace(first, options={"values": True}), "identity": replace(first, identity="etag")}
    items[0] = changed.get(change, first)
    _, engine = run(items, ledger, [done()], [])
    assert [src for src, _ in engine.tried] == [first.src]
    assert ledger.row(first).attempts == 1


def test_an_output_that_is_gone_is_made_again(tmp_path: Path, ledger: Ledger) -> None:
    items = placed((Item(str(path), options={"to": FORMAT}) for path in make_many(tmp_path, 2)), str(tmp_path / "out"))
    outcomes = [run_item(item) for item in items]
    assert run(items, ledger, *([one] for one in outcomes))[0].counts == {"done": 2}
    assert run(items, ledger)[0].counts == {"kept": 2}
    (Path(items[0].dst) / "bertconv.json").unlink()
    _, engine = run(items, ledger, [done()])
    assert [src for src, _ in engine.tried] == [items[0].src]


def test_leftovers_of_killed_runs_are_removed(tmp_path: Path, ledger: Ledger) -> None:
    items = placed([Item(str(make(tmp_path / "model")))], str(tmp_path / "out"))
    left = tmp_path / "out" / ".other.bertconv-tmp-0123456789ab"
    left.mkdir(parents=True)
    (left / "model.safetensors").write_bytes(b"half")
    (tmp_path / "out" / ".other.bertconv-lock").touch()
    summary, _ = run(items, ledger, [done()])
    assert summary.leftovers == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_workers(number: int, tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "a", "b", "c")

    class Signalled(Scripted):
        def wait(self, timeout: float) -> list[Finished]:
            if len(self.tried) == 3:
                os.kill(os.getpid(), number)
            return super().wait(timeout)

    engine = Signalled({item.src: [done()] for item in items})
    before = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_fleet(items, engine, ledger, Run(QUICK))
    finally:
        signal.signal(number, before)
    assert engine.closed == [True]
    assert len(engine.running) == 1
    assert sorted(states(ledger).values()) == ["done", "done", "pending"]


def test_progress_adds_up(tmp_path: Path, ledger: Ledger) -> None:
    items = hashes(tmp_path, "a", "b", "c")
    seen: list[Progress] = []
    engine = Scripted({item.src: [done(nbytes=5)] for item in items})
    run_fleet(items, engine, ledger, Run(QUICK, watch=seen.append))
    last = seen[-1]
    assert (last.total, last.ended, last.counts, last.running, last.waiting, last.nbytes) == (
        3,
        3,
        {"done": 3},
        0,
        0,
        15,
    )


# The ledger


def test_a_ledger_has_one_driver(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(OutputError, match="in use"):
        Ledger(ledger.path)
    with Ledger(ledger_path(tmp_path / "state", "1/2")) as other:
        assert other.path.name == "ledger-1-of-2.db"


@pytest.mark.parametrize("content", [b"not a database at all, but a text", "later"])
def test_what_is_no_ledger_is_refused_and_left(content: bytes | str, tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    if isinstance(content, bytes):
        path.write_bytes(content * 100)
    else:
        base = sqlite3.connect(path)
        base.execute("PRAGMA user_version = 99")
        base.close()
    before = path.read_bytes()
    for _ in range(2):  # the lock was let go
        with pytest.raises(RequestError, match=r"no ledger|later version"):
            Ledger(path)
    assert path.read_bytes() == before


DAMAGE: dict[str, str] = {
    "an option that is no JSON": "UPDATE items SET options = 'none'",
    "options that are a list": "UPDATE items SET options = '[]'",
    "a time that is a text": "UPDATE items SET finished = 'abc'",
    "a time without end": "UPDATE items SET seconds = 9e999",
    "bytes for a text": "UPDATE items SET src = x'ff'",
    "a column that is gone": "ALTER TABLE items DROP COLUMN trace",
    "a table that is gone": "DROP TABLE items",
    "runs of another kind": "INSERT INTO runs (started) VALUES ('abc')",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_ledger_is_refused_with_a_sentence(statement: str, tmp_path: Path) -> None:
    state = tmp_path / "state"
    items = hashes(tmp_path, "a")
    with Ledger(ledger_path(state)) as ledger:
        ledger.add([(items[0], "key")])
    with contextlib.closing(sqlite3.connect(ledger_path(state))) as base:
        base.execute(statement)
        base.commit()
    with pytest.raises(RequestError, match=r"no ledger|damaged") as caught:
        _ = read_ledgers(state), read_runs(state)
    assert caught.value.file == str(ledger_path(state))


def test_a_ledger_with_pages_of_something_else_is_refused(tmp_path: Path) -> None:
    state, items = tmp_path / "state", hashes(tmp_path, "a")
    with Ledger(ledger_path(state)) as ledger:
        ledger.add([(items[0], "key")])
    content = bytearray(ledger_path(state).read_bytes())
    content[4096:] = b"\x5a" * len(content[4096:])
    ledger_path(state).write_bytes(content)
    with Ledger(ledger_path(state)) as ledger, pytest.raises(RequestError, match="no ledger"):
        ledger.row(items[0])


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Ledger(tmp_path / "file" / "ledger.db")


def test_the_ledgers_of_parts_are_read_as_one(tmp_path: Path) -> None:
    items = hashes(tmp_path, "a", "b")
    for number, item in enumerate(items):
        with Ledger(ledger_path(tmp_path / "state", f"{number}/2")) as ledger:
            run([item], ledger, [done(nbytes=number + 1, result={"digest": "sha256:x"})])
    rows = {row.src: row for row in read_ledgers(tmp_path / "state")}
    assert set(rows) == {item.src for item in items}
    assert [rows[item.src].item for item in items] == items
    assert len(read_runs(tmp_path / "state")) == 2
    found = status_of(str(tmp_path / "out"), tmp_path / "state")
    assert (found.counts, found.nbytes, found.failures) == ({"done": 2}, 3, ())
    assert found.rate > 0


def test_without_a_ledger_the_manifests_tell(tmp_path: Path) -> None:
    items = placed((Item(str(path), options={"to": FORMAT}) for path in make_many(tmp_path, 2)), str(tmp_path / "out"))
    digest = run_item(items[0]).digest
    state = tmp_path / "state"
    alone = status_of(str(tmp_path / "out"), state)
    assert (alone.counts, alone.from_manifests, alone.rows[0].digest) == ({"done": 1}, True, digest)
    listed = status_of(str(tmp_path / "out"), state, items)
    assert listed.counts == {"done": 1, "pending": 1}
    assert listed.rows[0].head == "BertForMaskedLM"
    with pytest.raises(RequestError, match="no outputs"):
        status_of(str(tmp_path / "nowhere"), state)
