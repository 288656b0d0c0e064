"""Hostile checkpoint folders on the command line: nothing waits, nothing foreign is opened, refusals are typed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import checkpoints as cp
import hostile_configs
import hostile_folders
import hostile_indexes
import hostile_links
import hostile_tokenizers
import hostile_unusual
import pytest
from hostile_destinations import REFUSED, TAKEN, beside, folder_of_precious, prepared
from hostile_folders import (
    CONFIG_NAME,
    FIRST,
    INDEX,
    SECRET,
    SHARD,
    WEIGHTS,
    Folder,
    fifo,
    part,
    put,
    secrets,
    sound,
)
from hostile_indexes import ESCAPES
from hostile_watch import state, untouched, watched_call
from hostile_work import little_work
from patience import Hangs, in_time
from sweep import sweep

CASES = {**hostile_links.CASES, **hostile_indexes.CASES, **hostile_configs.CASES}
ODDITIES = {**hostile_unusual.CASES, **{f"tokenizer: {name}": case for name, case in hostile_tokenizers.CASES.items()}}
MEGABYTES = 1_000_000


def check_error(outcome: cp.Outcome, folder: Path, case: Folder) -> None:
    assert outcome.code == case.error.exit_code, outcome
    facts = json.loads(outcome.out)["error"]
    assert facts["kind"] == case.error.__name__, facts
    assert case.words in facts["message"], facts
    assert facts["tensor"] == case.tensor, facts
    assert facts["hint"], facts
    assert outcome.err == ""
    if case.file is not None:
        shown = str(folder / case.file).encode(errors="replace").decode()  # half a letter is no JSON
        assert facts["file"] == shown, facts


@pytest.mark.parametrize("name", CASES)
def test_hostile_folders(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """Given to `inspect` and, over an earlier output, to `pt2tf`: refused as the case says, and nothing else."""
    case = CASES[name]
    folder, output = case.write(tmp_path), tmp_path / "out"
    shutil.copytree(earlier, output)
    before = state(tmp_path)
    for words in (("inspect", folder), ("pt2tf", folder, output, "--overwrite")):
        outcome = watched_call(cli, tmp_path, *words)
        assert state(tmp_path) == before, "something was written"  # the canary too
        if case.said is not None and words[0] == "inspect":
            assert outcome.code == 0, outcome
            assert case.said in " ".join(json.loads(outcome.out)["notes"])
        else:
            check_error(outcome, folder, case)


@pytest.mark.parametrize("name", ODDITIES)
def test_unusual_and_sound_folders(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """What is unusual is noted or passed over; the output holds the model's own and nothing of anybody else's."""
    case = ODDITIES[name]
    folder, output = case.write(tmp_path), tmp_path / "out"
    before = state(tmp_path)
    outcome = watched_call(cli, tmp_path, "inspect", folder, unread=case.unread)
    assert outcome.code == 0, outcome
    if case.inspected:
        assert case.note in " ".join(json.loads(outcome.out)["notes"])
    outcome = watched_call(cli, tmp_path, "pt2tf", folder, output, unread=case.unread)
    assert outcome.code == 0, outcome
    assert case.note in " ".join(json.loads(outcome.out)["notes"])
    assert {path: what for path, what in state(tmp_path).items() if Path(path).parts[0] != "out"} == before
    assert {str(path.relative_to(output)) for path in output.rglob("*")} == {
        "tf_model.h5", "config.json", "bertconv.json", *case.carried,
    }  # fmt: skip
    cp.assert_same(cp.written(output), cp.written(earlier))
    config = cp.config_of(output)
    assert {key: config[key] for key in case.config} == case.config


# Where the output goes


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_destinations(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    prepare, words = REFUSED[name]
    folder, output = prepared(tmp_path, earlier, prepare)
    before = state(tmp_path)
    outcome = watched_call(cli, tmp_path, "pt2tf", folder, output, "--overwrite")
    assert state(tmp_path) == before
    assert outcome.code == 7, outcome
    facts = json.loads(outcome.out)["error"]
    assert (facts["kind"], facts["file"]) == ("OutputError", os.path.abspath(output))  # noqa: PTH100  (resolve() follows links)
    assert words in facts["message"], facts
    assert facts["hint"], facts


@pytest.mark.parametrize("name", TAKEN)
def test_unusual_destinations(cli, tmp_path: Path, earlier: Path, name: str) -> None:
    """The output takes its place; what links lead to stays as it is."""
    folder, output = prepared(tmp_path, earlier, TAKEN[name])
    before = {path: state(tmp_path / path) for path in ("model", "secret", "precious")}
    with untouched(tmp_path / "secret", tmp_path / "precious") as opened:
        assert cli("pt2tf", folder, output, "--overwrite").code == 0
    assert opened == []
    assert {path: state(tmp_path / path) for path in before} == before
    cp.assert_same(cp.written(output), cp.written(earlier))
    assert not (output / "tf_model.h5").is_symlink()


# How much it takes


def test_memory_and_modules_of_folders(tmp_path: Path) -> None:
    """All of them in one small process, as in test_hostile_memory.py."""
    work, warm = tmp_path / "work", [sound(tmp_path / f"sound{shards}", shards=shards) for shards in (False, True)]
    work.mkdir()
    folders = {case.write(tmp_path / str(number)): name for number, (name, case) in enumerate(CASES.items())}
    facts = sweep(list(folders), warm, work, 1_000 * MEGABYTES)
    assert {path.name for path in work.iterdir()} == {"out-sound-0", "out-sound-1"}
    for folder, name in folders.items():
        kind = CASES[name].error.__name__
        assert facts[folder].kinds == ["" if CASES[name].said is not None else kind, kind], name
        assert facts[folder].memory < 200 * MEGABYTES, name
        assert facts[folder].modules == [], name


@pytest.mark.parametrize(
    "kind", ["FIFO", "relative link out", "link to itself", "link to /dev/zero", "cache link to nothing"]
)
def test_weights_given_themselves(cli, tmp_path: Path, earlier: Path, kind: str) -> None:
    """The path of one file in place of a folder's: the same rules."""
    folder = hostile_links.SHARD_FILES[kind].write(tmp_path)
    shutil.copytree(earlier, tmp_path / "out")
    before = state(tmp_path)
    for words in (("inspect", folder / SHARD), ("pt2tf", folder / SHARD, tmp_path / "out", "--overwrite")):
        outcome = watched_call(cli, tmp_path, *words)
        assert outcome.code == 4, outcome
        assert json.loads(outcome.out)["error"]["file"] == str(folder / SHARD)
        assert state(tmp_path) == before


