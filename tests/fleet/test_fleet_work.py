"""run_item(): every verb, every kind of failure, and what is kept although nobody remembers that it was made."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoints as cp
import pytest

from bertconv import convert_checkpoint, model_digest
from bertconv.errors import RequestError
from bertconv.fleet import work
from bertconv.fleet.items import Item
from bertconv.fleet.kept import look_at
from bertconv.fleet.work import check_options, options_of, run_item
from bertconv.formats.destination import MANIFEST

HEAD = "BertForMaskedLM"
SMALL = {"hidden_size": 6, "num_attention_heads": 2, "intermediate_size": 7, "vocab_size": 13}


def make(folder: Path, seed: int = 0) -> Path:
    return cp.save(folder, HEAD, cp.state_dict(HEAD, seed=seed, **SMALL), **SMALL)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return Item(str(make(tmp_path / "model")), str(tmp_path / "out" / "model"), options={"to": "tf-safetensors"})


def test_a_conversion_is_the_single_commands(item: Item, tmp_path: Path) -> None:
    outcome = run_item(item)
    assert (outcome.state, outcome.code) == ("done", 0)
    convert_checkpoint(item.src, tmp_path / "single", to="tf-safetensors", verify="weights")
    assert cp.snapshot(Path(item.dst)) == cp.snapshot(tmp_path / "single")
    assert outcome.digest == model_digest(item.src).digest
    assert (outcome.family, outcome.head, outcome.target_format) == ("bert", HEAD, "tf-safetensors")
    assert outcome.result["verified"] == "weights"
    assert outcome.key
    assert outcome.stamp
    json.dumps(outcome.to_json())


def test_what_is_there_is_kept(item: Item) -> None:
    first = run_item(item)
    before = cp.snapshot(Path(item.dst)), Path(item.dst).stat().st_ino
    second = run_item(item)
    assert (second.state, second.digest, second.key, second.stamp) == ("kept", first.digest, first.key, first.stamp)
    assert (cp.snapshot(Path(item.dst)), Path(item.dst).stat().st_ino) == before


def rewrite(item: Item) -> Item:
    make(Path(item.src), seed=1)
    return item


def rewrite_with_old_times(item: Item) -> Item:
    """As `cp -p` and rsync leave it: only the ctime tells."""
    weights = Path(item.src) / "model.safetensors"
    old = weights.stat()
    make(Path(item.src), seed=1)
    os.utime(weights, ns=(old.st_atime_ns, old.st_mtime_ns - 10**12))
    return item


def lose_a_file(item: Item) -> Item:
    (Path(item.dst) / "model.safetensors").unlink()
    return item


def shorten_a_file(item: Item) -> Item:
    os.truncate(Path(item.dst) / "model.safetensors", 100)
    return item


def damage_the_manifest(item: Item) -> Item:
    path = Path(item.dst) / MANIFEST
    path.write_bytes(path.read_bytes().replace(b'"bertconv"', b'"bortcenv"', 1))
    return item


def swap_the_source(item: Item) -> Item:
    """Another checkpoint of the same name, older than the output: the digest alone tells."""
    other = make(Path(item.src).parent / "elsewhere" / "model", seed=2)
    later = Path(item.dst) / MANIFEST
    os.utime(later, ns=(later.stat().st_atime_ns, later.stat().st_mtime_ns + 10**12))
    return replace(item, src=str(other))


REDONE: dict[str, Callable[[Item], Item]] = {
    "another format": lambda item: replace(item, options={"to": "flax"}),
    "another type": lambda item: replace(item, options={**item.options, "dtype": "float16"}),
    "more shards": lambda item: replace(item, options={**item.options, "max_shard_size": "1KB"}),
    "the source has other weights": rewrite,
    "the source has other weights and old times": rewrite_with_old_times,
    "the source is another one": swap_the_source,
    "a file is gone": lose_a_file,
    "a file is short": shorten_a_file,
    "its manifest is damaged": damage_the_manifest,
}


@pytest.mark.parametrize("change", REDONE.values(), ids=REDONE)
def test_what_changed_is_made_again(change: Callable[[Item], Item], item: Item) -> None:
    assert run_item(item).state == "done"
    changed = change(item)
    outcome = run_item(changed)
    assert (outcome.state, outcome.message) == ("done", "")
    options = {"verify": "weights", **changed.options}
    convert_checkpoint(changed.src, Path(item.dst).parent / "fresh", **options)
    assert cp.snapshot(Path(item.dst)) == cp.snapshot(Path(item.dst).parent / "fresh")


EVERYTHING = {
    "to": "flax-safetensors", "head": "BertModel", "dtype": "float16", "max_shard_size": "1KB", "allow_unknown": ["x"],
    "ignore_unexpected": ["y"], "ignore_missing": ["z"], "allow_loss": True, "init_missing": True, "verify": "weights",
    "local_files_only": True,
}  # fmt: skip


@pytest.mark.parametrize("options", [{}, EVERYTHING, {"verify": "none"}], ids=["none", "many", "unverified"])
def test_options_are_found_again_in_the_manifest(options: dict[str, Any], item: Item) -> None:
    wanted = replace(item, options=options)
    assert run_item(wanted).state == "done"
    assert run_item(wanted).state == ("done" if options.get("verify") == "none" else "kept")


def test_an_output_in_a_store_is_kept_and_made_again(item: Item) -> None:
    pytest.importorskip("fsspec")
    stored = replace(item, dst=f"memory://fleet/{Path(item.src).parent.name}")
    first = run_item(stored)
    assert (first.state, first.message, len(first.stamp)) == ("done", "", 64)
    assert (run_item(stored).state, run_item(replace(stored, stamp=first.stamp)).state) == ("kept", "kept")
    make(Path(item.src), seed=1)
    again = run_item(stored)
    assert (again.state, again.message) == ("done", "")
    assert again.stamp != first.stamp


def test_more_proof_is_asked_for(item: Item) -> None:
    assert run_item(replace(item, options={**item.options, "verify": "none"})).result["verified"] == "none"
    assert run_item(item).result["verified"] == "weights"


def refused(kind: str, folder: Path) -> Item:
    out = folder / "out"
    source = make(folder / "source")
    if kind == "html":
        (source / "model.safetensors").write_bytes(b"<html>not found</html>")
    elif kind == "short":
        os.truncate(source / "model.safetensors", 1000)
    elif kind == "nothing":
        shutil.rmtree(source)
    elif kind == "foreign":
        out.mkdir()
        (out / "mine.txt").write_text("keep me")
    elif kind == "incomplete":
        cp.save(source, "BertModel", dict(list(cp.state_dict("BertModel", **SMALL).items())[:-3]), **SMALL)
    return Item(str(source), str(out), options={"colour": "red"} if kind == "option" else {})


@pytest.mark.parametrize(
    ("kind", "code"), [("html", 5), ("short", 5), ("nothing", 2), ("foreign", 7), ("incomplete", 3), ("option", 2)]
)
def test_a_refusal_is_an_outcome(kind: str, code: int, tmp_path: Path) -> None:
    item = refused(kind, tmp_path)
    before = cp.snapshot(tmp_path)
    outcome = run_item(item)
    assert (outcome.state, outcome.code) == ("failed", code)
    assert outcome.message
    assert outcome.hint
    assert outcome.kind
    assert bool(outcome.key) == (kind != "nothing")
    assert cp.snapshot(tmp_path) == before


def test_a_bug_is_an_outcome_with_its_trace(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(work, "kept_manifest", broken)
    outcome = run_item(item)
    assert (outcome.state, outcome.code, outcome.kind, outcome.message) == ("failed", 9, "ZeroDivisionError", "a bug")
    assert "in broken" in outcome.trace


def test_what_ends_the_process_is_not_caught(item: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(work, "kept_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_item(item)


def test_hash_and_doctor_say_what_the_commands_say(item: Item) -> None:
    hashed = run_item(replace(item, verb="hash", options={}))
    assert hashed.result["digest"] == hashed.digest == model_digest(item.src).digest
    sick = run_item(replace(item, verb="doctor", options={}))
    assert (sick.state, sick.code, sick.kind) == ("failed", 1, "NotHealthy")  # there is no tokenizer
    assert sick.result["findings"]


def test_verify_compares_an_output_with_its_source(item: Item) -> None:
    verify = replace(item, verb="verify", options={})
    missing = run_item(verify)
    assert (missing.state, missing.code) == ("failed", 2)
    run_item(item)
    same = run_item(verify)
    assert (same.state, same.result["level"]) == ("done", "weights")
    make(Path(item.src), seed=3)
    other = run_item(verify)
    assert (other.state, other.code, other.kind) == ("failed", 1, "ParityError")
    assert other.key not in ("", same.key)
    assert missing.key != same.key


def test_verify_holds_an_output_to_its_record(item: Item) -> None:
    run_item(item)
    own = Item(item.dst, "", "verify", {"record": True})
    assert run_item(own).state == "done"
    (Path(item.dst) / "config.json").write_text("{}")
    assert run_item(own).code == 1


def test_options_are_those_of_the_verb() -> None:
    assert {"to", "dtype", "verify"} <= options_of("convert")
    assert not {"token", "overwrite", "dry_run", "dst"} & options_of("convert")
    check_options([Item("a", options={"to": "pt"})])
    with pytest.raises(RequestError, match="'token'"):
        check_options([Item("a"), Item("b", options={"token": "secret"})])


@pytest.mark.parametrize("value", [5, {"a": 1}, ["x"], "a\0b"])
@pytest.mark.parametrize("name", ["config", "table", "subfolder"])
def test_a_path_that_is_none_is_refused_before_anybody_looks(name: str, value: object) -> None:
    check_options([Item("a", options={name: "b"}), Item("c", options={name: None})])
    with pytest.raises(RequestError, match="no path or name"):
        check_options([Item("a", options={name: "b"}), Item("c", options={name: value})])


@pytest.mark.parametrize("name", ["config", "table", "subfolder"])
def test_a_worker_refuses_it_with_an_outcome(item: Item, name: str) -> None:
    """Who calls it without the driver, as on Spark, has asked nobody before."""
    outcome = run_item(replace(item, options={name: 5}))
    assert (outcome.state, outcome.code, outcome.key) == ("failed", 2, "")


def test_a_source_is_seen_by_its_files(item: Item) -> None:
    seen = look_at(item)
    assert look_at(item) == seen
    assert look_at(replace(item, dst="/elsewhere")) == seen
    (Path(item.src) / ".model.bertconv-lock").touch()
    assert look_at(item).identity == seen.identity
    (Path(item.src) / "vocab.txt").write_text("a")
    assert look_at(item).identity != seen.identity


@pytest.mark.parametrize(
    ("src", "identity", "known"),
    [("s3://bucket/x", "", True), ("org/name", "", True), ("org/name", "etag", True), ("/nowhere/at/all", "", False)],
)
def test_a_source_elsewhere_is_what_its_list_says(src: str, identity: str, *, known: bool) -> None:
    one, other = look_at(Item(src, identity=identity)), look_at(Item(src, identity="another"))
    assert bool(one.key(Item(src))) is known
    assert one.identity != other.identity