def test_memory_of_a_large_tokenizer(tmp_path: Path) -> None:
    """It goes along piece by piece."""
    (tmp_path / "work").mkdir()
    folder, warm = sound(tmp_path / "model", shards=False), sound(tmp_path / "sound", shards=False)
    put("tokenizer.json", sparse=400 * MEGABYTES)(folder)
    fact = sweep([folder], [warm], tmp_path / "work", 1_000 * MEGABYTES)[folder]
    copied = (tmp_path / "work" / "out-0" / "tokenizer.json").stat().st_size
    shutil.rmtree(tmp_path / "work")  # pytest would keep it
    assert fact.kinds == ["", ""]
    assert fact.memory < 100 * MEGABYTES
    assert copied == 400 * MEGABYTES


def test_memory_of_tokenizers_that_are_read(tmp_path: Path) -> None:
    """Beside the size of the files, as for those of weights."""
    (tmp_path / "work").mkdir()
    warm = [hostile_tokenizers.said("vocab.txt", b"a\nb\n").write(tmp_path / "sound")]
    cases = {**hostile_tokenizers.HEAVY, **hostile_tokenizers.NEARLY}
    folders = {case.write(tmp_path / name): name for name, case in cases.items()}
    facts = sweep(list(folders), warm, tmp_path / "work", 1_000 * MEGABYTES)
    for folder, name in folders.items():
        size = sum((folder / file).stat().st_size for file in cases[name].carried)
        assert facts[folder].kinds == ["", ""], name
        assert facts[folder].memory < 200 * MEGABYTES + size, name
    shutil.rmtree(tmp_path / "work")  # pytest would keep them
    for folder in folders:
        shutil.rmtree(folder)


def test_what_was_put_aside_comes_back(cli, tmp_path: Path, earlier: Path) -> None:
    """A run that was killed between two renames left the old output under another name: whatever it is, it is kept."""
    folder, output = prepared(tmp_path, earlier, beside(".out.bertconv-tmp-x-old", folder_of_precious, fresh=True))
    assert cli("pt2tf", folder, output, "--overwrite").code == 7
    assert (output / "a.txt").read_text() == "precious"


def test_20_000_files(cli, tmp_path: Path) -> None:
    folder = sound(tmp_path / "model", shards=False)
    for number in range(20_000):
        os.close(os.open(folder / f"{number}.txt", os.O_CREAT | os.O_WRONLY))
    with little_work(20_000 * 300):  # each file is a little work, 220 calls
        assert cli("inspect", folder).code == 0
        assert cli("pt2tf", folder, tmp_path / "out", "--quiet").code == 0
    shutil.rmtree(folder)  # pytest would keep them
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("name", ["a\nb", "a\u202eb", "a\x9b2Jb"])
@pytest.mark.parametrize("command", ["inspect", "pt2tf"])
def test_names_of_files_on_a_terminal(cli, tmp_path: Path, command: str, name: str) -> None:
    folder = sound(tmp_path / "model", shards=False)
    put(f"tokenizer{name}.json")(folder)
    outcome = cli(command, folder, *([tmp_path / "out"] if command == "pt2tf" else []))
    assert outcome.code == 0
    assert f"tokenizer{name}.json" not in outcome.out


@pytest.mark.parametrize(
    ("name", "words"), {"": "cannot be listed", WEIGHTS: "cannot be opened", CONFIG_NAME: "cannot be opened"}.items()
)
def test_what_may_not_be_read(tmp_path: Path, name: str, words: str) -> None:
    folder = sound(tmp_path / "model", shards=False)
    (folder / name).chmod(0)
    try:
        outcome = cp.run("pt2tf", folder, tmp_path / "out", "--json", before=cp.UNPRIVILEGED)
    finally:
        (folder / name).chmod(0o700)
    assert outcome.code == 5, outcome
    facts = json.loads(outcome.out)["error"]
    assert facts["file"] == str(folder / name)
    assert words in facts["message"]
    assert not (tmp_path / "out").exists()


# That the cases are what they say


def test_the_lures_work_for_a_naive_reader(tmp_path: Path) -> None:
    """Where nobody checks, every path and every link leads to somebody else's weights, which load."""
    for number, make in enumerate(ESCAPES.values()):
        folder = Folder(hostile_indexes.shard_named(make), ValueError, "", shards=True).write(tmp_path / str(number))
        named = json.loads((folder / INDEX).read_bytes())["weight_map"][FIRST]
        assert (folder / named).read_bytes() == part(hostile_folders.SHARDS[0])
    for name in ("relative link out", "absolute link out", "link to a link", "cache link past the blobs",
                 "blob that is a link", "folder of blobs that is a link"):  # fmt: skip
        folder = hostile_links.SHARD_FILES[name].write(tmp_path / name)
        assert (folder / SHARD).read_bytes() == part(SHARD)
    folder = hostile_links.SIDECARS["tokenizer.json: relative link out"].write(tmp_path / "sidecar")
    assert SECRET in (folder / "tokenizer.json").read_text()


def test_the_payload_fires(tmp_path: Path) -> None:
    pickle.loads(hostile_folders.payload(tmp_path / "canary"))
    assert (tmp_path / "canary").is_dir()


def test_the_watches_see_what_they_are_for(tmp_path: Path) -> None:
    secrets(tmp_path / "secret")
    (tmp_path / "link").symlink_to("secret/config.json")
    fifo("fifo")(tmp_path)
    with untouched(tmp_path / "secret") as opened:
        (tmp_path / "link").stat()
    assert opened == []
    with untouched(tmp_path / "secret") as opened:
        (tmp_path / "link").read_bytes()
    assert set(opened) == {tmp_path / "secret" / "config.json"}
    with pytest.raises(Hangs), in_time(0.05):
        (tmp_path / "fifo").read_bytes()


def test_there_are_enough_folder_cases() -> None:
    assert len(CASES) >= 60
    assert len(REFUSED) >= 20
